//! `shipway kustomize`: what people know from `kustomize`, done in this process.

mod charts;
pub mod disk;
mod edit;
mod remote;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Subcommand, ValueEnum};
use kustomize::{Inflate, LoadRestrictor};

pub use charts::Pulled;
pub use disk::Disk;
pub use remote::Fetched;

use super::helm::Compatible;
use crate::{
    clock,
    fault::{Class, Fault, Result},
};

/// What can be done with kustomizations.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub enum Command {
    /// Build a kustomization and print its objects
    Build(Box<Build>),
    /// Make a kustomization file in this directory
    Create(edit::Create),
    /// Change the kustomization file of this directory; its comments and order stay
    #[command(subcommand)]
    Edit(Box<edit::Change>),
}

/// Which files a kustomization may read.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub enum Restrictor {
    #[default]
    #[value(name = "LoadRestrictionsRootOnly")]
    RootOnly,
    #[value(name = "LoadRestrictionsNone")]
    None,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, ValueEnum)]
pub enum Reorder {
    #[default]
    Legacy,
    None,
}

#[derive(Debug, Args)]
pub struct Build {
    /// The directory of the kustomization
    #[arg(default_value = ".")]
    directory: PathBuf,
    /// Write here instead of standard output; into a directory, one file an object
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,
    /// Which files it may read
    #[arg(long, value_name = "WHICH", default_value = "LoadRestrictionsRootOnly")]
    load_restrictor: Restrictor,
    /// The order of the objects, where the kustomization does not say
    #[arg(long, default_value = "legacy")]
    reorder: Reorder,
    /// Inflate helmCharts, with Shipway's own engine
    #[arg(long)]
    enable_helm: bool,
    /// APIs that charts are told the cluster has
    #[arg(long, value_name = "API", value_delimiter = ',')]
    helm_api_versions: Vec<String>,
    /// The version of Kubernetes that charts are told
    #[arg(long, value_name = "VERSION", default_value = "")]
    helm_kube_version: String,
    /// Whose output charts have where versions of Helm differ
    #[arg(long, value_enum, default_value_t = Compatible::Helm4)]
    helm_compatible: Compatible,
    /// Fetch what is not in the files: git repositories, files and charts, by https, http and ssh
    #[arg(long)]
    allow_remote: bool,
    /// Refused: plugins that run programs are not supported
    #[arg(long)]
    enable_alpha_plugins: bool,
    /// Refused: plugins that run programs are not supported
    #[arg(long)]
    enable_exec: bool,
    /// Add the label app.kubernetes.io/managed-by
    #[arg(long)]
    enable_managedby_label: bool,
}

pub async fn main(command: Command) -> Result<ExitCode> {
    match command {
        Command::Build(options) => on_a_thread(move |runtime| build(&options, runtime)).await,
        Command::Create(options) => edit::create(&options),
        Command::Edit(change) => edit::main(*change),
    }
}

/// Runs what blocks, with a way to wait for what does not.
pub async fn on_a_thread(
    work: impl FnOnce(tokio::runtime::Handle) -> Result<ExitCode> + Send + 'static,
) -> Result<ExitCode> {
    let runtime = tokio::runtime::Handle::current();
    let done = tokio::task::spawn_blocking(move || work(runtime)).await;
    done.unwrap_or_else(|error| Err(Fault::new(Class::Internal, format!("the work was cut short: {error}"))))
}

fn wrong(error: kustomize::Error) -> Fault {
    Fault::usage(error.to_string())
}

fn unavailable(path: &Path, error: &std::io::Error) -> Fault {
    Fault::new(Class::Unavailable, format!("cannot write {}: {error}", path.display()))
}

fn build(options: &Build, runtime: tokio::runtime::Handle) -> Result<ExitCode> {
    if options.enable_alpha_plugins || options.enable_exec {
        return Err(Fault::usage("plugins that run programs or containers are not supported")
            .hint("the built-in generators and transformers need no flag"));
    }
    let flavor = options.helm_compatible.flavor();
    let pulled = Pulled::new(runtime.clone(), flavor);
    let remote = Fetched::new(runtime);
    let inflate = Inflate {
        fetch: options.allow_remote.then_some(&pulled as &dyn kustomize::Fetch),
        flavor,
        now: clock::now(),
        api_versions: options.helm_api_versions.clone(),
        kube_version: options.helm_kube_version.clone(),
        ..Inflate::new()
    };
    let how = kustomize::Options {
        load_restrictor: match options.load_restrictor {
            Restrictor::RootOnly => LoadRestrictor::RootOnly,
            Restrictor::None => LoadRestrictor::None,
        },
        keep_order: options.reorder == Reorder::None,
        managed_by: options.enable_managedby_label,
        charts: options.enable_helm.then_some(&inflate as &dyn kustomize::Charts),
        remote: options.allow_remote.then_some(&remote as &dyn kustomize::Remote),
        ..Default::default()
    };
    let built = kustomize::build(&Disk, &options.directory.to_string_lossy(), &how).map_err(wrong)?;
    for warning in &built.warnings {
        eprintln!("{warning}");
    }
    match &options.output {
        None => print!("{}", built.text()),
        Some(directory) if directory.is_dir() => {
            for object in &built.objects {
                // The names come from the objects: nothing in them may lead out of the directory.
                let id = &object.id;
                let safe = |text: &str| text.to_lowercase().replace(['/', '\\', ':'], "_");
                let group = if id.gvk.group.is_empty() { String::new() } else { format!("{}_", safe(&id.gvk.group)) };
                let name = format!("{group}{}_{}_{}.yaml", safe(&id.gvk.version), safe(&id.gvk.kind), safe(&id.name));
                let path = directory.join(name);
                std::fs::write(&path, yaml::to_go(&object.value)).map_err(|error| unavailable(&path, &error))?;
            }
        }
        Some(file) => std::fs::write(file, built.text()).map_err(|error| unavailable(file, &error))?,
    }
    Ok(ExitCode::SUCCESS)
}
