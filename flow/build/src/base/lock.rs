//! `base.lock`: every package of a base image, so that it can be assembled again, elsewhere and later, and is the same.

use std::collections::{BTreeMap, BTreeSet};

use records::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    archive::{LockedRelease, Package, Snapshot},
    definition::Definition,
    relation,
};
use crate::{Error, Result};

/// The form of the file.
const VERSION: u32 = 1;

/// Bytes that a lock file may have.
pub const MAX_LOCK: usize = 16 << 20;

/// The packages of a base image, and where they come from. What it says was verified when it was written; who changes the file changes
/// what is trusted, as with every lock file: it belongs into the repository, and into reviews.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct BaseLock {
    pub version: u32,
    /// What the packages were chosen for. A definition that asks for something else does not fit.
    pub asked: Asked,
    /// Dates everything in the image.
    pub date: Timestamp,
    pub releases: Vec<LockedRelease>,
    /// In the order of their names.
    pub packages: Vec<LockedPackage>,
}

/// What decides about the packages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Asked {
    pub suite: String,
    pub architecture: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<Timestamp>,
    pub packages: BTreeSet<String>,
    #[serde(default)]
    pub exclude: BTreeSet<String>,
}

/// One package of one version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LockedPackage {
    pub name: String,
    pub version: String,
    /// Of the package: `all` when it is for every one.
    pub architecture: String,
    /// The source package, where its name differs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The suite of the release that vouches for it.
    pub from: String,
    /// Below the mirror's root.
    pub filename: String,
    pub size: u64,
    pub sha256: String,
}

/// What became of one package between two locks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Change {
    pub package: String,
    pub kind: ChangeKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub locked: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub available: Option<String>,
    /// The suite that the new one comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
}

/// How a package changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChangeKind {
    Added,
    Upgraded,
    Downgraded,
    /// The same version with another content.
    Rebuilt,
    Removed,
}

impl Asked {
    /// What a definition asks of an archive for `architecture`.
    pub fn of(definition: &Definition, architecture: &str) -> Self {
        Self {
            suite: definition.suite.clone(),
            architecture: definition.architecture.clone().unwrap_or_else(|| architecture.to_owned()),
            snapshot: definition.snapshot,
            packages: definition.packages.iter().cloned().collect(),
            exclude: definition.exclude.iter().cloned().collect(),
        }
    }

    /// How this differs from what the lock was made for, as sentences; none when it fits.
    fn differences(&self, locked: &Self) -> Vec<String> {
        let mut found = Vec::new();
        let words = |what: &str, now: &str, then: &str, found: &mut Vec<String>| {
            if now != then {
                found.push(format!("{what} is {now}, and was {then}"));
            }
        };
        words("the suite", &self.suite, &locked.suite, &mut found);
        words("the architecture", &self.architecture, &locked.architecture, &mut found);
        let time = |time: Option<Timestamp>| time.map_or("none".to_owned(), |time| time.to_string());
        words("the snapshot", &time(self.snapshot), &time(locked.snapshot), &mut found);
        let sets =
            [("package", &self.packages, &locked.packages), ("left out package", &self.exclude, &locked.exclude)];
        for (what, now, then) in sets {
            found.extend(now.difference(then).map(|name| format!("{what} {name} is new")));
            found.extend(then.difference(now).map(|name| format!("{what} {name} is gone")));
        }
        found
    }
}

impl BaseLock {
    /// What was chosen from a snapshot for a definition.
    pub fn new(definition: &Definition, architecture: &str, snapshot: &Snapshot, packages: &[Package]) -> Self {
        let suites: Vec<&str> = snapshot.lock.releases.iter().map(|release| release.source.suite.as_str()).collect();
        let packages = packages.iter().map(|package| LockedPackage {
            name: package.name.clone(),
            version: package.version.to_string(),
            architecture: package.architecture.clone(),
            source: package.source.clone(),
            from: suites.get(package.origin).copied().unwrap_or_default().to_owned(),
            filename: package.filename.clone(),
            size: package.size,
            sha256: package.sha256.clone(),
        });
        let mut releases = snapshot.lock.releases.clone();
        for release in &mut releases {
            release.source.mirror = without_password(&release.source.mirror);
        }
        Self {
            version: VERSION,
            asked: Asked::of(definition, architecture),
            date: snapshot.date,
            releases,
            packages: packages.collect(),
        }
    }

