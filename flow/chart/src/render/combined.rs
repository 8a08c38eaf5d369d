//! What a post-renderer of Helm 4 is given and what is made of its answer: one stream of all documents, hooks too, each with an
//! annotation that names its template.

use std::collections::BTreeMap;

use yaml::{Kind, Layout, Limits, Node, Style, parse_all, print};

use super::PostRenderer;
use crate::{Error, Flavor, manifest::split};

/// The annotation that names a document's template on the way.
const FILE: &str = "postrenderer.helm.sh/postrender-filename";

/// The files (path → text) as a post-renderer leaves them. What it adds gets a name of its own.
pub(super) fn passed(
    files: &BTreeMap<String, String>,
    run: PostRenderer<'_>,
) -> Result<BTreeMap<String, String>, Error> {
    let wrong = |what: &str, why: String| Error::PostRender(format!("{what}: {why}"));
    let merged = merged(files).map_err(|why| wrong("error merging manifests", why))?;
    let answer = run(&merged).map_err(|why| wrong("error while running post render on files", why))?;
    parted(&answer).map_err(|why| wrong("error while parsing post rendered output", why))
}

fn merged(files: &BTreeMap<String, String>) -> Result<String, String> {
    let mut all = Vec::new();
    for (path, text) in files.iter().filter(|(_, text)| !text.trim().is_empty()) {
        for document in split(text, Flavor::Helm4) {
            for mut node in nodes(document).map_err(|why| format!("parsing {path}: {why}"))? {
                mark(&mut node, path).map_err(|why| format!("annotating {path}: {why}"))?;
                all.push(node);
            }
        }
    }
    Ok(stream(&all))
}

fn parted(text: &str) -> Result<BTreeMap<String, String>, String> {
    let mut files: BTreeMap<String, Vec<Node>> = BTreeMap::new();
    let all = nodes(text).map_err(|why| format!("error parsing YAML: {why}"))?;
    for (i, mut node) in all.into_iter().enumerate() {
        let name = unmark(&mut node).unwrap_or_else(|| format!("generated-by-postrender-{i}.yaml"));
        files.entry(name).or_default().push(node);
    }
    Ok(files.into_iter().map(|(path, nodes)| (path, stream(&nodes))).collect())
}

fn stream(nodes: &[Node]) -> String {
    nodes.iter().map(|node| print(node, &Layout::default())).collect::<Vec<_>>().join("---\n")
}

/// The documents of a stream; a list that is alone in it gives its items.
fn nodes(text: &str) -> Result<Vec<Node>, String> {
    let text = text.replace("\r\n", "\n");
    let texts = cut(&text)?;
    let alone = texts.len() == 1;
    let mut all = Vec::new();
    for text in texts {
        let documents =
            parse_all(&text, &Limits::default(), true).map_err(|why| format!("MalformedYAMLError: {why}"))?;
        // As with kyaml, what stands behind a document without `---` between is not looked at.
        let Some(mut node) = documents.into_iter().next().and_then(|document| document.root) else { continue };
        if matches!(&node.kind, Kind::Scalar(text) if !node.is_quoted() && matches!(text.as_str(), "" | "null" | "~")) {
            continue;
        }
        let list = matches!(node.get("kind").and_then(Node::as_scalar), Some("List" | "ResourceList"));
        match node.get_mut("items") {
            Some(items) if alone && list => {
                all.extend(items.as_list_mut().map(std::mem::take).unwrap_or_default());
            }
            _ => all.push(node),
        }
    }
    Ok(all)
}

/// Cuts a stream at its lines that begin with `---`, behind which only a comment may stand.
fn cut(text: &str) -> Result<Vec<String>, String> {
    let mut parts = Vec::new();
    let mut from = 0;
    let mut at = 0;
    while let Some(found) = text[at..].find("\n---") {
        let line = at + found + 1;
        let Some(length) = text[line..].find('\n') else { break };
        let behind = text[line + 3..line + length].trim();
        if !behind.is_empty() && !behind.starts_with('#') {
            return Err(format!("invalid document separator: {}", text[line..line + length].trim()));
        }
        parts.push(text[from..line].to_owned());
        from = line + length + 1;
        at = from;
    }
    parts.push(text[from..].to_owned());
    Ok(parts)
}

fn mark(node: &mut Node, path: &str) -> Result<(), String> {
    let metadata = table(node, "metadata")?;
    let annotations = table(metadata, "annotations")?;
    let value = Node { style: Style::SingleQuoted, ..Node::string(path) };
    if let Some(entries) = annotations.as_map_mut() {
        entries.retain(|(key, _)| key.as_scalar() != Some(FILE));
        entries.push((Node::plain(FILE), value));
    }
    Ok(())
}

/// Takes the annotation away, and a table of annotations that is empty then; gives what it said.
fn unmark(node: &mut Node) -> Option<String> {
    let metadata = node.get_mut("metadata")?;
    let annotations = metadata.get_mut("annotations")?.as_map_mut()?;
    let name = annotations
        .iter()
        .position(|(key, _)| key.as_scalar() == Some(FILE))
        .and_then(|at| annotations.remove(at).1.as_scalar().map(str::to_owned));
    if annotations.is_empty() {
        metadata.as_map_mut()?.retain(|(key, _)| key.as_scalar() != Some("annotations"));
    }
    name.filter(|name| !name.is_empty())
}

/// The table under a key, made when there is none.
fn table<'n>(node: &'n mut Node, key: &str) -> Result<&'n mut Node, String> {
    let entries = node.as_map_mut().ok_or_else(|| format!("a document must be a map to have {key}"))?;
    let at = match entries.iter().position(|(name, _)| name.as_scalar() == Some(key)) {
        Some(at) => at,
        None => {
            entries.push((Node::plain(key), Node::map(Vec::new())));
            entries.len() - 1
        }
    };
    let value = &mut entries[at].1;
    if matches!(&value.kind, Kind::Scalar(text) if matches!(text.as_str(), "" | "null" | "~")) {
        *value = Node::map(Vec::new());
    }
    match value.kind {
        Kind::Map(_) => Ok(value),
        _ => Err(format!("{key} is no map")),
    }
}
