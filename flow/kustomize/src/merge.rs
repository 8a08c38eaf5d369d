//! Strategic merge, as kyaml does it.

use yaml::{Kind, Node};

use crate::{Error, Result, schema::Schema, tree};

/// What `$patch` says.
#[derive(Clone, Copy, PartialEq)]
enum Directive {
    Merge,
    Replace,
    Delete,
}

fn directive(word: &str) -> Result<Directive> {
    match word {
        "merge" => Ok(Directive::Merge),
        "replace" => Ok(Directive::Replace),
        "delete" => Ok(Directive::Delete),
        other => Err(Error::wrong(format!("unknown patch strategy '{other}'"))),
    }
}

/// Takes the directive out of a patch.
fn take_directive(patch: Option<&mut Node>) -> Result<Directive> {
    let Some(patch) = patch else { return Ok(Directive::Merge) };
    match &mut patch.kind {
        Kind::Map(_) => match patch.get("$patch").and_then(Node::as_scalar).map(directive) {
            Some(found) => {
                tree::remove(patch, "$patch");
                found
            }
            None => Ok(Directive::Merge),
        },
        Kind::List(items) => {
            let at = items.iter().position(|item| item.get("$patch").is_some());
            let Some(at) = at else { return Ok(Directive::Merge) };
            if items[at].as_map().is_some_and(|entries| entries.len() > 1) {
                return Ok(Directive::Merge);
            }
            let word = items[at].get("$patch").and_then(Node::as_scalar).unwrap_or_default().to_owned();
            items.retain(|item| item.get("$patch").and_then(Node::as_scalar) != Some(&word));
            directive(&word)
        }
        _ => Ok(Directive::Merge),
    }
}

fn missing(node: Option<&Node>) -> bool {
    node.is_none_or(tree::is_null)
}

/// The two sides of a merge.
struct Sides {
    dest: Option<Node>,
    patch: Option<Node>,
}

/// The object with the patch merged in; nothing when the patch deletes it.
pub fn merge(schema: &Schema, of: Option<&str>, dest: Node, patch: Node) -> Result<Option<Node>> {
    Merger { schema, path: Vec::new() }.walk(Sides { dest: Some(dest), patch: Some(patch) }, None, of)
}

struct Merger<'s> {
    schema: &'s Schema,
    path: Vec<String>,
}

