//! Go's `text/template` with the functions of Sprig and Helm.
//!
//! A [`Set`] holds parsed templates; a [`Renderer`] carries them out on [`Value`]s under one budget ([`Limits`]). Output
//! and error texts are Go's, byte for byte. Reads no file, no clock and no network: what `now` is and what everything
//! random comes from is given ([`Options`]), what a cluster or a name server would say is asked of [`Hooks`]. Whatever a
//! template does, it ends: work, output, strings and nesting are bounded, and nothing panics.

mod certificate;
mod der;
mod error;
mod exec;
mod functions;
mod jsonscan;
mod layout;
mod lex;
mod number;
mod parse;
mod prime;
mod printf;
mod quote;
mod re2;
mod render;
pub mod semver;
mod toml;
mod trace;
mod tree;
mod value;
mod words;

/// What Go's `encoding/json` says about a text that is no JSON; nothing if it is.
pub fn json_fault(text: &[u8]) -> Option<String> {
    jsonscan::check(text).err()
}

pub use error::{Cause, Error, Place};
pub use functions::{Family, path::clean as clean_path};
pub use render::{Cache, Hooks, Limits, MissingKey, Offline, Options, Rendered, Renderer, Set};
pub use trace::{Behind, Read};
pub use value::{Element, IntKind, List, Map, MapType, Object, Param, Signature, Text, UintKind, Value, lossy};

/// The names of all functions that templates of a family may call, in order.
pub fn function_names(family: Family) -> Vec<&'static str> {
    functions::names(family)
}

/// `fmt.Sprintf`.
pub fn sprintf(format: &str, args: &[Value]) -> String {
    printf::sprintf(format.as_bytes(), args).to_string()
}

/// `%q`: a string in quotes as Go writes it.
pub fn quoted(text: &str) -> String {
    quote::quote_str(text)
}
