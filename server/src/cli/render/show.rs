//! How objects, differences, findings and explanations look.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::{IsTerminal, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    str::FromStr,
};

use manifest::{App, Change, Difference, Explanation, Finding, Origin, Output, Position, Severity};
use serde_json::json;

use super::written::Written;
use crate::{
    cli::output,
    fault::{Class, Fault, Result},
};

/// How an answer is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Form {
    Yaml,
    Json,
    /// A file for each object, or for each app.
    Directory(PathBuf),
}

impl FromStr for Form {
    type Err = String;

    fn from_str(word: &str) -> std::result::Result<Self, String> {
        // What other programs call formats, and no one means as a directory.
        const OTHERS: [&str; 17] = [
            "csv",
            "custom-columns",
            "env",
            "go-template",
            "html",
            "jsonl",
            "jsonpath",
            "markdown",
            "md",
            "name",
            "ndjson",
            "table",
            "text",
            "toml",
            "txt",
            "wide",
            "xml",
        ];
        let lower = word.to_lowercase();
        let first = lower.split('=').next().unwrap_or_default();
        match word {
            "yaml" => return Ok(Self::Yaml),
            "json" => return Ok(Self::Json),
            "" => return Err("it is empty: yaml, json, or a directory".to_owned()),
            there if Path::new(there).is_dir() => return Ok(Self::Directory(there.into())),
            _ => {}
        }
        if OTHERS.contains(&first) || ["yaml", "yml", "json"].contains(&first) {
            return Err(format!("there is no such format: yaml or json, or `./{word}` for a directory of that name"));
        }
        if [".yaml", ".yml", ".json"].iter().any(|end| lower.ends_with(end)) {
            return Err(format!("it looks like a file, and this takes a directory: write `> {word}` for a file"));
        }
        Ok(Self::Directory(word.into()))
    }
}

/// How many findings there are of each kind.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counted {
    pub errors: usize,
    pub warnings: usize,
    pub unknown: usize,
}

impl Counted {
    pub fn of(found: &[Finding]) -> Self {
        let count = |severity| found.iter().filter(|one| one.severity == severity).count();
        Self { errors: count(Severity::Error), warnings: count(Severity::Warning), unknown: count(Severity::Unknown) }
    }

    pub fn said(self, objects: usize, version: (u32, u32)) -> String {
        format!(
            "{objects} objects as of Kubernetes {}.{}: {} errors, {} warnings, {} not checked",
            version.0, version.1, self.errors, self.warnings, self.unknown
        )
    }
}

impl std::ops::AddAssign for Counted {
    fn add_assign(&mut self, more: Self) {
        self.errors += more.errors;
        self.warnings += more.warnings;
        self.unknown += more.unknown;
    }
}

fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Unknown => "not checked",
    }
}

/// How many objects differ, and how.
pub fn changes(found: &[Difference]) -> String {
    let count = |wanted: Change| found.iter().filter(|one| one.change == wanted).count();
    let (added, removed, changed) = (count(Change::Added), count(Change::Removed), count(Change::Changed));
    format!("{added} added, {removed} removed, {changed} changed")
}

/// Differences for programs, with the app that they are in where there are several.
pub fn differences_json(found: &[Difference], reference: &str, app: Option<&str>) -> Vec<serde_json::Value> {
    let one = |one: &Difference| {
        let diff = one.unified(reference, "working tree");
        with_app(json!({ "object": object(&one.name), "change": one.change.word(), "diff": diff }), app)
    };
    found.iter().map(one).collect()
}

fn with_app(mut value: serde_json::Value, app: Option<&str>) -> serde_json::Value {
    if let Some(app) = app {
        value["app"] = app.into();
    }
    value
}

/// Names files as seen from the working directory.
pub struct Shown {
    here: String,
    colour: bool,
}

pub fn write(text: &str) -> Result<()> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        // Whoever reads has enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(Fault::new(Class::Unavailable, format!("cannot write the output: {error}"))),
        Ok(()) => Ok(()),
    }
}

impl Shown {
    pub fn new(here: &Path) -> Self {
        let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { here: format!("{}/", here.to_string_lossy().trim_end_matches('/')), colour }
    }

