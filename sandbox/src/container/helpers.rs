//! Helper processes. One is always started ahead, so that a container does not wait for the loading of a large binary.

use std::{
    ffi::OsString,
    os::fd::{AsRawFd, OwnedFd},
    path::Path,
    process::Stdio,
    sync::{Mutex, PoisonError},
};

use tokio::process::Command;

use super::channel::Channel;
use crate::{Error, Result, mounts};

pub(crate) struct Helpers {
    argv: Vec<OsString>,
    /// The program, on a mount that cannot be written to: what runs in a container may get hold of `/proc/<helper>/exe`.
    program: Option<OwnedFd>,
    spare: Mutex<Option<Channel>>,
}

impl Helpers {
    pub(crate) fn new(argv: Vec<OsString>) -> Result<Self> {
        let Some(program) = argv.first() else {
            return Err(Error::Invalid("the helper's command is empty; give for example /proc/self/exe".into()));
        };
        let program = match mounts::readonly_clone(Path::new(program)) {
            Ok(program) => Some(program),
            // Nothing can be mounted; what runs without namespaces is not kept from this program anyway.
            Err(_) if crate::isolation::chrooted() => None,
            Err(error) => {
                tracing::warn!(%error, "the helper runs from a writable mount of its binary");
                None
            }
        };
        Ok(Self { argv, program, spare: Mutex::new(None) })
    }

    /// The spare one, if it is there, else a new one.
    pub(super) fn take(&self) -> Result<Channel> {
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).take();
        spare.map_or_else(|| self.spawn(), Ok)
    }

    /// Starts a spare one if there is none. What fails is tried again when it is needed.
    pub(crate) fn refill(&self) {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.is_none() {
            *spare = self.spawn().ok();
        }
    }

    pub(crate) async fn close(&self) {
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(spare) = spare {
            spare.finish().await;
        }
    }

    fn spawn(&self) -> Result<Channel> {
        let failed = |error| Error::io("start the helper", Path::new(&self.argv[0]))(error);
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(failed)?;
        ours.set_nonblocking(true).map_err(failed)?;
        let mut command = match &self.program {
            Some(program) => Command::new(format!("/proc/self/fd/{}", program.as_raw_fd())),
            None => Command::new(&self.argv[0]),
        };
        command
            .args(&self.argv[1..])
            .env_clear()
            .current_dir("/")
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = command.spawn().map_err(failed)?;
        let socket = tokio::net::UnixStream::from_std(ours).map_err(failed)?;
        Ok(Channel::new(socket, child))
    }
}
