//! Snapshots: directory trees by key, each a layer over its parent, shared by overlayfs.
//!
//! A snapshot's directory holds only what differs from its parent, in the form that overlayfs and OCI layers share: whole files,
//! character devices 0:0 for what was removed, `trusted.overlay.opaque` on directories that hide what was below.
//!
//! A commit is one rename: what a crash interrupts is not there. Nothing is synced on the way; a background thread syncs the file
//! system some seconds after the last commit and marks what is safe. A snapshot without the mark is trusted only while the same
//! boot of the machine lasts, so that a power failure costs work but never gives a broken tree.

mod active;
mod changes;
mod layer;
mod tree;
mod view;
mod worker;

use std::{
    collections::{HashMap, HashSet},
    fs,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

pub use active::Active;
pub use view::View;

use crate::{Error, Result, mounts};
use layer::Layer;
use worker::Worker;

/// More would not fit any layer format anyway; overlayfs itself stops at 500.
const DEEPEST: usize = 400;

/// The snapshots below one directory. Cheap to clone. All calls block shortly (a mount, a rename); none removes a large tree itself.
#[derive(Clone, Debug)]
pub struct Snapshots(Arc<Store>);

#[derive(Debug)]
pub(crate) struct Store {
    root: PathBuf,
    /// Kernels without the new mount API name lower directories by it.
    base: OwnedFd,
    layers: Mutex<HashMap<String, Layer>>,
    worker: Worker,
    next: AtomicU64,
    boot: String,
}

/// What [`Snapshots::list`] tells of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    pub key: String,
    pub parent: Option<String>,
    pub committed: SystemTime,
}

impl Snapshots {
    /// Opens the store and sweeps what an earlier process left half done. Views whose mount is in `used` stay.
    pub(crate) fn open(root: &Path, used: &HashSet<PathBuf>) -> Result<Self> {
        for name in ["layers", "active", "views", "trash"] {
            let path = root.join(name);
            fs::create_dir_all(&path).map_err(Error::io("make", &path))?;
        }
        let base = fs::File::open(root).map_err(Error::io("open", root))?;
        let boot_id = Path::new("/proc/sys/kernel/random/boot_id");
        let boot = fs::read_to_string(boot_id).map_err(Error::io("read", boot_id))?.trim().to_owned();
        let worker = Worker::start(root)?;
        let (layers, broken) = layer::load(&root.join("layers"), &boot)?;
        for path in broken {
            tracing::warn!(path = %path.display(), "dropping a snapshot that was not safe on disk when the machine stopped");
            worker.discard(&path)?;
        }
        for layer in layers.values().filter(|l| !l.durable) {
            worker.committed(&layer.directory, layer.committed);
        }
        let store = Store {
            root: root.to_path_buf(),
            base: base.into(),
            layers: Mutex::new(layers),
            worker,
            next: AtomicU64::new(0),
            boot,
        };
        store.sweep(used)?;
        Ok(Self(Arc::new(store)))
    }

    /// The directory that everything lies in.
    pub fn root(&self) -> &Path {
        &self.0.root
    }

    pub fn has(&self, key: &str) -> bool {
        self.0.layers().contains_key(key)
    }

    pub fn list(&self) -> Vec<Snapshot> {
        let layers = self.0.layers();
        let mut list: Vec<Snapshot> = layers
            .iter()
            .map(|(key, layer)| Snapshot { key: key.clone(), parent: layer.parent.clone(), committed: layer.committed })
            .collect();
        list.sort_by(|a, b| a.key.cmp(&b.key));
        list
    }

    /// The key itself, its parent, and so on to the base.
    pub fn chain(&self, key: &str) -> Result<Vec<String>> {
        Ok(layer::chain(&self.0.layers(), key)?.into_iter().map(|(key, _)| key).collect())
    }

    /// The directory that holds only what `key` has over its parent. Never write into it.
    pub fn diff(&self, key: &str) -> Result<PathBuf> {
        self.0.layers().get(key).map(|l| l.directory.join("fs")).ok_or_else(|| not_found(key))
    }

    /// Begins a snapshot on top of `parent` (or of nothing). It is there under `key` once it is committed.
    pub fn prepare(&self, key: &str, parent: Option<&str>) -> Result<Active> {
        Active::prepare(&self.0, key, parent, true)
    }

    /// Fills the directory of a snapshot directly, without a mount: for image layers. `fill` writes whiteouts and opaque marks
    /// itself. What it returns is passed on; when it fails nothing is kept. When the key is there already, `fill` is not called.
    pub fn import<E: From<Error>>(
        &self,
        key: &str,
        parent: Option<&str>,
        fill: impl FnOnce(&Path) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        if self.has(key) {
            return Ok(());
        }
        let active = Active::prepare(&self.0, key, parent, false)?;
        fill(active.path())?;
        Ok(active.commit()?)
    }

