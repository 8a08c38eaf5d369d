//! Who wrote a field: the template line, patch or file, and the values that it was made of.

mod values;

use yaml::Node;

use crate::{
    Error, Position, Result,
    document::{Document, Name, Origin},
    field::Path,
    render::{App, How, Output},
    tree::Tree,
};

/// What part something had in a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A file with the object in it.
    File,
    /// The line of a template that made it.
    Template,
    /// A line of a named template or text that was included there.
    Included,
    /// A value that was read there, where it is set.
    Value,
    /// A value that decided whether, or how often, the line is there.
    Condition,
    /// A step of a kustomization that changed it.
    Change,
}

impl Role {
    pub fn word(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Template => "template",
            Self::Included => "included",
            Self::Value => "value",
            Self::Condition => "condition",
            Self::Change => "change",
        }
    }
}

/// One thing behind a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    pub role: Role,
    /// What it is: the path of a value, the step of a kustomization; empty where the place says all.
    pub what: String,
    /// Where; line 0 where there is no file (an argument, a value that nobody sets).
    pub at: Position,
    /// The line that stands there, or what the field was after it.
    pub text: String,
}

/// Everything behind a field of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    pub object: Name,
    pub path: Path,
    /// What the field is, as YAML.
    pub value: String,
    pub causes: Vec<Cause>,
}

/// Finds the field that `wanted` names (`KIND/NAME.field.path`) in what was rendered with [`How::trace`], and says what is behind it.
pub fn explain(tree: &dyn Tree, path: &str, how: &How, output: &Output, wanted: &str) -> Result<Explanation> {
    let (document, field) = find(&output.documents, wanted)?;
    let root = root(document)?;
    let missing =
        || Error::NoField { object: document.name.to_string(), field: field.to_string(), known: known(&root, &field) };
    let field = field.resolved(&root).ok_or_else(missing)?;
    let node = field.find(&root).ok_or_else(missing)?;
    let key = field.find_key(&root).unwrap_or(node);
    let value = match node.as_scalar() {
        Some(text) => text.to_owned(),
        None => yaml::print(node, &yaml::Layout::default()).trim_end().to_owned(),
    };
    let causes = match &document.origin {
        Origin::File { file, line } => {
            let at = Position {
                file: file.clone(),
                line: line + u64::from(key.start.line.max(1)) - 1,
                column: u64::from(key.start.column.max(1)),
            };
            vec![Cause { role: Role::File, what: String::new(), text: line_of(tree, &at), at }]
        }
        Origin::Template { template, offset, traces } => {
            let Some(traces) = traces else { return Err(Error::NotTraced) };
            // A scalar is asked for from its first byte to its last, as many actions may have written it; the rest at its key.
            let behind = if node.as_scalar().is_some() {
                let (start, end) = (node.start.offset, node.end.offset);
                let length = document.text.get(start..end).map_or(0, |text| text.trim_end().len());
                traces.traces.within(template, offset + start, offset + start + length.max(1))
            } else {
                traces.traces.behind(template, offset + key.start.offset)
            };
            let mut causes = Vec::new();
            for (i, place) in behind.places.iter().enumerate() {
                let at = Position { file: traces.file(&place.file), line: place.line as u64, column: 1 };
                let own = i == 0 || place.file == *template;
                let role = if own { Role::Template } else { Role::Included };
                causes.push(Cause { role, what: String::new(), text: line_of(tree, &at), at });
            }
            let chart = values::Sources::new(tree, path, output.app == App::Archive, how)?;
            for (role, paths) in [(Role::Value, &behind.values), (Role::Condition, &behind.guards)] {
                causes.extend(paths.iter().map(|path| chart.cause(role, path, &field)));
            }
            causes
        }
        Origin::Reprinted { file, .. } => {
            let at = document.origin.of_field(&document.name, &field).unwrap_or_else(|| Position::nowhere(file));
            vec![Cause { role: Role::File, what: String::new(), text: line_of(tree, &at), at }]
        }
        Origin::Kustomization { history: None, .. } => return Err(Error::NotTraced),
        Origin::Kustomization { .. } => {
            let changes = document.origin.changes(&document.name, &field);
            let steps = changes.into_iter().map(|change| {
                let (role, what) = match change.by.as_str() {
                    "Resource" => (Role::File, String::new()),
                    by if change.what.is_empty() => (Role::Change, format!("{by} of {}", change.kustomization)),
                    by => (Role::Change, format!("{by} `{}` of {}", change.what, change.kustomization)),
                };
                Cause { role, what, at: change.at, text: change.value.unwrap_or_else(|| "(taken away)".to_owned()) }
            });
            steps.collect()
        }
    };
    Ok(Explanation { object: document.name.clone(), path: field, value, causes })
}

