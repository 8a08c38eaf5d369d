//! What a build finds of the one before: metadata of layers, their contents out of the cache, and stores.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    Error, Result, files,
    labels::{BuildpackLayers, Lifecycle},
    layer::LayerFile,
    plan::Member,
    runner::Ground,
};

/// What is known of cached layers: their metadata and the digests of their tars.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Cache {
    #[serde(default)]
    pub buildpacks: Vec<BuildpackLayers>,
}

/// A layer that is restored.
#[derive(Debug, Clone, PartialEq)]
pub struct Restored {
    pub file: LayerFile,
    /// The tar that holds its files, by digest; `None` for metadata alone.
    pub contents: Option<String>,
}

/// What one buildpack finds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Found {
    pub id: String,
    pub store: Option<toml::Table>,
    pub layers: BTreeMap<String, Restored>,
}

/// Decides what each buildpack of the group finds. A launch layer that buildpacks build with is only restored whole; a cached layer of
/// the image only when the cache holds the very same. An image for another environment gives nothing but stores.
pub fn decide(
    previous: Option<&Lifecycle>,
    cache: &Cache,
    group: &[Member],
    exec_env: &str,
    clear: bool,
) -> Vec<Found> {
    let same = |image: &&Lifecycle| image.exec_env.is_empty() || image.exec_env == exec_env;
    group
        .iter()
        .map(|member| {
            let image = previous.and_then(|previous| previous.of(&member.id));
            let cached = cache.buildpacks.iter().find(|one| one.id == member.id);
            let store = image.and_then(|image| image.store.as_ref()).map(|store| store.metadata.clone());
            let mut layers = BTreeMap::new();
            if !clear {
                let of_image = image.filter(|_| previous.as_ref().is_some_and(same)).map(|image| &image.layers);
                for (name, layer) in of_image.into_iter().flatten() {
                    if layer.file.launch && !layer.file.build && !layer.file.cache {
                        layers.insert(name.clone(), Restored { file: layer.file.clone(), contents: None });
                    }
                }
                for (name, layer) in cached.iter().flat_map(|cached| &cached.layers) {
                    let its = of_image.and_then(|layers| layers.get(name)).map(|layer| layer.sha.as_str());
                    let stale = layer.file.launch && its != Some(layer.sha.as_str());
                    if layer.file.cache && !stale {
                        let contents = Some(layer.sha.clone());
                        layers.insert(name.clone(), Restored { file: layer.file.clone(), contents });
                    }
                }
            }
            Found { id: member.id.clone(), store, layers }
        })
        .collect()
}

/// Writes the metadata; contents are for the caller.
pub fn write(found: &[Found], ground: &Ground) -> Result<()> {
    for one in found {
        let directory = files::shared_directory(&ground.layers.host.join(crate::escaped(&one.id)), ground.owner)?;
        let put = |name: &str, text: &str| -> Result<()> {
            let path = directory.join(name);
            files::write(&path, text)?;
            files::hand_over(&path, ground.owner)
        };
        if let Some(store) = &one.store {
            let table: toml::Table = [("metadata".to_owned(), toml::Value::Table(store.clone()))].into_iter().collect();
            put("store.toml", &crate::write::document(&table))?;
        }
        for (name, layer) in &one.layers {
            check_name(name)?;
            put(&format!("{name}.toml"), &layer.file.restored())?;
        }
    }
    Ok(())
}

/// A label of an image is from outside: a name in it must not lead elsewhere.
pub(crate) fn check_name(name: &str) -> Result<()> {
    match name.is_empty() || name.contains(['/', '\0']) || name == "." || name == ".." {
        true => Err(Error::Image(format!("`{name}` is no name of a layer"))),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::labels::{LayerLabel, Store};

    fn layers(id: &str, all: &[(&str, &str, &str)]) -> BuildpackLayers {
        let one = |(name, sha, types): &(&str, &str, &str)| {
            let has = |c| types.contains(c);
            let file = LayerFile { launch: has('l'), build: has('b'), cache: has('c'), data: None };
            ((*name).to_owned(), LayerLabel { sha: (*sha).into(), file })
        };
        let mut store = toml::Table::new();
        store.insert("k".into(), 1.into());
        BuildpackLayers {
            id: id.into(),
            version: "1".into(),
            layers: all.iter().map(one).collect(),
            store: Some(Store { metadata: store }),
        }
    }

    #[test]
    fn launch_layers_give_metadata_and_cached_ones_contents() {
        let image = Lifecycle {
            buildpacks: vec![layers("a", &[("l", "1", "l"), ("lb", "2", "lb"), ("lc", "3", "lc"), ("old", "4", "lc")])],
            ..Lifecycle::default()
        };
        let cache = Cache {
            buildpacks: vec![layers(
                "a",
                &[("lc", "3", "lc"), ("old", "9", "lc"), ("bc", "5", "bc"), ("lbc", "6", "lbc")],
            )],
        };
        let member = Member { id: "a".into(), version: "1".into(), api: crate::api::NEWEST, homepage: String::new() };
        let group = [member];
        let found = decide(Some(&image), &cache, &group, "production", false);
        let shown: Vec<_> = found[0].layers.iter().map(|(n, l)| (n.as_str(), l.contents.as_deref())).collect();
        assert_eq!(shown, [("bc", Some("5")), ("l", None), ("lc", Some("3"))]);
        assert!(found[0].store.is_some());
        assert!(decide(Some(&image), &cache, &group, "production", true)[0].layers.is_empty());
        assert!(decide(Some(&image), &cache, &group, "production", true)[0].store.is_some());
        let other = Lifecycle { exec_env: "test".into(), ..image };
        assert_eq!(
            decide(Some(&other), &cache, &group, "production", false)[0].layers.keys().collect::<Vec<_>>(),
            ["bc"]
        );
        assert!(check_name("../x").is_err() && check_name("x").is_ok());
    }
}
