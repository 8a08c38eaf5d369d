//! The targets by name.

mod builds;
mod images;
mod objects;

/// One reader and what must hold of it.
pub struct Target {
    pub name: &'static str,
    /// Panics when something does not hold.
    pub run: fn(&[u8]),
}

/// In the order of the pages that `cargo xtask fuzz` prints.
pub const TARGETS: &[Target] = &[
    Target { name: "dockerfile", run: builds::dockerfile },
    Target { name: "dockerignore", run: builds::dockerignore },
    Target { name: "compose", run: builds::compose },
    Target { name: "pipeline", run: builds::pipeline },
    Target { name: "layer", run: images::layer },
    Target { name: "image-manifest", run: images::manifest },
    Target { name: "reference", run: images::reference },
    Target { name: "yaml", run: objects::yaml },
    Target { name: "template", run: objects::template },
    Target { name: "values", run: objects::values },
    Target { name: "chart", run: objects::chart },
    Target { name: "kustomization", run: objects::kustomization },
    Target { name: "manifest", run: objects::manifest },
    Target { name: "skaffold", run: objects::skaffold },
];

/// The text of an input; what is no UTF-8 in it becomes the replacement character, which readers meet too.
fn text(input: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(input)
}

/// The files of an input: each begins with a line `=== NAME`; what stands before the first is `first`.
fn files<'a>(first: &'a str, input: &'a str) -> Vec<(&'a str, &'a str)> {
    let mut files = Vec::new();
    let mut name = first;
    let mut start = 0;
    let mut at = 0;
    for line in input.split_inclusive('\n') {
        if let Some(next) = line.strip_prefix("=== ") {
            files.push((name, &input[start..at]));
            name = next.trim();
            start = at + line.len();
        }
        at += line.len();
    }
    files.push((name, &input[start..]));
    files
}
