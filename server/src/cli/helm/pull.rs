//! `helm pull`.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use chart::load::{Limits, unpack};
use clap::Args;

use super::{
    fault,
    places::write,
    reference::{Origin, fetch},
};
use crate::fault::{Class, Fault, Result};

// Flags of `helm pull`.
#[derive(Debug, Args)]
pub struct Options {
    /// oci://HOST/PATH/CHART, REPOSITORY/CHART, an URL, or a name with --repo
    #[arg(required = true)]
    charts: Vec<String>,
    #[command(flatten)]
    origin: Origin,
    /// Where the archive goes
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    destination: PathBuf,
    /// Unpack it
    #[arg(long)]
    untar: bool,
    /// Where it is unpacked, below the destination
    #[arg(long, value_name = "DIR", default_value = ".")]
    untardir: PathBuf,
    /// Fetch the provenance file too, without holding the chart against it
    #[arg(long)]
    prov: bool,
}

pub async fn main(options: Options) -> Result<ExitCode> {
    for reference in &options.charts {
        one(reference, &options).await?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn one(reference: &str, options: &Options) -> Result<()> {
    let fetched = fetch(reference, &options.origin, options.origin.verify || options.prov).await?;
    if options.origin.verify {
        super::say(super::verify::report(&fetched.verify(options.origin.keyring.as_deref())?).trim_end());
    }
    if !options.untar {
        let save = |name: &str, content: &[u8]| {
            let path = options.destination.join(name);
            if !options.destination.is_dir() {
                return Err(Fault::not_found(format!("{} is no directory", options.destination.display()))
                    .hint("make it first, or give another --destination"));
            }
            write(&path, content, false)
                .map_err(|e| Fault::new(Class::Unavailable, format!("cannot write {}: {e}", path.display())))
        };
        save(&fetched.name, &fetched.archive)?;
        return match &fetched.provenance {
            Some(provenance) => save(&format!("{}.prov", fetched.name), provenance),
            None => Ok(()),
        };
    }
    // An absolute directory stays what it is.
    expand(&fetched.archive, &options.destination.join(&options.untardir))
}

/// Unpacks a chart into a directory of its name, which must not be there yet.
fn expand(archive: &[u8], into: &Path) -> Result<()> {
    let files = unpack(archive, &Limits::default()).map_err(fault)?;
    let described = files.iter().find(|file| file.name == "Chart.yaml");
    let described = described.ok_or_else(|| Fault::new(Class::Failed, "chart.yaml file not present in the archive"))?;
    let mut metadata = chart::metadata::Metadata::default();
    metadata
        .read(&String::from_utf8_lossy(&described.data))
        .map_err(|why| Fault::new(Class::Failed, format!("cannot load Chart.yaml: {why}")))?;
    let name = metadata.name;
    if name.is_empty() || name.contains(['/', '\\']) || matches!(name.as_str(), "." | "..") {
        return Err(Fault::new(Class::Failed, format!("chart name {name:?} is no name of a directory")));
    }
    let directory = into.join(&name);
    if std::fs::symlink_metadata(&directory).is_ok() {
        return Err(Fault::new(
            Class::Conflict,
            format!("failed to untar: a file or directory with the name {} already exists", directory.display()),
        ));
    }
    for file in files {
        // Names from the archive are clean and relative, and the directory is new: nothing in it leads elsewhere.
        let path = directory.join(&file.name);
        let written = path.parent().map_or(Ok(()), std::fs::create_dir_all);
        written
            .and_then(|()| std::fs::write(&path, &file.data))
            .map_err(|e| Fault::new(Class::Unavailable, format!("cannot write {}: {e}", path.display())))?;
    }
    Ok(())
}
