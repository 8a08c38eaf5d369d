//! SPDY/3.1, as far as Kubernetes clients use it: streams in both directions, without flow control and priorities.
//!
//! `kubectl` up to 1.29 speaks nothing else for `exec`, `attach` and `port-forward`, and newer ones fall back to it.

use std::collections::HashMap;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use flate2::{Decompress, FlushDecompress};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// The largest frame that a client may send.
const FRAME: usize = 1 << 20;
/// The most bytes of headers of one stream.
const HEADERS: usize = 64 << 10;
const READ: usize = 32 << 10;

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
/// The flag with which a side says that it sends no more in a stream.
const FIN: u8 = 1;

/// What a client sends.
#[derive(Debug, PartialEq)]
pub(super) enum Frame {
    /// A new stream with its headers (names in lower case).
    Open {
        stream: u32,
        headers: HashMap<String, String>,
    },
    Data {
        stream: u32,
        bytes: Bytes,
        last: bool,
    },
    Reset {
        stream: u32,
    },
    Ping {
        id: u32,
    },
    GoAway,
    /// Nothing that matters here.
    Other,
}

/// The client does not keep to the protocol.
#[derive(Debug, PartialEq)]
pub(super) struct Broken;

/// Reads frames.
pub(super) struct Reader {
    buffer: BytesMut,
    headers: Headers,
}

impl Reader {
    pub fn new() -> Self {
        Self { buffer: BytesMut::new(), headers: Headers { inflate: Decompress::new(true), primed: false } }
    }

    /// The next frame; `None` at the end of the stream, and when a client breaks the protocol.
    pub async fn next(&mut self, stream: &mut (impl AsyncRead + Unpin)) -> Option<Frame> {
        loop {
            match self.take() {
                Ok(Some(frame)) => return Some(frame),
                Ok(None) => {}
                Err(Broken) => return None,
            }
            self.buffer.reserve(READ);
            if stream.read_buf(&mut self.buffer).await.ok()? == 0 {
                return None;
            }
        }
    }

    fn take(&mut self) -> Result<Option<Frame>, Broken> {
        if self.buffer.len() < 8 {
            return Ok(None);
        }
        let length =
            (usize::from(self.buffer[5]) << 16) | (usize::from(self.buffer[6]) << 8) | usize::from(self.buffer[7]);
        if length > FRAME {
            return Err(Broken);
        }
        if self.buffer.len() < 8 + length {
            return Ok(None);
        }
        let mut head = self.buffer.split_to(8);
        let flags = head[4];
        let mut payload = self.buffer.split_to(length).freeze();
        if head[0] & 0x80 == 0 {
            let stream = head.get_u32();
            return Ok(Some(Frame::Data { stream, bytes: payload, last: flags & FIN != 0 }));
        }
        let version = head.get_u16() & 0x7fff;
        let kind = head.get_u16();
        if version != 3 {
            return Err(Broken);
        }
        Ok(Some(match kind {
            SYN_STREAM => {
                if payload.len() < 10 {
                    return Err(Broken);
                }
                let stream = payload.get_u32() & 0x7fff_ffff;
                payload.advance(6);
                Frame::Open { stream, headers: self.headers.read(&payload)? }
            }
            RST_STREAM if payload.len() >= 8 => Frame::Reset { stream: payload.get_u32() & 0x7fff_ffff },
            PING if payload.len() >= 4 => Frame::Ping { id: payload.get_u32() },
            GOAWAY => Frame::GoAway,
            _ => Frame::Other,
        }))
    }
}

/// The compressed headers of all streams, which are one zlib stream with a dictionary agreed on beforehand.
struct Headers {
    inflate: Decompress,
    primed: bool,
}

impl Headers {
    fn read(&mut self, block: &[u8]) -> Result<HashMap<String, String>, Broken> {
        let mut plain = Vec::with_capacity(1024);
        let mut at = 0;
        while at < block.len() {
            let (before_in, before_out) = (self.inflate.total_in(), plain.len());
            plain.reserve(1024);
            let result = self.inflate.decompress_vec(&block[at..], &mut plain, FlushDecompress::Sync);
            at += usize::try_from(self.inflate.total_in() - before_in).map_err(|_| Broken)?;
            match result {
                Ok(_) if at == block.len() && plain.len() < plain.capacity() => break,
                Ok(_) if self.inflate.total_in() == before_in && plain.len() == before_out => return Err(Broken),
                Ok(_) => {}
                Err(_) if !self.primed => {
                    self.inflate.set_dictionary(&dictionary()).map_err(|_| Broken)?;
                    self.primed = true;
                }
                Err(_) => return Err(Broken),
            }
            if plain.len() > HEADERS {
                return Err(Broken);
            }
        }
        pairs(&plain)
    }
}

fn pairs(mut plain: &[u8]) -> Result<HashMap<String, String>, Broken> {
    let number = |plain: &mut &[u8]| if plain.len() < 4 { Err(Broken) } else { Ok(plain.get_u32() as usize) };
    let text = |plain: &mut &[u8]| {
        let length = number(plain)?;
        if plain.len() < length {
            return Err(Broken);
        }
        let (text, rest) = plain.split_at(length);
        *plain = rest;
        Ok(String::from_utf8_lossy(text).into_owned())
    };
    if plain.len() < 4 {
        return Err(Broken);
    }
    let count = plain.get_u32();
    let mut headers = HashMap::new();
    for _ in 0..count {
        let (name, value) = (text(&mut plain)?, text(&mut plain)?);
        headers.insert(name.to_lowercase(), value);
    }
    Ok(headers)
}

