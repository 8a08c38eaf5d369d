//! What a base image is made of.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::relation;
use crate::{Error, Result};

/// The release of Debian that is used when none is named.
pub const DEFAULT_SUITE: &str = "trixie";

/// A base image: packages, users, files, and how to run it. Written in YAML or built in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Definition {
    /// It lies in the registry as `base/<name>`.
    pub name: String,
    #[serde(default = "default_suite")]
    pub suite: String,
    #[serde(default)]
    pub description: String,
    /// Packages asked for, with versions if need be: `nodejs`, `nodejs (>= 20)`. What they depend on comes along.
    pub packages: Vec<String>,
    /// Packages that count as installed and are left out, because only maintainer scripts, which are never run, need them.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// Users besides root and nobody; each has a group of its own name and number.
    #[serde(default)]
    pub users: Vec<User>,
    /// Who runs in it: a name or number, root where none is named.
    #[serde(default)]
    pub user: String,
    #[serde(default)]
    pub working_dir: String,
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    #[serde(default)]
    pub entrypoint: Vec<String>,
    #[serde(default)]
    pub cmd: Vec<String>,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Ports such as `6379/tcp`.
    #[serde(default)]
    pub expose: Vec<String>,
    #[serde(default)]
    pub stop_signal: Option<String>,
    /// Whether there must be a shell. Where not, an image with one is refused.
    #[serde(default)]
    pub shell: bool,
    /// Files, links and directories on top of the packages.
    #[serde(default)]
    pub files: Vec<ExtraFile>,
    /// What of the packages is left out, as globs of paths without the leading slash, besides documentation and translations.
    #[serde(default)]
    pub drop: Vec<String>,
    /// Debian's name of the architecture, for example `arm64`; the archive's own where none is named. Nothing is run, so that any can be
    /// assembled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub architecture: Option<String>,
    /// The archive as it was at that time, from an archive of snapshots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<records::Timestamp>,
    /// Whether `apt` and `dpkg` are there and know what is installed. Where not, an image with one of them is refused.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub package_manager: bool,
    /// The local time, as a name of the time zone database; UTC where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    /// Certificates of authorities besides those of `ca-certificates`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<CopiedFile>,
    /// Files that were read beside the definition.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub copied: Vec<CopiedFile>,
}

/// A file whose content stands beside the definition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct CopiedFile {
    /// Absolute, in the image; the name alone for certificates.
    pub path: String,
    pub mode: u32,
    /// The number of the user and group that owns it.
    pub owner: u32,
    /// Of the content, so that what it is in a key is short.
    pub sha256: String,
    #[serde(skip)]
    pub content: bytes::Bytes,
}

impl CopiedFile {
    pub fn new(path: impl Into<String>, mode: u32, owner: u32, content: bytes::Bytes) -> Self {
        Self { path: path.into(), mode, owner, sha256: super::archive::sha256(&content).hex().to_owned(), content }
    }
}

/// An account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct User {
    pub name: String,
    pub uid: u32,
    /// An absolute path; made if it is missing, and owned by the user.
    pub home: String,
    #[serde(default = "no_login")]
    pub shell: String,
}

/// A file, link or directory that no package has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ExtraFile {
    /// Absolute.
    pub path: String,
    /// The text of a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// The target of a symbolic link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// Permission bits in octal, for example "1777"; 0644 for files and 0755 for directories where none are named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// The number of the user and group that owns it.
    #[serde(default)]
    pub owner: u32,
}

fn default_suite() -> String {
    DEFAULT_SUITE.into()
}

fn no_login() -> String {
    "/usr/sbin/nologin".into()
}

impl Definition {
    /// Reads a definition in YAML; `file` is what errors call it.
    pub fn from_yaml(file: &str, text: &str) -> Result<Self> {
        let definition: Self = serde_saphyr::from_str(text).map_err(|e| Error::malformed(file, e.to_string()))?;
        definition.check()?;
        Ok(definition)
    }

    /// The repository in the registry.
    pub fn repository(&self) -> String {
        format!("base/{}", self.name)
    }

