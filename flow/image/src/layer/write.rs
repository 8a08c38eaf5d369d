//! A directory as a layer tar.

use std::{
    collections::{BTreeMap, HashMap},
    ffi::OsStr,
    fs::{self, File},
    io::{self, Write},
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        fs::{FileTypeExt, MetadataExt},
    },
    path::Path,
};

use records::Digest;

use super::{
    Compression, OPAQUE, WHITEOUT,
    compress::Writer,
    entry::{Entry, EntryKind, shown},
    is_whiteout,
};
use crate::{
    Error, Kind, Result,
    hash::{Algorithm, Hasher},
    holes::{self, Part},
};

/// How a layer is written.
#[derive(Debug, Clone, Default)]
pub struct WriteOptions {
    pub compression: Compression,
    /// The compression level; the compression's own default if `None`.
    pub level: Option<i32>,
    /// Modification times after this, in seconds since 1970, become this (`SOURCE_DATE_EPOCH`). `None` keeps them.
    pub epoch: Option<i64>,
}

/// A layer that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Digest and bytes of what was written, that is compressed.
    pub digest: Digest,
    pub size: u64,
    /// Digest and bytes of the tar in it.
    pub diff_id: Digest,
    pub tar_size: u64,
    pub entries: u64,
    pub media_type: &'static str,
}

/// Writes the tree below `directory` (not the directory itself) as a layer. On overlayfs this is the upper directory, with whiteouts as
/// overlayfs keeps them. Entries come in the byte order of their paths, without user names; sockets are left out.
///
/// `EntryRefused` when the tree has something that a layer cannot say: a name that starts with `.wh.`, or a directory that overlayfs
/// renamed in place (mount with `redirect_dir=off,metacopy=off`).
pub fn write(directory: &Path, options: &WriteOptions, out: impl Write) -> Result<Written> {
    let compressed = Counted::new(out);
    let writer = Writer::new(compressed, options.compression, options.level);
    let mut walk = Walk { tar: Counted::new(writer), epoch: options.epoch, links: HashMap::new(), entries: 0 };
    walk.directory(directory, &mut Vec::new(), 0)?;
    // Two empty blocks end a tar.
    walk.emit(&[0; 1024], "its end")?;
    let entries = walk.entries;
    let (diff_id, tar_size, writer) = walk.tar.finish();
    let mut compressed = writer.finish().map_err(|e| Error::io("finish the layer", e))?;
    compressed.flush().map_err(|e| Error::io("finish the layer", e))?;
    let (digest, size, _) = compressed.finish();
    Ok(Written { digest, size, diff_id, tar_size, entries, media_type: options.compression.media_type() })
}

/// Deeper trees than this are refused, so that walking one cannot use up the stack.
const MAX_DEPTH: usize = 512;

struct Walk<W: Write> {
    tar: Counted<W>,
    epoch: Option<i64>,
    /// The first path of every file with several names.
    links: HashMap<(u64, u64), Vec<u8>>,
    entries: u64,
}

impl<W: Write> Walk<W> {
    /// Writes the contents of a directory. `path` is its path in the layer, empty or ending in `/`.
    fn directory(&mut self, directory: &Path, path: &mut Vec<u8>, depth: usize) -> Result<()> {
        if depth > MAX_DEPTH {
            return Err(refused(path, &format!("is nested deeper than {MAX_DEPTH} directories")));
        }
        let reading = |e| Error::io(format!("read {}", directory.display()), e);
        let mut names = Vec::new();
        for entry in fs::read_dir(directory).map_err(reading)? {
            names.push(entry.map_err(reading)?.file_name());
        }
        names.sort_unstable_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
        let parent = path.len();
        for name in names {
            path.extend_from_slice(name.as_bytes());
            self.one(&directory.join(&name), &name, path, depth)?;
            path.truncate(parent);
        }
        Ok(())
    }

