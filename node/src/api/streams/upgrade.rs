//! From a request to a stream: which protocol, which command, and the handshake.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;

use super::session::{self, Input, Output, PIECES};
use super::spdy::{Frame, Reader, Writer};
use super::{ExecOptions, Process, forward, websocket};
use crate::api::answer::{self, Answer};
use crate::api::request::{Query, Target};
use crate::api::{Api, pod};
use crate::objects::resource;
use crate::{Error, Result};

/// How long a client may take to open the streams of a command.
const OPENING: Duration = Duration::from_secs(30);

/// What carries a stream.
enum Carrier {
    WebSocket { key: String, protocol: String },
    Spdy { protocol: String },
}

const STREAM_PROTOCOL: &str = "x-stream-protocol-version";

/// Answers `exec`, `attach` and `portforward`.
pub async fn upgrade(
    api: Arc<Api>,
    target: &Target,
    sub: &str,
    query: &Query,
    request: &mut Request<Body>,
) -> Result<Answer> {
    let name = target.name.as_deref().unwrap_or_default().to_owned();
    let namespace = target.namespace().to_owned();
    let found = api.objects.get(&resource::PODS, &namespace, &name)?;
    let carrier = carrier(request.headers(), sub)?;
    if found["spec"]["nodeName"].as_str().unwrap_or_default().is_empty() {
        return Err(Error::bad_request(format!("pod {name} does not have a host assigned")));
    }
    let answer = handshake(&carrier)?;
    let upgrading = hyper::upgrade::on(&mut *request);
    let stop = api.stop.clone();
    if sub == "portforward" {
        let streams = api.streams.clone();
        tokio::spawn(async move {
            let Ok(upgraded) = upgrading.await else { return };
            tokio::select! {
                () = forward::run(TokioIo::new(upgraded), streams, namespace, name) => {}
                () = stop.cancelled() => {}
            }
        });
        return Ok(answer);
    }
    let container = pod::container(&found, query.get("container"))?;
    let flag = |name: &str| query.flag(name);
    let tty = flag("tty");
    let options = ExecOptions {
        command: if sub == "exec" { query.all("command").map(str::to_owned).collect() } else { Vec::new() },
        tty,
        stdin: flag("stdin"),
        stdout: flag("stdout"),
        // A terminal has one output.
        stderr: flag("stderr") && !tty,
    };
    if sub == "exec" && options.command.is_empty() {
        return Err(Error::bad_request("you must specify at least 1 command for the container"));
    }
    if !(options.stdin || options.stdout || options.stderr) {
        return Err(Error::bad_request("you must specify at least 1 of stdin, stdout, stderr"));
    }
    // Started before the answer, so that what fails is said as an ordinary error.
    let process = api.streams.exec(&namespace, &name, &container, options.clone()).await?;
    tokio::spawn(async move {
        let Ok(upgraded) = upgrading.await else { return };
        let stream = TokioIo::new(upgraded);
        let carrying = async {
            match carrier {
                Carrier::WebSocket { .. } => websocket::run(stream, process, &options).await,
                Carrier::Spdy { .. } => spdy(stream, process, &options).await,
            }
        };
        tokio::select! {
            () = carrying => {}
            () = stop.cancelled() => {}
        }
    });
    Ok(answer)
}

fn tokens<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|token| !token.is_empty())
}

/// The protocol that client and server both speak.
fn carrier(headers: &HeaderMap, sub: &str) -> Result<Carrier> {
    let upgrade = tokens(headers, header::UPGRADE.as_str()).next().unwrap_or_default().to_lowercase();
    let refused = |asked: Vec<&str>, known: &[&str]| {
        let message = format!("unable to upgrade: the client offers {asked:?}, the server speaks {known:?} for {sub}");
        Error::refused(StatusCode::FORBIDDEN, "Forbidden", message)
    };
    match upgrade.as_str() {
        "websocket" => {
            let known: &[&str] = if sub == "portforward" { &[] } else { &["v5.channel.k8s.io", "v4.channel.k8s.io"] };
            let offered: Vec<&str> = tokens(headers, header::SEC_WEBSOCKET_PROTOCOL.as_str()).collect();
            let protocol = known.iter().find(|protocol| offered.contains(protocol));
            let protocol = protocol.ok_or_else(|| refused(offered, known))?;
            let key = headers.get(header::SEC_WEBSOCKET_KEY).and_then(|key| key.to_str().ok());
            let key = key.ok_or_else(|| Error::bad_request("unable to upgrade: Sec-WebSocket-Key is missing"))?;
            Ok(Carrier::WebSocket { key: key.to_owned(), protocol: (*protocol).to_owned() })
        }
        "spdy/3.1" => {
            let known: &[&str] = if sub == "portforward" { &["portforward.k8s.io"] } else { &["v4.channel.k8s.io"] };
            let offered: Vec<&str> = tokens(headers, STREAM_PROTOCOL).collect();
            let protocol = known.iter().find(|protocol| offered.contains(protocol));
            let protocol = protocol.ok_or_else(|| refused(offered, known))?;
            Ok(Carrier::Spdy { protocol: (*protocol).to_owned() })
        }
        _ => Err(Error::bad_request("Upgrade request required")),
    }
}

