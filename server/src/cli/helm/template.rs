//! `helm template`.

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use chart::{
    Render, Warnings,
    render::{PostRenderer, Shown},
};
use clap::Args;

use super::{
    Compatible, Values,
    connect::Target,
    fault, filter, kube, print,
    reference::{self, Origin},
    say, warn, warned,
};
use crate::{
    clock,
    fault::{Class, Fault, Result},
};

/// Flags of `helm template`.
#[derive(Debug, Args)]
pub struct Options {
    /// [NAME] CHART
    #[arg(required = true, num_args = 1..=2, value_name = "NAME CHART")]
    names: Vec<String>,
    #[command(flatten)]
    values: Values,
    #[command(flatten)]
    origin: Origin,
    /// Name the release `release-name`, as without any name
    #[arg(short, long)]
    generate_name: bool,
    /// A template that makes the name, from the seed: 'web-{{ randAlphaNum 5 | lower }}'
    #[arg(long, value_name = "TEMPLATE", conflicts_with = "generate_name")]
    name_template: Option<String>,
    #[command(flatten)]
    target: Target,
    /// Only the documents of these templates (patterns, relative to the chart)
    #[arg(short, long, value_name = "PATTERN")]
    show_only: Vec<String>,
    /// Write the documents into files under this directory
    #[arg(long, value_name = "DIR")]
    output_dir: Option<PathBuf>,
    /// Put the release's name between the output directory and the files
    #[arg(long)]
    release_name: bool,
    /// The definitions of custom resources too
    #[arg(long)]
    include_crds: bool,
    /// Without them, as it is anyway
    #[arg(long, hide = true)]
    skip_crds: bool,
    /// Without tests
    #[arg(long)]
    skip_tests: bool,
    /// Without hooks
    #[arg(long)]
    no_hooks: bool,
    /// Fetch the charts that are missing among the dependencies first
    #[arg(long)]
    dependency_update: bool,
    /// Set .Release.IsUpgrade
    #[arg(long)]
    is_upgrade: bool,
    /// The version of Kubernetes that templates are told
    #[arg(long, value_name = "VERSION")]
    kube_version: Option<String>,
    /// APIs that templates are told the cluster has
    #[arg(short, long, value_name = "API", value_delimiter = ',')]
    api_versions: Vec<String>,
    /// Do not hold the values against the chart's schema
    #[arg(long)]
    skip_schema_validation: bool,
    /// A program that changes the documents on their way: standard input to standard output
    #[arg(long, value_name = "PROGRAM")]
    post_renderer: Option<PathBuf>,
    /// Arguments of that program
    #[arg(long, value_name = "ARGUMENT", allow_hyphen_values = true)]
    post_renderer_args: Vec<String>,
    /// What everything random is made from; the same seed gives the same output
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Whose output is wanted where versions of Helm differ
    #[arg(long, value_enum, default_value_t = Compatible::Helm4)]
    compatible: Compatible,
}

pub async fn main(options: &Options) -> Result<ExitCode> {
    let (name, path) = match options.names.as_slice() {
        [_, _, ..] if options.generate_name => {
            return Err(Fault::usage("cannot set --generate-name and also specify a name"));
        }
        [_, _, ..] if options.name_template.is_some() => {
            return Err(Fault::usage("cannot set --name-template and also specify a name"));
        }
        [path] => match &options.name_template {
            Some(text) => {
                let name = helm::action::templated_name(text, options.seed, clock::now());
                (name.map_err(super::flags::fault)?, path)
            }
            None => ("release-name".to_owned(), path),
        },
        [name, path, ..] => (name.clone(), path),
        [] => return Err(Fault::usage("name a chart")),
    };
    let name = name.as_str();
    helm::action::check_name(name)
        .map_err(|error| Fault::usage(format!("release name check failed: release name {name:?}: {error}")))?;
    let namespace = options.target.namespace();
    let flavor = options.compatible.flavor();
    let warnings = Warnings::default();
    let values = options.values.merge(flavor)?;
    let chart = reference::application(path, &options.origin, options.dependency_update, flavor, &warnings).await?;
    if chart.metadata.deprecated {
        warned("WARNING: This chart is deprecated");
    }
    let filter = options
        .post_renderer
        .as_deref()
        .map(|program| move |text: &str| filter::filtered(program, &options.post_renderer_args, text));
    let mut render = Render::offline(flavor, name, &namespace);
    render.options.now = clock::now();
    render.options.seed = options.seed;
    render.cache = Some(Arc::default());
    render.release.is_upgrade = options.is_upgrade;
    // As with helm, the one flag does not take back the other.
    tracing::debug!(
        skip_crds = options.skip_crds,
        "definitions of custom resources are left out unless they are asked for"
    );
    render.include_crds = options.include_crds;
    render.skip_schema = options.skip_schema_validation;
    if let Some(kube) = kube(options.kube_version.as_deref(), flavor)? {
        render.capabilities.kube = kube;
    }
    render.capabilities.api_versions.extend(options.api_versions.iter().cloned());
    render.post_renderer = filter.as_ref().map(|filter| filter as PostRenderer<'_>);
    let rendered = render.run(&chart, &values, &warnings);
    warn(&warnings);
    let rendered = rendered.map_err(fault)?;
    // This process ends in a moment: giving the memory of all parsed templates back piece by piece is a sixth of its time.
    std::mem::forget((render, chart, values));
    let shown = Shown { no_hooks: options.no_hooks, skip_tests: options.skip_tests, only: options.show_only.clone() };
    let Some(directory) = &options.output_dir else {
        return print(&rendered.print(&shown, flavor).map_err(fault)?);
    };
    let directory = if options.release_name { directory.join(name) } else { directory.clone() };
    for (path, text) in rendered.files(&shown, options.include_crds) {
        // Paths of templates are clean and relative: the loader has seen to it.
        let file = directory.join(path);
        let written = file.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(&file, text));
        written.map_err(|e| Fault::new(Class::Unavailable, format!("cannot write {}: {e}", file.display())))?;
        say(format!("wrote {}", file.display()));
    }
    Ok(ExitCode::SUCCESS)
}
