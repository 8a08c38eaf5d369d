//! The sandbox itself: opened over what an earlier process left, shut down with nothing left.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crate::{
    Config, Container, ContainerSpec, Error, Found, Lifetime, Network, NetworkConfig, Result, Snapshots,
    cgroup::Hierarchies,
    container::{self, Inner, helpers::Helpers},
    helper::record::{self, Record},
    names::Tag,
    spec::check_name,
};

/// Containers, their network and their snapshots on this machine. Cheap to clone.
///
/// Dropping it leaves kept containers and their network alone, for the next process that opens the same root.
#[derive(Clone)]
pub struct Sandbox {
    shared: Arc<Shared>,
    snapshots: Snapshots,
    network: Option<Arc<Late>>,
}

/// A network that is made when it is first asked for: to make it and to remove it takes longer than many a build without it.
struct Late {
    config: NetworkConfig,
    /// Network namespaces of containers that an earlier process left running.
    used: HashSet<PathBuf>,
    made: tokio::sync::OnceCell<Network>,
    /// Its removal, where that has begun.
    ending: Mutex<Option<tokio::task::JoinHandle<Result<()>>>>,
}

/// What containers need of the sandbox.
pub(crate) struct Shared {
    pub root: PathBuf,
    pub tag: Tag,
    pub hierarchies: Hierarchies,
    pub helpers: Helpers,
    live: Mutex<HashMap<String, Weak<Inner>>>,
    closed: AtomicBool,
    _lock: File,
}

impl std::fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sandbox").field("root", &self.shared.root).finish()
    }
}

impl Sandbox {
    /// Takes over `config.root`. Ends and removes everything that an earlier process left there, but for containers with
    /// [`Lifetime::Kept`], what they stand on, and network namespaces that were kept.
    pub async fn open(config: Config) -> Result<Self> {
        check_name("name of an instance", &config.instance)?;
        let blocking = tokio::task::spawn_blocking(move || {
            let missing = crate::check::essentials(&config.root);
            if !missing.is_empty() {
                return Err(Error::Unavailable(missing));
            }
            let root = config.root.canonicalize().map_err(Error::io("find", &config.root))?;
            let containers = root.join("containers");
            fs::create_dir_all(&containers).map_err(Error::io("make", &containers))?;
            let lock = record::lock(&root).map_err(Error::io("lock", &root))?;
            let Some(lock) = lock else {
                let by = "another process; stop it, or choose another directory".into();
                return Err(Error::InUse { what: "sandbox directory", name: root.display().to_string(), by });
            };
            let hierarchies = Hierarchies::find().map_err(Error::io("read", Path::new("/proc/self/mountinfo")))?;
            let tag = Tag::new(&root, &config.instance);
            let kept = sweep(&containers, &hierarchies, &tag)?;
            let snapshots = Snapshots::open(&root.join("snapshots"), &kept.rootfs)?;
            Ok((config, root, lock, hierarchies, tag, kept, snapshots))
        });
        let (config, root, lock, hierarchies, tag, kept, snapshots) = blocking.await.map_err(|_| Error::Closed)??;
        let late =
            Late { config: config.network, used: kept.netns, made: Default::default(), ending: Mutex::default() };
        let network = late.config.enabled.then(|| Arc::new(late));
        // What an earlier process left is taken over, or removed, now.
        let left = network.is_some() && root.join("network").exists();
        let shared = Arc::new(Shared {
            root,
            tag,
            hierarchies,
            helpers: Helpers::new(config.helper)?,
            live: Mutex::default(),
            closed: AtomicBool::new(false),
            _lock: lock,
        });
        shared.helpers.refill();
        let sandbox = Self { shared, snapshots, network };
        if left {
            sandbox.network().await?;
        }
        Ok(sandbox)
    }

    pub fn snapshots(&self) -> &Snapshots {
        &self.snapshots
    }

    /// The network, made when it is first asked for. Fails when the sandbox was opened without one.
    pub async fn network(&self) -> Result<&Network> {
        let none = || Error::Invalid("the sandbox was opened without a network".into());
        let late = self.network.as_ref().ok_or_else(none)?;
        let make = || async {
            self.check_open()?;
            let Shared { root, tag, .. } = &*self.shared;
            Network::open(&root.join("network"), tag.clone(), late.config.clone(), &late.used).await
        };
        late.made.get_or_try_init(make).await
    }

    /// Begins to remove the network, which takes the kernel some tens of milliseconds; [`Sandbox::shutdown`] waits for it. For whoever
    /// starts no container any more.
    pub fn end_network(&self) {
        let Some(late) = &self.network else { return };
        if let Some(network) = late.made.get().cloned() {
            let mut ending = late.ending.lock().unwrap_or_else(PoisonError::into_inner);
            ending.get_or_insert_with(|| tokio::spawn(async move { network.close().await }));
        }
    }

    /// Starts a container. It runs when this returns.
    pub async fn start(&self, spec: ContainerSpec) -> Result<Container> {
        self.check_open()?;
        let container = container::start(&self.shared, spec).await?;
        self.shared.live().insert(container.id().to_owned(), Arc::downgrade(&container.0));
        Ok(container)
    }

