//! Ports of pods over SPDY: two streams for each connection, one for data and one for errors.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::PodStreams;
use super::session::PIECES;
use super::spdy::{Frame, Reader, Writer};

/// The most connections at a time.
const CONNECTIONS: usize = 256;

/// Half a connection that waits for its other stream.
#[derive(Default)]
struct Pair {
    data: Option<u32>,
    error: Option<u32>,
}

/// Carries connections to the ports of a pod over an upgraded connection, until the client goes.
pub(super) async fn run(
    stream: impl AsyncRead + AsyncWrite + Send,
    streams: Arc<dyn PodStreams>,
    namespace: String,
    pod: String,
) {
    let (mut from, mut to) = tokio::io::split(Box::pin(stream));
    let (frames, mut outgoing) = mpsc::channel::<Vec<u8>>(4 * PIECES);
    let writing = async {
        while let Some(frame) = outgoing.recv().await {
            if to.write_all(&frame).await.is_err() || to.flush().await.is_err() {
                return;
            }
        }
    };
    let reading = async {
        let (mut reader, mut writer) = (Reader::new(), Writer::default());
        let mut pairs: HashMap<String, Pair> = HashMap::new();
        let mut open: HashMap<u32, mpsc::Sender<Bytes>> = HashMap::new();
        let mut tasks = JoinSet::new();
        while let Some(frame) = reader.next(&mut from).await {
            match frame {
                Frame::Open { stream, headers } => {
                    let port = headers.get("port").and_then(|port| port.parse::<u16>().ok()).filter(|port| *port > 0);
                    let (Some(port), true) = (port, tasks.len() < CONNECTIONS && pairs.len() < CONNECTIONS) else {
                        send(&frames, Writer::reset(stream)).await;
                        continue;
                    };
                    send(&frames, writer.reply(stream)).await;
                    let id = headers.get("requestid").cloned().unwrap_or_default();
                    let pair = pairs.entry(id.clone()).or_default();
                    match headers.get("streamtype").map(String::as_str) {
                        Some("data") => pair.data = Some(stream),
                        _ => pair.error = Some(stream),
                    }
                    if let Pair { data: Some(data), error: Some(error) } = *pair {
                        pairs.remove(&id);
                        let (sender, receiver) = mpsc::channel(PIECES);
                        open.insert(data, sender);
                        let carried = Carried {
                            streams: streams.clone(),
                            namespace: namespace.clone(),
                            pod: pod.clone(),
                            port,
                            data,
                            error,
                            frames: frames.clone(),
                        };
                        tasks.spawn(carried.run(receiver));
                    }
                }
                Frame::Data { stream, bytes, last } => {
                    if let Some(sender) = open.get(&stream)
                        && !bytes.is_empty()
                        && sender.send(bytes).await.is_err()
                    {
                        open.remove(&stream);
                    }
                    if last {
                        open.remove(&stream);
                    }
                }
                Frame::Reset { stream } => drop(open.remove(&stream)),
                Frame::Ping { id } => send(&frames, Writer::pong(id)).await,
                Frame::GoAway => return,
                Frame::Other => {}
            }
            while tasks.try_join_next().is_some() {}
        }
    };
    tokio::select! {
        () = writing => {}
        () = reading => {}
    }
}

async fn send(frames: &mpsc::Sender<Vec<u8>>, frame: Vec<u8>) {
    // Nobody takes frames any more when the client is gone.
    let _ = frames.send(frame).await;
}

/// One connection.
struct Carried {
    streams: Arc<dyn PodStreams>,
    namespace: String,
    pod: String,
    port: u16,
    data: u32,
    error: u32,
    frames: mpsc::Sender<Vec<u8>>,
}

impl Carried {
    async fn run(self, mut incoming: mpsc::Receiver<Bytes>) {
        let connected = self.streams.connect(&self.namespace, &self.pod, self.port).await;
        let connection = match connected {
            Ok(connection) => connection,
            Err(error) => {
                let message = format!("an error occurred forwarding port {}: {error}", self.port);
                send(&self.frames, Writer::data(self.error, message.as_bytes(), true)).await;
                send(&self.frames, Writer::data(self.data, b"", true)).await;
                return;
            }
        };
        let (mut from, mut to) = tokio::io::split(connection);
        let feeding = async {
            while let Some(bytes) = incoming.recv().await {
                if to.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            // The pod may have closed already.
            let _ = to.shutdown().await;
        };
        let reading = async {
            let mut buffer = BytesMut::new();
            loop {
                buffer.reserve(16 << 10);
                match from.read_buf(&mut buffer).await {
                    Ok(0) | Err(_) => return,
                    Ok(_) => send(&self.frames, Writer::data(self.data, &buffer.split(), false)).await,
                }
            }
        };
        tokio::pin!(feeding, reading);
        tokio::select! {
            () = &mut reading => {}
            () = &mut feeding => reading.await,
        }
        send(&self.frames, Writer::data(self.error, b"", true)).await;
        send(&self.frames, Writer::data(self.data, b"", true)).await;
    }
}
