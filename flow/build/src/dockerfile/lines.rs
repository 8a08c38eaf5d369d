//! From physical lines to logical ones: directives, comments, continuation and heredocs, with places kept.

use super::ast::{Directive, Heredoc, Keyword};
use super::words::{self, Lexer};
use crate::diagnostic::{Diagnostic, Source, Span, Spanned, Warning};

/// One instruction's line: continuations joined, comments dropped.
#[derive(Debug, Clone)]
pub struct Line {
    pub text: String,
    /// For each joined piece: where it starts in `text`, and in the source.
    pieces: Vec<(usize, usize)>,
    /// From the first character to the end of the last heredoc.
    pub span: Span,
    pub heredocs: Vec<Heredoc>,
}

impl Line {
    /// The place in the source of a byte offset of `text`.
    fn place(&self, offset: usize) -> usize {
        let piece = self.pieces.partition_point(|(start, _)| *start <= offset).saturating_sub(1);
        self.pieces.get(piece).map_or(self.span.start, |(start, source)| source + (offset - start))
    }

    /// The span in the source of a range of `text`.
    pub fn span_of(&self, start: usize, end: usize) -> Span {
        if start >= end {
            let at = self.place(start.min(self.text.len()));
            return Span::new(at, at);
        }
        // The end lies right behind the last character, which may be in an earlier piece than what follows it.
        Span::new(self.place(start), self.place(end - 1) + 1)
    }
}

/// What stands before the first instruction's line, and the lines.
pub struct Lines {
    pub directives: Vec<Directive>,
    pub lines: Vec<Line>,
    pub warnings: Vec<Warning>,
}

struct Physical<'a> {
    text: &'a str,
    start: usize,
}

/// Splits a Dockerfile.
pub fn split(source: &Source) -> Result<Lines, Diagnostic> {
    let text: &str = &source.text;
    let mut physical = Vec::new();
    let mut start = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    while start < text.len() {
        let end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        let line = &text[start..end];
        physical.push(Physical { text: line.strip_suffix('\r').unwrap_or(line), start });
        start = end + 1;
    }

    let mut at = 0;
    if physical.first().is_some_and(|line| line.text.starts_with("#!")) {
        at = 1;
    }
    let directives = directives(source, &physical, &mut at)?;
    let escape =
        directives.iter().find(|d| d.name.value == "escape").and_then(|d| d.value.chars().next()).unwrap_or('\\');

    let mut split = Lines { directives, lines: Vec::new(), warnings: Vec::new() };
    while at < physical.len() {
        let first = physical[at].text.trim_start();
        if first.is_empty() || first.starts_with('#') {
            at += 1;
            continue;
        }
        let line = logical(source, &physical, &mut at, escape, &mut split.warnings)?;
        split.lines.push(line);
    }
    Ok(split)
}

