//! `shipway demo`: the whole journey on this machine, every point of it checked, nothing left behind.
//!
//! It drives a server of its own from outside, through the interfaces that people use: git, HTTP, the registry and the
//! Kubernetes API.

mod cluster;
mod journey;
mod load;
mod progress;
mod report;
mod rogue;
mod server;
mod workspace;

use std::{path::PathBuf, process::ExitCode};

use crate::fault::{Class, Fault, Result};

// What a demo can be told.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Leave the server up at the end, until Ctrl-C
    #[arg(long)]
    pub keep: bool,

    /// Print one JSON object with every figure
    #[arg(long)]
    pub json: bool,

    /// Where the server keeps its data, which must be new [default: a temporary directory]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,

    /// Address of the server; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    pub listen: std::net::SocketAddr,

    /// Debian mirror from which base images are assembled
    #[arg(long, value_name = "URL", default_value = "http://deb.debian.org/debian", env = "SHIPWAY_DEBIAN_MIRROR")]
    pub mirror: String,

    /// Directory in which downloaded packages stay for the next demo [default: none stay]
    #[arg(long, value_name = "DIR", env = "SHIPWAY_PACKAGE_CACHE")]
    pub package_cache: Option<PathBuf>,

    /// Requests a second of the load that it drives
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub rate: u32,
}

pub async fn main(options: Options) -> Result<ExitCode> {
    crate::cli::trace_to_stderr("off");
    let missing = crate::wiring::missing();
    if !missing.is_empty() {
        return Err(Fault::new(
            Class::Unavailable,
            format!("this machine cannot run containers: {}", missing.join("; ")),
        ));
    }
    let progress = progress::Progress::new(options.json);
    let report = tokio::select! {
        report = journey::travel(&options, &progress) => report?,
        _ = tokio::signal::ctrl_c() => {
            progress.note("interrupted; cleaning up");
            return Err(Fault::new(Class::Failed, "interrupted"));
        }
    };
    progress.end();
    if options.json {
        let text = serde_json::to_string_pretty(&report).map_err(|e| Fault::from_error(Class::Internal, &e))?;
        println!("{text}");
    } else {
        print!("{report}");
    }
    Ok(if report.held() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
