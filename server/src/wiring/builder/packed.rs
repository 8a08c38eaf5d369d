//! A context that comes as one file, on standard input or over HTTP: an archive, or the text of a Dockerfile.

use std::{
    io::{Read, Seek, SeekFrom},
    path::Path,
};

use build::{Fetched, Remote};
use tempfile::{NamedTempFile, TempDir};

use super::{Home, read_bounded, remotes};
use crate::{
    fault::{Class, Fault, Result},
    wiring::executor::{is_archive, unpack_files},
};

/// The longest file that is taken.
const MOST: u64 = 16 << 30;

/// What the file was.
pub enum Packed {
    /// An archive, unpacked for as long as this is held.
    Files(TempDir),
    /// The text of a Dockerfile.
    Text(String),
}

/// Reads a file to its end. `name` is what errors call it.
pub fn read(home: &Home, from: impl Read, name: &str) -> Result<Packed> {
    let failed = |e: std::io::Error| Fault::new(Class::Unavailable, format!("cannot keep {name}: {e}"));
    let place = home.unpacked();
    std::fs::create_dir_all(&place).map_err(failed)?;
    let mut file = NamedTempFile::new_in(&place).map_err(failed)?;
    let length = std::io::copy(&mut from.take(MOST + 1), file.as_file_mut()).map_err(failed)?;
    if length > MOST {
        return Err(Fault::new(Class::TooLarge, format!("{name} has more than {MOST} bytes")));
    }
    if is_archive(file.path()).map_err(failed)? {
        let directory = TempDir::new_in(&place).map_err(failed)?;
        return match unpack_files(file.path(), directory.path()) {
            Ok(()) => Ok(Packed::Files(directory)),
            Err(reason) => Err(Fault::usage(format!("{name} cannot be unpacked: {reason}"))),
        };
    }
    file.seek(SeekFrom::Start(0)).map_err(failed)?;
    read_bounded(file, name).map(Packed::Text)
}

/// Fetches a file and reads it.
pub async fn fetch(home: &Home, url: &str) -> Result<Packed> {
    let remote = Remote::File { url: url.to_owned(), checksum: None };
    let Fetched::File { digest, .. } = remotes::fetch(&home.fetcher(), &remote).await? else {
        return Err(Fault::usage(format!("{url} is no file")));
    };
    let blob = home.blobs.read(&digest, 0, None).await?;
    let blob = tokio_util::io::SyncIoBridge::new(blob);
    tokio::task::block_in_place(|| read(home, blob, &build::shown(url)))
}

/// Whether a directory is one of these, and gone after the build.
pub fn holds(home: &Home, directory: &Path) -> bool {
    directory.starts_with(home.unpacked())
}
