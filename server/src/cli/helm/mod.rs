//! `shipway helm`: what people know from `helm`, done in this process.

mod about;
mod access;
mod change;
mod connect;
mod create;
mod dependency;
mod deploy;
mod disk;
mod filter;
mod flags;
mod inspect;
mod lint;
mod login;
mod package;
mod places;
mod plugin;
mod pull;
mod push;
pub mod reference;
mod registry;
mod releases;
mod repo;
mod repositories;
mod search;
mod shared;
mod show;
mod template;
mod verify;

use std::{
    io::{Read, Write},
    path::Path,
    process::ExitCode,
};

use chart::{Chart, Flavor, Given, KubeVersion, Loader, Warnings};
use clap::{Args, Subcommand, ValueEnum};

use super::Below;
use crate::fault::{Class, Fault, Result};

// `shipway helm` with what every command takes, before its name or after it.
#[derive(Debug, Args)]
pub struct Helm {
    #[command(flatten)]
    target: connect::Target,
    #[command(flatten)]
    places: places::Places,
    /// Say what is done, on standard error
    #[arg(long, global = true)]
    debug: bool,
    /// What helm's scripts give and nothing here needs: output has no colours, requests no budget, charts no cache
    #[arg(long = "color", visible_alias = "colour", global = true, hide = true, value_name = "WHEN")]
    color: Option<String>,
    #[arg(long, global = true, hide = true, value_name = "N")]
    burst_limit: Option<i64>,
    #[arg(long, global = true, hide = true, value_name = "N")]
    qps: Option<f32>,
    #[arg(long, global = true, hide = true, value_name = "DIR")]
    content_cache: Option<std::path::PathBuf>,
    #[command(subcommand)]
    command: Command,
}

// What can be done with charts. Each is built when it is the one that was asked for, as those above it are.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub enum Command {
    /// Render a chart and print its documents
    #[command(disable_version_flag = true)]
    Template(Box<template::Options>),
    /// Say what is wrong with a chart
    Lint(lint::Options),
    /// Show what a chart is: its metadata, values, README, custom resource definitions
    #[command(visible_alias = "inspect")]
    Show(Below<inspect::Show>),
    /// See to the charts that a chart needs
    #[command(visible_aliases = ["dep", "dependencies"])]
    Dependency(Below<dependency::Command>),
    /// Pack a chart into an archive
    #[command(disable_version_flag = true)]
    Package(package::Options),
    /// Fetch a chart from a repository or registry
    #[command(disable_version_flag = true, visible_alias = "fetch")]
    Pull(Box<pull::Options>),
    /// Push a packed chart into a registry
    Push(Box<push::Options>),
    /// Name repositories, fetch their indexes, write one
    Repo(Below<repo::Command>),
    /// Log in to registries, and out
    Registry(Below<login::Command>),
    /// Hold a packed chart against its signed provenance
    Verify(verify::Options),
    /// Install a chart into a cluster
    #[command(disable_version_flag = true)]
    Install(Box<deploy::Install>),
    /// Upgrade a release
    #[command(disable_version_flag = true)]
    Upgrade(Box<deploy::Upgrade>),
    /// Bring an earlier revision of a release back
    Rollback(change::RollbackOptions),
    /// Uninstall releases
    #[command(visible_aliases = ["del", "delete", "un"])]
    Uninstall(change::UninstallOptions),
    /// Run the tests of a release
    Test(change::TestOptions),
    /// List releases
    #[command(visible_alias = "ls")]
    List(releases::List),
    /// The revisions of a release
    #[command(visible_alias = "hist")]
    History(releases::History),
    /// How a release is
    Status(releases::StatusOptions),
    /// Fetch what is stored of a release
    Get(Below<releases::Get>),
    /// Look for charts in the repositories that are known
    #[command(disable_version_flag = true)]
    Search(Below<search::Command>),
    /// Write a chart to start from
    Create(create::Options),
    /// Where files lie and what the environment says
    Env {
        /// Only this one
        name: Option<String>,
    },
    /// The version of this program, and of the helm that it is like
    #[command(disable_version_flag = true)]
    Version(about::Version),
    /// Plugins are not run
    #[command(hide = true)]
    Plugin {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
}

/// Whose output is wanted where versions differ.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub enum Compatible {
    #[value(name = "3")]
    Helm3,
    #[default]
    #[value(name = "4")]
    Helm4,
}

