//! `base.yaml`: a base image as a person writes it, read with places for errors.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use records::Timestamp;
use schemars::{JsonSchema, generate::SchemaSettings};
use serde::Deserialize;
use serde_saphyr::Spanned;

use super::{
    builtin::{self, SCRIPTS_ONLY},
    definition::{CopiedFile, DEFAULT_SUITE, Definition, ExtraFile, User, is_inside},
    relation,
};
use crate::{
    Error, Platform, Result,
    diagnostic::{Diagnostic, Source, Span, did_you_mean},
};

/// Bytes that the file may have, and a file that it names.
pub const MAX_FILE: usize = 1 << 20;
pub const MAX_SOURCE: usize = 64 << 20;

/// The user that runs where none is named.
const NONROOT: &str = "65532:65532";

/// A base image: Debian packages, and what is set around them.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
#[schemars(title = "Shipway base image")]
struct Written {
    /// What it is called; the name of the file or of its directory where it is not named.
    #[schemars(with = "Option<String>")]
    name: Option<Spanned<String>>,
    /// A sentence for people, which becomes a label.
    description: String,
    /// The release of Debian: trixie where none is named.
    #[schemars(with = "Option<String>")]
    suite: Option<Spanned<String>>,
    /// The archive as it was at that day or time: 2026-01-31, or 2026-01-31T06:00:00Z.
    #[schemars(with = "Option<String>")]
    snapshot: Option<Spanned<String>>,
    /// amd64, arm64 …; that of the machine or build where none is named. Any can be assembled anywhere, for nothing is run.
    #[schemars(with = "Option<String>")]
    architecture: Option<Spanned<String>>,
    /// Debian packages, with versions if need be: `curl`, `nodejs (>= 20)`. What they depend on comes along.
    #[schemars(with = "Vec<String>")]
    packages: Vec<Spanned<String>>,
    /// Packages that count as installed and are left out.
    #[schemars(with = "Vec<String>")]
    exclude: Vec<Spanned<String>>,
    /// Accounts besides root, nobody and, where no user is named, nonroot (65532).
    #[schemars(with = "Vec<WrittenUser>")]
    users: Vec<Spanned<WrittenUser>>,
    /// Who runs: a name, a number, or both as user:group. 65532 where nobody is named.
    #[schemars(with = "Option<String>")]
    user: Option<Spanned<String>>,
    /// Where commands run.
    #[schemars(with = "Option<String>")]
    working_dir: Option<Spanned<String>>,
    /// Environment variables.
    #[serde(alias = "env")]
    environment: BTreeMap<String, String>,
    /// The program that runs.
    entrypoint: Vec<String>,
    /// Its arguments, which a run may replace.
    cmd: Vec<String>,
    /// Labels of the image.
    labels: BTreeMap<String, String>,
    /// Ports such as 8080/tcp.
    expose: Vec<String>,
    /// The signal that ends it.
    stop_signal: Option<String>,
    /// Whether there is a shell. Without it, an image that would have one is refused.
    shell: bool,
    /// Whether apt and dpkg are there, and know what is installed. Without it, an image that would have them is refused.
    package_manager: bool,
    /// Authorities that are trusted: those of Debian (true, as when nothing is said), none (false), or those of Debian and the ones in these
    /// files, which lie beside base.yaml.
    #[schemars(with = "Option<WrittenCertificates>")]
    ca_certificates: Option<Spanned<WrittenCertificates>>,
    /// Whether the time zone database is there, as it is when nothing is said.
    time_zones: Option<bool>,
    /// The local time, for example Europe/Berlin; UTC where none is named.
    #[schemars(with = "Option<String>")]
    timezone: Option<Spanned<String>>,
    /// Files, links and directories on top of the packages.
    #[schemars(with = "Vec<WrittenFile>")]
    files: Vec<Spanned<WrittenFile>>,
    /// What of the packages is left out, as globs of paths.
    #[schemars(with = "Vec<String>")]
    drop: Vec<Spanned<String>>,
}

/// An account, with a group of the same name and number.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct WrittenUser {
    name: String,
    uid: u32,
    /// /home/NAME where none is named; made if it is missing.
    #[serde(default)]
    home: Option<String>,
    #[serde(default)]
    shell: Option<String>,
}

