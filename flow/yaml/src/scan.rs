//! From characters to tokens: libyaml's rules, which every Go reader of YAML shares.

use std::collections::VecDeque;

use crate::{
    Error, ErrorKind, Mark, Style,
    token::{Token, What},
};

/// A place where a key without `?` may have begun.
#[derive(Debug, Clone, Copy)]
struct SimpleKey {
    possible: bool,
    required: bool,
    token: usize,
    at: Mark,
    chars: usize,
}

const NO_KEY: SimpleKey =
    SimpleKey { possible: false, required: false, token: 0, at: Mark { line: 1, column: 1, offset: 0 }, chars: 0 };

/// A comment as it stands in the text.
#[derive(Debug, Clone)]
pub(crate) struct Remark<'a> {
    pub text: &'a str,
    pub at: Mark,
    /// Nothing but blanks stands before it on its line.
    pub alone: bool,
}

pub(crate) struct Scanner<'a> {
    pub(crate) text: &'a str,
    pub(crate) bytes: &'a [u8],
    pub(crate) at: usize,
    /// Characters read so far.
    chars: usize,
    /// From 1.
    line: u32,
    /// From 0, in characters.
    pub(crate) column: i32,
    pub(crate) indent: i32,
    indents: Vec<i32>,
    pub(crate) flow: usize,
    pub(crate) key_allowed: bool,
    keys: Vec<SimpleKey>,
    tokens: VecDeque<Token<'a>>,
    /// Tokens handed out so far.
    taken: usize,
    ended: bool,
    depth: usize,
    pub(crate) remarks: Vec<Remark<'a>>,
}

type Done = Result<(), Error>;

pub(crate) fn blank(b: u8) -> bool {
    b == b' ' || b == b'\t'
}

fn alpha(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_' || b == b'-'
}

impl<'a> Scanner<'a> {
    pub fn new(text: &'a str, depth: usize) -> Self {
        Self {
            text,
            bytes: text.as_bytes(),
            at: 0,
            chars: 0,
            line: 1,
            column: 0,
            indent: -1,
            indents: Vec::new(),
            flow: 0,
            key_allowed: true,
            keys: vec![NO_KEY],
            tokens: VecDeque::with_capacity(16),
            taken: 0,
            ended: false,
            depth,
            remarks: Vec::new(),
        }
    }

    /// The byte `ahead` of here; 0 behind the end (a text has no 0: it is refused before).
    #[inline]
    pub(crate) fn byte(&self, ahead: usize) -> u8 {
        self.bytes.get(self.at + ahead).copied().unwrap_or(0)
    }

    pub(crate) fn mark(&self) -> Mark {
        Mark { line: self.line, column: self.column as u32 + 1, offset: self.at }
    }

    /// The length in bytes of the line break `ahead` of here, 0 when there is none.
    #[inline]
    pub(crate) fn line_break(&self, ahead: usize) -> usize {
        match self.byte(ahead) {
            b'\n' => 1,
            b'\r' => 1 + usize::from(self.byte(ahead + 1) == b'\n'),
            0xC2 if self.byte(ahead + 1) == 0x85 => 2,
            0xE2 if self.byte(ahead + 1) == 0x80 && matches!(self.byte(ahead + 2), 0xA8 | 0xA9) => 3,
            _ => 0,
        }
    }

    #[inline]
    pub(crate) fn blank_or_end(&self, ahead: usize) -> bool {
        let b = self.byte(ahead);
        blank(b) || b == 0 || self.line_break(ahead) > 0
    }

    /// Over one character that is no line break.
    #[inline]
    pub(crate) fn skip(&mut self) {
        let width = match self.byte(0) {
            b if b < 0x80 => 1,
            b if b >= 0xF0 => 4,
            b if b >= 0xE0 => 3,
            _ => 2,
        };
        self.at = (self.at + width).min(self.bytes.len());
        self.chars += 1;
        self.column += 1;
    }

    /// Over `count` ASCII characters.
    #[inline]
    pub(crate) fn skip_ascii(&mut self, count: usize) {
        self.at = (self.at + count).min(self.bytes.len());
        self.chars += count;
        self.column += count as i32;
    }