    /// Reads a lock file; `file` is what errors call it.
    pub fn parse(file: &str, text: &str) -> Result<Self> {
        let wrong = |reason: String| Error::malformed(file, reason);
        if text.len() > MAX_LOCK {
            return Err(wrong(format!("has more than {MAX_LOCK} bytes: it is no lock file")));
        }
        let lock: Self = serde_json::from_str(text).map_err(|e| wrong(format!("is no lock file: {e}")))?;
        if lock.version != VERSION {
            let reason = format!("has the form {}, and this program knows {VERSION}", lock.version);
            return Err(wrong(format!("{reason}: write it anew with `shipway base lock`")));
        }
        let mut names = BTreeSet::new();
        for package in &lock.packages {
            let name = &package.name;
            let sum =
                package.sha256.len() == 64 && package.sha256.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
            let clean = package.filename.split('/').all(|part| !matches!(part, "" | "." | ".."));
            if !relation::is_name(name) || !relation::is_name(&package.architecture) {
                return Err(wrong(format!("names a package `{}`, which is no name", name.escape_debug())));
            }
            if !sum || !clean || relation::version(&package.version).is_none() {
                return Err(wrong(format!("has a version, file or checksum of {name} that is none")));
            }
            if !lock.releases.iter().any(|release| release.source.suite == package.from) {
                return Err(wrong(format!("says that {name} is from {}, which it does not have", package.from)));
            }
            if !names.insert(name.as_str()) {
                return Err(wrong(format!("has {name} twice")));
            }
        }
        if !lock.packages.is_sorted_by(|a, b| a.name < b.name) {
            return Err(wrong("is not in the order of its packages' names".into()));
        }
        Ok(lock)
    }

    /// The file: JSON with a line for each package, so that a difference reads well.
    pub fn to_text(&self) -> Result<String> {
        let failed = |e: serde_json::Error| Error::malformed("the lock file", e.to_string());
        let mut head = serde_json::to_value(self).map_err(failed)?;
        if let Some(object) = head.as_object_mut() {
            object.remove("packages");
        }
        let head = serde_json::to_string_pretty(&head).map_err(failed)?;
        let mut text = head.trim_end_matches('}').trim_end().to_owned();
        text.push_str(",\n  \"packages\": [");
        for (at, package) in self.packages.iter().enumerate() {
            text.push_str(if at == 0 { "\n    " } else { ",\n    " });
            text.push_str(&serde_json::to_string(package).map_err(failed)?);
        }
        text.push_str("\n  ]\n}\n");
        Ok(text)
    }

    /// `Ok` when the lock is of what the definition asks for.
    pub fn check(&self, definition: &Definition, architecture: &str) -> Result<()> {
        let differences = Asked::of(definition, architecture).differences(&self.asked);
        match differences.is_empty() {
            true => Ok(()),
            false => Err(Error::Stale { name: definition.name.clone(), reason: differences.join("; ") }),
        }
    }

    /// The release that vouches for a package.
    pub fn release_of(&self, package: &LockedPackage) -> Option<&LockedRelease> {
        self.releases.iter().find(|release| release.source.suite == package.from)
    }

    /// What changes from this lock to a newer one, in the order of the packages' names.
    pub fn changes(&self, newer: &Self) -> Vec<Change> {
        let by_name = |lock: &Self| -> BTreeMap<String, LockedPackage> {
            lock.packages.iter().map(|package| (package.name.clone(), package.clone())).collect()
        };
        let (old, new) = (by_name(self), by_name(newer));
        let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        let change = |name: &String| {
            let (before, after) = (old.get(name), new.get(name));
            let kind = match (before, after) {
                (Some(before), Some(after)) if before.sha256 == after.sha256 => return None,
                (Some(before), Some(after)) => {
                    match relation::version(&after.version).cmp(&relation::version(&before.version)) {
                        std::cmp::Ordering::Greater => ChangeKind::Upgraded,
                        std::cmp::Ordering::Less => ChangeKind::Downgraded,
                        std::cmp::Ordering::Equal => ChangeKind::Rebuilt,
                    }
                }
                (None, _) => ChangeKind::Added,
                (_, None) => ChangeKind::Removed,
            };
            Some(Change {
                package: name.clone(),
                kind,
                locked: before.map(|package| package.version.clone()),
                available: after.map(|package| package.version.clone()),
                from: after.map(|package| package.from.clone()),
            })
        };
        names.into_iter().filter_map(change).collect()
    }
}

