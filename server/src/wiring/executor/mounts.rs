//! What a program sees besides its root: inputs, caches, memory, secrets and agents. All of it is gone when the guard is dropped.

use std::{
    collections::HashMap,
    fs, io,
    os::unix::fs::{DirBuilderExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use data_encoding::HEXLOWER;
use graph::{CacheMount, Error, Exec, ExecContext, Output, Sharing};
use nix::fcntl::{Flock, FlockArg};
use sandbox::{Mount, MountKind, View};
use tokio_util::task::AbortOnDropHandle;

use super::{Machine, blocking, machine, rooted::Root};

/// Mounts, and what must live as long as they.
#[derive(Default)]
pub struct Mounts {
    pub mounts: Vec<Mount>,
    /// Variables that name them.
    pub env: Vec<(String, String)>,
    /// One for each mount of an input, in their order.
    pub views: Vec<View>,
    more: Vec<View>,
    secrets: Option<tempfile::TempDir>,
    agents: Vec<AbortOnDropHandle<()>>,
    locks: Vec<Box<dyn Send>>,
}

impl Mounts {
    pub async fn of(
        machine_: &Machine,
        program: &Exec,
        inputs: &[Output],
        context: &ExecContext,
    ) -> Result<Self, Error> {
        let mut all = Self::default();
        for mount in &program.mounts {
            // Where nothing is mounted the files themselves are lent: they must not be those of the input.
            let view = view(machine_, inputs, mount.input, mount.writable || sandbox::chrooted())?;
            let source = inside(&view, &mount.source)?;
            let kind = MountKind::Bind(source);
            all.mounts.push(Mount { target: mount.target.clone(), kind, readonly: !mount.writable });
            all.views.push(view);
        }
        for cache in &program.caches {
            all.cache(machine_, cache, inputs, context).await?;
        }
        for tmpfs in &program.tmpfs {
            let kind = MountKind::Tmpfs { size: tmpfs.size, mode: Some(0o1777) };
            all.mounts.push(Mount { target: tmpfs.target.clone(), kind, readonly: false });
        }
        let scratch = machine_.snapshots().root().join("active");
        all.secrets(program, context, scratch).map_err(|e| machine("cannot hand over a secret", e))?;
        for agent in &program.agents {
            all.agent(agent, context).map_err(|e| machine("cannot hand over an SSH agent", e))?;
        }
        // What lies deeper is mounted later.
        all.mounts.sort_by_key(|mount| mount.target.split('/').filter(|part| !part.is_empty()).count());
        Ok(all)
    }

    async fn cache(
        &mut self,
        machine_: &Machine,
        cache: &CacheMount,
        inputs: &[Output],
        context: &ExecContext,
    ) -> Result<(), Error> {
        let start = match &cache.from {
            Some((input, path)) => {
                let view = view(machine_, inputs, *input, false)?;
                let source = inside(&view, path)?;
                self.more.push(view);
                Some(source)
            }
            None => None,
        };
        let (caches, cache_, cancel) = (machine_.caches.clone(), cache.clone(), context.cancel.clone());
        let (path, lock) = tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(Error::Cancelled),
            taken = caches.take(cache_, start) => taken?,
        };
        self.locks.push(lock);
        self.mounts.push(Mount { target: cache.target.clone(), kind: MountKind::Bind(path), readonly: cache.readonly });
        Ok(())
    }

    /// Secrets as files, in memory where this machine has `/dev/shm`.
    fn secrets(&mut self, program: &Exec, context: &ExecContext, scratch: PathBuf) -> io::Result<()> {
        if program.secret_files.is_empty() && program.agents.is_empty() {
            return Ok(());
        }
        let shm = Path::new("/dev/shm");
        let place = match shm.is_dir() {
            // A socket is lent as it is, so it must lie where the root directory does; so must a secret in the end.
            true if sandbox::chrooted() => scratch,
            true => shm.to_owned(),
            false => std::env::temp_dir(),
        };
        let directory = tempfile::Builder::new().prefix(".shipway-secrets-").tempdir_in(place)?;
        for (number, secret) in program.secret_files.iter().enumerate() {
            let path = directory.path().join(number.to_string());
            fs::write(&path, context.secrets.get(&secret.name).map(String::as_str).unwrap_or_default())?;
            chown(&path, Some(secret.uid), Some(secret.gid))?;
            fs::set_permissions(&path, fs::Permissions::from_mode(secret.mode))?;
            let kind = MountKind::Bind(path);
            self.mounts.push(Mount { target: secret.target.clone(), kind, readonly: true });
        }
        self.secrets = Some(directory);
        Ok(())
    }

    /// A socket of its own, with the owner and mode that are asked for, that leads to the agent.
    fn agent(&mut self, agent: &graph::SshAgent, context: &ExecContext) -> io::Result<()> {
        let Some(directory) = &self.secrets else { return Ok(()) };
        let real = PathBuf::from(context.secrets.get(&agent.secret()).map(String::as_str).unwrap_or_default());
        let path = directory.path().join(format!("agent-{}", self.agents.len()));
        let listener = tokio::net::UnixListener::bind(&path)?;
        chown(&path, Some(agent.uid), Some(agent.gid))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(agent.mode))?;
        let serve = async move {
            // A connection that cannot be made is closed: the client in the container says what it thinks of that.
            while let Ok((mut client, _)) = listener.accept().await {
                let real = real.clone();
                tokio::spawn(async move {
                    if let Ok(mut agent) = tokio::net::UnixStream::connect(&real).await {
                        let _ = tokio::io::copy_bidirectional(&mut client, &mut agent).await;
                    }
                });
            }
        };
        self.agents.push(AbortOnDropHandle::new(tokio::spawn(serve)));
        self.mounts.push(Mount { target: agent.target.clone(), kind: MountKind::Bind(path), readonly: false });
        if !self.env.iter().any(|(name, _)| name == "SSH_AUTH_SOCK") {
            self.env.push(("SSH_AUTH_SOCK".into(), agent.target.clone()));
        }
        Ok(())
    }
}

