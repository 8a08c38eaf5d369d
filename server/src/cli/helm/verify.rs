//! `helm verify`, and what every `--verify` does.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use chart::provenance::{Keys, Verified};
use clap::Args;

use super::{fault, places::keyring as default_keyring, print, unreadable};
use crate::{
    clock,
    fault::{Fault, Result},
};

// Flags of `helm verify`.
#[derive(Debug, Args)]
pub struct Options {
    /// A packed chart, with its .prov beside it
    chart: PathBuf,
    /// Public keys that the signature is held against [default: ~/.gnupg/pubring.gpg]
    #[arg(long, value_name = "FILE")]
    keyring: Option<PathBuf>,
}

pub fn main(options: &Options) -> Result<ExitCode> {
    print(&report(&verified(&options.chart, options.keyring.as_deref())?))
}

/// The keys of a ring, by default those of GnuPG's first version.
pub fn keys(keyring: Option<&Path>) -> Result<Keys> {
    let path = keyring.map_or_else(default_keyring, Path::to_owned);
    let ring = std::fs::read(&path).map_err(|error| {
        Fault::usage(format!("cannot read the keyring {}: {error}", path.display()))
            .hint("give --keyring FILE; `gpg --export > pubring.gpg` (or --export-secret-keys to sign) makes one")
    })?;
    Keys::read(&ring).map_err(fault)
}

/// Holds a chart's archive on this machine against the `.prov` beside it.
pub fn verified(archive: &Path, keyring: Option<&Path>) -> Result<Verified> {
    let name = archive.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    if archive.is_dir() {
        return Err(Fault::usage("unpacked charts cannot be verified").hint("verify the archive that they came in"));
    }
    let mut provenance = archive.as_os_str().to_owned();
    provenance.push(".prov");
    let provenance = PathBuf::from(provenance);
    let content = std::fs::read(archive).map_err(|error| unreadable(archive, &error))?;
    let statement = std::fs::read(&provenance).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            Fault::not_found(format!("could not load provenance file {}: no such file", provenance.display()))
        }
        _ => unreadable(&provenance, &error),
    })?;
    check(&name, &content, &statement, keyring)
}

/// Holds an archive of that name against a provenance file.
pub fn check(name: &str, archive: &[u8], statement: &[u8], keyring: Option<&Path>) -> Result<Verified> {
    chart::provenance::verify(&keys(keyring)?, name, archive, statement, clock::now().as_second()).map_err(fault)
}

/// Says who signed what.
pub fn report(verified: &Verified) -> String {
    let names: String = verified.signed_by.iter().map(|name| format!("Signed by: {name}\n")).collect();
    format!("{names}Using Key With Fingerprint: {}\nChart Hash Verified: {}\n", verified.fingerprint, verified.hash)
}
