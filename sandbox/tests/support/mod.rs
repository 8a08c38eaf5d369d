//! A sandbox in a directory of its own with a small root file system, shut down and looked after for leaks at the end.
#![allow(dead_code)]

use std::{
    collections::BTreeSet,
    fs,
    future::Future,
    os::unix::fs::symlink,
    panic::AssertUnwindSafe,
    path::{Path, PathBuf},
    process::Command,
};

use futures::FutureExt;
use sandbox::{Config, Container, ContainerSpec, Exit, NetworkConfig, Sandbox};
use tokio::io::AsyncReadExt;

pub const BASE: &str = "base";

pub struct Fixture {
    pub sandbox: Sandbox,
    pub root: PathBuf,
}

/// What the tests' containers can run.
const PROGRAMS: &[&str] = &[
    "sh", "cat", "echo", "env", "false", "getent", "grep", "head", "hostname", "id", "ls", "mkdir", "mknod", "mount",
    "printf", "ps", "pwd", "rm", "seq", "setsid", "sleep", "stat", "stty", "tail", "touch", "tr", "true", "tty",
    "unshare", "wc", "chmod", "chown", "su",
];

pub fn config(root: &Path, network: bool) -> Config {
    Config {
        root: root.to_path_buf(),
        helper: vec![env!("CARGO_BIN_EXE_sandbox-helper").into()],
        instance: "test".into(),
        network: NetworkConfig { enabled: network, ..NetworkConfig::default() },
    }
}

/// Why the tests cannot run here, said once a test.
pub fn unable(network: bool) -> bool {
    let mut missing = sandbox::check(&std::env::temp_dir(), network);
    if std::env::var_os("SANDBOX_TEST_V2").is_some() {
        // Only whether it works at all is asked: a hybrid host gives version 2 no controllers.
        missing.retain(|m| !m.what.contains("controller"));
    }
    if !missing.is_empty() {
        eprintln!("SKIPPED: {missing:?}");
    }
    !missing.is_empty()
}

/// Runs a test in a sandbox. Whatever happens, nothing is left.
pub async fn with<F: Future<Output = ()>>(network: bool, test: impl FnOnce(std::sync::Arc<Fixture>) -> F) {
    if unable(network) {
        return;
    }
    let directory = tempfile::Builder::new().prefix("sandbox-test-").tempdir().unwrap();
    let root = directory.path().join("root");
    let sandbox = Sandbox::open(config(&root, network)).await.unwrap();
    fill(&sandbox);
    let fixture = std::sync::Arc::new(Fixture { sandbox, root: root.clone() });
    let result = AssertUnwindSafe(test(fixture.clone())).catch_unwind().await;
    let closed = fixture.sandbox.shutdown().await;
    let left = sandbox::leftovers(&root, "test");
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
    closed.unwrap();
    assert!(left.is_empty(), "left behind: {left:#?}");
}

/// The base snapshot.
pub fn fill(sandbox: &Sandbox) {
    sandbox
        .snapshots()
        .import::<sandbox::Error>(BASE, None, |directory| {
            root_file_system(directory);
            Ok(())
        })
        .unwrap();
}

/// Programs of this machine with their libraries: no network, no image needed.
fn root_file_system(directory: &Path) {
    for name in ["bin", "etc", "tmp", "home/user", "dev", "proc", "sys", "root", "usr/bin"] {
        fs::create_dir_all(directory.join(name)).unwrap();
    }
    let mut files = BTreeSet::new();
    for program in PROGRAMS {
        let found =
            ["/bin", "/usr/bin", "/sbin", "/usr/sbin"].iter().map(|d| Path::new(d).join(program)).find(|p| p.exists());
        let Some(found) = found else { continue };
        let real = found.canonicalize().unwrap();
        fs::copy(&real, directory.join("bin").join(program)).unwrap();
        let libraries = Command::new("ldd").arg(&real).output().unwrap();
        for word in String::from_utf8_lossy(&libraries.stdout).split_whitespace() {
            if word.starts_with('/') {
                files.insert(PathBuf::from(word));
            }
        }
    }
    for library in files {
        let target = directory.join(library.strip_prefix("/").unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(&library, target).unwrap();
    }
    fs::write(directory.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1001::/home/user:/bin/sh\n")
        .unwrap();
    fs::write(directory.join("etc/group"), "root:x:0:\nuser:x:1001:\nextra:x:1002:user\n").unwrap();
    fs::write(directory.join("etc/nsswitch.conf"), "hosts: files dns\n").unwrap();
    symlink("../bin/sh", directory.join("usr/bin/sh2")).unwrap();
}

/// What a container said, and how it ended.
#[derive(Debug)]
pub struct Said {
    pub out: String,
    pub err: String,
    pub exit: Exit,
}

impl Fixture {
    /// A specification whose root file system is a throw-away view of the base.
    pub fn spec(&self, id: &str, argv: &[&str]) -> ContainerSpec {
        let mut view = self.sandbox.snapshots().view(id, BASE, true).unwrap();
        view.keep();
        ContainerSpec::new(id, view.path(), argv.iter().copied())
    }

    pub fn shell(&self, id: &str, script: &str) -> ContainerSpec {
        self.spec(id, &["sh", "-c", script])
    }

    pub async fn run(&self, spec: ContainerSpec) -> Said {
        let container = self.sandbox.start(spec).await.unwrap();
        let said = said(&container).await;
        container.remove().await.unwrap();
        said
    }
}

pub async fn said(container: &Container) -> Said {
    let (mut out, mut err) = (container.take_stdout().unwrap(), container.take_stderr().unwrap());
    let (mut out_text, mut err_text) = (String::new(), String::new());
    let (a, b) = tokio::join!(out.read_to_string(&mut out_text), err.read_to_string(&mut err_text));
    a.unwrap();
    b.unwrap();
    Said { out: out_text, err: err_text, exit: container.wait().await }
}
