//! npm packages: `package.json` of what is installed, `package-lock.json` for hashes and for what was bundled.

use std::collections::BTreeMap;

use base64::{Engine, prelude::BASE64_STANDARD};
use data_encoding::HEXLOWER;
use serde_json::{Map, Value};

use super::facts::{LockedPackage, NpmLock, NpmManifest};
use crate::{error::clip, licence::Licence};

/// Debian's packages put npm packages there; dpkg's database speaks for them, with Debian's patches.
const DEBIAN: [&str; 3] = ["usr/share/", "usr/lib/nodejs/", "usr/lib/x86_64-linux-gnu/"];

/// Whether `path` is the `package.json` of an application or of an installed package, and not one of a folder inside a package.
pub fn is_manifest(path: &str) -> bool {
    let Some(folder) = path.strip_suffix("package.json") else { return false };
    let folder = folder.trim_end_matches('/');
    if !(path.ends_with("/package.json") || path == "package.json") || DEBIAN.iter().any(|at| path.starts_with(at)) {
        return false;
    }
    !contains_modules(folder) || is_package_folder(folder)
}

/// Whether `path` is a lock file whose packages count: an application's, or the list that npm keeps of what it installed.
pub fn is_lock(path: &str) -> bool {
    if DEBIAN.iter().any(|at| path.starts_with(at)) {
        return false;
    }
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    match name {
        "package-lock.json" => !contains_modules(folder),
        ".package-lock.json" => folder == "node_modules" || folder.ends_with("/node_modules"),
        _ => false,
    }
}

fn contains_modules(folder: &str) -> bool {
    folder.split('/').any(|part| part == "node_modules")
}

/// Whether `path` is where a package is installed: `…/node_modules/name` or `…/node_modules/@scope/name`.
pub fn is_package_folder(path: &str) -> bool {
    let Some((parent, name)) = path.rsplit_once('/') else { return false };
    if name.starts_with(['.', '@']) {
        return false;
    }
    let modules = |folder: &str| folder == "node_modules" || folder.ends_with("/node_modules");
    modules(parent) || parent.rsplit_once('/').is_some_and(|(above, scope)| scope.starts_with('@') && modules(above))
}

/// Reads a `package.json`; `None` for one without name and version, which describes no package.
pub fn manifest(text: &str) -> Option<NpmManifest> {
    let json: Map<String, Value> = serde_json::from_str(text.trim_start_matches('\u{feff}')).ok()?;
    let name = name(json.get("name")?.as_str()?)?;
    let version = version(json.get("version")?.as_str()?)?;
    let text = |key: &str, limit| json.get(key).and_then(Value::as_str).map(|text| clip(text, limit));
    let mut depends = names(json.get("dependencies"));
    depends.extend(names(json.get("optionalDependencies")));
    depends.extend(names(json.get("peerDependencies")));
    depends.sort();
    depends.dedup();
    Some(NpmManifest {
        name,
        version,
        licences: licences(&json),
        description: text("description", 300),
        homepage: text("homepage", 300).filter(|url| url.starts_with("https://") || url.starts_with("http://")),
        depends,
    })
}

/// Names as npm allows them, so that they can stand in a purl.
fn name(text: &str) -> Option<String> {
    let fits = !text.is_empty() && text.len() <= 214 && text.matches('/').count() == usize::from(text.starts_with('@'));
    (fits && !text.contains(char::is_whitespace) && !text.contains(char::is_control)).then(|| text.to_owned())
}

fn version(text: &str) -> Option<String> {
    let text = text.trim().trim_start_matches(['v', '=']);
    (!text.is_empty() && text.len() <= 128 && !text.contains(char::is_control)).then(|| text.to_owned())
}

fn names(object: Option<&Value>) -> Vec<String> {
    let names = object.and_then(Value::as_object).into_iter().flat_map(Map::keys);
    names.filter_map(|text| name(text)).take(2000).collect()
}

/// `license` is a text, once it was an object `{type}`, and `licenses` a list of either.
fn licences(json: &Map<String, Value>) -> Vec<Licence> {
    let one = |value: &Value| value.as_str().or_else(|| value.get("type")?.as_str()).and_then(Licence::parse);
    let many = json.get("licenses").and_then(Value::as_array).into_iter().flatten();
    let mut all: Vec<Licence> = json.get("license").into_iter().chain(many).filter_map(one).take(20).collect();
    all.sort();
    all.dedup();
    all
}

/// Reads a lock file of any version; `None` when it is none. Packages for development only are left out.
pub fn lock(text: &str) -> Option<NpmLock> {
    let json: Map<String, Value> = serde_json::from_str(text).ok()?;
    let mut packages = BTreeMap::new();
    match (json.get("packages").and_then(Value::as_object), json.get("dependencies").and_then(Value::as_object)) {
        (Some(listed), _) => {
            for (folder, entry) in listed.iter().take(200_000) {
                let Some(at) = folder.rfind("node_modules/") else { continue };
                let from_folder = &folder[at + "node_modules/".len()..];
                let called = entry.get("name").and_then(Value::as_str).unwrap_or(from_folder);
                if let Some(package) = locked(called, entry) {
                    packages.insert(folder.clone(), package);
                }
            }
        }
        (None, Some(tree)) => nested(tree, "", 0, &mut packages),
        (None, None) => return None,
    }
    Some(NpmLock { packages })
}

