//! `helm lint`.

use std::{path::PathBuf, process::ExitCode};

use chart::{
    Render, Warnings,
    lint::{Severity, lint},
};
use clap::Args;

use super::{Compatible, Values, disk::Disk, fault, kube, unreadable};
use crate::{clock, fault::Result};

/// Flags of `helm lint`.
#[derive(Debug, Args)]
pub struct Options {
    /// Directories of charts
    #[arg(default_value = ".")]
    charts: Vec<PathBuf>,
    #[command(flatten)]
    values: Values,
    #[arg(short, long, default_value = "default")]
    namespace: String,
    /// Warnings fail too
    #[arg(long)]
    strict: bool,
    /// Print only warnings and errors
    #[arg(long)]
    quiet: bool,
    /// The charts under charts/ too
    #[arg(long)]
    with_subcharts: bool,
    #[arg(long, value_name = "VERSION")]
    kube_version: Option<String>,
    #[arg(long)]
    skip_schema_validation: bool,
    #[arg(long, value_enum, default_value_t = Compatible::Helm4)]
    compatible: Compatible,
}

pub fn main(options: &Options) -> Result<ExitCode> {
    let flavor = options.compatible.flavor();
    let values = options.values.merge(flavor)?;
    let mut charts = options.charts.clone();
    if options.with_subcharts {
        let below = |chart: &PathBuf| {
            let entries = std::fs::read_dir(chart.join("charts")).into_iter().flatten().flatten();
            entries.map(|entry| entry.path()).filter(|path| path.join("Chart.yaml").exists()).collect::<Vec<_>>()
        };
        charts.extend(options.charts.iter().flat_map(below));
    }
    let mut render = Render::offline(flavor, "test-release", &options.namespace);
    render.options.now = clock::now();
    render.options.lint = true;
    render.skip_schema = options.skip_schema_validation;
    if let Some(kube) = kube(options.kube_version.as_deref(), flavor)? {
        render.capabilities.kube = kube;
    }
    let (mut linted, mut failed) = (0, 0);
    for chart in &charts {
        let warnings = Warnings::default();
        let directory = chart.canonicalize().unwrap_or_else(|_| chart.clone());
        let disk = Disk::new(chart).map_err(|error| unreadable(chart, &error))?;
        let findings = match lint(&disk, &directory.display().to_string(), &values, &render, &warnings) {
            Ok(findings) => findings,
            Err(error) => {
                println!("==> Linting {}\nError {}\n", chart.display(), fault(error).message);
                failed += 1;
                continue;
            }
        };
        linted += 1;
        let tolerated = if options.strict { Severity::Warning } else { Severity::Error };
        failed += usize::from(findings.iter().any(|finding| finding.severity >= tolerated));
        let shown: Vec<_> =
            findings.iter().filter(|finding| !options.quiet || finding.severity > Severity::Info).collect();
        if options.quiet && shown.is_empty() {
            continue;
        }
        println!("==> Linting {}", chart.display());
        shown.iter().for_each(|finding| println!("{finding}"));
        println!();
    }
    let summary = format!("{linted} chart(s) linted, {failed} chart(s) failed");
    if failed > 0 {
        eprintln!("Error: {summary}");
        return Ok(ExitCode::FAILURE);
    }
    if !options.quiet {
        println!("{summary}");
    }
    Ok(ExitCode::SUCCESS)
}
