//! Holds what Shipway does against the original tools, on input that the caller has.

mod helm;

use anyhow::Result;
use clap::Subcommand;

#[derive(Subcommand)]
pub enum Equal {
    /// Render charts with both and say where the output differs
    Helm(helm::Options),
}

pub fn run(equal: &Equal) -> Result<()> {
    match equal {
        Equal::Helm(options) => helm::run(options),
    }
}