fn handshake(carrier: &Carrier) -> Result<Answer> {
    let mut answer = answer::raw(StatusCode::SWITCHING_PROTOCOLS, "text/plain", Body::empty());
    let value = |text: &str| HeaderValue::from_str(text).map_err(|_| Error::bad_request("unable to upgrade"));
    let headers = answer.headers_mut();
    headers.remove(header::CONTENT_TYPE);
    headers.remove(header::CACHE_CONTROL);
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    match carrier {
        Carrier::WebSocket { key, protocol } => {
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(header::SEC_WEBSOCKET_ACCEPT, value(&websocket::accept(key))?);
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, value(protocol)?);
        }
        Carrier::Spdy { protocol } => {
            headers.insert(header::UPGRADE, HeaderValue::from_static("SPDY/3.1"));
            headers.insert(STREAM_PROTOCOL, value(protocol)?);
        }
    }
    Ok(answer)
}

/// Carries a command over SPDY: one stream for errors and one each for what was asked for.
async fn spdy(stream: impl AsyncRead + AsyncWrite + Send, process: Process, options: &ExecOptions) {
    let (mut from, mut to) = tokio::io::split(Box::pin(stream));
    let (mut reader, mut writer) = (Reader::new(), Writer::default());
    let mut wanted = vec!["error"];
    for (asked, name) in
        [(options.stdin, "stdin"), (options.stdout, "stdout"), (options.stderr, "stderr"), (options.tty, "resize")]
    {
        if asked {
            wanted.push(name);
        }
    }
    let mut ids: HashMap<String, u32> = HashMap::new();
    let opening = async {
        while wanted.iter().any(|name| !ids.contains_key(*name)) {
            let reply = match reader.next(&mut from).await? {
                Frame::Open { stream, headers } => {
                    let name = headers.get("streamtype").cloned().unwrap_or_default();
                    if wanted.contains(&name.as_str()) {
                        ids.insert(name, stream);
                    }
                    writer.reply(stream)
                }
                Frame::Ping { id } => Writer::pong(id),
                Frame::GoAway => return None,
                _ => continue,
            };
            to.write_all(&reply).await.ok()?;
            to.flush().await.ok()?;
        }
        Some(())
    };
    if !matches!(tokio::time::timeout(OPENING, opening).await, Ok(Some(()))) {
        return;
    }
    let id = |name: &str| ids.get(name).copied().unwrap_or_default();
    let (input, inputs) = mpsc::channel(PIECES);
    let (output, mut outputs) = mpsc::channel(PIECES);
    let (control, mut controls) = mpsc::channel::<Vec<u8>>(PIECES);
    let writing = async {
        loop {
            let bytes = tokio::select! {
                output = outputs.recv() => match output {
                    Some(Output::Stdout(bytes)) => Writer::data(id("stdout"), &bytes, false),
                    Some(Output::Stderr(bytes)) => Writer::data(id("stderr"), &bytes, false),
                    Some(Output::Ended(status)) => {
                        let mut last = Writer::data(id("error"), status.to_string().as_bytes(), true);
                        for name in ["stdout", "stderr"].into_iter().filter(|name| ids.contains_key(*name)) {
                            last.extend(Writer::data(id(name), b"", true));
                        }
                        // The client may be gone already.
                        let _ = to.write_all(&last).await;
                        let _ = to.flush().await;
                        return;
                    }
                    None => return,
                },
                Some(frame) = controls.recv() => frame,
            };
            if to.write_all(&bytes).await.is_err() || to.flush().await.is_err() {
                return;
            }
        }
    };
    let reading = async {
        let mut input = Some(input);
        while let Some(frame) = reader.next(&mut from).await {
            let item = match frame {
                Frame::Data { stream, bytes, last } if stream == id("stdin") => {
                    if let Some(sender) = &input
                        && sender.send(Input::Stdin(bytes)).await.is_err()
                    {
                        input = None;
                    }
                    if !last {
                        continue;
                    }
                    Input::End
                }
                Frame::Reset { stream } if stream == id("stdin") => Input::End,
                Frame::Data { stream, bytes, .. } if stream == id("resize") => match session::terminal_size(&bytes) {
                    Some(size) => Input::Resize(size),
                    None => continue,
                },
                Frame::Ping { id } => {
                    // A ping that finds the queue full is followed by another.
                    let _ = control.try_send(Writer::pong(id));
                    continue;
                }
                Frame::GoAway => return,
                _ => continue,
            };
            if let Some(sender) = &input
                && sender.send(item).await.is_err()
            {
                input = None;
            }
        }
    };
    let serving = async {
        tokio::join!(session::run(process, inputs, output), writing);
    };
    tokio::pin!(serving, reading);
    tokio::select! {
        // What the client still sends is read: closing with unread data would lose what it has not read yet.
        () = &mut serving => drop(tokio::time::timeout(Duration::from_secs(2), reading).await),
        () = &mut reading => {}
    }
}
