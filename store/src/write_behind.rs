//! Has the kernel write early what a file gets, so that the sync at its end waits for the last bytes only.

use std::{fs::File, io, io::Write, os::fd::AsRawFd};

/// Bytes after which the kernel is told to write.
const STEP: u64 = 4 << 20;

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

    /// Writes all of it at the file's position, which is its end.
    pub fn write_all(&mut self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        file.write_all(bytes)?;
        self.written += bytes.len() as u64;
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
