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
    cli::main()
}
