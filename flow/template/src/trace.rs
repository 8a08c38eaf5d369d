//! Which template line an output byte comes from.

use std::{rc::Rc, sync::Arc};

use crate::{error::Place, tree::Source};

/// Bytes from one piece of a template, up to the start of the next run.
pub struct Segment {
    offset: usize,
    source: Arc<Source>,
    line: usize,
    literal: bool,
    nested: Vec<Rc<Traced>>,
}

/// The output of a template that was called by a function, and where its bytes come from.
pub struct Traced {
    pub text: Vec<u8>,
    pub runs: Vec<Segment>,
}

#[derive(Default)]
pub struct Recorder {
    pub runs: Vec<Segment>,
}

impl Recorder {
    pub fn run(&mut self, offset: usize, source: &Arc<Source>, line: usize, literal: bool, nested: Vec<Rc<Traced>>) {
        self.runs.push(Segment { offset, source: source.clone(), line, literal, nested });
    }

    /// Moves the runs as far as they move when every `mark` is taken out of the text.
    pub fn without(&mut self, text: &[u8], mark: &[u8]) {
        let mut gone = 0;
        let mut at = 0;
        for run in &mut self.runs {
            while at < run.offset {
                if text[at..].starts_with(mark) {
                    gone += mark.len();
                    at += mark.len();
                } else {
                    at += 1;
                }
            }
            run.offset -= gone;
        }
    }
}

impl Traced {
    /// The chain of places behind a byte: the file that was rendered first, then what it included, as deep as is known.
    /// Inside of an included text the line is found by its content, as functions like `nindent` move it.
    pub fn locate(&self, offset: usize) -> Vec<Place> {
        let mut places = Vec::new();
        self.find(offset, &mut places);
        places
    }

    fn find(&self, offset: usize, places: &mut Vec<Place>) {
        let after = self.runs.partition_point(|run| run.offset <= offset);
        let Some(run) = after.checked_sub(1).map(|i| &self.runs[i]) else {
            return;
        };
        let mut line = run.line;
        if run.literal {
            let passed = &self.text[run.offset..offset.min(self.text.len())];
            line += passed.iter().filter(|b| **b == b'\n').count();
        }
        places.push(Place { file: run.source.name.to_string(), line, column: None });
        if run.nested.is_empty() {
            return;
        }
        let wanted = line_at(&self.text, offset);
        // Which occurrence of that line within the run, so that equal lines are told apart.
        let before = lines(&self.text[run.offset..offset.min(self.text.len())]);
        let nth = before.iter().rev().skip(1).filter(|(_, line)| *line == wanted).count();
        for nested in &run.nested {
            let hits: Vec<usize> =
                lines(&nested.text).into_iter().filter(|(_, line)| *line == wanted).map(|(at, _)| at).collect();
            if let Some(at) = hits.get(nth).or(hits.last()) {
                nested.find(*at, places);
                return;
            }
        }
    }
}

/// The trimmed lines of a text and where their first character is.
fn lines(text: &[u8]) -> Vec<(usize, &[u8])> {
    let mut out = Vec::new();
    let mut start = 0;
    for line in text.split(|b| *b == b'\n') {
        let lead = line.len() - line.trim_ascii_start().len();
        out.push((start + lead, line.trim_ascii()));
        start += line.len() + 1;
    }
    out
}

fn line_at(text: &[u8], offset: usize) -> &[u8] {
    let offset = offset.min(text.len());
    let start = text[..offset].iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
    let end = text[offset..].iter().position(|b| *b == b'\n').map_or(text.len(), |at| offset + at);
    text[start..end].trim_ascii()
}
