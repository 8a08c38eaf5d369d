//! `shipway skaffold`: what a `skaffold.yaml` means, and the manifests that it makes.

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode};

use clap::{Args, Subcommand};
use kustomize::{Files, Inflate};
use skaffold::{Error, RenderOptions, Situation, Source};

use super::kustomize::{Disk, Fetched, Pulled, on_a_thread};
use crate::{
    clock,
    fault::{Class, Fault, Result},
};

const LATER: &str = "\
Examples:
  shipway skaffold diagnose --yaml-only                        the configuration as it counts
  shipway skaffold diagnose -p prod -m backend                 with a profile, of one module
  shipway skaffold render -i app=registry.example/app:1.2      the objects, an image named
  shipway skaffold render -p prod -o rendered.yaml             the objects of a profile, into a file

`build`, `run`, `dev`, `deploy`, `verify` and `test` are not there yet: they come with the pipelines.";

// What can be done with a `skaffold.yaml`.
#[derive(Debug, Subcommand)]
#[command(after_help = LATER)]
pub enum Command {
    /// Print the effective configuration: newest version, profiles applied, defaults filled in
    Diagnose(Diagnose),
    /// Print the Kubernetes objects of raw YAML, kustomizations and charts
    Render(Render),
}

/// Which configuration, and which parts of it.
#[derive(Debug, Args)]
pub struct Which {
    /// The file
    #[arg(short, long, value_name = "FILE", default_value = "skaffold.yaml", env = "SKAFFOLD_FILENAME")]
    filename: String,
    /// Profiles to apply; -NAME turns one off that activates itself
    #[arg(
        short,
        long,
        value_name = "NAME",
        value_delimiter = ',',
        allow_hyphen_values = true,
        env = "SKAFFOLD_PROFILE"
    )]
    profile: Vec<String>,
    /// Only the configurations of these names, with what they require
    #[arg(short, long, value_name = "NAME", value_delimiter = ',', env = "SKAFFOLD_MODULE")]
    module: Vec<String>,
    /// Whether profiles may activate themselves
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    profile_auto_activation: bool,
    /// Whether the profiles hold in required configurations too
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    propagate_profiles: bool,
    /// The Kubernetes context that profiles ask about [default: none]
    #[arg(long, value_name = "NAME", env = "SKAFFOLD_KUBE_CONTEXT")]
    kube_context: Option<String>,
    /// Fetch what is not in the files: required repositories, remote bases and charts
    #[arg(long)]
    allow_remote: bool,
}

#[derive(Debug, Args)]
pub struct Diagnose {
    #[command(flatten)]
    which: Which,
    /// Only the configuration, without what is said about its artifacts
    #[arg(long)]
    yaml_only: bool,
    /// Write here instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Render {
    #[command(flatten)]
    which: Which,
    /// The image to use for an artifact: NAME=REFERENCE, or REFERENCE when it begins with the name; others stay as they are written
    #[arg(short, long, value_name = "NAME=REFERENCE")]
    images: Vec<String>,
    /// The namespace of releases
    #[arg(short, long, default_value = "")]
    namespace: String,
    /// Inflate helmCharts of kustomizations too
    #[arg(long)]
    enable_helm: bool,
    /// Write here instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub async fn main(command: Command) -> Result<ExitCode> {
    match command {
        Command::Diagnose(options) => on_a_thread(move |runtime| diagnose(&options, runtime)).await,
        Command::Render(options) => on_a_thread(move |runtime| render(&options, runtime)).await,
    }
}

/// Required configurations from git.
struct Repositories<'a>(&'a Fetched);

impl skaffold::Remote for Repositories<'_> {
    fn fetch(&self, source: &Source) -> std::result::Result<(Box<dyn Files>, String), String> {
        let Source::Git { repository, path, reference } = source else {
            return Err("only git repositories are fetched: keep a copy beside the file".to_owned());
        };
        let address = kustomize::Address {
            repository: repository.clone(),
            path: String::new(),
            reference: reference.clone(),
            timeout: 120,
            submodules: false,
        };
        let directory = self.0.checkout(&address)?;
        let files = super::kustomize::disk::Rooted::new(directory).map_err(|error| error.to_string())?;
        Ok((Box::new(files), kustomize::path::clean(&format!("/{path}"))))
    }
}

fn fault(error: Error) -> Fault {
    let class = match &error {
        Error::Missing { .. } | Error::MissingDependency { .. } | Error::NoProfile(_) => Class::NotFound,
        Error::Remote(_) => Class::Unavailable,
        Error::Unsupported(_) | Error::Render { .. } => Class::Failed,
        _ => Class::Usage,
    };
    Fault::new(class, error.to_string())
}

