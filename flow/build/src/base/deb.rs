//! `.deb` files: an `ar` of two tars, read as what they are and never trusted.

use std::io::{Read, Seek, SeekFrom};

use crate::{Error, Result, base::archive::decompressor};

/// Bytes that a package may unpack to, and entries it may have.
const MAX_UNPACKED: u64 = 8 << 30;
const MAX_ENTRIES: usize = 500_000;
const MAX_CONTROL: u64 = 4 << 20;
const MAX_PATH: usize = 4096;

/// What an entry of a package is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DebKind {
    File,
    Directory,
    /// The target as written.
    Symlink(String),
    /// The path, in the package, of the file that it is another name of.
    Hardlink(String),
}

/// An entry of a package's file tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DebEntry {
    /// Relative, without `.` and `..`; never empty.
    pub path: String,
    pub kind: DebKind,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub size: u64,
}

/// The documents of a package about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Control {
    /// The paragraph of the package.
    pub control: String,
    /// MD5 sums of its files, as scanners look for them.
    pub md5sums: Option<String>,
}

/// Where a member of the `ar` lies.
#[derive(Debug, Clone)]
struct Member {
    name: String,
    start: u64,
    size: u64,
}

/// An opened package.
pub struct Deb<R> {
    what: String,
    file: R,
    members: Vec<Member>,
}

impl<R: Read + Seek> Deb<R> {
    /// Reads the table of an `ar`; `what` names the package in errors.
    pub fn open(what: &str, mut file: R) -> Result<Self> {
        let malformed = |reason: &str| Error::malformed(format!("package {what}"), reason);
        let reading = |e: std::io::Error| {
            let short = e.kind() == std::io::ErrorKind::UnexpectedEof;
            malformed(&if short { "is cut off".to_owned() } else { e.to_string() })
        };
        let length = file.seek(SeekFrom::End(0)).map_err(reading)?;
        file.rewind().map_err(reading)?;
        let mut magic = [0; 8];
        file.read_exact(&mut magic).map_err(reading)?;
        if &magic != b"!<arch>\n" {
            return Err(malformed("is no Debian package: it does not start as an ar archive"));
        }
        let mut members = Vec::new();
        let mut at = 8;
        while at < length && members.len() < 16 {
            let mut header = [0; 60];
            file.seek(SeekFrom::Start(at)).map_err(reading)?;
            file.read_exact(&mut header).map_err(reading)?;
            let text = |range: std::ops::Range<usize>| std::str::from_utf8(&header[range]).map(str::trim).ok();
            let (Some(name), Some(Ok(size)), b"`\n") =
                (text(0..16), text(48..58).map(str::parse::<u64>), &header[58..60])
            else {
                return Err(malformed("has a malformed member"));
            };
            let start = at + 60;
            let end = start.checked_add(size).filter(|end| *end <= length).ok_or_else(|| malformed("is cut off"))?;
            members.push(Member { name: name.trim_end_matches('/').to_owned(), start, size });
            at = end + size % 2;
        }
        Ok(Self { what: what.to_owned(), file, members })
    }

    fn malformed(&self, reason: impl Into<String>) -> Error {
        Error::malformed(format!("package {}", self.what), reason)
    }

    fn member(&mut self, prefix: &str) -> Result<(String, std::io::Take<&mut R>)> {
        let found = self.members.iter().find(|member| {
            member.name.strip_prefix(prefix).is_some_and(|rest| matches!(rest, "" | ".xz" | ".gz" | ".zst"))
        });
        let Some(member) = found.cloned() else {
            return Err(self.malformed(format!("has no {prefix} that can be read")));
        };
        self.file
            .seek(SeekFrom::Start(member.start))
            .map_err(|e| Error::malformed(format!("package {}", self.what), e.to_string()))?;
        Ok((member.name, (&mut self.file).take(member.size)))
    }

    /// The documents about the package.
    pub fn control(&mut self) -> Result<Control> {
        let what = format!("package {}", self.what);
        let (name, member) = self.member("control.tar")?;
        let content = decompressor(member, &name)?;
        let mut archive = tar::Archive::new(content.take(MAX_CONTROL));
        let mut control = Control::default();
        let failed = |e: std::io::Error| Error::malformed(&what, format!("its control files cannot be read: {e}"));
        for entry in archive.entries().map_err(failed)? {
            let mut entry = entry.map_err(failed)?;
            let path = entry.path_bytes();
            let name = path.strip_prefix(b"./").unwrap_or(&path).to_vec();
            if !matches!(&name[..], b"control" | b"md5sums") {
                continue;
            }
            let mut text = String::new();
            entry.read_to_string(&mut text).map_err(failed)?;
            if name == b"control" { control.control = text } else { control.md5sums = Some(text) }
        }
        if control.control.trim().is_empty() {
            return Err(Error::malformed(what, "has no control file"));
        }
        Ok(control)
    }

