//! `helm dependency`: which charts a chart needs, and bringing them into its `charts/`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitCode,
};

use chart::{
    Chart, Flavor, Loader, Warnings,
    metadata::{Dependency, Lock},
    package::package,
    repository::{Found, Index, Sources, lock_digest, locked, resolve},
    version::compatible,
};
use clap::{Args, Subcommand};
use data_encoding::HEXLOWER;

use super::{
    access::{Access, shown_text},
    disk::Disk,
    fault, load,
    places::{Places, write},
    print,
    reference::{Fetched, download},
    registry::Registry,
    repo::refresh,
    repositories::{Repositories, Repository},
    say, unreadable,
};
use crate::{
    clock,
    fault::{Class, Fault, Result},
};

/// What the copies of indexes are called whose repositories have no name.
pub const UNMANAGED: &str = "helm-manager-";

// What to do about the charts that a chart needs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List them and say whether they are there
    #[command(alias = "ls")]
    List {
        #[arg(default_value = ".")]
        chart: PathBuf,
        /// The most characters of a column
        #[arg(long, value_name = "N", default_value_t = 80)]
        max_col_width: usize,
    },
    /// Choose versions, write Chart.lock, and fetch them into charts/
    #[command(alias = "up")]
    Update(Box<Options>),
    /// Fetch into charts/ what Chart.lock says
    Build(Box<Options>),
}

// Flags of `helm dependency update` and `build`.
#[derive(Debug, Default, Args)]
pub struct Options {
    #[arg(default_value = ".")]
    pub chart: PathBuf,
    /// Do not fetch the indexes of repositories anew
    #[arg(long)]
    pub skip_refresh: bool,
    /// Refuse charts whose signatures do not hold
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

pub async fn main(command: Command) -> Result<ExitCode> {
    match command {
        Command::List { chart, max_col_width } => list(&chart, max_col_width),
        Command::Update(options) => update(&options).await,
        Command::Build(options) => build(&options).await,
    }
}

fn list(path: &Path, most: usize) -> Result<ExitCode> {
    let chart = load(path, Flavor::Helm4, &Warnings::default())?;
    if chart.metadata.dependencies.is_empty() {
        say(format!("WARNING: no dependencies at {}", path.join("charts").display()));
        return Ok(ExitCode::SUCCESS);
    }
    let mut rows = vec![["NAME", "VERSION", "REPOSITORY", "STATUS"].map(str::to_owned).to_vec()];
    for wanted in &chart.metadata.dependencies {
        let found = chart.dependencies.iter().find(|subchart| subchart.name() == wanted.name);
        let status = match found {
            None => "missing",
            Some(found) if !compatible(&wanted.version, &found.metadata.version) => "wrong version",
            Some(_) if path.join("charts").join(&wanted.name).is_dir() => "unpacked",
            Some(_) => "ok",
        };
        let repository = shown_text(&wanted.repository);
        rows.push(vec![wanted.name.clone(), wanted.version.clone(), repository, status.to_owned()]);
    }
    print(&(super::show::table_of(&rows, most) + "\n"))
}

/// An unpacked chart whose dependencies are seen to.
struct Work<'o> {
    options: &'o Options,
    chart: Chart,
    repositories: Repositories,
}

impl<'o> Work<'o> {
    fn open(options: &'o Options) -> Result<Self> {
        let path = &options.chart;
        if path.is_file() {
            return Err(Fault::usage("only unpacked charts can be updated").hint(format!("unpack {}", path.display())));
        }
        let chart = load(path, Flavor::Helm4, &Warnings::default())?;
        Ok(Self { options, chart, repositories: Repositories::read(&options.places)? })
    }

