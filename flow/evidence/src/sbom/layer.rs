//! Reads a layer once, front to back, and keeps what speaks of packages.

use std::{
    cell::Cell,
    collections::BTreeMap,
    io::{self, BufReader, Read},
    rc::Rc,
};

use tar::EntryType;

use super::{
    copyright, dpkg,
    facts::{Fact, LayerFacts},
    listed, npm, os_release,
};
use crate::error::{Error, Kind, Result};

/// What one layer may cost.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes after decompression.
    pub uncompressed: u64,
    /// Entries of the archive.
    pub entries: u64,
    /// Files that are kept.
    pub facts: usize,
    /// Whiteouts and replaced paths that are kept.
    pub removals: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { uncompressed: 32 << 30, entries: 4_000_000, facts: 200_000, removals: 200_000 }
    }
}

/// Extended headers (long names) between two entries may not be larger than this.
const HEADERS: u64 = 1 << 20;

/// Reads a layer: a tar archive, plain or compressed with gzip or zstd (told by its first bytes).
pub fn read(layer: impl Read, limits: Limits) -> Result<LayerFacts> {
    let mut layer = BufReader::with_capacity(64 << 10, layer);
    let mut magic = [0u8; 4];
    let mut have = 0;
    while have < 4 {
        match layer.read(&mut magic[have..]).map_err(unreadable)? {
            0 => break,
            n => have += n,
        }
    }
    let whole = io::Cursor::new(magic).take(have as u64).chain(layer);
    match magic {
        [0x1f, 0x8b, ..] => read_tar(flate2::bufread::MultiGzDecoder::new(BufReader::new(whole)), limits),
        [0x28, 0xb5, 0x2f, 0xfd] => {
            let mut decoder = zstd::Decoder::new(whole).map_err(unreadable)?;
            decoder.window_log_max(27).map_err(unreadable)?;
            read_tar(decoder, limits)
        }
        _ => read_tar(whole, limits),
    }
}

fn unreadable(error: io::Error) -> Error {
    Error::invalid(format!("the layer is not a readable tar archive: {error}")).caused(error)
}

/// Stops at a number of bytes in all, and at a number of bytes of headers.
struct Bounded<R> {
    inner: R,
    left: Rc<Cell<u64>>,
    headers: Rc<Cell<Option<u64>>>,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        let over = |what: &str| io::Error::new(io::ErrorKind::FileTooLarge, what.to_owned());
        match self.left.get().checked_sub(n as u64) {
            Some(left) => self.left.set(left),
            None => return Err(over("it unpacks to more than is allowed")),
        }
        if let Some(headers) = self.headers.get() {
            match headers.checked_sub(n as u64) {
                Some(left) => self.headers.set(Some(left)),
                None => return Err(over("it has a file name or extended header of more than 1 MiB")),
            }
        }
        Ok(n)
    }
}

fn read_tar(tar: impl Read, limits: Limits) -> Result<LayerFacts> {
    let left = Rc::new(Cell::new(limits.uncompressed));
    let headers = Rc::new(Cell::new(Some(HEADERS)));
    let mut archive = tar::Archive::new(Bounded { inner: tar, left, headers: headers.clone() });
    let mut facts = LayerFacts::default();
    let mut count = 0u64;
    for entry in archive.entries().map_err(unreadable)? {
        let mut entry = entry.map_err(unreadable)?;
        headers.set(None);
        count += 1;
        if count > limits.entries
            || facts.files.len() > limits.facts
            || facts.hides.len() + facts.opaque.len() > limits.removals
        {
            return Err(Error::new(Kind::TooLarge, "the layer has more files than an image may have"));
        }
        if let Some(path) = normal(&entry.path_bytes()) {
            take(&mut facts, path, &mut entry)?;
        }
        // Whatever was not read is skipped here, so that what is read next can only be headers.
        io::copy(&mut entry, &mut io::sink()).map_err(unreadable)?;
        headers.set(Some(HEADERS));
    }
    Ok(facts)
}

fn take<R: Read>(facts: &mut LayerFacts, path: String, entry: &mut tar::Entry<'_, R>) -> Result<()> {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", &path));
    if name == ".wh..wh..opq" {
        facts.opaque.push(folder.to_owned());
        return Ok(());
    }
    if let Some(hidden) = name.strip_prefix(".wh.") {
        facts.hides.push(join(folder, hidden));
        return Ok(());
    }
    match entry.header().entry_type() {
        EntryType::Directory => return Ok(()),
        EntryType::Symlink => {
            let target = entry.link_name_bytes().and_then(|target| resolve(folder, &target));
            if is_link_kept(&path) {
                facts.hides.push(path.clone());
                if let Some(target) = target {
                    facts.files.insert(path, Fact::Link(target));
                }
            }
            return Ok(());
        }
        EntryType::Link => {
            let same = entry.link_name_bytes().and_then(|target| normal(&target));
            if let Some(fact) = same.and_then(|target| facts.files.get(&target).cloned()) {
                facts.files.insert(path, fact);
            }
            return Ok(());
        }
        _ => {}
    }
    let kind = Interest::of(&path);
    if matches!(kind, Interest::None) {
        if is_ancestor(&path) {
            facts.hides.push(path);
        }
        return Ok(());
    }
    let fact = match kind {
        Interest::None => None,
        Interest::OsRelease => os_release::parse(&text(entry, &path, 64 << 10)?).map(Fact::OsRelease),
        Interest::Status => Some(Fact::Debian(dpkg::parse(&text(entry, &path, 64 << 20)?, true)?)),
        Interest::StatusFile => Some(Fact::Debian(dpkg::parse(&text(entry, &path, 4 << 20)?, false)?)),
        Interest::Copyright => Some(Fact::Copyright(copyright::parse(&beginning(entry, 1 << 20)?))),
        Interest::Npm => npm::manifest(&beginning(entry, 1 << 20)?).map(Fact::Npm),
        Interest::Listed => listed::parse(&text(entry, &path, listed::LIMIT)?).map(Fact::Listed),
        Interest::NpmLock => npm::lock(&text(entry, &path, 64 << 20)?).map(Fact::NpmLock),
    };
    match fact {
        Some(fact) => drop(facts.files.insert(path, fact)),
        None => facts.hides.push(path),
    }
    Ok(())
}

