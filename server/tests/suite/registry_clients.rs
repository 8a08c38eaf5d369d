//! The registry of a whole server under what clients do besides a push and a pull: daemons, large layers, cut connections, many at once.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use testbed::{Said, Shared, Shipway, need_root, need_tool, said, sha256, wait_for};

use crate::{
    registry::{at_home, copy, layout},
    shipway,
};

/// A layer that is large for a test.
const LARGE: usize = 40_000_000;

fn server() -> Option<&'static Shipway> {
    static SERVER: Shared = Shared::new();
    need_root().then(|| SERVER.get(|| Shipway::start(shipway())))
}

/// A daemon with everything of its own; ends in order.
struct Daemon(Child);

impl Daemon {
    fn start(command: &mut Command, log: &Path) -> Self {
        let log = std::fs::File::create(log).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        Self(command.spawn().unwrap())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Ok(pid) = i32::try_from(self.0.id()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let _ = self.0.wait();
    }
}

fn noise(length: usize) -> Vec<u8> {
    (0..length as u64).map(|n| (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect()
}

/// A layout with an image whose one layer is large.
fn large(home: &Path) -> (String, String) {
    std::fs::create_dir_all(home.join("files/etc")).unwrap();
    std::fs::write(home.join("files/etc/noise"), noise(LARGE)).unwrap();
    let digest = layout(home, &["etc"]);
    (digest, format!("oci:{}:v1", home.join("layout").display()))
}

/// Stands between a client and the server, and cuts the first connection that carries more than so much in one direction.
struct Cutter {
    port: u16,
    cut: Arc<AtomicBool>,
}

impl Cutter {
    fn start(server: u16, up: Option<usize>, down: Option<usize>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let cut = Arc::new(AtomicBool::new(false));
        let done = cut.clone();
        // Ends with the test program.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else { continue };
                for (from, to, limit) in [(&client, &server, up), (&server, &client, down)] {
                    let (from, to, done) = (from.try_clone().unwrap(), to.try_clone().unwrap(), done.clone());
                    std::thread::spawn(move || carry(from, to, limit, &done));
                }
            }
        });
        Self { port, cut }
    }