/// Directives stand first, one a line, before any comment, empty line or instruction.
fn directives(source: &Source, physical: &[Physical<'_>], at: &mut usize) -> Result<Vec<Directive>, Diagnostic> {
    let mut found: Vec<Directive> = Vec::new();
    while let Some(line) = physical.get(*at) {
        let Some(directive) = directive(line) else { break };
        let span = directive.name.span.to(directive.value.span);
        if found.iter().any(|d| d.name.value == directive.name.value) {
            return Err(source.diagnostic(span, format!("the directive `{}` stands here twice", directive.name.value)));
        }
        if directive.name.value == "escape" && !matches!(directive.value.as_str(), "\\" | "`") {
            let reason = format!("`{}` cannot be the escape character", directive.value.value);
            return Err(source.diagnostic(directive.value.span, reason).hint("use \\ or `"));
        }
        found.push(directive);
        *at += 1;
    }
    Ok(found)
}

fn directive(line: &Physical<'_>) -> Option<Directive> {
    let trimmed = line.text.trim_start();
    let body = trimmed.strip_prefix('#')?;
    let body_start = line.start + (line.text.len() - trimmed.len()) + 1;
    let (name, value) = body.split_once('=')?;
    let value_start = body_start + name.len() + 1 + (value.len() - value.trim_start().len());
    let name_start = body_start + (name.len() - name.trim_start().len());
    let (name, value) = (name.trim(), value.trim());
    let known = ["syntax", "escape", "check"];
    if value.is_empty() || !known.iter().any(|k| k.eq_ignore_ascii_case(name)) {
        return None;
    }
    Some(Directive {
        name: Spanned::new(name.to_ascii_lowercase(), Span::new(name_start, name_start + name.len())),
        value: Spanned::new(value.to_owned(), Span::new(value_start, value_start + value.len())),
    })
}

/// Reads one logical line that starts at `at`, and the heredocs below it.
fn logical(
    source: &Source,
    physical: &[Physical<'_>],
    at: &mut usize,
    escape: char,
    warnings: &mut Vec<Warning>,
) -> Result<Line, Diagnostic> {
    let mut line = Line { text: String::new(), pieces: Vec::new(), span: Span::default(), heredocs: Vec::new() };
    let mut first = true;
    let mut empty = false;
    while let Some(part) = physical.get(*at) {
        *at += 1;
        let trimmed = part.text.trim_start();
        if !first && trimmed.starts_with('#') {
            continue;
        }
        if !first && trimmed.is_empty() {
            if !empty {
                let span = Span::new(part.start, part.start);
                let reason = "an empty line inside a continued instruction";
                let hint = "remove it, or end the line before it without an escape";
                warnings.push(Warning::new("NoEmptyContinuation", source.diagnostic(span, reason).hint(hint)));
            }
            empty = true;
            continue;
        }
        let skipped = if first { part.text.len() - trimmed.len() } else { 0 };
        let (piece, continued) = continuation(&part.text[skipped..], escape);
        let piece = if continued { piece } else { piece.trim_end() };
        if first {
            line.span.start = part.start + skipped;
        }
        line.pieces.push((line.text.len(), part.start + skipped));
        line.text.push_str(piece);
        line.span.end = part.start + skipped + piece.len();
        first = false;
        if !continued {
            break;
        }
    }
    // The last lines of a continued instruction may hold nothing but space.
    line.text.truncate(line.text.trim_end().len());
    let words = heredoc_words(&line, escape);
    for word in words {
        let heredoc = heredoc_body(source, physical, at, word)?;
        line.heredocs.push(heredoc.0);
        line.span.end = heredoc.1;
    }
    Ok(line)
}

/// The line without the escape at its end, if there is one (an escape that is itself escaped does not count).
fn continuation(text: &str, escape: char) -> (&str, bool) {
    let trimmed = text.trim_end_matches([' ', '\t']);
    match trimmed.strip_suffix(escape) {
        Some(rest) if !rest.ends_with(escape) => (rest, true),
        _ => (text, false),
    }
}

struct HeredocWord {
    word: Spanned<String>,
    name: String,
    expand: bool,
    chomp: bool,
}

/// The heredocs that a line announces; only `RUN`, `COPY` and `ADD` (also behind `ONBUILD`) take them.
fn heredoc_words(line: &Line, escape: char) -> Vec<HeredocWord> {
    let mut rest = line.text.as_str();
    loop {
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        match Keyword::find(&rest[..end]) {
            Some(Keyword::Run | Keyword::Copy | Keyword::Add) => break,
            Some(Keyword::Onbuild) => rest = rest[end..].trim_start(),
            _ => return Vec::new(),
        }
    }
    let words = Lexer::new(&line.text, escape);
    words.filter_map(|(start, end)| heredoc_word(&line.text[start..end], line.span_of(start, end))).collect()
}

/// Reads `<<NAME`, `<<-NAME`, `3<<"NAME"`.
fn heredoc_word(text: &str, span: Span) -> Option<HeredocWord> {
    let rest = text.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("<<")?;
    let (chomp, rest) = rest.strip_prefix('-').map_or((false, rest), |rest| (true, rest));
    if rest.contains('<') {
        return None;
    }
    let name = words::unquote(rest)?;
    if name.is_empty() {
        return None;
    }
    Some(HeredocWord { word: Spanned::new(text.to_owned(), span), expand: name == rest, name, chomp })
}

fn heredoc_body(
    source: &Source,
    physical: &[Physical<'_>],
    at: &mut usize,
    word: HeredocWord,
) -> Result<(Heredoc, usize), Diagnostic> {
    let mut content = String::new();
    while let Some(part) = physical.get(*at) {
        *at += 1;
        let compared = if word.chomp { part.text.trim_start_matches('\t') } else { part.text };
        if compared == word.name {
            let HeredocWord { word, name, expand, chomp } = word;
            return Ok((Heredoc { word, name, expand, chomp, content }, part.start + part.text.len()));
        }
        content.push_str(part.text);
        content.push('\n');
    }
    let reason = format!("the heredoc `{}` that starts here never ends", word.name);
    let hint = format!("close it with a line that holds only `{}`", word.name);
    Err(source.diagnostic(word.word.span, reason).hint(hint))
}