/// Lock files of version 1 are trees.
fn nested(tree: &Map<String, Value>, folder: &str, depth: usize, packages: &mut BTreeMap<String, LockedPackage>) {
    for (called, entry) in tree {
        if depth > 64 || packages.len() > 200_000 {
            return;
        }
        let at = format!("{folder}node_modules/{called}");
        if let Some(package) = locked(called, entry) {
            packages.insert(at.clone(), package);
        }
        if let Some(below) = entry.get("dependencies").and_then(Value::as_object) {
            nested(below, &format!("{at}/"), depth + 1, packages);
        }
    }
}

fn locked(called: &str, entry: &Value) -> Option<LockedPackage> {
    let is = |key: &str| entry.get(key).and_then(Value::as_bool).unwrap_or(false);
    if is("dev") || is("link") {
        return None;
    }
    let text = |key: &str| entry.get(key).and_then(Value::as_str);
    let mut depends = names(entry.get("dependencies").or_else(|| entry.get("requires")));
    depends.extend(names(entry.get("optionalDependencies")));
    Some(LockedPackage {
        name: name(called)?,
        version: version(text("version")?)?,
        hash: text("integrity").and_then(integrity),
        resolved: text("resolved").filter(|url| url.starts_with("https://")).map(|url| clip(url, 500)),
        licence: text("license").and_then(Licence::parse),
        depends,
    })
}

/// Subresource integrity: `sha512-<base64>`, several by spaces; the strongest counts.
fn integrity(text: &str) -> Option<(String, String)> {
    [("sha512-", "SHA-512", 64), ("sha256-", "SHA-256", 32), ("sha1-", "SHA-1", 20)].into_iter().find_map(
        |(prefix, algorithm, size)| {
            let value = text.split_whitespace().find_map(|one| one.strip_prefix(prefix))?;
            let sum = BASE64_STANDARD.decode(value.split('?').next()?).ok().filter(|sum| sum.len() == size)?;
            Some((algorithm.to_owned(), HEXLOWER.encode(&sum)))
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_packages_from_folders_in_them() {
        assert!(is_manifest("app/package.json"));
        assert!(is_manifest("app/node_modules/redis/package.json"));
        assert!(is_manifest("app/node_modules/@redis/client/package.json"));
        assert!(is_manifest("app/node_modules/a/node_modules/b/package.json"));
        assert!(!is_manifest("app/node_modules/a/dist/esm/package.json"));
        assert!(!is_manifest("usr/share/nodejs/npm/package.json"));
        assert!(!is_manifest("app/my-package.json"));
        assert!(is_lock("app/package-lock.json"));
        assert!(is_lock("app/node_modules/.package-lock.json"));
        assert!(!is_lock("app/node_modules/a/package-lock.json"));
    }

    #[test]
    fn reads_old_and_new_manifests() {
        let new =
            manifest(r#"{"name":"a","version":"v1.2.3","license":"(MIT OR ISC)","dependencies":{"b":"^1"}}"#).unwrap();
        assert_eq!((new.version.as_str(), new.depends.as_slice()), ("1.2.3", &["b".to_owned()][..]));
        assert_eq!(new.licences, [Licence::Expression("MIT OR ISC".into())]);
        let old = manifest(r#"{"name":"@s/a","version":"1.0.0","licenses":[{"type":"MIT"},{"type":"BSD"}]}"#).unwrap();
        assert_eq!(old.licences, [Licence::Id("MIT".into()), Licence::Name("BSD".into())]);
        assert_eq!(manifest(r#"{"type":"module"}"#), None);
        assert_eq!(manifest(r#"{"name":"../../x","version":"1"}"#), None);
    }

    #[test]
    fn reads_lock_files_of_every_version() {
        let sum = format!("sha512-{}", BASE64_STANDARD.encode([7u8; 64]));
        let new = format!(
            r#"{{"lockfileVersion":3,"packages":{{"":{{"name":"app"}},
            "node_modules/b":{{"version":"2.0.0","integrity":"{sum}","license":"ISC","dependencies":{{"c":"1"}}}},
            "node_modules/t":{{"version":"1.0.0","dev":true}}}}}}"#
        );
        let new = lock(&new).unwrap();
        assert_eq!(new.packages.keys().collect::<Vec<_>>(), ["node_modules/b"]);
        assert_eq!(new.packages["node_modules/b"].hash, Some(("SHA-512".into(), "07".repeat(64))));
        let old = lock(
            r#"{"lockfileVersion":1,"dependencies":{"b":{"version":"1.0.0","dependencies":{"c":{"version":"2.0.0"}}}}}"#,
        );
        assert_eq!(
            old.unwrap().packages.keys().collect::<Vec<_>>(),
            ["node_modules/b", "node_modules/b/node_modules/c"]
        );
        assert_eq!(lock("{}"), None);
    }
}
