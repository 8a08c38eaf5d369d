use std::fmt;

use crate::Unpinned;

/// What is wrong with manifests.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// Something in a file.
    #[error("{0}")]
    Problem(Box<Problem>),
    /// A file that belongs to a tool whose files are not read yet.
    #[error(
        "{file} belongs to a {what}, and Shipway does not render those yet: put the rendered objects there instead, with `{render}`"
    )]
    NotYet { file: String, what: &'static str, render: &'static str },
    /// A file that makes its directory something to be rendered, below one that is not.
    #[error("{file} belongs to a {what}: let `deploy.from` name the directory that it is in")]
    Below { file: String, what: &'static str },
    #[error("{from}: {source}")]
    Kustomization { from: String, source: Box<kustomize::Error> },
    #[error("{from}: {source}")]
    Chart { from: String, source: Box<chart::Error> },
    #[error("{from}: {source}")]
    Skaffold { from: String, source: Box<skaffold::Error> },
    /// There is nothing at a path.
    #[error("{0}: no such file or directory")]
    Missing(String),
    #[error("{file}: {cause}")]
    Unreadable { file: String, cause: String },
    /// A text that is no YAML.
    #[error("{file}: {source}")]
    Yaml { file: String, source: Box<yaml::Error> },
    /// A hook of a chart that a release cannot run.
    #[error(
        "{template}: {object} is a hook ({words}), and a release applies all its objects together without running hooks: take the annotation `helm.sh/hook` away to have it applied like the rest, turn it off in the values of the environment, or make a step of it"
    )]
    Hook { template: String, object: String, words: String },
    /// An object that is asked for and was not rendered.
    #[error("no object is called `{wanted}`; there are: {}", listed(.all))]
    NoObject { wanted: String, all: Vec<String> },
    #[error("`{wanted}` fits several objects: {}; write its kind, and its namespace, in front of it", listed(.all))]
    Ambiguous { wanted: String, all: Vec<String> },
    #[error("{object} has no field `{field}`; there are: {}", listed(.known))]
    NoField { object: String, field: String, known: Vec<String> },
    /// What is behind a field was not noted while it was rendered.
    #[error("it was rendered without noting what is behind each line")]
    NotTraced,
    #[error("{from} makes more than {limit} objects: split them over several projects")]
    TooMany { from: String, limit: usize },
    /// Images that are not known by digest.
    #[error("{}", unpinned(.0))]
    Unpinned(Vec<Unpinned>),
    #[error("there is no Kubernetes object in {0}: put at least one there, for example a Deployment")]
    Empty(String),
}

pub type Result<T> = std::result::Result<T, Error>;

/// Where something stands, counted from 1; line 0 where no line is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    pub file: String,
    pub line: u64,
    pub column: u64,
}

impl Position {
    /// A file of which no line is known.
    pub fn nowhere(file: &str) -> Self {
        Self { file: file.to_owned(), line: 0, column: 0 }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.file),
            line => write!(f, "{}:{line}:{}", self.file, self.column),
        }
    }
}

/// A mistake in a file: where, the line itself, what is wrong, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub at: Position,
    /// The text of the line.
    pub text: String,
    pub message: String,
    pub hint: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, text, message, hint } = self;
        if at.line == 0 {
            return write!(f, "{at}: {message}\n  hint: {hint}");
        }
        let (number, caret) = (at.line.to_string(), (at.column.max(1) - 1) as usize);
        let gutter = " ".repeat(number.len());
        let indent = " ".repeat(caret.min(text.chars().count()));
        write!(f, "{at}: {message}\n{gutter} |\n{number} | {text}\n{gutter} | {indent}^\n{gutter} = hint: {hint}")
    }
}

fn listed(names: &[String]) -> String {
    let shown = names.iter().take(30).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len() {
        0 => "none".to_owned(),
        count if count > 30 => format!("{shown} and {} more", count - 30),
        _ => shown,
    }
}

fn unpinned(images: &[Unpinned]) -> String {
    let shown: Vec<String> = images.iter().take(10).map(Unpinned::to_string).collect();
    let more = images.len().saturating_sub(shown.len());
    let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
    format!(
        "{}{more}: name an image that this pipeline builds or a base image of Shipway, or one by digest (`name@sha256:…`)",
        shown.join("; ")
    )
}
