//! `ARG` and `ENV`: which value a name has at one place.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};

use super::{Options, platform_arguments};
use crate::{
    config::Config,
    diagnostic::{Diagnostic, Source, Spanned},
    dockerfile::{ast::Arg, expand},
};

/// Arguments that need no `ARG`, and that commands see when they are given.
pub const PROXIES: [&str; 10] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "FTP_PROXY",
    "ftp_proxy",
    "NO_PROXY",
    "no_proxy",
    "ALL_PROXY",
    "all_proxy",
];

/// The arguments of the file (before the first `FROM`) or of one stage, in the order of their declaration.
#[derive(Debug, Clone, Default)]
pub struct Arguments {
    values: Vec<(String, Option<String>)>,
    /// Names whose `ARG` stands below their `ENV`: of the two, what was said last holds until the stage ends. The image keeps the `ENV`.
    later: BTreeSet<String>,
}

impl Arguments {
    /// The global ones, with those of the platform.
    pub fn global(options: &Options) -> Self {
        let platform = platform_arguments(&options.platform).into_iter();
        Self { values: platform.map(|(name, value)| (name.to_owned(), Some(value))).collect(), later: BTreeSet::new() }
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.iter().rev().find(|(n, _)| n == name).and_then(|(_, value)| value.as_deref())
    }

    pub fn is_declared(&self, name: &str) -> bool {
        self.values.iter().any(|(n, _)| n == name)
    }

    pub fn set(&mut self, name: &str, value: Option<String>) {
        self.values.retain(|(n, _)| n != name);
        self.values.push((name.to_owned(), value));
    }

    /// An `ARG` of a stage. One that comes to no value takes nothing from the `ARG` or `ENV` above it.
    pub fn declare(&mut self, name: &str, value: Option<String>) {
        if value.is_some() {
            self.later.insert(name.to_owned());
        } else if self.get(name).is_some() {
            return;
        }
        self.set(name, value);
    }

    /// An `ENV` of a stage hides the argument of its name.
    pub fn hide(&mut self, name: &str) {
        self.later.remove(name);
    }

    /// The arguments that hide an `ENV` of their name.
    pub fn over_environment(&self) -> impl Iterator<Item = (&str, &str)> {
        self.set_values().filter(|(name, _)| self.later.contains(*name))
    }

    /// Those that have a value.
    pub fn set_values(&self) -> impl Iterator<Item = (&str, &str)> {
        self.values.iter().filter_map(|(name, value)| value.as_deref().map(|value| (name.as_str(), value)))
    }

    /// The value that a declaration gives its name: what the build was told, else the default, else the global value.
    pub fn value_of(
        arg: &Arg,
        default: Option<String>,
        options: &Options,
        global: Option<&Arguments>,
    ) -> Option<String> {
        let name = arg.name.as_str();
        let told = options.build_args.get(name).cloned();
        let inherited = || global.and_then(|global| global.get(name)).map(str::to_owned);
        let epoch = || match (name, options.source_date_epoch) {
            ("SOURCE_DATE_EPOCH", Some(epoch)) => Some(epoch.to_string()),
            _ => None,
        };
        told.or(default).or_else(inherited).or_else(epoch)
    }
}

/// Replaces variables; remembers which names had no value.
pub struct Resolver<'a> {
    pub source: &'a Source,
    pub escape: char,
    pub environment: Option<&'a Config>,
    pub arguments: &'a Arguments,
    /// Values that are not from the Dockerfile: proxies.
    pub given: &'a BTreeMap<String, String>,
    pub undefined: RefCell<Vec<String>>,
}

impl<'a> Resolver<'a> {
    pub fn new(
        source: &'a Source,
        escape: char,
        environment: Option<&'a Config>,
        arguments: &'a Arguments,
        given: &'a BTreeMap<String, String>,
    ) -> Self {
        Self { source, escape, environment, arguments, given, undefined: RefCell::default() }
    }

    fn lookup(&self, name: &str) -> Option<String> {
        let environment = self.environment.and_then(|config| config.env(name));
        let argument = self.arguments.get(name);
        let value = match self.arguments.later.contains(name) {
            true => argument.or(environment),
            false => environment.or(argument),
        };
        let value = value.map(str::to_owned);
        let value = value.or_else(|| PROXIES.contains(&name).then(|| self.given.get(name).cloned()).flatten());
        if value.is_none() && !self.arguments.is_declared(name) {
            self.undefined.borrow_mut().push(name.to_owned());
        }
        value
    }

    /// Resolves one word.
    pub fn word(&self, word: &Spanned<String>) -> Result<String, Diagnostic> {
        let mut lookup = |name: &str| self.lookup(name);
        let expanded = expand::expand(&word.value, self.escape, &mut lookup)
            .map_err(|e| self.source.diagnostic(word.span, e.to_string()));
        // Whoever says what counts where nothing is set knows that it may not be.
        let foreseen = |name: &str| {
            let asked = format!("${{{name}");
            word.value.match_indices(&asked).any(|(at, _)| {
                let rest = &word.value[at + asked.len()..];
                rest.strip_prefix(':').unwrap_or(rest).starts_with(['-', '+', '?'])
            })
        };
        self.undefined.borrow_mut().retain(|name| !foreseen(name));
        expanded
    }

    /// Resolves the text of a heredoc, where quotes mean nothing.
    pub fn text(&self, text: &Spanned<String>) -> Result<String, Diagnostic> {
        let mut lookup = |name: &str| self.lookup(name);
        let expanded = expand::expand_text(&text.value, self.escape, &mut lookup);
        expanded.map_err(|e| self.source.diagnostic(text.span, e.to_string()))
    }
}
