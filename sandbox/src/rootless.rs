//! Without root: the process starts itself again inside a user namespace, where it is root of its own files and mounts.
//!
//! Inside, everything works as it does for root, with these limits: there are no cgroups (so no limits of memory and processes), `/sys`
//! of containers is empty, and containers that have a network use that of the host.

mod ids;
mod root;

use std::{
    ffi::OsString,
    fs,
    io::{Read, Write},
    os::fd::OwnedFd,
    os::unix::process::{CommandExt, ExitStatusExt},
    path::PathBuf,
    process::{Command, ExitCode},
    sync::OnceLock,
};

use nix::{
    sched::{CloneFlags, unshare},
    sys::{
        signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, kill, sigaction},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{ForkResult, Pid, fork},
};

use crate::{
    Missing,
    isolation::{self, Isolation, Wanted},
};
use ids::Ids;

/// Set for the process inside, to what its ids are.
const MARK: &str = "SHIPWAY_USER_NAMESPACE";

/// Set for the process inside, to who started it.
const WHO: &str = "SHIPWAY_USER_NAMESPACE_OF";

/// Whether this process lives in a user namespace, so that what only the machine's root may do is out of reach.
pub fn in_user_namespace() -> bool {
    static KNOWN: OnceLock<bool> = OnceLock::new();
    *KNOWN.get_or_init(|| {
        let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        map.split_whitespace().collect::<Vec<_>>() != ["0", "0", "4294967295"]
    })
}

/// Whether this process was started by [`enter`]: it looks like root and is an ordinary user.
pub fn entered() -> bool {
    in_user_namespace() && std::env::var_os(MARK).is_some()
}

/// Whether only one user exists for this process, so that files of others cannot be made.
pub fn single_user() -> bool {
    in_user_namespace() && fs::read_to_string("/proc/self/setgroups").is_ok_and(|text| text.trim() == "deny")
}

/// Whether something lies over a part of `/proc`, as in containers that are not privileged: then no other can be mounted.
pub(crate) fn proc_is_covered() -> bool {
    let covered = |point: &PathBuf| point.starts_with("/proc") && point.as_path() != std::path::Path::new("/proc");
    // Where systemd mounts on demand nothing is hidden.
    let harmless = std::path::Path::new("/proc/sys/fs/binfmt_misc");
    crate::mounts::below(std::path::Path::new("/proc"))
        .is_ok_and(|points| points.iter().any(|point| covered(point) && point != harmless))
}

/// Runs this very program again in a user namespace and waits for it, when this process may not mount; `None` when it may. Must be called
/// before there is any other thread.
///
/// # Errors
/// What the machine lacks for that, and how to get it.
pub fn enter(wanted: Wanted) -> Result<Option<ExitCode>, Vec<Missing>> {
    let privileged = nix::unistd::geteuid().is_root() && may_mount();
    let chroot = || {
        let missing = isolation::missing();
        if missing.is_empty() {
            isolation::choose(Isolation::Chroot);
            return Ok(None);
        }
        Err(missing)
    };
    match wanted {
        Wanted::Chroot if !entered() => chroot(),
        _ if entered() || privileged => Ok(None),
        Wanted::Auto => namespace().or_else(|mut missing| {
            chroot().map_err(|more| {
                // An ordinary user outside of a container is not helped by that.
                if confined() {
                    missing.extend(more);
                }
                missing
            })
        }),
        _ => namespace(),
    }
}

/// Whether a filter forbids system calls, as in a container.
fn confined() -> bool {
    isolation::status("Seccomp") == Some(2)
}

