//! Runs one more program in a running container.

use std::{
    fs, io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use libcontainer::{container::builder::ContainerBuilder, syscall::syscall::SyscallType};

use super::{
    executor::Program,
    files, monitor, pump,
    record::{self, Record},
    run::{self, Console, RUNTIME_ID, chain, pidfd, pipe, resolve_user, why_not},
    wire::{ExecRequest, Failure, Reply, Socket},
};

pub(super) fn exec(socket: &mut Socket, request: ExecRequest, descriptors: Vec<OwnedFd>) -> Result<(), Failure> {
    let context = |what: &str, error: io::Error| Failure::Other(format!("{what}: {error}"));
    let record = Record::of(&request.directory).map_err(|error| context("reading its record", error))?;
    let Some((record, started)) = record.and_then(|record| record.started.clone().map(|started| (record, started)))
    else {
        return Err(Failure::Invalid("it is not running".into()));
    };
    let environment = format!("/proc/{}/environ", started.pid);
    let environment = fs::read(&environment).map_err(|_| Failure::Invalid("it is not running any more".into()))?;
    if record::start_ticks(started.pid).ok() != Some(started.ticks) {
        return Err(Failure::Invalid("it is not running any more".into()));
    }

    let mut identity = record.identity.clone();
    if let Some(user) = &request.user {
        let root = files::open_root(format!("/proc/{}/root", started.pid).as_ref())
            .map_err(|error| context("opening its root file system", error))?;
        let who = resolve_user(&root, user, &[])?;
        (identity.uid, identity.gid, identity.groups, identity.home) = (who.uid, who.gid, who.groups, who.home);
    }
    let mut env: Vec<(String, String)> = environment
        .split(|b| *b == 0)
        .filter_map(|entry| {
            let text = String::from_utf8_lossy(entry);
            text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()))
        })
        .filter(|(name, _)| !request.env.iter().any(|(given, _)| given == name))
        .filter(|(name, _)| !(name == "HOME" && request.user.is_some()))
        .collect();
    if request.user.is_some() {
        env.push(("HOME".into(), identity.home.clone()));
    }
    if request.terminal && !env.iter().chain(&request.env).any(|(name, _)| name == "TERM") {
        env.push(("TERM".into(), "xterm".into()));
    }
    env.extend(request.env);

    // The runtime leaves sockets and links beside its state for each program that it runs: here they go with this one.
    let own = Scratch::new(&request.directory).map_err(|error| context("making a directory", error))?;
    let console =
        request.terminal.then(|| Console::listen(&own.0)).transpose().map_err(|e| context("opening a terminal", e))?;
    let (failed, failing) = pipe().map_err(|error| context("making a pipe", error))?;
    let program = Program::new(&request.argv, &env, identity, failing, true)?;
    let cwd = request.cwd.unwrap_or_else(|| record.cwd.clone());
    let fail = |error: libcontainer::error::LibcontainerError| Failure::Other(chain(&error));
    let mut builder = ContainerBuilder::new(RUNTIME_ID.into(), SyscallType::default())
        .with_root_path(&own.0)
        .map_err(fail)?
        .with_executor(program);
    match &console {
        Some(console) => builder = builder.with_console_socket(Some(&console.path)),
        None => {
            let mut descriptors = descriptors.into_iter();
            let stdin = if request.stdin { descriptors.next() } else { Some(run::null()?) };
            let (Some(stdin), Some(stdout), Some(stderr)) = (stdin, descriptors.next(), descriptors.next()) else {
                return Err(Failure::Other("a descriptor is missing".into()));
            };
            builder = builder.with_stdin(stdin).with_stdout(stdout).with_stderr(stderr);
        }
    }
    // The runtime takes a terminal only from a whole description of the process.
    let description = own.0.join("process.json");
    let process = process(&request.directory, &cwd, request.terminal)?;
    fs::write(&description, process.to_string()).map_err(|error| context("writing a description", error))?;
    let built = builder.as_tenant().with_detach(true).with_process(Some(&description)).build().map_err(fail);
    let pid = built?.as_raw();
    let process = pidfd(pid).map_err(|error| context("finding its process", error))?;
    let terminal =
        console.map(Console::receive).transpose().map_err(|error| context("receiving its terminal", error))?;
    drop(own);
    if let Err(failure) = why_not(failed) {
        let _ = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None);
        return Err(failure);
    }
    let mut with = vec![process.try_clone().map_err(|error| context("copying a descriptor", error))?];
    with.extend(terminal);
    let _ = socket.send(&Reply::Started { pid, at: pump::now_millis() }, &with);
    drop(with);
    let monitor = monitor::Monitor { socket, process, pid, pump: None, ends_with_server: true };
    let exit = monitor.until_end().map_err(|error| context("waiting for its end", error))?;
    let _ = socket.send(&Reply::Exited(exit), &[] as &[OwnedFd]);
    Ok(())
}

/// A directory for one exec that looks to the runtime like its own, with the state of the container.
struct Scratch(PathBuf);

impl Scratch {
    fn new(container: &Path) -> io::Result<Self> {
        let scratch = Self(container.join(format!("exec-{}", std::process::id())));
        let runtime = scratch.0.join(RUNTIME_ID);
        fs::create_dir_all(&runtime)?;
        fs::hard_link(container.join(RUNTIME_ID).join("state.json"), runtime.join("state.json"))?;
        Ok(scratch)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The container's own process in the bundle, with another directory and terminal.
fn process(directory: &Path, cwd: &str, terminal: bool) -> Result<serde_json::Value, Failure> {
    let path = directory.join("bundle/config.json");
    let text = fs::read(&path).map_err(|error| Failure::Other(format!("reading its configuration: {error}")))?;
    let mut configuration: serde_json::Value =
        serde_json::from_slice(&text).map_err(|error| Failure::Other(format!("reading its configuration: {error}")))?;
    let mut process = configuration["process"].take();
    process["cwd"] = cwd.into();
    process["terminal"] = terminal.into();
    Ok(process)
}
