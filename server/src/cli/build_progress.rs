//! How a build is shown: a line a vertex on a terminal, whole lines in a log, JSON for programs.

use std::{
    collections::BTreeMap,
    io::{IsTerminal, Write},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::output;
use crate::wiring::{Happening, Progress};

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum How {
    /// A line a vertex on a terminal, else plain
    Auto,
    Plain,
    Tty,
    Quiet,
    /// One JSON object a line
    #[value(alias = "json")]
    Rawjson,
}

/// A progress that ends.
pub trait Shown: Progress {
    fn end(&self);
}

pub fn make(how: How, quiet: bool) -> Arc<dyn Shown> {
    match how {
        _ if quiet => Arc::new(Quiet),
        How::Quiet => Arc::new(Quiet),
        How::Rawjson => Arc::new(Json),
        How::Tty => Arc::new(Terminal::new()),
        How::Auto if std::io::stderr().is_terminal() => Arc::new(Terminal::new()),
        How::Auto | How::Plain => Arc::new(Plain::default()),
    }
}

/// Nothing but what is unwise.
struct Quiet;

impl Progress for Quiet {
    fn happened(&self, _: &Happening) {}
    fn note(&self, _: &str) {}
    fn warning(&self, _: &build::Warning) {}
}

impl Shown for Quiet {
    fn end(&self) {}
}

/// Nobody reads any more when this fails; the build goes on all the same.
fn put(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// Numbers vertices in the order in which they are first heard of.
#[derive(Default)]
struct Plain {
    numbers: Mutex<BTreeMap<usize, usize>>,
}

impl Plain {
    fn number(&self, vertex: usize) -> usize {
        let mut numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        let next = numbers.len() + 1;
        *numbers.entry(vertex).or_insert(next)
    }

    fn text(&self, happening: &Happening) -> String {
        match happening {
            Happening::Started { vertex, name, .. } => format!("#{} {name}\n", self.number(*vertex)),
            Happening::Output { vertex, text, .. } => {
                let number = self.number(*vertex);
                text.lines().map(|line| format!("#{number} {line}\n")).collect()
            }
            Happening::Finished { vertex, name, cached: true, .. } => {
                let number = self.number(*vertex);
                format!("#{number} {name}\n#{number} CACHED\n")
            }
            Happening::Finished { vertex, started, at, .. } => {
                let took = started.map_or_else(String::new, |started| format!(" {}", output::exact(started, *at)));
                format!("#{} DONE{took}\n", self.number(*vertex))
            }
            Happening::Failed { vertex, error, .. } => format!("#{} ERROR: {error}\n", self.number(*vertex)),
            Happening::Stopped { vertex, .. } => format!("#{} CANCELED\n", self.number(*vertex)),
            Happening::AllCached { names } => {
                names.iter().enumerate().map(|(at, name)| format!("#{0} {name}\n#{0} CACHED\n", at + 1)).collect()
            }
        }
    }
}

impl Progress for Plain {
    fn happened(&self, happening: &Happening) {
        put(&self.text(happening));
    }

    fn note(&self, text: &str) {
        put(&format!("{text}\n"));
    }

    fn warning(&self, warning: &build::Warning) {
        put(&format!("warning: {warning}\n\n"));
    }
}

impl Shown for Plain {
    fn end(&self) {}
}

/// A line for each vertex that is worked on; what has ended stays above.
struct Terminal {
    all: MultiProgress,
    bars: Mutex<BTreeMap<usize, ProgressBar>>,
    colours: bool,
}

/// As much of a vertex's name as leaves room for what it says.
const NAME: usize = 48;

fn short(name: &str) -> String {
    match name.char_indices().nth(NAME) {
        Some((at, _)) => format!("{}\u{2026}", &name[..at]),
        None => name.to_owned(),
    }
}

impl Terminal {
    fn new() -> Self {
        let colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { all: MultiProgress::new(), bars: Mutex::default(), colours }
    }

    /// A whole line above those that change. What is kept of a terminal (a log of CI, a copied text) has it as a line too, so it is not
    /// filled up to the width of the terminal.
    fn line(&self, text: &str) {
        self.all.suspend(|| put(&format!("{text}\n")));
    }

    fn coloured(&self, colour: u8, text: &str) -> String {
        if self.colours { format!("\u{1b}[{colour}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

impl Progress for Terminal {
    fn happened(&self, happening: &Happening) {
        let mut bars = self.bars.lock().unwrap_or_else(PoisonError::into_inner);
        match happening {
            Happening::Started { vertex, name, .. } => {
                let style = ProgressStyle::with_template("{spinner} {prefix} {elapsed:>6} {wide_msg:.dim}");
                let bar = self.all.add(ProgressBar::new_spinner());
                if let Ok(style) = style {
                    bar.set_style(style);
                }
                bar.set_prefix(short(name));
                bar.enable_steady_tick(Duration::from_millis(120));
                bars.insert(*vertex, bar);
            }
            Happening::Output { vertex, text, .. } => {
                if let (Some(bar), Some(last)) = (bars.get(vertex), text.lines().rfind(|line| !line.trim().is_empty()))
                {
                    bar.set_message(last.chars().filter(|c| !c.is_control()).take(200).collect::<String>());
                }
            }
            Happening::Finished { vertex, name, cached, started, at } => {
                if let Some(bar) = bars.remove(vertex) {
                    bar.finish_and_clear();
                }
                let took = started.map_or_else(|| "0.0s".to_owned(), |started| output::exact(started, *at));
                let what = if *cached { "CACHED".to_owned() } else { took };
                self.line(&self.coloured(34, &format!("=> {name} {what}")));
            }
            Happening::Failed { vertex, name, error, .. } => {
                if let Some(bar) = bars.remove(vertex) {
                    bar.finish_and_clear();
                }
                self.line(&self.coloured(31, &format!("=> ERROR {name}: {error}")));
            }
            Happening::Stopped { vertex, .. } => {
                if let Some(bar) = bars.remove(vertex) {
                    bar.finish_and_clear();
                }
            }
            Happening::AllCached { names } => {
                names.iter().for_each(|name| self.line(&self.coloured(34, &format!("=> {name} CACHED"))));
            }
        }
    }

    fn note(&self, text: &str) {
        self.line(&format!("=> {text}"));
    }

    fn warning(&self, warning: &build::Warning) {
        self.line(&format!("{} {warning}\n", self.coloured(33, "warning:")));
    }
}

impl Shown for Terminal {
    fn end(&self) {
        let bars = std::mem::take(&mut *self.bars.lock().unwrap_or_else(PoisonError::into_inner));
        bars.into_values().for_each(|bar| bar.finish_and_clear());
    }
}

/// One JSON object a line.
struct Json;

impl Progress for Json {
    fn happened(&self, happening: &Happening) {
        let value = match happening {
            Happening::Started { vertex, name, at } => {
                serde_json::json!({ "vertex": vertex, "name": name, "started": at })
            }
            Happening::Output { vertex, stream, text, at } => {
                serde_json::json!({ "vertex": vertex, "stream": stream, "log": text, "at": at })
            }
            Happening::Finished { vertex, name, cached, started, at } => {
                serde_json::json!({ "vertex": vertex, "name": name, "cached": cached, "started": started, "completed": at })
            }
            Happening::Failed { vertex, name, error, started, at } => {
                serde_json::json!({ "vertex": vertex, "name": name, "error": error, "started": started, "completed": at })
            }
            Happening::Stopped { vertex, name } => {
                serde_json::json!({ "vertex": vertex, "name": name, "cancelled": true })
            }
            Happening::AllCached { names } => serde_json::json!({ "cached": names }),
        };
        put(&format!("{value}\n"));
    }

    fn note(&self, text: &str) {
        put(&format!("{}\n", serde_json::json!({ "note": text })));
    }

    fn warning(&self, warning: &build::Warning) {
        put(&format!("{}\n", serde_json::json!({ "warning": warning })));
    }
}

impl Shown for Json {
    fn end(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_leave_room_for_what_is_said() {
        assert_eq!(short("RUN a"), "RUN a");
        assert_eq!(short(&"ä".repeat(100)).chars().count(), NAME + 1);
    }

    #[test]
    fn each_vertex_keeps_its_number() {
        let plain = Plain::default();
        let at = records::Timestamp::UNIX_EPOCH;
        let started = |vertex, name: &str| Happening::Started { vertex, name: name.into(), at };
        assert_eq!(plain.text(&started(7, "RUN a")), "#1 RUN a\n");
        assert_eq!(plain.text(&started(3, "RUN b")), "#2 RUN b\n");
        let output = Happening::Output { vertex: 7, stream: graph::StreamKind::Stdout, text: "x\ny\n".into(), at };
        assert_eq!(plain.text(&output), "#1 x\n#1 y\n");
        let ended = Happening::Finished { vertex: 3, name: "RUN b".into(), cached: false, started: Some(at), at };
        assert_eq!(plain.text(&ended), "#2 DONE 0.00s\n");
    }
}
