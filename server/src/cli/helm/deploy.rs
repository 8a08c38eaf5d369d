//! `helm install` and `helm upgrade`.

use std::process::ExitCode;

use chart::{Flavor, Warnings, release::Record};
use clap::Args;
use helm::{Deploy, DryRun, Reuse, Source};

use super::{
    Values,
    connect::Target,
    filter::PostRenderer,
    flags::{self, Format, Trial, Waiting, Writing, failed},
    print,
    reference::{self, Origin, Use},
    say, show, warn, warned,
};
use crate::{
    clock,
    fault::{Class, Fault, Result},
};

// What install and upgrade have in common.
#[derive(Debug, Args)]
struct Common {
    #[command(flatten)]
    values: Values,
    #[command(flatten)]
    origin: Origin,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    waiting: Waiting,
    #[command(flatten)]
    writing: Writing,
    /// With --wait: until Jobs have ended, too
    #[arg(long)]
    wait_for_jobs: bool,
    /// When it fails, go back to the revision before (or uninstall what was installed)
    #[arg(long, visible_alias = "atomic")]
    rollback_on_failure: bool,
    /// Only show what would be done; `server` asks the cluster what templates want to know
    #[arg(long, value_enum, value_name = "HOW", num_args = 0..=1, require_equals = true, default_missing_value = "client")]
    dry_run: Option<Trial>,
    /// With --dry-run: name Secrets, do not show them
    #[arg(long)]
    hide_secret: bool,
    /// Make the namespace if it is not there
    #[arg(long)]
    create_namespace: bool,
    /// Without hooks
    #[arg(long)]
    no_hooks: bool,
    /// Without the chart's definitions of custom resources
    #[arg(long)]
    skip_crds: bool,
    /// Fetch the charts that are missing among the dependencies first
    #[arg(long)]
    dependency_update: bool,
    /// Say this of the revision
    #[arg(long, default_value = "", hide_default_value = true)]
    description: String,
    /// Labels of the stored release: a=1,b=2; an upgrade takes away what is `null`
    #[arg(short, long, value_name = "NAME=VALUE")]
    labels: Vec<String>,
    /// Take objects that are there into the release, whosever they are
    #[arg(long)]
    take_ownership: bool,
    /// The notes of subcharts too
    #[arg(long)]
    render_subchart_notes: bool,
    /// Do not print the notes
    #[arg(long)]
    hide_notes: bool,
    /// Do not hold the values against the chart's schema
    #[arg(long)]
    skip_schema_validation: bool,
    /// Let templates look up names of hosts
    #[arg(long)]
    enable_dns: bool,
    #[command(flatten)]
    post_renderer: PostRenderer,
    /// How the result is printed
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

impl Common {
    fn deploy(&self, name: &str) -> Result<Deploy> {
        Ok(Deploy {
            name: name.to_owned(),
            namespace: self.target.namespace(),
            dry_run: Trial::dry_run(self.dry_run),
            no_hooks: self.no_hooks,
            wait: self.waiting.strategy(),
            wait_for_jobs: self.wait_for_jobs,
            timeout: self.waiting.timeout,
            description: self.description.clone(),
            rollback_on_failure: self.rollback_on_failure,
            force_replace: self.writing.force_replace,
            force_conflicts: self.writing.force_conflicts,
            server_side: self.writing.server_side(),
            create_namespace: self.create_namespace,
            skip_crds: self.skip_crds,
            labels: flags::labels(&self.labels)?,
            take_ownership: self.take_ownership,
            skip_schema: self.skip_schema_validation,
            sub_notes: self.render_subchart_notes,
            hide_secrets: self.hide_secret,
            dns: self.enable_dns,
            ..Deploy::default()
        })
    }

    async fn source(&self, chart: &str) -> Result<Source> {
        let flavor = Flavor::Helm4;
        let warnings = Warnings::default();
        let values = self.values.merge(flavor)?;
        let chart =
            reference::application(chart, &self.origin, self.dependency_update, flavor, &warnings, Use::Stored).await?;
        warn(&warnings);
        if chart.metadata.deprecated {
            warned("WARNING: This chart is deprecated");
        }
        let filter = self.post_renderer.filter(flavor)?;
        Ok(Source { chart, values, filter, seed: seed()?, flavor })
    }

