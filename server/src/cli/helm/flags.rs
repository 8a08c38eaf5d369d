//! Flags that several commands on releases have, and errors as those commands say them.

use std::{collections::BTreeMap, time::Duration};

use clap::{Args, ValueEnum};
use helm::{DryRun, Error, Strategy};

use crate::fault::{Class, Fault};

/// How a result is printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    #[default]
    Table,
    Json,
    Yaml,
}

/// What is waited for, as on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Wait {
    Watcher,
    #[value(name = "hookOnly", alias = "false")]
    HookOnly,
    Legacy,
    #[value(name = "true", hide = true)]
    Yes,
}

/// What is tried only, as on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Trial {
    #[value(alias = "false")]
    None,
    #[value(alias = "true")]
    Client,
    Server,
}

impl Trial {
    pub fn dry_run(this: Option<Self>) -> DryRun {
        match this {
            None | Some(Self::None) => DryRun::No,
            Some(Self::Client) => DryRun::Client,
            Some(Self::Server) => DryRun::Server,
        }
    }
}

/// The method of writing objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ServerSide {
    Auto,
    True,
    False,
}

impl ServerSide {
    pub fn choice(this: Option<Self>) -> Option<bool> {
        match this {
            None | Some(Self::Auto) => None,
            Some(Self::True) => Some(true),
            Some(Self::False) => Some(false),
        }
    }
}

// The flags for waiting.
#[derive(Debug, Args)]
pub struct Waiting {
    /// Wait until the objects are ready: watcher (also without a word), legacy (as Helm 3), hookOnly [default: hookOnly]
    #[arg(long, value_enum, value_name = "STRATEGY", num_args = 0..=1, require_equals = true, default_missing_value = "watcher")]
    wait: Option<Wait>,
    /// How long each wait may take
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "5m0s")]
    pub timeout: Duration,
}

impl Waiting {
    pub fn strategy(&self) -> Strategy {
        match self.wait {
            None | Some(Wait::HookOnly) => Strategy::HookOnly,
            Some(Wait::Watcher | Wait::Yes) => Strategy::Watcher,
            Some(Wait::Legacy) => Strategy::Legacy,
        }
    }
}

// The flags for how objects that are there are changed.
#[derive(Debug, Args)]
pub struct Writing {
    /// Replace objects instead of patching them
    #[arg(long, visible_alias = "force", conflicts_with = "force_conflicts")]
    pub force_replace: bool,
    /// Take over fields that others own
    #[arg(long)]
    pub force_conflicts: bool,
    /// Let the cluster merge (server-side apply): true, false, or auto for what the release had before
    #[arg(long, value_enum, value_name = "WHICH", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    server_side: Option<ServerSide>,
}

impl Writing {
    pub fn server_side(&self) -> Option<bool> {
        ServerSide::choice(self.server_side)
    }
}

/// Reads a duration as Go writes it: `5m0s`, `1h30m`, `90s`, `1.5h`, `250ms`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no duration such as 5m0s, 90s or 1h30m");
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let number: f64 = rest[..end].parse().map_err(|_| wrong())?;
        rest = &rest[end..];
        let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        total += number
            * match &rest[..end] {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" | "µs" => 1e-6,
                "ns" => 1e-9,
                _ => return Err(wrong()),
            };
        rest = &rest[end..];
    }
    if text.is_empty() || total > 1e9 { Err(wrong()) } else { Ok(Duration::from_secs_f64(total)) }
}

/// Reads `a=1,b=2` given any number of times.
pub fn labels(given: &[String]) -> Result<BTreeMap<String, String>, Fault> {
    let pairs = given.iter().flat_map(|list| list.split(',')).filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) =
                pair.split_once('=').ok_or_else(|| Fault::usage(format!("{pair} must be formatted as key=value")))?;
            Ok((name.to_owned(), value.to_owned()))
        })
        .collect()
}

/// What to do about a cluster that is not there.
pub const UNREACHABLE: &str =
    "see that it runs; --kubeconfig FILE (or KUBECONFIG) and --kube-context NAME say which one is meant";

/// An error of a release as a person meets it.
pub fn fault(error: Error) -> Fault {
    let class = match error.root() {
        Error::Unreachable(_) => Class::Unavailable,
        Error::NotFound => Class::NotFound,
        Error::Busy | Error::TakenOver(_) => Class::Conflict,
        Error::Option(_) => Class::Usage,
        Error::Chart(chart::Error::Release(_)) => Class::Conflict,
        _ => Class::Failed,
    };
    let busy = matches!(error.root(), Error::Busy);
    let unreachable = matches!(error.root(), Error::Unreachable(_));
    let fault = Fault::new(class, error.to_string());
    if unreachable {
        return fault.hint(UNREACHABLE);
    }
    if busy {
        return fault
            .hint("wait for it; if it was another tool's and is gone, --abandoned-after 0s goes on from where it was");
    }
    fault
}

/// The same with Helm's words in front.
pub fn failed(what: &str) -> impl Fn(Error) -> Fault + '_ {
    move |error| {
        let mut fault = fault(error);
        fault.message = format!("{what}: {}", fault.message);
        fault
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, seconds) in [("5m0s", 300.0), ("1h30m", 5400.0), ("1.5h", 5400.0), ("250ms", 0.25), ("0", 0.0)] {
            assert_eq!(duration(text), Ok(Duration::from_secs_f64(seconds)), "{text}");
        }
        for text in ["", "5", "m", "5x", "1e400s", "-5s", "99999999999h"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn label_lists() {
        let read = labels(&["a=1,b=2".to_owned(), "c=x=y".to_owned()]).unwrap();
        assert_eq!(read.len(), 3);
        assert_eq!(read["c"], "x=y");
        assert!(labels(&["a".to_owned()]).is_err());
    }
}
