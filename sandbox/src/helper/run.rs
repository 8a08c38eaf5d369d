//! Creates and starts a container, then monitors it.

use std::{
    fs::{self, File},
    io::{self, Read},
    os::fd::{AsFd, FromRawFd, OwnedFd},
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
};

use libcontainer::{
    container::{Container, builder::ContainerBuilder},
    syscall::syscall::SyscallType,
};

use super::{
    chroot,
    executor::{self, Program},
    files, monitor, oci, pump,
    record::{self, Identity, Record, Started},
    wire::{Failure, Reply, Run, Sink, Socket},
};
use crate::{
    cgroup::Hierarchies,
    network::{links, netlink::Netlink},
    user,
};

/// The runtime keeps its own state of the container under this name in the container's directory.
pub(super) const RUNTIME_ID: &str = "runtime";

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Returns when the container has ended and its end is recorded.
pub(super) fn run(socket: &mut Socket, mut run: Run, descriptors: Vec<OwnedFd>) -> Result<(), Failure> {
    let context = |what: &str, error: io::Error| Failure::Other(format!("{what}: {error}"));
    let _lock = record::lock(&run.directory)
        .map_err(|error| context("locking its directory", error))?
        .ok_or_else(|| Failure::Invalid("it runs already".into()))?;
    let hierarchies = Hierarchies::find().map_err(|error| context("reading the cgroup hierarchies", error))?;
    let root = files::open_root(&run.rootfs).map_err(|error| {
        Failure::Invalid(format!("the root file system {} cannot be opened: {error}", run.rootfs.display()))
    })?;
    let who = resolve_user(&root, &run.user, &run.groups)?;
    let mut capabilities = executor::bits(&run.capabilities)?;
    if run.chroot {
        chroot::refuse(&run)?;
        capabilities &= !chroot::KEPT_BACK;
    }
    complete_environment(&mut run, &who.home);
    let mut record = Record {
        id: run.id.clone(),
        rootfs: run.rootfs.clone(),
        netns: run.netns.clone(),
        cgroup: run.cgroup.clone(),
        identity: Identity {
            uid: who.uid,
            gid: who.gid,
            groups: who.groups,
            home: who.home,
            capabilities,
            no_new_privs: run.no_new_privs,
            seccomp: run.seccomp,
        },
        cwd: run.cwd.clone(),
        lifetime: run.lifetime,
        labels: run.labels.clone(),
        monitor: std::process::id() as i32,
        stubs: stubs(&root, &run),
        started: None,
    };
    record.save(&run.directory).map_err(|error| context("writing its record", error))?;
    files::make_directory(&root, &run.cwd)
        .map_err(|error| Failure::Invalid(format!("the working directory {} cannot be made: {error}", run.cwd)))?;
    let bundle = run.directory.join("bundle");
    if !run.chroot {
        let configuration = oci::configuration(&run, capabilities, &hierarchies)
            .map_err(|error| context("writing its configuration", error))?;
        fs::create_dir(&bundle)
            .and_then(|()| fs::write(bundle.join("config.json"), configuration.to_string()))
            .map_err(|error| context("writing its configuration", error))?;
    }

    let mut streams = Streams::open(&run, descriptors).map_err(|error| context("opening its streams", error))?;
    let console = run
        .terminal
        .then(|| Console::listen(&run.directory))
        .transpose()
        .map_err(|e| context("opening its terminal", e))?;
    let (failed, failing) = pipe().map_err(|error| context("making a pipe", error))?;
    let program = Program::new(&run.argv, &run.env, record.identity.clone(), failing, !run.chroot)?;
    if run.chroot {
        return rooted(socket, &run, record, &root, program, streams, failed);
    }
    // From here on these are in the hands of the program and the kernel.
    let (argv, env) = (std::mem::take(&mut run.argv), std::mem::take(&mut run.env));
    drop((argv, env));

    let created = create(&run.directory, &bundle, program, &mut streams, console.as_ref());
    let mut container = match created {
        Ok(container) => container,
        Err(failure) => {
            undo(&hierarchies, &record, &root);
            return Err(failure);
        }
    };
    let pid = container.pid().map_or(0, |pid| pid.as_raw());
    let started = (|| {
        let process = pidfd(pid).map_err(|error| context("finding its process", error))?;
        let terminal =
            console.map(Console::receive).transpose().map_err(|error| context("receiving its terminal", error))?;
        if run.netns.is_none() && !run.host_network {
            loopback(pid).map_err(|error| context("bringing its loopback up", error))?;
        }
        container.start().map_err(|error| Failure::Other(chain(&error)))?;
        why_not(failed)?;
        Ok((process, terminal))
    })();
    let (process, terminal) = match started {
        Ok(started) => started,
        Err(failure) => {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
            let _ = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None);
            undo(&hierarchies, &record, &root);
            return Err(failure);
        }
    };
    let at = pump::now_millis();
    let ticks = record::start_ticks(pid).unwrap_or(0);
    record.started = Some(Started { pid, ticks, at });
    record.save(&run.directory).map_err(|error| context("writing its record", error))?;

    let mut with: Vec<OwnedFd> = vec![process.try_clone().map_err(|e| context("copying a descriptor", e))?];
    match (terminal, &mut streams.pump) {
        (Some(terminal), Some(pump)) => pump.add(terminal, false),
        (Some(terminal), None) => with.push(terminal),
        (None, _) => {}
    }
    // A server that has gone is found out by the monitor.
    let _ = socket.send(&Reply::Started { pid, at }, &with);
    drop(with);
    let monitor = monitor::Monitor {
        socket,
        process,
        pid,
        pump: streams.pump,
        ends_with_server: run.lifetime == crate::Lifetime::Server,
    };
    let mut exit = monitor.until_end().map_err(|error| context("waiting for its end", error))?;
    exit.out_of_memory = hierarchies.out_of_memory(&record.cgroup);
    undo(&hierarchies, &record, &root);
    let written = record::write(&run.directory.join("exit.json"), &exit);
    // Who waits is told also when there was no room to write it down: on a full disk, how a command ended must not be lost.
    let _ = socket.send(&Reply::Exited(exit), &[] as &[OwnedFd]);
    written.map_err(|error| context("writing its end", error))
}

