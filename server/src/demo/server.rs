//! The server of a demo: a process of its own, ended with it.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{
    process::{Child, Command},
    time::Instant,
};

use super::Options;
use crate::{
    cli::Client,
    fault::{Class, Fault, Result},
    token::Token,
};

/// A server that was started for the demo.
pub struct Server {
    child: Child,
    pub data: PathBuf,
    /// `http://127.0.0.1:PORT`
    pub url: String,
    pub token: Token,
    /// Seconds from its start until `/healthz` answered.
    pub ready_s: f64,
    /// Deleted at the end, unless the data directory was given.
    temporary: Option<tempfile::TempDir>,
}

impl Server {
    /// Starts this same program as a server and waits until it is ready.
    pub async fn start(options: &Options) -> Result<Self> {
        let io = |what: &str, e: std::io::Error| Fault::new(Class::Unavailable, format!("cannot {what}: {e}"));
        let (data, temporary) = match &options.data {
            Some(data) => {
                if data.read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
                    return Err(Fault::usage(format!("{} is not empty", data.display()))
                        .hint("a demo starts afresh: name a directory that does not exist yet"));
                }
                std::fs::create_dir_all(data).map_err(|e| io("make the data directory", e))?;
                (data.clone(), None)
            }
            None => {
                // Not in /tmp, which often lives in memory.
                let temporary = tempfile::Builder::new()
                    .prefix("shipway-demo-")
                    .tempdir_in("/var/tmp")
                    .map_err(|e| io("make a temporary directory in /var/tmp", e))?;
                (temporary.path().to_owned(), Some(temporary))
            }
        };
        let listen = if options.listen.port() == 0 { free_port(options.listen)? } else { options.listen };
        super::workspace::write_osv(&data.join("osv")).map_err(|e| io("write the vulnerability database", e))?;
        let program = std::env::current_exe().map_err(|e| io("find this program", e))?;
        let log = std::fs::File::create(data.join("server.log")).map_err(|e| io("write the server's log", e))?;
        let mut command = Command::new(program);
        command.arg("up").arg("--data").arg(&data).arg("--listen").arg(listen.to_string());
        command.arg("--mirror").arg(&options.mirror);
        if let Some(cache) = &options.package_cache {
            command.arg("--package-cache").arg(cache);
        }
        let started = Instant::now();
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            // Ctrl-C is for the demo, which then ends the server in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| io("start the server", e))?;
        let mut server =
            Self { child, url: format!("http://{listen}"), token: Token::given(""), ready_s: 0.0, data, temporary };
        server.wait_until_ready(started).await?;
        server.ready_s = started.elapsed().as_secs_f64();
        server.token = Token::load(&server.data.join("admin-token"))?;
        Ok(server)
    }

    async fn wait_until_ready(&mut self, started: Instant) -> Result<()> {
        let client = self.anonymous()?;
        loop {
            if client.send(reqwest::Method::GET, "/healthz", None).await.is_ok() {
                return Ok(());
            }
            let ended = self.child.try_wait().ok().flatten();
            if ended.is_some() || started.elapsed() > Duration::from_secs(30) {
                let what = ended.map_or("is not ready after 30 s".to_owned(), |status| format!("ended with {status}"));
                return Err(Fault::new(Class::Unavailable, format!("the server {what}: {}", self.last_words())));
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// The end of the server's log, for an error.
    fn last_words(&self) -> String {
        let text = std::fs::read_to_string(self.data.join("server.log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(5).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
    }

    fn anonymous(&self) -> Result<Client> {
        Client::new(&self.url, None)
    }

    pub fn client(&self) -> Result<Client> {
        Client::new(&self.url, Some(self.token.clone()))
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.data.join("kubeconfig")
    }

    /// Resident memory of the server process in MiB, as the kernel counts it now.
    pub fn rss_mib(&self) -> Option<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()?)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kib: f64 = line.trim().trim_end_matches(" kB").trim().parse().ok()?;
        Some(kib / 1024.0)
    }

    /// Waits for Ctrl-C.
    pub async fn keep(&self) {
        let _ = tokio::signal::ctrl_c().await;
    }

    /// Ends the server in order, deletes what is temporary, and says what is still there.
    pub async fn stop(mut self) -> Vec<String> {
        let mut left = Vec::new();
        if let Some(pid) = self.child.id().and_then(|pid| i32::try_from(pid).ok()) {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM);
        }
        match tokio::time::timeout(Duration::from_secs(30), self.child.wait()).await {
            Ok(Ok(status)) if status.success() => {}
            Ok(Ok(status)) => left.push(format!("the server ended with {status}: {}", self.last_words())),
            _ => {
                left.push("the server did not end within 30 s".into());
                let _ = self.child.kill().await;
            }
        }
        left.extend(crate::wiring::leftovers(&self.data));
        if let Some(temporary) = self.temporary.take() {
            let path = temporary.path().to_owned();
            if let Err(e) = temporary.close() {
                left.push(format!("{} could not be deleted: {e}", path.display()));
            }
        }
        left
    }

    pub fn file(&self, name: &str) -> PathBuf {
        Path::new(&self.data).join(name)
    }
}

fn free_port(near: std::net::SocketAddr) -> Result<std::net::SocketAddr> {
    let listener = std::net::TcpListener::bind(near)
        .map_err(|e| Fault::new(Class::Unavailable, format!("cannot listen on {near}: {e}")))?;
    listener.local_addr().map_err(|e| Fault::from_error(Class::Unavailable, &e))
}
