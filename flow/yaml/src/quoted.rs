//! Scalars: plain, in quotes, and in blocks.

use std::borrow::Cow;

use crate::{
    Error, Mark, Style,
    scan::{Scanner, blank},
};

type Done = Result<(), Error>;

/// Folded line breaks: one makes a space, more make all but the first.
#[derive(Default)]
struct Breaks {
    first: Option<&'static str>,
    more: String,
}

impl Breaks {
    fn push(&mut self, meaning: &'static str) {
        match self.first {
            None => self.first = Some(meaning),
            Some(_) => self.more.push_str(meaning),
        }
    }

    fn fold_into(&mut self, out: &mut String) {
        match self.first.take() {
            Some("\n") if self.more.is_empty() => out.push(' '),
            Some("\n") | None => out.push_str(&self.more),
            Some(other) => {
                out.push_str(other);
                out.push_str(&self.more);
            }
        }
        self.more.clear();
    }
}

impl<'a> Scanner<'a> {
    pub(crate) fn plain(&mut self) -> Done {
        self.save_key()?;
        self.key_allowed = false;
        let start = self.mark();
        let mut end = start;
        let indent = self.indent + 1;
        // Borrowed while it stays on one line.
        let mut whole: Option<String> = None;
        let mut piece = self.at;
        let mut breaks = Breaks::default();
        let mut broke = false;
        loop {
            if self.document_indicator().is_some() || self.byte(0) == b'#' {
                break;
            }
            let from = self.at;
            loop {
                let b = self.byte(0);
                match b {
                    b' ' | b'\t' | b'\n' | b'\r' | 0 => break,
                    b':' if self.blank_or_end(1) => break,
                    b',' | b'?' | b'[' | b']' | b'{' | b'}' if self.flow > 0 => break,
                    0x80.. if self.line_break(0) > 0 => break,
                    0x80.. => self.skip(),
                    _ => self.skip_ascii(1),
                }
            }
            if self.at > from {
                if broke {
                    let out = whole.get_or_insert_with(|| self.text[start.offset..end.offset].to_owned());
                    breaks.fold_into(out);
                    out.push_str(&self.text[from..self.at]);
                    broke = false;
                } else if let Some(out) = whole.as_mut() {
                    // The blanks before belong to the value too.
                    out.push_str(&self.text[piece..self.at]);
                }
                piece = self.at;
                end = self.mark();
            }
            if !blank(self.byte(0)) && self.line_break(0) == 0 {
                break;
            }
            while blank(self.byte(0)) || self.line_break(0) > 0 {
                if blank(self.byte(0)) {
                    if broke && self.column < indent && self.byte(0) == b'\t' {
                        return Err(self.fault("found a tab character that violates indentation", Some(start)));
                    }
                    self.skip_ascii(1);
                } else {
                    breaks.push(self.skip_line());
                    broke = true;
                }
            }
            if self.flow == 0 && self.column < indent {
                break;
            }
        }
        if broke {
            self.key_allowed = true;
        }
        let text = match whole {
            Some(text) => Cow::Owned(text),
            None => Cow::Borrowed(&self.text[start.offset..end.offset]),
        };
        self.push_scalar(text, Style::Plain, start, end);
        Ok(())
    }

    pub(crate) fn quoted(&mut self, single: bool) -> Done {
        self.save_key()?;
        self.key_allowed = false;
        let start = self.mark();
        self.skip_ascii(1);
        let quote = if single { b'\'' } else { b'"' };
        let mut out = String::new();
        // Where the part begins that is not yet in `out`.
        let mut from = self.at;
        let mut simple = true;
        loop {
            if self.document_indicator().is_some() {
                return Err(self.fault("found unexpected document indicator", Some(start)));
            }
            if self.at >= self.bytes.len() {
                return Err(self.fault("found unexpected end of stream", Some(start)));
            }
            let mut broke = false;
            loop {
                let b = self.byte(0);
                match b {
                    b' ' | b'\t' | b'\n' | b'\r' | 0 => break,
                    b'\'' if single && self.byte(1) == b'\'' => {
                        simple = false;
                        out.push_str(&self.text[from..=self.at]);
                        self.skip_ascii(2);
                        from = self.at;
                    }
                    b if b == quote => break,
                    b'\\' if !single => {
                        simple = false;
                        out.push_str(&self.text[from..self.at]);
                        if self.line_break(1) > 0 {
                            self.skip_ascii(1);
                            self.skip_line();
                            broke = true;
                        } else {
                            self.escape(&mut out, start)?;
                        }
                        from = self.at;
                        if broke {
                            break;
                        }
                    }
                    0x80.. if self.line_break(0) > 0 => break,
                    0x80.. => self.skip(),
                    _ => self.skip_ascii(1),
                }
            }
            if !broke && self.byte(0) == quote {
                break;
            }
            if !blank(self.byte(0)) && self.line_break(0) == 0 && !broke {
                continue;
            }
            let word = self.at;
            let mut breaks = Breaks::default();
            while blank(self.byte(0)) || self.line_break(0) > 0 {
                if blank(self.byte(0)) {
                    self.skip_ascii(1);
                } else {
                    if !broke {
                        simple = false;
                        out.push_str(&self.text[from..word]);
                        broke = true;
                        breaks.push(self.skip_line());
                    } else if breaks.first.is_none() {
                        // After an escaped break the first is already spoken for.
                        breaks.more.push_str(self.skip_line());
                    } else {
                        breaks.push(self.skip_line());
                    }
                }
            }
            if broke {
                breaks.fold_into(&mut out);
                from = self.at;
            }
        }
        let text = if simple {
            Cow::Borrowed(&self.text[start.offset + 1..self.at])
        } else {
            out.push_str(&self.text[from..self.at]);
            Cow::Owned(out)
        };
        self.skip_ascii(1);
        let end = self.mark();
        self.push_scalar(text, if single { Style::SingleQuoted } else { Style::DoubleQuoted }, start, end);
        Ok(())
    }

