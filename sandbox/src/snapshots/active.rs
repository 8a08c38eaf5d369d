//! A snapshot in the making.

use std::{
    fs,
    os::fd::AsFd,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{Layer, Store, changes, layer, tree};
use crate::{
    Error, Result,
    mounts::{self, Overlay},
};

/// A writable tree that becomes a snapshot with [`Active::commit`]; dropped without it, it is gone.
#[derive(Debug)]
pub struct Active {
    store: Arc<Store>,
    key: String,
    parent: Option<String>,
    directory: PathBuf,
    path: PathBuf,
    mounted: bool,
    /// The tree as it was, where it is a real one.
    tree: Option<tree::Tree>,
}

impl Active {
    pub(super) fn prepare(store: &Arc<Store>, key: &str, parent: Option<&str>, mount: bool) -> Result<Self> {
        if key.is_empty() || key.len() > 4096 {
            return Err(Error::Invalid("a snapshot's key has 1 to 4096 bytes".into()));
        }
        if store.layers().contains_key(key) {
            return Err(Error::Exists { what: "snapshot", name: key.into() });
        }
        let directory = store.root.join("active").join(store.number());
        let lower = match parent {
            Some(parent) => store.hold(parent)?,
            None => Vec::new(),
        };
        // From here on `drop` undoes everything.
        let mut active = Self {
            store: store.clone(),
            key: key.into(),
            parent: parent.map(str::to_owned),
            path: directory.join("fs"),
            directory,
            mounted: false,
            tree: None,
        };
        make_upper(&active.directory, lower.first().map(PathBuf::as_path))?;
        if mount && !lower.is_empty() {
            active.path = active.directory.join("rootfs");
            if crate::isolation::chrooted() {
                let made = tree::make(&lower, &active.path, tree::How::Copy);
                active.tree = Some(made.map_err(Error::io("copy layers to", &active.path))?);
                return Ok(active);
            }
            let (upper, work) = (active.directory.join("fs"), active.directory.join("work"));
            Overlay { lower: &lower, upper: Some((&upper, &work)), target: &active.path }
                .mount(store.base.as_fd())
                .map_err(Error::io("mount an overlay on", &active.path))?;
            active.mounted = true;
        }
        Ok(active)
    }

    pub fn key(&self) -> &str {
        &self.key
    }

    /// The whole tree, writable.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Only what differs from the parent so far.
    pub fn upper(&self) -> PathBuf {
        self.directory.join("fs")
    }

    /// Makes it a snapshot. Nothing may write to it any more. If another one was committed under the same key meanwhile, that one
    /// stays and this one is dropped.
    pub fn commit(mut self) -> Result<()> {
        self.unmount()?;
        if crate::isolation::chrooted() {
            let said = |error| Error::io("read what was changed in", &self.path)(error);
            let untouched = crate::helper::place::take_untouched(&self.directory).map_err(said)?;
            if let Some(tree) = self.tree.take() {
                let upper = self.directory.join("fs");
                changes::take(&self.path, &upper, &tree, &untouched.into_iter().collect()).map_err(said)?;
            }
        }
        for name in ["work", "rootfs"] {
            let path = self.directory.join(name);
            match fs::remove_dir_all(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::io("remove", &path)(error));
                }
                _ => {}
            }
        }
        let meta = layer::Meta { key: self.key.clone(), parent: self.parent.clone(), boot: self.store.boot.clone() };
        let file = self.directory.join("meta.json");
        let text = serde_json::to_vec(&meta).map_err(|error| Error::io("write", &file)(error.into()))?;
        fs::write(&file, text).map_err(Error::io("write", &file))?;
        let target = self.store.root.join("layers").join(layer::directory_name(&self.key));
        let mut layers = self.store.layers();
        if layers.contains_key(&self.key) {
            return Ok(());
        }
        if self.parent.as_ref().is_some_and(|parent| !layers.contains_key(parent)) {
            // Cannot happen while it is held, but a chain with a hole must never come to be.
            return Err(super::not_found(self.parent.as_deref().unwrap_or_default()));
        }
        fs::rename(&self.directory, &target).map_err(Error::io("move a snapshot to", &target))?;
        let committed =
            fs::metadata(target.join("meta.json")).and_then(|m| m.modified()).map_err(Error::io("read", &target))?;
        let layer =
            Layer { directory: target.clone(), parent: self.parent.clone(), committed, durable: false, users: 0 };
        layers.insert(self.key.clone(), layer);
        drop(layers);
        self.store.worker.committed(&target, committed);
        Ok(())
    }

    fn unmount(&mut self) -> Result<()> {
        if self.mounted {
            mounts::unmount(&self.path).map_err(Error::io("unmount", &self.path))?;
            self.mounted = false;
        }
        Ok(())
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        super::put_back(&self.directory);
        if let Err(error) = self.unmount() {
            tracing::warn!(%error, "a snapshot in the making stays mounted until the next start");
        }
        if let Some(parent) = &self.parent {
            self.store.release(parent);
        }
        if self.directory.exists()
            && let Err(error) = self.store.worker.discard(&self.directory)
        {
            tracing::warn!(%error, "an unfinished snapshot stays until the next start");
        }
    }
}

/// `fs`, `work` and `rootfs` in a new directory. The root of the tree looks like that of what is below it.
pub(super) fn make_upper(directory: &Path, below: Option<&Path>) -> Result<()> {
    for path in [directory.to_path_buf(), directory.join("fs"), directory.join("work"), directory.join("rootfs")] {
        fs::create_dir(&path).map_err(Error::io("make", &path))?;
    }
    let upper = directory.join("fs");
    let (mode, uid, gid) = match below {
        Some(below) => {
            let meta = fs::metadata(below).map_err(Error::io("read", below))?;
            (meta.mode() & 0o7777, meta.uid(), meta.gid())
        }
        None => (0o755, 0, 0),
    };
    std::os::unix::fs::chown(&upper, Some(uid), Some(gid)).map_err(Error::io("own", &upper))?;
    fs::set_permissions(&upper, fs::Permissions::from_mode(mode)).map_err(Error::io("set the mode of", &upper))
}
