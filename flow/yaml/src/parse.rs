//! From tokens to a tree of nodes.

use std::collections::HashSet;

use crate::{
    Document, Error, ErrorKind, Kind, Limits, Mark, Node, Style, comment,
    scan::Scanner,
    token::{Token, What},
};

/// Reads every document of a stream. Comments are attached to the nodes they stand by when `comments` is set.
pub fn parse_all(text: &str, limits: &Limits, comments: bool) -> Result<Vec<Document>, Error> {
    let mut parser = Parser::new(text, limits)?;
    let mut documents = Vec::new();
    while let Some(document) = parser.document()? {
        documents.push(document);
    }
    if comments {
        comment::attach(&mut documents, &parser.scanner.remarks, text);
    }
    Ok(documents)
}

pub(crate) struct Parser<'a> {
    scanner: Scanner<'a>,
    directives: Vec<(String, String)>,
    anchors: HashSet<&'a str>,
    aliases: bool,
    nodes: usize,
    depth: usize,
    limits: Limits,
    first: bool,
}

/// go-yaml reads none of these raw.
fn check_characters(text: &str) -> Result<(), Error> {
    let bytes = text.as_bytes();
    for (i, &b) in bytes.iter().enumerate() {
        let refused = match b {
            0x20..=0x7E | b'\n' | b'\t' | b'\r' => false,
            0..=0x1F | 0x7F => true,
            0xC2 => matches!(bytes.get(i + 1), Some(0x80..=0x84 | 0x86..=0x9F)),
            0xEF => bytes.get(i + 1) == Some(&0xBF) && matches!(bytes.get(i + 2), Some(0xBE | 0xBF)),
            _ => false,
        };
        if refused {
            let line = bytes[..i].iter().filter(|&&b| b == b'\n').count() as u32 + 1;
            let start = bytes[..i].iter().rposition(|&b| b == b'\n').map_or(0, |n| n + 1);
            let column = text[start..i].chars().count() as u32 + 1;
            let mut error =
                Error::new(ErrorKind::Type, "control characters are not allowed", Mark { line, column, offset: i });
            error.kind = ErrorKind::Scan;
            return Err(error);
        }
    }
    Ok(())
}

impl<'a> Parser<'a> {
    pub(crate) fn new(text: &'a str, limits: &Limits) -> Result<Self, Error> {
        if text.len() > limits.bytes {
            let message = format!("the text has {} bytes, more than the {} allowed", text.len(), limits.bytes);
            return Err(Error::new(ErrorKind::Limit, message, Mark { line: 1, column: 1, offset: 0 }));
        }
        check_characters(text)?;
        Ok(Self {
            scanner: Scanner::new(text, limits.depth),
            directives: Vec::new(),
            anchors: HashSet::new(),
            aliases: false,
            nodes: 0,
            depth: 0,
            limits: *limits,
            first: true,
        })
    }

    fn fault(message: &str, at: Mark) -> Error {
        Error::new(ErrorKind::Syntax, message, at)
    }

    /// The next document, nothing at the end of the stream.
    pub(crate) fn document(&mut self) -> Result<Option<Document>, Error> {
        self.anchors.clear();
        self.aliases = false;
        if !self.first {
            while matches!(self.scanner.peek()?.what, What::DocumentEnd) {
                self.scanner.next()?;
            }
        }
        let start = self.scanner.peek()?.start;
        self.directives()?;
        let token = self.scanner.peek()?;
        match token.what {
            What::StreamEnd => return Ok(None),
            What::DocumentStart => {
                self.scanner.next()?;
            }
            _ if self.first && self.directives.is_empty() => {}
            _ => return Err(Self::fault("did not find expected <document start>", token.start)),
        }
        self.first = false;
        let token = self.scanner.peek()?;
        let root = match token.what {
            What::Version
            | What::TagDirective { .. }
            | What::DocumentStart
            | What::DocumentEnd
            | What::StreamEnd => None,
            _ => Some(self.node(true, false)?),
        };
        let token = self.scanner.peek()?;
        match token.what {
            What::DocumentEnd => {
                self.scanner.next()?;
                // What follows may be a document without `---` only after directives; go-yaml wants the indicator.
            }
            What::StreamEnd | What::DocumentStart | What::Version | What::TagDirective { .. } => {}
            _ => return Err(Self::fault("did not find expected <document start>", token.start)),
        }
        Ok(Some(Document { root, start, aliases: self.aliases }))
    }

    fn directives(&mut self) -> Result<(), Error> {
        self.directives.clear();
        let mut version = false;
        loop {
            let token = self.scanner.peek()?;
            match &token.what {
                What::Version => {
                    if version {
                        return Err(Self::fault("found duplicate %YAML directive", token.start));
                    }
                    version = true;
                }
                What::TagDirective { handle, prefix } => {
                    if self.directives.iter().any(|(known, _)| known == handle) {
                        return Err(Self::fault("found duplicate %TAG directive", token.start));
                    }
                    self.directives.push(((*handle).to_owned(), prefix.clone()));
                }
                What::DocumentStart | What::StreamEnd => return Ok(()),
                _ if version || !self.directives.is_empty() => {
                    return Err(Self::fault("did not find expected <document start>", token.start));
                }
                _ => return Ok(()),
            }
            self.scanner.next()?;
        }
    }

