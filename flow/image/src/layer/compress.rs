//! Compression of layers: written in one of three forms, recognised by its first bytes when read.

use std::io::{self, BufRead, BufReader, Read, Write};

use super::Compression;

/// Writes compressed.
pub enum Writer<'a, W: Write> {
    None(W),
    Gzip(flate2::write::GzEncoder<W>),
    Zstd(zstd::Encoder<'a, W>),
}

impl<W: Write> Writer<'_, W> {
    pub fn new(inner: W, compression: Compression, level: Option<i32>) -> io::Result<Self> {
        Ok(match compression {
            Compression::None => Self::None(inner),
            Compression::Gzip => {
                let level = level
                    .map_or(flate2::Compression::new(4), |level| flate2::Compression::new(level.clamp(0, 9) as u32));
                // No name and no time in the header: the bytes depend on the content alone.
                Self::Gzip(flate2::GzBuilder::new().mtime(0).operating_system(255).write(inner, level))
            }
            Compression::Zstd => {
                let mut encoder = zstd::Encoder::new(inner, level.unwrap_or(3))?;
                encoder.include_checksum(false)?;
                Self::Zstd(encoder)
            }
        })
    }

    pub fn finish(self) -> io::Result<W> {
        match self {
            Self::None(inner) => Ok(inner),
            Self::Gzip(encoder) => encoder.finish(),
            Self::Zstd(encoder) => encoder.finish(),
        }
    }
}

impl<W: Write> Write for Writer<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::None(inner) => inner.write(bytes),
            Self::Gzip(encoder) => encoder.write(bytes),
            Self::Zstd(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::None(inner) => inner.flush(),
            Self::Gzip(encoder) => encoder.flush(),
            Self::Zstd(encoder) => encoder.flush(),
        }
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

    #[test]
    fn reads_back_what_it_wrote() {
        let content: Vec<u8> = (0..200_000u32).flat_map(|n| n.to_le_bytes()).collect();
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            let mut writer = Writer::new(Vec::new(), compression, None).unwrap();
            writer.write_all(&content).unwrap();
            let packed = writer.finish().unwrap();
            let mut reader = Reader::new(&packed[..]).unwrap();
            assert_eq!(reader.compression(), compression);
            let mut back = Vec::new();
            reader.read_to_end(&mut back).unwrap();
            assert!(back == content);
        }
    }

    #[test]
    fn a_broken_stream_is_an_error() {
        for compression in [Compression::Gzip, Compression::Zstd] {
            let mut writer = Writer::new(Vec::new(), compression, None).unwrap();
            writer.write_all(&[7; 100_000]).unwrap();
            let mut packed = writer.finish().unwrap();
            packed.truncate(packed.len() - 3);
            assert!(Reader::new(&packed[..]).unwrap().read_to_end(&mut Vec::new()).is_err());
        }
    }
}