impl Merger<'_> {
    fn walk(&mut self, sides: Sides, keys: Option<&[String]>, of: Option<&str>) -> Result<Option<Node>> {
        let Sides { dest, patch } = sides;
        let shape = [dest.as_ref(), patch.as_ref()].into_iter().flatten().find(|node| !tree::is_null(node));
        let Some(shape) = shape else { return Ok(self.nothing(dest, patch)) };
        let expected = discriminant(shape);
        for node in [dest.as_ref(), patch.as_ref()].into_iter().flatten() {
            if !tree::is_null(node) && discriminant(node) != expected {
                return Err(Error::wrong(format!(
                    "wrong node kind: expected {expected} but got {} at {}",
                    discriminant(node),
                    self.path.join(".")
                )));
            }
        }
        match expected {
            "MappingNode" => self.map(dest, patch, of),
            "SequenceNode" => match keys {
                Some(keys) => self.list(dest, patch, keys, of),
                None => Ok(patch.or(dest)),
            },
            _ => Ok(patch.or(dest)),
        }
    }

    /// Both sides are missing or null. A null that was spelled out stays where the patch says nothing.
    fn nothing(&self, dest: Option<Node>, patch: Option<Node>) -> Option<Node> {
        match (dest, patch) {
            (Some(dest), None) if dest.as_scalar().is_some_and(|text| !text.is_empty()) => Some(dest),
            (_, patch) => patch,
        }
    }

    fn map(&mut self, mut dest: Option<Node>, mut patch: Option<Node>, of: Option<&str>) -> Result<Option<Node>> {
        (dest, patch) = if missing(dest.as_ref()) {
            if take_directive(patch.as_mut()).unwrap_or(Directive::Merge) == Directive::Delete {
                return Ok(None);
            }
            // What is new is merged with itself, so that directives in it are obeyed.
            (patch.clone(), patch)
        } else {
            match directed(dest, patch)? {
                Some(sides) => sides,
                None => return Ok(None),
            }
        };
        let Some(node) = dest.as_mut() else { return Ok(None) };
        let Kind::Map(mine) = &mut node.kind else { return Ok(dest) };
        let mut theirs = match patch.map(|patch| patch.kind) {
            Some(Kind::Map(entries)) => entries,
            _ => Vec::new(),
        };
        let mut merged = Vec::with_capacity(mine.len() + theirs.len());
        for (key, value) in std::mem::take(mine) {
            let other =
                theirs.iter().position(|(name, _)| name.as_scalar() == key.as_scalar()).map(|at| theirs.remove(at).1);
            if let Some(value) = self.field(&key, Some(value), other, of)? {
                merged.push((key, value));
            }
        }
        // New fields come sorted.
        theirs.sort_by(|a, b| a.0.as_scalar().cmp(&b.0.as_scalar()));
        for (key, value) in theirs {
            if let Some(value) = self.field(&key, None, Some(value), of)? {
                merged.push((key, value));
            }
        }
        node.kind = Kind::Map(merged);
        Ok(dest)
    }

    fn field(&mut self, key: &Node, dest: Option<Node>, patch: Option<Node>, of: Option<&str>) -> Result<Option<Node>> {
        let name = key.as_scalar().unwrap_or_default();
        let schema = self.schema;
        let field = schema.field(of, name);
        let keys = field.and_then(|field| field.keys.as_deref());
        // Nothing to do below: not patched and not to be tidied.
        self.path.push(name.to_owned());
        let spelled = dest.as_ref().is_some_and(tree::is_null) && patch.is_none();
        let value = self.walk(Sides { dest, patch }, keys, field.and_then(|field| field.of.as_deref()))?;
        self.path.pop();
        Ok(value.filter(|value| spelled || !tree::is_null(value)))
    }

    fn list(
        &mut self,
        dest: Option<Node>,
        patch: Option<Node>,
        keys: &[String],
        of: Option<&str>,
    ) -> Result<Option<Node>> {
        let (dest, patch) = if missing(dest.as_ref()) {
            (patch.clone(), patch)
        } else {
            match directed(dest, patch)? {
                Some(sides) => sides,
                None => return Ok(None),
            }
        };
        let Some(mut node) = dest else { return Ok(None) };
        let Kind::List(mine) = std::mem::replace(&mut node.kind, Kind::List(Vec::new())) else { return Ok(Some(node)) };
        let theirs = match patch.map(|patch| patch.kind) {
            Some(Kind::List(items)) => items,
            _ => Vec::new(),
        };
        let none = [String::new()];
        let keys = if keys.is_empty() { &none[..] } else { keys };
        node.kind = Kind::List(self.items(mine, theirs, keys, of)?);
        Ok(Some(node))
    }

    /// The items of both sides, merged by their keys: those of the patch first.
    fn items(&mut self, mut dest: Vec<Node>, patch: Vec<Node>, keys: &[String], of: Option<&str>) -> Result<Vec<Node>> {
        let mut values: Vec<Vec<String>> = Vec::new();
        for item in patch.iter().chain(&dest) {
            let value = key_values(item, keys);
            if !values.contains(&value) {
                values.push(value);
            }
        }
        if keys.len() > 1 {
            pair_up(&mut values);
        }
        let used: Vec<bool> = (0..keys.len()).map(|i| values.iter().any(|value| !value[i].is_empty())).collect();
        let mut added = Vec::new();
        let mut chosen: Vec<&str> = keys.iter().map(String::as_str).collect();
        for value in &values {
            // Keys that no item has do not count; when none has any, all do.
            let any = used.iter().any(|used| *used);
            let valid: Vec<(&str, &str)> = keys
                .iter()
                .zip(value)
                .zip(&used)
                .filter(|(_, used)| **used || !any)
                .map(|((key, value), _)| (key.as_str(), value.as_str()))
                .collect();
            chosen = valid.iter().map(|(key, _)| *key).collect();
            let named: Vec<(&str, &str)> =
                match valid.iter().filter(|(_, value)| !value.is_empty()).copied().collect::<Vec<_>>() {
                    named if named.is_empty() => valid.clone(),
                    named => named,
                };
            let at = dest.iter().position(|item| has(item, &named));
            let other = patch.iter().find(|item| has(item, &named)).cloned();
            let replaced =
                other.as_ref().and_then(|item| item.get("$patch")).and_then(Node::as_scalar) == Some("replace");
            let merged = self.walk(Sides { dest: at.map(|at| dest[at].clone()), patch: other }, None, of)?;
            let empty = |node: &Node| tree::is_null(node) || node.as_map().is_some_and(<[_]>::is_empty);
            let Some(mut merged) = merged.filter(|node| !empty(node)) else {
                put(&mut dest, None, &valid);
                continue;
            };
            for (key, value) in &valid {
                if merged.as_map().is_some() && merged.get(key).is_none() && !value.is_empty() {
                    tree::set(&mut merged, key, Node::plain(*value));
                }
            }
            if let Some(at) = at.filter(|_| !replaced) {
                dest[at] = merged.clone();
            }
            put(&mut added, Some(merged), &valid);
        }
        for item in dest {
            if chosen == [""] {
                let text = item.as_scalar().unwrap_or_default().to_owned();
                put(&mut added, Some(item), &[("", &text)]);
                continue;
            }
            let mut values = Vec::new();
            for key in &chosen {
                match item.get(key) {
                    Some(value) => values.push((*key, value.as_scalar().unwrap_or_default().to_owned())),
                    None => added.push(item.clone()),
                }
            }
            let values: Vec<(&str, &str)> =
                chosen.iter().copied().zip(values.iter().map(|(_, value)| value.as_str())).collect();
            if values.is_empty() {
                continue;
            }
            if chosen.len() > 1 {
                put(&mut added, None, &values);
            }
            put(&mut added, Some(item), &values);
        }
        Ok(added)
    }
}

