//! The last steps before the program: what the runtime leaves to us, in the order that keeps each step possible.
//!
//! The runtime hands over a process that is root in its new namespaces, with a few capabilities more than it shall have. It
//! installs no seccomp filter (it is built without libseccomp), and it could only do so after privileges were given up, which
//! would force "no new privileges" on everybody. So we do these steps ourselves: filter, groups, user, capabilities, `execve`.

use std::{
    ffi::CString,
    io,
    os::fd::{AsRawFd, OwnedFd},
    rc::Rc,
};

use libcontainer::{
    oci_spec::runtime::Spec,
    workload::{Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError},
};
use seccompiler::BpfProgram;

use super::{record::Identity, seccomp, wire::Failure};
use crate::Seccomp;

/// In the order of their numbers.
const CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// What our last steps need: SETGID, SETUID, SETPCAP, SYS_ADMIN (for the filter).
const NEEDED: u64 = 1 << 6 | 1 << 7 | 1 << 8 | 1 << 21;

/// Bits of names, with or without `CAP_`; `ALL` for all.
pub(super) fn bits(names: &[String]) -> Result<u64, Failure> {
    names.iter().try_fold(0, |bits, name| {
        let short = name.to_ascii_uppercase();
        let short = short.strip_prefix("CAP_").unwrap_or(&short);
        if short == "ALL" {
            return Ok((1 << CAPABILITIES.len()) - 1);
        }
        match CAPABILITIES.iter().position(|known| *known == short) {
            Some(bit) => Ok(bits | 1 << bit),
            None => Err(Failure::Invalid(format!("`{name}` is not a capability; see capabilities(7) for their names"))),
        }
    })
}

/// Names for the runtime: what the program shall have and what our last steps need, as far as this process has it.
pub(super) fn names_for_runtime(bits: u64) -> io::Result<Vec<String>> {
    let bits = (bits | NEEDED) & own()?;
    Ok((0..CAPABILITIES.len())
        .filter(|bit| bits >> bit & 1 == 1)
        .map(|bit| format!("CAP_{}", CAPABILITIES[bit]))
        .collect())
}

/// The capabilities that this process may hand on.
pub(super) fn own() -> io::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let of = |key: &str| {
        status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix(key)?.trim(), 16).ok()).unwrap_or(0)
    };
    Ok(of("CapPrm:") & of("CapBnd:"))
}

/// A program and how it is to be started.
#[derive(Clone)]
pub(super) struct Program {
    pub argv: Rc<Vec<CString>>,
    pub env: Rc<Vec<CString>>,
    /// Directories that a name without `/` is looked up in.
    pub path: Rc<Vec<String>>,
    pub identity: Rc<Identity>,
    filters: Rc<Vec<BpfProgram>>,
    /// The capabilities that can be handed on at all.
    had: u64,
    /// Whether it lives in a user namespace of one user.
    single_user: bool,
    /// Why it could not be started is written here; closed by a successful `execve`.
    failed: Rc<OwnedFd>,
}

impl Program {
    pub(super) fn new(
        argv: &[String],
        env: &[(String, String)],
        identity: Identity,
        failed: OwnedFd,
        filtered: bool,
    ) -> Result<Self, Failure> {
        let c_string =
            |text: String| CString::new(text).map_err(|_| Failure::Invalid("a NUL byte in the command".into()));
        let path = env.iter().rev().find(|(name, _)| name == "PATH").map_or("", |(_, value)| value);
        let filters = match identity.seccomp {
            // Without the right to, a filter could only be had together with "no new privileges".
            Seccomp::Default if !filtered => Vec::new(),
            Seccomp::Default => seccomp::default_profile().map_err(|error| Failure::Other(error.to_string()))?.into(),
            Seccomp::Unconfined => Vec::new(),
        };
        Ok(Self {
            argv: Rc::new(argv.iter().cloned().map(c_string).collect::<Result<_, _>>()?),
            env: Rc::new(env.iter().map(|(k, v)| c_string(format!("{k}={v}"))).collect::<Result<_, _>>()?),
            path: Rc::new(path.split(':').map(str::to_owned).collect()),
            identity: Rc::new(identity),
            filters: Rc::new(filters),
            failed: Rc::new(failed),
            had: own()?,
            single_user: crate::rootless::single_user(),
        })
    }

    /// Becomes the program, or says why not: `failed`, or what went wrong here.
    pub(super) fn run_or_say(&self, failed: Option<io::Error>) -> ! {
        let failure = match failed {
            Some(error) => Failure::Other(format!("entering its root directory: {error}")),
            None => self.become_it(),
        };
        let text = serde_json::to_vec(&failure).unwrap_or_default();
        // SAFETY: plain system calls; nothing of this half-made process may run on, no destructor included.
        unsafe {
            libc::write(self.failed.as_raw_fd(), text.as_ptr().cast(), text.len());
            libc::_exit(127)
        }
    }

    /// Returns only when it failed.
    fn become_it(&self) -> Failure {
        match self.drop_privileges() {
            Ok(()) => self.execute(),
            Err((what, error)) => Failure::Other(format!("{what}: {error}")),
        }
    }

