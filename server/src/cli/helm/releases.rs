//! What there is to read about releases: `helm list`, `history`, `status` and `get`.

use std::process::ExitCode;

use chart::release::{Record, Status};
use clap::{Args, Subcommand};
use node::objects::LabelSelector;
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    connect::Target,
    flags::{self, Format},
    print, show,
};
use crate::fault::{Fault, Result};

// Flags of `helm list`.
#[derive(Debug, Args)]
pub struct List {
    /// Of all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// All there are, whatever their state (so it is without a word)
    #[arg(short, long, hide = true)]
    all: bool,
    /// Names only
    #[arg(short = 'q', long)]
    short: bool,
    /// Without a heading
    #[arg(long)]
    no_headers: bool,
    /// By time
    #[arg(short, long)]
    date: bool,
    /// The other way round
    #[arg(short, long)]
    reverse: bool,
    /// Deployed ones
    #[arg(long)]
    deployed: bool,
    /// Failed ones
    #[arg(long)]
    failed: bool,
    /// Those with an operation that has not ended
    #[arg(long)]
    pending: bool,
    /// Earlier revisions
    #[arg(long)]
    superseded: bool,
    /// Uninstalled ones whose history was kept
    #[arg(long)]
    uninstalled: bool,
    /// Those that are being uninstalled
    #[arg(long)]
    uninstalling: bool,
    /// The most to show; 0 shows all
    #[arg(short, long, default_value_t = 256)]
    max: usize,
    /// How many to skip
    #[arg(long, default_value_t = 0)]
    offset: usize,
    /// A regular expression for the name
    #[arg(short, long, value_name = "REGEX", default_value = "", hide_default_value = true)]
    filter: String,
    /// Labels of the release, Helm's own too: a=1,b!=2,c in (x,y),!d
    #[arg(short = 'l', long, value_name = "LABELS", default_value = "", hide_default_value = true)]
    selector: String,
    /// How the result is printed
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    #[command(flatten)]
    target: Target,
}

impl List {
    fn takes(&self, status: Status) -> bool {
        let asked = [self.deployed, self.failed, self.pending, self.superseded, self.uninstalled, self.uninstalling];
        let wanted = match status {
            Status::Deployed => self.deployed,
            Status::Failed => self.failed,
            Status::Superseded => self.superseded,
            Status::Uninstalled => self.uninstalled,
            Status::Uninstalling => self.uninstalling,
            Status::Unknown => false,
            _ => self.pending,
        };
        wanted || !asked.contains(&true) && status != Status::Unknown
    }

    fn chosen(&self, mut records: Vec<(Record, helm::Labels)>) -> Result<Vec<Record>> {
        let pattern = regex::Regex::new(&self.filter)
            .map_err(|error| Fault::usage(format!("{:?} is no regular expression: {error}", self.filter)))?;
        records.retain(|(record, _)| pattern.is_match(&record.name));
        let others = [self.deployed, self.failed, self.pending, self.uninstalled, self.uninstalling].contains(&true);
        if !self.superseded || others {
            // The newest of each.
            records
                .sort_by(|(a, _), (b, _)| (&a.namespace, &a.name, b.version).cmp(&(&b.namespace, &b.name, a.version)));
            records.dedup_by(|(b, _), (a, _)| (&a.namespace, &a.name) == (&b.namespace, &b.name));
        }
        let selector = LabelSelector::parse(&self.selector).map_err(|error| Fault::usage(error.to_string()))?;
        let mut records: Vec<Record> = records
            .into_iter()
            .filter(|(record, labels)| self.takes(record.info.status) && selector.matches_labels(&json!(labels)))
            .map(|(record, _)| record)
            .collect();
        records.sort_by(|a, b| a.name.cmp(&b.name));
        if self.date {
            records.sort_by_key(|record| record.info.last_deployed);
        }
        if self.reverse {
            records.reverse();
        }
        let most = if self.max == 0 { usize::MAX } else { self.max };
        Ok(records.into_iter().skip(self.offset).take(most).collect())
    }
}

/// Carries out `helm list`.
pub async fn list(options: &List) -> Result<ExitCode> {
    let helm = options.target.helm("list").await?;
    helm.cluster.version().await.map_err(flags::fault)?;
    let records = helm.releases.labelled(options.all_namespaces).await.map_err(flags::fault)?;
    let records = options.chosen(records)?;
    if options.short {
        let names: Vec<&str> = records.iter().map(|record| record.name.as_str()).collect();
        let lines = || names.iter().map(|name| format!("{name}\n")).collect();
        return print(&show::formatted(options.output, &names, lines)?);
    }
    let elements: Vec<Value> = records
        .iter()
        .map(|record| {
            json!({
                "name": record.name, "namespace": record.namespace, "revision": record.version.to_string(),
                "updated": show::long(record.info.last_deployed), "status": record.info.status,
                "chart": show::chart_name(record), "app_version": record.app_version(),
            })
        })
        .collect();
    let table = || {
        let heading = ["NAME", "NAMESPACE", "REVISION", "UPDATED", "STATUS", "CHART", "APP VERSION"];
        let mut rows: Vec<Vec<String>> = Vec::new();
        if !options.no_headers {
            rows.push(heading.map(str::to_owned).to_vec());
        }
        let fields = ["name", "namespace", "revision", "updated", "status", "chart", "app_version"];
        let cell = |element: &Value, field: &str| element[field].as_str().unwrap_or_default().to_owned();
        rows.extend(elements.iter().map(|element| fields.map(|field| cell(element, field)).to_vec()));
        show::table(&rows)
    };
    print(&show::formatted(options.output, &elements, table)?)
}

