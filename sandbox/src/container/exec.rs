//! A program run in a running container.

use std::os::fd::OwnedFd;

use tokio::sync::watch;
use tokio_util::sync::DropGuard;

use super::{Container, Exit, guard, send_signal, start::started, streams};
use crate::{
    Error, ExecSpec, Input, Output, Result, Terminal,
    helper::wire::{ExecRequest, Reply, Request},
    spec,
};

/// A running program. Dropped, it is killed.
pub struct Exec {
    pid: i32,
    process: Option<OwnedFd>,
    streams: streams::Streams,
    exit: watch::Receiver<Option<Exit>>,
    _dropped: DropGuard,
}

impl std::fmt::Debug for Exec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exec").field("pid", &self.pid).field("exit", &*self.exit.borrow()).finish()
    }
}

impl Exec {
    /// As the host sees it.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    pub fn take_stdin(&mut self) -> Option<Input> {
        self.streams.stdin.take()
    }

    pub fn take_stdout(&mut self) -> Option<Output> {
        self.streams.stdout.take()
    }

    pub fn take_stderr(&mut self) -> Option<Output> {
        self.streams.stderr.take()
    }

    pub fn take_terminal(&mut self) -> Option<Terminal> {
        self.streams.terminal.take()
    }

    /// Waits for its end; may be called again.
    pub async fn wait(&self) -> Exit {
        let mut exit = self.exit.clone();
        match exit.wait_for(Option::is_some).await {
            Ok(exit) => exit.unwrap_or(Exit::LOST),
            Err(_) => Exit::LOST,
        }
    }

    /// Fine when it has ended.
    pub fn signal(&self, signal: i32) -> Result<()> {
        match &self.process {
            Some(process) if self.exit.borrow().is_none() => send_signal(process, signal).map_err(|error| {
                Error::Runtime { id: self.pid.to_string(), what: "signalled", reason: error.to_string() }
            }),
            _ => Ok(()),
        }
    }
}

pub(super) async fn exec(container: &Container, spec: ExecSpec) -> Result<Exec> {
    let id = container.id();
    if spec.argv.first().is_none_or(|program| program.is_empty()) {
        return Err(Error::Invalid(format!("exec in container `{id}`: the command is empty; give a program to start")));
    }
    spec::check_strings(&spec.argv, &spec.env)
        .map_err(|text| Error::Invalid(format!("exec in container `{id}`: {text}")))?;
    if spec.cwd.as_ref().is_some_and(|cwd| !cwd.starts_with('/')) {
        return Err(Error::Invalid(format!("exec in container `{id}`: the working directory is not absolute")));
    }
    if container.exit().is_some() {
        return Err(Error::Invalid(format!("container `{id}` has ended; nothing can be run in it")));
    }
    let failed = |error: std::io::Error| Error::Runtime { id: id.into(), what: "entered", reason: error.to_string() };
    let mut own = streams::Streams::default();
    let mut descriptors = Vec::new();
    if !spec.terminal {
        if spec.stdin {
            let (stdin, theirs) = streams::input().map_err(failed)?;
            own.stdin = Some(stdin);
            descriptors.push(theirs);
        }
        let (stdout, theirs) = streams::output().map_err(failed)?;
        descriptors.push(theirs);
        let (stderr, theirs) = streams::output().map_err(failed)?;
        descriptors.push(theirs);
        (own.stdout, own.stderr) = (Some(stdout), Some(stderr));
    }
    let shared = &container.0.shared;
    let mut channel = shared.helpers.take()?;
    let request = ExecRequest {
        directory: container.0.directory.clone(),
        argv: spec.argv,
        env: spec.env,
        cwd: spec.cwd,
        user: spec.user,
        stdin: spec.stdin,
        terminal: spec.terminal,
    };
    let sent = channel.send(&Request::Exec(request), &descriptors).await;
    drop(descriptors);
    let again = shared.clone();
    tokio::task::spawn(async move { again.helpers.refill() });
    sent.map_err(failed)?;
    let (pid, _, mut given) = started(&mut channel, id, "entered").await?;
    if spec.terminal
        && let Some(terminal) = given.pop()
    {
        own.terminal = Some(streams::Terminal::new(terminal).map_err(failed)?);
    }
    let (sender, exit) = watch::channel(None);
    let (dropped, guard) = guard();
    tokio::spawn(async move {
        tokio::select! {
            () = dropped.cancelled() => {}
            () = async {
                let exit = loop {
                    match channel.receive().await {
                        Ok(Some((Reply::Exited(exit), _))) => break exit,
                        Ok(Some(_)) => {}
                        Ok(None) | Err(_) => break Exit::LOST,
                    }
                };
                let _ = sender.send(Some(exit));
            } => {}
        }
        channel.finish().await;
    });
    Ok(Exec { pid, process: given.pop(), streams: own, exit, _dropped: guard })
}
