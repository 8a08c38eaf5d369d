//! The packages of an image, from the facts of its layers.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use packageurl::PackageUrl;

use super::facts::{DebianPackage, Fact, LayerFacts, LockedPackage, NpmManifest, OsRelease};
use crate::licence::Licence;

/// Where a package comes from, and how its versions are ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Ecosystem {
    Debian,
    Npm,
    /// Of another kind, as the package URL says; a buildpack lists it.
    Other,
}

/// One package; the same version found in several places is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    pub ecosystem: Ecosystem,
    /// The package URL; unique within a catalogue.
    pub purl: String,
    pub name: String,
    pub version: String,
    /// Debian: the source package and its version, by which advisories name it.
    pub source: Option<(String, String)>,
    pub licences: Vec<Licence>,
    /// Algorithm as CycloneDX names it, and hex.
    pub hash: Option<(String, String)>,
    pub description: Option<String>,
    pub homepage: Option<String>,
    pub maintainer: Option<String>,
    pub resolved: Option<String>,
    /// Where it was found, sorted.
    pub locations: BTreeSet<String>,
    /// The package URLs of what it needs and what is there.
    pub depends: BTreeSet<String>,
}

/// All packages of an image, sorted by package URL.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalogue {
    pub os: Option<OsRelease>,
    pub packages: BTreeMap<String, Package>,
}

impl Catalogue {
    /// Puts the layers on each other, lowest first, and reads what is left.
    pub fn of<'a>(layers: impl IntoIterator<Item = &'a LayerFacts>) -> Self {
        let files = super::layer::overlay(layers);
        let os = ["usr/lib/os-release", "etc/os-release"].iter().find_map(|path| match follow(&files, path) {
            Some((_, Fact::OsRelease(os))) => Some(os.clone()),
            _ => None,
        });
        let mut catalogue = Self { os, packages: BTreeMap::new() };
        catalogue.add_debian(&files);
        catalogue.add_npm(&files);
        catalogue.add_listed(&files);
        catalogue
    }

    /// Every licence once, sorted: identifiers, expressions and names.
    pub fn licences(&self) -> Vec<String> {
        let all: BTreeSet<&str> = self.packages.values().flat_map(|p| p.licences.iter().map(Licence::text)).collect();
        all.into_iter().map(str::to_owned).collect()
    }

    fn add_debian(&mut self, files: &Files<'_>) {
        let mut installed: Vec<(&DebianPackage, &str, String)> = Vec::new();
        for (path, fact) in files {
            if let Fact::Debian(packages) = fact {
                installed
                    .extend(packages.iter().map(|package| (package, *path, debian_purl(package, self.os.as_ref()))));
            }
        }
        let mut by_name: HashMap<&str, &str> = HashMap::new();
        for (package, _, purl) in &installed {
            for provided in &package.provides {
                by_name.entry(provided).or_insert(purl);
            }
        }
        // A real package comes before one that provides its name.
        by_name.extend(installed.iter().map(|(package, _, purl)| (package.name.as_str(), purl.as_str())));
        for (package, path, purl) in &installed {
            let licences = match follow(files, &format!("usr/share/doc/{}/copyright", package.name)) {
                Some((_, Fact::Copyright(licences))) => licences.clone(),
                _ => Vec::new(),
            };
            let depends =
                package.depends.iter().filter_map(|any| any.iter().find_map(|name| by_name.get(name.as_str())));
            self.add(Package {
                ecosystem: Ecosystem::Debian,
                purl: purl.clone(),
                name: package.name.clone(),
                version: package.version.clone(),
                source: Some((package.source.clone(), package.source_version.clone())),
                licences,
                hash: None,
                description: None,
                homepage: package.homepage.clone(),
                maintainer: package.maintainer.clone(),
                resolved: None,
                locations: BTreeSet::from([format!("/{path}")]),
                depends: depends.filter(|on| *on != purl).map(|on| (*on).to_owned()).collect(),
            });
        }
    }

    fn add_npm(&mut self, files: &Files<'_>) {
        let locks = Locks::of(files);
        let mut found: BTreeMap<String, (Package, Vec<&str>)> = BTreeMap::new();
        for (path, fact) in files {
            let Fact::Npm(manifest) = fact else { continue };
            let folder = path.trim_end_matches("package.json").trim_end_matches('/');
            found.insert(folder.to_owned(), npm_package(manifest, path, locks.at(folder)));
        }
        // What a lock file lists and nothing installed: it went into a bundle.
        for (application, lock_path, packages) in &locks.applications {
            let modules =
                if application.is_empty() { "node_modules/".into() } else { format!("{application}/node_modules/") };
            if found.range(modules.clone()..).next().is_some_and(|(folder, _)| folder.starts_with(&modules)) {
                continue;
            }
            for (folder, package) in *packages {
                let at = if application.is_empty() { folder.clone() } else { format!("{application}/{folder}") };
                found.entry(at).or_insert_with(|| locked_package(package, lock_path));
            }
        }
        let purls: HashMap<&str, &str> =
            found.iter().map(|(at, (package, _))| (at.as_str(), package.purl.as_str())).collect();
        let mut complete = Vec::with_capacity(found.len());
        for (folder, (package, needs)) in &found {
            let mut package = package.clone();
            package.depends =
                needs.iter().filter_map(|name| resolve(&purls, folder, name)).map(str::to_owned).collect();
            package.depends.remove(&package.purl);
            complete.push(package);
        }
        complete.into_iter().for_each(|package| self.add(package));
    }

    /// What buildpacks say that they brought.
    fn add_listed(&mut self, files: &Files<'_>) {
        for (path, fact) in files {
            let Fact::Listed(packages) = fact else { continue };
            for listed in packages {
                let npm = listed.purl.starts_with("pkg:npm/");
                self.add(Package {
                    ecosystem: if npm { Ecosystem::Npm } else { Ecosystem::Other },
                    purl: listed.purl.clone(),
                    name: listed.name.clone(),
                    version: listed.version.clone(),
                    source: None,
                    licences: listed.licences.clone(),
                    hash: None,
                    description: None,
                    homepage: None,
                    maintainer: None,
                    resolved: None,
                    locations: BTreeSet::from([format!("/{path}")]),
                    depends: BTreeSet::new(),
                });
            }
        }
    }

    fn add(&mut self, package: Package) {
        match self.packages.get_mut(&package.purl) {
            Some(known) => {
                known.locations.extend(package.locations);
                known.depends.extend(package.depends);
                known.hash = known.hash.take().or(package.hash);
                if known.licences.is_empty() {
                    known.licences = package.licences;
                }
            }
            None => drop(self.packages.insert(package.purl.clone(), package)),
        }
    }
}

