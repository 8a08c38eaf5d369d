//! `helm template`.

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use chart::{Capabilities, Render, Rendered, Warnings, render::Shown};
use clap::Args;
use helm::{Deploy, Source, action::Asked};

use super::{
    Compatible, Values,
    connect::Target,
    fault,
    filter::PostRenderer,
    flags::Trial,
    kube, print,
    reference::{self, Origin, Use},
    say, warn, warned,
};
use crate::{
    clock,
    fault::{Class, Fault, Result},
};

// Flags of `helm template`.
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
    /// `server`: what templates are told and look up is the cluster's, and the objects must be such that it would take them
    #[arg(long, value_enum, value_name = "HOW", num_args = 0..=1, require_equals = true, default_missing_value = "client")]
    dry_run: Option<Trial>,
    /// helm 4: the same as --dry-run=server; with --compatible 3 as helm 3 has it, without look-ups
    #[arg(long)]
    validate: bool,
    /// Let templates look up names of hosts
    #[arg(long)]
    enable_dns: bool,
    #[command(flatten)]
    post_renderer: PostRenderer,
    /// What everything random is made from; the same seed gives the same output
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Whose output is wanted where versions of Helm differ
    #[arg(long, value_enum, default_value_t = Compatible::Helm4)]
    compatible: Compatible,
}

pub async fn main(options: &Options, debug: bool) -> Result<ExitCode> {
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
    let asked = options.asked()?;
    let offline = !asked.cluster() && !options.enable_dns;
    let becomes = if offline { Use::Shown } else { Use::Stored };
    let chart =
        reference::application(path, &options.origin, options.dependency_update, flavor, &warnings, becomes).await?;
    if chart.metadata.deprecated {
        warned("WARNING: This chart is deprecated");
    }
    let filter = options.post_renderer.filter(flavor)?;
    if !offline {
        let source = Source { chart, values, filter, seed: options.seed, flavor };
        let rendered = options.with_cluster(name, namespace, &source, asked).await?;
        return options.show(&rendered, name);
    }
    let filter = filter.as_ref().map(|filter| move |text: &str| filter(text));
    let mut render = Render::offline(flavor, name, &namespace);
    render.options.now = clock::now();
    render.options.seed = options.seed;
    render.cache = Some(Arc::default());
    render.last = true;
    render.release.is_upgrade = options.is_upgrade;
    // As with helm, the one flag does not take back the other.
    if options.skip_crds {
        tracing::debug!("definitions of custom resources are left out anyway, unless --include-crds asks for them");
    }
    render.include_crds = options.include_crds;
    render.skip_schema = options.skip_schema_validation;
    if let Some(kube) = kube(options.kube_version.as_deref(), flavor)? {
        render.capabilities.kube = kube;
    }
    render.capabilities.api_versions.extend(options.api_versions.iter().cloned());
    render.post_renderer = filter.as_ref().map(|filter| filter as chart::render::PostRenderer<'_>);
    let rendered = render.run(&chart, &values, &warnings);
    warn(&warnings);
    let rendered = rendered.map_err(|error| unusable(error, debug))?;
    // This process ends in a moment: giving the memory of all parsed templates back piece by piece is a sixth of its time.
    std::mem::forget((render, chart, values));
    options.show(&rendered, name)
}

/// An error of rendering. Of text that is no YAML, `--debug` prints all that there is of it.
fn unusable(error: chart::Error, debug: bool) -> Fault {
    let rendered = match &error {
        chart::Error::Manifest { rendered, .. } => rendered.clone(),
        _ => String::new(),
    };
    let fault = fault(error);
    match (rendered.as_str(), debug) {
        ("", _) => fault,
        (_, false) => fault.hint("--debug prints what was rendered"),
        (text, true) => match print(text) {
            Ok(_) => fault,
            Err(unwritten) => unwritten,
        },
    }
}

impl Options {
    /// What the cluster is asked for, by the rules of either helm.
    fn asked(&self) -> Result<Asked> {
        let server = match self.dry_run {
            None | Some(Trial::Client) => false,
            Some(Trial::Server) => true,
            Some(Trial::None) => {
                return Err(Fault::usage("invalid dry-run value (\"none\"). Must be \"server\" or \"client\""));
            }
        };
        match self.compatible {
            Compatible::Helm3 => Ok(Asked { told: self.validate, lookup: server, objects: self.validate }),
            Compatible::Helm4 if self.validate && self.dry_run.is_some() => Err(Fault::usage(
                "if any flags in the group [validate dry-run] are set none of the others can be; [dry-run validate] were all set",
            )),
            Compatible::Helm4 => {
                if self.validate {
                    warned("Flag --validate has been deprecated, use '--dry-run=server' instead");
                }
                let asked = server || self.validate;
                Ok(Asked { told: asked, lookup: asked, objects: asked })
            }
        }
    }

    async fn with_cluster(&self, name: &str, namespace: String, source: &Source, asked: Asked) -> Result<Rendered> {
        let mut offline = Capabilities::offline(source.flavor);
        if let Some(kube) = kube(self.kube_version.as_deref(), source.flavor)? {
            offline.kube = kube;
        }
        offline.api_versions.extend(self.api_versions.iter().cloned());
        let deploy = Deploy {
            name: name.to_owned(),
            namespace,
            is_upgrade: self.is_upgrade,
            include_crds: self.include_crds,
            skip_crds: self.skip_crds,
            skip_schema: self.skip_schema_validation,
            dns: self.enable_dns,
            ..Deploy::default()
        };
        let cluster = match asked.cluster() {
            true => Some(self.target.cluster().await?),
            false => None,
        };
        let done = helm::action::template(cluster.as_ref(), source, &deploy, asked, offline, clock::now()).await;
        let (rendered, warnings) = done.map_err(super::flags::fault)?;
        warnings.into_iter().for_each(warned);
        Ok(rendered)
    }

    fn show(&self, rendered: &Rendered, name: &str) -> Result<ExitCode> {
        let shown = Shown { no_hooks: self.no_hooks, skip_tests: self.skip_tests, only: self.show_only.clone() };
        let Some(directory) = &self.output_dir else {
            return print(&rendered.print(&shown, self.compatible.flavor()).map_err(fault)?);
        };
        let directory = if self.release_name { directory.join(name) } else { directory.clone() };
        for (path, text) in rendered.files(&shown, self.include_crds) {
            // Paths of templates are clean and relative: the loader has seen to it.
            let file = directory.join(path);
            let written =
                file.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(&file, text));
            written.map_err(|e| Fault::new(Class::Unavailable, format!("cannot write {}: {e}", file.display())))?;
            say(format!("wrote {}", file.display()));
        }
        Ok(ExitCode::SUCCESS)
    }
}
