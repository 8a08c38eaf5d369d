//! Carries what a container writes into its log.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use crate::{
    LogFile,
    log::{Pending, Writer},
};

pub(super) struct Pump {
    writer: Writer,
    streams: Vec<Stream>,
    buffer: Vec<u8>,
}

struct Stream {
    reader: OwnedFd,
    stderr: bool,
    pending: Pending,
}

impl Pump {
    pub(super) fn open(log: LogFile) -> io::Result<Self> {
        Ok(Self { writer: Writer::open(log)?, streams: Vec::new(), buffer: vec![0; 64 << 10] })
    }

    pub(super) fn add(&mut self, reader: OwnedFd, stderr: bool) {
        self.streams.push(Stream { reader, stderr, pending: Pending::default() });
    }

    pub(super) fn readers(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.streams.iter().map(|stream| stream.reader.as_fd())
    }

    /// Reads once from the stream at `index`. At its end the stream is gone from the list.
    pub(super) fn carry(&mut self, index: usize) -> io::Result<()> {
        let Some(stream) = self.streams.get_mut(index) else { return Ok(()) };
        // SAFETY: the buffer is ours and as long as we say.
        let read = unsafe { libc::read(stream.reader.as_raw_fd(), self.buffer.as_mut_ptr().cast(), self.buffer.len()) };
        match read {
            // A terminal whose other end has closed says EIO.
            0 | -1 => {
                if read < 0 {
                    let error = io::Error::last_os_error();
                    if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) {
                        return Ok(());
                    }
                }
                let mut stream = self.streams.remove(index);
                self.writer.finish(&mut stream.pending, stream.stderr, now())
            }
            read => {
                let bytes = self.buffer.get(..read as usize).unwrap_or_default();
                self.writer.take(&mut stream.pending, stream.stderr, bytes, now())
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }
}

/// The monitor is a process of its own that nobody can hand a clock to.
fn now() -> (i64, i32) {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: it writes into a structure of ours. CLOCK_REALTIME always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_REALTIME, &mut time) };
    (time.tv_sec, time.tv_nsec as i32)
}

pub(super) fn now_millis() -> i64 {
    let (seconds, nanoseconds) = now();
    seconds * 1000 + i64::from(nanoseconds) / 1_000_000
}
