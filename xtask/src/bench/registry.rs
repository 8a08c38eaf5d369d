//! Pushes and pulls of blobs, side by side with the registries of others that are on this machine.

use std::{
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, bail, ensure};

use super::http::Connection;

#[derive(clap::Args)]
pub struct Options {
    /// Our registry; built in release mode when it is not named
    #[arg(long)]
    own: Option<PathBuf>,
    /// Docker's registry (Debian's package `docker-registry`); left out when it is not there
    #[arg(long, default_value = "docker-registry")]
    docker_registry: PathBuf,
    /// zot; left out when it is not there
    #[arg(long, default_value = "zot")]
    zot: PathBuf,
    /// Sizes of blobs, in MB
    #[arg(long, value_delimiter = ',', default_values_t = [1, 10, 100])]
    sizes: Vec<usize>,
    /// Connections at the same time
    #[arg(long, value_delimiter = ',', default_values_t = [1, 10, 100])]
    connections: Vec<usize>,
    /// How many MB are pushed and pulled for a figure; figures that need more are left out
    #[arg(long, default_value_t = 400)]
    megabytes: usize,
    /// Where the registries keep what is pushed
    #[arg(long, default_value = "/var/tmp")]
    scratch: PathBuf,
}

struct Peer {
    name: &'static str,
    child: Child,
    address: SocketAddr,
    directory: PathBuf,
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
        // The last one to end finds it empty.
        if let Some(scratch) = self.directory.parent() {
            let _ = std::fs::remove_dir(scratch);
        }
    }
}

impl Peer {
    fn start(
        name: &'static str,
        directory: PathBuf,
        command: impl Fn(&Path, SocketAddr) -> Result<Command>,
    ) -> Result<Self> {
        std::fs::create_dir_all(&directory)?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut command = command(&directory, address)?;
        let log = std::fs::File::create(directory.join("log"))?;
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn();
        let child = child.with_context(|| format!("cannot start {name}"))?;
        let peer = Self { name, child, address, directory };
        for _ in 0..200 {
            if Connection::open(address).is_ok() {
                return Ok(peer);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        bail!("{name} does not answer: {}", std::fs::read_to_string(peer.directory.join("log")).unwrap_or_default())
    }

    /// The most memory that it has used so far, in MiB.
    fn peak(&self) -> Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
        Ok(line.trim().trim_end_matches(" kB").trim().parse::<f64>()? / 1024.0)
    }

    /// Forgets the peak, so that each figure has its own.
    fn reset_peak(&self) {
        let _ = std::fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5");
    }
}

fn peers(options: &Options) -> Result<Vec<Peer>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the workspace has a root")?;
    let own = match &options.own {
        Some(own) => own.clone(),
        None => {
            let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
            let arguments = ["build", "--release", "--package", "image", "--example", "registry"];
            ensure!(Command::new(cargo).args(arguments).current_dir(root).status()?.success(), "cargo build failed");
            super::cargo_target(root).join("release/examples/registry")
        }
    };
    let there = |program: &Path| {
        Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
    };
    let scratch = options.scratch.join(format!("shipway-bench-{}", std::process::id()));
    let mut peers = vec![Peer::start("shipway", scratch.join("shipway"), |directory, address| {
        let mut command = Command::new(&own);
        command.arg(directory).arg(address.to_string());
        Ok(command)
    })?];
    if there(&options.docker_registry) {
        peers.push(Peer::start("docker-registry", scratch.join("docker"), |directory, address| {
            let text = format!(
                "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"{address}\"}}\n",
                directory.join("data").display()
            );
            std::fs::write(directory.join("config.yml"), text)?;
            let mut command = Command::new(&options.docker_registry);
            command.arg("serve").arg(directory.join("config.yml"));
            Ok(command)
        })?);
    } else {
        eprintln!("SKIPPED: there is no {}", options.docker_registry.display());
    }
    if there(&options.zot) {
        peers.push(Peer::start("zot", scratch.join("zot"), |directory, address| {
            let text = format!(
                r#"{{"storage":{{"rootDirectory":"{}","gc":false}},"http":{{"address":"127.0.0.1","port":"{}"}},"log":{{"level":"error"}}}}"#,
                directory.join("data").display(),
                address.port()
            );
            std::fs::write(directory.join("config.json"), text)?;
            let mut command = Command::new(&options.zot);
            command.arg("serve").arg(directory.join("config.json"));
            Ok(command)
        })?);
    } else {
        eprintln!("SKIPPED: there is no {}", options.zot.display());
    }
    Ok(peers)
}

/// Content that nobody has: the number makes it another one.
struct Blobs {
    content: Vec<u8>,
    digests: Vec<String>,
}

