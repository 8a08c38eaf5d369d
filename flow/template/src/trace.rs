//! Which template line an output byte comes from.

use std::{collections::HashMap, rc::Rc, sync::Arc};

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

    /// What was read for any of the bytes from `start` up to `end`, each once, and the places behind the first byte and behind
    /// everything that read something.
    pub fn within(&self, start: usize, end: usize) -> (Vec<Place>, Behind) {
        let (mut places, mut behind) = (self.locate(start), self.behind(start));
        self.spread(start, end, &mut |place, segment| {
            if segment.reads.is_empty() && segment.guards.is_none() {
                return;
            }
            if !segment.reads.is_empty() && !places.contains(&place) {
                places.push(place);
            }
            let mut guards = segment.guards.clone();
            let mut around = Vec::new();
            while let Some(guard) = guards.take() {
                around.extend(guard.reads.iter().cloned());
                guards.clone_from(&guard.outer);
            }
            for (all, more) in [(&mut behind.reads, &segment.reads), (&mut behind.guards, &around)] {
                for read in more {
                    if !all.contains(read) {
                        all.push(read.clone());
                    }
                }
            }
        });
        (places, behind)
    }

    /// Every piece that wrote something of a range, what was included before what includes it.
    fn spread(&self, start: usize, end: usize, found: &mut dyn FnMut(Place, &Segment)) {
        let first = self.runs.partition_point(|run| run.offset <= start).saturating_sub(1);
        for (i, run) in self.runs.iter().enumerate().skip(first).take_while(|(_, run)| run.offset < end) {
            let next = self.runs.get(i + 1).map_or(self.text.len(), |next| next.offset).max(run.offset);
            if next <= start && i != first {
                continue;
            }
            let (from, to) = (run.offset.max(start), next.min(end).min(self.text.len()));
            if run.literal || run.nested.is_empty() || from >= to {
                found(Place { file: run.source.name.to_string(), line: run.line, column: None }, run);
                continue;
            }
            let known: Vec<HashMap<&[u8], Vec<usize>>> =
                run.nested.iter().map(|nested| by_line(&nested.text)).collect();
            // Which occurrence of a line within the run it is, so that equal lines are told apart.
            let mut seen: HashMap<&[u8], usize> = HashMap::new();
            let mut at = run.offset;
            while at < to {
                let line_end = self.text[at..].iter().position(|b| *b == b'\n').map_or(self.text.len(), |len| at + len);
                let wanted = line_at(&self.text, at);
                let nth = seen.entry(wanted).or_insert(0);
                *nth += 1;
                if line_end >= from && !wanted.is_empty() {
                    let begin = wanted.as_ptr().addr() - self.text.as_ptr().addr();
                    let (low, high) = (at.max(from).saturating_sub(begin), line_end.min(to).saturating_sub(begin));
                    self.spread_line(run, &known, wanted, *nth - 1, (low, high), found);
                }
                at = line_end + 1;
            }
            found(Place { file: run.source.name.to_string(), line: run.line, column: None }, run);
        }
    }

    /// The part `low..high` of a line that a run with included texts wrote.
    fn spread_line(
        &self,
        run: &Segment,
        known: &[HashMap<&[u8], Vec<usize>>],
        wanted: &[u8],
        nth: usize,
        (low, high): (usize, usize),
        found: &mut dyn FnMut(Place, &Segment),
    ) {
        for (nested, lines) in run.nested.iter().zip(known) {
            if let Some(hits) = lines.get(wanted)
                && let Some(at) = hits.get(nth).or(hits.last())
            {
                return nested.spread(at + low, at + high, found);
            }
        }
        // Words that were included into the middle of a line.
        for nested in &run.nested {
            let text = nested.text.trim_ascii();
            let is_word = !text.is_empty() && !text.contains(&b'\n');
            if is_word && wanted.windows(text.len()).any(|part| part == text) {
                let begin = nested.text.len() - nested.text.trim_ascii_start().len();
                nested.spread(begin, begin + text.len(), found);
            }
        }
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

/// Where each trimmed line of a text begins.
fn by_line(text: &[u8]) -> HashMap<&[u8], Vec<usize>> {
    let mut all: HashMap<&[u8], Vec<usize>> = HashMap::new();
    for (at, line) in lines(text) {
        all.entry(line).or_default().push(at);
    }
    all
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
