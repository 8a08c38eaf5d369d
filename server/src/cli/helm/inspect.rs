//! `helm show` and `helm dependency`.

use std::{path::PathBuf, process::ExitCode};

use chart::{Chart, Flavor, Warnings, version::compatible};
use clap::Subcommand;

use super::{load, print};
use crate::fault::Result;

/// What to show of a chart.
#[derive(Debug, Subcommand)]
pub enum Show {
    /// Its metadata, values, README and custom resource definitions
    All { chart: PathBuf },
    /// Its metadata
    Chart { chart: PathBuf },
    /// Its values, with their comments
    Values { chart: PathBuf },
    /// Its README
    Readme { chart: PathBuf },
    /// Its custom resource definitions
    Crds { chart: PathBuf },
}

/// What to do about the charts that a chart needs.
#[derive(Debug, Subcommand)]
pub enum Dependency {
    /// List them and say whether they are there
    #[command(alias = "ls")]
    List {
        #[arg(default_value = ".")]
        chart: PathBuf,
    },
}

pub fn show(show: &Show) -> Result<ExitCode> {
    let (Show::All { chart: path }
    | Show::Chart { chart: path }
    | Show::Values { chart: path }
    | Show::Readme { chart: path }
    | Show::Crds { chart: path }) = show;
    let chart = load(path, Flavor::Helm4, &Warnings::default())?;
    let text = |data: &[u8]| String::from_utf8_lossy(data).into_owned();
    let all = matches!(show, Show::All { .. });
    let mut out = String::new();
    if all || matches!(show, Show::Chart { .. }) {
        out.push_str(&format!("{}\n", chart.metadata.yaml()));
    }
    if (all || matches!(show, Show::Values { .. }))
        && let Some(values) = chart.raw("values.yaml")
    {
        if all {
            out.push_str("---\n");
        }
        out.push_str(&format!("{}\n", text(values)));
    }
    if all || matches!(show, Show::Readme { .. }) {
        let names = ["readme.md", "readme.txt", "readme"];
        if let Some(readme) = chart.files.iter().find(|file| names.contains(&file.name.to_lowercase().as_str())) {
            if all {
                out.push_str("---\n");
            }
            out.push_str(&format!("{}\n", text(&readme.data)));
        }
    }
    if all || matches!(show, Show::Crds { .. }) {
        crds(&chart, &mut out);
    }
    print(&out)
}

fn crds(chart: &Chart, out: &mut String) {
    for file in chart.files.iter().filter(|file| file.name.starts_with("crds/")) {
        let data = String::from_utf8_lossy(&file.data);
        if !data.starts_with("---") {
            out.push_str("---\n");
        }
        out.push_str(&format!("{data}\n"));
    }
    chart.dependencies.iter().for_each(|subchart| crds(subchart, out));
}

pub fn dependency(dependency: &Dependency) -> Result<ExitCode> {
    let Dependency::List { chart: path } = dependency;
    let chart = load(path, Flavor::Helm4, &Warnings::default())?;
    if chart.metadata.dependencies.is_empty() {
        eprintln!("WARNING: no dependencies at {}", path.display());
        return Ok(ExitCode::SUCCESS);
    }
    let mut rows = vec![["NAME", "VERSION", "REPOSITORY", "STATUS"].map(str::to_owned)];
    for wanted in &chart.metadata.dependencies {
        let found = chart.dependencies.iter().find(|subchart| subchart.name() == wanted.name);
        let status = match found {
            None => "missing",
            Some(found) if !compatible(&wanted.version, &found.metadata.version) => "wrong version",
            Some(_) if path.join("charts").join(&wanted.name).is_dir() => "unpacked",
            Some(_) => "ok",
        };
        rows.push([wanted.name.clone(), wanted.version.clone(), wanted.repository.clone(), status.to_owned()]);
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths = [width(0), width(1), width(2)];
    let mut out = String::new();
    for row in &rows {
        let cells: Vec<String> =
            row.iter().take(3).zip(widths).map(|(cell, width)| format!("{cell:<width$}\t")).collect();
        out.push_str(&format!("{}{}\n", cells.concat(), row[3]));
    }
    print(&out)
}
