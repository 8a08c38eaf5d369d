//! A command and its client, whichever protocol is between them.

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{Exit, Process, TerminalSize};
use crate::Result;

/// How many pieces may wait in each direction.
pub(super) const PIECES: usize = 16;

/// What a client sends.
#[derive(Debug, PartialEq)]
pub(super) enum Input {
    Stdin(Bytes),
    /// There is no more input.
    End,
    Resize(TerminalSize),
}

/// What a client is sent.
#[derive(Debug, PartialEq)]
pub(super) enum Output {
    Stdout(Bytes),
    Stderr(Bytes),
    /// How it ended, as a `Status`; the last.
    Ended(Value),
}

/// Carries input and output until the command has ended and all was sent, or the client is gone (its sender is dropped and `lost`
/// is told by the caller by dropping this future).
pub(super) async fn run(process: Process, input: mpsc::Receiver<Input>, output: mpsc::Sender<Output>) {
    let Process { stdin, stdout, stderr, resize, exit } = process;
    let feeding = feed(input, stdin, resize);
    let reading = async {
        let out = forward(stdout, &output, Output::Stdout);
        let err = forward(stderr, &output, Output::Stderr);
        tokio::join!(out, err);
        let status = status(exit.await);
        // The client may have gone; then nobody wants to know.
        let _ = output.send(Output::Ended(status)).await;
    };
    tokio::pin!(feeding, reading);
    tokio::select! {
        () = &mut reading => {}
        () = &mut feeding => reading.await,
    }
}

async fn feed(
    mut input: mpsc::Receiver<Input>,
    mut stdin: Option<mpsc::Sender<Bytes>>,
    resize: Option<mpsc::Sender<TerminalSize>>,
) {
    while let Some(input) = input.recv().await {
        match input {
            Input::Stdin(bytes) => {
                if let Some(sender) = &stdin
                    && !bytes.is_empty()
                    && sender.send(bytes).await.is_err()
                {
                    stdin = None;
                }
            }
            Input::End => stdin = None,
            Input::Resize(size) => {
                if let Some(resize) = &resize {
                    // A size that finds the queue full is followed by a newer one.
                    let _ = resize.try_send(size);
                }
            }
        }
    }
}

async fn forward(from: Option<mpsc::Receiver<Bytes>>, to: &mpsc::Sender<Output>, wrap: fn(Bytes) -> Output) {
    let Some(mut from) = from else { return };
    while let Some(bytes) = from.recv().await {
        if !bytes.is_empty() && to.send(wrap(bytes)).await.is_err() {
            return;
        }
    }
}

/// How a command ended, as `kubectl` reads it.
fn status(exit: Result<Exit>) -> Value {
    match exit {
        Ok(Exit { code: 0 }) => json!({"metadata": {}, "status": "Success"}),
        Ok(Exit { code }) => json!({
            "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
            "message": format!("command terminated with non-zero exit code: exit status {code}"),
            "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
        }),
        Err(error) => error.status(),
    }
}

/// Reads the size of a terminal as clients send it: `{"Width":80,"Height":24}`.
pub(super) fn terminal_size(bytes: &[u8]) -> Option<TerminalSize> {
    let value: Value = serde_json::from_slice(bytes).ok()?;
    let side = |name: &str| u16::try_from(value[name].as_u64()?).ok();
    Some(TerminalSize { width: side("Width")?, height: side("Height")? })
}