    /// Absolute names of files below the working directory become relative.
    pub fn text(&self, error: &dyn std::fmt::Display) -> String {
        error.to_string().replace(&self.here, "")
    }

    pub fn fault(&self, error: &manifest::Error) -> Fault {
        let class = match error {
            manifest::Error::Missing(_) | manifest::Error::NoObject { .. } | manifest::Error::NoField { .. } => {
                Class::NotFound
            }
            manifest::Error::Chart { .. } | manifest::Error::Kustomization { .. } => Class::Failed,
            _ => Class::Usage,
        };
        let fault = Fault::new(class, self.text(error));
        match error {
            manifest::Error::Kustomization { source, .. }
                if matches!(source.root(), kustomize::Error::Refused(said) if said.contains("--allow-remote")) =>
            {
                fault.hint("`shipway render` fetches nothing: keep a copy, or pipe `shipway kustomize build --allow-remote PATH` into `shipway render -`")
            }
            _ => fault,
        }
    }

    fn place(&self, at: &Position) -> String {
        match (at.file.as_str(), at.line) {
            ("", _) => String::new(),
            (file, 0) => file.strip_prefix(&self.here).unwrap_or(file).to_owned(),
            (file, line) => format!("{}:{line}", file.strip_prefix(&self.here).unwrap_or(file)),
        }
    }

