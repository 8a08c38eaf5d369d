//! What can go wrong with a template, in the words of Go's `text/template` and of Helm.

use std::fmt;

use crate::quote::quote_str;

/// Where an error is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Name of the parsed text, like `chart/templates/x.yaml`.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// Bytes from the start of the line, from 0, as Go counts; `None` for errors of the parser.
    pub column: Option<usize>,
}

/// An error. Its text is the one of Go's `text/template`, with the whole chain of templates.
#[derive(Clone, Debug)]
pub enum Error {
    /// The text is not a template.
    Parse {
        /// Where.
        place: Box<Place>,
        /// Why.
        message: String,
    },
    /// A template could not be carried out.
    Exec {
        /// Where.
        place: Box<Place>,
        /// The template that was carried out.
        template: String,
        /// The piece of it, as Go prints it.
        context: String,
        /// Why.
        cause: Cause,
    },
    /// There is no template of that name.
    NoTemplate {
        /// The name asked for.
        name: String,
        /// The name of the set.
        set: String,
    },
}

/// Why a piece of a template failed.
#[derive(Clone, Debug)]
pub enum Cause {
    /// In words.
    Message(String),
    /// Another template failed, called by a function: `error calling include: template: …`.
    Calling {
        /// What comes before the error below.
        prefix: String,
        /// The error below.
        error: Box<Error>,
    },
    /// `fail` or `required` was called with this message.
    Raised {
        /// The function.
        function: &'static str,
        /// The chart author's words.
        message: String,
    },
    /// A bound was reached: how far, and how to go further.
    Limit(String),
}

impl std::error::Error for Error {}

/// Written without recursion: chains of a thousand templates occur.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut current = self;
        loop {
            match current {
                Self::Parse { place, message } => {
                    return write!(f, "template: {}:{}: {message}", place.file, place.line);
                }
                Self::NoTemplate { name, set } => {
                    let (name, set) = (quote_str(name), quote_str(set));
                    return write!(f, "template: no template {name} associated with template {set}");
                }
                Self::Exec { place, template, context, cause } => {
                    let column = place.column.unwrap_or(0);
                    let template = quote_str(template);
                    write!(
                        f,
                        "template: {}:{}:{column}: executing {template} at <{context}>: ",
                        place.file, place.line
                    )?;
                    match cause {
                        Cause::Message(message) | Cause::Limit(message) => return f.write_str(message),
                        Cause::Raised { function, message } => {
                            return write!(f, "error calling {function}: {message}");
                        }
                        Cause::Calling { prefix, error } => {
                            f.write_str(prefix)?;
                            current = error;
                        }
                    }
                }
            }
        }
    }
}

impl Error {
    /// Where the outermost piece is.
    pub fn place(&self) -> Option<&Place> {
        match self {
            Self::Parse { place, .. } | Self::Exec { place, .. } => Some(place),
            Self::NoTemplate { .. } => None,
        }
    }

    /// The error that caused this one, in a template called from here.
    pub fn inner(&self) -> Option<&Self> {
        match self {
            Self::Exec { cause: Cause::Calling { error, .. }, .. } => Some(error),
            _ => None,
        }
    }

    /// This error and those below it, outermost first.
    pub fn chain(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |error| error.inner())
    }

    /// The words of `fail` or `required`, however deep.
    pub fn raised(&self) -> Option<&str> {
        self.chain().find_map(|error| match error {
            Self::Exec { cause: Cause::Raised { message, .. }, .. } => Some(message.as_str()),
            _ => None,
        })
    }

    /// Whether a bound was reached, however deep.
    pub fn is_limit(&self) -> bool {
        self.chain().any(|error| matches!(error, Self::Exec { cause: Cause::Limit(_), .. }))
    }

    /// As `helm template` says it: Helm 3 keeps Go's text but for `fail` and `required`, whose words it brings forward.
    pub fn helm3(&self) -> String {
        match self {
            Self::Parse { place, .. } => {
                let text = self.to_string();
                let last = text.rsplit(": ").next().unwrap_or_default();
                format!("parse error at ({}:{}): {last}", place.file, place.line)
            }
            Self::Exec { place, .. } => match self.raised() {
                Some(message) => format!(
                    "execution error at ({}:{}:{}): {message}",
                    place.file,
                    place.line,
                    place.column.unwrap_or(0)
                ),
                None => self.to_string(),
            },
            Self::NoTemplate { .. } => self.to_string(),
        }
    }

    /// As Helm 4 says it: one block of lines for every template of the chain.
    pub fn helm4(&self) -> String {
        if self.raised().is_some() || !matches!(self, Self::Exec { .. }) {
            return self.helm3();
        }
        let mut blocks: Vec<String> = Vec::new();
        for error in self.chain() {
            let block = match error {
                Self::Exec { place, template, context, cause } => {
                    let cause = match cause {
                        Cause::Message(message) | Cause::Limit(message) => message.as_str(),
                        Cause::Raised { message, .. } => message.as_str(),
                        Cause::Calling { prefix, .. } => prefix.trim_end(),
                    };
                    let cause = cause.find(" template:").map_or(cause, |at| &cause[..at]);
                    let column = place.column.unwrap_or(0);
                    format!(
                        "{}:{}:{column}\n  executing \"{template}\" at <{context}>:\n    {cause}\n",
                        place.file, place.line
                    )
                }
                Self::NoTemplate { .. } => format!("{error}\n"),
                Self::Parse { place, message } => format!("{}:{}\n  {message}\n", place.file, place.line),
            };
            if blocks.last() != Some(&block) {
                blocks.push(block);
            }
        }
        blocks.concat().trim().to_owned()
    }
}
