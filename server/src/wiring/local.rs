//! `shipway run --local`: the steps of the working tree, on this machine, without a server.

use records::Run;

use crate::{
    cli::LocalOptions,
    fault::{Fault, Result},
};

pub async fn run_local(options: &LocalOptions) -> Result<Run> {
    Err(Fault::usage(format!("{} cannot be run locally yet", options.directory.display())))
}
