//! Copies of files in which holes stay holes: a file of ten gigabytes with nothing in it costs nothing.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::MetadataExt,
};

use nix::unistd::{Whence, lseek};

/// Copies all of `source`, which is at its beginning, into the empty `target`. `data` is told what was read, `hole` how many zeros stand
/// between. Gives the number of bytes.
pub fn copy(
    source: &mut File,
    mut target: &File,
    mut data: impl FnMut(&[u8]),
    mut hole: impl FnMut(u64),
) -> io::Result<u64> {
    let metadata = source.metadata()?;
    let mut buffer = vec![0; 128 << 10];
    if metadata.blocks() * 512 >= metadata.len() {
        let mut written = 0;
        loop {
            match source.read(&mut buffer)? {
                0 => return Ok(written),
                read => {
                    data(&buffer[..read]);
                    target.write_all(&buffer[..read])?;
                    written += read as u64;
                }
            }
        }
    }
    let length = metadata.len();
    target.set_len(length)?;
    let mut at = 0;
    while at < length {
        let start = match lseek(&*source, at as i64, Whence::SeekData) {
            Ok(start) => start as u64,
            // Nothing but a hole up to the end.
            Err(nix::errno::Errno::ENXIO) => length,
            Err(error) => return Err(error.into()),
        };
        let start = start.min(length);
        if start > at {
            hole(start - at);
        }
        at = start;
        if at == length {
            break;
        }
        let end = (lseek(&*source, at as i64, Whence::SeekHole)? as u64).min(length);
        source.seek(SeekFrom::Start(at))?;
        target.seek(SeekFrom::Start(at))?;
        while at < end {
            let most = buffer.len().min((end - at) as usize);
            match source.read(&mut buffer[..most])? {
                0 => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it became shorter while it was read")),
                read => {
                    data(&buffer[..read]);
                    target.write_all(&buffer[..read])?;
                    at += read as u64;
                }
            }
        }
    }
    Ok(length)
}