    fn escape(&mut self, out: &mut String, start: Mark) -> Done {
        let digits = match self.byte(1) {
            b'x' => 2,
            b'u' => 4,
            b'U' => 8,
            b => {
                out.push(match b {
                    b'0' => '\0',
                    b'a' => '\u{7}',
                    b'b' => '\u{8}',
                    b't' | b'\t' => '\t',
                    b'n' => '\n',
                    b'v' => '\u{b}',
                    b'f' => '\u{c}',
                    b'r' => '\r',
                    b'e' => '\u{1b}',
                    b' ' | b'"' | b'\'' | b'\\' => b as char,
                    b'/' => '/',
                    b'N' => '\u{85}',
                    b'_' => '\u{a0}',
                    b'L' => '\u{2028}',
                    b'P' => '\u{2029}',
                    _ => return Err(self.fault("found unknown escape character", Some(start))),
                });
                self.skip_ascii(2);
                return Ok(());
            }
        };
        self.skip_ascii(2);
        let hex = self.bytes.get(self.at..self.at + digits).filter(|hex| hex.iter().all(u8::is_ascii_hexdigit));
        let code = hex.and_then(|hex| u32::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        let Some(code) = code else {
            return Err(self.fault("did not find expected hexdecimal number", Some(start)));
        };
        let Some(character) = char::from_u32(code) else {
            return Err(self.fault("found invalid Unicode character escape code", Some(start)));
        };
        out.push(character);
        self.skip_ascii(digits);
        Ok(())
    }

    pub(crate) fn block_scalar(&mut self, literal: bool) -> Done {
        self.drop_key_for_block()?;
        self.key_allowed = true;
        let start = self.mark();
        self.skip_ascii(1);
        let (keep, increment) = self.block_header(start)?;
        let mut indent = match increment {
            0 => 0,
            n if self.indent >= 0 => self.indent + n,
            n => n,
        };
        let mut out = String::new();
        let mut lead = "";
        let mut breaks = String::new();
        let mut end = self.mark();
        self.block_breaks(&mut indent, &mut breaks, start, &mut end)?;
        let mut blank_before = false;
        while self.column == indent && self.at < self.bytes.len() {
            let blank_here = blank(self.byte(0));
            if !literal && !blank_before && !blank_here && lead == "\n" {
                if breaks.is_empty() {
                    out.push(' ');
                }
            } else {
                out.push_str(lead);
            }
            out.push_str(&breaks);
            breaks.clear();
            blank_before = blank_here;
            let from = self.at;
            while self.at < self.bytes.len() && self.line_break(0) == 0 {
                self.skip();
            }
            out.push_str(&self.text[from..self.at]);
            end = self.mark();
            lead = if self.line_break(0) > 0 { self.skip_line() } else { "" };
            self.block_breaks(&mut indent, &mut breaks, start, &mut end)?;
        }
        if keep != Keep::None {
            out.push_str(lead);
        }
        if keep == Keep::All {
            out.push_str(&breaks);
        }
        self.push_scalar(Cow::Owned(out), if literal { Style::Literal } else { Style::Folded }, start, end);
        Ok(())
    }

    /// The indicators behind `|` or `>`, to the end of the line.
    fn block_header(&mut self, start: Mark) -> Result<(Keep, i32), Error> {
        let mut keep = Keep::One;
        let mut increment = 0;
        let mut chomped = false;
        for _ in 0..2 {
            match self.byte(0) {
                b'+' | b'-' if !chomped => {
                    keep = if self.byte(0) == b'+' { Keep::All } else { Keep::None };
                    chomped = true;
                    self.skip_ascii(1);
                }
                b'0' if increment == 0 => {
                    return Err(self.fault("found an indentation indicator equal to 0", Some(start)));
                }
                digit @ b'1'..=b'9' if increment == 0 => {
                    increment = i32::from(digit - b'0');
                    self.skip_ascii(1);
                }
                _ => break,
            }
        }
        while blank(self.byte(0)) {
            self.skip_ascii(1);
        }
        if self.byte(0) == b'#' {
            self.remark();
        }
        if self.at < self.bytes.len() {
            if self.line_break(0) == 0 {
                return Err(self.fault("did not find expected comment or line break", Some(start)));
            }
            self.skip_line();
        }
        Ok((keep, increment))
    }

    /// Over indentation and empty lines; finds the indentation when it is not given.
    fn block_breaks(&mut self, indent: &mut i32, breaks: &mut String, start: Mark, end: &mut Mark) -> Done {
        let mut deepest = 0;
        loop {
            while (*indent == 0 || self.column < *indent) && self.byte(0) == b' ' {
                self.skip_ascii(1);
            }
            deepest = deepest.max(self.column);
            if (*indent == 0 || self.column < *indent) && self.byte(0) == b'\t' {
                let message = "found a tab character where an indentation space is expected";
                return Err(self.fault(message, Some(start)));
            }
            if self.line_break(0) == 0 {
                break;
            }
            breaks.push_str(self.skip_line());
            *end = self.mark();
        }
        if *indent == 0 {
            *indent = deepest.max(self.indent + 1).max(1);
        }
        Ok(())
    }
}

/// Which line breaks at the end of a block belong to its value.
#[derive(Clone, Copy, PartialEq)]
enum Keep {
    None,
    One,
    All,
}
