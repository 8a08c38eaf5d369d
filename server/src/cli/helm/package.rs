//! `helm package`.

use std::{
    io::Read,
    path::{Path, PathBuf},
    process::ExitCode,
};

use chart::{Flavor, Warnings, package::package, provenance::sign, version::Version};
use clap::Args;

use super::{
    dependency::{self, update},
    fault, load, say,
    verify::keys,
};
use crate::{
    clock,
    fault::{Class, Fault, Result},
};

// Flags of `helm package`.
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
    /// Fetch what the chart needs first, as `dependency update` does
    #[arg(short = 'u', long)]
    dependency_update: bool,
    /// Sign it: writes a .prov beside the archive
    #[arg(long, requires = "key")]
    sign: bool,
    /// A part of the name on the key to sign with
    #[arg(long, value_name = "NAME")]
    key: Option<String>,
    /// Secret keys
    #[arg(long, value_name = "FILE")]
    keyring: Option<PathBuf>,
    /// A file with the key's passphrase in its first line (`-` for standard input)
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

pub async fn main(options: &Options) -> Result<ExitCode> {
    if let Some(version) = &options.version
        && Version::parse(version).is_none()
    {
        return Err(Fault::usage(format!("{version:?} is no semantic version")));
    }
    let signer = match (&options.key, options.sign) {
        (Some(key), true) => {
            let keys = keys(options.keyring.as_deref())?;
            Some((keys, key.as_str(), passphrase(options.passphrase_file.as_deref())?))
        }
        _ => None,
    };
    for path in &options.charts {
        if options.dependency_update {
            update(&dependency::Options { chart: path.clone(), ..dependency::Options::default() }).await?;
        }
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
        if let Some((keys, key, passphrase)) = &signer {
            let now = clock::now().as_second();
            let signed = sign(keys, key, passphrase, &chart.metadata, &packed.name, &packed.bytes, now);
            let mut beside = file.clone().into_os_string();
            beside.push(".prov");
            std::fs::write(&beside, signed.map_err(fault)?).map_err(|error| {
                Fault::new(Class::Unavailable, format!("cannot write {}: {error}", beside.to_string_lossy()))
            })?;
        }
        // As helm: where it is as it was asked for, or in full where nothing was asked for.
        let shown = match options.destination == Path::new(".") {
            true => file.canonicalize().unwrap_or(file),
            false => file.components().collect(),
        };
        say(format!("Successfully packaged chart and saved it to: {}", shown.display()));
    }
    Ok(ExitCode::SUCCESS)
}

/// The first line of a file; nothing without one.
fn passphrase(path: Option<&Path>) -> Result<Vec<u8>> {
    let Some(path) = path else { return Ok(Vec::new()) };
    let mut text = Vec::new();
    let open: std::io::Result<Box<dyn Read>> = match path.to_str() {
        Some("-") => Ok(Box::new(std::io::stdin())),
        _ => std::fs::File::open(path).map(|file| Box::new(file) as Box<dyn Read>),
    };
    open.and_then(|open| open.take(64 << 10).read_to_end(&mut text))
        .map_err(|error| Fault::usage(format!("cannot read the passphrase from {}: {error}", path.display())))?;
    Ok(text.split(|byte| matches!(byte, b'\n' | b'\r')).next().unwrap_or_default().to_vec())
}
