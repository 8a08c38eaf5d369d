//! `helm lint`: what is wrong with a chart, or soon will be.

mod chartfile;
mod crds;
mod names;
mod objects;
mod templates;

use crate::{Chart, Error, File, Flavor, Loader, Render, Tree, Warnings, load::walk};

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Info,
    Warning,
    Error,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub severity: Severity,
    /// The file or directory that it is about.
    pub path: String,
    pub text: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let severity = match self.severity {
            Severity::Info => "INFO",
            Severity::Warning => "WARNING",
            Severity::Error => "ERROR",
        };
        write!(f, "[{severity}] {}: {}", self.path, self.text)
    }
}

/// Checks an unpacked chart. `directory` is the name of the directory that it lies in; values are the user's.
pub fn lint(
    tree: &dyn Tree,
    directory: &str,
    given: &yaml::Map,
    render: &Render<'_>,
    warnings: &Warnings,
) -> Result<Vec<Finding>, Error> {
    let loader = Loader { flavor: render.flavor, future: true, ..Loader::default() };
    let files = walk(tree, &loader.limits)?;
    if !files.iter().any(|file| file.name == "Chart.yaml") {
        return Err(Error::Chart(
            "unable to check Chart.yaml file in chart: stat Chart.yaml: no such file or directory".to_owned(),
        ));
    }
    let mut findings = Findings::default();
    chartfile::check(&files, render.flavor, &mut findings);
    values(&files, given, render, &mut findings);
    let loaded = loader.files(files, warnings);
    let entries = tree.list("").unwrap_or_default();
    let kind = |wanted: &str| entries.iter().find(|(name, _)| name == wanted).map(|(_, kind)| *kind);
    templates::check(kind("templates"), &loaded, given, render, warnings, &mut findings);
    if render.flavor == Flavor::Helm4 {
        crds::check(kind("crds"), &loaded, &mut findings);
    }
    match &loaded {
        Ok(chart) => dependencies(chart, directory, &mut findings),
        Err(error) => findings.error("", format!("unable to load chart\n\t{error}")),
    }
    Ok(findings.0)
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, severity: Severity, path: &str, text: impl Into<String>) {
        self.0.push(Finding { severity, path: path.to_owned(), text: text.into() });
    }

    fn error(&mut self, path: &str, text: impl Into<String>) {
        self.add(Severity::Error, path, text);
    }
}

fn text(file: &File) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(&file.data)
}

fn values(files: &[File], given: &yaml::Map, render: &Render<'_>, findings: &mut Findings) {
    let Some(file) = files.iter().find(|file| file.name == "values.yaml") else {
        findings.add(Severity::Info, "values.yaml", "file does not exist");
        return;
    };
    // Whatever the version: one document, and the name of Go's type.
    let read = match crate::values::read(&text(file), Flavor::Helm3) {
        Ok(values) => values,
        Err(error) => {
            let wanted = if render.flavor == Flavor::Helm4 { "common.Values" } else { "chartutil.Values" };
            let said = error.to_string().replace("map[string]interface {}", wanted);
            findings.error("values.yaml", format!("unable to parse YAML: {said}"));
            return;
        }
    };
    let Some(schema) = files.iter().find(|file| file.name == "values.schema.json") else { return };
    if render.skip_schema {
        return;
    }
    let mut all = read;
    crate::values::over(&mut all, given.clone());
    if let Err(faults) = crate::values::against(&schema.data, &yaml::Value::Map(all).into(), render.schemas.as_ref()) {
        findings.error("values.yaml", faults);
    }
}

fn dependencies(chart: &Chart, directory: &str, findings: &mut Findings) {
    let declared = &chart.metadata.dependencies;
    let known = |name: &str| chart.dependencies.iter().any(|subchart| subchart.name() == name);
    let listed = |name: &str| declared.iter().any(|dependency| dependency.name == name);
    let missing: Vec<&str> = chart.dependencies.iter().map(Chart::name).filter(|name| !listed(name)).collect();
    if !missing.is_empty() {
        findings.error(directory, format!("chart metadata is missing these dependencies: {}", missing.join(",")));
    }
    let absent: Vec<&str> =
        declared.iter().map(|dependency| dependency.name.as_str()).filter(|name| !known(name)).collect();
    if !absent.is_empty() {
        findings.add(
            Severity::Warning,
            directory,
            format!("chart directory is missing these dependencies: {}", absent.join(",")),
        );
    }
}
