//! Commands over WebSocket (RFC 6455) with the subprotocols `v4.channel.k8s.io` and `v5.channel.k8s.io`: the first byte of a
//! message names its channel.

use bytes::{Buf as _, Bytes, BytesMut};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;

use super::session::{self, Input, Output, PIECES};
use super::{ExecOptions, Process};

/// The largest message that a client may send.
const MESSAGE: usize = 4 << 20;
/// How much is read at a time.
const READ: usize = 32 << 10;

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
/// In version 5: closes the channel named by the byte that follows.
const CLOSE: u8 = 255;

/// The value of `Sec-WebSocket-Accept`.
pub(super) fn accept(key: &str) -> String {
    use base64::Engine as _;
    let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
    base64::engine::general_purpose::STANDARD.encode(digest.as_ref())
}

/// A whole message, or a frame of control.
#[derive(Debug, PartialEq)]
pub(super) enum Message {
    Data(Bytes),
    Ping(Bytes),
    Close,
}

/// Puts messages together from frames.
#[derive(Default)]
pub(super) struct Reader {
    buffer: BytesMut,
    parts: BytesMut,
}

impl Reader {
    /// The next message; `None` at the end of the stream, and when a client breaks the protocol.
    pub async fn next(&mut self, stream: &mut (impl AsyncRead + Unpin)) -> Option<Message> {
        loop {
            match self.take() {
                Ok(Some(message)) => return Some(message),
                Ok(None) => {}
                Err(Broken) => return None,
            }
            self.buffer.reserve(READ);
            if stream.read_buf(&mut self.buffer).await.ok()? == 0 {
                return None;
            }
        }
    }

    fn take(&mut self) -> Result<Option<Message>, Broken> {
        loop {
            let Some(frame) = self.frame()? else { return Ok(None) };
            match frame.opcode {
                0..=2 => {
                    if self.parts.len() + frame.payload.len() > MESSAGE {
                        return Err(Broken);
                    }
                    if frame.last && self.parts.is_empty() {
                        return Ok(Some(Message::Data(frame.payload)));
                    }
                    self.parts.extend_from_slice(&frame.payload);
                    if frame.last {
                        return Ok(Some(Message::Data(self.parts.split().freeze())));
                    }
                }
                8 => return Ok(Some(Message::Close)),
                9 => return Ok(Some(Message::Ping(frame.payload))),
                10 => {}
                _ => return Err(Broken),
            }
        }
    }

    fn frame(&mut self) -> Result<Option<Frame>, Broken> {
        let buffer = &self.buffer;
        if buffer.len() < 2 {
            return Ok(None);
        }
        let (first, second) = (buffer[0], buffer[1]);
        // Clients must mask, and no extension was agreed on.
        if second & 0x80 == 0 || first & 0x70 != 0 {
            return Err(Broken);
        }
        let (length, start) = match second & 0x7f {
            126 if buffer.len() < 4 => return Ok(None),
            126 => (usize::from(u16::from_be_bytes([buffer[2], buffer[3]])), 4),
            127 if buffer.len() < 10 => return Ok(None),
            127 => {
                let mut bytes = [0; 8];
                bytes.copy_from_slice(&buffer[2..10]);
                (usize::try_from(u64::from_be_bytes(bytes)).map_err(|_| Broken)?, 10)
            }
            short => (usize::from(short), 2),
        };
        if length > MESSAGE {
            return Err(Broken);
        }
        if buffer.len() < start + 4 + length {
            return Ok(None);
        }
        let mut mask = [0; 4];
        mask.copy_from_slice(&buffer[start..start + 4]);
        self.buffer.advance(start + 4);
        let mut payload = self.buffer.split_to(length);
        for (at, byte) in payload.iter_mut().enumerate() {
            *byte ^= mask[at & 3];
        }
        Ok(Some(Frame { last: first & 0x80 != 0, opcode: first & 0x0f, payload: payload.freeze() }))
    }
}

struct Frame {
    last: bool,
    opcode: u8,
    payload: Bytes,
}

/// The client does not keep to the protocol.
#[derive(Debug)]
struct Broken;

/// A frame from the server: whole, not masked.
pub(super) fn frame(opcode: u8, head: &[u8], payload: &[u8]) -> Vec<u8> {
    let length = head.len() + payload.len();
    let mut frame = Vec::with_capacity(length + 10);
    frame.push(0x80 | opcode);
    if length < 126 {
        frame.push(length as u8);
    } else if let Ok(short) = u16::try_from(length) {
        frame.push(126);
        frame.extend_from_slice(&short.to_be_bytes());
    } else {
        frame.push(127);
        frame.extend_from_slice(&(length as u64).to_be_bytes());
    }
    frame.extend_from_slice(head);
    frame.extend_from_slice(payload);
    frame
}

