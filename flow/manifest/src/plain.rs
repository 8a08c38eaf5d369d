//! Plain YAML and JSON: the objects of files as they stand there, for a person to look at. The limits of a release
//! ([`crate::parse`]) do not hold here.

use std::rc::Rc;

use yaml::{Decode, Limits, Node};

use crate::{
    Error, Position, Problem, Result,
    document::{Document, Name, Origin},
    is_manifest,
    render::{App, Output, ended, recognise_path, unreadable},
    tree::{EntryKind, Tree, join},
};

/// Bytes of one file.
pub const LARGEST_FILE: usize = 256 << 20;
/// Bytes of all files together.
const LARGEST: usize = 1 << 30;
/// Objects of all files together.
const MOST: usize = 500_000;
/// Directories in directories of plain files.
const DEEPEST: usize = 40;
/// Files of one directory of objects.
const MOST_FILES: usize = 200_000;
/// What one document may cost: one list may hold all that there is.
const LIMITS: Limits = Limits { bytes: LARGEST_FILE, depth: 128, nodes: 20_000_000, expanded: 20_000_000 };

/// The objects of a file.
pub(crate) fn file(tree: &dyn Tree, path: &str) -> Result<Output> {
    let mut reading = Reading::default();
    reading.file(path, &tree.read(path).map_err(|error| unreadable(path, &error))?)?;
    Ok(reading.output(App::File))
}

/// The objects of a directory's files, in it and below it.
pub(crate) fn directory(tree: &dyn Tree, path: &str) -> Result<Output> {
    let mut files = Vec::new();
    collect(tree, path, 0, &mut files)?;
    if files.is_empty() {
        return Err(Error::Empty(path.to_owned()));
    }
    let mut reading = Reading { lenient: true, ..Reading::default() };
    for file in &files {
        reading.file(file, &tree.read(file).map_err(|error| unreadable(file, &error))?)?;
    }
    Ok(reading.output(App::Directory))
}

/// Objects of a text that came from nowhere in particular, for example standard input.
pub fn objects_of(file: &str, text: &str) -> Result<Output> {
    let mut reading = Reading::default();
    reading.file(file, text.as_bytes())?;
    Ok(reading.output(App::File))
}

/// The same of a file of definitions that belongs to a chart.
pub(crate) fn documents_of(file: &str, text: &str) -> Result<Vec<Document>> {
    objects_of(file, text).map(|output| output.documents)
}

fn collect(tree: &dyn Tree, directory: &str, depth: usize, files: &mut Vec<String>) -> Result<()> {
    let limit = |cause: String| Error::Unreadable { file: directory.to_owned(), cause };
    if depth > DEEPEST {
        return Err(limit(format!("directories are nested deeper than {DEEPEST}: name one further below")));
    }
    let mut entries = tree.entries(directory);
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    for (name, kind) in entries {
        let path = join(directory, &name);
        match kind {
            EntryKind::Directory if !name.starts_with('.') => match recognise_path(tree, &path)? {
                App::Directory => collect(tree, &path, depth + 1, files)?,
                other => return Err(Error::Below { file: path, what: other.what() }),
            },
            EntryKind::File(_) if is_manifest(&name) && !name.starts_with('.') => files.push(path),
            _ => {}
        }
        if files.len() > MOST_FILES {
            return Err(limit(format!("there are more than {MOST_FILES} files: name a directory further below")));
        }
    }
    Ok(())
}

#[derive(Default)]
struct Reading {
    documents: Vec<Document>,
    warnings: Vec<String>,
    bytes: usize,
    /// What is no object is left out: among the files of a directory there are others.
    lenient: bool,
}

impl Reading {
    fn output(self, app: App) -> Output {
        Output { app, documents: self.documents, warnings: self.warnings }
    }

    fn file(&mut self, path: &str, content: &[u8]) -> Result<()> {
        let wrong = |cause: String| Error::Unreadable { file: path.to_owned(), cause };
        if content.len() > LARGEST_FILE {
            return Err(wrong(format!("the file has more than {} MiB: split it", LARGEST_FILE >> 20)));
        }
        self.bytes += content.len();
        if self.bytes > LARGEST {
            return Err(wrong(format!(
                "the files together have more than {} MiB: render parts of them",
                LARGEST >> 20
            )));
        }
        let text = std::str::from_utf8(content).map_err(|_| wrong("it is not UTF-8".to_owned()))?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let decode = Decode { limits: LIMITS, ..Decode::default() };
        for part in crate::parse::documents(text) {
            let value = decode.value(part.text).map_err(|error| malformed(path, text, part.before, &error))?;
            if value.is_null() {
                continue;
            }
            let (skipped, body) = part.body();
            let line = (part.before + skipped + 1) as u64;
            if value.get("kind").is_none() && value.get("apiVersion").is_none() {
                if self.lenient {
                    self.warnings.push(format!(
                        "{path}:{}: left out: this is no Kubernetes object, it has neither `apiVersion` nor `kind`",
                        part.first_line()
                    ));
                    continue;
                }
                return Err(crate::parse::problem(
                    path,
                    text,
                    part.first_line(),
                    1,
                    "this is no Kubernetes object: it has neither `apiVersion` nor `kind`".into(),
                    "begin with `apiVersion:` and `kind:`",
                ));
            }
            if is_list(&value) {
                let failed = |error: yaml::Error| malformed(path, text, part.before, &error);
                for item in items(part.text).map_err(failed)? {
                    let value = decode.node(item.clone()).map_err(failed)?;
                    let origin =
                        Origin::Reprinted { file: path.to_owned(), before: part.before, root: Some(Rc::new(item)) };
                    let (name, text) = (Name::of(&value), yaml::to_go(&value));
                    self.documents.push(Document { name, text, origin, hook: None });
                }
            } else {
                let origin = Origin::File { file: path.to_owned(), line };
                self.documents.push(Document { name: Name::of(&value), text: ended(body), origin, hook: None });
            }
            if self.documents.len() > MOST {
                return Err(wrong(format!("there are more than {MOST} objects: render parts of them")));
            }
        }
        Ok(())
    }
}

