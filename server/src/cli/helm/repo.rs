//! `helm repo`: repositories by name, and indexes of one's own.

use std::{
    io::Read,
    path::{Path, PathBuf},
    process::ExitCode,
};

use aws_lc_rs::digest::{SHA256, digest};
use chart::{Flavor, Loader, Warnings, repository::Index};
use clap::{Args, Subcommand, ValueEnum};
use data_encoding::HEXLOWER;
use serde_json::json;

use super::{
    access::{Access, shown_text},
    places::{Places, write},
    print,
    repositories::{Repositories, Repository, lock},
    say, unreadable,
};
use crate::{
    clock,
    fault::{Class, Fault, Result},
};

// What to do about repositories.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Give a repository a name
    Add(Box<Add>),
    /// List the names
    #[command(alias = "ls")]
    List {
        #[arg(short, long, value_enum, default_value_t = Output::Table)]
        output: Output,
        /// Without a heading
        #[arg(long)]
        no_headers: bool,
        #[command(flatten)]
        places: Places,
    },
    /// Fetch the indexes anew
    #[command(alias = "up")]
    Update {
        /// Names [default: all]
        names: Vec<String>,
        #[command(flatten)]
        places: Places,
    },
    /// Forget names
    #[command(alias = "rm")]
    Remove {
        #[arg(required = true)]
        names: Vec<String>,
        #[command(flatten)]
        places: Places,
    },
    /// Write the index.yaml of a directory with packed charts
    Index(Own),
}

// Flags of `helm repo add`.
#[derive(Debug, Args)]
pub struct Add {
    name: String,
    url: String,
    #[command(flatten)]
    access: Access,
    /// Read the password from standard input
    #[arg(long, conflicts_with = "password")]
    password_stdin: bool,
    /// Take the place of one with that name
    #[arg(long)]
    force_update: bool,
    #[command(flatten)]
    places: Places,
}

// Flags of `helm repo index`.
#[derive(Debug, Args)]
pub struct Own {
    #[arg(default_value = ".")]
    directory: PathBuf,
    /// What stands before the names of the archives
    #[arg(long, value_name = "URL", default_value = "")]
    url: String,
    /// An index whose entries are kept
    #[arg(long, value_name = "FILE")]
    merge: Option<PathBuf>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// How a list is printed.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Output {
    Table,
    Json,
    Yaml,
}

pub async fn main(command: Command) -> Result<ExitCode> {
    match command {
        Command::Add(add) => self::add(*add).await,
        Command::List { output, no_headers, places } => list(output, no_headers, &places),
        Command::Update { names, places } => update(&names, &places).await,
        Command::Remove { names, places } => remove(&names, &places),
        Command::Index(own) => index(&own),
    }
}

async fn add(add: Add) -> Result<ExitCode> {
    let name = add.name.as_str();
    if name.contains('/') {
        return Err(Fault::usage(format!(
            "repository name ({name}) contains '/', please specify a different name without '/'"
        )));
    }
    if name.is_empty() || matches!(name, "." | "..") {
        return Err(Fault::usage(format!("repository name ({name}) is no name")));
    }
    let mut access = add.access;
    if add.password_stdin {
        let mut text = String::new();
        std::io::stdin()
            .take(64 << 10)
            .read_to_string(&mut text)
            .map_err(|e| Fault::new(Class::Unavailable, format!("cannot read standard input: {e}")))?;
        access.password = Some(text.trim_end_matches(['\r', '\n']).to_owned());
    }
    // Relative paths would mean something else from another directory.
    for path in [&mut access.ca_file, &mut access.cert_file, &mut access.key_file].into_iter().flatten() {
        *path = std::path::absolute(&*path).unwrap_or_else(|_| path.clone());
    }
    let repository = Repository { name: add.name.clone(), url: add.url, access };
    let known = |repositories: &Repositories| match repositories.find(name) {
        Some(known) if !add.force_update && !known.same(&repository) => Err(Fault::new(
            Class::Conflict,
            format!("repository name ({name}) already exists, please specify a different name"),
        )
        .hint("--force-update takes its place")),
        Some(_) if !add.force_update => Ok(true),
        _ => Ok(false),
    };
    if known(&Repositories::read(&add.places)?)? {
        say(format!("{name:?} already exists with the same configuration, skipping"));
        return Ok(ExitCode::SUCCESS);
    }
    repository.fetch(Some(&add.places)).await?;
    let held = lock(&add.places)?;
    let mut repositories = Repositories::read(&add.places)?;
    known(&repositories)?;
    match repositories.list.iter_mut().find(|known| known.name == name) {
        Some(known) => *known = repository,
        None => repositories.list.push(repository),
    }
    repositories.save()?;
    drop(held);
    say(format!("{name:?} has been added to your repositories"));
    Ok(ExitCode::SUCCESS)
}

fn list(output: Output, no_headers: bool, places: &Places) -> Result<ExitCode> {
    let mut repositories = Repositories::read(places)?.list;
    // Other people read over the shoulder, or in a log.
    repositories.iter_mut().for_each(|repository| repository.url = shown_text(&repository.url));
    let rows = || repositories.iter().map(|r| json!({ "name": r.name, "url": r.url }));
    match output {
        Output::Json => {
            print(&format!("{}\n", super::show::go_json(&serde_json::Value::from_iter(rows()).to_string())))
        }
        Output::Yaml => {
            let text: String = rows().map(|row| yaml::to_go(&yaml::Value::List(vec![row.into()]))).collect();
            print(if text.is_empty() { "[]\n" } else { &text })
        }
        Output::Table if repositories.is_empty() => {
            super::warned("no repositories to show");
            Ok(ExitCode::SUCCESS)
        }
        Output::Table => {
            let cell = |text: &str, width: usize| format!("{text:<width$}");
            let names = repositories.iter().map(|r| r.name.chars().count()).max().unwrap_or(0).max(if no_headers {
                0
            } else {
                4
            });
            let urls = repositories.iter().map(|r| r.url.chars().count()).max().unwrap_or(0).max(if no_headers {
                0
            } else {
                3
            });
            let row = |name: &str, url: &str| format!("{}\t{}\n", cell(name, names), cell(url, urls));
            let rows: String = repositories.iter().map(|r| row(&r.name, &r.url)).collect();
            let heading = if no_headers { String::new() } else { row("NAME", "URL") };
            print(&(heading + &rows))
        }
    }
}

