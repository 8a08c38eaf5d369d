//! The tokens that the scanner hands to the parser.

use std::borrow::Cow;

use crate::{Mark, Style};

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum What<'a> {
    StreamEnd,
    Version,
    TagDirective { handle: &'a str, prefix: String },
    DocumentStart,
    DocumentEnd,
    BlockSequence,
    BlockMapping,
    BlockEnd,
    FlowSequence,
    FlowSequenceEnd,
    FlowMapping,
    FlowMappingEnd,
    BlockEntry,
    FlowEntry,
    Key,
    Value,
    Alias(&'a str),
    Anchor(&'a str),
    Tag { handle: String, suffix: String },
    Scalar { text: Cow<'a, str>, style: Style },
}

#[derive(Debug, Clone)]
pub(crate) struct Token<'a> {
    pub what: What<'a>,
    pub start: Mark,
    pub end: Mark,
}