// Flags of `helm history`.
#[derive(Debug, Args)]
pub struct History {
    name: String,
    /// The most revisions to show
    #[arg(long, default_value_t = 256)]
    max: usize,
    /// Which revision a rollback brought back
    #[arg(long)]
    show_rollback_revision: bool,
    /// How the result is printed
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    #[command(flatten)]
    target: Target,
}

#[derive(Serialize)]
struct Line {
    revision: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    updated: Option<jiff::Timestamp>,
    status: Status,
    chart: String,
    app_version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    rollback_revision: Option<u64>,
    description: String,
}

/// Carries out `helm history`.
pub async fn history(options: &History) -> Result<ExitCode> {
    let helm = options.target.helm(&options.name).await?;
    helm.cluster.version().await.map_err(flags::fault)?;
    helm::action::check_name(&options.name)
        .map_err(|_| Fault::usage(format!("release name is invalid: {}", options.name)))?;
    let history = helm.releases.history(&options.name).await.map_err(flags::fault)?;
    let records = history.records();
    if records.is_empty() {
        return Err(flags::fault(helm::Error::NotFound));
    }
    let lines: Vec<Line> = records[records.len().saturating_sub(options.max)..]
        .iter()
        .map(|record| Line {
            revision: record.version,
            updated: record.info.last_deployed,
            status: record.info.status,
            chart: show::chart_name(record),
            app_version: record.app_version().to_owned(),
            rollback_revision: record.rollback_revision(),
            description: record.info.description.clone(),
        })
        .collect();
    let table = || {
        let mut heading = vec!["REVISION", "UPDATED", "STATUS", "CHART", "APP VERSION"];
        if options.show_rollback_revision {
            heading.push("ROLLBACK");
        }
        heading.push("DESCRIPTION");
        let mut rows = vec![heading.into_iter().map(str::to_owned).collect::<Vec<_>>()];
        for line in &lines {
            let mut row = vec![
                line.revision.to_string(),
                show::ansic(line.updated),
                line.status.to_string(),
                line.chart.clone(),
                line.app_version.clone(),
            ];
            if options.show_rollback_revision {
                row.push(line.rollback_revision.map(|revision| revision.to_string()).unwrap_or_default());
            }
            row.push(line.description.clone());
            rows.push(row);
        }
        show::table(&rows)
    };
    print(&show::formatted(options.output, &lines, table)?)
}

// One revision of a release.
#[derive(Debug, Args)]
pub struct One {
    name: String,
    /// The newest if none is given
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    revision: u64,
    #[command(flatten)]
    target: Target,
}

impl One {
    async fn read(&self) -> Result<(helm::Helm, Record)> {
        let helm = self.target.helm(&self.name).await?;
        helm.cluster.version().await.map_err(flags::fault)?;
        helm::action::check_name(&self.name)
            .map_err(|_| Fault::usage(format!("releaseContent: Release name is invalid: {}", self.name)))?;
        let record = match self.revision {
            0 => helm.releases.history(&self.name).await.map_err(flags::fault)?.last().cloned(),
            revision => helm.releases.get(&self.name, revision).await.map_err(flags::fault)?,
        };
        let record = record.ok_or_else(|| flags::fault(helm::Error::NotFound))?;
        Ok((helm, record))
    }
}