    fn shown(&self, record: &Record) -> Result<ExitCode> {
        let shown = show::Shown { hide_notes: self.hide_notes, ..show::Shown::default() };
        let document = show::document(record, true);
        print(&show::formatted(self.output, &document, || show::status(record, &shown))?)
    }
}

/// What everything random of one run is made from.
fn seed() -> Result<u64> {
    let mut seed = [0; 8];
    let filled = aws_lc_rs::rand::fill(&mut seed);
    filled.map_err(|_| Fault::new(Class::Internal, "this machine gives no random numbers"))?;
    Ok(u64::from_le_bytes(seed))
}

// Flags of `helm install`.
#[derive(Debug, Args)]
pub struct Install {
    /// [NAME] CHART
    #[arg(required = true, num_args = 1..=2, value_name = "NAME CHART")]
    names: Vec<String>,
    /// Make a name up
    #[arg(short, long)]
    generate_name: bool,
    /// A template that makes the name: 'web-{{ randAlphaNum 5 | lower }}'
    #[arg(long, value_name = "TEMPLATE")]
    name_template: Option<String>,
    /// Use a name again whose release is uninstalled or failed
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    common: Common,
}

/// Carries out `helm install`.
pub async fn install(options: &Install) -> Result<ExitCode> {
    let (name, reference) = match (options.names.as_slice(), options.generate_name) {
        ([_, _, ..], true) => {
            return Err(Fault::usage("INSTALLATION FAILED: cannot set --generate-name and also specify a name"));
        }
        ([_, _, ..], false) if options.name_template.is_some() => {
            return Err(Fault::usage("INSTALLATION FAILED: cannot set --name-template and also specify a name"));
        }
        ([chart], false) if options.name_template.is_some() => {
            let text = options.name_template.as_deref().unwrap_or_default();
            let name = helm::action::templated_name(text, seed()?, clock::now());
            (name.map_err(failed("INSTALLATION FAILED"))?, chart)
        }
        ([name, chart, ..], false) => (name.clone(), chart),
        ([chart], true) => (helm::action::generated_name(chart, clock::now()), chart),
        _ => {
            return Err(Fault::usage("INSTALLATION FAILED: must either provide a name or specify --generate-name"));
        }
    };
    let common = &options.common;
    let deploy = Deploy { replace: options.replace, ..common.deploy(&name)? };
    let record = run_install(common, reference, &deploy).await?;
    common.shown(&record)
}

async fn run_install(common: &Common, reference: &str, deploy: &Deploy) -> Result<Record> {
    let source = common.source(reference).await.map_err(|mut fault| {
        fault.message = format!("INSTALLATION FAILED: {}", fault.message);
        fault
    })?;
    let done = if deploy.dry_run == DryRun::Client {
        helm::action::preview(&source, deploy, clock::now()).await
    } else {
        common.target.helm(&deploy.name).await?.install(&source, deploy).await
    };
    done.map_err(failed("INSTALLATION FAILED"))
}

// Flags of `helm upgrade`.
#[derive(Debug, Args)]
pub struct Upgrade {
    name: String,
    chart: String,
    /// Install it if there is no such release
    #[arg(short, long)]
    install: bool,
    /// Forget the values given before
    #[arg(long)]
    reset_values: bool,
    /// The values given before over the chart's values as they were, and the new ones over them
    #[arg(long)]
    reuse_values: bool,
    /// The values given before over the new chart's values, and the new ones over them
    #[arg(long)]
    reset_then_reuse_values: bool,
    /// The most revisions to keep; 0 keeps all
    #[arg(long, value_name = "N", default_value_t = 10, env = "HELM_MAX_HISTORY", hide_env = true)]
    history_max: usize,
    /// Delete what the upgrade made when it fails
    #[arg(long)]
    cleanup_on_fail: bool,
    #[command(flatten)]
    common: Common,
}

/// Carries out `helm upgrade`.
pub async fn upgrade(options: &Upgrade) -> Result<ExitCode> {
    let common = &options.common;
    let reuse = match (options.reset_values, options.reuse_values, options.reset_then_reuse_values) {
        (true, ..) => Reuse::Never,
        (_, true, _) => Reuse::Whole,
        (.., true) => Reuse::Given,
        _ => Reuse::Unless,
    };
    let deploy = Deploy {
        reuse,
        history_max: options.history_max,
        cleanup_on_fail: options.cleanup_on_fail,
        ..common.deploy(&options.name)?
    };
    let helm = common.target.helm(&options.name).await?;
    if options.install && helm.installs(&options.name).await.map_err(flags::fault)? {
        if common.output == Format::Table {
            say(format!("Release {:?} does not exist. Installing it now.", options.name));
        }
        let deploy = Deploy { replace: true, ..deploy };
        let source = common.source(&options.chart).await?;
        let done = match deploy.dry_run {
            DryRun::Client => helm::action::preview(&source, &deploy, clock::now()).await,
            _ => helm.install(&source, &deploy).await,
        };
        return common.shown(&done.map_err(flags::fault)?);
    }
    let source = common.source(&options.chart).await?;
    let record = helm.upgrade(&source, &deploy).await.map_err(failed("UPGRADE FAILED"))?;
    if common.output == Format::Table {
        say(format!("Release {:?} has been upgraded. Happy Helming!", options.name));
    }
    common.shown(&record)
}