    /// Mounts a snapshot under a name of its own: read-only, or with a writable layer that is thrown away with the view.
    pub fn view(&self, name: &str, key: &str, writable: bool) -> Result<View> {
        View::mount(&self.0, name, key, writable)
    }

    /// Finds a view that outlived the process which made it ([`View::keep`], or in use by a kept container).
    pub fn adopt(&self, name: &str) -> Option<View> {
        View::adopt(&self.0, name)
    }

    /// Removes a snapshot that nothing stands on.
    pub fn remove(&self, key: &str) -> Result<()> {
        let mut layers = self.0.layers();
        let layer = layers.get(key).ok_or_else(|| not_found(key))?;
        let in_use = |by: String| Error::InUse { what: "snapshot", name: key.into(), by };
        if layer.users > 0 {
            return Err(in_use(format!("{} mounts", layer.users)));
        }
        if let Some((child, _)) = layers.iter().find(|(_, l)| l.parent.as_deref() == Some(key)) {
            return Err(in_use(format!("snapshot `{child}`")));
        }
        if let Some(layer) = layers.remove(key) {
            self.0.worker.discard(&layer.directory)?;
        }
        Ok(())
    }

    /// Bytes on disk of what `key` has over its parent. Walks the tree.
    pub fn usage(&self, key: &str) -> Result<u64> {
        use std::os::unix::fs::MetadataExt;
        let directory = self.diff(key)?;
        let mut seen = HashSet::new();
        Ok(walkdir::WalkDir::new(directory)
            .into_iter()
            .filter_map(|entry| entry.ok()?.metadata().ok())
            .filter(|m| m.nlink() < 2 || m.is_dir() || seen.insert((m.dev(), m.ino())))
            .map(|m| m.blocks() * 512)
            .sum())
    }

    /// Unmounts everything, ends the background thread. Snapshots stay.
    pub(crate) fn close(&self) -> Result<()> {
        for point in mounts::below(&self.0.root).map_err(Error::io("read mounts of", &self.0.root))? {
            mounts::unmount(&point).map_err(Error::io("unmount", &point))?;
        }
        for name in ["active", "views"] {
            self.0.discard_all(&self.0.root.join(name), |_| false)?;
        }
        self.0.worker.finish();
        Ok(())
    }
}

pub(crate) fn not_found(key: &str) -> Error {
    Error::NotFound { what: "snapshot", name: key.into() }
}

impl Store {
    fn layers(&self) -> MutexGuard<'_, HashMap<String, Layer>> {
        // A panic while it was held cannot have left it half changed: every change is one insert or remove.
        self.layers.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// A name that no other directory of this process has.
    fn number(&self) -> String {
        format!("{}-{}", std::process::id(), self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// Lower directories of `key`, the topmost first, each counted as used until [`Store::release`].
    fn hold(&self, key: &str) -> Result<Vec<PathBuf>> {
        let mut layers = self.layers();
        let chain = layer::chain(&layers, key)?;
        if let Some(layer) = layers.get_mut(key) {
            layer.users += 1;
        }
        Ok(chain.into_iter().map(|(_, directory)| directory.join("fs")).collect())
    }

    fn release(&self, key: &str) {
        if let Some(layer) = self.layers().get_mut(key) {
            layer.users = layer.users.saturating_sub(1);
        }
    }

    fn sweep(&self, used: &HashSet<PathBuf>) -> Result<()> {
        for point in mounts::below(&self.root).map_err(Error::io("read mounts of", &self.root))? {
            if !used.contains(&point) {
                mounts::unmount(&point).map_err(Error::io("unmount", &point))?;
            }
        }
        for place in ["active", "views"] {
            for left in read_dir(&self.root.join(place))? {
                put_back(&left);
            }
        }
        self.discard_all(&self.root.join("active"), |_| false)?;
        self.discard_all(&self.root.join("views"), |view| used.contains(&view.join("rootfs")))?;
        for view in read_dir(&self.root.join("views"))? {
            // What a kept view stands on must stay as long as it.
            if let Some(key) = view::key_of(&view) {
                self.hold(&key)?;
            }
        }
        self.worker.empty_trash()
    }

    fn discard_all(&self, directory: &Path, stays: impl Fn(&Path) -> bool) -> Result<()> {
        for path in read_dir(directory)? {
            if !stays(&path) {
                self.worker.discard(&path)?;
            }
        }
        Ok(())
    }
}

/// What a program without mounts was given goes back to where it belongs.
fn put_back(directory: &Path) {
    if let Err(error) = crate::helper::place::undo(directory) {
        tracing::warn!(%error, path = %directory.display(), "what was lent to a container cannot be put back");
    }
}

fn read_dir(directory: &Path) -> Result<Vec<PathBuf>> {
    fs::read_dir(directory)
        .and_then(|entries| entries.map(|entry| entry.map(|e| e.path())).collect())
        .map_err(Error::io("list", directory))
}