    /// Whether what it says can be done at all.
    pub fn check(&self) -> Result<()> {
        let wrong = |reason: String| Err(Error::Definition { name: self.name.chars().take(100).collect(), reason });
        if image::reference::check_repository(&self.repository()).is_err() || self.name.contains('/') {
            return wrong("its name must be made of a-z, 0-9 and `-`".into());
        }
        let suite = self.suite.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.');
        if self.suite.is_empty() || !suite || self.suite.contains("..") {
            return wrong(format!("`{}` is no suite, for example {DEFAULT_SUITE}", self.suite));
        }
        if self.packages.is_empty() {
            return wrong("names no packages".into());
        }
        if let Some(architecture) = &self.architecture
            && crate::Platform::of_debian(architecture).is_none()
        {
            return wrong(format!("`{architecture}` is no architecture of Debian, for example amd64"));
        }
        if let Some(reason) = self.packages.iter().find_map(|package| relation::relation(package).err()) {
            return wrong(reason);
        }
        if let Some(name) = self.exclude.iter().find(|name| !relation::is_name(name)) {
            return wrong(format!("`{name}` is no package to leave out"));
        }
        for user in &self.users {
            let plain = |text: &str| !text.contains([':', '\n', '\0']);
            if user.name.is_empty()
                || !user.home.starts_with('/')
                || ![&user.name, &user.home, &user.shell].iter().all(|t| plain(t))
            {
                return wrong(format!("user `{}` needs a name and an absolute home, without `:`", user.name));
            }
            if matches!(user.name.as_str(), "root" | "nobody") || matches!(user.uid, 0 | 65534) {
                return wrong(format!("user `{}`: root and nobody are always there", user.name));
            }
            if self.users.iter().filter(|other| other.name == user.name || other.uid == user.uid).count() > 1 {
                return wrong(format!("user `{}` stands there twice, or its number does", user.name));
            }
        }
        for file in &self.files {
            if !is_inside(&file.path) {
                return wrong(format!("`{}` must be an absolute path without `..`", file.path));
            }
            if file.content.is_some() && file.link.is_some() {
                return wrong(format!("{} cannot be a file and a link", file.path));
            }
            file.mode_bits()?;
        }
        if let Some(file) = self.copied.iter().find(|file| !is_inside(&file.path)) {
            return wrong(format!("`{}` must be an absolute path without `..`", file.path));
        }
        for pattern in &self.drop {
            if let Err(error) = crate::glob::Glob::ignore(pattern) {
                return wrong(error.to_string());
            }
        }
        Ok(())
    }
}

/// Whether a path is absolute, clean, and not the root.
pub(super) fn is_inside(path: &str) -> bool {
    path.strip_prefix('/')
        .is_some_and(|inside| !inside.contains('\0') && inside.split('/').all(|part| !matches!(part, "" | "." | "..")))
}

impl ExtraFile {
    /// The permission bits, if any are named.
    pub fn mode_bits(&self) -> Result<Option<u32>> {
        let Some(text) = &self.mode else { return Ok(None) };
        let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777);
        mode.map(Some).ok_or_else(|| Error::Definition {
            name: self.path.clone(),
            reason: format!("`{text}` is no mode in octal digits"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_yaml_and_refuses_nonsense() {
        let text = "name: tool\npackages: [curl, 'jq (>= 1.6)']\nusers:\n  - {name: app, uid: 1000, home: /home/app}\nuser: app\nfiles:\n  - {path: /etc/motd, content: hi}\n";
        let definition = Definition::from_yaml("bases/tool.yaml", text).unwrap();
        assert_eq!((definition.suite.as_str(), definition.users[0].shell.as_str()), ("trixie", "/usr/sbin/nologin"));
        for bad in [
            "name: A\npackages: [x]",
            "name: a\npackages: []",
            "name: a\npackages: ['../x']",
            "name: a\npackages: [x]\nunknown: 1",
            "name: a\npackages: [x]\nsuite: ../..",
            "name: a\npackages: [x]\nfiles: [{path: /../x}]",
            "name: a\npackages: [x]\nfiles: [{path: /x, mode: '9'}]",
            "name: a\npackages: [x]\nusers: [{name: root, uid: 5, home: /}]",
            "name: a\npackages: [x]\ndrop: ['[']",
        ] {
            assert!(Definition::from_yaml("x.yaml", bad).is_err(), "{bad}");
        }
    }
}
