//! The local image store: a registry and its blobs in the user's data directory, and the workshop on it when something must be run.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Duration,
};

use build::base::{Archive, ArchiveOptions};
use image::{Registry, client};
use source::Repositories;
use store::{Blobs, Records, sqlite::SqliteLog};

use super::{
    relaxed::{Mark, Relaxed},
    remotes::Fetcher,
};
use crate::{
    clock::{self, Clock},
    fault::{Class, Fault, Result},
    wiring::{
        bases::Bases,
        workshop::{Ground, Workshop},
    },
};

/// `--isolation`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Isolation {
    #[default]
    Auto,
    Namespaces,
    Chroot,
}

impl From<Isolation> for sandbox::Wanted {
    fn from(isolation: Isolation) -> Self {
        match isolation {
            Isolation::Auto => Self::Auto,
            Isolation::Namespaces => Self::Namespaces,
            Isolation::Chroot => Self::Chroot,
        }
    }
}

// Where a local store lies, and what it is reached with.
#[derive(Debug, Clone, clap::Args)]
pub struct Place {
    /// Where images and the cache are kept; can be removed at any time [default: /var/lib/shipway-local for root, else
    /// ~/.local/share/shipway]
    #[arg(long, global = true, value_name = "DIR", env = "SHIPWAY_LOCAL_DATA")]
    pub data: Option<PathBuf>,

    /// Debian mirror from which base images are assembled
    #[arg(
        long,
        global = true,
        value_name = "URL",
        default_value = "http://deb.debian.org/debian",
        env = "SHIPWAY_DEBIAN_MIRROR"
    )]
    pub mirror: String,

    /// Directory in which downloaded packages are kept for all of this machine [default: DATA/packages]
    #[arg(long, global = true, value_name = "DIR", env = "SHIPWAY_PACKAGE_CACHE")]
    pub package_cache: Option<PathBuf>,

    /// How steps are kept apart from this machine: by namespaces, or only by a root directory of their own, for a container or Pod
    /// whose root may make no namespaces; auto takes what this machine lets us have
    #[arg(long, global = true, value_name = "HOW", default_value = "auto", env = "SHIPWAY_ISOLATION")]
    pub isolation: Isolation,

    /// Registry that is spoken to over plain HTTP, as host:port; can be given more than once (loopback always is)
    #[arg(long, global = true, value_name = "HOST")]
    pub insecure_registry: Vec<String>,
}

impl Place {
    fn data(&self) -> PathBuf {
        if let Some(data) = &self.data {
            return data.clone();
        }
        let home = || std::env::var_os("XDG_DATA_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
        let home = || home().or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/share")));
        let root = nix::unistd::geteuid().is_root() && !sandbox::rootless::entered();
        match (root, home()) {
            (false, Some(home)) => home.join("shipway"),
            _ => PathBuf::from("/var/lib/shipway-local"),
        }
    }
}

/// An open local store.
pub struct Home {
    pub data: PathBuf,
    pub place: Place,
    pub records: Records,
    pub blobs: Arc<dyn Blobs>,
    pub registry: Registry,
    pub clock: Clock,
    /// Made when it is first needed: it reads all certificates that this machine trusts.
    client: OnceLock<client::Client>,
    log: Arc<SqliteLog>,
    mark: Mark,
}

/// How long another build is waited for, and how often it is asked.
const PATIENCE: Duration = Duration::from_secs(600);

impl Home {
    /// Opens the store. One process works in it at a time; another one is waited for, and `say` is told so.
    pub async fn open(place: &Place, say: &(dyn Fn(&str) + Sync)) -> Result<Self> {
        let data = place.data();
        crate::serve::make_private(&data)?;
        let data = data.canonicalize().map_err(|e| Fault::usage(format!("cannot open {}: {e}", data.display())))?;
        let log = Arc::new(open_log(&data.join("records.db"), say).await?);
        let unavailable = |e: std::io::Error| Fault::new(Class::Unavailable, format!("{}: {e}", data.display()));
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map_err(unavailable)?;
        let (mark, removed) = Mark::open(&data, boot.trim()).map_err(unavailable)?;
        if removed > 0 {
            say(&format!("{removed} blobs did not survive the end of the machine; what needs them is made again"));
        }
        // What a build that was killed has left; nobody else is in the store now.
        let _ = std::fs::remove_dir_all(data.join("unpacked"));
        let blobs: Arc<dyn Blobs> = Arc::new(Relaxed::open(&data.join("blobs")).await?);
        let clock = clock::system();
        let registry = Registry::new(blobs.clone(), log.clone(), data.join("uploads"), clock.clone());
        let records = Records::new(log.clone());
        let client = OnceLock::new();
        Ok(Self { data, place: place.clone(), records, blobs, registry, clock, client, log, mark })
    }

