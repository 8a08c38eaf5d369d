//! From the ranges in `Chart.yaml` to the versions in `Chart.lock`.

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::HEXLOWER;

use super::Index;
use crate::{
    Chart, Error,
    metadata::{Dependency, Lock},
    version::{Range, Version, compatible},
};

/// Where dependencies come from; the caller does the reading and fetching.
pub trait Sources {
    /// The index of a repository (`https://…`).
    fn index(&self, repository: &str) -> Result<Index, Error>;
    /// The tags of a chart in a registry (`oci://…/NAME`).
    fn tags(&self, reference: &str) -> Result<Vec<String>, Error>;
    /// The chart at a path relative to the one whose dependencies these are; bounded to where its caller may read.
    fn local(&self, path: &str) -> Result<Chart, Error>;
}

/// What a dependency is resolved to.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// It lies in `charts/` already.
    Vendored,
    /// An unpacked chart beside this one.
    Local(String),
    /// An archive to fetch.
    Archive { url: String, digest: String },
    /// A chart in a registry, with its tag.
    Registry(String),
}

/// Chooses a version for each dependency.
pub fn resolve(chart: &Chart, sources: &dyn Sources) -> Result<Vec<(Dependency, Found)>, Error> {
    chart.metadata.dependencies.iter().map(|dependency| one(chart, dependency, sources)).collect()
}

fn one(chart: &Chart, wanted: &Dependency, sources: &dyn Sources) -> Result<(Dependency, Found), Error> {
    let name = &wanted.name;
    let invalid = |error: String| {
        Error::Dependency(format!("dependency {name:?} has an invalid version/constraint format: {error}"))
    };
    let range = Range::parse(&wanted.version).map_err(invalid)?;
    let chosen = |version: &str, repository: &str| Dependency {
        name: name.clone(),
        version: version.to_owned(),
        repository: repository.to_owned(),
        ..Dependency::default()
    };
    let absent = || {
        Error::Dependency(format!(
            "can't get a valid version for {} subchart(s): {name:?} (repository {:?}, version {:?}). Make sure a matching chart version exists in the repo, or change the version constraint in Chart.yaml",
            1, wanted.repository, wanted.version
        ))
    };
    if wanted.repository.is_empty() {
        let vendored = chart
            .dependencies
            .iter()
            .find(|subchart| subchart.name() == name)
            .ok_or_else(|| Error::Dependency(format!("directory charts/{name} not found")))?;
        if !compatible(&wanted.version, &vendored.metadata.version) {
            return Err(absent());
        }
        // A lock names what was wished for here, as nothing was chosen.
        return Ok((chosen(&wanted.version, ""), Found::Vendored));
    }
    if let Some(path) = wanted.repository.strip_prefix("file://") {
        let local = sources.local(path)?;
        if !compatible(&wanted.version, &local.metadata.version) {
            return Err(absent());
        }
        return Ok((chosen(&local.metadata.version, &wanted.repository), Found::Local(path.to_owned())));
    }
    if wanted.repository.starts_with("oci://") {
        let reference = format!("{}/{name}", wanted.repository.trim_end_matches('/'));
        if Version::parse(&wanted.version).is_some() {
            let found = Found::Registry(format!("{reference}:{}", wanted.version));
            return Ok((chosen(&wanted.version, &wanted.repository), found));
        }
        let mut versions: Vec<Version> = sources
            .tags(&reference)?
            .iter()
            // A registry's tags have no `+`.
            .filter_map(|tag| Version::parse_strict(&tag.replace('_', "+")))
            .filter(|version| range.contains(version))
            .collect();
        versions.sort_by(Version::compare);
        let best = versions.pop().ok_or_else(absent)?;
        let found = Found::Registry(format!("{reference}:{}", best.original.replace('+', "_")));
        return Ok((chosen(&best.original, &wanted.repository), found));
    }
    let index = sources.index(&wanted.repository)?;
    let entry = index.find(name, &wanted.version).map_err(|error| match error {
        Error::Index(text) if text == "no chart name found" => {
            Error::Dependency(format!("{name} chart not found in repo {}", wanted.repository))
        }
        _ => absent(),
    })?;
    let url = entry.urls.first().ok_or_else(|| Error::Index(format!("chart {name:?} has no downloadable URLs")))?;
    let found = Found::Archive { url: super::absolute(&wanted.repository, url), digest: entry.digest.clone() };
    Ok((chosen(&entry.metadata.version, &wanted.repository), found))
}

/// The lock of resolved dependencies.
pub fn locked(chart: &Chart, resolved: &[(Dependency, Found)], generated: String) -> Lock {
    let dependencies: Vec<Dependency> = resolved.iter().map(|(dependency, _)| dependency.clone()).collect();
    Lock { generated, digest: lock_digest(&chart.metadata.dependencies, &dependencies), dependencies }
}

/// The digest that a lock carries: it changes when the wishes or the choices do.
pub fn lock_digest(wanted: &[Dependency], locked: &[Dependency]) -> String {
    let lists = [wanted, locked].map(|list| list.iter().map(Dependency::json).collect::<serde_json::Value>());
    let json = serde_json::Value::from(lists.to_vec()).to_string();
    // Go's encoder escapes these in strings, and nowhere else do they stand.
    let json = ['<', '>', '&', '\u{2028}', '\u{2029}']
        .into_iter()
        .fold(json, |json, c| json.replace(c, &format!("\\u{:04x}", c as u32)));
    let hash = digest(&SHA256, json.as_bytes());
    let hex: String = HEXLOWER.encode(hash.as_ref());
    format!("sha256:{hex}")
}
