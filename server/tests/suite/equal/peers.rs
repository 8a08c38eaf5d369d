//! Builders to compare with, each in namespaces of its own.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use testbed::{Said, json, said, skip, wait_for};

use super::{
    Case, Ground, below,
    tree::{self, Image, Reader},
};

/// Builds that a peer does at the same time.
const AT_ONCE: usize = 2;

/// A daemon that reaches no network and whose mounts nobody else sees; ends in order.
struct Daemon(Child);

impl Daemon {
    fn start(program: &str, arguments: &[&str], log: &Path) -> Self {
        let log = std::fs::File::create(log).unwrap();
        let mut command = Command::new("unshare");
        command.args(["--net", "--mount", "--propagation", "private", "--", "sh", "-c"]);
        command.args(["ip link set lo up && exec \"$@\"", "sh", program]).args(arguments);
        for name in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"] {
            command.env_remove(name);
        }
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        Self(command.spawn().unwrap())
    }

    /// Waits until it answers; `false` when it has ended instead.
    fn answers(&mut self, what: &str, mut ask: impl FnMut() -> Said) -> bool {
        wait_for(what, Duration::from_secs(120), || match (ask(), self.0.try_wait()) {
            (answer, _) if answer.success() => Ok(true),
            (_, Ok(Some(_))) => Ok(false),
            (answer, _) => Err(format!("{answer:?}")),
        })
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let (Ok(None), Ok(pid)) = (self.0.try_wait(), i32::try_from(self.0.id())) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let _ = self.0.wait();
    }
}

/// Does all of them, several at once, and gives what came of it in order.
fn all<T: Send>(cases: &[Case], one: impl Fn(usize, &Case) -> T + Sync) -> Vec<T> {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(case) = cases.get(number) else { return };
            let result = one(number, case);
            done.lock().unwrap().push((number, result));
        }
    };
    std::thread::scope(|scope| (0..AT_ONCE).for_each(|_| drop(scope.spawn(work))));
    let mut done = done.into_inner().unwrap();
    done.sort_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, result)| result).collect()
}

/// The `build` of Docker, with BuildKit.
pub struct Docker<'g> {
    ground: &'g Ground,
    home: PathBuf,
    _daemon: Daemon,
}

impl<'g> Docker<'g> {
    /// A daemon with nothing in it; `None`, said loudly, where it cannot run.
    pub fn start_bare(ground: &'g Ground) -> Option<Self> {
        let home = ground.at("docker");
        std::fs::create_dir(&home).unwrap();
        let at = |name: &str| below(&home, name);
        let (socket, log) = (format!("unix://{}", at("socket")), home.join("log"));
        let arguments =
            ["--data-root", &at("data"), "--exec-root", &at("exec"), "--pidfile", &at("pid"), "--host", &socket];
        let bridge = ["--bip=172.31.255.1/24", "--iptables=false", "--ip6tables=false", "--ip-masq=false"];
        let mut daemon =
            Daemon::start("dockerd", &[&arguments[..], &bridge, &["--storage-driver=overlay2"]].concat(), &log);
        let answers = daemon.answers("dockerd answers", || docker(&home, &["info"]));
        let docker = Self { ground, home, _daemon: daemon };
        if !answers {
            skip(&format!("dockerd does not run here: {}", docker.log()));
            return None;
        }
        Some(docker)
    }

    /// A daemon with the base `debian` that builds; `None`, said loudly, where it cannot.
    pub fn start(ground: &'g Ground) -> Option<Self> {
        let docker = Self::start_bare(ground)?;
        docker.import();
        // Clients from 23 on have BuildKit as a plugin.
        let file = docker.ground.file(0, &super::cases("### probe\nFROM debian\n")[0]);
        let probe = docker.run(&["build", "--file", &file, "."]);
        if probe.err.contains("buildx component") {
            skip(&format!("docker has no BuildKit here: {}", probe.err));
            return None;
        }
        probe.ok();
        Some(docker)
    }

    pub fn run(&self, arguments: &[&str]) -> Said {
        let mut command = client(&self.home, arguments);
        said(command.current_dir(self.ground.at("context")), b"")
    }

    pub fn log(&self) -> String {
        let log = std::fs::read_to_string(self.home.join("log")).unwrap_or_default();
        log.lines().rev().take(5).collect::<Vec<_>>().join(" | ")
    }

    /// The base as our own build has it: its files, and its configuration.
    fn import(&self) {
        let rootfs = self.ground.path("base.tar");
        let file = self.ground.file(0, &super::cases("### base\nFROM debian\n")[0]);
        self.ground
            .shipway(&["build", "-q", "-f", &file, "-t", "base:1", "-o", &format!("type=tar,dest={rootfs}"), "."])
            .ok();
        let config = json(&self.ground.shipway(&["image", "inspect", "base:1"]).ok())[0]["Config"].clone();
        let mut changes: Vec<String> = Vec::new();
        let env = config["Env"].as_array().into_iter().flatten();
        changes.extend(env.map(|variable| format!("ENV {}", variable.as_str().unwrap())));
        changes.push(format!("CMD {}", config["Cmd"]));
        changes.push(format!("WORKDIR {}", config["WorkingDir"].as_str().unwrap()));
        let labels = config["Labels"].as_object().into_iter().flatten();
        changes.extend(labels.map(|(name, value)| format!("LABEL {name}={value}")));
        let changes: Vec<&str> = changes.iter().flat_map(|change| ["--change", change]).collect();
        self.run(&[&["import"], &changes[..], &[&rootfs, "debian:latest"]].concat()).ok();
        std::fs::remove_file(rootfs).unwrap();
    }