    /// The dependencies with the URLs of named repositories in place of `@NAME` and `alias:NAME`.
    fn wanted(&self) -> Result<Vec<Dependency>> {
        let mut missing = Vec::new();
        let mut wanted = self.chart.metadata.dependencies.clone();
        for dependency in &mut wanted {
            let repository = dependency.repository.as_str();
            let alias = repository.strip_prefix('@').or_else(|| repository.strip_prefix("alias:"));
            match alias {
                Some(alias) => match self.repositories.find(alias) {
                    Some(known) => dependency.repository.clone_from(&known.url),
                    None => missing.push(repository.to_owned()),
                },
                None if repository.is_empty() || repository.contains("://") => {}
                None => missing.push(repository.to_owned()),
            }
        }
        if missing.is_empty() {
            return Ok(wanted);
        }
        let fault = Fault::not_found(format!(
            "no repository definition for {}. Please add them via 'helm repo add'",
            missing.join(", ")
        ));
        let plain = missing.iter().find(|name| !name.contains("//") && !name.starts_with(['@', 'a']));
        Err(match plain {
            Some(name) => fault.hint(format!("a repository is an URL or \"@{name}\", not \"{name}\"")),
            None => fault,
        })
    }

    fn sources(&self) -> Remote<'_> {
        let directory = self.options.chart.canonicalize().unwrap_or_else(|_| self.options.chart.clone());
        Remote { directory, indexes: BTreeMap::new(), tags: BTreeMap::new(), work: self }
    }

    /// The repository with that URL, by its own name or by one made of it.
    fn repository(&self, url: &str) -> Repository {
        let made = || {
            let sum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, url.as_bytes());
            let hex: String = HEXLOWER.encode(sum.as_ref());
            Repository { name: format!("{UNMANAGED}{hex}"), url: url.to_owned(), access: self.options.access.clone() }
        };
        self.repositories.with_url(url).cloned().unwrap_or_else(made)
    }

    /// Fetches indexes of repositories, unless told not to: those without a name, then all that have one.
    async fn refresh(&self, wanted: &[Dependency]) {
        if self.options.skip_refresh {
            return;
        }
        let mut unmanaged: Vec<Repository> = Vec::new();
        for url in wanted.iter().map(|d| d.repository.as_str()).filter(|url| url.starts_with("http")) {
            let repository = self.repository(url);
            if repository.name.starts_with(UNMANAGED) && !unmanaged.iter().any(|known| known.name == repository.name) {
                unmanaged.push(repository);
            }
        }
        if !unmanaged.is_empty() {
            say("Getting updates for unmanaged Helm repositories...");
            refresh(&unmanaged, &self.options.places).await;
        }
        if !self.repositories.list.is_empty() {
            say("Hang tight while we grab the latest from your chart repositories...");
            refresh(&self.repositories.list, &self.options.places).await;
            say("Update Complete. ⎈Happy Helming!⎈");
        }
    }

    /// Fetches everything, and only when all is there changes `charts/`.
    async fn fetch(&self, locked: &[(Dependency, Found)]) -> Result<()> {
        say(format!("Saving {} charts", locked.len()));
        let mut archives: BTreeMap<String, Fetched> = BTreeMap::new();
        let mut fetched = Vec::new();
        for (dependency, found) in locked {
            let name = &dependency.name;
            let archive = match found {
                Found::Vendored => {
                    say(format!(
                        "Dependency {name} did not declare a repository. Assuming it exists in the charts directory"
                    ));
                    continue;
                }
                Found::Local(path) => {
                    let chart = self.sources().read(path)?;
                    let packed = package(&chart, 0).map_err(fault)?;
                    Fetched { name: packed.name, archive: packed.bytes, provenance: None }
                }
                Found::Archive { url, .. } if fetched.contains(url) => {
                    say(format!("Already downloaded {name} from repo {}", shown_text(&dependency.repository)));
                    continue;
                }
                Found::Archive { url, digest } => {
                    say(format!("Downloading {name} from repo {}", shown_text(&dependency.repository)));
                    fetched.push(url.clone());
                    let repository = self.repository(&dependency.repository);
                    let got = download(url, &repository.url, &repository.access, self.options.verify).await;
                    let got = got.map_err(|f| {
                        Fault::new(f.class, format!("could not download {}: {}", shown_text(url), f.message))
                    })?;
                    held(&got, digest)?;
                    got
                }
                Found::Registry(reference) => {
                    say(format!("Downloading {name} from repo {}", shown_text(&dependency.repository)));
                    let registry = Registry::new(
                        &format!("oci://{reference}").replace("oci://oci://", "oci://"),
                        &self.options.access,
                        &self.options.places,
                    )?;
                    registry.fetch("", self.options.verify).await?
                }
            };
            if self.options.verify && !matches!(found, Found::Local(_)) {
                archive.verify(self.options.keyring.as_deref())?;
            }
            // Whatever comes from outside must be a chart before it lies beside others.
            Loader::default().archive(&archive.archive, &Warnings::default()).map_err(fault)?;
            archives.insert(archive.name.clone(), archive);
        }
        self.place(&archives)
    }

    fn place(&self, archives: &BTreeMap<String, Fetched>) -> Result<()> {
        let directory = self.options.chart.join("charts");
        if directory.exists() && !directory.is_dir() {
            return Err(Fault::usage(format!("{:?} is not a directory", directory.display().to_string())));
        }
        std::fs::create_dir_all(&directory).map_err(|error| unreadable(&directory, &error))?;
        let vendored: Vec<&str> = self
            .chart
            .metadata
            .dependencies
            .iter()
            .filter(|d| d.repository.is_empty())
            .map(|d| d.name.as_str())
            .collect();
        for (name, archive) in archives {
            let path = directory.join(name);
            write(&path, &archive.archive, false)
                .map_err(|e| Fault::new(Class::Unavailable, format!("cannot write {}: {e}", path.display())))?;
        }
        say("Deleting outdated charts");
        let entries = std::fs::read_dir(&directory).map_err(|error| unreadable(&directory, &error))?;
        for path in entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file()) {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if archives.contains_key(&name) {
                continue;
            }
            // What is no chart is somebody's own.
            match load(&path, Flavor::Helm4, &Warnings::default()) {
                Ok(chart) if vendored.contains(&chart.name()) => {}
                Ok(_) => std::fs::remove_file(&path).map_err(|error| unreadable(&path, &error))?,
                Err(fault) => say(format!("Could not verify {} for deletion: {fault} (Skipping)", path.display())),
            }
        }
        Ok(())
    }

    fn lock_file(&self) -> PathBuf {
        let name = if self.chart.metadata.api_version == "v1" { "requirements.lock" } else { "Chart.lock" };
        self.options.chart.join(name)
    }
}