type Files<'a> = BTreeMap<&'a str, &'a Fact>;

/// The fact at a path, through links of the file and of the folder that it is in.
fn follow<'a>(files: &Files<'a>, path: &str) -> Option<(String, &'a Fact)> {
    let mut path = path.to_owned();
    for _ in 0..8 {
        match files.get(path.as_str()) {
            Some(Fact::Link(target)) => path = target.clone(),
            Some(fact) => return Some((path, fact)),
            None => {
                let (folder, name) = path.rsplit_once('/')?;
                let Some(Fact::Link(target)) = files.get(folder) else { return None };
                path = format!("{target}/{name}");
            }
        }
    }
    None
}

/// `pkg:deb/debian/curl@8.14.1-2?arch=amd64&distro=debian-13&upstream=…`; `upstream` names the source package where it has another
/// name or version, as scanners read it.
fn debian_purl(package: &DebianPackage, os: Option<&OsRelease>) -> String {
    let distribution = os.map_or("debian", |os| os.id.as_str());
    let mut qualifiers = Vec::new();
    if !package.architecture.is_empty() {
        qualifiers.push(("arch", package.architecture.clone()));
    }
    if let Some(os) = os.filter(|os| !os.version_id.is_empty()) {
        qualifiers.push(("distro", format!("{}-{}", os.id, os.version_id)));
    }
    if package.source_version != package.version {
        qualifiers.push(("upstream", format!("{}@{}", package.source, package.source_version)));
    } else if package.source != package.name {
        qualifiers.push(("upstream", package.source.clone()));
    }
    purl("deb", Some(distribution), &package.name, &package.version, qualifiers)
}

/// `pkg:npm/%40scope/name@1.2.3`.
fn npm_purl(name: &str, version: &str) -> String {
    match name.split_once('/') {
        Some((scope, name)) => purl("npm", Some(scope), name, version, Vec::new()),
        None => purl("npm", None, name, version, Vec::new()),
    }
}

