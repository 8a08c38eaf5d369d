//! Compression of layers: written in one of three forms, recognised by its first bytes when read.
//!
//! What is written is cut into blocks of a fixed size, which are compressed each by itself on all cores and put together in their order.
//! So the bytes depend on the content and the level alone, never on the machine, and memory does not grow with the layer. Gzip comes out as
//! one member (RFC 1952) whose blocks end on byte boundaries; zstd as one frame a block (RFC 8878).

use std::{
    collections::VecDeque,
    io::{self, BufRead, BufReader, Read, Write},
    sync::mpsc::{Receiver, Sender, channel},
    thread::JoinHandle,
};

use flate2::{Compress, Crc, FlushCompress};

use super::Compression;

/// Bytes that are compressed at a time. Changing them changes the digest of every layer.
const GZIP_BLOCK: usize = 512 << 10;
const ZSTD_BLOCK: usize = 4 << 20;
/// Threads at most, and blocks that wait in each.
const MOST_THREADS: usize = 8;
const WAITING: usize = 2;

/// Gzip's own level where none is asked for: a third faster than 6, a hundredth larger.
const GZIP_LEVEL: i32 = 4;
const ZSTD_LEVEL: i32 = 3;

/// Without a name and a time: the bytes depend on the content alone. The last two say nothing of the level and of the system.
const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// Compresses one block, the same way whoever does it.
enum Packer {
    Gzip(Compress),
    Zstd(Box<zstd::bulk::Compressor<'static>>),
}

impl Packer {
    fn new(compression: Compression, level: Option<i32>) -> io::Result<Self> {
        Ok(match compression {
            Compression::Gzip => {
                let level = level.unwrap_or(GZIP_LEVEL).clamp(0, 9);
                Self::Gzip(Compress::new(flate2::Compression::new(level.unsigned_abs()), false))
            }
            _ => Self::Zstd(Box::new(zstd::bulk::Compressor::new(level.unwrap_or(ZSTD_LEVEL))?)),
        })
    }