fn namespace() -> Result<Option<ExitCode>, Vec<Missing>> {
    let ids = Ids::find();
    let failed = |what: &str, why: &dyn std::fmt::Display| {
        vec![Missing { what: what.into(), why: why.to_string(), fix: "start it as root".into() }]
    };
    let pipe = || nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(|e| failed("a pipe", &e));
    let (ready, tell) = pipe()?;
    let (mapped, go) = pipe()?;
    let (settled, settle) = pipe()?;
    // The path counts: what it is called stays reachable in the new tree, the link of /proc does not.
    let program = fs::read_link("/proc/self/exe").map_err(|e| failed("/proc", &e))?;
    let directory = std::env::current_dir().unwrap_or_else(|_| "/".into());
    // SAFETY: the caller has no other thread, so that the child may do anything.
    match unsafe { fork() } {
        Err(error) => Err(failed("another process", &error)),
        Ok(ForkResult::Child) => {
            drop((ready, go, settled));
            let text = inside(tell, mapped, &program, &directory, &ids);
            let _ = fs::File::from(settle).write_all(text.as_bytes());
            // SAFETY: ends the child without running what belongs to the parent.
            unsafe { libc::_exit(6) }
        }
        Ok(ForkResult::Parent { child }) => {
            drop((tell, mapped, settle));
            match map(child, ready, go, &ids).and_then(|()| started(settled)) {
                Ok(()) => Ok(Some(wait(child))),
                Err(missing) => {
                    let _ = kill(child, Signal::SIGKILL);
                    let _ = waitpid(child, None);
                    Err(missing)
                }
            }
        }
    }
}

/// What an ordinary user gets here, for people: one sentence each; none when nothing is less than for root.
pub fn limits() -> Vec<String> {
    let mut limits = isolation::limits();
    if single_user() {
        limits.push(format!(
            "there are no subordinate ids for this user, so that only files of root can be made: {}",
            ids::fix()
        ));
    }
    limits
}

fn may_mount() -> bool {
    const SYS_ADMIN: u64 = 1 << 21;
    isolation::status("CapEff").is_some_and(|bits| bits & SYS_ADMIN != 0)
}

/// Waits until the program runs in its namespace: then the pipe is closed, and nothing was said.
fn started(settled: OwnedFd) -> Result<(), Vec<Missing>> {
    let mut text = String::new();
    match fs::File::from(settled).read_to_string(&mut text) {
        Ok(_) if text.is_empty() => Ok(()),
        Ok(_) => {
            let fix = "let this container mount in a user namespace: no AppArmor profile that forbids it (docker run \
                       --security-opt apparmor=unconfined), a seccomp profile with mount, umount2 and pivot_root";
            Err(vec![Missing { what: "mounts in a user namespace".into(), why: text, fix: fix.into() }])
        }
        Err(error) => {
            Err(vec![Missing { what: "a pipe".into(), why: error.to_string(), fix: "start it as root".into() }])
        }
    }
}

/// Waits until the child is in its namespace, and says who is who there.
fn map(child: Pid, ready: OwnedFd, go: OwnedFd, ids: &Ids) -> Result<(), Vec<Missing>> {
    let mut text = String::new();
    let read = fs::File::from(ready).read_to_string(&mut text);
    if read.is_err() || text != "ready" {
        let why = match text.is_empty() {
            true => "the kernel refuses user namespaces".to_owned(),
            false => format!("the kernel refuses user namespaces: {text}"),
        };
        let fix = allow();
        return Err(vec![Missing { what: "user namespaces".into(), why, fix }]);
    }
    ids.write(child)?;
    let _ = fs::File::from(go).write_all(b"go");
    Ok(())
}

/// How this machine is made to allow user namespaces, as far as it can be seen from here what forbids them.
fn allow() -> String {
    if confined() {
        return "the seccomp profile of this container forbids them to who has no CAP_SYS_ADMIN: use one that allows \
                unshare, mount, umount2, pivot_root and the calls of the new mount API (docker run --security-opt \
                seccomp=FILE or seccomp=unconfined; in a Pod seccompProfile: {type: Unconfined} or {type: Localhost})"
            .into();
    }
    let setting = |name: &str| {
        let text = fs::read_to_string(format!("/proc/sys/{}", name.replace('.', "/"))).unwrap_or_default();
        text.trim().parse::<u64>().ok()
    };
    let wrong: Vec<&str> = [
        ("user.max_user_namespaces", "user.max_user_namespaces=15000", 0),
        ("kernel.unprivileged_userns_clone", "kernel.unprivileged_userns_clone=1", 0),
        ("kernel.apparmor_restrict_unprivileged_userns", "kernel.apparmor_restrict_unprivileged_userns=0", 1),
    ]
    .into_iter()
    .filter(|(name, _, bad)| setting(name) == Some(*bad))
    .map(|(_, fix, _)| fix)
    .collect();
    match wrong.is_empty() {
        true => "allow them (a security module may forbid them), or start it as root".into(),
        false => format!("as root: sysctl {}; or start it as root", wrong.join(" ")),
    }
}

