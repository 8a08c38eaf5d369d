//! The helper process: creates a container or runs a program in one, then stays as its monitor.
//!
//! It is our own binary, re-executed, with one end of a socket as standard input. It reads one [`wire::Request`] with the
//! descriptors that it needs and answers with [`wire::Reply`]s. Single-threaded, so that the runtime may fork, change its
//! directory and join namespaces as it likes. Nothing of it runs in the server.

mod chroot;
mod exec;
mod executor;
mod files;
mod monitor;
mod oci;
pub(crate) mod place;
mod pump;
pub(crate) mod record;
mod run;
mod seccomp;
pub(crate) mod wire;

use std::{ffi::OsString, os::fd::AsFd};

use wire::{Reply, Request};

/// What the hidden subcommand that [`Config::helper`](crate::Config::helper) names must call, before it starts any thread (a
/// tokio runtime included). Does not return.
pub fn helper_main(_arguments: impl IntoIterator<Item = OsString>) -> ! {
    let code = match serve() {
        Ok(()) => 0,
        Err(error) => {
            // Standard error is /dev/null when the server starts us; a person who tries the subcommand by hand sees this.
            use std::io::Write as _;
            let _ = writeln!(std::io::stderr(), "sandbox helper: {error}");
            1
        }
    };
    std::process::exit(code)
}

fn serve() -> std::io::Result<()> {
    // Away from the server's terminal and its signals.
    let _ = nix::unistd::setsid();
    let mut socket = wire::Socket::from_stdin()?;
    let Some((request, descriptors)) = socket.receive_request()? else {
        // The server has ended before it needed us.
        return Ok(());
    };
    let result = match request {
        Request::Run(run) => run::run(&mut socket, *run, descriptors),
        Request::Exec(exec) => exec::exec(&mut socket, exec, descriptors),
    };
    match result {
        Ok(()) => Ok(()),
        // Nobody may listen any more.
        Err(failure) => socket.send(&Reply::Failed(failure), &[] as &[std::os::fd::BorrowedFd<'_>]).or_else(|error| {
            match error.kind() {
                std::io::ErrorKind::BrokenPipe => Ok(()),
                _ => Err(error),
            }
        }),
    }
}

/// A copy of a descriptor that is closed on exec.
fn duplicate(descriptor: impl AsFd) -> std::io::Result<std::os::fd::OwnedFd> {
    descriptor.as_fd().try_clone_to_owned()
}