async fn update(names: &[String], places: &Places) -> Result<ExitCode> {
    let repositories = Repositories::read(places)?;
    if repositories.list.is_empty() {
        return Err(Fault::not_found("no repositories found. You must add one before updating")
            .hint("shipway helm repo add NAME URL"));
    }
    if let Some(unknown) = names.iter().find(|name| repositories.find(name).is_none()) {
        return Err(Fault::not_found(format!("no repositories found matching '{unknown}'.  Nothing will be updated")));
    }
    let wanted: Vec<Repository> =
        repositories.list.into_iter().filter(|r| names.is_empty() || names.contains(&r.name)).collect();
    say("Hang tight while we grab the latest from your chart repositories...");
    let failed = refresh(&wanted, places).await;
    if !failed.is_empty() {
        let text = format!("failed to update the following repositories: {}", failed.join(", "));
        return Err(Fault::new(Class::Unavailable, text));
    }
    say("Update Complete. ⎈Happy Helming!⎈");
    Ok(ExitCode::SUCCESS)
}

/// Fetches indexes side by side, says how it went, and names those that could not be had.
pub async fn refresh(repositories: &[Repository], places: &Places) -> Vec<String> {
    use futures::StreamExt;
    let fetching = repositories.iter().map(|r| async move { (r, r.fetch(Some(places)).await) });
    let fetched: Vec<_> = futures::stream::iter(fetching).buffer_unordered(8).collect().await;
    let mut failed = Vec::new();
    for (repository, got) in fetched {
        let managed = repository.name.starts_with(super::dependency::UNMANAGED);
        let url = shown_text(&repository.url);
        let shown = if managed { &url } else { &repository.name };
        match got {
            Ok(_) => say(format!("...Successfully got an update from the {shown:?} chart repository")),
            Err(fault) => {
                say(format!("...Unable to get an update from the {shown:?} chart repository ({url}):\n\t{fault}"));
                failed.push(url);
            }
        }
    }
    failed
}

fn remove(names: &[String], places: &Places) -> Result<ExitCode> {
    let held = lock(places)?;
    for name in names {
        let mut repositories = Repositories::read(places)?;
        let before = repositories.list.len();
        if before == 0 {
            return Err(Fault::not_found("no repositories configured"));
        }
        repositories.list.retain(|repository| repository.name != *name);
        if repositories.list.len() == before {
            return Err(Fault::not_found(format!("no repo named {name:?} found")));
        }
        repositories.save()?;
        for copy in [places.index(name), places.names(name)] {
            match std::fs::remove_file(&copy) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(unreadable(&copy, &error)),
                _ => {}
            }
        }
        say(format!("{name:?} has been removed from your repositories"));
    }
    drop(held);
    Ok(ExitCode::SUCCESS)
}

fn index(own: &Own) -> Result<ExitCode> {
    let now = clock::now().to_string();
    let mut index = Index { generated: now.clone(), ..Index::default() };
    for path in archives(&own.directory)? {
        let content = std::fs::read(&path).map_err(|e| unreadable(&path, &e))?;
        let loaded = Loader { flavor: Flavor::Helm4, ..Loader::default() }.archive(&content, &Warnings::default());
        // What is no chart is not listed.
        let Ok(chart) = loaded else {
            tracing::warn!(path = %path.display(), "not a chart, left out of the index");
            continue;
        };
        let name = path.strip_prefix(&own.directory).unwrap_or(&path).display().to_string();
        let url = match own.url.trim_end_matches('/') {
            "" => name,
            base => format!("{base}/{name}"),
        };
        let sum: String = HEXLOWER.encode(digest(&SHA256, &content).as_ref());
        index.add(chart.metadata, url, sum, now.clone());
    }
    if let Some(path) = &own.merge {
        match std::fs::read_to_string(path) {
            Ok(text) => index.merge(Index::parse(&text).map_err(super::fault)?),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(unreadable(path, &error)),
        }
    }
    let text = if own.json { index.json() + "\n" } else { index.yaml() };
    let path = own.directory.join("index.yaml");
    write(&path, text.as_bytes(), false)
        .map_err(|e| Fault::new(Class::Unavailable, format!("cannot write {}: {e}", path.display())))?;
    Ok(ExitCode::SUCCESS)
}

/// The archives in a directory and in those just below it.
fn archives(directory: &Path) -> Result<Vec<PathBuf>> {
    let list = |directory: &Path| -> Result<Vec<PathBuf>> {
        let entries = std::fs::read_dir(directory).map_err(|e| unreadable(directory, &e))?;
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        Ok(paths)
    };
    let packed = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "tgz") && path.is_file();
    let here = list(directory)?;
    let mut found: Vec<PathBuf> = here.iter().filter(|path| packed(path)).cloned().collect();
    for below in here.iter().filter(|path| path.is_dir()) {
        found.extend(list(below)?.into_iter().filter(packed));
    }
    Ok(found)
}
