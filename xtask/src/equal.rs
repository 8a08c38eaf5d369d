//! Holds what Shipway does against the original tools, on input that the caller has.

mod helm;
mod kustomize;

use anyhow::Result;
use clap::Subcommand;

#[derive(Subcommand)]
pub enum Equal {
    /// Render charts with both and say where the output differs
    Helm(helm::Options),
    /// Build kustomizations with both and say where the output differs
    Kustomize(kustomize::Options),
}

pub fn run(equal: &Equal) -> Result<()> {
    match equal {
        Equal::Helm(options) => helm::run(options),
        Equal::Kustomize(options) => kustomize::run(options),
    }
}
