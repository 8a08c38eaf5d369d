//! `shipway trace`.

use std::process::ExitCode;

use super::{Client, Connection, output};
use crate::{fault::Result, trace::Trace};

#[derive(Debug, clap::Args)]
pub struct Options {
    /// `pod/NAMESPACE/NAME`, or an image `REPOSITORY@sha256:…`
    #[arg(value_name = "WHAT")]
    pub what: String,
    #[command(flatten)]
    pub connection: Connection,
}

pub async fn main(options: Options) -> Result<ExitCode> {
    let client = Client::connect(&options.connection)?;
    let trace: Trace = client.get(&format!("/api/v1/trace/{}", options.what)).await?;
    if options.connection.json {
        output::json(&trace)?;
    } else {
        print!("{trace}");
    }
    Ok(if trace.held() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
