//! Which layer of an image brought a package.

use std::{collections::BTreeMap, sync::Arc};

use super::{Catalogue, facts::LayerFacts};

/// For each package of the image, by package URL, the index of the layer that brought it: the first from which on it is there all the
/// way up. A package that a layer upgrades was brought, as the version it is, by that layer.
pub fn origins(layers: &[Arc<LayerFacts>]) -> BTreeMap<String, usize> {
    let mut brought: BTreeMap<String, usize> = BTreeMap::new();
    for top in 0..layers.len() {
        // A layer that says nothing of packages changes nothing.
        if top > 0 && *layers[top] == LayerFacts::default() {
            continue;
        }
        let here = Catalogue::of(layers[..=top].iter().map(|facts| &**facts));
        brought.retain(|purl, _| here.packages.contains_key(purl));
        for purl in here.packages.into_keys() {
            brought.entry(purl).or_insert(top);
        }
    }
    brought
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sbom::facts::{DebianPackage, Fact, NpmManifest};

    fn layer(files: &[(&str, Fact)], hides: &[&str]) -> Arc<LayerFacts> {
        let files = files.iter().map(|(path, fact)| ((*path).to_owned(), fact.clone())).collect();
        let hides = hides.iter().map(|path| (*path).to_owned()).collect();
        Arc::new(LayerFacts { hides, files, ..LayerFacts::default() })
    }

    fn debian(packages: &[(&str, &str)]) -> (&'static str, Fact) {
        let package = |(name, version): &(&str, &str)| DebianPackage {
            name: (*name).into(),
            version: (*version).into(),
            source: (*name).into(),
            source_version: (*version).into(),
            ..DebianPackage::default()
        };
        ("var/lib/dpkg/status", Fact::Debian(packages.iter().map(package).collect()))
    }

    fn npm(name: &str) -> Fact {
        Fact::Npm(NpmManifest { name: name.into(), version: "1.0.0".into(), ..NpmManifest::default() })
    }

    #[test]
    fn a_package_comes_from_the_layer_that_brought_this_version_of_it() {
        let layers = [
            layer(&[debian(&[("libc6", "2.41"), ("curl", "8.1")]), ("app/node_modules/a/package.json", npm("a"))], &[]),
            layer(&[], &[]),
            layer(&[debian(&[("libc6", "2.41"), ("curl", "8.2"), ("git", "2.1")])], &["app/node_modules"]),
            layer(&[("app/node_modules/a/package.json", npm("a"))], &[]),
        ];
        let found = origins(&layers);
        let of = |purl: &str| found.get(purl).copied();
        assert_eq!(of("pkg:deb/debian/libc6@2.41"), Some(0));
        assert_eq!(of("pkg:deb/debian/curl@8.1"), None, "it is there no more");
        assert_eq!(of("pkg:deb/debian/curl@8.2"), Some(2));
        assert_eq!(of("pkg:deb/debian/git@2.1"), Some(2));
        assert_eq!(of("pkg:npm/a@1.0.0"), Some(3), "it was away in between");
        assert_eq!(found.len(), 4);
        assert!(origins(&[]).is_empty());
    }
}
