//! Files to objects.

use std::collections::HashMap;

use serde_json::Value;
use serde_saphyr::options::DuplicateKeyPolicy;

use crate::{Error, Position, Problem, Result};

/// Bytes that one file may have.
pub const MAX_FILE_BYTES: usize = 4 << 20;
/// Objects that may be applied together.
pub const MAX_OBJECTS: usize = 2000;

/// A file as it stands in the repository.
#[derive(Debug, Clone, Copy)]
pub struct SourceFile<'a> {
    pub path: &'a str,
    pub content: &'a [u8],
}

/// A Kubernetes object and where it begins.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// A map with `apiVersion`, `kind` and `metadata.name`.
    pub value: Value,
    pub at: Position,
}

/// Whether a file of a directory of manifests is to be read: by its name, which ends in `.yaml`, `.yml` or `.json`.
pub fn is_manifest(path: &str) -> bool {
    let path = path.to_ascii_lowercase();
    [".yaml", ".yml", ".json"].iter().any(|end| path.ends_with(end))
}

/// All objects of the files, in their order; lists are taken apart. `from` names the place in messages, for example `deploy/`.
pub fn parse(from: &str, files: &[SourceFile<'_>]) -> Result<Vec<Object>> {
    files.iter().try_for_each(|file| known(file.path))?;
    let mut objects: Vec<Object> = Vec::new();
    for file in files {
        let problem = |message: String, hint: &str| {
            let at = Position { file: file.path.into(), line: 1, column: 1 };
            Error::Problem(Box::new(Problem { at, text: String::new(), message, hint: hint.into() }))
        };
        if file.content.len() > MAX_FILE_BYTES {
            let message = format!("the file has more than {} MiB", MAX_FILE_BYTES >> 20);
            return Err(problem(message, "split it"));
        }
        let Ok(text) = std::str::from_utf8(file.content) else {
            return Err(problem("the file is not UTF-8".into(), "save it as UTF-8"));
        };
        for document in documents(text) {
            let value = read(file.path, text, &document)?;
            let at = Position { file: file.path.into(), line: document.first_line(), column: 1 };
            flatten(value, &at, text, &mut objects)?;
        }
        if objects.len() > MAX_OBJECTS {
            return Err(problem(
                format!("there are more than {MAX_OBJECTS} objects"),
                "split them over several projects",
            ));
        }
    }
    unique(&objects, files)?;
    if objects.is_empty() { Err(Error::Empty(from.into())) } else { Ok(objects) }
}

fn known(path: &str) -> Result<()> {
    let not_yet = |what, render| Err(Error::NotYet { file: path.into(), what, render });
    match path.rsplit('/').next().unwrap_or(path) {
        "Chart.yaml" => Err(Error::Below { file: path.into(), what: "Helm chart" }),
        name if kustomize::NAMES.contains(&name) => Err(Error::Below { file: path.into(), what: "kustomization" }),
        "skaffold.yaml" => not_yet("Skaffold project", "skaffold render"),
        _ => Ok(()),
    }
}

/// A document of a YAML stream: its text, and how many lines are in front of it.
pub(crate) struct Document<'a> {
    pub text: &'a str,
    pub before: usize,
}

impl<'a> Document<'a> {
    /// Without the line that begins it, if nothing else stands on that; and how many lines that took.
    pub fn body(&self) -> (usize, &'a str) {
        let Some((first, rest)) = self.text.split_once('\n') else { return (0, self.text) };
        let marker = first.trim_end().strip_prefix("---").map(str::trim_start);
        match marker {
            Some(after) if after.is_empty() || after.starts_with('#') => (1, rest),
            _ => (0, self.text),
        }
    }

    /// The line (from 1) in the file of the first line with content.
    pub fn first_line(&self) -> u64 {
        let blank = |line: &&str| {
            let line = line.trim();
            line.is_empty() || line.starts_with('#') || line == "---"
        };
        (self.before + self.text.lines().take_while(blank).count() + 1) as u64
    }
}

/// `---` at the start of a line begins a document wherever it stands (YAML 1.2.2, 9.1.2), so that no parsing is needed to find it.
pub(crate) fn documents(text: &str) -> Vec<Document<'_>> {
    let mut found = Vec::new();
    let (mut start, mut before, mut at) = (0, 0, 0);
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let marker =
            line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']));
        if marker && at > start {
            found.push(Document { text: &text[start..at], before });
            (start, before) = (at, number);
        }
        at += line.len();
    }
    found.push(Document { text: &text[start..], before });
    found
}

