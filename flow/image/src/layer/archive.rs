//! Tar archives entry by entry: POSIX ustar and PAX, and GNU long names.
//!
//! Headers are read with the `tar` crate; what stands around them is our own, because that crate reads extension headers of any length
//! into memory and splits PAX records at newlines, which binary attributes contain.

use std::{
    collections::BTreeMap,
    io::{self, Read},
};

use tar::{EntryType, Header};

use super::entry::shown;
pub use super::entry::{Entry, EntryKind};
use crate::{Error, Kind, Result};

const BLOCK: usize = 512;
/// The longest extension header that is taken.
const MAX_EXTENSION: u64 = 1 << 20;
const ATTRIBUTE: &str = "SCHILY.xattr.";

/// Reads a tar.
pub struct Tar<R> {
    inner: R,
    /// Bytes of the current entry's content that have not been read, and of the padding behind it.
    rest: u64,
    padding: u64,
}

impl<R: Read> Tar<R> {
    pub fn new(inner: R) -> Self {
        Self { inner, rest: 0, padding: 0 }
    }

    pub fn into_inner(self) -> R {
        self.inner
    }

    /// The next entry; what was not read of the last one's content is skipped.
    pub fn next(&mut self) -> Result<Option<Entry>> {
        let mut long_name = None;
        let mut long_link = None;
        let mut pax: Option<Pax> = None;
        loop {
            self.skip()?;
            let Some(header) = self.header()? else {
                if long_name.is_some() || long_link.is_some() || pax.is_some() {
                    return Err(malformed("it ends after an extension header"));
                }
                return Ok(None);
            };
            let kind = header.entry_type();
            let size = header.entry_size().map_err(|e| malformed(format!("a size is no number: {e}")))?;
            self.expect(size)?;
            match kind {
                EntryType::GNULongName => long_name = Some(name(self.extension(size)?)),
                EntryType::GNULongLink => long_link = Some(name(self.extension(size)?)),
                EntryType::XHeader => pax = Some(Pax::parse(&self.extension(size)?)?),
                // Comments and defaults of archives such as git's; nothing in them concerns a layer.
                EntryType::XGlobalHeader => drop(self.extension(size)?),
                _ => return self.entry(&header, long_name, long_link, pax.unwrap_or_default()).map(Some),
            }
        }
    }

