//! Repositories of charts: their `index.yaml`, and which version of a chart a range chooses.

mod resolve;
mod search;

pub use resolve::{Found, Sources, lock_digest, locked, resolve};
pub use search::{Hit, Wanted, search};

use std::{cmp::Ordering, collections::BTreeMap};

use yaml::{Map, Value};

use crate::{
    Error,
    metadata::Metadata,
    version::{Range, Version},
};

/// One version of a chart in a repository.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Entry {
    pub metadata: Metadata,
    /// Where the archive is, absolute or relative to the index.
    pub urls: Vec<String>,
    /// RFC 3339.
    pub created: String,
    /// SHA-256 of the archive, in hex.
    pub digest: String,
}

/// An `index.yaml`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Index {
    /// Name → versions, the newest first.
    pub entries: BTreeMap<String, Vec<Entry>>,
    /// RFC 3339.
    pub generated: String,
}

impl Index {
    /// Reads an index. Entries that describe no chart are left out, as Helm leaves them out.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.trim().is_empty() {
            return Err(Error::Index("empty index.yaml file".to_owned()));
        }
        let value = yaml::from_str(text).map_err(|error| Error::Index(error.to_string()))?;
        let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
        if value.get("apiVersion").is_none() {
            return Err(Error::Index("no API version specified".to_owned()));
        }
        let mut index = Self { generated: text(value.get("generated")), ..Self::default() };
        for (name, versions) in value.get("entries").and_then(Value::as_map).unwrap_or(&Map::new()) {
            let versions = versions.as_list().unwrap_or_default().iter().filter_map(|entry| {
                let mut metadata = Metadata::default();
                metadata.decode(entry).ok()?;
                if metadata.api_version.is_empty() {
                    metadata.api_version = "v1".to_owned();
                }
                metadata.validate().ok()?;
                let urls = entry.get("urls").and_then(Value::as_list).unwrap_or_default();
                Some(Entry {
                    metadata,
                    urls: urls.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
                    created: text(entry.get("created")),
                    digest: text(entry.get("digest")),
                })
            });
            index.entries.insert(name.clone(), versions.collect());
        }
        index.sort();
        Ok(index)
    }

    fn sort(&mut self) {
        for versions in self.entries.values_mut() {
            versions.sort_by(|a, b| newest(&a.metadata.version, &b.metadata.version));
        }
    }

    /// The version of a chart that a range chooses: the very one that is named, or else the newest in it.
    pub fn find(&self, name: &str, range: &str) -> Result<&Entry, Error> {
        let versions = self.entries.get(name).ok_or_else(|| Error::Index("no chart name found".to_owned()))?;
        if versions.is_empty() {
            return Err(Error::Index("no chart version found".to_owned()));
        }
        if let Some(exact) = versions.iter().find(|entry| entry.metadata.version == range) {
            return Ok(exact);
        }
        let wanted = Range::parse(if range.is_empty() { "*" } else { range }).map_err(Error::Index)?;
        versions
            .iter()
            .find(|entry| Version::parse(&entry.metadata.version).is_some_and(|version| wanted.contains(&version)))
            .ok_or_else(|| Error::Index(format!("no chart version found for {name}-{range}")))
    }

    /// Takes in the entries of another index that are not here.
    pub fn merge(&mut self, other: Self) {
        for (name, versions) in other.entries {
            let known = self.entries.entry(name).or_default();
            for entry in versions {
                if !known.iter().any(|k| k.metadata.version == entry.metadata.version) {
                    known.push(entry);
                }
            }
        }
        self.sort();
    }

    /// Adds a packed chart under an URL (a base URL and the archive's name).
    pub fn add(&mut self, metadata: Metadata, url: String, digest: String, created: String) {
        let entry = Entry { metadata, urls: vec![url], created, digest };
        self.entries.entry(entry.metadata.name.clone()).or_default().push(entry);
        self.sort();
    }

    /// The text of the `index.yaml`.
    pub fn yaml(&self) -> String {
        yaml::to_go(&self.value())
    }

    /// The same as JSON, which is YAML too.
    pub fn json(&self) -> String {
        yaml::to_json(&self.value())
    }

    fn value(&self) -> Value {
        let entries = self.entries.iter().map(|(name, versions)| {
            let versions = versions.iter().map(|entry| {
                let mut map = match Value::from(entry.metadata.json()) {
                    Value::Map(map) => map,
                    _ => Map::new(),
                };
                map.insert("created".into(), entry.created.as_str().into());
                if !entry.digest.is_empty() {
                    map.insert("digest".into(), entry.digest.as_str().into());
                }
                let urls = entry.urls.iter().map(|url| Value::from(url.as_str()));
                map.insert("urls".into(), Value::List(urls.collect()));
                Value::Map(map)
            });
            (name.clone(), Value::List(versions.collect()))
        });
        let index = [
            ("apiVersion".to_owned(), Value::from("v1")),
            ("entries".to_owned(), Value::Map(entries.collect())),
            ("generated".to_owned(), Value::from(self.generated.as_str())),
        ];
        Value::Map(index.into())
    }
}

/// The newest first; what is no version last.
fn newest(a: &str, b: &str) -> Ordering {
    match (Version::parse(a), Version::parse(b)) {
        (Some(a), Some(b)) => b.compare(&a),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => b.cmp(a),
    }
}

/// An URL of an index's entry as seen from the repository's own.
pub fn absolute(repository: &str, url: &str) -> String {
    if url.contains("://") {
        return url.to_owned();
    }
    let base = repository.split(['?', '#']).next().unwrap_or(repository).trim_end_matches('/');
    match url.strip_prefix('/') {
        Some(rooted) => {
            let host_end = base.find("://").and_then(|at| base[at + 3..].find('/').map(|slash| at + 3 + slash));
            format!("{}/{rooted}", &base[..host_end.unwrap_or(base.len())])
        }
        None => format!("{base}/{url}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INDEX: &str = "apiVersion: v1\nentries:\n  web:\n  - {apiVersion: v2, name: web, version: 1.0.0, urls: [web-1.0.0.tgz]}\n  - {apiVersion: v2, name: web, version: 1.10.0, urls: [web-1.10.0.tgz]}\n  - {apiVersion: v2, name: web, version: 2.0.0-rc.1, urls: [x]}\n  - {name: broken}\n";

    #[test]
    fn chooses() {
        let index = Index::parse(INDEX).unwrap();
        assert_eq!(index.entries["web"].len(), 3);
        for (range, expected) in [("", "1.10.0"), ("^1", "1.10.0"), ("1.0.0", "1.0.0"), (">0.0.0-0", "2.0.0-rc.1")] {
            assert_eq!(index.find("web", range).unwrap().metadata.version, expected, "{range}");
        }
        assert!(index.find("web", "3.x").is_err());
        assert!(index.find("db", "").is_err());
        assert_eq!(Index::parse(&index.yaml()).unwrap(), index);
    }

    #[test]
    fn urls() {
        assert_eq!(absolute("https://x.org/charts/", "a.tgz"), "https://x.org/charts/a.tgz");
        assert_eq!(absolute("https://x.org/charts", "/a.tgz"), "https://x.org/a.tgz");
        assert_eq!(absolute("https://x.org", "https://y.org/a.tgz"), "https://y.org/a.tgz");
    }
}
