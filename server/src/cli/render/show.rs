//! How objects, differences, findings and explanations look.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::{IsTerminal, Write as _},
    path::Path,
    process::ExitCode,
};

use manifest::{App, Change, Difference, Explanation, Finding, Origin, Output, Position, Severity};
use serde_json::json;

use crate::{
    cli::output,
    fault::{Class, Fault, Result},
};

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
        Fault::new(class, self.text(error))
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

    pub fn objects(&self, output: &Output, format: &str) -> Result<ExitCode> {
        match format {
            "yaml" => write(&yaml(output))?,
            "json" => {
                let items = values(output)?;
                output::json(&json!({ "apiVersion": "v1", "kind": "List", "items": items }))?;
            }
            directory => files(output, Path::new(directory))?,
        }
        Ok(ExitCode::SUCCESS)
    }

    pub fn differences(&self, found: &[Difference], reference: &str, as_json: bool) -> Result<()> {
        if as_json {
            let list: Vec<_> = found
                .iter()
                .map(|one| {
                    json!({
                        "object": object(&one.name),
                        "change": one.change.word(),
                        "diff": one.unified(reference, "working tree"),
                    })
                })
                .collect();
            return output::json(&list);
        }
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
        write(&text)?;
        let count = |wanted: Change| found.iter().filter(|one| one.change == wanted).count();
        eprintln!(
            "{} added, {} removed, {} changed",
            count(Change::Added),
            count(Change::Removed),
            count(Change::Changed)
        );
        Ok(())
    }

    /// Errors make the exit code 1.
    pub fn findings(&self, found: &[Finding], objects: usize, version: (u32, u32), as_json: bool) -> Result<ExitCode> {
        let count = |severity| found.iter().filter(|one| one.severity == severity).count();
        let (errors, warnings, unknown) = (count(Severity::Error), count(Severity::Warning), count(Severity::Unknown));
        let word = |severity| match severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Unknown => "not checked",
        };
        if as_json {
            let list: Vec<_> = found
                .iter()
                .map(|one| {
                    json!({
                        "severity": word(one.severity),
                        "object": object(&one.object),
                        "field": one.path.to_string(),
                        "file": one.at.file.strip_prefix(&self.here).unwrap_or(&one.at.file),
                        "line": one.at.line,
                        "column": one.at.column,
                        "message": one.message,
                        "hint": one.hint,
                    })
                })
                .collect();
            output::json(&list)?;
        } else {
            let mut text = String::new();
            for one in found {
                let code = if one.severity == Severity::Error { 31 } else { 33 };
                let severity = self.paint(code, word(one.severity));
                let column = if one.at.column > 1 { format!(":{}", one.at.column) } else { String::new() };
                let _ = writeln!(text, "{}{column}: {severity}: {}: {}", self.place(&one.at), one.object, one.message);
                if !one.hint.is_empty() {
                    let _ = writeln!(text, "    hint: {}", one.hint);
                }
            }
            write(&text)?;
            eprintln!(
                "{objects} objects as of Kubernetes {}.{}: {errors} errors, {warnings} warnings, {unknown} not checked",
                version.0, version.1
            );
        }
        Ok(if errors > 0 { ExitCode::from(1) } else { ExitCode::SUCCESS })
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
        for line in explanation.value.lines().take(20) {
            let _ = writeln!(text, "  {line}");
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
    let unwritable = |error: std::io::Error| {
        Fault::new(Class::Unavailable, format!("cannot write into {}: {error}", directory.display()))
    };
    std::fs::create_dir_all(directory).map_err(unwritable)?;
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
        std::fs::write(directory.join(format!("{file}.yaml")), &document.text).map_err(unwritable)?;
    }
    Ok(())
}
