//! `helm package`.

use std::{path::PathBuf, process::ExitCode};

use chart::{Flavor, Warnings, package::package, version::Version};
use clap::Args;

use super::{fault, load};
use crate::fault::{Class, Fault, Result};

/// Flags of `helm package`.
#[derive(Debug, Args)]
pub struct Options {
    /// Directories of charts
    #[arg(required = true)]
    charts: Vec<PathBuf>,
    /// Where the archives go
    #[arg(short, long, default_value = ".")]
    destination: PathBuf,
    /// Write this version into the chart
    #[arg(long)]
    version: Option<String>,
    /// Write this version of the application into the chart
    #[arg(long)]
    app_version: Option<String>,
}

pub fn main(options: &Options) -> Result<ExitCode> {
    if let Some(version) = &options.version
        && Version::parse(version).is_none()
    {
        return Err(Fault::usage(format!("{version:?} is no semantic version")));
    }
    for path in &options.charts {
        let mut chart = load(path, Flavor::Helm4, &Warnings::default())?;
        if let Some(version) = &options.version {
            chart.metadata.version.clone_from(version);
        }
        if let Some(version) = &options.app_version {
            chart.metadata.app_version.clone_from(version);
        }
        chart.check_dependencies(Flavor::Helm4).map_err(fault)?;
        let packed = package(&chart, 0).map_err(fault)?;
        let file = options.destination.join(&packed.name);
        std::fs::create_dir_all(&options.destination)
            .and_then(|()| std::fs::write(&file, &packed.bytes))
            .map_err(|error| Fault::new(Class::Unavailable, format!("cannot write {}: {error}", file.display())))?;
        let shown = file.canonicalize().unwrap_or(file);
        println!("Successfully packaged chart and saved it to: {}", shown.display());
    }
    Ok(ExitCode::SUCCESS)
}