/// Whether it is a list of objects, and no object of a kind whose name ends so.
fn is_list(value: &yaml::Value) -> bool {
    let kind = value.get("kind").and_then(yaml::Value::as_str).unwrap_or_default();
    let Some(items) = value.get("items").and_then(yaml::Value::as_list) else { return false };
    kind == "List" || kind.ends_with("List") && items.iter().all(|item| item.get("kind").is_some())
}

/// The items of the list that a text is, with their places in it.
fn items(text: &str) -> std::result::Result<Vec<Node>, yaml::Error> {
    let mut documents = yaml::parse_all(text, &LIMITS, false)?.into_iter().filter(|one| one.root.is_some());
    let root = documents.next().map(|one| one.into_expanded(&LIMITS)).transpose()?.flatten();
    let Some(yaml::Kind::Map(entries)) = root.map(|root| root.kind) else { return Ok(Vec::new()) };
    let items =
        entries.into_iter().rev().find(|(key, _)| key.as_scalar() == Some("items")).map(|(_, items)| items.kind);
    Ok(match items {
        Some(yaml::Kind::List(items)) => items,
        _ => Vec::new(),
    })
}

/// The objects of a whole file as nodes, lists of the kind `List` taken apart: each with its places in the file.
pub(crate) fn roots(text: &str) -> Vec<Rc<Node>> {
    let mut found = Vec::new();
    for document in yaml::parse_all(text, &LIMITS, false).unwrap_or_default() {
        let Ok(Some(root)) = document.into_expanded(&LIMITS) else { continue };
        match root.get("items").and_then(Node::as_list) {
            Some(items) if root.get("kind").and_then(Node::as_scalar) == Some("List") => {
                found.extend(items.iter().cloned().map(Rc::new));
            }
            _ => found.push(Rc::new(root)),
        }
    }
    found
}

fn malformed(path: &str, text: &str, before: usize, error: &yaml::Error) -> Error {
    if error.kind == yaml::ErrorKind::Limit {
        let cause = format!("{}, which is a limit of rendering: split the document", error.message);
        return Error::Unreadable { file: path.to_owned(), cause };
    }
    let mark = error.at.unwrap_or_default();
    let (line, column) = (u64::from(mark.line.max(1)) + before as u64, u64::from(mark.column.max(1)));
    let hint = crate::parse::hint(text, line, &error.message);
    let at = Position { file: path.to_owned(), line, column };
    let text = crate::parse::line_of(text, line);
    Error::Problem(Box::new(Problem { at, text, message: error.message.clone(), hint: hint.to_owned() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Snapshot, field::Path};

    const MAP: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: a }\n";

    #[test]
    fn the_limits_of_a_release_do_not_hold_for_looking() {
        let many = format!("{MAP}---\n").repeat(2_500);
        assert_eq!(objects_of("a.yaml", &many).unwrap().documents.len(), 2_500, "and the same one twice");
        let large = format!("{MAP}data:\n  a: {}\n", "x".repeat(5 << 20));
        assert_eq!(objects_of("a.yaml", &large).unwrap().documents.len(), 1);
    }

    #[test]
    fn what_is_no_object_is_left_out_of_a_directory_and_refused_alone() {
        let tree = Snapshot::default().with("/d/a.yaml", MAP).with("/d/package.json", "{\n\t\"name\": \"x\"\n}\n");
        let output = directory(&tree, "/d").unwrap();
        assert_eq!(output.documents.len(), 1);
        assert!(output.warnings[0].starts_with("/d/package.json:1: left out"), "{:?}", output.warnings);
        let error = file(&tree, "/d/package.json").unwrap_err().to_string();
        assert!(error.starts_with("/d/package.json:1:1: this is no Kubernetes object"), "{error}");
    }

    #[test]
    fn lists_are_taken_apart_and_their_items_keep_their_lines() {
        let text = "# A list.\n---\napiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Secret\n  metadata: { name: s }\n- apiVersion: v1\n  kind: Pod\n  metadata:\n    name: p\n";
        let output = objects_of("l.yaml", text).unwrap();
        let names: Vec<String> = output.documents.iter().map(|document| document.name.to_string()).collect();
        assert_eq!(names, ["Secret/s", "Pod/p"]);
        let pod = &output.documents[1];
        let at = |path: &[&str]| pod.origin.of_field(&pod.name, &Path::of(path)).unwrap().to_string();
        assert_eq!(at(&["metadata", "name"]), "l.yaml:12:5");
        assert_eq!(at(&["spec", "containers"]), "l.yaml:9:3", "the object, where the field is not there");
    }
}
