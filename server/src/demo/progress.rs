//! Where the journey is: one line a point, with what happens now; plain lines where nobody watches.

use std::{io::IsTerminal, sync::Mutex, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};

/// The view. With `--json`, or without a terminal, it writes plain lines to standard error.
pub struct Progress {
    bar: Mutex<Option<ProgressBar>>,
    terminal: bool,
    last: Mutex<String>,
}

impl Progress {
    pub fn new(json: bool) -> Self {
        let terminal = !json && std::io::stderr().is_terminal();
        Self { bar: Mutex::new(None), terminal, last: Mutex::new(String::new()) }
    }

    /// A point begins.
    pub fn begin(&self, number: usize, name: &str) {
        if self.terminal {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix}  {wide_msg}") {
                bar.set_style(style);
            }
            bar.set_prefix(format!("{number}/9 {name}"));
            bar.enable_steady_tick(Duration::from_millis(100));
            *lock(&self.bar) = Some(bar);
        } else {
            eprintln!("{number}/9 {name}");
        }
    }

    /// What happens now, within the point.
    pub fn note(&self, text: &str) {
        let mut last = lock(&self.last);
        if *last == text {
            return;
        }
        text.clone_into(&mut last);
        match &*lock(&self.bar) {
            Some(bar) => bar.set_message(text.to_owned()),
            None => eprintln!("    {text}"),
        }
    }

    /// A point has ended.
    pub fn done(&self, number: usize, name: &str, held: bool, detail: &str) {
        let mark = match (held, self.terminal) {
            (true, true) => "\u{1b}[32m✓\u{1b}[0m",
            (false, true) => "\u{1b}[31m✗\u{1b}[0m",
            (true, false) => "held",
            (false, false) => "NOT HELD",
        };
        if let Some(bar) = lock(&self.bar).take() {
            bar.finish_and_clear();
        }
        eprintln!("{mark} {number}/9 {name}: {detail}");
    }

    pub fn end(&self) {
        if let Some(bar) = lock(&self.bar).take() {
            bar.finish_and_clear();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
