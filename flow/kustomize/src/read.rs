//! From a text to objects.

use yaml::{Kind, Limits, Node};

use crate::{Error, Result, resource::Resource, tree};

/// Every object of a text. Lists are taken apart; `file` is named in errors.
pub fn resources(text: &str, file: &str) -> Result<Vec<Resource>> {
    Ok(nodes(text, file)?.into_iter().map(Resource::new).collect())
}

/// The objects of a text as trees, without anchors.
pub fn nodes(text: &str, file: &str) -> Result<Vec<Node>> {
    let malformed = |source| Error::Malformed { file: file.to_owned(), source };
    let documents = yaml::parse_all(text, &Limits::default(), false).map_err(malformed)?;
    let mut nodes = std::collections::VecDeque::new();
    for document in documents {
        let Some(node) = document.into_expanded(&Limits::default()).map_err(malformed)? else { continue };
        if tree::is_null(&node) {
            continue;
        }
        unwrap(node, &mut nodes);
    }
    let mut out = Vec::new();
    for node in &nodes {
        Resource::check(node)?;
        check_lists(node, &mut String::new())?;
    }
    while let Some(mut node) = nodes.pop_front() {
        if !tree::text_at(&node, &["kind"]).ends_with("List") || node.get("items").is_none() {
            out.push(node);
            continue;
        }
        match tree::remove(&mut node, "items").map(|items| items.kind) {
            Some(Kind::List(items)) => {
                for item in items {
                    Resource::check(&item)?;
                    nodes.push_back(item);
                }
            }
            Some(Kind::Scalar(text)) if text.is_empty() || text == "null" => {}
            _ => {
                let kind = tree::text_at(&node, &["kind"]);
                return Err(Error::wrong(format!("expected array in {kind}/items")));
            }
        }
    }
    Ok(out)
}

/// A `List` gives its items in its place.
fn unwrap(mut node: Node, out: &mut std::collections::VecDeque<Node>) {
    let kind = tree::text_at(&node, &["kind"]);
    if matches!(kind, "List" | "ResourceList")
        && let Some(Node { kind: Kind::List(_), .. }) = node.get("items")
        && let Some(Node { kind: Kind::List(items), .. }) = tree::remove(&mut node, "items")
    {
        out.extend(items);
        return;
    }
    out.push_back(node);
}

/// An empty item in a list is nearly always a slip of the pen.
fn check_lists(node: &Node, path: &mut String) -> Result<()> {
    match &node.kind {
        Kind::Map(entries) => {
            for (key, value) in entries {
                let length = path.len();
                path.push('/');
                path.push_str(key.as_scalar().unwrap_or_default());
                check_lists(value, path)?;
                path.truncate(length);
            }
        }
        Kind::List(items) => {
            for item in items {
                if tree::is_null(item) {
                    let message = format!("empty item at {path} in object (line {})", item.start.line);
                    return Err(Error::wrong(message));
                }
                check_lists(item, path)?;
            }
        }
        _ => {}
    }
    Ok(())
}
