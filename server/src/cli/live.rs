//! What the parts of a local run say, line by line as they say it, and how it ended.

use std::{
    collections::BTreeMap,
    io::{IsTerminal, Write},
    sync::Arc,
};

use graph::StreamKind;
use records::{Image, Run, RunState, StepKind, StepState};

use super::output;
use crate::wiring::Sink;

/// Prints lines with the name of their part in front.
#[derive(Clone)]
pub struct Live {
    /// The colour of each part's name; empty without colour.
    colours: Arc<BTreeMap<String, u8>>,
    width: usize,
    /// Standard output is kept for a JSON object.
    json: bool,
}

/// Names longer than this push their lines to the right.
const WIDEST: usize = 32;
const COLOURS: [u8; 6] = [36, 35, 34, 33, 32, 96];

impl Live {
    pub fn new<'n>(names: impl Iterator<Item = &'n str> + Clone, json: bool) -> Self {
        let terminal = if json { std::io::stderr().is_terminal() } else { std::io::stdout().is_terminal() };
        let width = names.clone().map(str::len).max().unwrap_or_default().min(WIDEST);
        let colours = match terminal && std::env::var_os("NO_COLOR").is_none() {
            true => names.map(str::to_owned).zip(COLOURS.into_iter().cycle()).collect(),
            false => BTreeMap::new(),
        };
        Self { colours: Arc::new(colours), width, json }
    }

    pub fn title(&self, text: &str) {
        self.put(&format!("{text}\n\n"));
    }

    /// Takes the lines of all parts.
    pub fn sink(&self) -> Sink {
        let live = self.clone();
        Box::new(move |step, stream, text, _| live.put(&live.lines(step, stream, text)))
    }

    fn lines(&self, step: &str, stream: StreamKind, text: &str) -> String {
        let mark = if stream == StreamKind::Note { "·" } else { "│" };
        let width = self.width;
        let line = |line: &str| match (self.colours.get(step), stream) {
            (None, _) => format!("{step:width$} {mark} {line}\n"),
            (Some(colour), StreamKind::Note) => {
                format!("\u{1b}[{colour}m{step:width$}\u{1b}[0m \u{1b}[2m{mark} {line}\u{1b}[0m\n")
            }
            (Some(colour), _) => format!("\u{1b}[{colour}m{step:width$}\u{1b}[0m {mark} {line}\u{1b}[0m\n"),
        };
        text.lines().map(line).collect()
    }

    /// Nobody reads any more when this fails; the run goes on all the same.
    fn put(&self, text: &str) {
        let _ = match self.json {
            true => std::io::stderr().lock().write_all(text.as_bytes()),
            false => std::io::stdout().lock().write_all(text.as_bytes()),
        };
    }
}

/// Parts, tests and images of a run that has ended.
pub fn summary(run: &Run, images: &[Image]) -> String {
    let rows = run.steps.iter().map(|step| {
        let (took, note) = match &step.state {
            StepState::Passed { cached: true, .. } => (String::new(), "cached".to_owned()),
            StepState::Passed { since, at, .. } => (output::exact(*since, *at), String::new()),
            StepState::Failed { since, at, reason, .. } => (output::exact(*since, *at), reason.clone()),
            StepState::Skipped { because } => (String::new(), because.clone()),
            StepState::Cancelled { .. } | StepState::Waiting | StepState::Running { .. } => Default::default(),
        };
        let kind = if step.kind == StepKind::Image { "image" } else { "step" };
        let tests = step.tests.as_ref().map(|tests| {
            let skipped = if tests.skipped > 0 { format!(", {} skipped", tests.skipped) } else { String::new() };
            format!("{} passed, {} failed{skipped}", tests.passed, tests.failed)
        });
        let state = output::state(step.state.name());
        let note = note.lines().next().unwrap_or_default().to_owned();
        [step.name.clone(), kind.into(), state, took, tests.unwrap_or_default(), note]
    });
    let mut text = format!("\n{}", output::table(["PART", "KIND", "STATE", "TOOK", "TESTS", "NOTE"], rows));
    for (test, message) in run.tests().failures {
        text.push_str(&format!("\n✗ {test}\n"));
        message.lines().take(20).for_each(|line| text.push_str(&format!("    {line}\n")));
    }
    if !images.is_empty() {
        text.push('\n');
    }
    for image in images {
        text.push_str(&format!("{}:{} {}\n", image.repository, image.tag, image.digest));
    }
    let how = match &run.state {
        RunState::Passed { since, at } => format!(" in {}", output::exact(*since, *at)),
        RunState::Failed { reason, .. } => format!(": {reason}"),
        RunState::Cancelled { by, .. } => format!(" by {by}"),
        RunState::Queued | RunState::Running { .. } => String::new(),
    };
    text + &format!("\n{}{how}\n", output::state(run.state.name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_bears_the_name_of_its_part() {
        let mut live = Live::new(["test", "app/web"].into_iter(), true);
        live.colours = Arc::default();
        assert_eq!(live.lines("test", StreamKind::Stdout, "one\ntwo\n"), "test    │ one\ntest    │ two\n");
        assert_eq!(live.lines("app/web", StreamKind::Note, "cached"), "app/web · cached\n");
        live.colours = Arc::new(BTreeMap::from([("test".to_owned(), 36)]));
        assert!(live.lines("test", StreamKind::Stdout, "one").starts_with("\u{1b}[36mtest   \u{1b}[0m │ one"));
    }
}