impl Compatible {
    pub fn flavor(self) -> Flavor {
        match self {
            Self::Helm3 => Flavor::Helm3,
            Self::Helm4 => Flavor::Helm4,
        }
    }
}

// The flags that give values, as every command has them.
#[derive(Debug, Args)]
pub struct Values {
    /// Values from a YAML file or an URL (`-` for standard input); may be repeated, the last wins
    #[arg(short = 'f', long = "values", value_name = "FILE", value_delimiter = ',')]
    values: Vec<String>,
    #[command(flatten)]
    single: SingleValues,
}

impl Values {
    fn merge(&self, flavor: Flavor) -> Result<yaml::Map> {
        self.single.given(&self.values).merge(&mut read, flavor).map_err(fault)
    }
}

// The flags that give values one by one.
#[derive(Debug, Args)]
pub struct SingleValues {
    /// A value, or several with commas between: a.b[0]=c
    #[arg(long, value_name = "PATH=VALUE")]
    set: Vec<String>,
    /// The same, always as text
    #[arg(long, value_name = "PATH=TEXT")]
    set_string: Vec<String>,
    /// The same as JSON, or a whole JSON object
    #[arg(long, value_name = "PATH=JSON")]
    set_json: Vec<String>,
    /// A value that is the content of a file
    #[arg(long, value_name = "PATH=FILE")]
    set_file: Vec<String>,
    /// A text taken as it is up to its end
    #[arg(long, value_name = "PATH=TEXT")]
    set_literal: Vec<String>,
}

impl SingleValues {
    /// These, over what the files give.
    pub fn given(&self, files: &[String]) -> Given {
        Given {
            files: files.to_vec(),
            json: self.set_json.clone(),
            typed: self.set.clone(),
            text: self.set_string.clone(),
            contents: self.set_file.clone(),
            literal: self.set_literal.clone(),
        }
    }
}

impl Helm {
    /// Whether it is over in a moment: no release is worked on, and hardly anything is waited for.
    pub fn is_brief(&self) -> bool {
        matches!(
            self.command,
            Command::Template(_)
                | Command::Lint(_)
                | Command::Show(_)
                | Command::Package(_)
                | Command::Verify(_)
                | Command::Search(_)
                | Command::Create(_)
                | Command::Env { .. }
                | Command::Version(_)
        )
    }
}

/// Runs one command.
pub async fn main(helm: Helm) -> Result<ExitCode> {
    let asked = |text: String| matches!(text.as_str(), "1" | "t" | "T" | "true" | "TRUE" | "True");
    let debug = helm.debug || std::env::var("HELM_DEBUG").is_ok_and(asked);
    if debug {
        super::trace_to_stderr("info,helm=debug,chart=debug,kube_client=debug,shipway=debug,server=debug");
    }
    let needless = (&helm.color, helm.burst_limit, helm.qps, &helm.content_cache);
    if needless != (&None, None, None, &None) {
        tracing::debug!(given = ?needless, "flags of helm that nothing here needs");
    }
    match helm.command {
        Command::Search(command) => search::main(&command.below),
        Command::Create(options) => create::main(&options),
        Command::Env { name } => about::environment(name.as_deref(), &helm.target, &helm.places),
        Command::Version(options) => about::version(&options),
        Command::Plugin { words } => {
            Err(Fault::usage(format!("plugins of helm are not run here: plugin {}", words.join(" "))).hint(
                "run the plugin's own program, or helm itself; releases, repositories and log-ins are shared with it",
            ))
        }
        Command::Template(options) => template::main(&options, debug).await,
        Command::Lint(options) => lint::main(&options),
        Command::Show(show) => inspect::show(&show.below).await,
        Command::Dependency(command) => dependency::main(command.below).await,
        Command::Package(options) => package::main(&options).await,
        Command::Pull(options) => pull::main(*options).await,
        Command::Push(options) => push::main(*options).await,
        Command::Repo(command) => repo::main(command.below).await,
        Command::Registry(command) => login::main(command.below).await,
        Command::Verify(options) => verify::main(&options),
        Command::Install(options) => deploy::install(&options).await,
        Command::Upgrade(options) => deploy::upgrade(&options).await,
        Command::Rollback(options) => change::rollback(&options).await,
        Command::Uninstall(options) => change::uninstall(&options).await,
        Command::Test(options) => change::test(&options).await,
        Command::List(options) => releases::list(&options).await,
        Command::History(options) => releases::history(&options).await,
        Command::Status(options) => releases::status(&options).await,
        Command::Get(what) => releases::get(&what.below).await,
    }
}

