//! Reads typed values out of a YAML tree and writes down everything that does not fit, instead of ending at the first.

use std::{str::FromStr, sync::Arc, time::Duration};

use crate::{
    diagnostics::{Diagnostic, Diagnostics, Source, Span, suggest},
    parse::LATER_KEYS,
    units,
    yaml::{Key, Node, Value},
};

/// Where there is nothing to suggest.
pub(crate) const NO_HINT: Option<String> = None;

/// More than anybody reads.
const MOST: usize = 50;

pub(crate) struct Reader {
    pub source: Arc<Source>,
    found: Vec<Diagnostic>,
}

/// A value with the place where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Located<T> {
    pub value: T,
    pub at: Span,
}

/// The entries of a mapping whose keys are all known.
pub(crate) struct Fields<'n> {
    pub at: Span,
    what: &'static str,
    entries: &'n [(Key, Node)],
}

impl<'n> Fields<'n> {
    /// The value of a key, unless there is none.
    pub fn get(&self, key: &str) -> Option<&'n Node> {
        self.entry(key).map(|(_, node)| node).filter(|node| !matches!(node.value, Value::Null))
    }

    /// The key itself, also when it has no value.
    pub fn entry(&self, key: &str) -> Option<&'n (Key, Node)> {
        self.entries.iter().find(|(k, _)| k.text == key)
    }
}

impl Reader {
    pub fn new(source: Arc<Source>) -> Self {
        Self { source, found: Vec::new() }
    }

    pub fn error(&mut self, at: Span, message: impl Into<String>, hint: impl Into<Option<String>>) {
        if self.found.len() < MOST {
            self.found.push(self.source.diagnostic(at, message, hint.into()));
        }
    }

    /// The value, unless something was wrong.
    pub fn finish<T>(mut self, value: T) -> Result<T, Diagnostics> {
        if self.found.is_empty() {
            return Ok(value);
        }
        self.found.sort_by_key(|diagnostic| (diagnostic.at.line, diagnostic.at.column));
        Err(Diagnostics(self.found))
    }

    pub fn wrong(&mut self, node: &Node, expected: &str, hint: impl Into<Option<String>>) {
        self.error(node.at, format!("expected {expected}, found {}", node.kind()), hint);
    }

