//! From tokens to a tree of nodes.

use std::collections::HashSet;

use crate::{Document, Error, ErrorKind, Kind, Limits, Mark, Node, Style, comment, scan::Scanner, token::What};

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
            What::Version | What::TagDirective { .. } | What::DocumentStart | What::DocumentEnd | What::StreamEnd => {
                None
            }
            _ => Some(self.node(true, false)?),
        };
        // What follows has to begin with `---`; whoever reads only this document is not told if it does not.
        if matches!(self.scanner.peek()?.what, What::DocumentEnd) {
            self.scanner.next()?;
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
                What::DocumentStart => return Ok(()),
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

    /// Small on purpose: what recurses keeps little on the stack.
    fn node(&mut self, block: bool, indentless: bool) -> Result<Node, Error> {
        let mut node = match self.begin()? {
            Begun::Whole(node) => return Ok(*node),
            Begun::Open(node) => node,
        };
        let end = self.content(&mut node, block, indentless)?;
        node.end = end;
        self.depth -= 1;
        Ok(*node)
    }

    /// An alias, or the anchor and tag of what follows.
    #[inline(never)]
    fn begin(&mut self) -> Result<Begun, Error> {
        let first = self.scanner.peek()?;
        let start = first.start;
        if matches!(first.what, What::Alias(_)) {
            let token = self.scanner.next()?;
            self.counted(start)?;
            let What::Alias(name) = token.what else { return Ok(Begun::Whole(Box::new(Self::empty(start)))) };
            if !self.anchors.contains(name) {
                let message = format!("unknown anchor '{name}' referenced");
                return Err(Error::new(ErrorKind::Type, message, start));
            }
            self.aliases = true;
            let kind = Kind::Alias(name.to_owned());
            return Ok(Begun::Whole(Box::new(Node { kind, start, end: token.end, ..Node::plain("") })));
        }
        let mut node = Box::new(Self::empty(start));
        loop {
            match &self.scanner.peek()?.what {
                What::Anchor(_) if node.anchor.is_none() => {
                    let token = self.scanner.next()?;
                    node.end = token.end;
                    if let What::Anchor(name) = token.what {
                        node.anchor = Some(name.into());
                        self.anchors.insert(name);
                    }
                }
                What::Tag { .. } if node.tag.is_none() => {
                    let token = self.scanner.next()?;
                    node.end = token.end;
                    if let What::Tag { handle, suffix } = token.what {
                        node.tag = Some(self.full_tag(handle, suffix, start, token.start)?);
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
        Ok(Begun::Open(node))
    }

    fn content(&mut self, node: &mut Node, block: bool, indentless: bool) -> Result<Mark, Error> {
        let token = self.scanner.peek()?;
        let at = token.start;
        match &token.what {
            What::BlockEntry if indentless => self.indentless(node, at),
            What::Scalar { .. } => self.scalar(node),
            What::FlowSequence => self.flow_list(node, at),
            What::FlowMapping => self.flow_map(node, at),
            What::BlockSequence if block => self.block_list(node, at),
            What::BlockMapping if block => self.block_map(node, at),
            _ if node.anchor.is_some() || node.tag.is_some() => Ok(node.end),
            _ => Err(Self::fault("did not find expected node content", at).since(node.start)),
        }
    }

    #[inline(never)]
    fn scalar(&mut self, node: &mut Node) -> Result<Mark, Error> {
        let token = self.scanner.next()?;
        if let What::Scalar { text, style } = token.what {
            // `!` alone makes a scalar plain.
            node.style = if node.tag.as_deref() == Some("!") { Style::Plain } else { style };
            node.kind = Kind::Scalar(text.into_owned());
        }
        Ok(token.end)
    }

    /// Takes the next token; where it ends.
    #[inline(never)]
    fn take(&mut self) -> Result<Mark, Error> {
        Ok(self.scanner.next()?.end)
    }

    /// A node, or an empty one at `at` when the next token is one of `ends`.
    fn node_or_empty(
        &mut self,
        at: Mark,
        ends: fn(&What<'a>) -> bool,
        block: bool,
        indentless: bool,
    ) -> Result<Node, Error> {
        if ends(&self.scanner.peek()?.what) {
            return Ok(Self::empty(at));
        }
        self.node(block, indentless)
    }

    fn block_list(&mut self, node: &mut Node, began: Mark) -> Result<Mark, Error> {
        self.take()?;
        let mut items = Vec::new();
        while self.block_item(began)? {
            let at = self.take()?;
            let ends = |what: &What<'a>| matches!(what, What::BlockEntry | What::BlockEnd);
            items.push(self.node_or_empty(at, ends, true, false)?);
        }
        let end = items.last().map_or(began, |item| item.end);
        node.kind = Kind::List(items);
        Ok(end)
    }

    #[inline(never)]
    fn block_item(&mut self, began: Mark) -> Result<bool, Error> {
        let token = self.scanner.peek()?;
        match token.what {
            What::BlockEntry => Ok(true),
            What::BlockEnd => {
                self.scanner.next()?;
                Ok(false)
            }
            _ => Err(Self::fault("did not find expected '-' indicator", token.start).since(began)),
        }
    }

    fn indentless(&mut self, node: &mut Node, began: Mark) -> Result<Mark, Error> {
        let mut items = Vec::new();
        while matches!(self.scanner.peek()?.what, What::BlockEntry) {
            let at = self.take()?;
            let ends = |what: &What<'a>| matches!(what, What::BlockEntry | What::Key | What::Value | What::BlockEnd);
            items.push(self.node_or_empty(at, ends, true, false)?);
        }
        let end = items.last().map_or(began, |item| item.end);
        node.kind = Kind::List(items);
        Ok(end)
    }

    fn block_map(&mut self, node: &mut Node, began: Mark) -> Result<Mark, Error> {
        self.take()?;
        let mut entries: Vec<(Node, Node)> = Vec::new();
        let ends: fn(&What<'a>) -> bool = |what| matches!(what, What::Key | What::Value | What::BlockEnd);
        while let Some((at, key)) = self.block_key(began)? {
            let key = if key { self.node_or_empty(at, ends, true, true)? } else { Self::empty(at) };
            let (at, value) = self.block_value()?;
            let value = if value { self.node_or_empty(at, ends, true, true)? } else { Self::empty(at) };
            entries.push((key, value));
        }
        let end = entries.last().map_or(began, |(_, value)| value.end);
        node.kind = Kind::Map(entries);
        Ok(end)
    }

    /// Where the next key is, and whether it has an indicator; nothing at the end of the map.
    #[inline(never)]
    fn block_key(&mut self, began: Mark) -> Result<Option<(Mark, bool)>, Error> {
        let token = self.scanner.peek()?;
        let at = token.start;
        match token.what {
            What::Key => Ok(Some((self.scanner.next()?.end, true))),
            What::Value => Ok(Some((at, false))),
            What::BlockEnd => {
                self.scanner.next()?;
                Ok(None)
            }
            _ => Err(Self::fault("did not find expected key", at).since(began)),
        }
    }

    #[inline(never)]
    fn block_value(&mut self) -> Result<(Mark, bool), Error> {
        let token = self.scanner.peek()?;
        let at = token.start;
        if matches!(token.what, What::Value) { Ok((self.scanner.next()?.end, true)) } else { Ok((at, false)) }
    }

    fn flow_list(&mut self, node: &mut Node, began: Mark) -> Result<Mark, Error> {
        self.take()?;
        node.style = Style::Flow;
        let mut items = Vec::new();
        loop {
            match self.flow_item(began, items.is_empty(), &What::FlowSequenceEnd)? {
                Item::End(end) => {
                    node.kind = Kind::List(items);
                    return Ok(end);
                }
                // A single pair is a map of its own.
                Item::Key(at) => {
                    let pair = self.flow_pair(at, &What::FlowSequenceEnd)?;
                    let end = pair.1.end;
                    items.push(Node { style: Style::Flow, start: at, end, ..Node::map(vec![pair]) });
                }
                Item::Value(_) | Item::Node => items.push(self.node(false, false)?),
            }
        }
    }

    /// Over the comma before an item; what the item begins with.
    #[inline(never)]
    fn flow_item(&mut self, began: Mark, first: bool, end: &What<'a>) -> Result<Item, Error> {
        if !first && self.scanner.peek()?.what != *end {
            let token = self.scanner.peek()?;
            if !matches!(token.what, What::FlowEntry) {
                let bracket = if *end == What::FlowSequenceEnd { ']' } else { '}' };
                let message = format!("did not find expected ',' or '{bracket}'");
                return Err(Self::fault(&message, token.start).since(began));
            }
            self.scanner.next()?;
        }
        let token = self.scanner.peek()?;
        let at = token.start;
        if token.what == *end {
            return Ok(Item::End(self.scanner.next()?.end));
        }
        match token.what {
            What::Key => {
                self.scanner.next()?;
                Ok(Item::Key(at))
            }
            What::Value => Ok(Item::Value(at)),
            _ => Ok(Item::Node),
        }
    }

    /// What follows a `Key` token in brackets.
    fn flow_pair(&mut self, at: Mark, end: &What<'a>) -> Result<(Node, Node), Error> {
        let next = &self.scanner.peek()?.what;
        let key = if matches!(next, What::Value | What::FlowEntry) || next == end {
            Self::empty(at)
        } else {
            self.node(false, false)?
        };
        let value = self.flow_value(end)?;
        Ok((key, value))
    }

    fn flow_value(&mut self, end: &What<'a>) -> Result<Node, Error> {
        let (at, value) = self.block_value()?;
        if !value {
            return Ok(Self::empty(at));
        }
        let next = &self.scanner.peek()?.what;
        if matches!(next, What::FlowEntry) || next == end {
            return Ok(Self::empty(at));
        }
        self.node(false, false)
    }

    fn flow_map(&mut self, node: &mut Node, began: Mark) -> Result<Mark, Error> {
        self.take()?;
        node.style = Style::Flow;
        let mut entries: Vec<(Node, Node)> = Vec::new();
        let end = What::FlowMappingEnd;
        loop {
            match self.flow_item(began, entries.is_empty(), &end)? {
                Item::End(end) => {
                    node.kind = Kind::Map(entries);
                    return Ok(end);
                }
                Item::Key(at) => {
                    let pair = self.flow_pair(at, &end)?;
                    entries.push(pair);
                }
                Item::Value(at) => {
                    let value = self.flow_value(&end)?;
                    entries.push((Self::empty(at), value));
                }
                // A key without an indicator before it, and so without a value.
                Item::Node => {
                    let key = self.node(false, false)?;
                    let value = self.flow_value(&end)?;
                    entries.push((key, value));
                }
            }
        }
    }
}

/// How a node begins.
enum Begun {
    Whole(Box<Node>),
    /// Its content is to be read.
    Open(Box<Node>),
}

/// What an item in brackets begins with.
enum Item {
    End(Mark),
    Key(Mark),
    Value(Mark),
    Node,
}