// Flags of `helm status`.
#[derive(Debug, Args)]
pub struct StatusOptions {
    #[command(flatten)]
    one: One,
    /// How the result is printed
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// Carries out `helm status`.
pub async fn status(options: &StatusOptions) -> Result<ExitCode> {
    let (helm, record) = options.one.read().await?;
    let table = options.output == Format::Table;
    let groups = helm.resources(&record, table).await.map_err(flags::fault)?;
    let mut document = show::document(&record, false);
    let shown =
        show::Shown { resources: if table { show::resources(&groups) } else { String::new() }, ..Default::default() };
    if !groups.is_empty() {
        document["info"]["resources"] = groups.into_iter().map(|(kind, all)| (kind, Value::Array(all))).collect();
    }
    print(&show::formatted(options.output, &document, || show::status(&record, &shown))?)
}

// What can be fetched of a stored release.
#[derive(Debug, Subcommand)]
pub enum Get {
    /// Everything: values, hooks, manifest, notes
    All(Whole),
    /// The hooks
    Hooks(One),
    /// The manifest
    Manifest(One),
    /// What it is made from, and how
    Metadata(Printed),
    /// The notes
    Notes(One),
    /// The values that were given
    Values(ValuesOptions),
}

// Everything of one revision.
#[derive(Debug, Args)]
pub struct Whole {
    #[command(flatten)]
    one: One,
    /// A Go template in place of it: '{{.Release.Name}}'
    #[arg(long, value_name = "TEMPLATE", default_value = "", hide_default_value = true)]
    template: String,
}

// One revision and how it is printed.
#[derive(Debug, Args)]
pub struct Printed {
    #[command(flatten)]
    one: One,
    /// How the result is printed
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

// Flags of `helm get values`.
#[derive(Debug, Args)]
pub struct ValuesOptions {
    #[command(flatten)]
    printed: Printed,
    /// With the chart's own below them
    #[arg(short, long)]
    all: bool,
}

/// Carries out `helm get`.
pub async fn get(what: &Get) -> Result<ExitCode> {
    match what {
        Get::All(whole) => {
            let (_, record) = whole.one.read().await?;
            if !whole.template.is_empty() {
                return print(&helm::formatted(&record, &whole.template).map_err(flags::fault)?);
            }
            print(&show::status(&record, &show::Shown { metadata: true, whole: true, ..Default::default() }))
        }
        Get::Hooks(one) => {
            let (_, record) = one.read().await?;
            let hooks = record.hooks.iter().map(|hook| format!("---\n# Source: {}\n{}\n", hook.path, hook.manifest));
            print(&hooks.collect::<String>())
        }
        Get::Manifest(one) => print(&format!("{}\n", one.read().await?.1.manifest)),
        Get::Notes(one) => {
            let notes = one.read().await?.1.info.notes;
            print(&if notes.is_empty() { notes } else { format!("NOTES:\n{notes}\n") })
        }
        Get::Metadata(printed) => metadata(printed).await,
        Get::Values(options) => values(options).await,
    }
}

async fn values(options: &ValuesOptions) -> Result<ExitCode> {
    let (_, record) = options.printed.one.read().await?;
    let values = match options.all {
        true => serde_json::to_value(yaml::Value::Map(helm::computed(&record))).unwrap_or_default(),
        false => record.config.clone().unwrap_or_default(),
    };
    let table = || {
        let heading = if options.all { "COMPUTED VALUES:" } else { "USER-SUPPLIED VALUES:" };
        format!("{heading}\n{}", yaml::to_go(&yaml::Value::from(values.clone())))
    };
    print(&show::formatted(options.printed.output, &values, table)?)
}

async fn metadata(printed: &Printed) -> Result<ExitCode> {
    let (helm, record) = printed.one.read().await?;
    let chart = record.chart.as_ref().map(|chart| chart["metadata"].clone()).unwrap_or_default();
    let deployed = record.info.last_deployed;
    let deployed = deployed.map(|time| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()).unwrap_or_default();
    // As helm: the labels of the object, its own among them, unless a revision is asked for.
    let labels = match printed.one.revision {
        0 => json!(helm.releases.labels(&record.name, record.version).await.map_err(flags::fault)?),
        _ => json!(record.labels),
    };
    let mut document = json!({
        "name": record.name, "chart": record.chart_name(), "version": record.chart_version(),
        "appVersion": record.app_version(), "annotations": chart["annotations"], "labels": labels,
        "dependencies": chart["dependencies"], "namespace": record.namespace, "revision": record.version,
        "status": record.info.status, "deployedAt": deployed, "applyMethod": record.apply_method(),
    });
    if let Some(fields) = document.as_object_mut() {
        let optional = ["annotations", "labels", "dependencies", "applyMethod"];
        let empty =
            |value: &Value| value.is_null() || value == "" || value.as_object().is_some_and(|map| map.is_empty());
        fields.retain(|name, value| !(optional.contains(&name.as_str()) && empty(value)));
    }
    let pairs = |map: &Value| {
        let pairs = map.as_object().into_iter().flatten();
        let mut pairs: Vec<String> =
            pairs.map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default())).collect();
        pairs.sort();
        pairs.join(",")
    };
    let table = || {
        let mut names: Vec<&str> =
            chart["dependencies"].as_array().into_iter().flatten().filter_map(|d| d["name"].as_str()).collect();
        names.sort_unstable();
        let method = match record.apply_method() {
            "" => "client-side apply (defaulted)".to_owned(),
            "csa" => "client-side apply".to_owned(),
            "ssa" => "server-side apply".to_owned(),
            other => format!("unknown ({other:?})"),
        };
        let lines = [
            ("NAME", record.name.clone()),
            ("CHART", record.chart_name().to_owned()),
            ("VERSION", record.chart_version().to_owned()),
            ("APP_VERSION", record.app_version().to_owned()),
            ("ANNOTATIONS", pairs(&chart["annotations"])),
            ("LABELS", pairs(&labels)),
            ("DEPENDENCIES", names.join(",")),
            ("NAMESPACE", record.namespace.clone()),
            ("REVISION", record.version.to_string()),
            ("STATUS", record.info.status.to_string()),
            ("DEPLOYED_AT", deployed.clone()),
            ("APPLY_METHOD", method),
        ];
        lines.iter().map(|(name, value)| format!("{name}: {value}\n")).collect()
    };
    print(&show::formatted(printed.output, &document, table)?)
}