/// A file (`content` or `source`), a link (`link`) or a directory (none of them).
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct WrittenFile {
    /// Absolute.
    path: String,
    /// The text of a file.
    #[serde(default)]
    content: Option<String>,
    /// A file beside base.yaml that is copied.
    #[serde(default)]
    source: Option<String>,
    /// The target of a symbolic link.
    #[serde(default)]
    link: Option<String>,
    /// Permission bits in octal: "0755".
    #[serde(default)]
    mode: Option<String>,
    /// The number of the user and group that owns it.
    #[serde(default)]
    owner: u32,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
enum WrittenCertificates {
    Debian(bool),
    Files(Vec<String>),
}

/// The JSON Schema (draft 7) of `base.yaml`, ending in a line break.
pub fn schema() -> String {
    let schema = SchemaSettings::draft07().into_generator().into_root_schema_for::<Written>();
    // A schema holds only text, numbers and lists of them: it can always be written.
    let mut text = serde_json::to_string_pretty(&schema).unwrap_or_default();
    text.push('\n');
    text
}

/// A `base.yaml` that was read; the files that it names are not.
#[derive(Debug)]
pub struct Recipe {
    source: Source,
    written: Written,
    name: String,
}

impl Recipe {
    /// Reads the file. `file` is what errors call it, and what names the image where the file does not.
    ///
    /// # Errors
    /// [`Error::Dockerfile`] with the place of what is wrong.
    pub fn read(file: &str, text: &str) -> Result<Self> {
        let source = Source::new(file, text);
        if text.len() > MAX_FILE {
            let reason = format!("has {} bytes, and may have {MAX_FILE}", text.len());
            return Err(Error::Malformed { what: file.to_owned(), reason, source: None });
        }
        let options = serde_saphyr::options! { duplicate_keys: serde_saphyr::DuplicateKeyPolicy::Error, legacy_octal_numbers: false };
        // An empty file is a mapping without fields.
        let written = match text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
            true => Written::default(),
            false => serde_saphyr::from_str_with_options(text, options).map_err(|error| unreadable(&source, &error))?,
        };
        let mut recipe = Self { source, written, name: String::new() };
        recipe.name = recipe.find_name()?;
        recipe.check()?;
        Ok(recipe)
    }

    /// What the image is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The platform that it is for, where the file says it.
    pub fn platform(&self) -> Option<Platform> {
        Platform::of_debian(self.written.architecture.as_ref()?.value.as_str())
    }

    /// Files beside `base.yaml` that it needs, as relative paths without `..`.
    pub fn sources(&self) -> Vec<String> {
        let mut sources: BTreeSet<String> =
            self.written.files.iter().filter_map(|file| file.value.source.as_deref()).map(clean).collect();
        if let Some(WrittenCertificates::Files(files)) = self.written.ca_certificates.as_ref().map(|c| &c.value) {
            sources.extend(files.iter().map(|file| clean(file)));
        }
        sources.into_iter().collect()
    }

    /// The definition, with the content of each of [`Recipe::sources`].
    ///
    /// # Errors
    /// [`Error::Dockerfile`] with the place of a file that is missing or is not what it should be.
    pub fn definition(&self, contents: &BTreeMap<String, Bytes>) -> Result<Definition> {
        let written = &self.written;
        let mut definition = builtin::bare(&self.name, &written.description);
        if let Some(suite) = &written.suite {
            definition.suite.clone_from(&suite.value);
        }
        definition.snapshot = self.snapshot()?;
        definition.architecture = written.architecture.as_ref().map(|architecture| architecture.value.clone());
        definition.shell = written.shell || written.package_manager;
        definition.package_manager = written.package_manager;
        definition.timezone = written.timezone.as_ref().map(|zone| zone.value.clone());
        self.packages(&mut definition);
        self.users(&mut definition)?;
        self.files(&mut definition, contents)?;
        self.certificates(&mut definition, contents)?;
        let trusts = definition.packages.iter().any(|name| name == "ca-certificates");
        if !trusts && definition.certificates.is_empty() {
            definition.env.remove("SSL_CERT_FILE");
        }
        definition.env.extend(written.environment.clone());
        definition.working_dir = written.working_dir.as_ref().map(|path| path.value.clone()).unwrap_or_default();
        definition.entrypoint.clone_from(&written.entrypoint);
        definition.cmd.clone_from(&written.cmd);
        definition.labels.clone_from(&written.labels);
        definition.expose.clone_from(&written.expose);
        definition.stop_signal.clone_from(&written.stop_signal);
        definition.drop = written.drop.iter().map(|pattern| pattern.value.clone()).collect();
        definition.check()?;
        Ok(definition)
    }

    /// An error about a package, at the place in the file that asks for it.
    pub fn explain(&self, error: Error) -> Error {
        let Error::Unresolvable(unresolvable) = &error else { return error };
        let asked = |package: &&Spanned<String>| {
            let as_clause = relation::relation(&package.value).map(|relation| relation.to_string()).ok();
            as_clause.is_some() && as_clause == unresolvable.asked
        };
        let Some(package) = self.written.packages.iter().find(asked) else { return error };
        let mut reason = unresolvable.reason.clone();
        // The whole way, where it is longer than the line that is shown.
        if unresolvable.chain.len() > 1 {
            unresolvable.chain.iter().for_each(|link| reason += &format!("; {link}"));
        }
        self.at(package, reason).maybe_hint(unresolvable.hint.clone()).into()
    }

    fn at<T>(&self, value: &Spanned<T>, reason: impl Into<String>) -> Diagnostic {
        self.source.diagnostic(span(&self.source, value.referenced), reason)
    }

    fn find_name(&self) -> Result<String> {
        if let Some(name) = &self.written.name {
            let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            if name.value.is_empty() || name.value.len() > 100 || !name.value.chars().all(fine) {
                let reason = format!("`{}` is no name", shown(&name.value));
                return Err(self.at(name, reason).hint("a name is made of a-z, 0-9 and `-`").into());
            }
            return Ok(name.value.clone());
        }
        let mut parts = self.source.name.rsplit('/');
        let file = parts.next().unwrap_or_default();
        let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
        let place = if stem == "base" { parts.next().unwrap_or(stem) } else { stem };
        let name: String =
            place.to_ascii_lowercase().chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
        let name = name.trim_matches('-');
        Ok(if name.is_empty() { "base".to_owned() } else { name.chars().take(100).collect() })
    }

    fn check(&self) -> Result<()> {
        let written = &self.written;
        for package in &written.packages {
            if let Err(reason) = relation::relation(&package.value) {
                return Err(self.at(package, reason).hint("write a package, or `package (>= version)`").into());
            }
        }
        if let Some(name) = written.exclude.iter().find(|name| !relation::is_name(&name.value)) {
            return Err(self.at(name, format!("`{}` is no package to leave out", shown(&name.value))).into());
        }
        if let Some(architecture) = written.architecture.as_ref().filter(|a| Platform::of_debian(&a.value).is_none()) {
            let known = ["amd64", "arm64", "armhf", "i386", "ppc64el", "riscv64", "s390x"];
            // Docker's names and the kernel's are what people try first.
            let meant =
                Platform::parse(&format!("linux/{}", architecture.value)).and_then(|platform| platform.debian());
            let near = meant.or_else(|| did_you_mean(&architecture.value, known));
            let hint =
                near.map_or_else(|| format!("there are {}", known.join(", ")), |n| format!("did you mean `{n}`?"));
            let reason = format!("Debian has no architecture `{}`", shown(&architecture.value));
            return Err(self.at(architecture, reason).hint(hint).into());
        }
        if let Some(suite) = &written.suite {
            let fine =
                suite.value.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.');
            if suite.value.is_empty() || !fine || suite.value.contains("..") {
                let reason = format!("`{}` is no suite", shown(&suite.value));
                return Err(self.at(suite, reason).hint(format!("for example {DEFAULT_SUITE}")).into());
            }
        }
        if let Some(zone) = &written.timezone {
            let fine = zone.value.bytes().all(|b| b.is_ascii_alphanumeric() || b"/_+-".contains(&b));
            if zone.value.is_empty() || !fine || !is_inside(&format!("/{}", zone.value)) {
                let reason = format!("`{}` is no time zone", shown(&zone.value));
                return Err(self.at(zone, reason).hint("for example Europe/Berlin").into());
            }
            if written.time_zones == Some(false) {
                return Err(self
                    .at(zone, "without the time zone database there is no local time")
                    .hint("leave `time-zones: false` out")
                    .into());
            }
        }
        if let Some(directory) = written.working_dir.as_ref().filter(|path| !path.value.starts_with('/')) {
            return Err(self.at(directory, "the working directory must be an absolute path").into());
        }
        for pattern in &written.drop {
            if let Err(error) = crate::glob::Glob::ignore(pattern.value.trim_matches('/')) {
                return Err(self.at(pattern, error.to_string()).into());
            }
        }
        self.snapshot()?;
        for file in &written.files {
            self.check_file(file)?;
        }
        if let Some(certificates) = &written.ca_certificates
            && let WrittenCertificates::Files(files) = &certificates.value
            && let Some(file) = files.iter().find(|file| !is_below(file))
        {
            return Err(self.at(certificates, outside(file)).into());
        }
        Ok(())
    }

    fn check_file(&self, file: &Spanned<WrittenFile>) -> Result<()> {
        let WrittenFile { path, content, source, link, mode, .. } = &file.value;
        let wrong = |reason: String| Err(self.at(file, reason).into());
        if !is_inside(path) {
            return wrong(format!("`{}` must be an absolute path without `..`", shown(path)));
        }
        let kinds = [content.is_some(), source.is_some(), link.is_some()];
        if kinds.iter().filter(|kind| **kind).count() > 1 {
            return wrong(format!("{} has more than one of content, source and link", shown(path)));
        }
        if let Some(source) = source.as_ref().filter(|source| !is_below(source)) {
            return wrong(outside(source));
        }
        match mode {
            Some(mode) if u32::from_str_radix(mode, 8).ok().is_none_or(|mode| mode > 0o7777) => {
                wrong(format!("`{}` is no mode in octal digits, for example \"0755\"", shown(mode)))
            }
            _ => Ok(()),
        }
    }

    fn snapshot(&self) -> Result<Option<Timestamp>> {
        let Some(text) = &self.written.snapshot else { return Ok(None) };
        let day = || format!("{}T00:00:00Z", text.value).parse::<Timestamp>();
        match text.value.parse::<Timestamp>().or_else(|_| day()) {
            Ok(time) => Ok(Some(time)),
            Err(_) => {
                let reason = format!("`{}` is no day", shown(&text.value));
                Err(self.at(text, reason).hint("write for example 2026-01-31, or 2026-01-31T06:00:00Z").into())
            }
        }
    }

    /// What is asked for, and what belongs to every image.
    fn packages(&self, definition: &mut Definition) {
        let written = &self.written;
        let mut packages: Vec<String> =
            written.packages.iter().map(|package| package.value.trim().to_owned()).collect();
        let named: BTreeSet<String> =
            packages.iter().filter_map(|text| Some(relation::relation(text).ok()?.name)).collect();
        let mut ours = vec!["base-files", "netbase"];
        match written.ca_certificates.as_ref().map(|certificates| &certificates.value) {
            Some(WrittenCertificates::Debian(false)) => {}
            _ => ours.push("ca-certificates"),
        }
        if written.time_zones != Some(false) {
            ours.push("tzdata");
        }
        if definition.shell {
            ours.push("dash");
        }
        if definition.package_manager {
            ours.extend([
                "apt",
                "base-passwd",
                "bash",
                "coreutils",
                "debian-archive-keyring",
                "diffutils",
                "dpkg",
                "findutils",
                "grep",
                "gzip",
                "hostname",
                "libc-bin",
                "mawk",
                "ncurses-bin",
                "perl-base",
                "sed",
                "sysvinit-utils",
                "tar",
                "util-linux",
            ]);
        }
        packages.extend(ours.into_iter().filter(|name| !named.contains(*name)).map(str::to_owned));
        definition.packages = packages;
        // Their maintainer scripts, which are never run, need these.
        let mut exclude: Vec<&str> = if definition.package_manager { Vec::new() } else { SCRIPTS_ONLY.to_vec() };
        if !definition.package_manager {
            exclude.extend(["awk", "openssl"]);
        }
        definition.exclude = exclude.into_iter().filter(|name| !named.contains(*name)).map(str::to_owned).collect();
        definition.exclude.extend(written.exclude.iter().map(|name| name.value.clone()));
    }

    fn users(&self, definition: &mut Definition) -> Result<()> {
        let written = &self.written;
        let mut users: Vec<User> = Vec::new();
        for spanned in &written.users {
            let user = &spanned.value;
            let home = user.home.clone().unwrap_or_else(|| format!("/home/{}", user.name));
            let shell = user.shell.clone().unwrap_or_else(|| "/usr/sbin/nologin".into());
            let plain = |text: &str| !text.contains([':', '\n', '\0']);
            let name = user.name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
            if user.name.is_empty() || !name {
                return Err(self.at(spanned, format!("`{}` is no name of a user", shown(&user.name))).into());
            }
            if !plain(&home) || !plain(&shell) || (home != "/" && !is_inside(&home)) {
                return Err(self
                    .at(spanned, format!("user {} needs a home that is an absolute path", user.name))
                    .into());
            }
            if matches!(user.name.as_str(), "root" | "nobody") || matches!(user.uid, 0 | 65534) {
                return Err(self.at(spanned, format!("user {}: root and nobody are always there", user.name)).into());
            }
            if users.iter().any(|other| other.name == user.name || other.uid == user.uid) {
                return Err(self
                    .at(spanned, format!("user {} stands there twice, or its number does", user.name))
                    .into());
            }
            users.push(User { name: user.name.clone(), uid: user.uid, home, shell });
        }
        match &written.user {
            None => {
                definition.user = NONROOT.into();
                // Somebody else may have the number already.
                users.extend(definition.users.drain(..).filter(|ours| {
                    !written.users.iter().any(|u| u.value.uid == ours.uid || u.value.name == ours.name)
                }));
            }
            Some(user) => {
                let number = |text: &str| text.parse::<u32>().is_ok();
                let known: Vec<&str> =
                    users.iter().map(|user| user.name.as_str()).chain(["root", "nobody", "nonroot"]).collect();
                let name = user.value.split(':').next().unwrap_or_default();
                if !number(name) && !known.contains(&name) {
                    let near = did_you_mean(name, known.iter().copied()).map(|near| format!("did you mean `{near}`?"));
                    let reason = format!("there is no user `{}`", shown(name));
                    let hint = near.unwrap_or_else(|| "add it to `users`, or name a number".into());
                    return Err(self.at(user, reason).hint(hint).into());
                }
                if name == "nonroot" || name == "65532" {
                    users.append(&mut definition.users);
                }
                definition.user.clone_from(&user.value);
            }
        }
        definition.users = users;
        if definition.package_manager {
            // Who apt fetches as.
            let apt =
                User { name: "_apt".into(), uid: 42, home: "/nonexistent".into(), shell: "/usr/sbin/nologin".into() };
            if !definition.users.iter().any(|user| user.name == apt.name || user.uid == apt.uid) {
                definition.users.push(apt);
            }
        }
        Ok(())
    }

    fn files(&self, definition: &mut Definition, contents: &BTreeMap<String, Bytes>) -> Result<()> {
        for spanned in &self.written.files {
            let file = &spanned.value;
            let Some(source) = &file.source else {
                definition.files.push(ExtraFile {
                    path: file.path.clone(),
                    content: file.content.clone(),
                    link: file.link.clone(),
                    mode: file.mode.clone(),
                    owner: file.owner,
                });
                continue;
            };
            let Some(content) = contents.get(&clean(source)) else {
                return Err(self
                    .at(spanned, format!("there is no file {} beside {}", shown(source), self.source.name))
                    .into());
            };
            let mode = file.mode.as_deref().and_then(|mode| u32::from_str_radix(mode, 8).ok()).unwrap_or(0o644);
            definition.copied.push(CopiedFile::new(&file.path, mode, file.owner, content.clone()));
        }
        Ok(())
    }

    fn certificates(&self, definition: &mut Definition, contents: &BTreeMap<String, Bytes>) -> Result<()> {
        let Some(certificates) = &self.written.ca_certificates else { return Ok(()) };
        let WrittenCertificates::Files(files) = &certificates.value else { return Ok(()) };
        for file in files {
            let path = clean(file);
            let Some(content) = contents.get(&path) else {
                return Err(self
                    .at(certificates, format!("there is no file {} beside {}", shown(file), self.source.name))
                    .into());
            };
            let pem = std::str::from_utf8(content).is_ok_and(|text| text.contains("-----BEGIN CERTIFICATE-----"));
            if !pem {
                let reason = format!("{} holds no certificate in PEM", shown(file));
                return Err(self.at(certificates, reason).hint("convert it: openssl x509 -inform der -in FILE").into());
            }
            let name = path.rsplit('/').next().unwrap_or(&path);
            let name = format!("{}.crt", name.rsplit_once('.').map_or(name, |(stem, _)| stem));
            if definition.certificates.iter().any(|other| other.path == name) {
                return Err(self.at(certificates, format!("two certificates are called {name}")).into());
            }
            definition.certificates.push(CopiedFile::new(name, 0o644, 0, content.clone()));
        }
        Ok(())
    }
}