    /// Goes through the file tree in the package's order. `take` reads the content of files it wants.
    pub fn each(&mut self, mut take: impl FnMut(DebEntry, &mut dyn Read) -> Result<()>) -> Result<()> {
        let what = format!("package {}", self.what);
        let (name, member) = self.member("data.tar")?;
        let content = decompressor(member, &name)?;
        let mut archive = tar::Archive::new(content.take(MAX_UNPACKED));
        let failed = |e: std::io::Error| Error::malformed(&what, format!("its files cannot be unpacked: {e}"));
        for (number, entry) in archive.entries().map_err(failed)?.enumerate() {
            let mut entry = entry.map_err(failed)?;
            if number == MAX_ENTRIES {
                return Err(Error::malformed(&what, format!("has more than {MAX_ENTRIES} files")));
            }
            let raw = entry.path_bytes().into_owned();
            let Some(path) = inside(&raw) else {
                let shown = String::from_utf8_lossy(&raw[..raw.len().min(200)]).into_owned();
                return Err(Error::malformed(&what, format!("has the path `{shown}`, which leads out of the image")));
            };
            if path.is_empty() {
                continue;
            }
            let header = entry.header();
            let refused = |reason: &str| Error::malformed(&what, format!("has `{path}`, {reason}"));
            let link = || -> Result<String> {
                let target = entry.link_name_bytes().map(|target| target.into_owned());
                let target = target.and_then(|target| String::from_utf8(target).ok());
                target
                    .filter(|t| !t.is_empty() && !t.contains('\0') && t.len() <= MAX_PATH)
                    .ok_or_else(|| refused("a link to nothing"))
            };
            let kind = match header.entry_type() {
                tar::EntryType::Regular | tar::EntryType::Continuous => DebKind::File,
                tar::EntryType::Directory => DebKind::Directory,
                tar::EntryType::Symlink => DebKind::Symlink(link()?),
                tar::EntryType::Link => {
                    let target = inside(link()?.as_bytes()).filter(|target| !target.is_empty());
                    DebKind::Hardlink(target.ok_or_else(|| refused("a link out of the image"))?)
                }
                _ => return Err(refused("which is no file, link or directory")),
            };
            let number = |value: std::io::Result<u64>| value.ok().and_then(|value| u32::try_from(value).ok());
            let entry_of = DebEntry {
                mode: header.mode().map_err(failed)? & 0o7777,
                uid: number(header.uid()).ok_or_else(|| refused("owned by nobody that there is"))?,
                gid: number(header.gid()).ok_or_else(|| refused("owned by nobody that there is"))?,
                size: if kind == DebKind::File { entry.size() } else { 0 },
                path,
                kind,
            };
            take(entry_of, &mut entry)?;
        }
        Ok(())
    }
}

/// A path below the root: without leading `/` and `./`; `None` when it leads out or cannot be a name.
fn inside(raw: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(raw).ok().filter(|text| text.len() <= MAX_PATH)?;
    let mut parts = Vec::new();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => return None,
            part if part.contains('\0') => return None,
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_below_the_root_are_taken() {
        assert_eq!(inside(b"./usr/bin/x").as_deref(), Some("usr/bin/x"));
        assert_eq!(inside(b"./").as_deref(), Some(""));
        assert_eq!(inside(b"/abs").as_deref(), Some("abs"));
        for bad in [&b"../x"[..], b"usr/../../x", b"a/..", b"a\0b", b"\xff"] {
            assert_eq!(inside(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn what_is_no_package_is_an_error() {
        for bad in [&b""[..], b"!<arch>", b"!<arch>\nshort", b"PK\x03\x04aaaaaaaa"] {
            assert!(Deb::open("x", std::io::Cursor::new(bad)).is_err());
        }
        let mut member = b"!<arch>\n".to_vec();
        member.extend(format!("{:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", "data.tar", 0, 0, 0, 644, 9999).as_bytes());
        let error = Deb::open("x", std::io::Cursor::new(member)).err().unwrap().to_string();
        assert_eq!(error, "package x: is cut off");
    }

    proptest::proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
            let mut whole = b"!<arch>\n".to_vec();
            whole.extend(bytes);
            if let Ok(mut deb) = Deb::open("x", std::io::Cursor::new(whole)) {
                let _ = deb.control();
                let _ = deb.each(|_, _| Ok(()));
            }
        }
    }
}