    /// Over a line break; what it means in a value.
    pub(crate) fn skip_line(&mut self) -> &'static str {
        let length = self.line_break(0);
        let meaning = match (self.byte(0), self.byte(2)) {
            (0xE2, 0xA8) => "\u{2028}",
            (0xE2, _) => "\u{2029}",
            _ => "\n",
        };
        self.at += length;
        self.chars += if length == 2 && self.bytes[self.at - 2] == b'\r' { 2 } else { 1 };
        self.line += 1;
        self.column = 0;
        meaning
    }

    pub(crate) fn fault(&self, message: &str, began: Option<Mark>) -> Error {
        let error = Error::new(ErrorKind::Scan, message, self.mark());
        match began {
            Some(mark) => error.since(mark),
            None => error,
        }
    }

    /// The next token, left in place.
    pub fn peek(&mut self) -> Result<&Token<'a>, Error> {
        while self.wanting()? {
            self.fetch()?;
        }
        // `wanting` ends only with a token in the queue: the last one, the end of the stream, is never taken.
        Ok(&self.tokens[0])
    }

    pub fn next(&mut self) -> Result<Token<'a>, Error> {
        self.peek()?;
        if matches!(self.tokens[0].what, What::StreamEnd) {
            return Ok(self.tokens[0].clone());
        }
        self.taken += 1;
        match self.tokens.pop_front() {
            Some(token) => Ok(token),
            None => Err(self.fault("found unexpected end of stream", None)),
        }
    }

    /// True while the head of the queue is missing or may still turn out to be a key.
    fn wanting(&mut self) -> Result<bool, Error> {
        if self.ended {
            return Ok(false);
        }
        if self.tokens.is_empty() {
            return Ok(true);
        }
        for level in 0..self.keys.len() {
            if self.keys[level].possible && self.key_holds(level)? {
                return Ok(self.keys[level].token == self.taken);
            }
        }
        Ok(false)
    }

    /// A key must end on its line, within 1,024 characters.
    fn key_holds(&mut self, level: usize) -> Result<bool, Error> {
        let key = self.keys[level];
        if !key.possible {
            return Ok(false);
        }
        if key.at.line < self.line || key.chars + 1024 < self.chars {
            if key.required {
                return Err(self.fault("could not find expected ':'", Some(key.at)));
            }
            self.keys[level].possible = false;
            return Ok(false);
        }
        Ok(true)
    }

    fn push(&mut self, what: What<'a>, start: Mark) {
        let end = self.mark();
        self.tokens.push_back(Token { what, start, end });
    }

    fn fetch(&mut self) -> Done {
        self.skip_to_token()?;
        self.unroll(self.column);
        let b = self.byte(0);
        if self.at >= self.bytes.len() {
            return self.stream_end();
        }
        if self.column == 0 {
            if b == b'%' {
                self.unroll(-1);
                self.drop_key()?;
                self.key_allowed = false;
                return self.directive();
            }
            if let Some(what) = self.document_indicator() {
                self.unroll(-1);
                self.drop_key()?;
                self.key_allowed = false;
                let start = self.mark();
                self.skip_ascii(3);
                self.push(what, start);
                return Ok(());
            }
        }
        match b {
            b'[' => self.flow_start(What::FlowSequence),
            b'{' => self.flow_start(What::FlowMapping),
            b']' => self.flow_end(What::FlowSequenceEnd),
            b'}' => self.flow_end(What::FlowMappingEnd),
            b',' => {
                self.drop_key()?;
                self.key_allowed = true;
                self.single(What::FlowEntry);
                Ok(())
            }
            b'-' if self.blank_or_end(1) => self.block_entry(),
            b'?' if self.flow > 0 || self.blank_or_end(1) => self.key(),
            b':' if self.flow > 0 || self.blank_or_end(1) => self.value(),
            b'*' => self.anchor(true),
            b'&' => self.anchor(false),
            b'!' => self.tag(),
            b'|' if self.flow == 0 => self.block_scalar(true),
            b'>' if self.flow == 0 => self.block_scalar(false),
            b'\'' => self.quoted(true),
            b'"' => self.quoted(false),
            b'-' if !blank(self.byte(1)) => self.plain(),
            b'?' | b':' if self.flow == 0 => self.plain(),
            b'-' | b'?' | b':' | b'#' | b'|' | b'>' | b'%' | b'@' | b'`' => {
                let at = self.mark();
                Err(self.fault("found character that cannot start any token", Some(at)))
            }
            b if blank(b) => {
                let at = self.mark();
                Err(self.fault("found character that cannot start any token", Some(at)))
            }
            _ => self.plain(),
        }
    }

    /// `---` or `...` at the start of a line.
    pub(crate) fn document_indicator(&self) -> Option<What<'a>> {
        if self.column != 0 || !self.blank_or_end(3) {
            return None;
        }
        match self.bytes.get(self.at..self.at + 3) {
            Some(b"---") => Some(What::DocumentStart),
            Some(b"...") => Some(What::DocumentEnd),
            _ => None,
        }
    }

    fn skip_to_token(&mut self) -> Done {
        loop {
            if self.column == 0 && self.bytes[self.at..].starts_with("\u{feff}".as_bytes()) {
                self.skip();
            }
            while self.byte(0) == b' ' || (self.byte(0) == b'\t' && (self.flow > 0 || !self.key_allowed)) {
                self.skip_ascii(1);
            }
            if self.byte(0) == b'#' {
                self.remark();
            }
            if self.line_break(0) == 0 {
                return Ok(());
            }
            self.skip_line();
            if self.flow == 0 {
                self.key_allowed = true;
            }
        }
    }

    /// Over a comment, which is kept.
    pub(crate) fn remark(&mut self) {
        let at = self.mark();
        let line_start = self.bytes[..self.at].iter().rposition(|&b| b == b'\n').map_or(0, |i| i + 1);
        let alone = self.bytes[line_start..self.at].iter().all(|&b| blank(b));
        let start = self.at;
        while self.at < self.bytes.len() && self.line_break(0) == 0 {
            self.skip();
        }
        self.remarks.push(Remark { text: &self.text[start..self.at], at, alone });
    }

    fn unroll(&mut self, column: i32) {
        if self.flow > 0 {
            return;
        }
        while self.indent > column {
            let at = self.mark();
            self.push(What::BlockEnd, at);
            self.indent = self.indents.pop().unwrap_or(-1);
        }
    }

    /// Opens a block collection when `column` is deeper than what is open; `token` is where its token goes.
    fn roll(&mut self, column: i32, token: Option<usize>, what: What<'a>, at: Mark) -> Done {
        if self.flow > 0 || self.indent >= column {
            return Ok(());
        }
        self.indents.push(self.indent);
        self.indent = column;
        if self.indents.len() > self.depth {
            return Err(self.too_deep());
        }
        let start = Token { what, start: at, end: at };
        match token {
            Some(number) => self.tokens.insert(number.saturating_sub(self.taken).min(self.tokens.len()), start),
            None => self.tokens.push_back(start),
        }
        Ok(())
    }

    fn too_deep(&self) -> Error {
        Error::new(ErrorKind::Limit, format!("exceeded max depth of {}", self.depth), self.mark())
    }

    pub(crate) fn save_key(&mut self) -> Done {
        if !self.key_allowed {
            return Ok(());
        }
        let required = self.flow == 0 && self.indent == self.column;
        self.drop_key()?;
        let key = SimpleKey {
            possible: true,
            required,
            token: self.taken + self.tokens.len(),
            at: self.mark(),
            chars: self.chars,
        };
        if let Some(last) = self.keys.last_mut() {
            *last = key;
        }
        Ok(())
    }

    fn drop_key(&mut self) -> Done {
        if let Some(key) = self.keys.last().copied() {
            if key.possible && key.required {
                return Err(self.fault("could not find expected ':'", Some(key.at)));
            }
            if let Some(last) = self.keys.last_mut() {
                last.possible = false;
            }
        }
        Ok(())
    }

    /// A block scalar is never a key.
    pub(crate) fn drop_key_for_block(&mut self) -> Done {
        self.drop_key()
    }

    fn stream_end(&mut self) -> Done {
        if self.column != 0 {
            self.column = 0;
            self.line += 1;
        }
        self.unroll(-1);
        self.drop_key()?;
        self.key_allowed = false;
        let at = self.mark();
        self.push(What::StreamEnd, at);
        self.ended = true;
        Ok(())
    }

    fn single(&mut self, what: What<'a>) {
        let start = self.mark();
        self.skip_ascii(1);
        self.push(what, start);
    }

    fn flow_start(&mut self, what: What<'a>) -> Done {
        self.save_key()?;
        self.keys.push(NO_KEY);
        self.flow += 1;
        if self.flow > self.depth {
            return Err(self.too_deep());
        }
        self.key_allowed = true;
        self.single(what);
        Ok(())
    }

    fn flow_end(&mut self, what: What<'a>) -> Done {
        self.drop_key()?;
        if self.flow > 0 {
            self.flow -= 1;
            self.keys.pop();
        }
        self.key_allowed = false;
        self.single(what);
        Ok(())
    }

    fn block_entry(&mut self) -> Done {
        if self.flow == 0 {
            if !self.key_allowed {
                return Err(self.fault("block sequence entries are not allowed in this context", None));
            }
            let at = self.mark();
            self.roll(self.column, None, What::BlockSequence, at)?;
        }
        self.drop_key()?;
        self.key_allowed = true;
        self.single(What::BlockEntry);
        Ok(())
    }

    fn key(&mut self) -> Done {
        if self.flow == 0 {
            if !self.key_allowed {
                return Err(self.fault("mapping keys are not allowed in this context", None));
            }
            let at = self.mark();
            self.roll(self.column, None, What::BlockMapping, at)?;
        }
        self.drop_key()?;
        self.key_allowed = self.flow == 0;
        self.single(What::Key);
        Ok(())
    }

    fn value(&mut self) -> Done {
        let level = self.keys.len() - 1;
        if self.key_holds(level)? {
            let key = self.keys[level];
            let index = key.token.saturating_sub(self.taken).min(self.tokens.len());
            self.tokens.insert(index, Token { what: What::Key, start: key.at, end: key.at });
            self.roll(key.at.column as i32 - 1, Some(key.token), What::BlockMapping, key.at)?;
            self.keys[level].possible = false;
            self.key_allowed = false;
        } else {
            if self.flow == 0 {
                if !self.key_allowed {
                    return Err(self.fault("mapping values are not allowed in this context", None));
                }
                let at = self.mark();
                self.roll(self.column, None, What::BlockMapping, at)?;
            }
            self.key_allowed = self.flow == 0;
        }
        self.single(What::Value);
        Ok(())
    }

    /// A name behind one character, and where that is.
    fn name(&mut self) -> (Mark, &'a str) {
        let start = self.mark();
        self.skip_ascii(1);
        let from = self.at;
        while alpha(self.byte(0)) {
            self.skip_ascii(1);
        }
        (start, &self.text[from..self.at])
    }

    fn anchor(&mut self, alias: bool) -> Done {
        self.save_key()?;
        self.key_allowed = false;
        let (start, name) = self.name();
        let closed =
            self.blank_or_end(0) || matches!(self.byte(0), b'?' | b':' | b',' | b']' | b'}' | b'%' | b'@' | b'`');
        if name.is_empty() || !closed {
            return Err(self.fault("did not find expected alphabetic or numeric character", Some(start)));
        }
        self.push(if alias { What::Alias(name) } else { What::Anchor(name) }, start);
        Ok(())
    }

    fn tag(&mut self) -> Done {
        self.save_key()?;
        self.key_allowed = false;
        let start = self.mark();
        let (handle, suffix) = if self.byte(1) == b'<' {
            self.skip_ascii(2);
            let uri = self.uri(String::new(), false, start)?;
            if self.byte(0) != b'>' {
                return Err(self.fault("did not find the expected '>'", Some(start)));
            }
            self.skip_ascii(1);
            (String::new(), uri)
        } else {
            let handle = self.handle();
            if handle.len() >= 2 && handle.ends_with('!') {
                let handle = handle.to_owned();
                let uri = self.uri(String::new(), false, start)?;
                (handle, uri)
            } else {
                let head = handle.get(1..).unwrap_or_default().to_owned();
                let uri = self.uri(head, true, start)?;
                // A lone `!` is a tag of its own.
                if uri.is_empty() { (String::new(), "!".to_owned()) } else { ("!".to_owned(), uri) }
            }
        };
        let ends = self.blank_or_end(0) || (self.flow > 0 && self.byte(0) == b',');
        if !ends {
            return Err(self.fault("did not find expected whitespace or line break", Some(start)));
        }
        self.push(What::Tag { handle, suffix }, start);
        Ok(())
    }

    /// `!`, `!!` or `!name!`; without the second `!` it is the start of a suffix.
    fn handle(&mut self) -> &'a str {
        let from = self.at;
        self.skip_ascii(1);
        while alpha(self.byte(0)) {
            self.skip_ascii(1);
        }
        if self.byte(0) == b'!' {
            self.skip_ascii(1);
        }
        &self.text[from..self.at]
    }

    fn uri(&mut self, head: String, may_be_empty: bool, start: Mark) -> Result<String, Error> {
        let mut uri = head.into_bytes();
        let mut any = may_be_empty || !uri.is_empty();
        loop {
            let b = self.byte(0);
            if b == b'%' {
                let hex = self.text.get(self.at + 1..self.at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok());
                let Some(octet) = hex else {
                    return Err(self.fault("did not find URI escaped octet", Some(start)));
                };
                uri.push(octet);
                self.skip_ascii(3);
            } else if alpha(b) || (b != 0 && b";/?:@&=+$,.!~*'()[]".contains(&b)) {
                uri.push(b);
                self.skip_ascii(1);
            } else {
                break;
            }
            any = true;
        }
        if !any {
            return Err(self.fault("did not find expected tag URI", Some(start)));
        }
        String::from_utf8(uri).map_err(|_| self.fault("found an incorrect leading UTF-8 octet", Some(start)))
    }

    fn blanks(&mut self) {
        while blank(self.byte(0)) {
            self.skip_ascii(1);
        }
    }

    fn directive(&mut self) -> Done {
        let (start, name) = self.name();
        if name.is_empty() {
            return Err(self.fault("could not find expected directive name", Some(start)));
        }
        if !self.blank_or_end(0) {
            return Err(self.fault("found unexpected non-alphabetical character", Some(start)));
        }
        self.blanks();
        let what = match name {
            "YAML" => self.version(start)?,
            "TAG" => {
                if self.byte(0) != b'!' {
                    return Err(self.fault("did not find expected '!'", Some(start)));
                }
                let handle = self.handle();
                if handle != "!" && !handle.ends_with('!') {
                    return Err(self.fault("did not find expected '!'", Some(start)));
                }
                if !blank(self.byte(0)) {
                    return Err(self.fault("did not find expected whitespace", Some(start)));
                }
                self.blanks();
                let prefix = self.uri(String::new(), false, start)?;
                if !self.blank_or_end(0) {
                    return Err(self.fault("did not find expected whitespace or line break", Some(start)));
                }
                What::TagDirective { handle, prefix }
            }
            _ => return Err(self.fault("found unknown directive name", Some(start))),
        };
        self.push(what, start);
        self.blanks();
        if self.byte(0) == b'#' {
            self.remark();
        }
        if !self.blank_or_end(0) {
            return Err(self.fault("did not find expected comment or line break", Some(start)));
        }
        Ok(())
    }

    fn version(&mut self, start: Mark) -> Result<What<'a>, Error> {
        let from = self.at;
        while self.byte(0).is_ascii_digit() || self.byte(0) == b'.' {
            self.skip_ascii(1);
        }
        let found = &self.text[from..self.at];
        let numbers = found.split_once('.');
        match numbers {
            Some((major, minor))
                if (1..10).contains(&major.len()) && (1..10).contains(&minor.len()) && !minor.contains('.') =>
            {
                if major != "1" || !matches!(minor, "1" | "2") {
                    return Err(Error::new(ErrorKind::Syntax, "found incompatible YAML document", start));
                }
                Ok(What::Version)
            }
            _ => Err(self.fault("did not find expected version number", Some(start))),
        }
    }

    pub(crate) fn push_scalar(&mut self, text: std::borrow::Cow<'a, str>, style: Style, start: Mark, end: Mark) {
        self.tokens.push_back(Token { what: What::Scalar { text, style }, start, end });
    }
}