/// The dictionary of SPDY/3: names with their lengths, then text as it is.
fn dictionary() -> Vec<u8> {
    const NAMES: &str = "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges \
        age allow authorization cache-control connection content-base content-encoding content-language content-length \
        content-location content-md5 content-range content-type date etag expect expires from host if-match \
        if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma \
        proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade \
        user-agent vary via warning www-authenticate method get status 200_OK version HTTP/1.1 url public set-cookie \
        keep-alive origin";
    const TEXT: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 \
        Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden404 Not \
        Found500 Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov \
        Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,\
        application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,\
        utf-,*,enq=0.";
    let mut bytes = Vec::new();
    for name in NAMES.split_ascii_whitespace() {
        let name = name.replace('_', " ");
        bytes.put_u32(name.len() as u32);
        bytes.extend_from_slice(name.as_bytes());
    }
    bytes.extend_from_slice(TEXT.as_bytes());
    bytes
}

fn control(kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(8 + payload.len());
    frame.put_u16(0x8003);
    frame.put_u16(kind);
    frame.put_u32(payload.len() as u32);
    frame.extend_from_slice(payload);
    frame
}

/// Writes frames.
#[derive(Default)]
pub(super) struct Writer {
    replied: bool,
}

impl Writer {
    /// Accepts a stream.
    pub fn reply(&mut self, stream: u32) -> Vec<u8> {
        let mut payload = Vec::new();
        payload.put_u32(stream);
        if !self.replied {
            // The head of the one zlib stream that all replies are; without a dictionary.
            payload.extend_from_slice(&[0x78, 0x01]);
            self.replied = true;
        }
        // No headers (the number 0), stored as it is; then an empty block, with which zlib says that all is there.
        payload.extend_from_slice(&[0, 4, 0, 0xfb, 0xff, 0, 0, 0, 0]);
        payload.extend_from_slice(&[0, 0, 0, 0xff, 0xff]);
        control(SYN_REPLY, &payload)
    }

    pub fn data(stream: u32, bytes: &[u8], last: bool) -> Vec<u8> {
        let mut frame = Vec::with_capacity(8 + bytes.len());
        frame.put_u32(stream);
        frame.put_u32((bytes.len() as u32 & 0x00ff_ffff) | if last { u32::from(FIN) << 24 } else { 0 });
        frame.extend_from_slice(bytes);
        frame
    }

    pub fn pong(id: u32) -> Vec<u8> {
        control(PING, &id.to_be_bytes())
    }

    /// Refuses or ends a stream.
    pub fn reset(stream: u32) -> Vec<u8> {
        const CANCEL: u32 = 5;
        let mut payload = Vec::new();
        payload.put_u32(stream);
        payload.put_u32(CANCEL);
        control(RST_STREAM, &payload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dictionary_is_the_one_of_the_protocol() {
        let (mut a, mut b) = (1u32, 0u32);
        for byte in dictionary() {
            a = (a + u32::from(byte)) % 65_521;
            b = (b + a) % 65_521;
        }
        assert_eq!(dictionary().len(), 1423);
        assert_eq!(b << 16 | a, 0xe3c6_a7c2);
    }

    fn open(compress: &mut flate2::Compress, stream: u32, headers: &[(&str, &str)]) -> Vec<u8> {
        let mut plain = Vec::new();
        plain.put_u32(headers.len() as u32);
        for (name, value) in headers {
            for text in [name, value] {
                plain.put_u32(text.len() as u32);
                plain.extend_from_slice(text.as_bytes());
            }
        }
        let mut block = Vec::with_capacity(4096);
        compress.compress_vec(&plain, &mut block, flate2::FlushCompress::Sync).unwrap();
        let mut payload = Vec::new();
        payload.put_u32(stream);
        payload.put_u32(0);
        payload.put_u16(0);
        payload.extend(block);
        control(SYN_STREAM, &payload)
    }

    #[tokio::test]
    async fn frames_are_read() {
        let mut compress = flate2::Compress::new(flate2::Compression::best(), true);
        compress.set_dictionary(&dictionary()).unwrap();
        let mut bytes = open(&mut compress, 1, &[("Streamtype", "error")]);
        bytes.extend(open(&mut compress, 3, &[("streamtype", "stdin"), ("port", "80")]));
        bytes.extend(Writer::data(3, b"hello", true));
        bytes.extend(Writer::pong(7));
        bytes.extend(Writer::reset(3));
        let (mut reader, mut stream) = (Reader::new(), &bytes[..]);
        let headers = |pairs: &[(&str, &str)]| pairs.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect();
        let expected = [
            Frame::Open { stream: 1, headers: headers(&[("streamtype", "error")]) },
            Frame::Open { stream: 3, headers: headers(&[("streamtype", "stdin"), ("port", "80")]) },
            Frame::Data { stream: 3, bytes: Bytes::from_static(b"hello"), last: true },
            Frame::Ping { id: 7 },
            Frame::Reset { stream: 3 },
        ];
        for frame in expected {
            assert_eq!(reader.next(&mut stream).await, Some(frame));
        }
        assert_eq!(reader.next(&mut stream).await, None);
    }

    #[tokio::test]
    async fn nonsense_ends_the_connection() {
        let mut bytes = control(SYN_STREAM, b"\0\0\0\x01\0\0\0\0\0\0not zlib");
        assert_eq!(Reader::new().next(&mut &bytes[..]).await, None);
        bytes = vec![0xff; 64];
        assert_eq!(Reader::new().next(&mut &bytes[..]).await, None);
    }

    #[test]
    fn replies_are_one_zlib_stream() {
        let mut writer = Writer::default();
        let mut inflate = Decompress::new(true);
        for _ in 0..3 {
            let frame = writer.reply(1);
            let mut plain = Vec::with_capacity(64);
            inflate.decompress_vec(&frame[12..], &mut plain, FlushDecompress::Sync).unwrap();
            assert_eq!(plain, [0, 0, 0, 0]);
        }
    }
}