    /// Reads from the content of the current entry.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(usize::try_from(self.rest).unwrap_or(usize::MAX));
        if most == 0 {
            return Ok(0);
        }
        match self.inner.read(&mut buffer[..most])? {
            0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive ends in the middle of a file")),
            read => {
                self.rest -= read as u64;
                Ok(read)
            }
        }
    }

    fn expect(&mut self, size: u64) -> Result<()> {
        self.rest = size;
        self.padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
        size.checked_add(BLOCK as u64).map(drop).ok_or_else(|| malformed("a size is too large"))
    }

    fn skip(&mut self) -> Result<()> {
        let length = self.rest + self.padding;
        (self.rest, self.padding) = (0, 0);
        let skipped = io::copy(&mut (&mut self.inner).take(length), &mut io::sink());
        match skipped {
            Ok(skipped) if skipped == length => Ok(()),
            Ok(_) => Err(malformed("it ends in the middle of a file")),
            Err(e) => Err(reading(e)),
        }
    }

    /// The next header block, or `None` at the end of the archive.
    fn header(&mut self) -> Result<Option<Header>> {
        let mut header = Header::new_old();
        let block = header.as_mut_bytes();
        let mut filled = 0;
        while filled < BLOCK {
            match self.inner.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(malformed("it ends in the middle of a header")),
                Ok(read) => filled += read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(reading(e)),
            }
        }
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let sum: u32 = block[..148].iter().chain(&block[156..]).map(|byte| u32::from(*byte)).sum::<u32>() + 8 * 32;
        match header.cksum() {
            Ok(found) if found == sum => Ok(Some(header)),
            _ => Err(malformed("a header has a wrong checksum: it is damaged, or no tar archive")),
        }
    }

    fn extension(&mut self, size: u64) -> Result<Vec<u8>> {
        if size > MAX_EXTENSION {
            return Err(malformed(format!("an extension header has {size} bytes, more than {MAX_EXTENSION}")));
        }
        let mut content = vec![0; size as usize];
        self.inner.read_exact(&mut content).map_err(reading)?;
        self.rest = 0;
        Ok(content)
    }

    fn entry(
        &mut self,
        header: &Header,
        long_name: Option<Vec<u8>>,
        long_link: Option<Vec<u8>>,
        pax: Pax,
    ) -> Result<Entry> {
        let path = pax.path.or(long_name).unwrap_or_else(|| header.path_bytes().into_owned());
        let bad = |what: &str| malformed(format!("entry `{}` has {what}", shown(&path)));
        if pax.sparse || header.entry_type() == EntryType::GNUSparse {
            return Err(bad("the form of a sparse file, which layers cannot have: write it with all its bytes"));
        }
        let size = match pax.size {
            Some(size) => size,
            None => header.entry_size().map_err(|_| bad("a size that is no number"))?,
        };
        let link = || {
            let target = pax.linkpath.clone().or(long_link.clone());
            target
                .or_else(|| header.link_name_bytes().map(|target| target.into_owned()))
                .filter(|target| !target.is_empty())
                .ok_or_else(|| bad("no link target"))
        };
        let device = || {
            let number = |part: io::Result<Option<u32>>| part.ok().flatten().ok_or_else(|| bad("no device number"));
            Ok::<_, Error>((number(header.device_major())?, number(header.device_minor())?))
        };
        let kind = match header.entry_type() {
            // Archives older than ustar mark directories by their names.
            EntryType::Regular if path.ends_with(b"/") => EntryKind::Directory,
            EntryType::Regular | EntryType::Continuous => EntryKind::File,
            EntryType::Directory => EntryKind::Directory,
            EntryType::Symlink => EntryKind::Symlink(link()?),
            EntryType::Link => EntryKind::Hardlink(link()?),
            EntryType::Char => device().map(|(major, minor)| EntryKind::Character(major, minor))?,
            EntryType::Block => device().map(|(major, minor)| EntryKind::Block(major, minor))?,
            EntryType::Fifo => EntryKind::Fifo,
            other => return Err(bad(&format!("an unknown type (`{}`)", char::from(other.as_byte()).escape_default()))),
        };
        // Only files have content, whatever the header of another kind says; it is skipped.
        self.expect(size)?;
        let fields = header.as_old();
        // Some writers leave fields blank that they have nothing for.
        let blank = |field: &[u8]| field.iter().all(|byte| matches!(byte, 0 | b' '));
        let id = |given: Option<u64>, field: &[u8], header: io::Result<u64>| {
            let header = if blank(field) { Ok(0) } else { header };
            let value = given.map_or(header, Ok).map_err(|_| bad("an owner that is no number"))?;
            u32::try_from(value).map_err(|_| bad("an owner that is too large"))
        };
        let mode =
            if blank(&fields.mode) { 0o644 } else { header.mode().map_err(|_| bad("a mode that is no number"))? };
        let mtime = match pax.mtime {
            Some(mtime) => mtime,
            None => header.mtime().ok().and_then(|seconds| i64::try_from(seconds).ok()).unwrap_or(0),
        };
        Ok(Entry {
            size: if kind == EntryKind::File { size } else { 0 },
            kind,
            mode: mode & 0o7777,
            uid: id(pax.uid, &fields.uid, header.uid())?,
            gid: id(pax.gid, &fields.gid, header.gid())?,
            mtime,
            xattrs: pax.xattrs,
            path,
        })
    }
}

/// A name of GNU's: up to its first zero byte.
fn name(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
        bytes.truncate(end);
    }
    bytes
}

/// The records of a PAX header that concern a layer.
#[derive(Default)]
struct Pax {
    path: Option<Vec<u8>>,
    linkpath: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<i64>,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    sparse: bool,
}

