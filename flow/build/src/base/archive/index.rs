//! The index of packages: what there is, kept as the few fields that are needed.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Read},
};

use debversion::Version;

use crate::{
    Error, Result,
    base::relation::{self, Clause},
};

/// Bytes of an index after decompression, and packages in it.
const MAX_SIZE: u64 = 1 << 30;
const MAX_PACKAGES: usize = 500_000;
const MAX_LINE: u64 = 1 << 20;

const FIELDS: [&str; 15] = [
    "Package",
    "Version",
    "Architecture",
    "Essential",
    "Priority",
    "Pre-Depends",
    "Depends",
    "Conflicts",
    "Breaks",
    "Provides",
    "Filename",
    "Size",
    "SHA256",
    "Source",
    "Installed-Size",
];

/// One package of one version.
#[derive(Debug, Clone, PartialEq)]
pub struct Package {
    pub name: String,
    pub version: Version,
    pub architecture: String,
    /// The source package, where its name differs.
    pub source: Option<String>,
    pub essential: bool,
    pub priority: Priority,
    /// `Pre-Depends` and `Depends`.
    pub depends: Vec<Clause>,
    /// `Conflicts` and `Breaks`.
    pub conflicts: Vec<Clause>,
    pub provides: Vec<Clause>,
    /// Below the mirror's root.
    pub filename: String,
    pub size: u64,
    pub sha256: String,
    /// KiB.
    pub installed_size: u64,
    /// Which source of the archive has it.
    pub origin: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    Required,
    Important,
    Standard,
    Optional,
    Extra,
}

#[derive(Debug, Clone, Copy)]
struct Stanza {
    start: u32,
    end: u32,
    origin: u32,
}

/// Packages of all sources of an archive. Stanzas are read when they are asked for.
#[derive(Debug, Default)]
pub struct Index {
    text: String,
    stanzas: Vec<Stanza>,
    names: HashMap<Box<str>, Vec<u32>>,
    provided: HashMap<Box<str>, Vec<u32>>,
}

impl Index {
    /// Adds the packages of a decompressed index. `what` names it in errors.
    pub fn add(&mut self, content: impl Read, origin: usize, what: &str) -> Result<()> {
        let malformed = |reason: &str| Error::malformed(what, reason);
        let mut reader = BufReader::with_capacity(256 << 10, content.take(MAX_SIZE + 1));
        let mut line = Vec::new();
        let mut start = self.text.len();
        let mut total = 0u64;
        loop {
            line.clear();
            let read = (&mut reader).take(MAX_LINE).read_until(b'\n', &mut line);
            let read = read.map_err(|e| Error::Malformed {
                what: what.to_owned(),
                reason: format!("cannot be decompressed: {e}"),
                source: Some(std::sync::Arc::new(e)),
            })?;
            total += read as u64;
            if read as u64 == MAX_LINE || total > MAX_SIZE {
                return Err(malformed("is larger than an index may be"));
            }
            let text =
                std::str::from_utf8(&line).map_err(|_| malformed("is not UTF-8"))?.trim_end_matches(['\n', '\r']);
            if text.is_empty() {
                if self.text.len() > start {
                    self.stanza(start, origin).map_err(|reason| malformed(&reason))?;
                    start = self.text.len();
                }
                if read == 0 {
                    return Ok(());
                }
                continue;
            }
            // Continued lines belong to fields that are not kept.
            if text.starts_with([' ', '\t']) {
                continue;
            }
            let (name, _) = text.split_once(':').ok_or_else(|| malformed("has a line without a field"))?;
            if FIELDS.iter().any(|field| field.eq_ignore_ascii_case(name)) {
                self.text.push_str(text);
                self.text.push('\n');
            }
        }
    }

    fn stanza(&mut self, start: usize, origin: usize) -> Result<(), String> {
        let number = self.stanzas.len() as u32;
        let (Ok(from), Ok(end)) = (u32::try_from(start), u32::try_from(self.text.len())) else {
            return Err("is larger than an index may be".into());
        };
        if self.stanzas.len() == MAX_PACKAGES {
            return Err(format!("has more than {MAX_PACKAGES} packages"));
        }
        let text = &self.text[start..];
        let name = field(text, "Package").ok_or("has a package without a name")?;
        self.names.entry(name.into()).or_default().push(number);
        if let Some(provides) = field(text, "Provides") {
            for part in provides.split(',') {
                let end = part.trim_start().find([' ', '(', ':']).unwrap_or(part.trim_start().len());
                let name = &part.trim_start()[..end];
                self.provided.entry(name.into()).or_default().push(number);
            }
        }
        self.stanzas.push(Stanza { start: from, end, origin: origin as u32 });
        Ok(())
    }

    /// Packages in the index.
    pub fn len(&self) -> usize {
        self.stanzas.len()
    }

    pub fn is_empty(&self) -> bool {
        self.stanzas.is_empty()
    }

