//! YAML as the Go libraries of the Kubernetes field read and print it.
//!
//! Reads text into [`Node`] trees (positions, styles, comments, tags, anchors) and those into [`Value`]s by the rules of
//! go-yaml v2 (what `sigs.k8s.io/yaml` uses: `yes` is true, `0644` is 420) or v3 ([`Dialect`]); prints a [`Value`] byte for
//! byte as `sigs.k8s.io/yaml` does ([`to_go`]) and a [`Node`] as go-yaml v3 with kyaml's settings ([`print`]).
//! Everything read is bounded by [`Limits`]. No I/O, no clock, no panic on input.

mod comment;
mod decode;
mod emit;
mod error;
mod go;
mod json;
mod marshal;
mod node;
mod number;
mod order;
mod parse;
mod print;
mod quoted;
mod resolve;
mod scan;
mod serial;
mod simple;
mod token;
mod value;

pub use decode::{Decode, Dialect};
pub use error::{Error, Kind as ErrorKind, Mark};
pub use go::to_go;
pub use json::to_json;
pub use marshal::{text_node, to_node};
pub use node::{Comments, Document, Kind, Node, Style};
pub use number::go_float;
pub use parse::parse_all;
pub use print::{Layout, print};
pub use resolve::{Resolved, resolve};
pub use value::{Map, Value};

/// What one text may cost at most.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of the text.
    pub bytes: usize,
    /// Nesting of lists and maps.
    pub depth: usize,
    /// Nodes written in the text.
    pub nodes: usize,
    /// Nodes after aliases are replaced by what they stand for.
    pub expanded: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 100 << 20, depth: 128, nodes: 5_000_000, expanded: 5_000_000 }
    }
}

/// Reads one document as `sigs.k8s.io/yaml` does: YAML 1.1 booleans, keys made strings, the last of two equal keys wins.
/// An empty text is `Null`; what follows the first document is not looked at.
pub fn from_str(text: &str) -> Result<Value, Error> {
    Decode::default().value(text)
}

/// The same, but of a map only these keys. All of the text has to be YAML.
pub fn fields(text: &str, wanted: &[&str]) -> Result<Value, Error> {
    Decode::default().of_value(text, Some(wanted))
}

/// Reads every document of a stream as [`from_str`] reads one; documents without content are left out.
pub fn from_str_all(text: &str) -> Result<Vec<Value>, Error> {
    Decode::default().values(text)
}

#[cfg(test)]
mod tests;
