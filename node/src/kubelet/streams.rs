//! Logs, exec and port forwarding for the API.

use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use http::StatusCode;
use k8s_openapi::api::core::v1::Pod;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use super::start::Directories;
use super::{Kubelet, logs};
use crate::api::streams::{Connection, ExecOptions, Exit, LogOptions, PodStreams, Process, TerminalSize};
use crate::controllers::typed;
use crate::objects::{meta, resource};
use crate::runtime::{ContainerId, ExecRequest, RuntimeError};
use crate::{Error, Result};

const CHUNK: usize = 32 << 10;

impl Kubelet {
    fn running(&self, namespace: &str, pod: &str, container: &str) -> Result<ContainerId> {
        let object = self.context.objects.get(&resource::PODS, namespace, pod)?;
        let uid = meta::uid(&object);
        match self.context.board.container(uid, container) {
            Some(spot) if spot.running => {
                Ok(ContainerId { pod: uid.to_owned(), name: container.to_owned(), attempt: spot.attempt })
            }
            _ => Err(Error::refused(
                StatusCode::INTERNAL_SERVER_ERROR,
                "InternalError",
                format!("container {container:?} of pod {pod:?} is not running; see `kubectl describe pod {pod}`"),
            )),
        }
    }
}

fn failed(what: &str, error: RuntimeError) -> Error {
    Error::caused(format!("{what}: {error}"), error)
}

#[async_trait]
impl PodStreams for Kubelet {
    async fn logs(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
        options: LogOptions,
    ) -> Result<BoxStream<'static, Result<Bytes>>> {
        let object = self.context.objects.get(&resource::PODS, namespace, pod)?;
        let typed_pod =
            typed::read::<Pod>(&object).ok_or_else(|| Error::failed(format!("pod {pod:?} cannot be read")))?;
        let directories = Directories::of(&self.context.root, &typed_pod);
        let uid = meta::uid(&object).to_owned();
        let statuses = ["containerStatuses", "initContainerStatuses"];
        let written = statuses
            .iter()
            .flat_map(|list| object["status"][*list].as_array().into_iter().flatten())
            .find(|status| status["name"] == container);
        let restarts = written.and_then(|status| u32::try_from(status["restartCount"].as_u64()?).ok()).unwrap_or(0);
        let attempt = self.context.board.container(&uid, container).map_or(restarts, |spot| spot.attempt);
        let exists = |attempt: &u32| directories.log(container, *attempt).exists();
        let newest = (attempt.saturating_sub(1)..=attempt).rev().find(exists);
        let wanted = match (options.previous, newest) {
            (false, newest) => newest,
            (true, Some(newest)) => newest.checked_sub(1).filter(exists),
            (true, None) => None,
        };
        let Some(wanted) = wanted else {
            let what = if options.previous {
                format!("previous terminated container {container:?} in pod {pod:?} not found")
            } else {
                let waiting = written.and_then(|status| status["state"]["waiting"]["reason"].as_str());
                let reason = waiting.unwrap_or("ContainerCreating");
                format!("container {container:?} in pod {pod:?} is waiting to start: {reason}")
            };
            return Err(Error::bad_request(what));
        };
        let (context, name) = (self.context.clone(), container.to_owned());
        let ended = move || {
            let spot = context.board.container(&uid, &name);
            spot.is_none_or(|spot| spot.attempt != wanted || !spot.running)
        };
        let stream = logs::stream(directories.log(container, wanted), options, ended);
        Ok(stream.map(|part| part.map_err(|e| Error::caused("the log could not be read", e))).boxed())
    }

    async fn exec(&self, namespace: &str, pod: &str, container: &str, options: ExecOptions) -> Result<Process> {
        if options.command.is_empty() {
            return Err(Error::bad_request(
                "attaching to a container's own process is not possible on this node; use `kubectl logs -f` to follow its output or `kubectl exec` to run a command",
            ));
        }
        let id = self.running(namespace, pod, container)?;
        let request = ExecRequest {
            argv: options.command.clone(),
            stdin: options.stdin,
            tty: options.tty,
            ..ExecRequest::default()
        };
        let session = self.context.runtime.exec(&id, &request).await;
        let session = session.map_err(|e| failed("the command could not be started", e))?;
        let stdin = session.stdin.map(|mut sink| {
            let (send, mut receive) = mpsc::channel::<Bytes>(8);
            tokio::spawn(async move {
                while let Some(bytes) = receive.recv().await {
                    if sink.write_all(&bytes).await.is_err() {
                        return;
                    }
                    let _ = sink.flush().await;
                }
                let _ = sink.shutdown().await;
            });
            send
        });
        let stdout = read(session.stdout);
        let stderr = session.stderr.map(read);
        let (resize, mut sizes) = mpsc::channel::<TerminalSize>(4);
        let to_terminal = session.resize;
        tokio::spawn(async move {
            while let Some(size) = sizes.recv().await {
                if to_terminal.send((size.width, size.height)).await.is_err() {
                    return;
                }
            }
        });
        let exit = session.exit;
        let exit = async move {
            let code = exit.await.map_err(|_| Error::failed("the command ended in a way that is not known"))?;
            Ok(Exit { code })
        };
        Ok(Process {
            stdin: stdin.filter(|_| options.stdin),
            stdout: Some(stdout).filter(|_| options.stdout),
            stderr: stderr.filter(|_| options.stderr && !options.tty),
            resize: options.tty.then_some(resize),
            exit: Box::pin(exit),
        })
    }

    async fn connect(&self, namespace: &str, pod: &str, port: u16) -> Result<Pin<Box<dyn Connection>>> {
        let object = self.context.objects.get(&resource::PODS, namespace, pod)?;
        let uid = meta::uid(&object);
        let ip = self.context.board.pod(uid).and_then(|shown| shown.ip);
        let ip = ip.ok_or_else(|| Error::bad_request(format!("pod {pod:?} has no address yet")))?;
        let stream = self.context.runtime.connect(uid, ip, port).await;
        let stream = stream.map_err(|e| failed(&format!("cannot connect to port {port} of pod {pod:?}"), e))?;
        Ok(Box::pin(stream))
    }
}

/// A stream as chunks. Reading goes on when nobody takes them: the program must not stand still for that.
fn read(mut stream: Box<dyn AsyncRead + Send + Unpin>) -> mpsc::Receiver<Bytes> {
    let (send, receive) = mpsc::channel(8);
    tokio::spawn(async move {
        let mut buffer = vec![0; CHUNK];
        while let Ok(n @ 1..) = stream.read(&mut buffer).await {
            let _ = send.send(Bytes::copy_from_slice(&buffer[..n])).await;
        }
    });
    receive
}

/// The streams of this kubelet's pods, for the API.
impl Kubelet {
    pub fn streams(&self) -> Arc<dyn PodStreams> {
        Arc::new(self.clone())
    }
}
