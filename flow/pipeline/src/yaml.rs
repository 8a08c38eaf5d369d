//! YAML to a tree whose every node knows where it stands. Bounded in size, depth and number of nodes, aliases counted as what they stand for.

use std::{collections::HashMap, sync::Arc};

use serde_saphyr::granit_parser::{self, ErrorKind, Event, Parser, ScalarStyle};

use crate::diagnostics::{Diagnostic, Source, Span};

/// The largest file, in bytes.
pub const LARGEST: usize = 256 << 10;
/// How deep lists and mappings may lie in each other.
const DEEPEST: usize = 24;
/// How many nodes there may be.
const MOST_NODES: usize = 20_000;

#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub value: Value,
    pub at: Span,
}

#[derive(Debug, Clone)]
pub(crate) enum Value {
    Null,
    /// Any other scalar as it was written: what it is depends on what is asked for. `plain` is without quotes.
    Text {
        text: String,
        plain: bool,
    },
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    pub text: String,
    pub at: Span,
}

impl Node {
    /// As people call it.
    pub fn kind(&self) -> &'static str {
        match &self.value {
            Value::Null => "nothing",
            Value::Text { text, plain: true } if matches!(text.as_str(), "true" | "false") => "true or false",
            Value::Text { text, plain: true } if text.parse::<f64>().is_ok() => "a number",
            Value::Text { .. } => "a text",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }

    fn weight(&self) -> usize {
        1 + match &self.value {
            Value::List(items) => items.iter().map(Self::weight).sum(),
            Value::Map(entries) => entries.iter().map(|(_, value)| 1 + value.weight()).sum(),
            _ => 0,
        }
    }
}

/// A collection that is not closed yet.
enum Open {
    List(Vec<Node>),
    Map { entries: Vec<(Key, Node)>, key: Option<Key> },
}

struct Frame {
    open: Open,
    at: Span,
    anchor: usize,
}

struct Builder<'s> {
    source: &'s Source,
    stack: Vec<Frame>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    root: Option<Node>,
}

pub(crate) fn parse(source: &Arc<Source>) -> Result<Node, Diagnostic> {
    let text = source.text();
    if text.len() > LARGEST {
        let message = format!("the file has {} bytes, the limit is {LARGEST}", text.len());
        return Err(source.diagnostic(Span { line: 1, column: 1, length: 1 }, message, None));
    }
    let options = granit_parser::options! {
        emit_comments: false,
        flow_nesting_limit: DEEPEST * 2,
        block_nesting_limit: DEEPEST * 2,
    };
    let mut builder = Builder { source, stack: Vec::new(), anchors: HashMap::new(), nodes: 0, root: None };
    for event in Parser::new_from_str_with_options(text, options) {
        match event {
            Ok((event, span)) => builder.event(event, &span)?,
            Err(error) => return Err(syntax(source, &error)),
        }
    }
    builder.root.ok_or_else(|| {
        let hint = "write `steps:` with at least one step".to_owned();
        source.diagnostic(Span { line: 1, column: 1, length: 1 }, "the file is empty", Some(hint))
    })
}

fn syntax(source: &Source, error: &granit_parser::ScanError) -> Diagnostic {
    let mark = error.marker();
    let at = clamp(source, mark.line(), mark.col());
    let line = source.text().lines().nth(at.line.saturating_sub(1) as usize).unwrap_or_default();
    let indent = &line[..line.len() - line.trim_start().len()];
    let hint = if indent.contains('\t') {
        Some("YAML is indented with spaces, not with tabs".to_owned())
    } else if matches!(error.kind(), ErrorKind::UnknownAnchor) {
        Some("write `&name` where the alias is defined, before it is used".to_owned())
    } else {
        None
    };
    source.diagnostic(at, format!("this is not YAML: {}", error.info()), hint)
}

/// A place that exists, also for an error at the end of the file.
fn clamp(source: &Source, line: usize, column: usize) -> Span {
    let last = source.text().lines().count().max(1);
    let (line, column) = if line > last {
        (last, source.text().lines().last().map_or(0, |text| text.chars().count()))
    } else {
        (line.max(1), column)
    };
    Span { line: small(line), column: small(column + 1), length: 1 }
}