    /// All containers, running or ended, that have not been removed.
    pub fn list(&self) -> Result<Vec<Found>> {
        self.check_open()?;
        let mut found = Vec::new();
        for directory in directories(&self.shared.root.join("containers"))? {
            let Ok(Some(record)) = Record::of(&directory) else { continue };
            let exit = match container::running(&directory, &record) {
                Ok(Some(_)) => None,
                // Between two moments it may have been created only, or removed.
                _ if record.started.is_none() => continue,
                _ => Some(record::exit_of(&directory).ok().flatten().unwrap_or(container::Exit::LOST)),
            };
            found.push(Found { id: record.id, labels: record.labels, exit });
        }
        found.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(found)
    }

    /// A container by its id, whoever started it. `None` when there is none.
    pub async fn adopt(&self, id: &str) -> Result<Option<Container>> {
        self.check_open()?;
        let alive = self.shared.live().get(id).and_then(Weak::upgrade);
        if let Some(inner) = alive {
            return Ok(Some(Container(inner)));
        }
        let container = Container::adopt(&self.shared, id)?;
        if let Some(container) = &container {
            self.shared.live().insert(id.to_owned(), Arc::downgrade(&container.0));
        }
        Ok(container)
    }

    /// Ends everything, kept containers too, and removes every trace from the host. Snapshots stay.
    pub async fn shutdown(&self) -> Result<()> {
        if self.shared.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        self.shared.helpers.close().await;
        let (shared, snapshots) = (self.shared.clone(), self.snapshots.clone());
        let blocking = tokio::task::spawn_blocking(move || {
            for directory in directories(&shared.root.join("containers"))? {
                end(&directory, &shared.hierarchies, &shared.tag)?;
            }
            let group = shared.tag.cgroup();
            shared.hierarchies.remove(&group).map_err(Error::io("remove cgroup", Path::new(&group)))
        });
        blocking.await.map_err(|_| Error::Closed)??;
        let closed = tokio::task::spawn_blocking(move || snapshots.close());
        let network = async {
            let Some(late) = &self.network else { return Ok(()) };
            let ending = late.ending.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(ending) = ending {
                return ending.await.map_err(|_| Error::Closed)?;
            }
            // Whoever is making it now is waited for; nobody begins any more.
            match late.made.get_or_try_init(|| async { Err(Error::Closed) }).await {
                Ok(network) => network.close().await,
                Err(_) => Ok(()),
            }
        };
        // Both wait for the kernel most of the time.
        let (closed, network) = tokio::join!(closed, network);
        closed.map_err(|_| Error::Closed)??;
        network
    }

    fn check_open(&self) -> Result<()> {
        if self.shared.closed.load(Ordering::Acquire) { Err(Error::Closed) } else { Ok(()) }
    }
}

impl Shared {
    pub(crate) fn container_directory(&self, id: &str) -> Result<PathBuf> {
        check_name("container id", id)?;
        Ok(self.root.join("containers").join(id))
    }

    pub(crate) fn forget(&self, id: &str) {
        self.live().remove(id);
    }

    fn live(&self) -> MutexGuard<'_, HashMap<String, Weak<Inner>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) fn directories(parent: &Path) -> Result<Vec<PathBuf>> {
    match fs::read_dir(parent) {
        Ok(entries) => entries
            .map(|entry| entry.map(|e| e.path()))
            .collect::<std::io::Result<_>>()
            .map_err(Error::io("list", parent)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(Error::io("list", parent)(error)),
    }
}

/// What running kept containers stand on.
#[derive(Default)]
struct Kept {
    rootfs: HashSet<PathBuf>,
    netns: HashSet<PathBuf>,
}

fn sweep(containers: &Path, hierarchies: &Hierarchies, tag: &Tag) -> Result<Kept> {
    let mut kept = Kept::default();
    let mut groups = HashSet::new();
    for directory in directories(containers)? {
        match Record::of(&directory) {
            Ok(Some(record)) if record.lifetime == Lifetime::Kept && record.started.is_some() => {
                if matches!(container::running(&directory, &record), Ok(Some(_))) {
                    groups.insert(record.cgroup.clone());
                    kept.rootfs.insert(record.rootfs);
                    kept.netns.extend(record.netns);
                } else {
                    // It ended while nobody looked; its directory tells how, until it is removed.
                    let _ = hierarchies.remove(&record.cgroup);
                }
            }
            _ => end(&directory, hierarchies, tag)?,
        }
    }
    for parent in hierarchies.directories(&tag.cgroup()) {
        for group in directories(&parent)?.into_iter().filter(|path| path.is_dir()) {
            let name = group.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            let group = format!("{}/{name}", tag.cgroup());
            if !groups.contains(&group) {
                hierarchies.remove(&group).map_err(Error::io("remove cgroup", Path::new(&group)))?;
            }
        }
    }
    Ok(kept)
}

/// Kills a container, waits for its monitor, and removes all that is left of it.
fn end(directory: &Path, hierarchies: &Hierarchies, tag: &Tag) -> Result<()> {
    const TRIES: u32 = 400;
    let name = directory.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    for _ in 0..TRIES {
        if let Ok(Some(record)) = Record::of(directory)
            && let Ok(Some((process, _))) = container::running(directory, &record)
        {
            let _ = container::send_signal(&process, libc::SIGKILL);
        }
        match record::lock(directory) {
            Ok(Some(_)) => break,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => break,
            // It is still being created, or its end is being recorded.
            _ => std::thread::sleep(Duration::from_millis(5)),
        }
    }
    let group = format!("{}/{name}", tag.cgroup());
    container::clean(hierarchies, &group, directory).map_err(Error::io("remove", directory))
}