    /// Names of packages, in no order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.keys().map(|name| &**name)
    }

    /// All versions of a package, the newest first; the first source wins among equals.
    pub fn versions(&self, name: &str) -> Result<Vec<Package>> {
        let numbers = self.names.get(name).map(Vec::as_slice).unwrap_or_default();
        let mut packages = numbers.iter().map(|number| self.read(*number)).collect::<Result<Vec<_>>>()?;
        packages.sort_by(|a, b| b.version.cmp(&a.version).then(a.origin.cmp(&b.origin)));
        Ok(packages)
    }

    /// Packages that provide a name, the newest version of each, by priority and then by name.
    pub fn providers(&self, name: &str) -> Result<Vec<Package>> {
        let numbers = self.provided.get(name).map(Vec::as_slice).unwrap_or_default();
        let mut packages = numbers.iter().map(|number| self.read(*number)).collect::<Result<Vec<_>>>()?;
        packages.sort_by(|a, b| {
            (a.priority, &a.name)
                .cmp(&(b.priority, &b.name))
                .then(b.version.cmp(&a.version))
                .then(a.origin.cmp(&b.origin))
        });
        packages.dedup_by(|later, first| later.name == first.name);
        Ok(packages)
    }

    fn read(&self, number: u32) -> Result<Package> {
        let Some(stanza) = self.stanzas.get(number as usize) else {
            return Err(Error::malformed("the index of packages", "names a package that it does not have"));
        };
        let text = &self.text[stanza.start as usize..stanza.end as usize];
        let what = field(text, "Package").unwrap_or_default().to_owned();
        let wrong = |reason: String| Error::malformed(format!("the index entry of package {what}"), reason);
        let need = |name: &str| field(text, name).ok_or_else(|| wrong(format!("has no {name}")));
        let clauses = |name: &str| relation::parse(field(text, name).unwrap_or_default()).map_err(wrong);
        let name = need("Package")?.to_owned();
        let architecture = need("Architecture")?.to_owned();
        let filename = need("Filename")?.to_owned();
        let sha256 = need("SHA256")?.to_ascii_lowercase();
        if !relation::is_name(&name) || !relation::is_name(&architecture) {
            return Err(wrong("has a name that is none".into()));
        }
        if filename.starts_with('/') || filename.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(wrong("names a file outside the archive".into()));
        }
        if sha256.len() != 64 || !sha256.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(wrong("has a SHA256 sum that is none".into()));
        }
        let mut depends = clauses("Pre-Depends")?;
        depends.extend(clauses("Depends")?);
        let mut conflicts = clauses("Conflicts")?;
        conflicts.extend(clauses("Breaks")?);
        Ok(Package {
            version: relation::version(need("Version")?).ok_or_else(|| wrong("has a version that is none".into()))?,
            source: field(text, "Source").map(str::to_owned),
            essential: field(text, "Essential") == Some("yes"),
            priority: match field(text, "Priority").unwrap_or_default() {
                "required" => Priority::Required,
                "important" => Priority::Important,
                "standard" => Priority::Standard,
                "extra" => Priority::Extra,
                _ => Priority::Optional,
            },
            depends,
            conflicts,
            provides: clauses("Provides")?,
            size: need("Size")?.parse().map_err(|_| wrong("has a size that is no number".into()))?,
            installed_size: field(text, "Installed-Size").and_then(|size| size.parse().ok()).unwrap_or_default(),
            origin: stanza.origin as usize,
            name,
            architecture,
            filename,
            sha256,
        })
    }
}

/// The value of a field of a stanza without continued lines.
fn field<'a>(stanza: &'a str, name: &str) -> Option<&'a str> {
    let value =
        |line: &'a str| line.split_once(':').filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.trim());
    stanza.lines().find_map(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, version: &str, more: &str) -> String {
        let sum = "a".repeat(64);
        format!(
            "Package: {name}\nVersion: {version}\nArchitecture: amd64\nDescription: x\n long\n{more}Filename: pool/{name}.deb\nSize: 1\nSHA256: {sum}\n\n"
        )
    }

    #[test]
    fn finds_versions_and_providers() {
        let mut index = Index::default();
        let text = entry("a", "1", "Provides: v (= 2), w\n")
            + &entry("a", "2", "")
            + &entry("b", "1", "Provides: v\nPriority: required\n");
        index.add(text.as_bytes(), 0, "test").unwrap();
        index.add(entry("a", "3", "").as_bytes(), 1, "test").unwrap();
        let versions: Vec<String> = index.versions("a").unwrap().iter().map(|p| p.version.to_string()).collect();
        assert_eq!(versions, ["3", "2", "1"]);
        let providers: Vec<String> = index.providers("v").unwrap().into_iter().map(|p| p.name).collect();
        assert_eq!(providers, ["b", "a"]);
        assert!(index.versions("none").unwrap().is_empty());
    }

    #[test]
    fn a_package_cannot_point_outside_the_archive() {
        for file in ["../x", "/etc/passwd", "a//b"] {
            let mut index = Index::default();
            let text = entry("a", "1", "").replace("pool/a.deb", file);
            index.add(text.as_bytes(), 0, "test").unwrap();
            assert!(index.versions("a").is_err(), "{file}");
        }
    }

    #[test]
    fn malformed_indices_are_errors() {
        for text in ["no field\n\n", "Version: 1\n\n", "Package: \u{fffd}\n\n"] {
            let mut index = Index::default();
            let result = index.add(text.as_bytes(), 0, "test").and_then(|()| index.versions("\u{fffd}"));
            assert!(result.is_err(), "{text}");
        }
        let mut index = Index::default();
        assert!(index.add(&b"Package: \xff\n\n"[..], 0, "test").is_err());
    }
}
