//! Visiting the fields that a field specification names.

use yaml::{Kind, Node};

use crate::{Error, FieldSpec, Gvk, Result, tree};

/// What is made where a field is missing and the specification says to create it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Create {
    Nothing,
    Scalar,
    Map,
}

/// Calls `set` on every field of the object that the specification names.
pub fn visit(
    node: &mut Node,
    gvk: &Gvk,
    spec: &FieldSpec,
    create: Create,
    set: &mut dyn FnMut(&mut Node) -> Result<()>,
) -> Result<()> {
    if !gvk.is_selected(&spec.gvk) {
        return Ok(());
    }
    let path = &spec.parts;
    let create = if spec.create { create } else { Create::Nothing };
    walk(node, path, create, set).map_err(|error| error.during(format!("considering field '{}' of object", spec.path)))
}

fn walk(node: &mut Node, path: &[String], create: Create, set: &mut dyn FnMut(&mut Node) -> Result<()>) -> Result<()> {
    let Some((first, rest)) = path.split_first() else { return set(node) };
    if tree::is_null(node) {
        return Ok(());
    }
    match &mut node.kind {
        Kind::List(items) => items.iter_mut().try_for_each(|item| walk(item, path, create, set)),
        Kind::Map(entries) => {
            let (name, list) = match first.strip_suffix("[]") {
                Some(name) => (name, true),
                None => (first.as_str(), false),
            };
            if name.is_empty() {
                return Err(Error::wrong("cannot set or create an empty field name"));
            }
            let make = match (create, list, rest.is_empty()) {
                (Create::Nothing, ..) | (_, true, _) => Create::Nothing,
                (create, false, true) => create,
                (_, false, false) => Create::Map,
            };
            let at = entries.iter().position(|(key, _)| key.as_scalar() == Some(name));
            let at = match (at, make) {
                (Some(at), _) => at,
                (None, Create::Nothing) => return Ok(()),
                (None, _) => {
                    entries.push((Node::string(name), Node { tag: Some("!!null".into()), ..Node::plain("") }));
                    entries.len() - 1
                }
            };
            let value = &mut entries[at].1;
            if tree::is_null(value) {
                match make {
                    Create::Nothing => {}
                    Create::Map => *value = Node::map(Vec::new()),
                    Create::Scalar => *value = Node::string(""),
                }
            }
            walk(value, rest, create, set)
        }
        _ => Err(Error::wrong("expected sequence or mapping node")),
    }
}