const LARGEST: u64 = access::LARGEST_VALUES as u64;

/// A file of values: `-` for standard input, an URL, or a path.
fn read(file: &str) -> std::result::Result<Vec<u8>, String> {
    let scheme = file.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    if matches!(scheme.as_deref(), Some("http" | "https")) {
        return access::values(file);
    }
    let mut content = Vec::new();
    let done = match file.trim() {
        "-" => std::io::stdin().take(LARGEST + 1).read_to_end(&mut content),
        _ => std::fs::File::open(file).and_then(|open| open.take(LARGEST + 1).read_to_end(&mut content)),
    };
    match done {
        Ok(_) if content.len() as u64 > LARGEST => Err(format!("open {file}: it has more than {LARGEST} bytes")),
        Ok(_) => Ok(content),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let other = match &scheme {
                Some(scheme) => format!(
                    " (values come from files, http:// and https://; {scheme}:// needs a plugin of helm, which are not run)"
                ),
                None => String::new(),
            };
            Err(format!("open {file}: no such file or directory{other}"))
        }
        Err(error) => Err(format!("open {file}: {error}")),
    }
}

/// A chart from a directory or an archive.
fn load(path: &Path, flavor: Flavor, warnings: &Warnings) -> Result<Chart> {
    if path.is_dir() {
        let disk = disk::Disk::new(path).map_err(|e| unreadable(path, &e))?;
        return Loader { flavor, ..Loader::default() }.tree(&disk, warnings).map_err(fault);
    }
    packed(path, flavor, warnings)
}

/// The same, to be rendered and nothing else: what templates do not ask for is not read.
fn load_to_render(path: &Path, flavor: Flavor, warnings: &Warnings) -> Result<Chart> {
    if path.is_dir() {
        let disk = disk::Disk::new(path).map_err(|e| unreadable(path, &e))?;
        let loader = Loader { flavor, ..Loader::default() };
        return loader.tree_to_render(std::sync::Arc::new(disk), warnings).map_err(fault);
    }
    packed(path, flavor, warnings)
}

fn packed(path: &Path, flavor: Flavor, warnings: &Warnings) -> Result<Chart> {
    let loader = Loader { flavor, ..Loader::default() };
    let archive = match std::fs::read(path) {
        Ok(archive) => archive,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Fault::not_found(format!("path {:?} not found", path.display().to_string()))
                .hint("name a chart's directory or its .tgz"));
        }
        Err(error) => return Err(unreadable(path, &error)),
    };
    loader.archive(&archive, warnings).map_err(named(path))
}

/// An error of an archive, with the file that it is.
fn named(path: &Path) -> impl Fn(chart::Error) -> Fault + '_ {
    move |error| {
        let archive = matches!(error, chart::Error::Archive(_));
        let mut fault = fault(error);
        if archive {
            fault.message = format!("cannot load {}: {}", path.display(), fault.message);
            return fault.hint("name a chart's directory, or an archive that `shipway helm package` wrote");
        }
        fault
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> Fault {
    Fault::new(Class::Unavailable, format!("cannot read {}: {error}", path.display()))
}

fn kube(version: Option<&str>, flavor: Flavor) -> Result<Option<KubeVersion>> {
    version
        .map(|version| {
            KubeVersion::parse(version, flavor)
                .map_err(|error| Fault::usage(format!("invalid kube version '{version}': {error}")))
        })
        .transpose()
}

fn warn(warnings: &Warnings) {
    for warning in warnings.take() {
        warned(warning);
    }
}

/// A line on how it goes. Work that has begun goes on, whether anybody reads it or not.
fn say(line: impl std::fmt::Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// The same on standard error.
fn warned(line: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn print(text: &str) -> Result<ExitCode> {
    match std::io::stdout().write_all(text.as_bytes()) {
        // Whoever reads has enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        Err(error) => Err(Fault::new(Class::Unavailable, format!("cannot write the output: {error}"))),
        Ok(()) => Ok(ExitCode::SUCCESS),
    }
}

fn fault(error: chart::Error) -> Fault {
    let class = match &error {
        chart::Error::Record(_) => Class::Internal,
        chart::Error::Release(_) => Class::Conflict,
        _ => Class::Failed,
    };
    Fault::new(class, error.to_string())
}