    pub fn build(&self, cases: &[Case]) -> Vec<Result<Image, String>> {
        let built = all(cases, |number, case| {
            let (file, name) = (self.ground.file(number, case), format!("case:{number}"));
            let fixed = ["build", "--progress=plain", "--file", &file, "--tag", &name];
            self.run(&[&fixed[..], &case.arguments, &["."]].concat())
        });
        let names: Vec<String> = (0..cases.len()).map(|number| format!("case:{number}")).collect();
        let good = names.iter().zip(&built).filter(|(_, said)| said.success()).map(|(name, _)| name.as_str());
        let saved = self.ground.path("theirs.tar");
        self.run(&[&["save", "--output", &saved], &good.collect::<Vec<_>>()[..]].concat()).ok();
        let directory = self.ground.at("theirs");
        let archive = tree::archive(&self.ground.at("theirs.tar"), &directory);
        let mut reader = Reader::default();
        let of = |(name, said): (&String, Said)| match said.success() {
            true => Ok(reader.archived(&directory, &archive[name])),
            false => Err(said.err),
        };
        names.iter().zip(built).map(of).collect()
    }
}

/// Debian's own client, whose BuildKit needs no plugin, before what else is called so.
fn client(home: &Path, arguments: &[&str]) -> Command {
    let debian = Path::new("/usr/bin/docker");
    let mut command = Command::new(if debian.exists() { debian } else { Path::new("docker") });
    command.args(arguments).env("DOCKER_HOST", format!("unix://{}", below(home, "socket")));
    command.env("DOCKER_CONFIG", home.join("config")).env("DOCKER_BUILDKIT", "1").env_remove("DOCKER_DEFAULT_PLATFORM");
    command.env_remove("DOCKER_CONTEXT").env_remove("SOURCE_DATE_EPOCH");
    command
}

fn docker(home: &Path, arguments: &[&str]) -> Said {
    said(&mut client(home, arguments), b"")
}

/// `buildkitd` by itself.
pub struct BuildKit<'g> {
    ground: &'g Ground,
    address: String,
    /// The digest of the base in the layout `base`.
    base: String,
    _daemon: Daemon,
}

impl<'g> BuildKit<'g> {
    pub fn start(ground: &'g Ground) -> Option<Self> {
        let home = ground.at("buildkit");
        std::fs::create_dir(&home).unwrap();
        let address = format!("unix://{}", below(&home, "socket"));
        let (root, log) = (below(&home, "root"), home.join("log"));
        let arguments = ["--root", &root, "--addr", &address, "--config", "/dev/null", "--oci-worker=true"];
        let worker = ["--containerd-worker=false", "--oci-worker-snapshotter=overlayfs", "--oci-worker-net=host"];
        let mut daemon = Daemon::start("buildkitd", &[&arguments[..], &worker].concat(), &log);
        let answers = daemon.answers("buildkitd answers", || {
            said(Command::new("buildctl").args(["--addr", &address, "debug", "workers"]), b"")
        });
        if !answers {
            let log = std::fs::read_to_string(&log).unwrap_or_default();
            skip(&format!("buildkitd does not run here: {}", log.lines().last().unwrap_or_default()));
            return None;
        }
        let (file, layout) = (ground.file(0, &super::cases("### base\nFROM debian\n")[0]), ground.path("base"));
        let output = format!("type=oci,tar=false,dest={layout}");
        let base = ground.shipway(&["build", "-q", "-f", &file, "-o", &output, "."]).ok().trim().to_owned();
        Some(Self { ground, address, base, _daemon: daemon })
    }

    pub fn build(&self, cases: &[Case]) -> Vec<Result<Image, String>> {
        let built = all(cases, |number, case| {
            self.ground.file(number, case);
            let directory = self.ground.at(&format!("theirs/{number}"));
            let output = format!("type=oci,tar=false,dest={}", directory.display());
            let mut command = Command::new("buildctl");
            command.args(["--addr", &self.address, "build", "--progress=plain", "--frontend=dockerfile.v0"]);
            command.args(["--local=context=.", "--local", &format!("dockerfile={}", self.ground.path("files"))]);
            command.args(["--opt", &format!("filename={number}"), "--output", &output]);
            command.args(["--oci-layout", &format!("base={}", self.ground.path("base"))]);
            command.args(self.options("--build-context", "debian=docker-image://debian"));
            for pair in case.arguments.chunks_exact(2) {
                command.args(self.options(pair[0], pair[1]));
            }
            (said(command.current_dir(self.ground.at("context")), b""), directory)
        });
        let mut reader = Reader::default();
        let of = |(said, directory): (Said, PathBuf)| match said.success() {
            true => Ok(reader.layout(&directory)),
            false => Err(said.err),
        };
        built.into_iter().map(of).collect()
    }

    /// An option of `docker build` as `buildctl` has it.
    fn options(&self, name: &str, value: &str) -> Vec<String> {
        let option = |text: String| vec!["--opt".to_owned(), text];
        match (name, value.split_once('=')) {
            ("--build-arg", _) => option(format!("build-arg:{value}")),
            ("--label", _) => option(format!("label:{value}")),
            ("--target", _) => option(format!("target={value}")),
            ("--secret", _) => vec!["--secret".to_owned(), value.to_owned()],
            ("--build-context", Some((name, "docker-image://debian"))) => {
                option(format!("context:{name}=oci-layout://base@{}", self.base))
            }
            ("--build-context", Some((name, directory))) => {
                let mut options = option(format!("context:{name}=local:{name}"));
                options.extend(["--local".to_owned(), format!("{name}={directory}")]);
                options
            }
            other => panic!("an option that is not known: {other:?}"),
        }
    }
}