/// The same for a program that gets a root directory only.
fn rooted(
    socket: &mut Socket,
    run: &Run,
    mut record: Record,
    root: &OwnedFd,
    program: Program,
    mut streams: Streams,
    failed: OwnedFd,
) -> Result<(), Failure> {
    let context = |what: &str, error: io::Error| Failure::Other(format!("{what}: {error}"));
    let placed = match chroot::place(run, root) {
        Ok(placed) => placed,
        Err(failure) => {
            files::remove_stubs(root, &record.stubs);
            return Err(failure);
        }
    };
    let ran = (|| {
        let given = std::mem::take(&mut streams.given);
        let pid = chroot::start(run, root, &program, given).map_err(|error| context("starting it", error))?;
        // The pipe is closed with the last end of it that can be written to.
        drop(program);
        let process = pidfd(pid).map_err(|error| context("finding its process", error))?;
        if let Err(failure) = why_not(failed) {
            let _ = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None);
            return Err(failure);
        }
        let at = pump::now_millis();
        record.started = Some(Started { pid, ticks: record::start_ticks(pid).unwrap_or(0), at });
        record.save(&run.directory).map_err(|error| context("writing its record", error))?;
        let with = [process.try_clone().map_err(|error| context("copying a descriptor", error))?];
        // A server that has gone is found out by the monitor.
        let _ = socket.send(&Reply::Started { pid, at }, &with);
        drop(with);
        let ends_with_server = run.lifetime == crate::Lifetime::Server;
        let monitor = monitor::Monitor { socket, process, pid, pump: streams.pump.take(), ends_with_server };
        monitor.until_end().map_err(|error| context("waiting for its end", error))
    })();
    chroot::end_all();
    let undone = placed.undo();
    files::remove_stubs(root, &record.stubs);
    let exit = ran?;
    undone.map_err(|error| context("putting its mounts back", error))?;
    let written = record::write(&run.directory.join("exit.json"), &exit);
    let _ = socket.send(&Reply::Exited(exit), &[] as &[OwnedFd]);
    written.map_err(|error| context("writing its end", error))
}

/// Brings the loopback of a container up that has a network of its own; a new one is down.
fn loopback(pid: i32) -> io::Result<()> {
    let namespace = File::open(format!("/proc/{pid}/ns/net"))?;
    // A thread of its own enters the namespace and ends there.
    let thread = std::thread::spawn(move || {
        nix::sched::setns(&namespace, nix::sched::CloneFlags::CLONE_NEWNET)?;
        links::set_up(&mut Netlink::route()?, links::index("lo")?)
    });
    thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread panicked")))
}

/// Removes what a container leaves besides its directory. What fails here is found by the sweep of the next start.
fn undo(hierarchies: &Hierarchies, record: &Record, root: &OwnedFd) {
    let _ = hierarchies.remove(&record.cgroup);
    files::remove_stubs(root, &record.stubs);
}

pub(super) fn resolve_user(root: &OwnedFd, user: &str, groups: &[u32]) -> Result<user::User, Failure> {
    let text =
        |path| files::read_text(root, path).map_err(|error| Failure::Invalid(format!("the image's {path}: {error}")));
    user::resolve(user, groups, &text("/etc/passwd")?, &text("/etc/group")?).map_err(Failure::Invalid)
}

