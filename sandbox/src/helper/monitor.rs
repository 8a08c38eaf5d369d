//! Waits for a program to end, carries its log meanwhile, and ends it when the server is gone and nobody shall outlive it.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use nix::{
    errno::Errno,
    sys::wait::{WaitPidFlag, WaitStatus, waitpid},
    unistd::Pid,
};

use super::{
    pump::{self, Pump},
    wire::Socket,
};
use crate::container::{Exit, Status};

/// After the end of the container its pipes are empty and closed, unless somebody outside holds one.
const DRAIN_MILLIS: i32 = 500;

pub(super) struct Monitor<'a> {
    pub socket: &'a Socket,
    pub process: OwnedFd,
    pub pid: i32,
    pub pump: Option<Pump>,
    pub ends_with_server: bool,
}

impl Monitor<'_> {
    pub(super) fn until_end(mut self) -> io::Result<Exit> {
        let mut server = true;
        let mut ended = None;
        loop {
            if ended.is_some() && self.pump.as_ref().is_none_or(Pump::is_empty) {
                break;
            }
            // The order in which they are answered below: process, server, streams.
            let mut polled = Vec::with_capacity(4);
            polled.push(if ended.is_none() { entry(self.process.as_fd()) } else { ignored() });
            polled.push(if server { entry(self.socket.as_fd()) } else { ignored() });
            if let Some(pump) = &self.pump {
                polled.extend(pump.readers().map(entry));
            }
            let timeout = if ended.is_some() { DRAIN_MILLIS } else { -1 };
            // SAFETY: the list is ours and as long as we say.
            let ready = unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, timeout) };
            if ready < 0 {
                match io::Error::last_os_error() {
                    error if error.kind() == io::ErrorKind::Interrupted => continue,
                    error => return Err(error),
                }
            }
            if ready == 0 {
                break;
            }
            let readable = |entry: Option<&libc::pollfd>| entry.is_some_and(|e| e.revents != 0);
            if let Some(pump) = &mut self.pump {
                // From the last to the first: carrying may take one out of the list.
                for index in (0..polled.len().saturating_sub(2)).rev() {
                    if readable(polled.get(index + 2)) {
                        // A full disk must not end the container; what cannot be written is lost.
                        let _ = pump.carry(index);
                    }
                }
            }
            if ended.is_none() && readable(polled.first()) {
                ended = Some(self.reap()?);
            }
            if server && readable(polled.get(1)) {
                // The server never says anything more: this is its end.
                server = false;
                if self.ends_with_server && ended.is_none() {
                    let _ = nix::sys::signal::kill(Pid::from_raw(self.pid), nix::sys::signal::Signal::SIGKILL);
                }
            }
        }
        Ok(Exit { status: ended.unwrap_or(Status::Lost), out_of_memory: false, at: pump::now_millis() })
    }

    fn reap(&self) -> io::Result<Status> {
        loop {
            match waitpid(Pid::from_raw(self.pid), Some(WaitPidFlag::__WALL)) {
                Ok(WaitStatus::Exited(_, code)) => return Ok(Status::Code(code)),
                Ok(WaitStatus::Signaled(_, signal, _)) => return Ok(Status::Signal(signal as i32)),
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn entry(descriptor: BorrowedFd<'_>) -> libc::pollfd {
    libc::pollfd { fd: descriptor.as_raw_fd(), events: libc::POLLIN, revents: 0 }
}

/// Negative descriptors are skipped by the kernel.
fn ignored() -> libc::pollfd {
    libc::pollfd { fd: -1, events: 0, revents: 0 }
}