impl Pax {
    fn parse(mut bytes: &[u8]) -> Result<Self> {
        let broken = || malformed("a PAX header is broken");
        let mut pax = Self::default();
        while !bytes.is_empty() && bytes != b"\0" {
            let space = bytes.iter().position(|byte| *byte == b' ').ok_or_else(broken)?;
            let length: usize =
                std::str::from_utf8(&bytes[..space]).ok().and_then(|text| text.parse().ok()).ok_or_else(broken)?;
            if length <= space + 2 || length > bytes.len() || bytes[length - 1] != b'\n' {
                return Err(broken());
            }
            let record = &bytes[space + 1..length - 1];
            bytes = &bytes[length..];
            let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(broken)?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            let number =
                || std::str::from_utf8(value).ok().and_then(|text| text.parse::<u64>().ok()).ok_or_else(broken);
            match key {
                b"path" => pax.path = Some(value.to_vec()),
                b"linkpath" => pax.linkpath = Some(value.to_vec()),
                b"size" => pax.size = Some(number()?),
                b"uid" => pax.uid = Some(number()?),
                b"gid" => pax.gid = Some(number()?),
                b"mtime" => pax.mtime = Some(seconds(value).ok_or_else(broken)?),
                _ if key.starts_with(b"GNU.sparse.") => pax.sparse = true,
                _ => {
                    if let Some(name) = key.strip_prefix(ATTRIBUTE.as_bytes()) {
                        pax.xattrs.insert(name.to_vec(), value.to_vec());
                    }
                }
            }
        }
        Ok(pax)
    }
}

/// Whole seconds of a decimal number, rounded down.
fn seconds(value: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(value).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    let below = whole.starts_with('-') && fraction.bytes().any(|byte| byte != b'0');
    seconds.checked_sub(i64::from(below))
}

/// The header blocks of an entry: ustar, with a PAX header before it where that has no room. Without times of access or names of users.
pub fn encode(entry: &Entry) -> Vec<u8> {
    let mut records = Vec::new();
    let mut header = Header::new_ustar();
    let mut link: &[u8] = &[];
    let (kind, device) = match &entry.kind {
        EntryKind::File => (EntryType::Regular, None),
        EntryKind::Directory => (EntryType::Directory, None),
        EntryKind::Symlink(target) => {
            link = target;
            (EntryType::Symlink, None)
        }
        EntryKind::Hardlink(target) => {
            link = target;
            (EntryType::Link, None)
        }
        EntryKind::Character(major, minor) => (EntryType::Char, Some((*major, *minor))),
        EntryKind::Block(major, minor) => (EntryType::Block, Some((*major, *minor))),
        EntryKind::Fifo => (EntryType::Fifo, None),
    };
    header.set_entry_type(kind);
    header.set_mode(entry.mode);
    if let Some((major, minor)) = device {
        // A ustar header has these fields.
        let _ = header.set_device_major(major);
        let _ = header.set_device_minor(minor);
    }
    let octal = |value: u64, digits: u32, key: &str, records: &mut Vec<u8>| {
        if value < 1 << (3 * digits) {
            return value;
        }
        record(records, key.as_bytes(), value.to_string().as_bytes());
        0
    };
    {
        // The header was made as ustar.
        let Some(fields) = header.as_ustar_mut() else { return Vec::new() };
        for (field, text, key) in
            [(&mut fields.name, &entry.path[..], "path"), (&mut fields.linkname, link, "linkpath")]
        {
            if text.len() > field.len() {
                record(&mut records, key.as_bytes(), text);
            }
            let length = text.len().min(field.len());
            field[..length].copy_from_slice(&text[..length]);
        }
    }
    header.set_size(octal(entry.size, 11, "size", &mut records));
    header.set_uid(octal(u64::from(entry.uid), 7, "uid", &mut records));
    header.set_gid(octal(u64::from(entry.gid), 7, "gid", &mut records));
    match u64::try_from(entry.mtime) {
        Ok(mtime) => header.set_mtime(octal(mtime, 11, "mtime", &mut records)),
        Err(_) => {
            record(&mut records, b"mtime", entry.mtime.to_string().as_bytes());
            header.set_mtime(0);
        }
    }
    for (name, value) in &entry.xattrs {
        record(&mut records, &[ATTRIBUTE.as_bytes(), name].concat(), value);
    }
    header.set_cksum();
    let mut out = Vec::with_capacity(3 * BLOCK);
    if !records.is_empty() {
        let mut extension = Header::new_ustar();
        if let Some(fields) = extension.as_ustar_mut() {
            fields.name[..12].copy_from_slice(b"PaxHeaders.0");
        }
        extension.set_entry_type(EntryType::XHeader);
        extension.set_mode(0o644);
        extension.set_uid(0);
        extension.set_gid(0);
        extension.set_mtime(0);
        extension.set_size(records.len() as u64);
        extension.set_cksum();
        out.extend_from_slice(extension.as_bytes());
        out.extend_from_slice(&records);
        out.resize(out.len().next_multiple_of(BLOCK), 0);
    }
    out.extend_from_slice(header.as_bytes());
    out
}

