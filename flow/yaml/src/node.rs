//! The tree of a document as it is written.

use crate::Mark;

/// How a node is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Style {
    /// A plain scalar, a block list, a block map.
    #[default]
    Plain,
    SingleQuoted,
    DoubleQuoted,
    Literal,
    Folded,
    /// A list or map in brackets.
    Flow,
}

/// Comments that belong to a node, each line with its `#`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Comments {
    /// Lines above the node.
    pub head: String,
    /// At the end of the node's line.
    pub line: String,
    /// Lines below the node that belong to nothing that follows.
    pub foot: String,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    Scalar(String),
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
    /// Stands for the node with this anchor.
    Alias(String),
}

/// One node of a document.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    pub kind: Kind,
    pub style: Style,
    /// An explicit tag, short where there is a short form (`!!str`), else as written.
    pub tag: Option<Box<str>>,
    pub anchor: Option<Box<str>>,
    pub comments: Option<Box<Comments>>,
    /// Where the node starts; line 0 for nodes that were not read.
    pub start: Mark,
    /// Behind its last character.
    pub end: Mark,
}

impl Node {
    fn made(kind: Kind) -> Self {
        Self {
            kind,
            style: Style::Plain,
            tag: None,
            anchor: None,
            comments: None,
            start: Mark::default(),
            end: Mark::default(),
        }
    }

    /// A string, quoted when printed where it would read as something else.
    pub fn string(text: impl Into<String>) -> Self {
        Self { tag: Some("!!str".into()), ..Self::made(Kind::Scalar(text.into())) }
    }

    /// A plain scalar: its type is what its text reads as.
    pub fn plain(text: impl Into<String>) -> Self {
        Self::made(Kind::Scalar(text.into()))
    }

    pub fn list(items: Vec<Node>) -> Self {
        Self::made(Kind::List(items))
    }

    pub fn map(entries: Vec<(Node, Node)>) -> Self {
        Self::made(Kind::Map(entries))
    }

    pub fn as_scalar(&self) -> Option<&str> {
        if let Kind::Scalar(text) = &self.kind { Some(text) } else { None }
    }

    pub fn as_list(&self) -> Option<&[Node]> {
        if let Kind::List(items) = &self.kind { Some(items) } else { None }
    }

    pub fn as_map(&self) -> Option<&[(Node, Node)]> {
        if let Kind::Map(entries) = &self.kind { Some(entries) } else { None }
    }

    pub fn as_map_mut(&mut self) -> Option<&mut Vec<(Node, Node)>> {
        if let Kind::Map(entries) = &mut self.kind { Some(entries) } else { None }
    }

    pub fn as_list_mut(&mut self) -> Option<&mut Vec<Node>> {
        if let Kind::List(items) = &mut self.kind { Some(items) } else { None }
    }

    /// The value under a key of a map.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.as_map()?.iter().find(|(name, _)| name.as_scalar() == Some(key)).map(|(_, value)| value)
    }

    pub fn get_mut(&mut self, key: &str) -> Option<&mut Node> {
        self.as_map_mut()?.iter_mut().find(|(name, _)| name.as_scalar() == Some(key)).map(|(_, value)| value)
    }

    /// True for a scalar that is not written as plain text, and so is a string whatever it says.
    pub fn is_quoted(&self) -> bool {
        matches!(self.style, Style::SingleQuoted | Style::DoubleQuoted | Style::Literal | Style::Folded)
    }
}

/// One document of a stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Nothing for a document without content.
    pub root: Option<Node>,
    /// Where its first token is.
    pub start: Mark,
    /// True when aliases are in it.
    pub aliases: bool,
}

impl Document {
    /// The root with every alias replaced by what it stands for, without anchors and merge keys (`<<`).
    pub fn into_expanded(self, limits: &crate::Limits) -> Result<Option<Node>, crate::Error> {
        match self.root {
            Some(root) if self.aliases => crate::decode::expand(root, limits).and_then(crate::decode::merged).map(Some),
            Some(root) => Ok(Some(strip(root))),
            None => Ok(None),
        }
    }
}

/// Without anchors that nothing refers to.
fn strip(mut node: Node) -> Node {
    fn clear(node: &mut Node) {
        node.anchor = None;
        match &mut node.kind {
            Kind::List(items) => items.iter_mut().for_each(clear),
            Kind::Map(entries) => entries.iter_mut().for_each(|(key, value)| {
                clear(key);
                clear(value);
            }),
            _ => {}
        }
    }
    clear(&mut node);
    node
}
