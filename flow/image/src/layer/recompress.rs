//! A layer compressed in another way: the same tar, so the same diff id, in other bytes.

use std::{
    io::{Read, Write},
    sync::Arc,
};

use records::Digest;
use store::{BlobReader, Blobs};
use tokio::sync::mpsc;
use tokio_util::io::SyncIoBridge;

use super::{ChannelWriter, Compression, Reader, Writer};
use crate::{Algorithm, Error, Hasher, Kind, Result};

/// The largest tar that is taken, in bytes; that of [`super::ApplyOptions`].
const MOST: u64 = 64 << 30;

/// Reads a layer of whatever compression and writes it into `blobs` with this one. The same tar gives the same bytes, as in [`super::write`].
///
/// `DigestInvalid` unless the tar in it is `diff_id`; `TooLarge` when it has more than 64 GiB. Gives digest and size of what was written.
pub async fn recompress_blob(
    blobs: &Arc<dyn Blobs>,
    layer: BlobReader,
    diff_id: &Digest,
    compression: Compression,
    level: Option<i32>,
) -> Result<(Digest, u64)> {
    let (sender, mut receiver) = mpsc::channel(8);
    let (bridge, expected) = (SyncIoBridge::new(layer), diff_id.clone());
    let task = tokio::task::spawn_blocking(move || {
        let sink = ChannelWriter { sender, buffer: Vec::new() };
        let mut sink = recompress(bridge, &expected, compression, level, sink)?;
        sink.flush_buffer().map_err(|e| Error::io("hand on the layer", e))
    });
    let mut writer = blobs.writer().await?;
    while let Some(chunk) = receiver.recv().await {
        writer.write(chunk).await?;
    }
    task.await.map_err(|e| Error::new(Kind::Io, "the layer was not compressed to its end").caused(e))??;
    let size = writer.written();
    Ok((writer.finish(None).await?, size))
}

fn recompress<W: Write>(
    from: impl Read,
    diff_id: &Digest,
    compression: Compression,
    level: Option<i32>,
    to: W,
) -> Result<W> {
    let broken = |e: std::io::Error| Error::new(Kind::Malformed, format!("the layer cannot be read: {e}")).caused(e);
    let failed = |e| Error::io("compress the layer", e);
    let mut hasher = Hasher::new(Algorithm::of(diff_id));
    let mut reader = Reader::new(from).map_err(broken)?;
    let mut writer = Writer::new(to, compression, level);
    let (mut buffer, mut total) = (vec![0; 256 << 10], 0u64);
    loop {
        let read = match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(broken(e)),
        };
        total += read as u64;
        if total > MOST {
            return Err(Error::new(Kind::TooLarge, format!("the layer has more than {MOST} bytes")));
        }
        hasher.update(&buffer[..read]);
        writer.write_all(&buffer[..read]).map_err(failed)?;
    }
    let found = hasher.finish();
    if found != *diff_id {
        return Err(Error::new(Kind::DigestInvalid, format!("the layer holds {found}, and not {diff_id}")));
    }
    writer.finish().map_err(failed)
}