/// Both sides as the patch's directive says; nothing when what is there goes.
fn directed(mut dest: Option<Node>, mut patch: Option<Node>) -> Result<Option<(Option<Node>, Option<Node>)>> {
    if patch.as_ref().is_some_and(tree::is_null) {
        return Ok(None);
    }
    Ok(match take_directive(patch.as_mut())? {
        Directive::Delete => None,
        Directive::Replace => Some((patch.clone(), patch)),
        Directive::Merge => {
            // What is merged with itself has the directive on both sides.
            let _ = take_directive(dest.as_mut());
            Some((dest, patch))
        }
    })
}

fn discriminant(node: &Node) -> &'static str {
    match node.kind {
        Kind::Map(_) => "MappingNode",
        Kind::List(_) => "SequenceNode",
        _ => "ScalarNode",
    }
}

fn key_values(item: &Node, keys: &[String]) -> Vec<String> {
    let value = |key: &String| match key.as_str() {
        "" => item.as_scalar().unwrap_or_default().to_owned(),
        key => item.get(key).map(|value| tree::text(value).to_owned()).unwrap_or_default(),
    };
    keys.iter().map(value).collect()
}

/// True when the item has these values; one that is empty fits any.
fn has(item: &Node, values: &[(&str, &str)]) -> bool {
    values.iter().all(|(key, value)| match *key {
        "" => item.as_scalar() == Some(value),
        key => item.get(key).is_some_and(|found| found.as_scalar() == Some(value)),
    })
}

/// Keys that only one side gives are taken from the other, where all else is equal.
fn pair_up(values: &mut [Vec<String>]) {
    for i in 0..values.len() {
        for j in 0..values.len() {
            let mut common = false;
            let mut both = Vec::new();
            let fits = values[i].iter().zip(&values[j]).all(|(a, b)| {
                common |= a == b;
                both.push(if a.is_empty() { b.clone() } else { a.clone() });
                a == b || a.is_empty() || b.is_empty()
            });
            if fits && common {
                values[i].clone_from(&both);
                values[j] = both;
            }
        }
    }
}

/// Sets, or with nothing removes, the item that has these values.
fn put(list: &mut Vec<Node>, item: Option<Node>, values: &[(&str, &str)]) {
    let maps = item.as_ref().is_some_and(|item| item.as_map().is_some())
        || values.first().is_some_and(|(key, _)| !key.is_empty());
    let mut found = false;
    let mut kept = Vec::with_capacity(list.len() + 1);
    for old in std::mem::take(list) {
        if tree::is_null(&old) || old.as_map().is_some_and(<[_]>::is_empty) {
            continue;
        }
        let fits = values.iter().all(|(key, value)| match *key {
            "" => old.as_scalar() == Some(value),
            key => old.get(key).is_some_and(|found| value.is_empty() || found.as_scalar() == Some(value)),
        });
        if (maps && old.as_map().is_none()) || !fits {
            kept.push(old);
            continue;
        }
        found = true;
        if let Some(item) = &item {
            kept.push(item.clone());
        }
    }
    *list = kept;
    if let (false, Some(item)) = (found, item) {
        list.push(item);
    }
}
