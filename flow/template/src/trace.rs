//! Which template line an output byte comes from.

use std::{rc::Rc, sync::Arc};

use crate::{error::Place, render::Session, tree::Source};

/// A key of a map that was read while a piece of a template was carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// [`Map::address`](crate::Map::address) of the map.
    pub table: usize,
    pub key: String,
}

/// What was read to decide whether a piece of a template is carried out, and for what.
pub struct Guards {
    pub reads: Vec<Read>,
    pub outer: Option<Rc<Guards>>,
}

/// What was read for a byte of the output.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Behind {
    /// By the actions that wrote it, the innermost first.
    pub reads: Vec<Read>,
    /// By the `if`, `with` and `range` around them, the innermost first.
    pub guards: Vec<Read>,
}

/// Bytes from one piece of a template, up to the start of the next run.
pub struct Segment {
    offset: usize,
    source: Arc<Source>,
    line: usize,
    literal: bool,
    nested: Vec<Rc<Traced>>,
    reads: Vec<Read>,
    guards: Option<Rc<Guards>>,
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
    /// A piece of literal text.
    pub fn literal(&mut self, offset: usize, source: &Arc<Source>, line: usize, guards: Option<Rc<Guards>>) {
        let (nested, reads) = (Vec::new(), Vec::new());
        self.runs.push(Segment { offset, source: source.clone(), line, literal: true, nested, reads, guards });
    }

    /// What an action wrote: what it included and what it read.
    pub fn action(&mut self, offset: usize, source: &Arc<Source>, line: usize, session: &mut Session<'_>) {
        let (nested, reads) = (std::mem::take(&mut session.nested), std::mem::take(&mut session.reads));
        let guards = session.guards.clone();
        self.runs.push(Segment { offset, source: source.clone(), line, literal: false, nested, reads, guards });
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
        self.find(offset, &mut |place, _| places.push(place));
        places
    }

    /// What was read for a byte.
    pub fn behind(&self, offset: usize) -> Behind {
        let mut segments = Vec::new();
        self.find(offset, &mut |_, segment| {
            segments.push((segment.reads.clone(), segment.guards.clone()));
        });
        let mut behind = Behind::default();
        // The guards of what is inside go on with those of what is outside.
        let mut guards = segments.last().and_then(|(_, guards)| guards.clone());
        while let Some(guard) = guards.take() {
            behind.guards.extend(guard.reads.iter().cloned());
            guards.clone_from(&guard.outer);
        }
        behind.reads = segments.into_iter().rev().flat_map(|(reads, _)| reads).collect();
        behind
    }

    fn find(&self, offset: usize, found: &mut dyn FnMut(Place, &Segment)) {
        let after = self.runs.partition_point(|run| run.offset <= offset);
        let Some(run) = after.checked_sub(1).map(|i| &self.runs[i]) else {
            return;
        };
        let mut line = run.line;
        if run.literal {
            let passed = &self.text[run.offset..offset.min(self.text.len())];
            line += passed.iter().filter(|b| **b == b'\n').count();
        }
        found(Place { file: run.source.name.to_string(), line, column: None }, run);
        if run.nested.is_empty() {
            return;
        }
        let wanted = line_at(&self.text, offset);
        let into = offset.saturating_sub(wanted.as_ptr().addr() - self.text.as_ptr().addr());
        // Which occurrence of that line within the run, so that equal lines are told apart.
        let before = lines(&self.text[run.offset..offset.min(self.text.len())]);
        let nth = before.iter().rev().skip(1).filter(|(_, line)| *line == wanted).count();
        for nested in &run.nested {
            let hits: Vec<usize> =
                lines(&nested.text).into_iter().filter(|(_, line)| *line == wanted).map(|(at, _)| at).collect();
            if let Some(at) = hits.get(nth).or(hits.last()) {
                // The same distance into the line, which may have been written by several pieces.
                nested.find(*at + into, found);
                return;
            }
        }
        // A word that was included into the middle of a line.
        let word = |nested: &&Rc<Traced>| {
            let text = nested.text.trim_ascii();
            !text.is_empty() && !text.contains(&b'\n') && wanted.windows(text.len()).any(|part| part == text)
        };
        if let Some(nested) = run.nested.iter().find(word) {
            nested.find(nested.text.len() - nested.text.trim_ascii_start().len(), found);
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
