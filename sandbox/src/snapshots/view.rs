//! A snapshot mounted for use.

use std::{
    fs,
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{Store, active, tree};
use crate::{
    Error, Result,
    mounts::{self, Overlay},
    spec::check_name,
};

/// A mounted snapshot. Dropped, it is unmounted, and what was written to it is gone, unless it is kept.
#[derive(Debug)]
pub struct View {
    store: Arc<Store>,
    name: String,
    key: String,
    directory: PathBuf,
    path: PathBuf,
    kept: bool,
}

impl View {
    pub(super) fn mount(store: &Arc<Store>, name: &str, key: &str, writable: bool) -> Result<Self> {
        check_name("name of a view", name)?;
        let directory = store.root.join("views").join(name);
        if directory.exists() {
            return Err(Error::Exists { what: "view", name: name.into() });
        }
        let lower = store.hold(key)?;
        let mut view = Self {
            store: store.clone(),
            name: name.into(),
            key: key.into(),
            path: directory.join("rootfs"),
            directory,
            kept: false,
        };
        active::make_upper(&view.directory, lower.first().map(PathBuf::as_path))?;
        let file = view.directory.join("key");
        fs::write(&file, key).map_err(Error::io("write", &file))?;
        if crate::isolation::chrooted() {
            match (writable, lower.as_slice()) {
                (false, [one]) => view.path.clone_from(one),
                _ => {
                    let how = if writable { tree::How::Copy } else { tree::How::Link };
                    tree::make(&lower, &view.path, how).map_err(Error::io("put a snapshot together in", &view.path))?;
                }
            }
            return Ok(view);
        }
        let (upper, work) = (view.directory.join("fs"), view.directory.join("work"));
        let mounted = match (writable, lower.as_slice()) {
            (true, _) => {
                Overlay { lower: &lower, upper: Some((&upper, &work)), target: &view.path }.mount(store.base.as_fd())
            }
            // An overlay without an upper directory wants two lower ones.
            (false, [one]) => mounts::bind(one, &view.path, true),
            (false, _) => Overlay { lower: &lower, upper: None, target: &view.path }.mount(store.base.as_fd()),
        };
        mounted.map_err(Error::io("mount a snapshot on", &view.path))?;
        Ok(view)
    }

    pub(super) fn adopt(store: &Arc<Store>, name: &str) -> Option<Self> {
        check_name("name of a view", name).ok()?;
        let directory = store.root.join("views").join(name);
        let key = key_of(&directory)?;
        Some(Self {
            store: store.clone(),
            name: name.into(),
            key,
            path: directory.join("rootfs"),
            directory,
            kept: false,
        })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn key(&self) -> &str {
        &self.key
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What was written to it: whole files and whiteouts.
    pub fn upper(&self) -> PathBuf {
        self.directory.join("fs")
    }

    /// Leaves it mounted when it is dropped. [`Snapshots::adopt`](super::Snapshots::adopt) finds it by its name; a new process
    /// finds it only if a running container uses it.
    pub fn keep(&mut self) {
        self.kept = true;
    }
}

impl Drop for View {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        super::put_back(&self.directory);
        self.store.release(&self.key);
        let done = match crate::isolation::chrooted() {
            true => Ok(()),
            false => mounts::unmount(&self.path).map_err(Error::io("unmount", &self.path)),
        };
        if let Err(error) = done.and_then(|()| self.store.worker.discard(&self.directory)) {
            tracing::warn!(%error, "a view stays until the next start");
        }
    }
}

pub(super) fn key_of(directory: &Path) -> Option<String> {
    fs::read_to_string(directory.join("key")).ok()
}