impl Blobs {
    fn new(size: usize, count: usize, seed: u64) -> Self {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut content = vec![0u8; size];
        for chunk in content.chunks_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let length = chunk.len();
            chunk.copy_from_slice(&state.to_le_bytes()[..length]);
        }
        let mut blobs = Self { content, digests: Vec::new() };
        for number in 0..count {
            let mut sum = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
            sum.update(&(number as u64).to_le_bytes());
            sum.update(&blobs.content[8..]);
            let hex: String = sum.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
            blobs.digests.push(format!("sha256:{hex}"));
        }
        blobs
    }
}

/// Does `work` for every number, on so many connections; the seconds that it took.
fn together(
    address: SocketAddr,
    connections: usize,
    count: usize,
    work: impl Fn(&mut Connection, usize) -> Result<()> + Sync,
) -> Result<f64> {
    let next = AtomicUsize::new(0);
    let opened: Result<Vec<Connection>> = (0..connections).map(|_| Connection::open(address)).collect();
    let opened = opened?;
    #[allow(clippy::disallowed_methods, reason = "this measures")]
    let begun = SystemTime::now();
    std::thread::scope(|scope| {
        let threads: Vec<_> = opened
            .into_iter()
            .map(|mut connection| {
                let (next, work) = (&next, &work);
                scope.spawn(move || -> Result<()> {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= count {
                            return Ok(());
                        }
                        work(&mut connection, number)?;
                    }
                })
            })
            .collect();
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| anyhow::anyhow!("a client panicked"))?)
    })?;
    Ok(begun.elapsed()?.as_secs_f64())
}

struct Figure {
    push: f64,
    pull: f64,
    peak: f64,
}

fn measure(peer: &Peer, blobs: &Blobs, connections: usize, name: &str) -> Result<Figure> {
    let (size, count) = (blobs.content.len(), blobs.digests.len());
    peer.reset_peak();
    let push = together(peer.address, connections, count, |connection, number| {
        let path = format!("/v2/{name}/blobs/uploads/");
        let begun = connection.send("POST", &path, &[], |_| {})?;
        ensure!(begun.status == 202, "{} answered {} for an upload", peer.name, begun.status);
        let place = begun.header("location").context("an upload has a place")?;
        let place = place.strip_prefix(&format!("http://{}", peer.address)).unwrap_or(place);
        let path = format!("{place}{}digest={}", if place.contains('?') { '&' } else { '?' }, blobs.digests[number]);
        let head = (number as u64).to_le_bytes();
        let done = connection.send("PUT", &path, &[&head, &blobs.content[8..]], |_| {})?;
        ensure!(done.status == 201, "{} answered {} for a blob", peer.name, done.status);
        Ok(())
    })?;
    let pull = together(peer.address, connections, count, |connection, number| {
        let mut read = 0;
        let path = format!("/v2/{name}/blobs/{}", blobs.digests[number]);
        let got = connection.send("GET", &path, &[], |bytes| read += bytes.len())?;
        ensure!(got.status == 200 && read == size, "{} answered {} with {read} bytes", peer.name, got.status);
        Ok(())
    })?;
    let megabytes = (size * count) as f64 / 1e6;
    Ok(Figure { push: megabytes / push, pull: megabytes / pull, peak: peer.peak()? })
}

pub fn run(options: &Options) -> Result<()> {
    let peers = peers(options)?;
    println!(
        "{:>6} {:>4} {:16} {:>11} {:>11} {:>9}   against ours: push, pull, memory",
        "MB", "c", "", "push MB/s", "pull MB/s", "RSS MiB"
    );
    let mut seed = 1;
    for &size in &options.sizes {
        for &connections in &options.connections {
            let count = (options.megabytes / size).min(400);
            if count < connections {
                println!("{size:>6} {connections:>4} left out: it needs more than {} MB", options.megabytes);
                continue;
            }
            seed += 1;
            let blobs = Blobs::new(size * 1_000_000, count, seed);
            let mut own: Option<Figure> = None;
            for peer in &peers {
                let figure = measure(peer, &blobs, connections, &format!("bench/{size}-{connections}"))?;
                let against = own.as_ref().map(|own| {
                    format!(
                        "{:5.2}x {:5.2}x {:5.2}x",
                        own.push / figure.push,
                        own.pull / figure.pull,
                        own.peak / figure.peak
                    )
                });
                println!(
                    "{size:>6} {connections:>4} {:16} {:11.1} {:11.1} {:9.1}   {}",
                    peer.name,
                    figure.push,
                    figure.pull,
                    figure.peak,
                    against.unwrap_or_default()
                );
                own = own.or(Some(figure));
            }
        }
    }
    Ok(())
}
