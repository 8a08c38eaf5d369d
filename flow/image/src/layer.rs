//! Layers: a directory as an OCI layer tar, and a tar as an overlayfs layer directory.
//!
//! [`write`] turns the upper directory of an overlay mount into a deterministic tar: the same tree gives the same bytes. [`apply`] unpacks
//! a tar from anywhere beneath a directory and never outside of it. Both stream; both block, so async callers use [`write_blob`] and
//! [`apply_blob`]. Deleted files are whiteouts: `.wh.<name>` and `.wh..wh..opq` in a tar, character devices 0/0 and the extended
//! attribute `trusted.overlay.opaque` on overlayfs.

mod apply;
pub(crate) mod archive;
mod beneath;
mod compress;
mod entry;
mod recompress;
mod write;

use std::{path::PathBuf, sync::Arc};

use bytes::Bytes;
use store::{BlobReader, Blobs};
use tokio::sync::mpsc;
use tokio_util::io::SyncIoBridge;

use crate::{Error, Kind, Result, media};

pub use apply::{Applied, ApplyOptions, Whiteouts, apply};
pub use compress::{Reader, Writer};
pub use recompress::recompress_blob;
pub use write::{WriteOptions, Written, write};

/// Marks a deleted name in a layer tar.
pub const WHITEOUT: &str = ".wh.";
/// Marks a directory whose lower contents are hidden.
pub const OPAQUE: &str = ".wh..wh..opq";
/// The same on overlayfs: an extended attribute with the value `y`.
pub const OPAQUE_ATTRIBUTE: &str = "trusted.overlay.opaque";
/// As [`OPAQUE_ATTRIBUTE`], where the process is in a user namespace and may set no trusted attributes (`userxattr` of overlayfs).
pub const USER_OPAQUE_ATTRIBUTE: &str = "user.overlay.opaque";

/// Marks an empty file as a deletion where no device node can stand for one: on an overlayfs of somebody else.
pub const USER_WHITEOUT_ATTRIBUTE: &str = "user.overlay.whiteout";

/// The attribute that overlayfs reads where this process mounts.
pub fn opaque_attribute() -> &'static str {
    const SYS_ADMIN: u64 = 1 << 21;
    static KNOWN: std::sync::OnceLock<&str> = std::sync::OnceLock::new();
    KNOWN.get_or_init(|| {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let (map, status) = (read("/proc/self/uid_map"), read("/proc/self/status"));
        let effective =
            status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("CapEff:")?.trim(), 16).ok());
        let whole = map.split_whitespace().eq(["0", "0", "4294967295"]) || map.is_empty();
        match whole && effective.is_none_or(|bits| bits & SYS_ADMIN != 0) {
            true => OPAQUE_ATTRIBUTE,
            false => USER_OPAQUE_ATTRIBUTE,
        }
    })
}

/// Whether a file stands for a deletion: a character device 0/0, or an empty file that is marked as one.
pub fn is_whiteout(file: &std::path::Path, metadata: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let kind = metadata.file_type();
    let marked = |name| matches!(xattr::get(file, name), Ok(Some(_)));
    (kind.is_char_device() && metadata.rdev() == 0)
        || (kind.is_file()
            && metadata.len() == 0
            && (marked("trusted.overlay.whiteout") || marked(USER_WHITEOUT_ATTRIBUTE)))
}

/// Makes what stands for the deletion of `name` in a directory, in which there is no such name.
pub fn make_whiteout(directory: impl std::os::fd::AsFd, name: &std::ffi::OsStr) -> std::io::Result<()> {
    use nix::{
        errno::Errno,
        fcntl::{OFlag, openat},
        sys::stat::{Mode, SFlag, mknodat},
    };
    use xattr::FileExt;
    match mknodat(directory.as_fd(), name, SFlag::S_IFCHR, Mode::empty(), 0) {
        // Such a node means something to an overlayfs that the directory itself lies on: it lets nobody make one.
        Err(Errno::EPERM) => {
            let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let file = openat(directory.as_fd(), name, flags, Mode::from_bits_truncate(0o600))?;
            std::fs::File::from(file).set_xattr(USER_WHITEOUT_ATTRIBUTE, b"y")
        }
        made => Ok(made?),
    }
}

