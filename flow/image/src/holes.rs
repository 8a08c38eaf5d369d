//! Files with holes: what stands in them is read, and the zeros between are only counted, so that nobody waits for the kernel to fill
//! gigabytes of memory with them.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::MetadataExt,
};

use nix::{
    errno::Errno,
    unistd::{Whence, lseek},
};

/// Zeros to hand on in place of a hole.
pub static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// What follows in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part<'a> {
    Data(&'a [u8]),
    /// So many zeros.
    Hole(u64),
}

impl Part<'_> {
    /// Hands the bytes on, zeros included, piece by piece.
    pub fn each<E>(self, mut take: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        match self {
            Self::Data(data) => take(data),
            Self::Hole(mut length) => {
                while length > 0 {
                    let part = length.min(ZEROS.len() as u64);
                    take(&ZEROS[..part as usize])?;
                    length -= part;
                }
                Ok(())
            }
        }
    }
}

/// Reads `file`, which is at its beginning, to its end, in order. A file without holes is read as it is, also when it grows meanwhile; one
/// with holes up to the length that it has now. Gives the number of bytes.
///
/// # Errors
/// Those of the file and of `take`, and `UnexpectedEof` when a file with holes becomes shorter meanwhile.
pub fn read(file: &mut File, buffer: &mut [u8], mut take: impl FnMut(Part<'_>) -> io::Result<()>) -> io::Result<u64> {
    let metadata = file.metadata()?;
    let length = metadata.len();
    let mut at = 0;
    if metadata.blocks().saturating_mul(512) >= length {
        loop {
            match file.read(buffer) {
                Ok(0) => return Ok(at),
                Ok(read) => {
                    take(Part::Data(&buffer[..read]))?;
                    at += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
    while at < length {
        let start = match lseek(&*file, at as i64, Whence::SeekData) {
            Ok(start) => (start as u64).min(length),
            // Nothing but a hole up to the end.
            Err(Errno::ENXIO) => length,
            Err(error) => return Err(error.into()),
        };
        if start > at {
            take(Part::Hole(start - at))?;
        }
        at = start;
        if at == length {
            break;
        }
        let end = (lseek(&*file, at as i64, Whence::SeekHole)? as u64).min(length);
        file.seek(SeekFrom::Start(at))?;
        while at < end {
            let most = buffer.len().min(usize::try_from(end - at).unwrap_or(usize::MAX));
            match file.read(&mut buffer[..most]) {
                Ok(0) => {
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it became shorter while it was read"));
                }
                Ok(read) => {
                    take(Part::Data(&buffer[..read]))?;
                    at += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn what_is_read_is_the_file_and_holes_are_not_read() {
        const MIB: u64 = 1 << 20;
        for (pieces, length) in [
            (&[][..], 0),
            (&[], 3 * MIB),
            (&[(0, 10)], 10),
            (&[(0, 10)], 4 * MIB),
            (&[(2 * MIB + 5, 3000)], 2 * MIB + 3005),
            (&[(MIB, 100_000), (3 * MIB, 1)], 5 * MIB + 1),
        ] {
            let mut file = tempfile::tempfile().unwrap();
            file.set_len(length).unwrap();
            let mut expected = vec![0; length as usize];
            for (at, count) in pieces {
                file.seek(SeekFrom::Start(*at)).unwrap();
                file.write_all(&vec![7; *count]).unwrap();
                expected[*at as usize..*at as usize + count].fill(7);
            }
            file.rewind().unwrap();
            let (mut whole, mut holes) = (Vec::new(), 0);
            let count = read(&mut file, &mut [0; 4096], |part| {
                if let Part::Hole(length) = part {
                    holes += length;
                }
                part.each(|bytes| {
                    whole.extend_from_slice(bytes);
                    Ok(())
                })
            });
            assert_eq!(count.unwrap(), length);
            assert!(whole == expected, "{pieces:?} {length}");
            // Every file system that tests run on keeps holes of a whole megabyte.
            if length >= 3 * MIB {
                assert!(holes >= MIB, "{pieces:?} {length}: {holes}");
            }
        }
    }
}