fn held(fetched: &Fetched, digest: &str) -> Result<()> {
    let wanted = digest.strip_prefix("sha256:").unwrap_or(digest);
    let sum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &fetched.archive);
    let found: String = HEXLOWER.encode(sum.as_ref());
    if wanted.is_empty() || wanted.eq_ignore_ascii_case(&found) {
        return Ok(());
    }
    let text = format!("{} has the digest {found}, its repository's index says {wanted}", fetched.name);
    Err(Fault::new(Class::Failed, text)
        .hint("the repository was changed after its index was fetched, or by somebody else"))
}

pub async fn update(options: &Options) -> Result<ExitCode> {
    let mut work = Work::open(options)?;
    if work.chart.metadata.dependencies.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    let wanted = work.wanted()?;
    work.chart.metadata.dependencies.clone_from(&wanted);
    work.refresh(&wanted).await;
    let mut sources = work.sources();
    sources.gather(&wanted).await?;
    let resolved = resolve(&work.chart, &sources).map_err(fault)?;
    drop(sources);
    work.fetch(&resolved).await?;
    let new = locked(&work.chart, &resolved, clock::now().to_string());
    if work.chart.lock.as_ref().is_some_and(|old| old.digest == new.digest) {
        return Ok(ExitCode::SUCCESS);
    }
    let path = work.lock_file();
    if let Ok(link) = std::fs::read_link(&path) {
        return Err(Fault::usage(format!(
            "the {} file is a symlink to {:?}",
            path.display(),
            link.display().to_string()
        )));
    }
    write(&path, new.yaml().as_bytes(), false)
        .map_err(|e| Fault::new(Class::Unavailable, format!("cannot write {}: {e}", path.display())))?;
    Ok(ExitCode::SUCCESS)
}