    /// Opens a mapping and writes down the keys that are not known.
    pub fn fields<'n>(&mut self, node: &'n Node, what: &'static str, known: &[&'static str]) -> Option<Fields<'n>> {
        let Value::Map(entries) = &node.value else {
            let keys: Vec<String> = known.iter().take(4).map(|key| format!("`{key}`")).collect();
            let (keys, found) = (keys.join(", "), node.kind());
            self.error(node.at, format!("{what} must be a mapping with keys such as {keys}, found {found}"), NO_HINT);
            return None;
        };
        for (key, _) in entries {
            // At the top, `x-…` holds what is only there to be aliased.
            let template = what == TOP && key.text.starts_with("x-");
            let later = what == STEP && LATER_KEYS.contains(&key.text.as_str());
            if later {
                self.error(key.at, format!("`{}` is not supported yet", key.text), "take it out".to_owned());
            } else if !template && !known.contains(&key.text.as_str()) {
                let hint = suggest(&key.text, known.iter().copied());
                self.error(key.at, format!("{what} has no key `{}`", clip(&key.text)), hint);
            }
        }
        Some(Fields { at: node.at, what, entries })
    }

    /// The value of a key that must be there.
    pub fn require<'n>(&mut self, fields: &Fields<'n>, key: &str, hint: impl Into<Option<String>>) -> Option<&'n Node> {
        match fields.entry(key) {
            Some((key, Node { value: Value::Null, .. })) => {
                self.error(key.at, format!("`{}` has no value", key.text), hint);
                None
            }
            Some((_, node)) => Some(node),
            None => {
                self.error(fields.at, format!("{} needs `{key}`", fields.what), hint);
                None
            }
        }
    }

    /// Any scalar, as it was written.
    pub fn text(&mut self, node: &Node) -> Option<Located<String>> {
        match &node.value {
            Value::Text { text, .. } if text.contains('\0') => {
                self.error(node.at, "a text cannot hold the character NUL", NO_HINT);
                None
            }
            Value::Text { text, .. } => Some(Located { value: text.clone(), at: node.at }),
            _ => {
                self.wrong(node, "a text", NO_HINT);
                None
            }
        }
    }

    /// A text that parses as `T`, whose error is a whole sentence.
    pub fn parsed<T: FromStr<Err: std::fmt::Display>>(&mut self, node: &Node) -> Option<Located<T>> {
        let text = self.text(node)?;
        match text.value.parse() {
            Ok(value) => Some(Located { value, at: text.at }),
            Err(error) => {
                self.error(text.at, error.to_string(), NO_HINT);
                None
            }
        }
    }

    /// A list; a single value stands for a list of one.
    pub fn list<'n>(&mut self, node: &'n Node) -> &'n [Node] {
        match &node.value {
            Value::List(items) => items,
            Value::Null => &[],
            _ => std::slice::from_ref(node),
        }
    }

    /// A list of mappings: here a single mapping is nearly always a `-` that is missing.
    pub fn list_of_maps<'n>(&mut self, node: &'n Node, example: &str) -> &'n [Node] {
        match &node.value {
            Value::List(items) => items,
            Value::Null => &[],
            _ => {
                self.wrong(node, "a list", format!("start each entry with `-`, as in `{example}`"));
                &[]
            }
        }
    }

    pub fn texts(&mut self, node: &Node) -> Vec<Located<String>> {
        self.list(node).iter().filter_map(|item| self.text(item)).collect()
    }

    /// One of a few words.
    pub fn choice<T: Clone>(&mut self, node: &Node, what: &str, choices: &[(&'static str, T)]) -> Option<T> {
        let text = self.text(node)?;
        let found = choices.iter().find(|(word, _)| *word == text.value);
        if found.is_none() {
            let hint = suggest(&text.value, choices.iter().map(|(word, _)| *word));
            self.error(text.at, format!("`{}` is not {what}", clip(&text.value)), hint);
        }
        found.map(|(_, value)| value.clone())
    }

    pub fn duration(&mut self, node: &Node, least: Duration, most: Duration) -> Option<Duration> {
        let text = self.text(node)?;
        let Some(duration) = units::duration(&text.value) else {
            let hint = match text.value.parse::<u64>() {
                Ok(number) => format!("say which unit: `{number}s` or `{number}m`"),
                Err(_) => "write it like `20s`, `5m` or `1h30m`".into(),
            };
            self.error(text.at, format!("`{}` is not a duration", clip(&text.value)), hint);
            return None;
        };
        if duration < least || duration > most {
            let message = format!("`{}` is not between {least:?} and {} hours", text.value, most.as_secs() / 3600);
            self.error(text.at, message, NO_HINT);
            return None;
        }
        Some(duration)
    }

    pub fn size(&mut self, node: &Node, least: u64) -> Option<u64> {
        let text = self.text(node)?;
        match units::size(&text.value) {
            Some(size) if size >= least => Some(size),
            Some(_) => {
                let message = format!("`{}` is less than {} MiB", text.value, least >> 20);
                self.error(text.at, message, "write it like `512Mi` or `2Gi`".to_owned());
                None
            }
            None => {
                let message = format!("`{}` is not a size", clip(&text.value));
                self.error(text.at, message, "write it like `512Mi` or `2Gi`".to_owned());
                None
            }
        }
    }

    /// A path inside the repository, without `./` and `/` at its ends; `.` becomes empty.
    pub fn path(&mut self, node: &Node) -> Option<String> {
        let text = self.text(node)?;
        let wrong = if text.value.starts_with('/') {
            Some("it starts with `/`")
        } else if text.value.split('/').any(|part| part == "..") {
            Some("it goes up with `..`")
        } else if text.value.contains('\\') || text.value.chars().any(char::is_control) {
            Some("it has a character that paths cannot have")
        } else {
            None
        };
        if let Some(wrong) = wrong {
            let message = format!("`{}` is not a path inside the repository: {wrong}", clip(&text.value));
            self.error(text.at, message, "write it relative to the top of the repository".to_owned());
            return None;
        }
        let parts: Vec<&str> = text.value.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
        Some(parts.join("/"))
    }

    /// Paths inside the repository.
    pub fn paths(&mut self, node: &Node) -> Vec<String> {
        self.list(node).iter().filter_map(|item| self.path(item)).collect()
    }

    /// Patterns of paths inside the repository.
    pub fn globs(&mut self, node: &Node) -> Vec<String> {
        let mut globs = Vec::new();
        for item in self.list(node) {
            let Some(glob) = self.path(item) else { continue };
            match globset::GlobBuilder::new(&glob).literal_separator(true).build() {
                Ok(_) if !glob.is_empty() => globs.push(glob),
                Ok(_) => self.error(item.at, "this pattern matches nothing", "write `**` for everything".to_owned()),
                Err(error) => {
                    self.error(item.at, format!("`{}` is not a pattern: {}", clip(&glob), error.kind()), NO_HINT)
                }
            }
        }
        globs
    }
}

/// How the whole file is called in messages.
pub(crate) const TOP: &str = "the file";
/// How a step is called in messages.
pub(crate) const STEP: &str = "a step";

/// Bounds what a message repeats.
pub(crate) fn clip(text: &str) -> String {
    let one_line = text.lines().next().unwrap_or_default();
    let short: String = one_line.chars().take(60).collect();
    if short.len() < text.len() { format!("{short}…") } else { short }
}
