//! Has the kernel write early what a file gets, so that the sync at its end waits for the last bytes only.

use std::{fs::File, io, io::Write, os::fd::AsRawFd};

use bytes::Bytes;

/// Bytes after which the kernel is told to write.
const STEP: u64 = 4 << 20;

/// How much is written at once. For more the kernel looks for larger pieces of memory for its cache, and on a machine that is a guest of
/// another these are the ones that nobody used lately: with 256 KiB files of 1 MB took half as long again as with this.
const PIECE: usize = 64 << 10;

/// How much of a file was written, and how much of that the kernel was told to bring to the disk.
#[derive(Debug, Clone, Copy, Default)]
pub struct WriteBehind {
    written: u64,
    told: u64,
}

impl WriteBehind {
    /// Appends to a file that all was written to through this, or `from` bytes before.
    pub fn from(written: u64) -> Self {
        Self { written, told: written }
    }

    /// Writes all chunks at the file's position, which is its end.
    pub fn write_all(&mut self, file: &mut File, chunks: &[Bytes]) -> io::Result<()> {
        for piece in chunks.iter().flat_map(|chunk| chunk.chunks(PIECE)) {
            file.write_all(piece)?;
            self.written += piece.len() as u64;
        }
        if self.written - self.told >= STEP {
            tell(file, self.told, self.written - self.told);
            self.told = self.written;
        }
        Ok(())
    }
}

/// Only a hint: whether it is taken or not, a sync makes durable.
fn tell(file: &File, offset: u64, length: u64) {
    let (Ok(offset), Ok(length)) = (libc::off64_t::try_from(offset), libc::off64_t::try_from(length)) else { return };
    // SAFETY: the descriptor is open for the time of the call, which touches no memory of ours.
    let _ = unsafe { libc::sync_file_range(file.as_raw_fd(), offset, length, libc::SYNC_FILE_RANGE_WRITE) };
}
