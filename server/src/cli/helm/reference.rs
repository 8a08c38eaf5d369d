//! From what a person names (a path, `oci://…`, an URL, `NAME/CHART`, a name in `--repo`) to a chart.

use std::path::{Path, PathBuf};

use chart::{Chart, Flavor, Loader, Warnings, repository::absolute};
use clap::Args;

use super::{
    access::{Access, LARGEST_CHART, shown_text},
    dependency, fault, load, load_to_render,
    places::Places,
    registry::Registry,
    repositories::{Repositories, Repository},
    verify::verified,
};
use crate::fault::{Class, Fault, Result};

// The flags that say where a chart is found, and whether its signature must hold.
#[derive(Debug, Clone, Default, Args)]
pub struct Origin {
    /// Version of the chart, or a range of versions [default: the newest release]
    #[arg(long, value_name = "RANGE")]
    pub version: Option<String>,
    /// The repository that has the chart
    #[arg(long, value_name = "URL")]
    pub repo: Option<String>,
    /// Versions before a release too
    #[arg(long)]
    pub devel: bool,
    /// Refuse the chart unless its signature holds
    #[arg(long)]
    pub verify: bool,
    /// Public keys that signatures are held against
    #[arg(long, value_name = "FILE")]
    pub keyring: Option<PathBuf>,
    #[command(flatten)]
    pub access: Access,
    #[command(flatten)]
    pub places: Places,
}

/// A packed chart from a repository or registry.
pub struct Fetched {
    /// `NAME-VERSION.tgz`
    pub name: String,
    pub archive: Vec<u8>,
    /// Its provenance file, if it was wanted.
    pub provenance: Option<Vec<u8>>,
}

/// The chart that a reference names, loaded.
pub async fn chart(reference: &str, origin: &Origin, flavor: Flavor, warnings: &Warnings) -> Result<Chart> {
    found(reference, origin, flavor, warnings, load).await
}

/// Loads a chart that lies on this machine.
type Load = fn(&Path, Flavor, &Warnings) -> Result<Chart>;

async fn found(reference: &str, origin: &Origin, flavor: Flavor, warnings: &Warnings, load: Load) -> Result<Chart> {
    let reference = reference.trim();
    if let Some(path) = local(reference, origin)? {
        if origin.verify {
            verified(&path, origin.keyring.as_deref())?;
        }
        return load(&path, flavor, warnings);
    }
    let fetched = fetch(reference, origin, origin.verify).await?;
    if origin.verify {
        fetched.verify(origin.keyring.as_deref())?;
    }
    let loader = Loader { flavor, ..Loader::default() };
    loader.archive(&fetched.archive, warnings).map_err(fault)
}

/// What becomes of a chart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// It is rendered, and forgotten.
    Shown,
    /// All of it is stored with a release.
    Stored,
}

/// The chart that is to be rendered: an application, with all that it depends on. What is missing is fetched into its directory, if
/// `update` asks for that.
pub async fn application(
    reference: &str,
    origin: &Origin,
    update: bool,
    flavor: Flavor,
    warnings: &Warnings,
    becomes: Use,
) -> Result<Chart> {
    let load: Load = match becomes {
        Use::Shown => load_to_render,
        Use::Stored => load,
    };
    let whole = |loaded: &Chart| loaded.installable().and_then(|()| loaded.check_dependencies(flavor)).map_err(fault);
    let loaded = found(reference, origin, flavor, warnings, load).await?;
    match (whole(&loaded), local(reference.trim(), origin)?) {
        (Err(_), Some(path)) if update && path.is_dir() => {
            dependency::update(&dependency::Options {
                chart: path,
                skip_refresh: false,
                verify: origin.verify,
                keyring: origin.keyring.clone(),
                access: origin.access.clone(),
                places: origin.places.clone(),
            })
            .await?;
            let loaded = found(reference, origin, flavor, warnings, load).await?;
            whole(&loaded).map(|()| loaded)
        }
        (whole, _) => whole.map(|()| loaded),
    }
}

/// The path on this machine that a reference names, if it names one.
fn local(reference: &str, origin: &Origin) -> Result<Option<PathBuf>> {
    if origin.repo.is_some() {
        return Ok(None);
    }
    let path = Path::new(reference);
    if path.exists() {
        return Ok(Some(path.to_owned()));
    }
    if path.is_absolute() || reference.starts_with('.') {
        return Err(Fault::not_found(format!("path {reference:?} not found"))
            .hint("name a chart's directory or its .tgz, oci://HOST/PATH/CHART, or REPOSITORY/CHART"));
    }
    Ok(None)
}