/// How a layer is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    None,
    Gzip,
    /// The fastest in both directions; every current runtime reads it.
    #[default]
    Zstd,
}

impl Compression {
    /// The media type of a layer that is compressed so.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::None => media::OCI_LAYER,
            Self::Gzip => media::OCI_LAYER_GZIP,
            Self::Zstd => media::OCI_LAYER_ZSTD,
        }
    }

    /// How a layer of this media type, OCI's or Docker's, is compressed; `None` for what is no layer, or none that leaves its registry.
    pub fn of(media_type: &str) -> Option<Self> {
        match media_type {
            media::OCI_LAYER | media::DOCKER_LAYER => Some(Self::None),
            media::OCI_LAYER_GZIP | media::DOCKER_LAYER_GZIP => Some(Self::Gzip),
            media::OCI_LAYER_ZSTD | media::DOCKER_LAYER_ZSTD => Some(Self::Zstd),
            _ => None,
        }
    }
}

/// Writes the layer of `directory` into `blobs`. The content is durable under `Written::digest` when it returns.
pub async fn write_blob(blobs: &Arc<dyn Blobs>, directory: PathBuf, options: WriteOptions) -> Result<Written> {
    let (sender, mut receiver) = mpsc::channel::<Bytes>(8);
    let task = tokio::task::spawn_blocking(move || {
        let mut sink = ChannelWriter { sender, buffer: Vec::new() };
        let written = write::write(&directory, &options, &mut sink)?;
        sink.flush_buffer().map_err(|e| Error::io("hand on the layer", e))?;
        Ok::<_, Error>(written)
    });
    let mut writer = blobs.writer().await?;
    while let Some(chunk) = receiver.recv().await {
        writer.write(chunk).await?;
    }
    let written = task.await.map_err(|e| Error::new(Kind::Io, "the layer was not written to its end").caused(e))??;
    writer.finish(Some(&written.digest)).await?;
    Ok(written)
}

/// Unpacks a blob beneath `target`; see [`apply`].
pub async fn apply_blob(reader: BlobReader, target: PathBuf, options: ApplyOptions) -> Result<Applied> {
    // The reader is moved to a thread of its own, where waiting for it blocks nobody.
    let bridge = SyncIoBridge::new(reader);
    tokio::task::spawn_blocking(move || apply(std::io::BufReader::with_capacity(256 << 10, bridge), &target, &options))
        .await
        .map_err(|e| Error::new(Kind::Io, "the layer was not unpacked to its end").caused(e))?
}

/// Hands on what is written, in chunks of a sensible size.
struct ChannelWriter {
    sender: mpsc::Sender<Bytes>,
    buffer: Vec<u8>,
}

const CHUNK: usize = 256 << 10;

impl ChannelWriter {
    fn flush_buffer(&mut self) -> std::io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK));
        self.sender.blocking_send(chunk.into()).map_err(|_| std::io::ErrorKind::BrokenPipe.into())
    }
}

impl std::io::Write for ChannelWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= CHUNK {
            self.flush_buffer()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.flush_buffer()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_that_is_marked_stands_for_a_deletion() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::write(at("gone"), "").unwrap();
        std::fs::write(at("empty"), "").unwrap();
        match xattr::set(at("gone"), USER_WHITEOUT_ATTRIBUTE, b"y") {
            Err(error) if error.raw_os_error() == Some(nix::libc::ENOTSUP) => {
                eprintln!("SKIPPED: the temporary directory has no extended attributes");
                return;
            }
            set => set.unwrap(),
        }
        make_whiteout(std::fs::File::open(directory.path()).unwrap(), "made".as_ref()).unwrap();
        let mut layer = Vec::new();
        let options = WriteOptions { compression: Compression::None, ..WriteOptions::default() };
        write(directory.path(), &options, &mut layer).unwrap();
        let mut archive = tar::Archive::new(&layer[..]);
        let names: Vec<_> = archive.entries().unwrap().map(|e| e.unwrap().path().unwrap().into_owned()).collect();
        assert_eq!(names, ["empty", ".wh.gone", ".wh.made"].map(PathBuf::from));
    }
}
