//! A server on loopback with containers that are processes of this machine, and ways to talk to it.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::Stdio;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use node::api::streams::{Connection, ExecOptions, Exit, LogOptions, PodStreams, Process};
use node::api::{Server, ServerConfig};
use node::objects::Objects;
use node::{Error, Result};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;

pub struct Node {
    pub objects: Objects,
    pub server: Server,
    pub directory: tempfile::TempDir,
}

impl Node {
    pub async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        // The clients compare with their own clock.
        #[expect(clippy::disallowed_methods, reason = "kubectl reads the wall clock, so must its server")]
        let clock = Arc::new(jiff::Timestamp::now);
        let objects = Objects::open(Arc::new(store::MemoryLog::default()), clock).await.unwrap();
        let config = ServerConfig {
            listen: "127.0.0.1:0".parse().unwrap(),
            directory: directory.path().join("tls"),
            names: Vec::new(),
        };
        let server = Server::start(config, objects.clone(), Arc::new(Local)).await.unwrap();
        std::fs::write(directory.path().join("kubeconfig"), server.kubeconfig()).unwrap();
        Self { objects, server, directory }
    }

    pub fn client(&self, version: &Path) -> Kubectl {
        Kubectl { program: version.to_owned(), directory: self.directory.path().to_owned() }
    }
}

/// The programs to test with; says so when there are none.
pub fn kubectls() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::env::var_os("PATH")
        .map(|path| std::env::split_paths(&path).map(|d| d.join("kubectl")).filter(|p| p.is_file()).collect())
        .unwrap_or_default();
    found.truncate(1);
    if let Some(more) = std::env::var_os("SHIPWAY_TEST_KUBECTL") {
        found.extend(std::env::split_paths(&more));
    }
    if found.is_empty() {
        eprintln!("SKIPPED: there is no kubectl on the path");
    }
    found
}

#[derive(Clone)]
pub struct Kubectl {
    program: PathBuf,
    directory: PathBuf,
}

#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Kubectl {
    pub fn command(&self, line: &[&str]) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(&self.program);
        command
            .args(line)
            .env("KUBECONFIG", self.directory.join("kubeconfig"))
            .env("HOME", self.directory.join("home"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    pub async fn words(&self, words: &[&str], stdin: &str) -> Said {
        let mut child = self.command(words).spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        let text = stdin.to_owned();
        tokio::spawn(async move {
            // It may end without reading.
            let _ = input.write_all(text.as_bytes()).await;
        });
        let limit = std::time::Duration::from_secs(60);
        let output = tokio::time::timeout(limit, child.wait_with_output()).await.expect("kubectl hangs").unwrap();
        Said {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Runs a line of words without quotes.
    pub async fn run(&self, line: &str, stdin: &str) -> Said {
        self.words(&line.split(' ').collect::<Vec<_>>(), stdin).await
    }

    /// Runs a line that must succeed; gives what it printed.
    #[track_caller]
    pub fn ok(&self, line: &str) -> impl Future<Output = String> + use<> {
        self.ok_with(line, "")
    }

    #[track_caller]
    pub fn ok_with(&self, line: &str, stdin: &str) -> impl Future<Output = String> + use<> {
        let caller = std::panic::Location::caller();
        let (this, line, stdin) = (self.clone(), line.to_owned(), stdin.to_owned());
        async move {
            let said = this.run(&line, &stdin).await;
            assert_eq!(said.code, 0, "{caller}: {} {line}: {}{}", this.program.display(), said.out, said.err);
            said.out
        }
    }
}

/// Containers that are processes of this machine.
pub struct Local;

fn pump(mut from: impl AsyncRead + Unpin + Send + 'static) -> mpsc::Receiver<Bytes> {
    let (sender, receiver) = mpsc::channel(4);
    tokio::spawn(async move {
        let mut buffer = vec![0; 8192];
        while let Ok(n) = from.read(&mut buffer).await {
            if n == 0 || sender.send(Bytes::copy_from_slice(&buffer[..n])).await.is_err() {
                return;
            }
        }
    });
    receiver
}

#[async_trait]
impl PodStreams for Local {
    async fn logs(
        &self,
        _: &str,
        pod: &str,
        container: &str,
        options: LogOptions,
    ) -> Result<BoxStream<'static, Result<Bytes>>> {
        let all: Vec<String> =
            (0..5).map(|n| format!("{pod}/{container} {n} previous={}\n", options.previous)).collect();
        let skip = options.tail_lines.map_or(0, |lines| 5usize.saturating_sub(lines as usize));
        let end = futures::stream::iter(options.follow.then(|| Ok(Bytes::from_static(b"followed\n"))));
        let lines = futures::stream::iter(all.into_iter().skip(skip).map(|line| Ok(Bytes::from(line))));
        Ok(lines.chain(end).boxed())
    }

    async fn exec(&self, _: &str, _: &str, _: &str, options: ExecOptions) -> Result<Process> {
        let program = options.command.first().map_or("cat", String::as_str);
        let mut child = tokio::process::Command::new(program)
            .args(options.command.iter().skip(1))
            .stdin(if options.stdin { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| Error::caused(format!("cannot start {program}"), e))?;
        let stdin = child.stdin.take().map(|mut stdin| {
            let (sender, mut receiver) = mpsc::channel::<Bytes>(4);
            tokio::spawn(async move {
                while let Some(bytes) = receiver.recv().await {
                    if stdin.write_all(&bytes).await.is_err() {
                        return;
                    }
                }
            });
            sender
        });
        let stdout = child.stdout.take().map(pump).filter(|_| options.stdout);
        let stderr = child.stderr.take().map(pump).filter(|_| options.stderr);
        let exit = async move {
            let status = child.wait().await.map_err(|e| Error::caused("cannot wait", e))?;
            Ok(Exit { code: status.code().unwrap_or(137) })
        };
        Ok(Process { stdin, stdout, stderr, resize: None, exit: Box::pin(exit) })
    }

    async fn connect(&self, _: &str, _: &str, port: u16) -> Result<Pin<Box<dyn Connection>>> {
        let connected = tokio::net::TcpStream::connect(("127.0.0.1", port)).await;
        Ok(Box::pin(connected.map_err(|e| Error::caused(format!("nothing listens on port {port}"), e))?))
    }
}

pub const WEB: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  labels: {app: web}
spec:
  replicas: 3
  selector:
    matchLabels: {app: web}
  template:
    metadata:
      labels: {app: web}
    spec:
      containers:
      - name: web
        image: web:1
        ports:
        - containerPort: 8080
        readinessProbe:
          httpGet: {path: /, port: 8080}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports:
  - port: 80
    targetPort: 8080
"#;

pub const POD: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  nodeName: here
  containers:
  - {name: main, image: "main:1"}
  - {name: side, image: "side:1"}
"#;