pub(super) const BINARY: u8 = 2;
pub(super) const CLOSING: u8 = 8;
pub(super) const PONG: u8 = 10;
/// The status of a normal end.
pub(super) const NORMAL: [u8; 2] = 1000u16.to_be_bytes();

/// Carries a command over an upgraded connection.
pub(super) async fn run(stream: impl AsyncRead + AsyncWrite + Send, process: Process, options: &ExecOptions) {
    let (mut from, mut to) = tokio::io::split(Box::pin(stream));
    let (input, inputs) = mpsc::channel(PIECES);
    let (output, outputs) = mpsc::channel(PIECES);
    let (control, controls) = mpsc::channel(PIECES);
    let greeting = if options.stdout {
        STDOUT
    } else if options.stderr {
        STDERR
    } else {
        ERROR
    };
    let serving = async {
        tokio::join!(session::run(process, inputs, output), write(&mut to, greeting, outputs, controls));
    };
    let mut reader = Reader::default();
    let reading = async {
        let mut input = Some(input);
        while let Some(message) = reader.next(&mut from).await {
            let mut bytes = match message {
                Message::Data(bytes) => bytes,
                Message::Ping(bytes) => {
                    // A ping that finds the queue full is followed by another.
                    let _ = control.try_send(bytes);
                    continue;
                }
                Message::Close => return,
            };
            if bytes.is_empty() {
                continue;
            }
            let item = match bytes.get_u8() {
                STDIN => Input::Stdin(bytes),
                RESIZE => match session::terminal_size(&bytes) {
                    Some(size) => Input::Resize(size),
                    None => continue,
                },
                CLOSE if bytes.first() == Some(&STDIN) => Input::End,
                _ => continue,
            };
            if let Some(sender) = &input
                && sender.send(item).await.is_err()
            {
                input = None;
            }
        }
    };
    tokio::pin!(serving, reading);
    tokio::select! {
        // What the client still sends is read: closing with unread data would lose what it has not read yet.
        () = &mut serving => drop(tokio::time::timeout(std::time::Duration::from_secs(2), reading).await),
        () = &mut reading => {}
    }
}

async fn write(
    to: &mut (impl AsyncWrite + Unpin),
    greeting: u8,
    mut outputs: mpsc::Receiver<Output>,
    mut controls: mpsc::Receiver<Bytes>,
) {
    // Tells the client that the command runs.
    if to.write_all(&frame(BINARY, &[greeting], b"")).await.is_err() || to.flush().await.is_err() {
        return;
    }
    loop {
        let bytes = tokio::select! {
            output = outputs.recv() => match output {
                Some(Output::Stdout(bytes)) => frame(BINARY, &[STDOUT], &bytes),
                Some(Output::Stderr(bytes)) => frame(BINARY, &[STDERR], &bytes),
                Some(Output::Ended(status)) => return end(to, &status).await,
                None => return,
            },
            Some(ping) = controls.recv() => frame(PONG, b"", &ping),
        };
        if to.write_all(&bytes).await.is_err() || to.flush().await.is_err() {
            return;
        }
    }
}

async fn end(to: &mut (impl AsyncWrite + Unpin), status: &Value) {
    let mut bytes = frame(BINARY, &[ERROR], status.to_string().as_bytes());
    bytes.extend(frame(CLOSING, &NORMAL, b""));
    // The client may be gone already.
    let _ = to.write_all(&bytes).await;
    let _ = to.flush().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_accept_value_is_that_of_the_rfc() {
        assert_eq!(accept("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
        let mask = [1, 2, 3, 4];
        let mut bytes = vec![first, 0x80 | payload.len() as u8];
        bytes.extend(mask);
        bytes.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ mask[at & 3]));
        bytes
    }

    #[tokio::test]
    async fn frames_become_messages() {
        let mut bytes = masked(0x02, b"\x00he");
        bytes.extend(masked(0x89, b"ping"));
        bytes.extend(masked(0x80, b"llo"));
        bytes.extend(masked(0x88, b""));
        let mut reader = Reader::default();
        let mut stream = &bytes[..];
        assert_eq!(reader.next(&mut stream).await, Some(Message::Ping(Bytes::from_static(b"ping"))));
        assert_eq!(reader.next(&mut stream).await, Some(Message::Data(Bytes::from_static(b"\x00hello"))));
        assert_eq!(reader.next(&mut stream).await, Some(Message::Close));
        assert_eq!(reader.next(&mut stream).await, None);
        let unmasked = [0x82, 0x01, 0x00];
        assert_eq!(Reader::default().next(&mut &unmasked[..]).await, None);
        let huge = [0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(Reader::default().next(&mut &huge[..]).await, None);
    }
}
