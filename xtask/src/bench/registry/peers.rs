//! The registries that are measured: each a process of its own on a directory of its own.

use std::{
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};

use super::{super::http::Connection, Options};

/// Which registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Ours, as a part of the whole server.
    Server,
    /// Ours without the rest.
    Alone,
    Docker,
    Zot,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Server | Self::Alone => "shipway",
            Self::Docker => "docker-registry",
            Self::Zot => "zot",
        }
    }
}

/// A registry that can be started any number of times.
pub struct Known {
    pub kind: Kind,
    program: PathBuf,
}

/// Ours, and those of others that are here.
pub fn known(options: &Options) -> Result<Vec<Known>> {
    let kind = if options.alone { Kind::Alone } else { Kind::Server };
    let mut all = vec![Known { kind, program: own(options)? }];
    for (kind, program) in [(Kind::Docker, &options.docker_registry), (Kind::Zot, &options.zot)] {
        if Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok() {
            all.push(Known { kind, program: program.clone() });
        } else {
            eprintln!("SKIPPED: there is no {}", program.display());
        }
    }
    Ok(all)
}

fn own(options: &Options) -> Result<PathBuf> {
    if let Some(own) = &options.own {
        return Ok(own.clone());
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the workspace has a root")?;
    let (what, binary): (&[&str], _) = match options.alone {
        true => (&["--package", "image", "--example", "registry"], "release/examples/registry"),
        false => (&["--package", "server", "--bin", "shipway"], "release/shipway"),
    };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo).args(["build", "--release"]).args(what).current_dir(root).status()?;
    ensure!(built.success(), "cargo build failed");
    Ok(super::super::cargo_target(root).join(binary))
}

/// One that runs; it ends, and what it kept goes, when dropped.
pub struct Peer {
    pub kind: Kind,
    child: Child,
    address: SocketAddr,
    directory: PathBuf,
    token: Option<String>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        if self.kind == Kind::Server {
            // It has containers' network and mounts to undo.
            let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        } else {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
        if let Some(scratch) = self.directory.parent() {
            // The last one to end finds it empty.
            let _ = std::fs::remove_dir(scratch);
        }
    }
}

impl Known {
    pub fn start(&self, scratch: &Path) -> Result<Peer> {
        let directory = scratch.join(self.kind.name());
        std::fs::create_dir_all(&directory)?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut command = Command::new(&self.program);
        let data = directory.join("data");
        match self.kind {
            Kind::Server => {
                command.args(["up", "--listen", &address.to_string(), "--data"]).arg(&data);
            }
            Kind::Alone => {
                std::fs::create_dir_all(&data)?;
                command.arg(&data).arg(address.to_string());
            }
            Kind::Docker => {
                let text = format!(
                    "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"{address}\"}}\n",
                    data.display()
                );
                std::fs::write(directory.join("config.yml"), text)?;
                command.arg("serve").arg(directory.join("config.yml"));
                // It takes everything that begins so for its configuration.
                let own = std::env::vars_os().map(|(name, _)| name);
                own.filter(|name| name.to_string_lossy().starts_with("REGISTRY_")).for_each(|name| {
                    command.env_remove(name);
                });
            }
            Kind::Zot => {
                let text = format!(
                    r#"{{"storage":{{"rootDirectory":"{}","gc":false}},"http":{{"address":"127.0.0.1","port":"{}"}},"log":{{"level":"error"}}}}"#,
                    data.display(),
                    address.port()
                );
                std::fs::write(directory.join("config.json"), text)?;
                command.arg("serve").arg(directory.join("config.json"));
            }
        }
        let log = std::fs::File::create(directory.join("log"))?;
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn();
        let child = child.with_context(|| format!("cannot start {}", self.kind.name()))?;
        let mut peer = Peer { kind: self.kind, child, address, directory, token: None };
        for _ in 0..400 {
            if Connection::open(address).is_ok() {
                // The server listens before it is ready, and writes its token in between.
                let token = std::fs::read_to_string(data.join("admin-token")).ok();
                if self.kind != Kind::Server || token.is_some() {
                    peer.token = token;
                    return Ok(peer);
                }
            }
            if let Some(status) = peer.child.try_wait()? {
                let log = std::fs::read_to_string(peer.directory.join("log")).unwrap_or_default();
                bail!("{} has ended with {status}: {log}", self.kind.name());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let log = std::fs::read_to_string(peer.directory.join("log")).unwrap_or_default();
        bail!("{} does not answer: {log}", self.kind.name())
    }
}

impl Peer {
    pub fn connect(&self) -> Result<Connection> {
        let connection =
            Connection::open(self.address)?.with("Accept", "application/vnd.oci.image.manifest.v1+json, */*");
        Ok(match &self.token {
            Some(token) => connection.with("Authorization", &format!("Bearer {token}")),
            None => connection,
        })
    }

    /// A place that it told, as a path.
    pub fn path<'a>(&self, place: &'a str) -> &'a str {
        place.strip_prefix("http://").and_then(|rest| rest.find('/').map(|at| &rest[at..])).unwrap_or(place)
    }

    /// The most memory that it has used so far, in MiB.
    pub fn peak(&self) -> Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
        Ok(line.trim().trim_end_matches(" kB").trim().parse::<f64>()? / 1024.0)
    }

    /// The seconds of processor time that it has used so far.
    pub fn cpu(&self) -> Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let (_, rest) = stat.rsplit_once(')').context("no stat")?;
        let ticks: f64 = rest.split_whitespace().skip(11).take(2).filter_map(|text| text.parse::<f64>().ok()).sum();
        // The kernel tells hundredths of a second, whatever it counts in itself.
        Ok(ticks / 100.0)
    }
}
