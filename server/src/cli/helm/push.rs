//! `helm push`.

use std::{path::PathBuf, process::ExitCode};

use chart::{Flavor, Warnings};
use clap::Args;

use super::{access::Access, load, places::Places, registry::Registry, unreadable};
use crate::fault::{Fault, Result};

// Flags of `helm push`.
#[derive(Debug, Args)]
pub struct Options {
    /// A packed chart; its .prov beside it goes with it
    chart: PathBuf,
    /// oci://HOST/PATH
    remote: String,
    #[command(flatten)]
    access: Access,
    #[command(flatten)]
    places: Places,
}

pub async fn main(options: Options) -> Result<ExitCode> {
    let path = &options.chart;
    if !options.remote.starts_with("oci://") {
        return Err(
            Fault::usage(format!("cannot push to {}", options.remote)).hint("charts are pushed to oci://HOST/PATH")
        );
    }
    if path.is_dir() {
        return Err(Fault::usage("cannot push directory, must provide chart archive (.tgz)")
            .hint(format!("run `shipway helm package {}` first", path.display())));
    }
    let chart = load(path, Flavor::Helm4, &Warnings::default())?;
    let archive = std::fs::read(path).map_err(|e| unreadable(path, &e))?;
    let mut provenance = path.clone().into_os_string();
    provenance.push(".prov");
    let provenance = match std::fs::read(&provenance) {
        Ok(content) => Some(content.into()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(unreadable(provenance.as_ref(), &error)),
    };
    let written = std::fs::metadata(path).and_then(|data| data.modified()).map_err(|e| unreadable(path, &e))?;
    let created = jiff::Timestamp::try_from(written).map(|time| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
    let created = created.unwrap_or_default();
    let registry = Registry::new(&options.remote, &options.access, &options.places)?;
    let pushed = registry.push(&chart, archive.into(), provenance, &created).await?;
    super::say(format!("Pushed: {}\nDigest: {}", pushed.reference, pushed.digest));
    Ok(ExitCode::SUCCESS)
}