    fn has_cut(&self) -> bool {
        self.cut.load(Ordering::SeqCst)
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, limit: Option<usize>, done: &AtomicBool) {
    let (mut buffer, mut carried) = (vec![0; 64 << 10], 0);
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
        carried += read;
        if limit.is_some_and(|limit| carried > limit) && !done.swap(true, Ordering::SeqCst) {
            let _ = from.shutdown(Shutdown::Both);
            let _ = to.shutdown(Shutdown::Both);
            return;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

#[test]
fn a_connection_that_is_cut_leaves_nothing_half_there() {
    let Some(server) = server() else { return };
    if !need_tool("skopeo") {
        return;
    }
    let home = testbed::directory();
    let (digest, from) = large(home.path());
    let login = |host: &str| {
        let login = ["login", "--tls-verify=false", "-u", "admin", "-p", &server.token(), host];
        at_home(home.path(), "skopeo", &login).ok();
    };
    let skopeo = |from: &str, to: &str| {
        let how = ["--insecure-policy", "--src-tls-verify=false", "--dest-tls-verify=false", "--retry-times=3"];
        at_home(home.path(), "skopeo", &[&["copy", "--preserve-digests"][..], &how, &[from, to]].concat())
    };
    let cutter = Cutter::start(server.port(), Some(LARGE / 3), None);
    let host = format!("127.0.0.1:{}", cutter.port);
    login(&host);
    // By itself or by who uses it: it tries some kinds of broken connections again, and not others.
    if !skopeo(&from, &format!("docker://{host}/cut/app:v1")).success() {
        assert_eq!(server.get("/v2/cut/app/tags/list").status, 404, "nothing is half there");
        skopeo(&from, &format!("docker://{host}/cut/app:v1")).ok();
    }
    assert!(cutter.has_cut());
    let tagged = server.get("/v2/cut/app/manifests/v1");
    assert!(tagged.headers.to_lowercase().contains(&format!("docker-content-digest: {digest}")), "{tagged:?}");

    let cutter = Cutter::start(server.port(), None, Some(LARGE / 3));
    let to = home.path().join("back");
    let from = format!("docker://127.0.0.1:{}/cut/app:v1", cutter.port);
    if !skopeo(&from, &format!("dir:{}", to.display())).success() {
        skopeo(&from, &format!("dir:{}", to.display())).ok();
    }
    assert!(cutter.has_cut());
    assert_eq!(sha256(&std::fs::read(to.join("manifest.json")).unwrap()), digest);
    // Who wants only the rest is given the rest.
    let layer = std::fs::read(home.path().join("layer.tar")).unwrap();
    let url = server.url(&format!("/v2/cut/app/blobs/{}", sha256(&layer)));
    let rest = home.path().join("rest").display().to_string();
    let mut curl = Command::new("curl");
    let code = ["--silent", "--output", &rest, "--write-out", "%{http_code}", "--range", "30000000-", &url];
    assert_eq!(said(curl.args(code), b"").ok(), "206");
    assert!(std::fs::read(rest).unwrap() == layer[30_000_000..]);
}

#[test]
fn many_clients_push_and_pull_at_once() {
    let Some(server) = server() else { return };
    if !need_tool("skopeo") {
        return;
    }
    std::thread::scope(|scope| {
        for n in 0..8 {
            scope.spawn(move || {
                let home = testbed::directory();
                std::fs::create_dir_all(home.path().join("files/etc")).unwrap();
                // Two and two are the same.
                std::fs::write(home.path().join("files/etc/file"), vec![n / 2; 3_000_000]).unwrap();
                let digest = layout(home.path(), &["etc"]);
                let from = format!("oci:{}:v1", home.path().join("layout").display());
                let name = format!("docker://many/app{n}:v1");
                copy(server, home.path(), &from, &name, Some(&server.token())).ok();
                // The same content in another repository of the server.
                copy(server, home.path(), &name, &format!("docker://many/all:v{n}"), Some(&server.token())).ok();
                for name in [name, format!("docker://many/all@{digest}")] {
                    let to = format!("dir:{}", home.path().join("back").display());
                    copy(server, home.path(), &name, &to, None).ok();
                }
            });
        }
    });
    assert_eq!(server.json("/v2/many/all/tags/list")["tags"].as_array().unwrap().len(), 8);
}

#[test]
fn docker_pushes_and_pulls() {
    let Some(server) = server() else { return };
    if !need_tool("dockerd") || !need_tool("docker") {
        return;
    }
    let home = testbed::directory();
    layout(home.path(), &["etc"]);
    let path = |name: &str| home.path().join(name).display().to_string();
    let socket = format!("unix://{}", path("socket"));
    let mut dockerd = Command::new("dockerd");
    dockerd.args(["--data-root", &path("docker"), "--exec-root", &path("exec"), "--pidfile", &path("pid")]);
    dockerd.args(["--host", &socket, "--bridge=none", "--iptables=false", "--ip6tables=false"]);
    dockerd.args(["--storage-driver=vfs", "--insecure-registry=127.0.0.0/8"]);
    let _daemon = Daemon::start(&mut dockerd, &home.path().join("log"));
    let docker_as = |who: &str, arguments: &[&str], input: &[u8]| -> Said {
        let mut command = Command::new("docker");
        command.args(arguments).env("DOCKER_HOST", &socket).env("DOCKER_CONFIG", path(who));
        said(&mut command, input)
    };
    wait_for("dockerd answers", Duration::from_secs(60), || match docker_as("nobody", &["info"], b"") {
        info if info.success() => Ok(()),
        info => Err(format!("{info:?}\n{}", std::fs::read_to_string(path("log")).unwrap_or_default())),
    });
    let admin = |arguments: &[&str]| docker_as("admin", arguments, b"");
    let name = |name: &str| format!("{}/docker/{name}:v1", server.host());
    let (small, again, big) = (name("small"), name("again"), name("big"));
    admin(&["import", &path("layer.tar"), &small]).ok();
    let refused = docker_as("nobody", &["push", &small], b"").failed();
    assert!(refused.contains("no basic auth credentials") || refused.contains("unauthorized"), "{refused}");
    let login = ["login", "--username", "admin", "--password-stdin", &server.host()];
    docker_as("admin", &login, b"wrong").failed();
    docker_as("admin", &login, server.token().as_bytes()).ok();
    admin(&["push", &small]).ok();
    admin(&["tag", &small, &again]).ok();
    let mounted = admin(&["push", &again]).ok();
    assert!(mounted.contains("Mounted from docker/small"), "{mounted}");
    std::fs::write(path("files/noise"), noise(LARGE)).unwrap();
    let mut tar = Command::new("tar");
    said(tar.args(["--create", "--file", &path("big.tar"), "--directory", &path("files"), "noise"]), b"").ok();
    admin(&["import", &path("big.tar"), &big]).ok();
    admin(&["push", &big]).ok();
    admin(&["rmi", &small, &again, &big]).ok();
    // Everybody may pull here, and needs no login for it.
    for image in [&small, &again, &big] {
        docker_as("nobody", &["pull", image], b"").ok();
    }
    admin(&["rmi", &small, &again, &big]).ok();
    assert_eq!(server.ask("DELETE", "/v2/docker/small/manifests/v1", None).status, 202);
    docker_as("nobody", &["pull", &small], b"").failed();
}

#[test]
fn containerd_pushes_and_pulls() {
    let Some(server) = server() else { return };
    if !need_tool("containerd") || !need_tool("ctr") || !need_tool("skopeo") {
        return;
    }
    let home = testbed::directory();
    let path = |name: &str| home.path().join(name).display().to_string();
    let (digest, from) = large(home.path());
    copy(server, home.path(), &from, "docker://ctr/app:v1", Some(&server.token())).ok();
    let (root, state, socket) = (path("root"), path("state"), path("socket"));
    let config = format!(
        "version = 2\nroot = {root:?}\nstate = {state:?}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = {socket:?}\n[ttrpc]\naddress = \"{socket}.ttrpc\"\n"
    );
    std::fs::write(path("config.toml"), config).unwrap();
    let mut containerd = Command::new("containerd");
    let _daemon = Daemon::start(containerd.args(["--config", &path("config.toml")]), &home.path().join("log"));
    let ctr = |arguments: &[&str]| {
        let all = [&["--address", &socket, "--namespace", "test"][..], arguments].concat();
        at_home(home.path(), "ctr", &all)
    };
    wait_for("containerd answers", Duration::from_secs(60), || match ctr(&["version"]) {
        version if version.success() => Ok(()),
        version => Err(format!("{version:?}\n{}", std::fs::read_to_string(path("log")).unwrap_or_default())),
    });
    let name = |name: &str| format!("{}/ctr/{name}:v1", server.host());
    let (app, other) = (name("app"), name("other"));
    ctr(&["image", "pull", "--snapshotter", "native", "--plain-http", &app]).ok();
    ctr(&["image", "tag", &app, &other]).ok();
    ctr(&["image", "push", "--plain-http", &other]).failed();
    ctr(&["image", "push", "--plain-http", "--user", &format!("admin:{}", server.token()), &other]).ok();
    let tagged = server.get("/v2/ctr/other/manifests/v1");
    assert!(tagged.headers.to_lowercase().contains(&format!("docker-content-digest: {digest}")), "{tagged:?}");
    ctr(&["image", "rm", &app, &other]).ok();
}

const ORAS: &str = r#"
import sys, oras.client
host, password = sys.argv[1:3]
client = oras.client.OrasClient(hostname=host, insecure=True)
name = host + "/oras/note:v1"
open("note.txt", "w").write("a note")
client.login(hostname=host, username="admin", password=password)
client.push(files=["note.txt"], target=name)
client.pull(target=name, outdir="back")
assert open("back/note.txt").read() == "a note"
assert client.get_tags(name) == ["v1"]
"#;

#[test]
fn oras_of_python_pushes_and_pulls() {
    let Some(server) = server() else { return };
    if !Command::new("python3").args(["-c", "import oras"]).stderr(Stdio::null()).status().is_ok_and(|s| s.success()) {
        return testbed::skip("python3 has no package oras");
    }
    let home = testbed::directory();
    let mut python = Command::new("python3");
    python.args(["-c", ORAS, &server.host(), &server.token()]).env("HOME", home.path()).current_dir(home.path());
    said(&mut python, b"").ok();
}
