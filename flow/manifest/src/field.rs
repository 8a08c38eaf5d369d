//! Paths of fields within an object: `spec.template.spec.containers[0].image`.

use std::fmt;

use yaml::{Kind, Node, Value};

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    Key(String),
    Index(usize),
    /// The item of a list whose `name` (or `key`, `containerPort`, …) is this; only people write it.
    Item(String),
}

/// A path from the root of an object.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path(pub Vec<Step>);

impl Path {
    pub fn of(keys: &[&str]) -> Self {
        Self(keys.iter().map(|key| Step::Key((*key).to_owned())).collect())
    }

    /// Reads `spec.containers[0].image`, `spec.containers[web].image`, `metadata.annotations["a.b/c"]`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut steps = Vec::new();
        let mut rest = text.strip_prefix('.').unwrap_or(text);
        while !rest.is_empty() {
            if let Some(inside) = rest.strip_prefix('[') {
                let Some((step, after)) = bracket(inside) else { return Err(format!("`{text}`: a `[` has no `]`")) };
                steps.push(step);
                rest = after.strip_prefix('.').unwrap_or(after);
                continue;
            }
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            let (key, after) = rest.split_at(end);
            if key.is_empty() {
                return Err(format!("`{text}`: there is nothing between two dots"));
            }
            steps.push(Step::Key(key.to_owned()));
            rest = after.strip_prefix('.').unwrap_or(after);
        }
        Ok(Self(steps))
    }

    pub fn with_key(&self, key: &str) -> Self {
        let mut steps = self.0.clone();
        steps.push(Step::Key(key.to_owned()));
        Self(steps)
    }

    pub fn with_index(&self, index: usize) -> Self {
        let mut steps = self.0.clone();
        steps.push(Step::Index(index));
        Self(steps)
    }

    /// The node at this path, with the place of its key where it has one.
    pub fn find<'n>(&self, node: &'n Node) -> Option<&'n Node> {
        self.0.iter().try_fold(node, |node, step| step_into(node, step).map(|(_, value)| value))
    }

    /// The key of the last step, or the item itself in a list.
    pub fn find_key<'n>(&self, node: &'n Node) -> Option<&'n Node> {
        let (last, before) = self.0.split_last()?;
        let parent = before.iter().try_fold(node, |node, step| step_into(node, step).map(|(_, value)| value))?;
        let (key, value) = step_into(parent, last)?;
        Some(key.unwrap_or(value))
    }

    /// The value at this path.
    pub fn value<'v>(&self, value: &'v Value) -> Option<&'v Value> {
        self.0.iter().try_fold(value, |value, step| match step {
            Step::Key(key) => value.get(key),
            Step::Index(index) => value.as_list()?.get(*index),
            Step::Item(name) => value
                .as_list()?
                .iter()
                .find(|item| item.get("name").or_else(|| item.get("key")).and_then(Value::as_str) == Some(name)),
        })
    }

    /// The same with every named item as its number in this object.
    pub fn resolved(&self, node: &Node) -> Option<Self> {
        let mut at = node;
        let mut steps = Vec::new();
        for step in &self.0 {
            let (_, next) = step_into(at, step)?;
            steps.push(match (step, at.as_list()) {
                (Step::Item(_), Some(items)) => Step::Index(items.iter().position(|item| std::ptr::eq(item, next))?),
                _ => step.clone(),
            });
            at = next;
        }
        Some(Self(steps))
    }
}

fn bracket(inside: &str) -> Option<(Step, &str)> {
    if let Some(quoted) = inside.strip_prefix('"') {
        let (key, after) = quoted.split_once("\"]")?;
        return Some((Step::Key(key.to_owned()), after));
    }
    let (word, after) = inside.split_once(']')?;
    let step = match word.parse() {
        Ok(index) => Step::Index(index),
        Err(_) => Step::Item(word.trim_start_matches("name=").to_owned()),
    };
    Some((step, after))
}

fn step_into<'n>(node: &'n Node, step: &Step) -> Option<(Option<&'n Node>, &'n Node)> {
    match (step, &node.kind) {
        (Step::Key(wanted), Kind::Map(entries)) => {
            // The last of equal keys counts.
            let found = entries.iter().rev().find(|(key, _)| key.as_scalar() == Some(wanted))?;
            Some((Some(&found.0), &found.1))
        }
        (Step::Index(index), Kind::List(items)) => items.get(*index).map(|item| (None, item)),
        (Step::Key(wanted), Kind::List(items)) => items.get(wanted.parse::<usize>().ok()?).map(|item| (None, item)),
        (Step::Item(wanted), Kind::List(items)) => {
            let named = |item: &&Node| {
                ["name", "key", "containerPort", "port"]
                    .iter()
                    .any(|key| item.get(key).and_then(Node::as_scalar) == Some(wanted))
            };
            items.iter().find(named).map(|item| (None, item))
        }
        _ => None,
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if key.contains(['.', '[', '/']) => write!(f, "[\"{key}\"]")?,
                Step::Key(key) if i == 0 => f.write_str(key)?,
                Step::Key(key) => write!(f, ".{key}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Item(name) => write!(f, "[{name}]")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_as_they_are_written() {
        for text in ["spec.containers[0].image", "metadata.annotations[\"a.b/c\"]", "spec.containers[web]", "data"] {
            assert_eq!(Path::parse(text).unwrap().to_string(), text);
        }
        assert!(Path::parse("a..b").is_err() && Path::parse("a[0").is_err());
        let text = "spec:\n  containers:\n  - name: a\n  - name: web\n    image: x\n";
        let root = yaml::parse_all(text, &yaml::Limits::default(), false).unwrap().remove(0).root.unwrap();
        let path = Path::parse("spec.containers[web].image").unwrap();
        let found = path.find(&root).unwrap();
        assert_eq!((found.as_scalar(), found.start.line), (Some("x"), 5));
        assert_eq!(path.resolved(&root).unwrap().to_string(), "spec.containers[1].image");
    }
}
