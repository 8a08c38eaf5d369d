//! Not yet.
use super::Function;
pub const TABLE: &[Function] = &[];
