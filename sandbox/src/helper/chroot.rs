//! A program in a root directory and nothing else: no namespaces, no mounts, no cgroup.
//!
//! What it leaves running is ended with it: this process is made the parent of all that lose theirs.

use std::{
    fs, io,
    os::fd::{AsRawFd, OwnedFd},
    path::Path,
};

use nix::{
    sys::{
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{ForkResult, Pid, fork},
};

use super::{
    executor::Program,
    place::Placed,
    wire::{BindOrTmpfs, Failure, Run},
};

/// With these a program gets out of its root directory, or at the machine's devices.
pub(super) const KEPT_BACK: u64 = 1 << 18 | 1 << 27;

/// What cannot be had without namespaces, said before anything is started.
pub(super) fn refuse(run: &Run) -> Result<(), Failure> {
    let refused = match () {
        () if run.terminal => "a terminal",
        () if run.readonly_rootfs => "a read-only root directory",
        () if !run.host_network => "a network of its own",
        () => return Ok(()),
    };
    Err(Failure::Invalid(format!("{refused} cannot be had without namespaces (isolation: chroot)")))
}

/// Puts devices and mounts in their places.
pub(super) fn place(run: &Run, root: &OwnedFd) -> Result<Placed, Failure> {
    let devices = run.directory.join("dev");
    let made = crate::isolation::devices(&devices).and_then(|()| Placed::new(&run.rootfs));
    let mut placed = made.map_err(|error| Failure::Other(format!("making its devices: {error}")))?;
    let dev = BindOrTmpfs { target: "/dev".into(), source: Some(devices), readonly: false, size: None, mode: None };
    let put = std::iter::once(&dev).chain(&run.mounts).try_for_each(|mount| {
        let put = placed.put(root, mount, &run.directory);
        put.map_err(|error| Failure::Invalid(format!("{} cannot be put in its place: {error}", mount.target)))
    });
    match put.and_then(|()| placed.finish().map_err(|e| Failure::Other(format!("putting its mounts: {e}")))) {
        Ok(()) => Ok(placed),
        Err(failure) => {
            let _ = placed.undo();
            Err(failure)
        }
    }
}

/// Starts the program; it has done so when its pipe is closed.
pub(super) fn start(run: &Run, root: &OwnedFd, program: &Program, streams: Vec<OwnedFd>) -> io::Result<i32> {
    // SAFETY: a plain system call.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
    // SAFETY: this process has no other thread, so that the child may do anything.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok(child.as_raw()),
        ForkResult::Child => {
            let entered = enter(run, root, &streams);
            program.run_or_say(entered.err())
        }
    }
}

fn enter(run: &Run, root: &OwnedFd, streams: &[OwnedFd]) -> io::Result<()> {
    nix::unistd::setsid()?;
    if let Some(score) = run.oom_score_adj {
        fs::write("/proc/self/oom_score_adj", score.to_string())?;
    }
    for limit in &run.rlimits {
        let resource = crate::rlimit::resource(&limit.name)
            .ok_or_else(|| io::Error::other(format!("no limit is called {}", limit.name)))?;
        nix::sys::resource::setrlimit(resource, limit.soft, limit.hard)?;
    }
    for (number, stream) in streams.iter().enumerate() {
        // SAFETY: plain system calls on open descriptors; copies stay open over `execve`.
        if unsafe { libc::dup2(stream.as_raw_fd(), number as libc::c_int) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    nix::unistd::fchdir(root)?;
    nix::unistd::chroot(".")?;
    nix::unistd::chdir(Path::new(&run.cwd))?;
    Ok(())
}

/// Ends everything that the program has left running.
pub(super) fn end_all() {
    let own = std::process::id();
    loop {
        for pid in children(own) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        match waitpid(None, Some(WaitPidFlag::__WALL)) {
            Ok(WaitStatus::StillAlive) | Err(nix::errno::Errno::EINTR) | Ok(_) => {}
            // Nobody is left.
            Err(_) => return,
        }
    }
}

fn children(of: u32) -> Vec<i32> {
    let parent = |pid: i32| -> Option<u32> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
    };
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    all.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(|pid| parent(*pid) == Some(of)).collect()
}