    fn one(&mut self, file: &Path, name: &OsStr, path: &mut Vec<u8>, depth: usize) -> Result<()> {
        let reading = |e| Error::io(format!("read {}", file.display()), e);
        let metadata = fs::symlink_metadata(file).map_err(reading)?;
        let kind = metadata.file_type();
        if is_whiteout(file, &metadata) {
            let front = path.len() - name.len();
            let mut marker = path[..front].to_vec();
            marker.extend_from_slice(WHITEOUT.as_bytes());
            marker.extend_from_slice(name.as_bytes());
            return self.marker(marker);
        }
        if name.as_bytes().starts_with(WHITEOUT.as_bytes()) {
            return Err(refused(path, "has a name that stands for a deletion in layers; rename it"));
        }
        if kind.is_socket() {
            tracing::debug!(path = shown(path), "sockets are left out of layers");
            return Ok(());
        }
        let mtime = self.epoch.map_or(metadata.mtime(), |epoch| metadata.mtime().min(epoch));
        let device = || (libc_major(metadata.rdev()), libc_minor(metadata.rdev()));
        let entry_kind = if kind.is_dir() {
            EntryKind::Directory
        } else if kind.is_symlink() {
            EntryKind::Symlink(fs::read_link(file).map_err(reading)?.into_os_string().into_vec())
        } else if kind.is_char_device() {
            EntryKind::Character(device().0, device().1)
        } else if kind.is_block_device() {
            EntryKind::Block(device().0, device().1)
        } else if kind.is_fifo() {
            EntryKind::Fifo
        } else {
            EntryKind::File
        };
        let mut entry = Entry {
            path: path.clone(),
            kind: entry_kind,
            size: 0,
            mode: metadata.mode() & 0o7777,
            uid: metadata.uid(),
            gid: metadata.gid(),
            mtime,
            xattrs: BTreeMap::new(),
        };
        if kind.is_dir() {
            return self.subdirectory(file, entry, path, depth);
        }
        if metadata.nlink() > 1 {
            let identity = (metadata.dev(), metadata.ino());
            if let Some(first) = self.links.get(&identity) {
                entry.kind = EntryKind::Hardlink(first.clone());
                return self.header(&entry);
            }
            self.links.insert(identity, path.clone());
        }
        if kind.is_file() {
            let (attributes, overlay) = attributes(file)?;
            if overlay.metacopy {
                return Err(refused(path, "has only its metadata in this layer; mount overlayfs with metacopy=off"));
            }
            entry.xattrs = attributes;
            entry.size = metadata.len();
            return self.file(file, &entry);
        }
        self.header(&entry)
    }

    fn subdirectory(&mut self, file: &Path, mut entry: Entry, path: &mut Vec<u8>, depth: usize) -> Result<()> {
        let (attributes, overlay) = attributes(file)?;
        if overlay.redirect {
            return Err(refused(path, "was renamed within overlayfs; mount it with redirect_dir=off"));
        }
        entry.xattrs = attributes;
        entry.path.push(b'/');
        path.push(b'/');
        self.header(&entry)?;
        if overlay.opaque {
            let mut marker = path.clone();
            marker.extend_from_slice(OPAQUE.as_bytes());
            self.marker(marker)?;
        }
        self.directory(file, path, depth + 1)
    }

    /// An empty file that stands for a deletion.
    fn marker(&mut self, path: Vec<u8>) -> Result<()> {
        let mtime = self.epoch.unwrap_or(0).max(0);
        let xattrs = BTreeMap::new();
        self.header(&Entry { path, kind: EntryKind::File, size: 0, mode: 0, uid: 0, gid: 0, mtime, xattrs })
    }

    fn header(&mut self, entry: &Entry) -> Result<()> {
        self.entries += 1;
        let header = super::archive::encode(entry);
        self.emit(&header, &shown(&entry.path))
    }