/// In the child: new namespaces, a root without cgroups, and the program again. Returns only why it failed.
fn inside(tell: OwnedFd, mapped: OwnedFd, program: &std::path::Path, directory: &std::path::Path, ids: &Ids) -> String {
    let mut tell = fs::File::from(tell);
    // Behind the next call everybody is called root.
    let who = ids::who();
    if let Err(error) = unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS) {
        let _ = tell.write_all(error.desc().as_bytes());
        // SAFETY: ends the child without running what belongs to the parent; the parent says why.
        unsafe { libc::_exit(6) }
    }
    let _ = tell.write_all(b"ready");
    drop(tell);
    let mut go = String::new();
    if fs::File::from(mapped).read_to_string(&mut go).is_err() || go != "go" {
        // SAFETY: as above.
        unsafe { libc::_exit(6) }
    }
    let zero = (nix::unistd::Uid::from_raw(0), nix::unistd::Gid::from_raw(0));
    if let Err(error) =
        nix::unistd::setresgid(zero.1, zero.1, zero.1).and_then(|()| nix::unistd::setresuid(zero.0, zero.0, zero.0))
    {
        return format!("cannot become root of the user namespace: {error}");
    }
    if let Err(error) = root::change() {
        return format!("cannot make a file tree of its own in the user namespace: {error}");
    }
    let _ = nix::unistd::chdir(directory);
    // With the one that waits nobody would pass signals on.
    // SAFETY: a plain system call.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM, 0, 0, 0) };
    let program = if program.exists() { program.to_owned() } else { PathBuf::from("/proc/self/exe") };
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_else(|| OsString::from("shipway"));
    let error = Command::new(program).arg0(name).args(arguments).env(MARK, ids.word()).env(WHO, who).exec();
    format!("cannot start itself in the user namespace: {error}")
}

static CHILD: std::sync::atomic::AtomicI32 = std::sync::atomic::AtomicI32::new(0);

extern "C" fn pass_on(signal: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // What a process sent has a code of 0 or less, and came to this process alone; what the terminal sends comes from the kernel, and to
    // the child as well.
    // SAFETY: the kernel gives the handler a valid description of the signal; `kill` is allowed in a handler.
    unsafe {
        if info.is_null() || (*info).si_code <= 0 {
            libc::kill(CHILD.load(std::sync::atomic::Ordering::Relaxed), signal);
        }
    };
}

/// Waits for the program inside; signals that are sent to this process alone are passed on, those of the terminal reach both anyway.
fn wait(child: Pid) -> ExitCode {
    CHILD.store(child.as_raw(), std::sync::atomic::Ordering::Relaxed);
    let action = SigAction::new(SigHandler::SigAction(pass_on), SaFlags::SA_SIGINFO, SigSet::empty());
    for signal in [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT] {
        // SAFETY: the handler only calls what is allowed in one.
        let _ = unsafe { sigaction(signal, &action) };
    }
    loop {
        match waitpid(child, Some(WaitPidFlag::empty())) {
            Ok(WaitStatus::Exited(_, code)) => return ExitCode::from(u8::try_from(code).unwrap_or(1)),
            Ok(WaitStatus::Signaled(_, signal, _)) => {
                let status = std::process::ExitStatus::from_raw(signal as i32);
                eprintln!("error: ended by {status}");
                return ExitCode::from(u8::try_from(128 + signal as i32).unwrap_or(1));
            }
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(_) => return ExitCode::from(70),
        }
    }
}
