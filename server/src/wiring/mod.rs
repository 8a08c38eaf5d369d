//! The only place that sees every room: implements the traits that stages need, and starts the stages.

mod admission;
mod bases;
mod builder;
mod cluster;
pub mod evidence;
mod executor;
mod housekeeping;
mod images;
mod layers;
mod local;
mod manifests;
mod node;
mod observe;
pub mod recipes;
mod registry;
mod release;
mod rollout;
mod rooms;
mod run;
mod stages;
mod tree;
mod workshop;
mod worktree;

use std::{path::Path, process::ExitCode};

pub use builder::{
    Among, Built, Happening, Home, Isolation, Part, Place, Progress, Recorder, Request, Store, at, attest, build,
    build_all, cache,
    describe::tag,
    load,
    names::{repository, to_give},
    output::{self, Below, Output, OutputKind, Packing, Saved, archive, push, to_file},
    packs::{Packs, Volume, default_builder, rebase},
    recompress,
};
pub use local::{run_local, signal_of};
pub use registry::{cleaning, serve as serve_registry};
pub use release::{approve, undo};
pub use rooms::Rooms;
pub use run::board::Sink;
pub use stages::{KINDS, start};

use crate::fault::{Class, Fault, Result};

/// The hidden subcommand that sets up a container. Runs before there is any thread.
pub fn sandbox_helper(arguments: Vec<std::ffi::OsString>) -> ExitCode {
    sandbox::helper_main(arguments)
}

/// The directory of a data directory that containers live in, and the name under which they are known on this machine.
fn sandbox_root(data: &Path) -> std::path::PathBuf {
    // The layers of a real tree mark what is deleted in their own way, where no device node may stand for it.
    data.join(if sandbox::chrooted() { "sandbox-chroot" } else { "sandbox" })
}

const INSTANCE: &str = "shipway";

/// What this machine lacks to run containers, one sentence each.
pub fn missing() -> Vec<String> {
    let sentence = |missing: sandbox::Missing| format!("{}: {}; {}", missing.what, missing.why, missing.fix);
    sandbox::check(Path::new("/var/tmp"), true).into_iter().map(sentence).collect()
}

/// What to say when an ordinary user cannot run containers here: a line for each thing that is missing, with the fix.
pub fn cannot_run(missing: Vec<sandbox::Missing>) -> Fault {
    let lines: String =
        missing.iter().map(|missing| format!("\n  {}: {}; {}", missing.what, missing.why, missing.fix)).collect();
    Fault::new(Class::Unavailable, format!("this machine cannot run containers for this user:{lines}"))
}

/// `shipway check`
pub fn check() -> Result<ExitCode> {
    let missing = missing();
    if missing.is_empty() {
        println!("this machine can run containers");
        return Ok(ExitCode::SUCCESS);
    }
    missing.iter().for_each(|sentence| println!("{sentence}"));
    Err(Fault::new(Class::Unavailable, "this machine cannot run containers"))
}

/// What a server with this data directory has left on this machine.
pub fn leftovers(data: &Path) -> Vec<String> {
    sandbox::leftovers(&sandbox_root(data), INSTANCE)
}