async fn build(options: &Options) -> Result<ExitCode> {
    let mut work = Work::open(options)?;
    let Some(lock) = work.chart.lock.clone() else { return update(options).await };
    let wanted = work.wanted()?;
    check(&work.chart, &wanted, &lock)?;
    work.chart.metadata.dependencies.clone_from(&lock.dependencies);
    let unknown: Vec<&str> = lock
        .dependencies
        .iter()
        .map(|d| d.repository.as_str())
        .filter(|url| url.starts_with("http") && work.repositories.with_url(url).is_none())
        .collect();
    if !unknown.is_empty() {
        return Err(Fault::not_found(format!(
            "no repository definition for {}. Please add the missing repos via 'helm repo add'",
            unknown.iter().map(|url| shown_text(url)).collect::<Vec<_>>().join(", ")
        )));
    }
    work.refresh(&lock.dependencies).await;
    let mut sources = work.sources();
    sources.gather(&lock.dependencies).await?;
    let resolved = resolve(&work.chart, &sources).map_err(fault)?;
    drop(sources);
    work.fetch(&resolved).await?;
    Ok(ExitCode::SUCCESS)
}

/// Refuses a lock that was made for other wishes.
fn check(chart: &Chart, wanted: &[Dependency], lock: &Lock) -> Result<()> {
    if lock_digest(wanted, &lock.dependencies) == lock.digest {
        return Ok(());
    }
    if chart.metadata.api_version == "v1" {
        return Err(Fault::new(
            Class::Conflict,
            "the lock file (requirements.lock) is out of sync with the dependencies file (requirements.yaml). Please update the dependencies",
        ));
    }
    Err(Fault::new(Class::Conflict, "the lock file (Chart.lock) is out of sync with the dependencies file (Chart.yaml). Please update the dependencies with 'helm dependency update'")
        .hint("shipway helm dependency update"))
}

/// What was gathered from outside before versions are chosen.
struct Remote<'w> {
    directory: PathBuf,
    indexes: BTreeMap<String, Index>,
    tags: BTreeMap<String, Vec<String>>,
    work: &'w Work<'w>,
}

impl Remote<'_> {
    async fn gather(&mut self, wanted: &[Dependency]) -> Result<()> {
        for dependency in wanted {
            let url = dependency.repository.as_str();
            if url.starts_with("oci://") {
                let reference = format!("{}/{}", url.trim_end_matches('/'), dependency.name);
                if chart::version::Version::parse(&dependency.version).is_none() {
                    let registry = Registry::new(&reference, &self.work.options.access, &self.work.options.places)?;
                    self.tags.insert(reference, registry.versions().await?);
                }
            } else if url.starts_with("http") && !self.indexes.contains_key(url) {
                let repository = self.work.repository(url);
                let index = repository.kept(&self.work.options.places)?;
                self.indexes.insert(url.to_owned(), index);
            }
        }
        Ok(())
    }

    /// The chart at a path: absolute, or relative to the one whose dependencies these are.
    fn read(&self, path: &str) -> Result<Chart> {
        let place = self.directory.join(path);
        if !place.exists() {
            return Err(Fault::not_found(format!("directory {} not found", place.display())));
        }
        let disk = Disk::new(&place).map_err(|error| unreadable(&place, &error))?;
        Loader::default().tree(&disk, &Warnings::default()).map_err(fault)
    }
}

impl Sources for Remote<'_> {
    fn index(&self, repository: &str) -> std::result::Result<Index, chart::Error> {
        let absent = || chart::Error::Index(format!("could not find protocol handler for: {}", shown_text(repository)));
        self.indexes.get(repository).cloned().ok_or_else(absent)
    }

    fn tags(&self, reference: &str) -> std::result::Result<Vec<String>, chart::Error> {
        Ok(self.tags.get(reference).cloned().unwrap_or_default())
    }

    fn local(&self, path: &str) -> std::result::Result<Chart, chart::Error> {
        self.read(path).map_err(|fault| chart::Error::Dependency(fault.message))
    }
}