/// Fetches what a reference names; with `provenance`, its provenance file too.
pub async fn fetch(reference: &str, origin: &Origin, provenance: bool) -> Result<Fetched> {
    let version = match (&origin.version, origin.devel) {
        (Some(version), _) => version.trim(),
        (None, true) => ">0.0.0-0",
        (None, false) => "",
    };
    if reference.starts_with("oci://") {
        return Registry::new(reference, &origin.access, &origin.places)?.fetch(version, provenance).await;
    }
    let (url, home, access) = match &origin.repo {
        Some(repo) => {
            let repository = Repository { name: String::new(), url: repo.clone(), access: origin.access.clone() };
            let index = repository.fetch(None).await?;
            let named = if version.is_empty() {
                format!("chart {reference:?}")
            } else {
                format!("chart {reference:?} version {version:?}")
            };
            let entry = index.find(reference, version);
            let entry =
                entry.map_err(|_| Fault::not_found(format!("{named} not found in {} repository", shown_text(repo))))?;
            let url = entry.urls.first();
            let url = url.ok_or_else(|| Fault::not_found(format!("{named} has no downloadable URLs")))?;
            (absolute(repo, url), repo.clone(), origin.access.clone())
        }
        None => named(reference, version, origin)?,
    };
    download(&url, &home, &access, provenance).await
}

/// The URL of `REPOSITORY/CHART` (or the URL itself), whose it is, and how that is reached.
fn named(reference: &str, version: &str, origin: &Origin) -> Result<(String, String, Access)> {
    let repositories = Repositories::read(&origin.places)?;
    // What is said on the command line goes before what is written down.
    let merged = |repository: &Repository| {
        let (said, mut access) = (&origin.access, repository.access.clone());
        if said.username.is_some() {
            access.username.clone_from(&said.username);
            access.password.clone_from(&said.password);
        }
        access.ca_file = said.ca_file.clone().or(access.ca_file);
        access.cert_file = said.cert_file.clone().or(access.cert_file);
        access.key_file = said.key_file.clone().or(access.key_file);
        access.pass_credentials |= said.pass_credentials;
        access.insecure_skip_tls_verify |= said.insecure_skip_tls_verify;
        access
    };
    if reference.contains("://") {
        let owner = repositories.list.iter().find(|repository| {
            !repository.url.is_empty() && reference.starts_with(&format!("{}/", repository.url.trim_end_matches('/')))
        });
        let access = owner.map_or_else(|| origin.access.clone(), merged);
        return Ok((reference.to_owned(), reference.to_owned(), access));
    }
    let Some((name, chart)) = reference.split_once('/') else {
        return Err(Fault::not_found(format!(
            "non-absolute URLs should be in form of repo_name/path_to_chart, got: {}",
            shown_text(reference)
        ))
        .hint("name a chart's directory or its .tgz, oci://HOST/PATH/CHART, REPOSITORY/CHART, or give --repo URL"));
    };
    let repository = repositories.find(name).ok_or_else(|| {
        Fault::not_found(format!("repo {name} not found")).hint("`shipway helm repo add NAME URL` makes it known")
    })?;
    let index = repository.kept(&origin.places)?;
    let entry = index.find(chart, version).map_err(|error| {
        Fault::not_found(format!(
            "chart {chart:?} matching {version} not found in {name} index. (try 'helm repo update'): {error}"
        ))
    })?;
    let url = entry.urls.first();
    let url = url.ok_or_else(|| Fault::not_found(format!("chart {chart:?} has no downloadable URLs")))?;
    Ok((absolute(&repository.url, url), repository.url.clone(), merged(repository)))
}

/// Fetches an archive from an URL.
pub async fn download(url: &str, home: &str, access: &Access, provenance: bool) -> Result<Fetched> {
    let path = url.split(['?', '#']).next().unwrap_or(url);
    let name = path.rsplit('/').next().filter(|name| !name.is_empty() && !matches!(*name, "." | ".."));
    let name = name.ok_or_else(|| Fault::usage(format!("{} names no file", shown_text(url))))?.to_owned();
    let archive = access.get(url, home, LARGEST_CHART).await?;
    let provenance = match provenance {
        true => {
            let address = path.to_owned() + ".prov" + &url[path.len()..];
            let got = access.get(&address, home, 1 << 20).await;
            Some(got.map_err(|f| {
                Fault::new(f.class, format!("failed to fetch provenance {:?}: {}", shown_text(&address), f.message))
            })?)
        }
        false => None,
    };
    Ok(Fetched { name, archive, provenance })
}

impl Fetched {
    /// Holds the archive against its provenance and the public keys.
    pub fn verify(&self, keyring: Option<&Path>) -> Result<chart::provenance::Verified> {
        let statement = self.provenance.as_deref();
        let statement = statement
            .ok_or_else(|| Fault::new(Class::Failed, format!("{} comes without a provenance file", self.name)))?;
        super::verify::check(&self.name, &self.archive, statement, keyring)
    }
}
