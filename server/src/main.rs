//! `shipway`: the binary. Only this crate sees all rooms, and only this crate makes exit codes, statuses and hints.

mod app;
mod cli;
mod clock;
mod config;
mod demo;
mod fault;
mod http;
mod logs;
mod secrets;
mod serve;
mod shipment;
mod supervisor;
mod token;
mod trace;
mod ui;
mod wake;
mod wiring;

fn main() -> std::process::ExitCode {
    few_arenas();
    cli::main()
}

/// glibc gives each thread that allocates an arena of its own, up to eight for a processor, and keeps what was once used in each: a
/// third of the memory after a journey. One for a processor loses no speed here.
fn few_arenas() {
    #[cfg(target_env = "gnu")]
    {
        let processors = std::thread::available_parallelism().map_or(2, |n| n.get().max(2));
        // SAFETY: it sets a number, before there is a second thread.
        unsafe { nix::libc::mallopt(nix::libc::M_ARENA_MAX, i32::try_from(processors).unwrap_or(i32::MAX)) };
    }
}