/// A relative path without `./`.
fn clean(path: &str) -> String {
    path.split('/').filter(|part| *part != "." && !part.is_empty()).collect::<Vec<_>>().join("/")
}

fn is_below(path: &str) -> bool {
    !path.starts_with('/') && is_inside(&format!("/{}", clean(path)))
}

fn outside(path: &str) -> String {
    format!("`{}` is not below the directory of base.yaml", shown(path))
}

fn shown(text: &str) -> String {
    text.chars().take(100).collect()
}

/// The place of a value: what is written of it in its first line.
fn span(source: &Source, location: serde_saphyr::Location) -> Span {
    let (line, column) = (location.line() as usize, location.column() as usize);
    let text: &str = &source.text;
    let start = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum::<usize>();
    let rest = text.get(start..).unwrap_or_default().lines().next().unwrap_or_default();
    let from = rest.char_indices().nth(column.saturating_sub(1)).map_or(rest.len(), |(at, _)| at);
    let length = location.span().byte_len().map_or(1, |len| len as usize).max(1);
    let to = (from + length).min(rest.trim_end().len()).max(from + 1);
    Span::new(start + from, start + to)
}

/// What the reader of YAML says, as this program says it.
fn unreadable(source: &Source, error: &serde_saphyr::Error) -> Error {
    use serde_saphyr::Error as Yaml;
    let error = error.without_snippet();
    let location = error.location().unwrap_or(serde_saphyr::Location::UNKNOWN);
    let (reason, hint) = match error {
        Yaml::SerdeUnknownField { field, expected, .. } => {
            let near = did_you_mean(field, expected.iter().copied());
            let hint =
                near.map_or_else(|| format!("there are {}", expected.join(", ")), |n| format!("did you mean `{n}`?"));
            (format!("there is no field `{}`", shown(field)), Some(hint))
        }
        Yaml::SerdeMissingField { field, .. } => (format!("the field `{field}` is missing"), None),
        Yaml::SerdeInvalidType { unexpected, expected, .. } => {
            (format!("{unexpected} stands where {expected} must"), None)
        }
        Yaml::DuplicateMappingKey { key, .. } => (
            format!(
                "the field {} stands here a second time",
                key.as_deref().map_or("here".into(), |key| format!("`{}`", shown(key)))
            ),
            None,
        ),
        other => {
            let text = other.to_string();
            // Without the place, which is shown already.
            let text = text.lines().next().unwrap_or_default();
            let text = text.strip_prefix("error: ").unwrap_or(text);
            (text.split(" at line ").next().unwrap_or(text).to_owned(), None)
        }
    };
    source.diagnostic(span(source, location), reason).maybe_hint(hint).into()
}

#[cfg(test)]
mod tests;