fn load(which: &Which, command: &str, absolute: Option<bool>, fetched: &Fetched) -> Result<skaffold::Loaded> {
    let here = std::env::current_dir().map_err(|error| Fault::usage(format!("cannot tell where this is: {error}")))?;
    let here = here.to_string_lossy().into_owned();
    let env = |name: &str| std::env::var(name).ok();
    let home = env("HOME").unwrap_or_default();
    let random = uuid();
    let remote = Repositories(fetched);
    let options = skaffold::Options {
        directory: &here,
        profiles: &which.profile,
        modules: &which.module,
        propagate_profiles: which.propagate_profiles,
        absolute,
        situation: Situation {
            command,
            env: &env,
            kube_context: which.kube_context.as_deref().unwrap_or_default(),
            kube_context_given: which.kube_context.is_some(),
            kube_namespace: "",
            home: &home,
            random: &random,
            auto_activation: which.profile_auto_activation,
        },
        remote: which.allow_remote.then_some(&remote as &dyn skaffold::Remote),
    };
    // The other name that people give the file.
    let file = match which.filename.as_str() {
        "skaffold.yaml" if !Disk.is_dir("skaffold.yaml") && Disk.canonical("skaffold.yaml").is_none() => {
            skaffold::NAMES.into_iter().find(|name| Disk.canonical(name).is_some()).unwrap_or("skaffold.yaml")
        }
        named => named,
    };
    let loaded = skaffold::load(&Disk, file, &options).map_err(fault)?;
    loaded.warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
    Ok(loaded)
}

/// New each time.
fn uuid() -> String {
    format!("-{:x}", clock::now().as_nanosecond())
}

fn write(text: &str, output: Option<&PathBuf>) -> Result<ExitCode> {
    match output {
        None => print!("{text}"),
        Some(file) => std::fs::write(file, text)
            .map_err(|error| Fault::new(Class::Unavailable, format!("cannot write {}: {error}", file.display())))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn diagnose(options: &Diagnose, runtime: tokio::runtime::Handle) -> Result<ExitCode> {
    let fetched = Fetched::new(runtime);
    let loaded = load(&options.which, "diagnose", Some(true), &fetched)?;
    let mut text = String::new();
    if !options.yaml_only {
        text.push_str(&format!("Configuration version: skaffold/{}\n", skaffold::Version::newest().name()));
        let artifacts: Vec<_> = loaded.entries.iter().flat_map(|entry| &entry.config.build.artifacts).collect();
        text.push_str(&format!("Number of artifacts: {}\n", artifacts.len()));
        for artifact in artifacts {
            let builder = match artifact.builder() {
                Some(skaffold::Builder::Docker(docker)) => format!("Dockerfile {}", docker.dockerfile),
                Some(skaffold::Builder::Kaniko(kaniko)) => format!("Dockerfile {} (kaniko)", kaniko.dockerfile),
                Some(skaffold::Builder::Custom(custom)) => format!("command {:?}", custom.build_command),
                _ => artifact.unsupported().unwrap_or_default(),
            };
            text.push_str(&format!("\n{}\n - Context: {}\n - Builder: {builder}\n", artifact.image, artifact.context));
        }
        text.push_str("\nConfiguration\n");
    }
    text.push_str(&loaded.text());
    write(&text, options.output.as_ref())
}

fn render(options: &Render, runtime: tokio::runtime::Handle) -> Result<ExitCode> {
    let pulled = Pulled::new(runtime.clone(), chart::Flavor::default());
    let fetched = Fetched::new(runtime);
    let allowed = options.which.allow_remote;
    let mut images = BTreeMap::new();
    for argument in &options.images {
        let (name, reference) = match argument.split_once('=') {
            Some(pair) => pair,
            None => (skaffold::image_name(argument), argument.as_str()),
        };
        if name.is_empty() || reference.is_empty() || name == argument {
            let message = format!(
                "-i {argument:?} names no image to use: write NAME=REFERENCE, or REFERENCE with a tag or digest"
            );
            return Err(Fault::usage(message));
        }
        images.insert(name.to_owned(), reference.to_owned());
    }
    let loaded = load(&options.which, "render", None, &fetched)?;
    let inflate =
        Inflate { fetch: allowed.then_some(&pulled as &dyn kustomize::Fetch), now: clock::now(), ..Inflate::new() };
    let how = RenderOptions {
        images: &images,
        env: &|name| std::env::var(name).ok(),
        namespace: &options.namespace,
        kustomize: kustomize::Options {
            charts: options.enable_helm.then_some(&inflate as &dyn kustomize::Charts),
            remote: allowed.then_some(&fetched as &dyn kustomize::Remote),
            ..kustomize::Options::default()
        },
        charts: allowed.then_some(&pulled as &dyn skaffold::Charts),
        flavor: chart::Flavor::default(),
        now: clock::now(),
        seed: 0,
    };
    let rendered = skaffold::render(&Disk, &loaded.entries, &how).map_err(fault)?;
    rendered.warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
    if !rendered.unused.is_empty() {
        let artifacts = loaded.entries.iter().flat_map(|entry| &entry.config.build.artifacts);
        let known: Vec<&str> = artifacts.map(|artifact| artifact.image.as_str()).collect();
        let known =
            if known.is_empty() { "there are none".to_owned() } else { format!("there are: {}", known.join(", ")) };
        let message =
            format!("-i {}: this is no artifact, and no object has such an image", rendered.unused.join(", "));
        return Err(Fault::usage(message).hint(format!("the names of artifacts count; {known}")));
    }
    write(&rendered.text(), options.output.as_ref())
}
