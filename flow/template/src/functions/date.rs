//! Not yet.
use super::Function;
pub const TABLE: &[Function] = &[];
use crate::value::{IntKind, Signature, Value};
pub fn method(_: &Value, _: &str) -> Option<Signature> { None }
pub fn call(_: &Value, _: &str, _: &[Value]) -> super::Outcome { Ok(Value::Nil) }
pub fn named(_: IntKind, n: i64) -> String { n.to_string() }