fn small(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

impl Builder<'_> {
    fn span(&self, span: &granit_parser::Span) -> Span {
        let (start, end) = (&span.start, &span.end);
        let length = if end.line() == start.line() { end.col().saturating_sub(start.col()) } else { 1 };
        Span { length: small(length.max(1)), ..clamp(self.source, start.line(), start.col()) }
    }

    fn event(&mut self, event: Event<'_>, span: &granit_parser::Span) -> Result<(), Diagnostic> {
        let at = self.span(span);
        if let Some(tag) = event.tag().filter(|tag| !tag.is_yaml_core_schema()) {
            let hint = "leave the tag out".to_owned();
            return Err(self.source.diagnostic(at, format!("the tag `{tag}` is not known"), Some(hint)));
        }
        match event {
            Event::DocumentStart(..) if self.root.is_some() => {
                let hint = "remove this document and what follows".to_owned();
                Err(self.source.diagnostic(at, "the file has a second document", Some(hint)))
            }
            Event::Scalar(text, style, anchor, _) => {
                let plain = matches!(style, ScalarStyle::Plain);
                let value = if plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL") {
                    Value::Null
                } else {
                    Value::Text { text: text.into_owned(), plain }
                };
                let at = if matches!(style, ScalarStyle::Literal | ScalarStyle::Folded) {
                    Span { length: 1, ..at }
                } else {
                    at
                };
                self.add(Node { value, at }, anchor)
            }
            Event::SequenceStart(_, anchor, _) => self.open(Open::List(Vec::new()), at, anchor),
            Event::MappingStart(_, anchor, _) => self.open(Open::Map { entries: Vec::new(), key: None }, at, anchor),
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(Frame { open, at, anchor }) = self.stack.pop() else { return Ok(()) };
                let value = match open {
                    Open::List(items) => Value::List(items),
                    Open::Map { entries, .. } => Value::Map(merge(self.source, entries)?),
                };
                self.add(Node { value, at }, anchor)
            }
            Event::Alias(anchor) => match self.anchors.get(&anchor) {
                Some(node) => {
                    let mut node = node.clone();
                    self.nodes += node.weight();
                    node.at = at;
                    self.add(node, 0)
                }
                None => Err(self.source.diagnostic(at, "this alias contains itself", None)),
            },
            _ => Ok(()),
        }
    }

    fn open(&mut self, open: Open, at: Span, anchor: usize) -> Result<(), Diagnostic> {
        if self.stack.len() >= DEEPEST {
            return Err(self.source.diagnostic(at, format!("nested more than {DEEPEST} deep"), None));
        }
        self.stack.push(Frame { open, at: Span { length: 1, ..at }, anchor });
        Ok(())
    }

    fn add(&mut self, node: Node, anchor: usize) -> Result<(), Diagnostic> {
        self.nodes += 1;
        if self.nodes > MOST_NODES {
            let message = format!("the file has more than {MOST_NODES} values, aliases counted as what they stand for");
            return Err(self.source.diagnostic(node.at, message, None));
        }
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        match self.stack.last_mut().map(|frame| &mut frame.open) {
            None => self.root = Some(node),
            Some(Open::List(items)) => items.push(node),
            Some(Open::Map { entries, key }) => match key.take() {
                Some(key) => entries.push((key, node)),
                None => match node.value {
                    Value::Text { text, .. } => *key = Some(Key { text, at: node.at }),
                    Value::Null => *key = Some(Key { text: String::new(), at: node.at }),
                    _ => {
                        let message = format!("a key must be a text, this is {}", node.kind());
                        return Err(self.source.diagnostic(node.at, message, None));
                    }
                },
            },
        }
        Ok(())
    }
}

/// Resolves `<<` and refuses keys that stand there twice: the second is nearly always a mistake.
fn merge(source: &Source, entries: Vec<(Key, Node)>) -> Result<Vec<(Key, Node)>, Diagnostic> {
    let (merged, own): (Vec<_>, Vec<_>) = entries.into_iter().partition(|(key, _)| key.text == "<<");
    let mut seen: HashMap<String, u32> = HashMap::new();
    for (key, _) in &own {
        if let Some(line) = seen.insert(key.text.clone(), key.at.line) {
            let hint = format!("it stands on line {line} already");
            return Err(source.diagnostic(key.at, format!("the key `{}` stands here twice", key.text), Some(hint)));
        }
    }
    let mut all = own;
    for (key, node) in merged {
        let maps = match node.value {
            Value::List(items) => items,
            _ => vec![node],
        };
        for map in maps {
            let Value::Map(entries) = map.value else {
                let message = format!("`<<` takes in a mapping, this is {}", map.kind());
                return Err(source.diagnostic(key.at, message, None));
            };
            for (key, node) in entries {
                if !seen.contains_key(&key.text) {
                    seen.insert(key.text.clone(), key.at.line);
                    all.push((key, node));
                }
            }
        }
    }
    Ok(all)
}