    fn paint(&self, code: u8, text: &str) -> String {
        if self.colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    pub fn objects(&self, output: &Output, form: &Form) -> Result<ExitCode> {
        match form {
            Form::Yaml => write(&yaml(output))?,
            Form::Json => {
                let items = values(output)?;
                output::json(&json!({ "apiVersion": "v1", "kind": "List", "items": items }))?;
            }
            Form::Directory(directory) => files(output, directory)?,
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Differences for people.
    pub fn differences(&self, found: &[Difference], reference: &str) -> String {
        let mut text = String::new();
        for one in found {
            let code = match one.change {
                Change::Added => 32,
                Change::Removed => 31,
                Change::Changed => 33,
            };
            let _ = writeln!(text, "{} {}", self.paint(code, one.change.word()), self.paint(1, &one.name.to_string()));
            for line in one.unified(reference, "working tree").lines() {
                let code = match line.as_bytes().first() {
                    Some(b'+') => 32,
                    Some(b'-') => 31,
                    Some(b'@') => 36,
                    _ => {
                        text.push_str(line);
                        text.push('\n');
                        continue;
                    }
                };
                let _ = writeln!(text, "{}", self.paint(code, line));
            }
        }
        text
    }

    /// Findings for programs, with the app that they are in where there are several. Line 0 says that no line is known.
    pub fn findings_json(&self, found: &[Finding], app: Option<&str>) -> Vec<serde_json::Value> {
        let one = |one: &Finding| {
            let value = json!({
                "severity": word(one.severity),
                "object": object(&one.object),
                "field": one.path.to_string(),
                "file": one.at.file.strip_prefix(&self.here).unwrap_or(&one.at.file),
                "line": one.at.line,
                "column": one.at.column,
                "message": one.message,
                "hint": one.hint,
            });
            with_app(value, app)
        };
        found.iter().map(one).collect()
    }

    /// Findings for people. Kinds without a schema are told once each, and not object by object.
    pub fn findings(&self, found: &[Finding]) -> String {
        let mut text = String::new();
        let mut unknown: BTreeMap<(&str, &str), Vec<&Finding>> = BTreeMap::new();
        for one in found {
            if one.severity == Severity::Unknown {
                unknown.entry((one.message.as_str(), one.hint.as_str())).or_default().push(one);
                continue;
            }
            let code = if one.severity == Severity::Error { 31 } else { 33 };
            let severity = self.paint(code, word(one.severity));
            let column = if one.at.column > 1 { format!(":{}", one.at.column) } else { String::new() };
            let _ = writeln!(text, "{}{column}: {severity}: {}: {}", self.place(&one.at), one.object, one.message);
            if !one.hint.is_empty() {
                let _ = writeln!(text, "    hint: {}", one.hint);
            }
        }
        for ((message, hint), all) in unknown {
            let place = all.first().map(|one| format!("{}: {}", self.place(&one.at), one.object)).unwrap_or_default();
            let more = if all.len() > 1 { format!(" and {} more", all.len() - 1) } else { String::new() };
            let _ = writeln!(text, "{}: {message}: {place}{more}", self.paint(33, word(Severity::Unknown)));
            if !hint.is_empty() {
                let _ = writeln!(text, "    hint: {hint}");
            }
        }
        text
    }

    pub fn explanation(&self, explanation: &Explanation, as_json: bool) -> Result<ExitCode> {
        let causes = &explanation.causes;
        if as_json {
            let list: Vec<_> = causes
                .iter()
                .map(|cause| {
                    json!({
                        "role": cause.role.word(),
                        "what": cause.what.replace(&self.here, ""),
                        "file": cause.at.file.strip_prefix(&self.here).unwrap_or(&cause.at.file),
                        "line": cause.at.line,
                        "text": cause.text,
                    })
                })
                .collect();
            let field = explanation.path.to_string();
            let whole = json!({ "object": object(&explanation.object), "field": field, "value": explanation.value, "causes": list });
            return output::json(&whole).map(|()| ExitCode::SUCCESS);
        }
        let field = explanation.path.to_string();
        let name =
            if field.is_empty() { explanation.object.to_string() } else { format!("{} {field}", explanation.object) };
        let mut text = format!("{}\n", self.paint(1, &name));
        const MOST: usize = 20;
        for line in explanation.value.lines().take(MOST) {
            let _ = writeln!(text, "  {line}");
        }
        let more = explanation.value.lines().count().saturating_sub(MOST);
        if more > 0 {
            let _ = writeln!(text, "  … {more} more lines; --json prints them all");
        }
        text.push('\n');
        let rows: Vec<[String; 4]> = causes
            .iter()
            .map(|cause| {
                let text = cause.text.lines().next().unwrap_or_default().to_owned();
                [cause.role.word().to_owned(), self.place(&cause.at), cause.what.replace(&self.here, ""), text]
            })
            .collect();
        text.push_str(&output::table(["ROLE", "PLACE", "WHAT", "TEXT"], rows));
        write(&text)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn object(name: &manifest::Name) -> serde_json::Value {
    json!({ "apiVersion": name.api_version, "kind": name.kind, "namespace": name.namespace, "name": name.name })
}

/// The objects as one YAML stream, as the tool prints them that this replaces.
pub fn yaml(output: &Output) -> String {
    let mut text = String::new();
    for (i, document) in output.documents.iter().enumerate() {
        // kustomize has no separator in front of the first.
        if i > 0 || output.app != App::Kustomization {
            text.push_str("---\n");
        }
        if let Origin::Template { template, .. } = &document.origin {
            let _ = writeln!(text, "# Source: {template}");
        }
        text.push_str(&document.text);
    }
    text
}

fn values(output: &Output) -> Result<Vec<serde_json::Value>> {
    let value = |document: &manifest::Document| {
        document
            .value()
            .map(serde_json::Value::from)
            .map_err(|error| Fault::new(Class::Failed, format!("{}: {error}", document.name)))
    };
    output.documents.iter().map(value).collect()
}

fn files(output: &Output, directory: &Path) -> Result<()> {
    let mut written = Written::into(directory);
    let mut taken: BTreeMap<String, usize> = BTreeMap::new();
    for document in &output.documents {
        // Names come from the objects: nothing in them may lead out of the directory.
        let safe =
            |text: &str| text.to_lowercase().replace(|c: char| !c.is_ascii_alphanumeric() && !"-._".contains(c), "_");
        let name = &document.name;
        let mut file = [&name.namespace, &name.kind, &name.name].map(|part| safe(part)).join("_");
        file = file.trim_start_matches(['_', '.']).to_owned();
        let times = taken.entry(file.clone()).or_insert(0);
        *times += 1;
        if *times > 1 {
            file = format!("{file}-{times}");
        }
        written.write(&format!("{file}.yaml"), &document.text)?;
    }
    written.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_format_is_no_directory() {
        for word in ["xml", "YAML", "yml", "wide", "jsonpath={.items}", "out.yaml", ""] {
            assert!(word.parse::<Form>().is_err(), "{word}");
        }
        for word in ["out", "./xml", "rendered/prod"] {
            assert_eq!(word.parse(), Ok(Form::Directory(word.into())));
        }
    }
}