    /// What speaks to other registries.
    pub fn client(&self) -> Result<&client::Client> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let options = client::Options {
            plain_http: self.place.insecure_registry.iter().cloned().collect(),
            credentials: Arc::new(credentials),
            ..client::Options::default()
        };
        let client = client::Client::new(options).map_err(|e| Fault::from_error(Class::Internal, &e))?;
        Ok(self.client.get_or_init(|| client))
    }

    /// Where contexts that come as an archive lie while they are built from.
    pub fn unpacked(&self) -> PathBuf {
        self.data.join("unpacked")
    }

    /// What assembles base images; nothing is run for that.
    pub fn bases(&self) -> Result<Bases> {
        self.bases_with(|_| {})
    }

    /// As [`Home::bases`], with changed options of the archive.
    pub fn bases_with(&self, change: impl FnOnce(&mut ArchiveOptions)) -> Result<Bases> {
        let unavailable = |e: build::Error| Fault::from_error(Class::Unavailable, &e);
        let packages = self.place.package_cache.clone().unwrap_or_else(|| self.data.join("packages"));
        let mut options = ArchiveOptions::debian(packages).map_err(unavailable)?.with_mirror(&self.place.mirror, None);
        change(&mut options);
        let archive = Archive::open(options).map_err(unavailable)?;
        Ok(Bases::new(archive, self.registry.clone(), self.clock.clone(), Vec::new()))
    }

    /// What runs containers. Opened only when something must be run.
    pub async fn workshop(&self) -> Result<Workshop> {
        let repositories = Repositories::open(self.data.join("git"), source::Limits::default());
        let packages = self.place.package_cache.clone().unwrap_or_else(|| self.data.join("packages"));
        Workshop::open(Ground {
            data: &self.data,
            packages: &packages,
            mirror: &self.place.mirror,
            hosts: Vec::new(),
            repositories: repositories.map_err(|e| Fault::from_error(Class::Unavailable, &e))?,
            records: self.records.clone(),
            blobs: self.blobs.clone(),
            clock: self.clock.clone(),
        })
        .await
    }

    /// Fetches for the person who builds, with what is theirs.
    pub fn fetcher(&self) -> Fetcher<'_> {
        Fetcher { registry: &self.registry, checkouts: self.data.join("checkouts"), guarded: false }
    }

    pub async fn close(self) -> Result<()> {
        self.log.close().await?;
        let now = std::time::SystemTime::from((self.clock)());
        let closed = tokio::task::block_in_place(|| self.mark.close(now));
        closed.map_err(|e| Fault::new(Class::Unavailable, format!("{}: {e}", self.data.display())))
    }
}

async fn open_log(path: &Path, say: &(dyn Fn(&str) + Sync)) -> Result<SqliteLog> {
    let mut waited = Duration::ZERO;
    loop {
        match SqliteLog::open_relaxed(path).await {
            Err(error) if error.kind == store::Kind::Locked && waited < PATIENCE => {
                if waited.is_zero() {
                    say(&format!("{error}; waiting for it"));
                }
                waited += Duration::from_secs(1);
            }
            other => return Ok(other?),
        }
    }
}

/// What `docker login` and its kin have written down: `config.json` of Docker and `auth.json` of the containers tools. Helpers that
/// keep credentials elsewhere are not asked.
fn credentials(host: &str) -> Option<client::Credentials> {
    use base64::Engine;
    let at = |variable: &str, rest: &str| Some(PathBuf::from(std::env::var_os(variable)?).join(rest));
    let files = [
        std::env::var_os("REGISTRY_AUTH_FILE").map(PathBuf::from),
        at("XDG_RUNTIME_DIR", "containers/auth.json"),
        at("DOCKER_CONFIG", "config.json"),
        at("HOME", ".docker/config.json"),
    ];
    let names = match host {
        "docker.io" | "registry-1.docker.io" => vec!["https://index.docker.io/v1/", "docker.io", "index.docker.io"],
        host => vec![host],
    };
    for file in files.into_iter().flatten() {
        let Ok(text) = std::fs::read(&file) else { continue };
        let Ok(config) = serde_json::from_slice::<serde_json::Value>(&text) else { continue };
        for name in &names {
            let found = [(*name).to_owned(), format!("https://{name}")];
            let Some(auth) = found.iter().find_map(|name| config["auths"][name]["auth"].as_str()) else { continue };
            let plain = base64::engine::general_purpose::STANDARD.decode(auth.trim()).ok()?;
            let plain = String::from_utf8(plain).ok()?;
            let (user, password) = plain.split_once(':')?;
            return Some(client::Credentials { user: user.into(), password: password.trim_end_matches('\0').into() });
        }
    }
    None
}