fn view(machine_: &Machine, inputs: &[Output], input: usize, writable: bool) -> Result<View, Error> {
    let input = inputs.get(input).ok_or_else(|| Error::Invalid("a mount names no input".into()))?;
    machine_.view(&input.id, writable)
}

/// A path of an input on this machine. Links in it are followed inside the input, as the container would: one that points to `/` must
/// not show the program this machine's own files.
fn inside(view: &View, path: &str) -> Result<PathBuf, Error> {
    let root = Root::open(view.path()).map_err(|e| machine("cannot open an input", e))?;
    let path = Path::new("/").join(path.trim_start_matches('/'));
    let found = root.find(&path).and_then(|place| place.real());
    found.map_err(|e| Error::Invalid(format!("cannot mount `{}`: {e}", path.display())))
}

/// The cache directories of this machine. Cheap to clone.
#[derive(Clone)]
pub struct Caches {
    root: PathBuf,
    waiting: Arc<Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>>,
}

impl Caches {
    pub fn new(root: PathBuf) -> Self {
        Self { root, waiting: Arc::default() }
    }

    fn name(id: &str) -> String {
        let sum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, id.as_bytes());
        HEXLOWER.encode(&sum.as_ref()[..12])
    }

    /// Where the directory of a cache lies, if it is there.
    pub fn place(&self, id: &str) -> PathBuf {
        self.root.join(Self::name(id))
    }

    /// The directory of a cache, and what keeps others out of it where that is asked for.
    async fn take(&self, cache: CacheMount, start: Option<PathBuf>) -> Result<(PathBuf, Box<dyn Send>), Error> {
        let name = Self::name(&cache.id);
        match cache.sharing {
            // Where nothing is mounted a directory stands in one root only.
            Sharing::Shared if !sandbox::chrooted() => {
                // Only while the directory is made.
                let _held = self.lock(name.clone()).lock_owned().await;
                Ok((self.make(name, cache, start).await?, Box::new(())))
            }
            Sharing::Shared | Sharing::Locked => {
                let held = self.lock(name.clone()).lock_owned().await;
                let path = self.make(name, cache, start).await?;
                let (file, at) = (path.with_extension("lock"), path);
                // Another process may share the directory.
                let locked = blocking(move || {
                    let file = fs::File::create(&file).map_err(|e| machine("cannot lock a cache", e))?;
                    Flock::lock(file, FlockArg::LockExclusive)
                        .map_err(|(_, e)| machine("cannot lock a cache", io::Error::from(e)))
                });
                Ok((at, Box::new((held, locked.await?))))
            }
            Sharing::Private => {
                let mut number = 0;
                loop {
                    let own = if number == 0 { name.clone() } else { format!("{name}-{number}") };
                    if let Ok(held) = self.lock(own.clone()).try_lock_owned() {
                        return Ok((self.make(own, cache, start).await?, Box::new(held)));
                    }
                    number += 1;
                }
            }
        }
    }

    fn lock(&self, name: String) -> Arc<tokio::sync::Mutex<()>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_default().clone()
    }

    /// Makes the directory if it is not there, filled with what it is to begin with.
    async fn make(&self, name: String, cache: CacheMount, start: Option<PathBuf>) -> Result<PathBuf, Error> {
        let root = self.root.clone();
        blocking(move || {
            let path = root.join(&name);
            if path.is_dir() {
                return Ok(path);
            }
            let said = |e: io::Error| machine("cannot make a cache directory", e);
            let new = root.join(format!("{name}.new"));
            let _ = fs::remove_dir_all(&new);
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&root).map_err(said)?;
            fs::create_dir(&new).map_err(said)?;
            if let Some(start) = start.filter(|start| start.is_dir()) {
                let copy = graph::Copy { sources: vec!["/".into()], target: "/".into(), ..graph::Copy::default() };
                super::copy::copy(&copy, &start, &new).map_err(Error::Invalid)?;
            }
            chown(&new, Some(cache.uid), Some(cache.gid)).map_err(said)?;
            fs::set_permissions(&new, fs::Permissions::from_mode(cache.mode)).map_err(said)?;
            fs::rename(&new, &path).map_err(said)?;
            // For people who wonder what it is.
            let _ = fs::write(root.join(format!("{name}.id")), &cache.id);
            Ok(path)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(id: &str, sharing: Sharing) -> CacheMount {
        CacheMount {
            id: id.into(),
            target: "/c".into(),
            sharing,
            readonly: false,
            from: None,
            mode: 0o755,
            uid: 0,
            gid: 0,
        }
    }

    #[tokio::test]
    async fn sharing_says_who_waits_and_who_gets_another() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIPPED: owners of cache directories are set by root");
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let caches = Caches::new(directory.path().join("caches"));
        let (one, _first) = caches.take(cache("a", Sharing::Shared), None).await.unwrap();
        let (two, _second) = caches.take(cache("a", Sharing::Shared), None).await.unwrap();
        assert_eq!(one, two);
        let (one, _first) = caches.take(cache("p", Sharing::Private), None).await.unwrap();
        let (two, _second) = caches.take(cache("p", Sharing::Private), None).await.unwrap();
        assert_ne!(one, two);
        let (one, first) = caches.take(cache("l", Sharing::Locked), None).await.unwrap();
        let soon = std::time::Duration::from_millis(50);
        assert!(tokio::time::timeout(soon, caches.take(cache("l", Sharing::Locked), None)).await.is_err());
        drop(first);
        assert_eq!(caches.take(cache("l", Sharing::Locked), None).await.unwrap().0, one);
    }

    #[tokio::test]
    async fn a_new_cache_begins_with_what_it_is_given() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIPPED: owners of cache directories are set by root");
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let start = directory.path().join("start");
        fs::create_dir(&start).unwrap();
        fs::write(start.join("seed"), "1").unwrap();
        let caches = Caches::new(directory.path().join("caches"));
        let (path, _held) = caches.take(cache("a", Sharing::Shared), Some(start.clone())).await.unwrap();
        assert_eq!(fs::read(path.join("seed")).unwrap(), b"1");
        fs::write(path.join("seed"), "2").unwrap();
        let (again, _held) = caches.take(cache("a", Sharing::Shared), Some(start)).await.unwrap();
        assert_eq!(fs::read(again.join("seed")).unwrap(), b"2");
    }
}
