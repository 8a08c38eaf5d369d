//! Layers of a buildpack: `<layer>.toml`, what may be done with each, and files of SBOMs.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{Error, Result, descriptor::SBOM_FORMATS, error::parse, files, runner::Place};

/// `<layer>.toml`, as labels carry it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LayerFile {
    #[serde(default)]
    pub data: Option<toml::Value>,
    #[serde(default)]
    pub build: bool,
    #[serde(default)]
    pub launch: bool,
    #[serde(default)]
    pub cache: bool,
}

impl LayerFile {
    pub fn parse(file: &str, text: &str) -> Result<Self> {
        #[derive(Default, Deserialize)]
        struct Types {
            #[serde(default)]
            launch: bool,
            #[serde(default)]
            build: bool,
            #[serde(default)]
            cache: bool,
        }
        #[derive(Deserialize)]
        struct File {
            #[serde(default)]
            types: Types,
            metadata: Option<toml::Value>,
            launch: Option<toml::Value>,
            build: Option<toml::Value>,
            cache: Option<toml::Value>,
        }
        let read: File = parse(file, text)?;
        if read.launch.is_some() || read.build.is_some() || read.cache.is_some() {
            return Err(Error::document(file, "`launch`, `build` and `cache` belong into the table [types]"));
        }
        let Types { launch, build, cache } = read.types;
        Ok(Self { data: read.metadata, build, launch, cache })
    }

    /// The file that a buildpack finds the next time: without types.
    pub fn restored(&self) -> String {
        let mut table = toml::Table::new();
        if let Some(data) = &self.data {
            table.insert("metadata".into(), data.clone());
        }
        crate::write::document(&table)
    }

    fn is_ignored(&self) -> bool {
        !(self.launch || self.build || self.cache)
    }
}

/// A layer that a buildpack left.
#[derive(Debug, Clone)]
pub struct Layer {
    pub name: String,
    pub place: Place,
    pub file: LayerFile,
    /// Its directory is there; else it is taken from the image before.
    pub contents: bool,
}

/// Names that are files of the buildpack, not layers.
const NOT_LAYERS: [&str; 3] = ["launch", "build", "store"];

/// The layers of a buildpack by name. Called after its `bin/build`; `ignore` renames those that are of no use to others.
pub fn layers(buildpack: &str, directory: &Place, ignore: bool) -> Result<Vec<Layer>> {
    let mut found = Vec::new();
    for (name, is_directory) in files::names(&directory.host, &directory.host)? {
        let Some(layer) = name.strip_suffix(".toml") else { continue };
        if is_directory || NOT_LAYERS.contains(&layer) || layer.is_empty() {
            continue;
        }
        let path = directory.host.join(&name);
        let text = files::text(&directory.host, &path)?.unwrap_or_default();
        let file = LayerFile::parse(&format!("{buildpack}: {name}"), &text)?;
        let place = directory.join(layer);
        let contents = is_real_directory(&place.host);
        if ignore && file.is_ignored() && contents {
            let aside = directory.host.join(format!("{layer}.ignore"));
            std::fs::rename(&place.host, &aside).map_err(Error::io("rename", &place.host))?;
        }
        found.push(Layer { name: layer.to_owned(), place, contents: contents && !(ignore && file.is_ignored()), file });
    }
    Ok(found)
}

fn is_real_directory(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir())
}

/// What an SBOM describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SbomOf {
    Launch,
    Build,
    Cache,
}

impl SbomOf {
    pub fn directory(self) -> &'static str {
        match self {
            Self::Launch => "launch",
            Self::Build => "build",
            Self::Cache => "cache",
        }
    }
}

/// An SBOM that a buildpack left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sbom {
    /// Its file below the buildpack's directory.
    pub file: String,
    pub of: SbomOf,
    /// `None` for what belongs to no layer.
    pub layer: Option<String>,
    /// For example `cdx.json`.
    pub extension: &'static str,
}