/// The files that matter.
enum Interest {
    None,
    OsRelease,
    Status,
    StatusFile,
    Copyright,
    Npm,
    NpmLock,
    Listed,
}

impl Interest {
    fn of(path: &str) -> Self {
        match path {
            "etc/os-release" | "usr/lib/os-release" => return Self::OsRelease,
            "var/lib/dpkg/status" => return Self::Status,
            _ => {}
        }
        if let Some(name) = path.strip_prefix("var/lib/dpkg/status.d/") {
            // Beside each file distroless images have `<name>.md5sums`.
            return if name.contains('/') || name.ends_with(".md5sums") { Self::None } else { Self::StatusFile };
        }
        if let Some(name) = path.strip_prefix("usr/share/doc/").and_then(|rest| rest.strip_suffix("/copyright")) {
            return if name.contains('/') { Self::None } else { Self::Copyright };
        }
        if path.ends_with("package-lock.json") && npm::is_lock(path) {
            return Self::NpmLock;
        }
        if path.ends_with("package.json") && npm::is_manifest(path) {
            return Self::Npm;
        }
        if listed::is_list(path) {
            return Self::Listed;
        }
        Self::None
    }
}

/// Links in these places lead to what is described elsewhere.
fn is_link_kept(path: &str) -> bool {
    let doc =
        path.strip_prefix("usr/share/doc/").is_some_and(|rest| !rest.contains('/') || rest.ends_with("/copyright"));
    doc || path == "etc/os-release"
        || path == "var/lib/dpkg/status"
        || npm::is_package_folder(path)
        || is_ancestor(path)
}

/// Whether a file at `path` would take the place of a directory in which files that matter may lie.
fn is_ancestor(path: &str) -> bool {
    const ABOVE: [&str; 9] = [
        "etc",
        "usr",
        "usr/lib",
        "usr/share",
        "usr/share/doc",
        "var",
        "var/lib",
        "var/lib/dpkg",
        "var/lib/dpkg/status.d",
    ];
    ABOVE.contains(&path)
        || path.strip_prefix("usr/share/doc/").is_some_and(|rest| !rest.contains('/'))
        || npm::is_package_folder(path)
}

fn text<R: Read>(entry: &mut tar::Entry<'_, R>, path: &str, limit: u64) -> Result<String> {
    let mut bytes = Vec::new();
    entry.take(limit + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > limit {
        return Err(Error::new(Kind::TooLarge, format!("/{path} has more than {limit} bytes")));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// For files of which the beginning says enough.
fn beginning<R: Read>(entry: &mut tar::Entry<'_, R>, limit: u64) -> Result<String> {
    let mut bytes = Vec::new();
    entry.take(limit).read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

/// A path of an archive without `/` and `.` at its beginning; `None` for one that leads elsewhere.
fn normal(path: &[u8]) -> Option<String> {
    let path = std::str::from_utf8(path).ok()?;
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => return None,
            part => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

/// Where a link in `folder` leads, if it stays inside.
fn resolve(folder: &str, target: &[u8]) -> Option<String> {
    let target = std::str::from_utf8(target).ok()?;
    let mut parts: Vec<&str> = if target.starts_with('/') { Vec::new() } else { folder.split('/').collect() };
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

/// The layers of an image put on each other, lowest first: what is left of the facts, by path.
pub fn overlay<'a>(layers: impl IntoIterator<Item = &'a LayerFacts>) -> BTreeMap<&'a str, &'a Fact> {
    let mut files: BTreeMap<&str, &Fact> = BTreeMap::new();
    for layer in layers {
        for path in &layer.hides {
            files.remove(path.as_str());
            remove_below(&mut files, path);
        }
        for folder in &layer.opaque {
            remove_below(&mut files, folder);
        }
        files.extend(layer.files.iter().map(|(path, fact)| (path.as_str(), fact)));
    }
    files
}

fn remove_below(files: &mut BTreeMap<&str, &Fact>, folder: &str) {
    if folder.is_empty() {
        return files.clear();
    }
    let first = format!("{folder}/");
    // `0` is the character after `/`.
    let after = format!("{folder}0");
    let below: Vec<&str> = files.range(first.as_str()..after.as_str()).map(|(path, _)| *path).collect();
    for path in below {
        files.remove(path);
    }
}