    fn file(&mut self, file: &Path, entry: &Entry) -> Result<()> {
        self.header(entry)?;
        let what = shown(&entry.path);
        let mut content = File::open(file).map_err(|e| Error::io(format!("read {}", file.display()), e))?;
        let mut buffer = vec![0; (128 << 10).min(entry.size.max(1) as usize)];
        let mut rest = entry.size;
        let mut failed = None;
        let read = holes::read(&mut content, &mut buffer, |part| {
            // What was written behind the size that its header names is not taken.
            if rest == 0 {
                return Err(io::Error::other("it has grown"));
            }
            let part = match part {
                Part::Data(data) => Part::Data(&data[..data.len().min(usize::try_from(rest).unwrap_or(usize::MAX))]),
                Part::Hole(length) => Part::Hole(length.min(rest)),
            };
            let taken = part.each(|bytes| {
                rest -= bytes.len() as u64;
                self.emit(bytes, &what)
            });
            taken.map_err(|error| {
                failed = Some(error);
                io::Error::other("it cannot be written")
            })
        });
        match (failed, read) {
            (Some(error), _) => return Err(error),
            (None, Err(error)) if rest > 0 && error.kind() != io::ErrorKind::UnexpectedEof => {
                return Err(Error::io(format!("read {}", file.display()), error));
            }
            (None, _) if rest > 0 => return Err(refused(&entry.path, "became shorter while it was read")),
            (None, _) => {}
        }
        let padding = (512 - entry.size % 512) % 512;
        self.emit(&[0; 512][..padding as usize], &what)
    }

    fn emit(&mut self, bytes: &[u8], what: &str) -> Result<()> {
        self.tar.write_all(bytes).map_err(|e| Error::io(format!("write {what} into the layer"), e))
    }
}

/// Extended attributes by name.
type Attributes = BTreeMap<Vec<u8>, Vec<u8>>;

/// What overlayfs wrote about a file or directory.
#[derive(Default)]
struct Overlay {
    opaque: bool,
    redirect: bool,
    metacopy: bool,
}

/// The extended attributes that belong into a layer (capabilities and users' own), and what overlayfs wrote.
fn attributes(file: &Path) -> Result<(Attributes, Overlay)> {
    let mut found = BTreeMap::new();
    let mut overlay = Overlay::default();
    let reading = |e| Error::io(format!("read the attributes of {}", file.display()), e);
    let names = match xattr::list(file) {
        Ok(names) => names,
        Err(e) if e.raw_os_error() == Some(nix::libc::ENOTSUP) => return Ok((found, overlay)),
        Err(e) => return Err(reading(e)),
    };
    for name in names {
        let bytes = name.as_bytes();
        match bytes {
            _ if bytes == super::opaque_attribute().as_bytes() => {
                overlay.opaque = xattr::get(file, &name).map_err(reading)?.as_deref() == Some(b"y");
            }
            b"trusted.overlay.redirect" => overlay.redirect = true,
            b"trusted.overlay.metacopy" => overlay.metacopy = true,
            b"security.capability" => {}
            _ if bytes.contains(&b'=') => {
                tracing::debug!(file = %file.display(), ?name, "an attribute with `=` in its name is left out of layers");
                continue;
            }
            _ if bytes.starts_with(b"user.") && !bytes.starts_with(b"user.overlay.") => {}
            _ => continue,
        }
        if !bytes.starts_with(b"trusted.")
            && !bytes.starts_with(b"user.overlay.")
            && let Some(value) = xattr::get(file, &name).map_err(reading)?
        {
            found.insert(bytes.to_vec(), value);
        }
    }
    Ok((found, overlay))
}

fn libc_major(device: u64) -> u32 {
    // The numbers of a Linux device fit: 12 and 20 bits.
    nix::sys::stat::major(device) as u32
}

fn libc_minor(device: u64) -> u32 {
    nix::sys::stat::minor(device) as u32
}

fn refused(path: &[u8], why: &str) -> Error {
    Error::new(Kind::EntryRefused, format!("`{}` cannot be put into a layer: it {why}", shown(path)))
}

/// Counts and hashes what passes.
struct Counted<W> {
    inner: W,
    hasher: Hasher,
    count: u64,
}

impl<W> Counted<W> {
    fn new(inner: W) -> Self {
        Self { inner, hasher: Hasher::new(Algorithm::Sha256), count: 0 }
    }

    fn finish(self) -> (Digest, u64, W) {
        (self.hasher.finish(), self.count, self.inner)
    }
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.count += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