/// A PAX record: its own length in decimal, a space, key, `=`, value, newline.
fn record(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    out.extend_from_slice(length.to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

fn malformed(why: impl std::fmt::Display) -> Error {
    Error::new(Kind::Malformed, format!("the archive cannot be read: {why}"))
}

fn reading(error: io::Error) -> Error {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return malformed("it ends too early").caused(error);
    }
    // Decompressors report damage as invalid data.
    match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::Other => {
            malformed(format!("it is damaged ({error})")).caused(error)
        }
        _ => Error::io("read the archive", error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(path: &str) -> Entry {
        Entry {
            path: path.into(),
            kind: EntryKind::File,
            size: 0,
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: 0,
            xattrs: BTreeMap::new(),
        }
    }

    fn back(entry: &Entry) -> Entry {
        let mut bytes = encode(entry);
        bytes.resize(bytes.len() + (entry.size as usize).next_multiple_of(BLOCK), 7);
        let mut tar = Tar::new(&bytes[..]);
        let read = tar.next().unwrap().unwrap();
        assert_eq!(tar.next().unwrap(), None);
        read
    }

    proptest! {
        #[test]
        fn entries_survive_a_round_trip(
            path in "[a-zé/.]{1,300}",
            link in proptest::option::of("[a-z/.]{1,300}"),
            mode in 0u32..0o10000, uid: u32, gid: u32,
            mtime in -100_000_000_000i64..100_000_000_000,
            xattrs in proptest::collection::btree_map("user\\.[a-z]{1,8}".prop_map(String::into_bytes), proptest::collection::vec(any::<u8>(), 0..40), 0..3),
        ) {
            let mut wanted = entry(&path);
            wanted.kind = match link {
                Some(link) => EntryKind::Symlink(link.into()),
                None if path.ends_with('/') => EntryKind::Directory,
                None => EntryKind::File,
            };
            (wanted.mode, wanted.uid, wanted.gid, wanted.mtime, wanted.xattrs) = (mode, uid, gid, mtime, xattrs);
            prop_assert_eq!(back(&wanted), wanted);
        }

        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let mut tar = Tar::new(&bytes[..]);
            while let Ok(Some(_)) = tar.next() {}
        }

        #[test]
        fn never_panics_on_pax(bytes in "([0-9]{1,3} [a-z.]{0,6}=?[a-z\n]{0,9}\n?){0,4}") {
            let _ = Pax::parse(bytes.as_bytes());
        }
    }

    #[test]
    fn attributes_may_contain_newlines() {
        let mut wanted = entry("bin/ping");
        wanted.xattrs.insert(b"security.capability".to_vec(), b"\x01\0\0\x02\n12 x=y\n\0".to_vec());
        assert_eq!(back(&wanted), wanted);
    }

    #[test]
    fn huge_files_announce_their_size_in_pax() {
        let mut big = entry("big");
        big.size = 20 << 30;
        let bytes = encode(&big);
        let mut tar = Tar::new(&bytes[..]);
        assert_eq!(tar.next().unwrap().unwrap().size, 20 << 30);
    }

    #[test]
    fn long_extension_headers_are_refused() {
        for kind in [EntryType::GNULongName, EntryType::XHeader, EntryType::XGlobalHeader] {
            let mut header = Header::new_gnu();
            header.set_entry_type(kind);
            header.set_size(MAX_EXTENSION + 1);
            header.set_cksum();
            let error = Tar::new(&header.as_bytes()[..]).next().unwrap_err();
            assert_eq!(error.kind, Kind::Malformed);
            assert!(error.message.contains("extension header"), "{error}");
        }
    }

    #[test]
    fn reads_what_the_tar_crate_writes() {
        let mut builder = tar::Builder::new(Vec::new());
        let long = "d/".repeat(90) + "file";
        let mut header = Header::new_gnu();
        header.set_size(3);
        header.set_mode(0o755);
        builder.append_data(&mut header, &long, &b"abc"[..]).unwrap();
        let bytes = builder.into_inner().unwrap();
        let mut tar = Tar::new(&bytes[..]);
        let found = tar.next().unwrap().unwrap();
        assert_eq!((found.path, found.size, found.mode), (long.into_bytes(), 3, 0o755));
        let mut content = [0; 10];
        assert_eq!(tar.read(&mut content).unwrap(), 3);
        assert_eq!(tar.read(&mut content).unwrap(), 0);
        assert_eq!(tar.next().unwrap(), None);
    }
}