    fn full_tag(&self, handle: String, suffix: String, start: Mark, at: Mark) -> Result<Box<str>, Error> {
        let long = if handle.is_empty() {
            suffix
        } else if let Some((_, prefix)) = self.directives.iter().find(|(known, _)| *known == handle) {
            format!("{prefix}{suffix}")
        } else if handle == "!" {
            format!("!{suffix}")
        } else if handle == "!!" {
            format!("tag:yaml.org,2002:{suffix}")
        } else {
            return Err(Self::fault("found undefined tag handle", at).since(start));
        };
        Ok(match long.strip_prefix("tag:yaml.org,2002:") {
            Some(short) => format!("!!{short}").into(),
            None => long.into(),
        })
    }

    fn empty(at: Mark) -> Node {
        Node { start: at, end: at, ..Node::plain("") }
    }

    fn counted(&mut self, at: Mark) -> Result<(), Error> {
        self.nodes += 1;
        if self.nodes > self.limits.nodes {
            let message = format!("the text has more than the {} nodes allowed", self.limits.nodes);
            return Err(Error::new(ErrorKind::Limit, message, at));
        }
        Ok(())
    }

    fn node(&mut self, block: bool, indentless: bool) -> Result<Node, Error> {
        let first = self.scanner.peek()?;
        let start = first.start;
        if matches!(first.what, What::Alias(_)) {
            let token = self.scanner.next()?;
            self.counted(start)?;
            let What::Alias(name) = token.what else { return Ok(Self::empty(start)) };
            if !self.anchors.contains(name) {
                let message = format!("unknown anchor '{name}' referenced");
                return Err(Error::new(ErrorKind::Type, message, start));
            }
            self.aliases = true;
            let kind = Kind::Alias(name.to_owned());
            return Ok(Node { kind, start, end: token.end, ..Node::plain("") });
        }
        let mut anchor: Option<&'a str> = None;
        let mut tag: Option<Box<str>> = None;
        let mut end = start;
        loop {
            match &self.scanner.peek()?.what {
                What::Anchor(_) if anchor.is_none() => {
                    let token = self.scanner.next()?;
                    end = token.end;
                    if let What::Anchor(name) = token.what {
                        anchor = Some(name);
                    }
                }
                What::Tag { .. } if tag.is_none() => {
                    let token = self.scanner.next()?;
                    end = token.end;
                    if let What::Tag { handle, suffix } = token.what {
                        tag = Some(self.full_tag(handle, suffix, start, token.start)?);
                    }
                }
                _ => break,
            }
        }
        self.counted(start)?;
        self.depth += 1;
        if self.depth > self.limits.depth {
            let message = format!("exceeded max depth of {}", self.limits.depth);
            return Err(Error::new(ErrorKind::Limit, message, start));
        }
        if let Some(name) = anchor {
            self.anchors.insert(name);
        }
        let token = self.scanner.peek()?;
        let at = token.start;
        let (kind, style, until) = match &token.what {
            What::BlockEntry if indentless => self.indentless(at)?,
            What::Scalar { .. } => {
                let token = self.scanner.next()?;
                let What::Scalar { text, style } = token.what else { return Ok(Self::empty(at)) };
                // `!` alone makes a scalar plain.
                let style = if tag.as_deref() == Some("!") { Style::Plain } else { style };
                (Kind::Scalar(text.into_owned()), style, token.end)
            }
            What::FlowSequence => self.flow_list(at)?,
            What::FlowMapping => self.flow_map(at)?,
            What::BlockSequence if block => self.block_list(at)?,
            What::BlockMapping if block => self.block_map(at)?,
            _ if anchor.is_some() || tag.is_some() => (Kind::Scalar(String::new()), Style::Plain, end),
            _ => return Err(Self::fault("did not find expected node content", at).since(start)),
        };
        self.depth -= 1;
        Ok(Node { kind, style, tag, anchor: anchor.map(Into::into), comments: None, start, end: until })
    }

    fn block_list(&mut self, began: Mark) -> Result<(Kind, Style, Mark), Error> {
        self.scanner.next()?;
        let mut items = Vec::new();
        loop {
            let token = self.scanner.peek()?;
            match token.what {
                What::BlockEntry => {
                    let at = self.scanner.next()?.end;
                    let next = self.scanner.peek()?;
                    if matches!(next.what, What::BlockEntry | What::BlockEnd) {
                        items.push(Self::empty(at));
                    } else {
                        items.push(self.node(true, false)?);
                    }
                }
                What::BlockEnd => {
                    self.scanner.next()?;
                    let end = items.last().map_or(began, |item| item.end);
                    return Ok((Kind::List(items), Style::Plain, end));
                }
                _ => return Err(Self::fault("did not find expected '-' indicator", token.start).since(began)),
            }
        }
    }

