//! Paths with slashes: Go's `path`, and `path/filepath` as on Linux.

use super::{Function, fixed, string};
use crate::value::{Param::Str, Value};

pub const TABLE: &[Function] = &[
    fixed("base", &[Str], |_, v| Ok(Value::str(base(&string(v, 0))))),
    fixed("dir", &[Str], |_, v| Ok(Value::str(dir(&string(v, 0))))),
    fixed("clean", &[Str], |_, v| Ok(Value::str(clean(&string(v, 0))))),
    fixed("ext", &[Str], |_, v| Ok(Value::str(ext(&string(v, 0))))),
    fixed("isAbs", &[Str], |_, v| Ok(Value::Bool(string(v, 0).starts_with('/')))),
    fixed("osBase", &[Str], |_, v| Ok(Value::str(base(&string(v, 0))))),
    fixed("osDir", &[Str], |_, v| Ok(Value::str(dir(&string(v, 0))))),
    fixed("osClean", &[Str], |_, v| Ok(Value::str(clean(&string(v, 0))))),
    fixed("osExt", &[Str], |_, v| Ok(Value::str(ext(&string(v, 0))))),
    fixed("osIsAbs", &[Str], |_, v| Ok(Value::Bool(string(v, 0).starts_with('/')))),
];

fn base(path: &str) -> &str {
    if path.is_empty() {
        return ".";
    }
    let path = path.trim_end_matches('/');
    match path.rsplit('/').next() {
        Some("") | None => "/",
        Some(last) => last,
    }
}

fn dir(path: &str) -> String {
    clean(&path[..path.rfind('/').map_or(0, |at| at + 1)])
}

/// A path without `.`, `..` and empty parts where that is possible, as Go's `path.Clean` has it.
pub fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    match (rooted, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => parts.join("/"),
    }
}

fn ext(path: &str) -> &str {
    let name = path.rsplit('/').next().unwrap_or_default();
    name.rfind('.').map_or("", |at| &name[at..])
}