/// A package URL in canonical form; parts that the format does not allow are left out.
pub fn purl(
    kind: &str,
    namespace: Option<&str>,
    name: &str,
    version: &str,
    qualifiers: Vec<(&'static str, String)>,
) -> String {
    // Only an unknown type or an empty name is refused; callers give neither, but a name may come from outside.
    let Ok(mut purl) = PackageUrl::new(kind.to_owned(), name.to_owned()) else { return format!("pkg:{kind}/unnamed") };
    if let Some(namespace) = namespace {
        let _ = purl.with_namespace(namespace.to_owned());
    }
    let _ = purl.with_version(version.to_owned());
    for (key, value) in qualifiers {
        let _ = purl.add_qualifier(key, value);
    }
    purl.to_string()
}

fn npm_package<'a>(manifest: &'a NpmManifest, path: &str, locked: Option<&LockedPackage>) -> (Package, Vec<&'a str>) {
    let locked = locked.filter(|locked| locked.version == manifest.version && locked.name == manifest.name);
    let mut licences = manifest.licences.clone();
    if licences.is_empty() {
        licences.extend(locked.and_then(|locked| locked.licence.clone()));
    }
    let package = Package {
        ecosystem: Ecosystem::Npm,
        purl: npm_purl(&manifest.name, &manifest.version),
        name: manifest.name.clone(),
        version: manifest.version.clone(),
        source: None,
        licences,
        hash: locked.and_then(|locked| locked.hash.clone()),
        description: manifest.description.clone(),
        homepage: manifest.homepage.clone(),
        maintainer: None,
        resolved: locked.and_then(|locked| locked.resolved.clone()),
        locations: BTreeSet::from([format!("/{path}")]),
        depends: BTreeSet::new(),
    };
    (package, manifest.depends.iter().map(String::as_str).collect())
}

fn locked_package<'a>(locked: &'a LockedPackage, lock_path: &str) -> (Package, Vec<&'a str>) {
    let package = Package {
        ecosystem: Ecosystem::Npm,
        purl: npm_purl(&locked.name, &locked.version),
        name: locked.name.clone(),
        version: locked.version.clone(),
        source: None,
        licences: locked.licence.iter().cloned().collect(),
        hash: locked.hash.clone(),
        description: None,
        homepage: None,
        maintainer: None,
        resolved: locked.resolved.clone(),
        locations: BTreeSet::from([format!("/{lock_path}")]),
        depends: BTreeSet::new(),
    };
    (package, locked.depends.iter().map(String::as_str).collect())
}

/// Lock files, by the folder that they speak of.
struct Locks<'a> {
    applications: Vec<(String, &'a str, &'a BTreeMap<String, LockedPackage>)>,
    entries: HashMap<String, &'a LockedPackage>,
}

impl<'a> Locks<'a> {
    fn of(files: &Files<'a>) -> Self {
        let mut locks = Self { applications: Vec::new(), entries: HashMap::new() };
        for (path, fact) in files {
            let Fact::NpmLock(lock) = fact else { continue };
            let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
            // The hidden lock file lies inside of `node_modules`, and its folders count from beside it.
            let hidden = path.ends_with("/.package-lock.json");
            let base = if hidden { folder.trim_end_matches("node_modules").trim_end_matches('/') } else { folder };
            for (at, package) in &lock.packages {
                let at = if base.is_empty() { at.clone() } else { format!("{base}/{at}") };
                // What npm wrote about what it installed comes before what was asked for.
                if hidden {
                    locks.entries.insert(at, package);
                } else {
                    locks.entries.entry(at).or_insert(package);
                }
            }
            if !hidden {
                locks.applications.push((base.to_owned(), path, &lock.packages));
            }
        }
        locks
    }

    fn at(&self, folder: &str) -> Option<&'a LockedPackage> {
        self.entries.get(folder).copied()
    }
}

/// Finds `name` as Node.js does from `folder`: in its own `node_modules`, then in those of the folders above.
fn resolve<'a>(purls: &HashMap<&str, &'a str>, folder: &str, name: &str) -> Option<&'a str> {
    let mut at = folder;
    loop {
        let path = if at.is_empty() { format!("node_modules/{name}") } else { format!("{at}/node_modules/{name}") };
        if let Some(purl) = purls.get(path.as_str()) {
            return Some(purl);
        }
        if at.is_empty() {
            return None;
        }
        at = at.rsplit_once('/').map_or("", |(above, _)| above);
    }
}

#[cfg(test)]
mod tests;