fn read(path: &str, text: &str, document: &Document<'_>) -> Result<Value> {
    let options = serde_saphyr::options! {
        // As Kubernetes reads YAML: `0644` is octal, and of two equal keys the last one counts.
        legacy_octal_numbers: true,
        duplicate_keys: DuplicateKeyPolicy::LastWins,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options::<Value>(document.text, options).map_err(|error| {
        let location = error.location();
        let line = location.map_or(document.first_line(), |at| at.line() + document.before as u64);
        let column = location.map_or(1, |at| at.column());
        let message = error.to_string();
        // The position is in front already; the parser's own is within the document.
        let message = message.split(" at line ").next().unwrap_or(&message);
        let message = message.lines().next().unwrap_or("not YAML").trim_end_matches(':');
        let hint = hint(text, line, message);
        problem(path, text, line, column, message.to_owned(), hint)
    })
}

/// What may have gone wrong on a line that is no YAML.
pub(crate) fn hint(text: &str, line: u64, message: &str) -> &'static str {
    let found = line_of(text, line);
    if found.contains("{{") {
        "this looks like a template; put rendered YAML here"
    } else if message.contains("tab") || found.trim_start_matches(' ').starts_with('\t') {
        "YAML is indented with spaces, not with tabs"
    } else {
        "check the indentation, the colons and the quotes on this line and the one before it"
    }
}

pub(crate) fn line_of(text: &str, line: u64) -> String {
    let found = text.lines().nth((line as usize).saturating_sub(1)).unwrap_or_default();
    found.chars().take(200).collect()
}

pub(crate) fn problem(path: &str, text: &str, line: u64, column: u64, message: String, hint: &str) -> Error {
    let at = Position { file: path.into(), line, column };
    Error::Problem(Box::new(Problem { at, text: line_of(text, line), message, hint: hint.into() }))
}

/// Adds an object, or the objects of a list; nothing for a document without content.
pub(crate) fn flatten(value: Value, at: &Position, text: &str, into: &mut Vec<Object>) -> Result<()> {
    let refused = |message: String, hint: &str| Err(problem(&at.file, text, at.line, at.column, message, hint));
    let map = match &value {
        Value::Null => return Ok(()),
        Value::Object(map) => map,
        _ => {
            return refused(
                "this is no Kubernetes object, which is a map".into(),
                "begin with `apiVersion:` and `kind:`",
            );
        }
    };
    let field = |name: &str| map.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let Some(kind) = field("kind") else {
        return refused("the object has no `kind`".into(), "add one, for example `kind: Deployment`");
    };
    if field("apiVersion").is_none() {
        return refused(format!("the {kind} has no `apiVersion`"), "add one, for example `apiVersion: apps/v1`");
    }
    if kind.ends_with("List") && map.get("items").is_some_and(Value::is_array) {
        let Value::Object(mut map) = value else { return Ok(()) };
        let Some(Value::Array(items)) = map.remove("items") else { return Ok(()) };
        return items.into_iter().try_for_each(|item| flatten(item, at, text, into));
    }
    let name = map.get("metadata").and_then(|metadata| metadata.get("name")).and_then(Value::as_str);
    match name {
        Some(name) if !name.is_empty() && name.len() <= 253 && !name.contains(['/', '%']) => {}
        Some(name) => {
            let name: String = name.chars().take(100).collect();
            return refused(format!("`{name}` is no name for a {kind}"), "use a-z, 0-9, `-` and `.`");
        }
        None => return refused(format!("the {kind} has no `metadata.name`"), "give it a name, as a string"),
    }
    let map_or_absent = |value: Option<&Value>| value.is_none_or(|value| value.is_object() || value.is_null());
    let metadata = map.get("metadata");
    for part in ["labels", "annotations"] {
        if !map_or_absent(metadata.and_then(|metadata| metadata.get(part))) {
            return refused(
                format!("`metadata.{part}` of the {kind} is no map"),
                "write `name: value` below it, indented",
            );
        }
    }
    into.push(Object { value, at: at.clone() });
    Ok(())
}

/// No object may be there twice: the one that is applied last would win unnoticed.
pub(crate) fn unique(objects: &[Object], files: &[SourceFile<'_>]) -> Result<()> {
    let mut seen: HashMap<[&str; 4], &Position> = HashMap::new();
    for object in objects {
        let text = |pointer| object.value.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let (api, kind) = (text("/apiVersion"), text("/kind"));
        let (namespace, name) = (text("/metadata/namespace"), text("/metadata/name"));
        let group = api.split_once('/').map_or("", |(group, _)| group);
        if let Some(first) = seen.insert([group, kind, namespace, name], &object.at) {
            let Position { file, line, column } = &object.at;
            let source = files.iter().find(|source| source.path == *file);
            let source = source.and_then(|source| std::str::from_utf8(source.content).ok()).unwrap_or_default();
            let message = format!("the {kind} {name} is there twice; the first one is at {first}");
            return Err(problem(file, source, *line, *column, message, "remove one of them, or give it another name"));
        }
    }
    Ok(())
}