    fn pack(&mut self, block: &[u8], last: bool) -> io::Result<Vec<u8>> {
        match self {
            Self::Zstd(compressor) => compressor.compress(block),
            Self::Gzip(compress) => {
                compress.reset();
                // After a flush the next block may follow on the same byte.
                let flush = if last { FlushCompress::Finish } else { FlushCompress::Sync };
                // More than the worst case, so that one call does it all.
                let mut out = Vec::with_capacity(block.len() + block.len() / 8 + 1024);
                let status = compress.compress_vec(block, &mut out, flush).map_err(io::Error::other)?;
                let whole = compress.total_in() == block.len() as u64 && out.len() < out.capacity();
                if whole && (!last || status == flate2::Status::StreamEnd) {
                    return Ok(out);
                }
                Err(io::Error::other("a block was not compressed to its end"))
            }
        }
    }
}

/// A thread that compresses, and the blocks that it holds.
struct Worker {
    blocks: Option<Sender<(Vec<u8>, bool)>>,
    packed: Receiver<io::Result<Vec<u8>>>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    fn start(compression: Compression, level: Option<i32>) -> io::Result<Self> {
        let mut packer = Packer::new(compression, level)?;
        let (blocks, todo) = channel::<(Vec<u8>, bool)>();
        let (done, packed) = channel();
        let thread = std::thread::Builder::new().name("compress".into()).spawn(move || {
            for (block, last) in todo {
                if done.send(packer.pack(&block, last)).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { blocks: Some(blocks), packed, thread: Some(thread) })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Its loop ends with the sender.
        self.blocks = None;
        if let Some(thread) = self.thread.take() {
            // It only ends early when it panicked, and then its result was missing already.
            let _ = thread.join();
        }
    }
}

/// Writes compressed. [`Writer::finish`] must be called: what was not finished is no whole stream.
pub struct Writer<W: Write> {
    inner: W,
    compression: Compression,
    level: Option<i32>,
    threads: usize,
    /// Started with the second block: most layers are small.
    workers: Vec<Worker>,
    block: Vec<u8>,
    /// The workers that hold blocks, in the order of the blocks.
    waiting: VecDeque<usize>,
    next: usize,
    crc: Crc,
    begun: bool,
}

impl<W: Write> Writer<W> {
    pub fn new(inner: W, compression: Compression, level: Option<i32>) -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self::with_threads(inner, compression, level, threads.min(MOST_THREADS))
    }

    pub fn with_threads(inner: W, compression: Compression, level: Option<i32>, threads: usize) -> Self {
        Self {
            inner,
            compression,
            level,
            threads: threads.max(1),
            workers: Vec::new(),
            block: Vec::new(),
            waiting: VecDeque::new(),
            next: 0,
            crc: Crc::new(),
            begun: false,
        }
    }

    fn size(&self) -> usize {
        match self.compression {
            Compression::Zstd => ZSTD_BLOCK,
            _ => GZIP_BLOCK,
        }
    }

    fn begin(&mut self) -> io::Result<()> {
        if !std::mem::replace(&mut self.begun, true) && self.compression == Compression::Gzip {
            self.inner.write_all(&GZIP_HEADER)?;
        }
        Ok(())
    }

    /// Hands a block to the next thread; when that has enough to do, the oldest is waited for.
    fn dispatch(&mut self, last: bool) -> io::Result<()> {
        let block = std::mem::take(&mut self.block);
        if self.compression == Compression::Gzip {
            self.crc.update(&block);
        }
        self.begin()?;
        if self.workers.len() < self.threads && self.workers.len() == self.next {
            self.workers.push(Worker::start(self.compression, self.level)?);
        }
        while self.waiting.len() >= self.workers.len() * WAITING {
            self.collect()?;
        }
        let at = self.next % self.threads;
        let sent = self.workers[at].blocks.as_ref().map(|blocks| blocks.send((block, last)).is_ok());
        if sent != Some(true) {
            return Err(died());
        }
        self.waiting.push_back(at);
        self.next += 1;
        if self.next == self.threads * 2 {
            // Once round: all are started, and the number stays small.
            self.next = self.threads;
        }
        Ok(())
    }

    /// Writes the oldest block.
    fn collect(&mut self) -> io::Result<()> {
        let Some(at) = self.waiting.pop_front() else { return Ok(()) };
        let packed = self.workers[at].packed.recv().map_err(|_| died())??;
        self.inner.write_all(&packed)
    }

    pub fn finish(mut self) -> io::Result<W> {
        if self.compression == Compression::None {
            return Ok(self.inner);
        }
        if self.workers.is_empty() {
            // One block: nobody else is needed.
            self.begin()?;
            self.crc.update(&self.block);
            let packed = Packer::new(self.compression, self.level)?.pack(&self.block, true)?;
            self.inner.write_all(&packed)?;
        } else if self.compression == Compression::Gzip || !self.block.is_empty() {
            self.dispatch(true)?;
        }
        while !self.waiting.is_empty() {
            self.collect()?;
        }
        if self.compression == Compression::Gzip {
            self.inner.write_all(&self.crc.sum().to_le_bytes())?;
            self.inner.write_all(&self.crc.amount().to_le_bytes())?;
        }
        Ok(self.inner)
    }
}

fn died() -> io::Error {
    io::Error::other("a thread that compresses ended early")
}

impl<W: Write> Write for Writer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.compression == Compression::None {
            return self.inner.write(bytes);
        }
        let size = self.size();
        if self.block.len() == size {
            self.dispatch(false)?;
        }
        if self.block.capacity() == 0 && self.next > 0 {
            self.block.reserve_exact(size);
        }
        let part = bytes.len().min(size - self.block.len());
        self.block.extend_from_slice(&bytes[..part]);
        Ok(part)
    }

    /// Nothing: a block that ends early would give other bytes.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads plain, gzip or zstd content, whichever it is.
pub enum Reader<R: Read> {
    None(BufReader<R>),
    Gzip(Box<flate2::bufread::MultiGzDecoder<BufReader<R>>>),
    Zstd(zstd::Decoder<'static, BufReader<R>>),
}

impl<R: Read> Reader<R> {
    pub fn new(inner: R) -> io::Result<Self> {
        let mut inner = BufReader::with_capacity(128 << 10, inner);
        let start = inner.fill_buf()?;
        Ok(match start {
            // A buffer of one or two bytes cannot be told apart; no archive is that short.
            [0x1f, 0x8b, ..] => Self::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(inner))),
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
                // Refuses frames that need a window of more than 128 MiB, the decoder's own bound.
                Self::Zstd(zstd::Decoder::with_buffer(inner)?)
            }
            _ => Self::None(inner),
        })
    }

    pub fn compression(&self) -> Compression {
        match self {
            Self::None(_) => Compression::None,
            Self::Gzip(_) => Compression::Gzip,
            Self::Zstd(_) => Compression::Zstd,
        }
    }
}

