//! `helm create`.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use chart::{File, load, scaffold};
use clap::Args;

use super::{disk::Disk, fault, places, say, unreadable};
use crate::fault::{Class, Fault, Result};

// Flags of `helm create`.
#[derive(Debug, Args)]
pub struct Options {
    /// The directory to make; its last part is the chart's name
    name: PathBuf,
    /// A chart to start from: a directory, or a name under helm's `starters`
    #[arg(short = 'p', long, value_name = "CHART")]
    starter: Option<PathBuf>,
}

pub fn main(options: &Options) -> Result<ExitCode> {
    let directory = &options.name;
    let name = directory.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    scaffold::check_name(&name).map_err(fault)?;
    if std::fs::symlink_metadata(directory).is_ok() {
        return Err(Fault::new(Class::Conflict, format!("{} is there already", directory.display()))
            .hint("nothing is written over: take it away, or give another name"));
    }
    let parent = directory.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !parent.is_dir() {
        return Err(Fault::not_found(format!("{} is no directory", parent.display())).hint("make it first"));
    }
    let files = match &options.starter {
        Some(starter) => scaffold::of_starter(of(starter)?, &name).map_err(fault)?,
        None => scaffold::files(&name),
    };
    for file in files {
        let path = directory.join(&file.name);
        places::write(&path, &file.data, false)
            .map_err(|e| Fault::new(Class::Unavailable, format!("cannot write {}: {e}", path.display())))?;
    }
    say(format!("Creating {}", directory.display()));
    Ok(ExitCode::SUCCESS)
}

fn of(starter: &Path) -> Result<Vec<File>> {
    let path = if starter.is_dir() { starter.to_owned() } else { places::data().join("starters").join(starter) };
    let cannot = |why: String| Fault::not_found(format!("could not load {}: {why}", path.display()));
    let disk = Disk::new(&path).map_err(|error| cannot(error.to_string()))?;
    let loader = chart::Loader::default();
    let files = load::walk(&disk, &loader.limits).map_err(fault)?;
    if files.iter().any(|file| file.name == "Chart.yaml") {
        return Ok(files);
    }
    Err(unreadable(&path.join("Chart.yaml"), &std::io::ErrorKind::NotFound.into()))
}