fn root(document: &Document) -> Result<Node> {
    let wrong = |source| Error::Yaml { file: document.name.to_string(), source: Box::new(source) };
    let parsed = yaml::parse_all(&document.text, &yaml::Limits::default(), false).map_err(wrong)?;
    let first = parsed.into_iter().find(|one| one.root.is_some());
    let root = first.map(|one| one.into_expanded(&yaml::Limits::default())).transpose().map_err(wrong)?.flatten();
    root.ok_or_else(|| Error::Empty(document.name.to_string()))
}

/// The object and the field that a person means. Names may have dots in them, so the longest that fits counts.
fn find<'d>(documents: &'d [Document], wanted: &str) -> Result<(&'d Document, Path)> {
    let ends = wanted.char_indices().filter(|(_, c)| ['.', '['].contains(c)).map(|(at, _)| at).chain([wanted.len()]);
    let mut ends: Vec<usize> = ends.collect();
    ends.sort_unstable_by(|a, b| b.cmp(a));
    // A name that is there counts before one that kustomize has put a hash behind.
    for (end, hashed) in ends.iter().map(|end| (*end, false)).chain(ends.iter().map(|end| (*end, true))) {
        let (name, field) = wanted.split_at(end);
        let fits = |document: &&Document| match hashed {
            true => document.name.without_hash().is_some_and(|plain| plain.is_meant_by(name)),
            false => document.name.is_meant_by(name),
        };
        let found: Vec<&Document> = documents.iter().filter(fits).collect();
        match found[..] {
            [] => continue,
            [one] => {
                let path = Path::parse(field).map_err(|cause| Error::Unreadable { file: wanted.to_owned(), cause })?;
                return Ok((one, path));
            }
            [..] => {
                let all = found.iter().map(|document| document.name.to_string()).collect();
                return Err(Error::Ambiguous { wanted: name.to_owned(), all });
            }
        }
    }
    let all = documents.iter().map(|document| document.name.to_string()).collect();
    Err(Error::NoObject { wanted: wanted.to_owned(), all })
}

/// The names at the deepest part of a path that is there.
fn known(root: &Node, field: &Path) -> Vec<String> {
    let mut path = field.clone();
    while path.0.pop().is_some() {
        let Some(node) = path.find(root) else { continue };
        let keys = node.as_map().unwrap_or_default().iter().filter_map(|(key, _)| key.as_scalar());
        let items = node.as_list().unwrap_or_default().iter().enumerate().map(|(i, item)| {
            item.get("name").and_then(Node::as_scalar).map_or(format!("[{i}]"), |name| format!("[{name}]"))
        });
        return keys.map(str::to_owned).chain(items).collect();
    }
    Vec::new()
}

fn line_of(tree: &dyn Tree, at: &Position) -> String {
    if at.line == 0 {
        return String::new();
    }
    let content = tree.read(&at.file).unwrap_or_default();
    let text = String::from_utf8_lossy(&content);
    let line = text.lines().nth(at.line as usize - 1).unwrap_or_default();
    line.trim().chars().take(200).collect()
}
