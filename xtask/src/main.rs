//! Checks and measurements of this repository: `cargo xtask --help`.

mod bench;
mod equal;
mod flow;
mod fuzz;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "xtask", about = "Checks and measurements of this repository")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Fail when a package uses one that docs/architecture.md does not allow it to use
    Flow,
    /// Measure, and print figures with their spread
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Hold what Shipway does against the original tools
    #[command(subcommand)]
    Equal(equal::Equal),
    /// Feed every reader with made-up input for a while; fails when one panics, hangs or eats memory
    Fuzz(fuzz::Options),
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Flow => flow::check(),
        Command::Bench(bench) => bench::run(&bench),
        Command::Equal(equal) => equal::run(&equal),
        Command::Fuzz(options) => fuzz::run(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