    fn indentless(&mut self, began: Mark) -> Result<(Kind, Style, Mark), Error> {
        let mut items = Vec::new();
        while matches!(self.scanner.peek()?.what, What::BlockEntry) {
            let at = self.scanner.next()?.end;
            let next = self.scanner.peek()?;
            if matches!(next.what, What::BlockEntry | What::Key | What::Value | What::BlockEnd) {
                items.push(Self::empty(at));
            } else {
                items.push(self.node(true, false)?);
            }
        }
        let end = items.last().map_or(began, |item| item.end);
        Ok((Kind::List(items), Style::Plain, end))
    }

    fn block_map(&mut self, began: Mark) -> Result<(Kind, Style, Mark), Error> {
        self.scanner.next()?;
        let mut entries = Vec::new();
        loop {
            let token = self.scanner.peek()?;
            let at = token.start;
            let key = match token.what {
                What::Key => {
                    let at = self.scanner.next()?.end;
                    let next = self.scanner.peek()?;
                    if matches!(next.what, What::Key | What::Value | What::BlockEnd) {
                        Self::empty(at)
                    } else {
                        self.node(true, true)?
                    }
                }
                What::Value if entries.is_empty() || matches!(entries.last(), Some((_, _))) => Self::empty(at),
                What::BlockEnd => {
                    self.scanner.next()?;
                    let end = entries.last().map_or(began, |(_, value): &(Node, Node)| value.end);
                    return Ok((Kind::Map(entries), Style::Plain, end));
                }
                _ => return Err(Self::fault("did not find expected key", at).since(began)),
            };
            let token = self.scanner.peek()?;
            let value = if matches!(token.what, What::Value) {
                let at = self.scanner.next()?.end;
                let next = self.scanner.peek()?;
                if matches!(next.what, What::Key | What::Value | What::BlockEnd) {
                    Self::empty(at)
                } else {
                    self.node(true, true)?
                }
            } else {
                Self::empty(token.start)
            };
            entries.push((key, value));
        }
    }

    fn flow_list(&mut self, began: Mark) -> Result<(Kind, Style, Mark), Error> {
        self.scanner.next()?;
        let mut items = Vec::new();
        loop {
            if !items.is_empty() && !matches!(self.scanner.peek()?.what, What::FlowSequenceEnd) {
                self.flow_comma(began, "did not find expected ',' or ']'")?;
            }
            match self.scanner.peek()?.what {
                What::FlowSequenceEnd => {
                    let end = self.scanner.next()?.end;
                    return Ok((Kind::List(items), Style::Flow, end));
                }
                What::Key => {
                    // A single pair is a map of its own.
                    let at = self.scanner.next()?.start;
                    let (key, value) = self.flow_pair(at, What::FlowSequenceEnd)?;
                    let end = value.end;
                    items.push(Node { style: Style::Flow, start: at, end, ..Node::map(vec![(key, value)]) });
                }
                _ => items.push(self.node(false, false)?),
            }
        }
    }

    fn flow_comma(&mut self, began: Mark, message: &str) -> Result<(), Error> {
        let Token { what, start, .. } = self.scanner.peek()?;
        if matches!(what, What::FlowEntry) {
            self.scanner.next()?;
            return Ok(());
        }
        Err(Self::fault(message, *start).since(began))
    }

    /// What follows a `Key` token in brackets.
    fn flow_pair(&mut self, at: Mark, end: What<'a>) -> Result<(Node, Node), Error> {
        let next = self.scanner.peek()?;
        let key = if matches!(next.what, What::Value | What::FlowEntry) || next.what == end {
            Self::empty(at)
        } else {
            self.node(false, false)?
        };
        let value = self.flow_value(&end)?;
        Ok((key, value))
    }

    fn flow_value(&mut self, end: &What<'a>) -> Result<Node, Error> {
        let token = self.scanner.peek()?;
        let at = token.start;
        if !matches!(token.what, What::Value) {
            return Ok(Self::empty(at));
        }
        self.scanner.next()?;
        let next = self.scanner.peek()?;
        if matches!(next.what, What::FlowEntry) || next.what == *end {
            return Ok(Self::empty(at));
        }
        self.node(false, false)
    }

    fn flow_map(&mut self, began: Mark) -> Result<(Kind, Style, Mark), Error> {
        self.scanner.next()?;
        let mut entries: Vec<(Node, Node)> = Vec::new();
        loop {
            if !entries.is_empty() && !matches!(self.scanner.peek()?.what, What::FlowMappingEnd) {
                self.flow_comma(began, "did not find expected ',' or '}'")?;
            }
            let token = self.scanner.peek()?;
            let at = token.start;
            match token.what {
                What::FlowMappingEnd => {
                    let end = self.scanner.next()?.end;
                    return Ok((Kind::Map(entries), Style::Flow, end));
                }
                What::Key => {
                    self.scanner.next()?;
                    let pair = self.flow_pair(at, What::FlowMappingEnd)?;
                    entries.push(pair);
                }
                What::Value => {
                    let value = self.flow_value(&What::FlowMappingEnd)?;
                    entries.push((Self::empty(at), value));
                }
                _ => {
                    // A key without a value.
                    let key = self.node(false, false)?;
                    let value = self.flow_value(&What::FlowMappingEnd)?;
                    entries.push((key, value));
                }
            }
        }
    }
}
