//! Secrets that buildpacks are given: entries of service bindings, below `/platform/bindings`.
//!
//! The platform specification knows no other way: a binding is a directory with a file `type`, by which buildpacks know it, and a file for
//! each entry. Only the names of entries decide about the image, as with `RUN --mount=type=secret`; values are in no record.

use std::{collections::BTreeMap, os::unix::fs::PermissionsExt, path::Path};

use graph::Secrets;

use super::{super::secrets::Store, tree};
use crate::fault::{Class, Fault, Result};

/// Entries that are no secrets: they say what a binding is.
const PLAIN: [&str; 2] = ["type", "provider"];

/// The longest name that is taken.
const LONGEST: usize = 253;

/// Bindings by name, each with its entries.
#[derive(Default)]
pub struct Bindings(BTreeMap<String, BTreeMap<String, String>>);

/// `BINDING/ENTRY`
fn parts(id: &str) -> Option<(&str, &str)> {
    let plain = |name: &str| {
        !name.is_empty()
            && name.len() <= LONGEST
            && !matches!(name, "." | "..")
            && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
    };
    id.split_once('/').filter(|(binding, entry)| plain(binding) && plain(entry))
}

impl Bindings {
    /// Reads the values. The id of a secret is where it is to be found.
    pub async fn read(store: &Store) -> Result<Self> {
        let ids: Vec<String> = store.ids().into_iter().collect();
        let mut bindings: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        let values = store.values(&ids).await.map_err(|e| Fault::new(Class::Usage, e.to_string()))?;
        for (id, value) in values {
            let (binding, entry) = parts(&id).ok_or_else(|| {
                Fault::usage(format!("secret `{id}`: buildpacks find secrets as entries of service bindings"))
                    .hint("write --secret id=BINDING/ENTRY,src=FILE: they find it at /platform/bindings/BINDING/ENTRY")
            })?;
            bindings.entry(binding.to_owned()).or_default().insert(entry.to_owned(), value);
        }
        Ok(Self(bindings))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The names of all entries.
    pub fn names(&self) -> Vec<String> {
        let names = |(binding, entries): (&String, &BTreeMap<String, String>)| {
            entries.keys().map(|entry| format!("{binding}/{entry}")).collect::<Vec<_>>()
        };
        self.0.iter().flat_map(names).collect()
    }

    /// What is to be kept out of all that is shown.
    pub fn values(&self) -> impl Iterator<Item = &String> {
        let secret = |(entry, _): &(&String, &String)| !PLAIN.contains(&entry.as_str());
        self.0.values().flat_map(move |entries| entries.iter().filter(secret).map(|(_, value)| value))
    }

    /// Writes them below the directory that is `/platform`, where volumes may have put bindings already.
    pub fn place(&self, platform: &Path) -> Result<()> {
        let readable = |path: &Path, mode| {
            let set = std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode));
            set.map_err(tree::failed("write", path))
        };
        for (binding, entries) in &self.0 {
            let directory = platform.join("bindings").join(binding);
            tree::made(directory.clone())?;
            for place in [platform.join("bindings"), directory.clone()] {
                readable(&place, 0o755)?;
            }
            for (entry, value) in entries {
                let path = directory.join(entry);
                if path.symlink_metadata().is_ok() {
                    let fault =
                        Fault::usage(format!("--secret and --volume both give /platform/bindings/{binding}/{entry}"));
                    return Err(fault.hint("leave one of them out"));
                }
                std::fs::write(&path, value).map_err(tree::failed("write", &path))?;
                readable(&path, 0o644)?;
            }
            let kind = directory.join("type");
            if kind.symlink_metadata().is_err() {
                // Without it this would be no binding; most are called by what they are.
                std::fs::write(&kind, binding).map_err(tree::failed("write", &kind))?;
                readable(&kind, 0o644)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_places_below_the_bindings() {
        assert_eq!(parts("npmrc/.npmrc"), Some(("npmrc", ".npmrc")));
        for wrong in ["npmrc", "a/b/c", "../x", "a/..", "/a", "a/", "a b/c", "a/ä"] {
            assert_eq!(parts(wrong), None, "{wrong}");
        }
    }
}