/// A lock file is for everybody who has the repository.
fn without_password(mirror: &str) -> String {
    let Some((scheme, rest)) = mirror.split_once("://") else { return mirror.to_owned() };
    let host = rest.split('/').next().unwrap_or(rest);
    match host.rsplit_once('@') {
        Some((secret, _)) => format!("{scheme}://{}", &rest[secret.len() + 1..]),
        None => mirror.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(packages: &[(&str, &str, char)]) -> BaseLock {
        let packages = packages.iter().map(|(name, version, sum)| LockedPackage {
            name: (*name).into(),
            version: (*version).into(),
            architecture: "amd64".into(),
            source: None,
            from: "trixie".into(),
            filename: format!("pool/{name}.deb"),
            size: 1,
            sha256: sum.to_string().repeat(64),
        });
        BaseLock {
            version: VERSION,
            asked: Asked {
                suite: "trixie".into(),
                architecture: "amd64".into(),
                snapshot: None,
                packages: BTreeSet::from(["a".into()]),
                exclude: BTreeSet::new(),
            },
            date: Timestamp::UNIX_EPOCH,
            releases: vec![LockedRelease {
                source: super::super::archive::Source {
                    mirror: "http://mirror.example/debian".into(),
                    suite: "trixie".into(),
                    components: vec!["main".into()],
                },
                digest: super::super::archive::sha256(b"x"),
                date: Timestamp::UNIX_EPOCH,
            }],
            packages: packages.collect(),
        }
    }

    #[test]
    fn a_lock_is_the_same_after_it_was_written_and_has_a_line_for_each_package() {
        let lock = lock(&[("a", "1", 'a'), ("b", "2", 'b')]);
        let text = lock.to_text().unwrap();
        assert_eq!(BaseLock::parse("base.lock", &text).unwrap(), lock);
        assert_eq!(text.lines().filter(|line| line.contains("sha256\":\"")).count(), 2, "{text}");
    }

    #[test]
    fn changes_are_named_by_what_happens() {
        let old = lock(&[("a", "1.0~rc1", 'a'), ("b", "2", 'b'), ("c", "3", 'c'), ("e", "1:1", 'e'), ("f", "1", 'f')]);
        let new = lock(&[("a", "1.0", '1'), ("b", "2", '2'), ("d", "1", 'd'), ("e", "2", '3'), ("f", "1", 'f')]);
        let kinds: Vec<String> = old.changes(&new).iter().map(|c| format!("{} {:?}", c.package, c.kind)).collect();
        assert_eq!(kinds, ["a Upgraded", "b Rebuilt", "c Removed", "d Added", "e Downgraded"]);
        assert!(old.changes(&old).is_empty());
    }

    #[test]
    fn what_could_lead_astray_is_refused() {
        let good = lock(&[("a", "1", 'a'), ("b", "2", 'b')]).to_text().unwrap();
        for (from, to) in [
            ("pool/a.deb", "../../etc/passwd"),
            ("\"name\":\"a\"", "\"name\":\"../a\""),
            (&"a".repeat(64), "abc"),
            ("\"from\":\"trixie\"", "\"from\":\"sid\""),
            ("\"name\":\"b\"", "\"name\":\"a\""),
            ("\"version\": 1", "\"version\": 9"),
            ("\"asked\"", "\"more\": 1, \"asked\""),
        ] {
            let bad = good.replace(from, to);
            assert_ne!(bad, good, "{from}");
            assert!(BaseLock::parse("base.lock", &bad).is_err(), "{to}");
        }
    }

    #[test]
    fn passwords_of_mirrors_stay_at_home() {
        assert_eq!(without_password("https://me:secret@mirror.example/debian"), "https://mirror.example/debian");
        assert_eq!(without_password("http://mirror.example/debian"), "http://mirror.example/debian");
    }
}
