//! A server under test: a process of its own on a data directory of its own.

use std::{
    fs::File,
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::{Answer, Said, leftovers, said, wait_for};

/// How long a server may take to be ready, and to end. Machines that run tests are busy.
const READY: Duration = Duration::from_secs(60);
const END: Duration = Duration::from_secs(40);

/// How to start a server.
#[derive(Clone)]
pub struct Options {
    binary: PathBuf,
    data: Option<PathBuf>,
    arguments: Vec<String>,
    variables: Vec<(String, String)>,
}

impl Options {
    pub fn new(binary: impl AsRef<Path>) -> Self {
        Self { binary: binary.as_ref().to_owned(), data: None, arguments: Vec::new(), variables: Vec::new() }
    }

    /// An argument of `shipway up`.
    pub fn argument(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// A variable of the environment.
    pub fn variable(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    /// A data directory of one's own choice, which is not deleted.
    pub fn data(mut self, data: impl Into<PathBuf>) -> Self {
        self.data = Some(data.into());
        self
    }

    /// Starts it and waits until it is ready.
    #[track_caller]
    pub fn start(self) -> Shipway {
        let server = self.prepare();
        server.spawn();
        server.wait_until_ready();
        server
    }

    /// Starts it where it cannot be started, and gives what it said.
    #[track_caller]
    pub fn refused(self) -> Said {
        let server = self.prepare();
        server.spawn();
        let status = server.wait(END).expect("the server ends by itself");
        Said { code: status.code(), out: String::new(), err: server.output() }
    }

    fn prepare(self) -> Shipway {
        let directory = crate::directory();
        let data = self.data.clone().unwrap_or_else(|| directory.path().join("data"));
        let port = free_port();
        Shipway { options: self, directory, data, port, child: Mutex::new(None) }
    }
}

/// A server under test.
pub struct Shipway {
    options: Options,
    directory: TempDir,
    data: PathBuf,
    port: u16,
    child: Mutex<Option<Child>>,
}

/// Where all tests of this machine keep Debian packages.
pub fn package_cache() -> PathBuf {
    std::env::var_os("SHIPWAY_PACKAGE_CACHE").map_or_else(|| "/var/tmp/shipway-test-packages".into(), Into::into)
}

/// A port that is free now, outside of the range from which the kernel takes ports for clients.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = (std::process::id() % 11_000) as u16;
    let ports = std::iter::repeat_with(|| 20_000 + (first + NEXT.fetch_add(7, Ordering::Relaxed)) % 12_000);
    let free = ports.take(2000).find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok());
    free.expect("a port of this machine is free")
}

impl Shipway {
    /// A server on a fresh data directory, ready.
    #[track_caller]
    pub fn start(binary: &Path) -> Self {
        Options::new(binary).start()
    }

    pub fn data(&self) -> &Path {
        &self.data
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// `127.0.0.1:PORT`
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.host())
    }

    pub fn git_url(&self, project: &str) -> String {
        self.url(&format!("/git/{project}.git"))
    }

    pub fn token(&self) -> String {
        let path = self.data.join("admin-token");
        std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("cannot read {}: {e}", path.display()))
    }

    /// Everything that the server has written to its standard error since it was first started.
    pub fn output(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("output")).unwrap_or_default()
    }

    /// A text with what differs from run to run taken out of it, for golden tests.
    pub fn plain(&self, text: &str) -> String {
        let text = text.replace(&self.data.display().to_string(), "DATA").replace(&self.host(), "SERVER");
        match std::fs::read_to_string(self.data.join("admin-token")) {
            Ok(token) => text.replace(&token, "TOKEN"),
            Err(_) => text,
        }
    }

    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spawn(&self) {
        let output = File::options().create(true).append(true).open(self.directory.path().join("output"));
        let output = output.unwrap_or_else(|e| panic!("cannot write the server's output: {e}"));
        let mut command = Command::new(&self.options.binary);
        for name in ["SHIPWAY_DATA", "SHIPWAY_LISTEN", "SHIPWAY_NODE_LISTEN", "SHIPWAY_OSV"] {
            command.env_remove(name);
        }
        command.arg("up").arg("--data").arg(&self.data).args(["--listen", &self.host()]);
        command.arg("--package-cache").arg(package_cache());
        command.arg("--osv").arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/osv")).args(&self.options.arguments);
        command.envs(self.options.variables.iter().map(|(name, value)| (name, value)));
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(output).spawn();
        let child = child.unwrap_or_else(|e| panic!("cannot start {}: {e}", self.options.binary.display()));
        let before = self.child().replace(child);
        assert!(before.is_none(), "the server was started twice");
    }

    #[track_caller]
    fn wait_until_ready(&self) {
        let started = Instant::now();
        while !self.healthy() {
            let ended = self.child().as_mut().and_then(|child| child.try_wait().ok().flatten());
            if ended.is_some() || started.elapsed() > READY {
                panic!("the server is not ready (ended: {ended:?}):\n{}", self.output());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether `/healthz` answers 200.
    pub fn healthy(&self) -> bool {
        let ask = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        ask().is_ok_and(|answer| answer.split(' ').nth(1) == Some("200"))
    }

    /// The server's process, while it runs.
    pub fn pid(&self) -> u32 {
        self.child().as_ref().expect("the server runs").id()
    }

    fn signal(&self, signal: Signal) {
        let child = self.child();
        let pid = child.as_ref().and_then(|child| i32::try_from(child.id()).ok()).expect("the server runs");
        kill(Pid::from_raw(pid), signal).unwrap_or_else(|e| panic!("cannot send {signal} to the server: {e}"));
    }

    /// Waits until the process has ended by itself.
    fn wait(&self, limit: Duration) -> Option<ExitStatus> {
        let started = Instant::now();
        loop {
            let mut child = self.child();
            let ended = child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            if ended.is_some() {
                *child = None;
                return ended;
            }
            drop(child);
            if started.elapsed() > limit {
                return None;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// `kill -9`: the process has no chance to do anything any more.
    pub fn kill(&self) {
        self.signal(Signal::SIGKILL);
        self.wait(END).expect("a killed process ends");
    }

    /// Starts it again on the same data, after [`kill`](Self::kill) or [`terminate`](Self::terminate).
    #[track_caller]
    pub fn restart(&self) {
        self.spawn();
        self.wait_until_ready();
    }

    /// SIGTERM, and waits for the end, which must be a success.
    #[track_caller]
    pub fn terminate(&self) {
        let wrong = self.terminated();
        assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), self.output());
    }

    fn terminated(&self) -> Vec<String> {
        if let Some(status) = self.wait(Duration::ZERO) {
            return vec![format!("the server had ended before, with {status}")];
        }
        self.signal(Signal::SIGTERM);
        match self.wait(END) {
            Some(status) if status.success() => Vec::new(),
            Some(status) => vec![format!("the server ended with {status}")],
            None => {
                self.kill();
                vec![format!("the server did not end within {END:?}")]
            }
        }
    }

    /// Ends the server and says what was wrong with that: its exit, a panic, what it left on this machine.
    pub(crate) fn end(&self) -> Vec<String> {
        let mut wrong = self.terminated();
        wrong.extend(self.output().lines().filter(|line| line.contains("panicked at")).map(str::to_owned));
        // What the kernel takes away in the background is given a moment.
        let started = Instant::now();
        let mut left = leftovers(&self.data);
        while !left.is_empty() && started.elapsed() < END {
            std::thread::sleep(Duration::from_millis(50));
            left = leftovers(&self.data);
        }
        wrong.extend(left.into_iter().map(|what| format!("left: {what}")));
        if !wrong.is_empty() {
            wrong.push(format!("it said:\n{}", self.output()));
        }
        if let Err(e) = std::fs::remove_dir_all(&self.data)
            && e.kind() != std::io::ErrorKind::NotFound
        {
            wrong.push(format!("{} cannot be deleted: {e}", self.data.display()));
        }
        let _ = std::fs::remove_dir_all(self.directory.path());
        wrong
    }

    /// Ends the server in order. It must end well and leave nothing on this machine.
    #[track_caller]
    pub fn stop(self) {
        let wrong = self.end();
        assert!(wrong.is_empty(), "the server did not end as it should:\n  {}", wrong.join("\n  "));
    }

    /// A request with the administrator's token.
    #[track_caller]
    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let (token, url) = (format!("Authorization: Bearer {}", self.token()), self.url(path));
        let mut arguments = vec!["--request", method, "--header", &token];
        let text = body.map(Value::to_string).unwrap_or_default();
        if body.is_some() {
            arguments.extend(["--header", "Content-Type: application/json", "--data-binary", "@-"]);
        }
        arguments.push(&url);
        Answer::fetch(&arguments, text.as_bytes())
    }

    /// A request of somebody who has no token.
    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        Answer::fetch(&[&self.url(path)], b"")
    }

    /// The JSON of a successful `GET`.
    #[track_caller]
    pub fn json(&self, path: &str) -> Value {
        self.get(path).ok()
    }

    /// `shipway …` against this server.
    pub fn cli(&self, arguments: &[&str]) -> Said {
        self.cli_with(arguments, b"")
    }

    pub fn cli_with(&self, arguments: &[&str], input: &[u8]) -> Said {
        let mut command = Command::new(&self.options.binary);
        command
            .args(arguments)
            .env("SHIPWAY_SERVER", self.url(""))
            .env("SHIPWAY_TOKEN_FILE", self.data.join("admin-token"));
        said(&mut command, input)
    }

    /// What `kubectl …` prints for this server's cluster; it must succeed.
    #[track_caller]
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        let mut kubectl = Command::new("kubectl");
        said(kubectl.args(arguments).env("KUBECONFIG", self.data.join("kubeconfig")), b"").ok()
    }

    /// Waits until something is as it should be on this server; a server that has died meanwhile is said to have.
    #[track_caller]
    pub fn wait_for<T>(&self, what: &str, mut ask: impl FnMut() -> Result<T, String>) -> T {
        wait_for(what, Duration::from_secs(120), || {
            let ended = self.child().as_mut().and_then(|child| child.try_wait().ok().flatten());
            assert!(ended.is_none(), "{what}: the server has ended with {ended:?}:\n{}", self.output());
            ask()
        })
    }
}

impl Drop for Shipway {
    fn drop(&mut self) {
        let running = self.child().is_some();
        if running {
            // A test failed; what it started is tidied up all the same.
            if std::thread::panicking() {
                crate::say(&format!("the server of the test that failed said:\n{}", self.output()));
            }
            self.terminated();
        }
    }
}