impl<R: Read> Read for Reader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::None(inner) => inner.read(buffer),
            Self::Gzip(decoder) => decoder.read(buffer),
            Self::Zstd(decoder) => decoder.read(buffer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pack(content: &[u8], compression: Compression, level: Option<i32>, threads: usize, piece: usize) -> Vec<u8> {
        let mut writer = Writer::with_threads(Vec::new(), compression, level, threads);
        content.chunks(piece).for_each(|piece| writer.write_all(piece).unwrap());
        writer.finish().unwrap()
    }

    /// Bytes that compress a little, from a seed.
    fn content(length: usize) -> Vec<u8> {
        let mut state = 88_172_645_463_325_252u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % 23) as u8
        };
        (0..length).map(|_| next()).collect()
    }

    #[test]
    fn reads_back_what_it_wrote_on_any_number_of_cores() {
        for length in [0, 1, GZIP_BLOCK - 1, GZIP_BLOCK, GZIP_BLOCK + 1, 3 * GZIP_BLOCK, 2 * ZSTD_BLOCK + 5] {
            let content = content(length);
            for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
                let packed = pack(&content, compression, None, 1, 1 << 20);
                for (threads, piece) in [(2, 512), (3, 65_537), (8, usize::MAX)] {
                    assert!(
                        pack(&content, compression, None, threads, piece) == packed,
                        "{compression:?} {length} {threads}"
                    );
                }
                let mut reader = Reader::new(&packed[..]).unwrap();
                if length > 0 {
                    assert_eq!(reader.compression(), compression);
                }
                let mut back = Vec::new();
                reader.read_to_end(&mut back).unwrap();
                assert!(back == content, "{compression:?} {length}");
            }
        }
    }

    #[test]
    fn a_level_is_what_it_says() {
        let content = b"the same words again and again, ".repeat(60_000);
        let size = |compression, level| pack(&content, compression, Some(level), 2, 1 << 16).len();
        assert!(size(Compression::Gzip, 9) < size(Compression::Gzip, 1));
        assert!(size(Compression::Gzip, 0) > content.len());
        assert!(size(Compression::Zstd, 19) <= size(Compression::Zstd, 1));
    }

    #[test]
    fn gzip_takes_it_as_one_whole() {
        let content = content(3 * GZIP_BLOCK + 7);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.gz");
        std::fs::write(&path, pack(&content, Compression::Gzip, None, 2, 1 << 16)).unwrap();
        let Ok(output) = std::process::Command::new("gzip").arg("-dc").arg(&path).output() else {
            eprintln!("SKIPPED: gzip is not installed");
            return;
        };
        assert!(output.status.success() && output.stderr.is_empty() && output.stdout == content);
        // One member, not several: what reads only the first gets all of it.
        let mut first = Vec::new();
        flate2::read::GzDecoder::new(std::fs::File::open(&path).unwrap()).read_to_end(&mut first).unwrap();
        assert!(first == content);
    }

    #[test]
    fn a_reader_that_has_gone_is_an_error_and_ends_the_threads() {
        struct Gone;
        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        for compression in [Compression::Gzip, Compression::Zstd] {
            let mut writer = Writer::with_threads(Gone, compression, None, 3);
            let written = (0..40).try_for_each(|_| writer.write_all(&content(1 << 20)));
            assert!(written.is_err());
        }
    }

    #[test]
    fn a_broken_stream_is_an_error() {
        for compression in [Compression::Gzip, Compression::Zstd] {
            let mut packed = pack(&[7; 100_000], compression, None, 2, 4096);
            packed.truncate(packed.len() - 3);
            assert!(Reader::new(&packed[..]).unwrap().read_to_end(&mut Vec::new()).is_err());
        }
    }
}