/// The SBOM files of a buildpack. One of a format that `buildpack.toml` does not name is an error.
pub fn sboms(buildpack: &str, formats: &[String], names: &[String], layers: &[Layer]) -> Result<Vec<Sbom>> {
    let mut found = Vec::new();
    let wrong = |message: String| Error::Output { buildpack: buildpack.to_owned(), message };
    for file in names {
        let Some((name, ending)) = file.split_once(".sbom.") else { continue };
        let Some((media, extension)) = SBOM_FORMATS.iter().find(|(_, extension)| *extension == ending) else {
            return Err(wrong(format!(
                "{file} is of no format of SBOMs that is known: .cdx.json, .spdx.json, .syft.json"
            )));
        };
        if !formats.iter().any(|format| format == media) {
            return Err(wrong(format!("it left {file}, and its sbom-formats do not name {media}")));
        }
        let mut add = |of, layer| found.push(Sbom { file: file.clone(), of, layer, extension });
        match name {
            "launch" => add(SbomOf::Launch, None),
            "build" => add(SbomOf::Build, None),
            name => {
                let Some(layer) = layers.iter().find(|layer| layer.name == name) else { continue };
                // One that is launched is described there alone, even where buildpacks build with it.
                let layer_name = Some(name.to_owned());
                let file = &layer.file;
                add(if file.launch { SbomOf::Launch } else { SbomOf::Build }, layer_name.clone());
                if file.cache {
                    add(SbomOf::Cache, layer_name);
                }
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_belong_into_their_table() {
        let file = LayerFile::parse("a.toml", "[types]\nlaunch = true\n[metadata]\nk = \"v\"\n").unwrap();
        assert!(
            file.launch && !file.build && file.restored().contains("k = \"v\"") && !file.restored().contains("launch")
        );
        assert!(LayerFile::parse("a.toml", "launch = true").unwrap_err().to_string().contains("[types]"));
        assert_eq!(LayerFile::default().restored(), "");
    }

    #[test]
    fn layers_without_a_type_are_put_aside() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        for (name, text) in [
            ("a.toml", "[types]\nbuild = true"),
            ("b.toml", ""),
            ("launch.toml", ""),
            ("c.toml", "[types]\nlaunch = true"),
        ] {
            std::fs::write(root.join(name), text).unwrap();
        }
        std::fs::create_dir(root.join("a")).unwrap();
        std::fs::create_dir(root.join("b")).unwrap();
        let found = layers("x@1", &Place::same(root), true).unwrap();
        let shown: Vec<_> = found.iter().map(|l| (l.name.as_str(), l.contents)).collect();
        assert_eq!(shown, [("a", true), ("b", false), ("c", false)]);
        assert!(root.join("b.ignore").is_dir() && !root.join("b").exists());
        // A link is not followed.
        std::os::unix::fs::symlink("/etc/passwd", root.join("d.toml")).unwrap();
        assert!(layers("x@1", &Place::same(root), true).unwrap_err().to_string().contains("link"));
    }

    #[test]
    fn sboms_are_of_named_formats() {
        let layer = Layer {
            name: "a".into(),
            place: Place::same(Path::new("/")),
            contents: true,
            file: LayerFile { launch: true, cache: true, ..LayerFile::default() },
        };
        let formats = ["application/vnd.cyclonedx+json".to_owned()];
        let names = ["a.sbom.cdx.json", "build.sbom.cdx.json", "gone.sbom.cdx.json", "x.toml"].map(str::to_owned);
        let found = sboms("x@1", &formats, &names, std::slice::from_ref(&layer)).unwrap();
        assert_eq!(
            found.iter().map(|s| (s.of.directory(), s.layer.is_some())).collect::<Vec<_>>(),
            [("launch", true), ("cache", true), ("build", false)]
        );
        assert!(sboms("x@1", &[], &names, &[]).is_err());
        assert!(sboms("x@1", &formats, &["a.sbom.xml".to_owned()], &[]).is_err());
    }
}
