//! `helm lint`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitCode,
};

use chart::{
    Render, Tree, Warnings,
    lint::{Severity, lint},
    load::{Limits, unpack},
};
use clap::Args;

use super::{Compatible, Values, connect::Target, disk::Disk, fault, kube, named, print, unreadable, warned};
use crate::{clock, fault::Result};

// Flags of `helm lint`.
#[derive(Debug, Args)]
pub struct Options {
    /// Directories or archives of charts
    #[arg(default_value = ".")]
    charts: Vec<PathBuf>,
    #[command(flatten)]
    values: Values,
    #[command(flatten)]
    target: Target,
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
    let mut render = Render::offline(flavor, "test-release", &options.target.namespace());
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
        let tree = match tree(chart) {
            Ok(tree) => tree,
            Err(fault) => {
                print(&format!("==> Linting {}\nError {}\n\n", chart.display(), fault.message))?;
                failed += 1;
                continue;
            }
        };
        let findings = match lint(tree.as_ref(), &directory.display().to_string(), &values, &render, &warnings) {
            Ok(findings) => findings,
            Err(error) => {
                print(&format!("==> Linting {}\nError {}\n\n", chart.display(), fault(error).message))?;
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
        let shown: String = shown.iter().map(|finding| format!("{finding}\n")).collect();
        print(&format!("==> Linting {}\n{shown}\n", chart.display()))?;
    }
    let summary = format!("{linted} chart(s) linted, {failed} chart(s) failed");
    if failed > 0 {
        warned(format!("Error: {summary}"));
        return Ok(ExitCode::FAILURE);
    }
    if !options.quiet {
        print(&format!("{summary}\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A chart's directory, or what is in its archive.
fn tree(path: &Path) -> Result<Box<dyn Tree>> {
    if !path.is_file() {
        return Ok(Box::new(Disk::new(path).map_err(|error| unreadable(path, &error))?));
    }
    let archive = std::fs::read(path).map_err(|error| unreadable(path, &error))?;
    let files = unpack(&archive, &Limits::default()).map_err(named(path))?;
    Ok(Box::new(files.into_iter().map(|file| (file.name, file.data)).collect::<BTreeMap<_, _>>()))
}
