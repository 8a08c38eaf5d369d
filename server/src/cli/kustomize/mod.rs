//! `shipway kustomize`: what people know from `kustomize`, done in this process.

mod charts;
pub mod disk;
mod edit;
mod localize;
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

use super::{Below, helm::Compatible};
use crate::{
    clock,
    fault::{Class, Fault, Result},
};

const EXAMPLES: &str = "\
Examples:
  shipway kustomize build deploy/prod                      print what a kustomization makes
  shipway kustomize build --enable-helm . -o out.yaml      into a file, helmCharts inflated
  shipway kustomize create --autodetect --namespace live   a kustomization of what is here
  shipway kustomize edit set image nginx=registry.example/nginx:1.27
  shipway kustomize localize deploy/prod --allow-remote     a copy that needs nothing from elsewhere
  shipway kustomize edit add configmap env --from-literal=A=1
  shipway kustomize edit add label team:shop --without-selector";

// What can be done with kustomizations.
#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES, defer = true)]
pub enum Command {
    /// Build a kustomization and print its objects
    Build(Box<Build>),
    /// Make a kustomization file in this directory
    Create(edit::Create),
    /// Change the kustomization file of this directory; its comments and order stay
    Edit(Box<Below<edit::Change>>),
    /// Copy a kustomization and all it names into a new directory, what is elsewhere too
    Localize(localize::Options),
    /// Not there: objects are changed by patches and transformers
    #[command(hide = true)]
    Cfg(Absent),
    /// Not there: functions are programs of others
    #[command(hide = true)]
    Fn(Absent),
}

// Whatever is given to a command that there is not.
#[derive(Debug, Args)]
pub struct Absent {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    given: Vec<String>,
}

impl Absent {
    fn refuse(&self, name: &str, hint: &str) -> Result<ExitCode> {
        let given = self.given.iter().flat_map(|word| [" ", word]).collect::<String>();
        Err(Fault::usage(format!("there is no `shipway kustomize {name}{given}`")).hint(hint))
    }
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
        Command::Edit(change) => edit::main(change.below),
        Command::Localize(options) => on_a_thread(move |runtime| localize::main(&options, runtime)).await,
        Command::Cfg(absent) => absent.refuse(
            "cfg",
            "`shipway render PATH` prints and lists objects, `shipway render --explain KIND/NAME.field` shows one, patches and `shipway kustomize edit` change them",
        ),
        Command::Fn(absent) => absent.refuse(
            "fn",
            "functions that run programs or containers are not supported; the built-in generators and transformers are, in `generators` and `transformers`",
        ),
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
    let class = match error.root() {
        kustomize::Error::Missing(_) | kustomize::Error::Absent(_) => Class::NotFound,
        _ => Class::Usage,
    };
    Fault::new(class, error.to_string())
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