    fn drop_privileges(&self) -> Result<(), (&'static str, io::Error)> {
        let who = &*self.identity;
        let check = |what: &'static str, result: libc::c_long| match result {
            -1 => Err((what, io::Error::last_os_error())),
            _ => Ok(()),
        };
        // SAFETY, for all below: plain system calls on the only thread of this process, with arguments that outlive them.
        unsafe {
            if who.no_new_privs {
                check("setting no_new_privs", libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0).into())?;
            }
            for filter in &*self.filters {
                seccomp::install(filter).map_err(|error| ("installing the seccomp filter", error))?;
            }
            for bit in 0..64 {
                if who.capabilities >> bit & 1 == 0 {
                    // EINVAL: this kernel has no such capability.
                    let _ = libc::prctl(libc::PR_CAPBSET_DROP, bit, 0, 0, 0);
                }
            }
            // In a namespace of one user there are no other groups, and none can be set.
            if !self.single_user {
                check("setting the groups", libc::setgroups(who.groups.len(), who.groups.as_ptr()).into())?;
            }
            check("setting the group", libc::syscall(libc::SYS_setresgid, who.gid, who.gid, who.gid))?;
            // Leaving root clears all capabilities by itself, with these flags off.
            check("clearing keep-capabilities", libc::prctl(libc::PR_SET_KEEPCAPS, 0, 0, 0, 0).into())?;
            check("setting the user", libc::syscall(libc::SYS_setresuid, who.uid, who.uid, who.uid))?;
            // The root directory may have no `/proc` that would tell them now.
            let kept = if who.uid == 0 { who.capabilities & self.had } else { 0 };
            set_capabilities(kept).map_err(|error| ("setting capabilities", error))?;
            // Without its monitor nobody would reap it, write its log or find it.
            check("tying it to its monitor", libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0).into())?;
            // Signals that the helper, or Rust, ignores must not stay ignored.
            libc::signal(libc::SIGPIPE, libc::SIG_DFL);
            libc::umask(0o022);
        }
        Ok(())
    }

    fn execute(&self) -> Failure {
        let program = self.argv.first().map(|a| a.to_string_lossy().into_owned()).unwrap_or_default();
        let candidates: Vec<String> = if program.contains('/') {
            vec![program.clone()]
        } else {
            let slash = |d: &String| if d.is_empty() { format!("./{program}") } else { format!("{d}/{program}") };
            self.path.iter().map(slash).collect()
        };
        let argv = pointers(&self.argv);
        let env = pointers(&self.env);
        let mut denied = None;
        for candidate in candidates {
            let Ok(path) = CString::new(candidate.clone()) else { continue };
            // SAFETY: both arrays end with a null pointer, and what they point to lives in `self`.
            unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), env.as_ptr()) };
            let error = io::Error::last_os_error();
            match error.raw_os_error() {
                Some(libc::ENOENT | libc::ENOTDIR) => {
                    if std::path::Path::new(&candidate).exists() {
                        let reason =
                            format!("{candidate} is there, but the interpreter or loader that it names is not");
                        return Failure::Program { program, reason, code: 127 };
                    }
                }
                Some(libc::EACCES) => {
                    denied = Some(format!("{candidate} is not executable for user {}", self.identity.uid))
                }
                Some(libc::ENOEXEC) => {
                    let reason =
                        format!("{candidate} is neither a program for this machine nor a script that begins with `#!`");
                    return Failure::Program { program, reason, code: 126 };
                }
                _ => return Failure::Program { program, reason: format!("{candidate}: {error}"), code: 126 },
            }
        }
        match denied {
            Some(reason) => Failure::Program { program, reason, code: 126 },
            None if program.contains('/') => {
                let reason = "there is no such file in the image".into();
                Failure::Program { program, reason, code: 127 }
            }
            None => {
                let reason = format!("it is in none of the directories of PATH ({})", self.path.join(":"));
                Failure::Program { program, reason, code: 127 }
            }
        }
    }
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect()
}

fn set_capabilities(bits: u64) -> io::Result<()> {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    #[repr(C)]
    struct Data {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    const VERSION_3: u32 = 0x2008_0522;
    let header = Header { version: VERSION_3, pid: 0 };
    let half = |bits: u32| Data { effective: bits, permitted: bits, inheritable: 0 };
    let data = [half(bits as u32), half((bits >> 32) as u32)];
    // SAFETY: both structures are laid out as capset(2) says and live until it returns.
    match unsafe { libc::syscall(libc::SYS_capset, &header as *const Header, data.as_ptr()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

impl Executor for Program {
    fn exec(&self, _: &Spec) -> Result<(), ExecutorError> {
        self.run_or_say(None)
    }

    fn validate(&self, _: &Spec) -> Result<(), ExecutorValidationError> {
        Ok(())
    }

    fn setup_envs(&self, _: std::collections::HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        // The environment is given to `execve`.
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_have_their_numbers() {
        assert_eq!(
            bits(&["CHOWN".into(), "CAP_SYS_ADMIN".into(), "checkpoint_restore".into()]).unwrap(),
            1 | 1 << 21 | 1 << 40
        );
        assert_eq!(bits(&["ALL".into()]).unwrap().count_ones(), 41);
        assert!(matches!(bits(&["NONSENSE".into()]), Err(Failure::Invalid(text)) if text.contains("NONSENSE")));
    }
}
