//! A part of a plain file as a body: read in large pieces, the next one while the last is sent.

use std::{fs::File, io, os::unix::fs::FileExt, path::PathBuf, sync::Arc};

use axum::body::Body;
use bytes::Bytes;
use records::Digest;
use tokio::task::{JoinError, spawn_blocking};

use crate::{Error, Kind, Result};

/// How much is read at once. A body up to this size is read whole before it is sent.
const PIECE: u64 = 512 << 10;

/// The bytes from `offset` on, `length` of them; `BlobUnknown` when the file has gone meanwhile.
pub async fn body(path: PathBuf, digest: &Digest, offset: u64, length: u64) -> Result<Body> {
    let first = spawn_blocking(move || {
        let file = File::open(path)?;
        let piece = read(&file, offset, length.min(PIECE))?;
        Ok((Arc::new(file), piece))
    });
    let (file, piece) = match first.await.map_err(over) {
        Ok(Ok(read)) => read,
        Ok(Err(e)) | Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Err(Error::new(Kind::BlobUnknown, format!("blob {digest} is not there any more")).caused(e));
        }
        Ok(Err(e)) | Err(e) => return Err(Error::io(format!("read blob {digest}"), e)),
    };
    let read_so_far = piece.len() as u64;
    if read_so_far == length {
        return Ok(Body::from(piece));
    }
    let next = ahead(&file, offset + read_so_far, length - read_so_far);
    let start = (Some(piece), file, offset + read_so_far, length - read_so_far, Some(next));
    Ok(Body::from_stream(futures::stream::unfold(start, |(ready, file, at, left, next)| async move {
        if let Some(piece) = ready {
            return Some((Ok(piece), (None, file, at, left, next)));
        }
        let piece = match next?.await.map_err(over) {
            Ok(Ok(piece)) => piece,
            Ok(Err(e)) | Err(e) => return Some((Err(e), (None, file, at, left, None))),
        };
        let (at, left) = (at + piece.len() as u64, left - piece.len() as u64);
        let next = (left > 0).then(|| ahead(&file, at, left));
        Some((Ok::<_, io::Error>(piece), (None, file, at, left, next)))
    })))
}

fn ahead(file: &Arc<File>, at: u64, left: u64) -> tokio::task::JoinHandle<io::Result<Bytes>> {
    let file = file.clone();
    spawn_blocking(move || read(&file, at, left.min(PIECE)))
}

/// Exactly so many bytes; fewer are an error, because more were announced.
fn read(file: &File, at: u64, length: u64) -> io::Result<Bytes> {
    let mut piece = vec![0; usize::try_from(length).unwrap_or(0)];
    file.read_exact_at(&mut piece, at)?;
    Ok(piece.into())
}

fn over(error: JoinError) -> io::Error {
    io::Error::other(error)
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn any_part_of_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let content: Vec<u8> = (0..3_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        std::fs::write(&path, &content).unwrap();
        let digest = Digest::sha256(&[0; 32]);
        for (offset, length) in [(0, 3_000_000), (1, 10), (5, 512 << 10), (7, (512 << 10) + 1), (2_999_999, 1)] {
            let body = body(path.clone(), &digest, offset, length).await.unwrap();
            let read = body.collect().await.unwrap().to_bytes();
            assert!(read == content[offset as usize..(offset + length) as usize], "{offset} {length}");
        }
        let short = body(path, &digest, 0, 3_000_001).await.unwrap();
        assert!(short.collect().await.is_err(), "less than was announced is an error");
        let gone = body(directory.path().join("none"), &digest, 0, 1).await.unwrap_err();
        assert_eq!(gone.kind, Kind::BlobUnknown);
    }
}
