//! The background thread of the snapshots: empties the trash, and syncs the file system some seconds after the last commit.

use std::{
    collections::BTreeMap,
    fs,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread::JoinHandle,
    time::{Duration, SystemTime},
};

use crate::{Error, Result};

/// How long no commit must follow before the file system is synced.
const QUIET: Duration = Duration::from_secs(5);
/// At the end the file system is synced only when something waits for it that is so much older than the newest. A process that ends at
/// once after a commit leaves that to the next one: while the machine is up a snapshot is good without.
const OLD: Duration = Duration::from_secs(300);

enum Task {
    Remove(PathBuf),
    Committed(PathBuf, SystemTime),
    Finish,
}

#[derive(Debug)]
pub(super) struct Worker {
    trash: PathBuf,
    tasks: Sender<Task>,
    thread: Mutex<Option<JoinHandle<()>>>,
    next: AtomicU64,
}

impl Worker {
    pub(super) fn start(root: &Path) -> Result<Self> {
        let (tasks, receiver) = mpsc::channel();
        let file = fs::File::open(root).map_err(Error::io("open", root))?;
        let thread = std::thread::Builder::new()
            .name("snapshots".into())
            .spawn(move || {
                let mut unsynced = BTreeMap::new();
                loop {
                    let task = if unsynced.is_empty() {
                        receiver.recv().map_err(|_| RecvTimeoutError::Disconnected)
                    } else {
                        receiver.recv_timeout(QUIET)
                    };
                    match task {
                        Ok(Task::Remove(path)) => remove(&path),
                        Ok(Task::Committed(path, at)) => {
                            unsynced.insert(path, at);
                        }
                        Err(RecvTimeoutError::Timeout) => sync(&file, &mut unsynced),
                        Ok(Task::Finish) | Err(RecvTimeoutError::Disconnected) => {
                            let age = unsynced.values().max().zip(unsynced.values().min());
                            if age.is_some_and(|(new, old)| new.duration_since(*old).is_ok_and(|age| age > OLD)) {
                                sync(&file, &mut unsynced);
                            }
                            return;
                        }
                    }
                }
            })
            .map_err(Error::io("start the background thread of", root))?;
        Ok(Self { trash: root.join("trash"), tasks, thread: Mutex::new(Some(thread)), next: AtomicU64::new(0) })
    }

    /// Takes a directory out of sight at once and removes it in the background.
    pub(super) fn discard(&self, directory: &Path) -> Result<()> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let target = self.trash.join(format!("{}-{number}", std::process::id()));
        match fs::rename(directory, &target) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            result => result.map_err(Error::io("remove", directory))?,
        }
        // Without the thread (after the end) the next start empties the trash.
        let _ = self.tasks.send(Task::Remove(target));
        Ok(())
    }

    pub(super) fn empty_trash(&self) -> Result<()> {
        for path in super::read_dir(&self.trash)? {
            let _ = self.tasks.send(Task::Remove(path));
        }
        Ok(())
    }

    pub(super) fn committed(&self, directory: &Path, at: SystemTime) {
        let _ = self.tasks.send(Task::Committed(directory.to_path_buf(), at));
    }

    /// Waits until all is removed, and what waited long is synced.
    pub(super) fn finish(&self) {
        let _ = self.tasks.send(Task::Finish);
        let thread = self.thread.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.finish();
    }
}

fn remove(path: &Path) {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "cannot be removed; the next start tries again");
        }
        _ => {}
    }
}

fn sync(file: &fs::File, unsynced: &mut BTreeMap<PathBuf, SystemTime>) {
    if unsynced.is_empty() {
        return;
    }
    // SAFETY: the descriptor is open as long as `file` is borrowed.
    if unsafe { libc::syncfs(file.as_raw_fd()) } != 0 {
        tracing::warn!(error = %std::io::Error::last_os_error(), "snapshots could not be synced; trying again later");
        return;
    }
    for directory in std::mem::take(unsynced).into_keys() {
        // A snapshot may have been removed meanwhile. Without the mark it is only dropped after a power failure.
        if let Err(error) = fs::File::create(directory.join("durable")) {
            tracing::debug!(path = %directory.display(), %error, "not marked as synced");
        }
    }
}
