//! `helm show`.

use std::process::ExitCode;

use chart::{Chart, Flavor, Warnings, jsonpath::JsonPath};
use clap::{Args, Subcommand};

use super::{
    print,
    reference::{self, Origin},
};
use crate::fault::{Fault, Result};

// What to show of a chart.
#[derive(Debug, Subcommand)]
pub enum Show {
    /// Its metadata, values, README and custom resource definitions
    #[command(disable_version_flag = true)]
    All(Box<Named>),
    /// Its metadata
    #[command(disable_version_flag = true)]
    Chart(Box<Named>),
    /// Its values, with their comments
    #[command(disable_version_flag = true)]
    Values(Box<NamedValues>),
    /// Its README
    #[command(disable_version_flag = true)]
    Readme(Box<Named>),
    /// Its custom resource definitions
    #[command(disable_version_flag = true)]
    Crds(Box<Named>),
}

// Which chart.
#[derive(Debug, Args)]
pub struct Named {
    /// A path, oci://HOST/PATH/CHART, REPOSITORY/CHART, an URL, or a name with --repo
    chart: String,
    #[command(flatten)]
    origin: Origin,
}

// Which chart, and what of its values.
#[derive(Debug, Args)]
pub struct NamedValues {
    #[command(flatten)]
    named: Named,
    /// Only what this finds, as kubectl's JSONPath: '{.image.tag}'
    #[arg(long, value_name = "TEMPLATE", default_value = "", hide_default_value = true)]
    jsonpath: String,
}

pub async fn show(show: &Show) -> Result<ExitCode> {
    let (named, path) = match show {
        Show::All(named) | Show::Chart(named) | Show::Readme(named) | Show::Crds(named) => (named.as_ref(), ""),
        Show::Values(values) => (&values.named, values.jsonpath.as_str()),
    };
    let parsed = JsonPath::parse(path).map_err(|why| Fault::usage(format!("error parsing jsonpath {path}: {why}")))?;
    let chart = reference::chart(&named.chart, &named.origin, Flavor::Helm4, &Warnings::default()).await?;
    let text = |data: &[u8]| String::from_utf8_lossy(data).into_owned();
    let all = matches!(show, Show::All(_));
    if !path.is_empty() {
        return print(&parsed.print(&yaml::Value::Map(chart.values)));
    }
    let mut out = String::new();
    if all || matches!(show, Show::Chart(_)) {
        out.push_str(&format!("{}\n", chart.metadata.yaml()));
    }
    if (all || matches!(show, Show::Values(_)))
        && let Some(values) = chart.raw("values.yaml")
    {
        if all {
            out.push_str("---\n");
        }
        out.push_str(&format!("{}\n", text(values)));
    }
    if all || matches!(show, Show::Readme(_)) {
        let names = ["readme.md", "readme.txt", "readme"];
        if let Some(readme) = chart.files.iter().find(|file| names.contains(&file.name.to_lowercase().as_str())) {
            if all {
                out.push_str("---\n");
            }
            out.push_str(&format!("{}\n", text(&readme.data)));
        }
    }
    if all || matches!(show, Show::Crds(_)) {
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