fn complete_environment(run: &mut Run, home: &str) {
    let defaults = [("PATH", PATH), ("HOME", home), ("HOSTNAME", run.hostname.as_str()), ("TERM", "xterm")];
    let missing: Vec<(String, String)> = defaults
        .into_iter()
        .filter(|(name, _)| *name != "TERM" || run.terminal)
        .filter(|(name, _)| !run.env.iter().any(|(have, _)| have == name))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    run.env.splice(0..0, missing);
}

fn stubs(root: &OwnedFd, run: &Run) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = Vec::new();
    for target in oci::TARGETS.iter().copied().chain(run.mounts.iter().map(|m| m.target.as_str())) {
        // What lies in a mount is not in the root file system.
        for path in files::missing(root, target) {
            if !found.contains(&path) {
                found.push(path);
            }
        }
    }
    found
}

fn create(
    directory: &Path,
    bundle: &Path,
    program: Program,
    streams: &mut Streams,
    console: Option<&Console>,
) -> Result<Container, Failure> {
    let fail = |error: libcontainer::error::LibcontainerError| Failure::Other(chain(&error));
    let mut builder = ContainerBuilder::new(RUNTIME_ID.into(), SyscallType::default())
        .with_root_path(directory)
        .map_err(fail)?
        .with_executor(program);
    match console {
        Some(console) => builder = builder.with_console_socket(Some(&console.path)),
        None => {
            let mut given = std::mem::take(&mut streams.given).into_iter();
            if let (Some(stdin), Some(stdout), Some(stderr)) = (given.next(), given.next(), given.next()) {
                builder = builder.with_stdin(stdin).with_stdout(stdout).with_stderr(stderr);
            }
        }
    }
    builder.as_init(bundle).with_systemd(false).with_detach(true).build().map_err(fail)
}

/// The program has started when the pipe is closed by `execve`; else it says why not.
pub(super) fn why_not(failed: OwnedFd) -> Result<(), Failure> {
    let mut text = Vec::new();
    File::from(failed).take(1 << 20).read_to_end(&mut text)?;
    if text.is_empty() {
        return Ok(());
    }
    Err(serde_json::from_slice(&text).unwrap_or_else(|_| Failure::Other(String::from_utf8_lossy(&text).into_owned())))
}

/// An error with its causes, each once.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut at = error.source();
    while let Some(cause) = at {
        let said = cause.to_string();
        if !text.contains(&said) {
            text += &format!(": {said}");
        }
        at = cause.source();
    }
    text
}

pub(super) fn pidfd(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: a plain system call.
    match unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) } {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: the kernel has just given it to us; it is closed on exec by itself.
        fd => Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) }),
    }
}

pub(super) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?)
}

pub(super) fn null() -> io::Result<OwnedFd> {
    Ok(File::options().read(true).write(true).open("/dev/null")?.into())
}

/// Standard input, output and error of the container, and what is read from them here.
struct Streams {
    given: Vec<OwnedFd>,
    pump: Option<pump::Pump>,
}

impl Streams {
    fn open(run: &Run, descriptors: Vec<OwnedFd>) -> io::Result<Self> {
        let mut descriptors = descriptors.into_iter();
        let mut next = || descriptors.next().ok_or_else(|| io::Error::other("a descriptor is missing"));
        let mut pump = None;
        let stdin = if run.stdin { next()? } else { null()? };
        let mut out = |sink: &Sink, stderr: bool| match sink {
            Sink::Null => null(),
            Sink::Descriptor => next(),
            Sink::Log(log) => {
                let pump = match &mut pump {
                    Some(pump) => pump,
                    none => none.insert(pump::Pump::open(log.clone())?),
                };
                if run.terminal {
                    return null();
                }
                let (reader, writer) = pipe()?;
                pump.add(reader, stderr);
                Ok(writer)
            }
        };
        let given = vec![stdin, out(&run.stdout, false)?, out(&run.stderr, true)?];
        Ok(Self { given, pump })
    }
}

/// Where the runtime sends the terminal that it makes inside the container.
pub(super) struct Console {
    pub path: PathBuf,
    listener: UnixListener,
}

impl Console {
    pub(super) fn listen(directory: &Path) -> io::Result<Self> {
        let name = format!("console-{}", std::process::id());
        // The path of a socket has at most 107 bytes, so it is named from inside its directory.
        nix::unistd::chdir(directory)?;
        let listener = UnixListener::bind(&name);
        nix::unistd::chdir("/")?;
        Ok(Self { path: directory.join(name), listener: listener? })
    }

    pub(super) fn receive(self) -> io::Result<OwnedFd> {
        let (socket, _) = self.listener.accept()?;
        let mut bytes = [0; 64];
        let (_, mut descriptors) = super::wire::receive_some(socket.as_fd(), &mut bytes)?;
        let _ = fs::remove_file(&self.path);
        descriptors.pop().ok_or_else(|| io::Error::other("the runtime sent no terminal"))
    }
}
