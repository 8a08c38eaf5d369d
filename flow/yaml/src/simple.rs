//! A short way for texts as most are written: block maps and lists, scalars on one line, literal blocks, brackets.
//!
//! It gives what the whole reader gives or gives up, at the first thing that is rare (anchors, tags, folded blocks, scalars over several
//! lines, tabs) or wrong, so what is an error and what it says is decided in one place only. Rendered manifests and files of values are
//! read several times as fast this way.

mod flow;
#[cfg(test)]
mod tests;

use crate::{Dialect, Map, Resolved, Value, resolve};

/// Collections in collections that this way goes into; fewer than any limit allows.
pub(crate) const MOST_DEPTH: usize = 48;

/// Bytes of a key. The whole reader takes 1,024 characters.
const MOST_KEY: usize = 512;

/// The value of a text, read as go-yaml v2 reads it; nothing where the whole reader has to. Of a map only the values of the `wanted` keys
/// are made, if some are named; the others are read all the same, as they may be wrong.
pub(crate) fn read(text: &str, wanted: Option<&[&str]>) -> Option<Value> {
    if !ordinary(text.as_bytes()) {
        return None;
    }
    let mut reader = Reader { text, bytes: text.as_bytes(), at: 0, line: 0, depth: 0, wanted, kept: true };
    reader.next_line();
    if reader.bytes[reader.at..].starts_with(b"---\n") && reader.column() == 0 {
        reader.at += 3;
        reader.next_line();
    }
    let value = match reader.at_end() {
        true => Value::Null,
        false => reader.block(reader.column(), -1)?,
    };
    reader.at_end().then_some(value)
}

/// No tab, no carriage return, nothing that may not stand in a text, no line break but `\n`.
fn ordinary(bytes: &[u8]) -> bool {
    let plain = |b: u8| matches!(b, b' '..=b'~' | b'\n') || (b >= 0x80 && !matches!(b, 0xC2 | 0xE2 | 0xEF));
    if bytes.iter().all(|&b| plain(b)) {
        return true;
    }
    bytes.iter().enumerate().all(|(i, &b)| {
        plain(b)
            || match (b, bytes.get(i + 1), bytes.get(i + 2)) {
                (0xC2, Some(next), _) => *next >= 0xA0,
                (0xE2, Some(0x80), Some(0xA8 | 0xA9)) => false,
                (0xEF, Some(0xBB), Some(0xBF)) | (0xEF, Some(0xBF), Some(0xBE | 0xBF)) => false,
                (0xE2 | 0xEF, ..) => true,
                _ => false,
            }
    })
}

/// What a scalar on one line is followed by, when it is the first of a line or of an item.
enum Begun<'t> {
    Key(String),
    Plain(&'t str),
    Quoted(String),
}

struct Reader<'t> {
    text: &'t str,
    bytes: &'t [u8],
    at: usize,
    /// Where the line begins.
    line: usize,
    depth: usize,
    /// The keys of the outermost map whose values are made.
    wanted: Option<&'t [&'t str]>,
    /// Whether what is read now is made.
    kept: bool,
}

impl<'t> Reader<'t> {
    fn byte(&self, ahead: usize) -> u8 {
        self.bytes.get(self.at + ahead).copied().unwrap_or(b'\n')
    }

    /// Behind an indicator that has to stand alone.
    fn blank(&self, ahead: usize) -> bool {
        matches!(self.byte(ahead), b' ' | b'\n')
    }

    fn at_end(&self) -> bool {
        self.at >= self.bytes.len()
    }

    /// How deep the line's content stands. All that is before it is one byte wide: spaces and indicators.
    fn column(&self) -> usize {
        self.at - self.line
    }

    fn spaces(&mut self) {
        while self.bytes.get(self.at) == Some(&b' ') {
            self.at += 1;
        }
    }

    /// From where nothing more is expected on a line to the next that has content, over empty ones and comments.
    fn next_line(&mut self) {
        loop {
            self.spaces();
            match self.bytes.get(self.at) {
                None => return,
                Some(b'\n') => {}
                Some(b'#') => match memchr::memchr(b'\n', &self.bytes[self.at..]) {
                    Some(end) => self.at += end,
                    None => {
                        self.at = self.bytes.len();
                        return;
                    }
                },
                Some(_) => return,
            }
            self.at += 1;
            self.line = self.at;
        }
    }

    /// Over the end of a line, a comment perhaps before it, to the content that follows. That must not be deeper than `indent`: it would
    /// belong to what has just been read.
    fn ended(&mut self, indent: isize) -> Option<()> {
        let from = self.at;
        self.spaces();
        match self.bytes.get(self.at) {
            None => return Some(()),
            Some(b'\n') => {}
            Some(b'#') if self.at > from => {}
            Some(_) => return None,
        }
        self.next_line();
        (self.at_end() || self.column() as isize <= indent).then_some(())
    }

    fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        if self.depth == MOST_DEPTH {
            return None;
        }
        self.depth += 1;
        let read = read(self);
        self.depth -= 1;
        read
    }

    /// What begins here, `column` bytes into its line, within a collection at `indent`.
    fn block(&mut self, column: usize, indent: isize) -> Option<Value> {
        match self.byte(0) {
            b'-' if self.blank(1) => self.deeper(|reader| reader.list(column, false)),
            b'[' | b'{' => {
                let value = self.flow()?;
                self.ended(indent)?;
                Some(value)
            }
            _ => match self.begun()? {
                Begun::Key(key) => self.deeper(|reader| reader.map(column, key)),
                Begun::Plain(text) => {
                    self.ended(indent)?;
                    Some(self.resolved(text))
                }
                Begun::Quoted(text) => {
                    self.ended(indent)?;
                    Some(Value::String(text))
                }
            },
        }
    }

    /// Over a scalar and, if it is a key, the colon behind it.
    fn begun(&mut self) -> Option<Begun<'t>> {
        if self.column() == 0 && matches!(self.bytes.get(self.at..self.at + 3), Some(b"---" | b"...")) {
            return None;
        }
        let start = self.at;
        if matches!(self.byte(0), b'"' | b'\'') {
            let text = self.quoted()?;
            let end = self.at;
            self.spaces();
            if self.byte(0) == b':' && self.blank(1) {
                self.at += 1;
                return (end - start <= MOST_KEY).then_some(Begun::Key(text));
            }
            self.at = end;
            return Some(Begun::Quoted(text));
        }
        let text = self.plain()?;
        if self.byte(0) == b':' {
            self.at += 1;
            return (self.at - start <= MOST_KEY).then_some(Begun::Key(self.key(text)?));
        }
        Some(Begun::Plain(text))
    }

    /// A map whose first key has been read.
    fn map(&mut self, column: usize, first: String) -> Option<Value> {
        let mut map = Map::new();
        let mut key = first;
        loop {
            let wanted = self.depth > 1 || self.wanted.is_none_or(|wanted| wanted.contains(&key.as_str()));
            let kept = self.kept;
            self.kept = kept && wanted;
            let value = self.value(column)?;
            if self.kept {
                map.insert(key, value);
            }
            self.kept = kept;
            if self.at_end() || self.column() < column {
                return Some(Value::Map(map));
            }
            key = match (self.column() == column).then(|| self.begun())?? {
                Begun::Key(key) => key,
                _ => return None,
            };
        }
    }

    /// What stands behind the colon of a key at `column`.
    fn value(&mut self, column: usize) -> Option<Value> {
        let indent = column as isize;
        self.spaces();
        match self.byte(0) {
            b'\n' | b'#' => {
                self.next_line();
                if self.at_end() || self.column() < column {
                    return Some(Value::Null);
                }
                if self.column() > column {
                    return self.block(self.column(), indent);
                }
                match self.byte(0) == b'-' && self.blank(1) {
                    true => self.deeper(|reader| reader.list(column, true)),
                    false => Some(Value::Null),
                }
            }
            b'|' => self.literal(indent),
            _ => self.on_line(indent),
        }
    }

    /// A value that begins on the line of its key.
    fn on_line(&mut self, indent: isize) -> Option<Value> {
        let value = match self.byte(0) {
            b'[' | b'{' => self.flow()?,
            b'"' | b'\'' => Value::String(self.quoted()?),
            _ => {
                let text = self.plain()?;
                self.resolved(text)
            }
        };
        self.ended(indent)?;
        Some(value)
    }

    /// A list whose dashes stand at `column`. One that is no deeper than the key it belongs to ends where the next key begins.
    fn list(&mut self, column: usize, beside_key: bool) -> Option<Value> {
        let indent = column as isize;
        let mut items = Vec::new();
        loop {
            self.at += 1;
            self.spaces();
            let item = match self.byte(0) {
                b'\n' | b'#' => {
                    self.next_line();
                    match !self.at_end() && self.column() > column {
                        true => self.block(self.column(), indent)?,
                        false => Value::Null,
                    }
                }
                b'|' => self.literal(indent)?,
                _ => self.block(self.column(), indent)?,
            };
            if self.kept {
                items.push(item);
            }
            if self.at_end() || self.column() < column {
                return Some(Value::List(items));
            }
            if self.column() > column {
                return None;
            }
            if self.byte(0) != b'-' || !self.blank(1) {
                return beside_key.then_some(Value::List(items));
            }
        }
    }

    /// A plain scalar as a key; nothing if it is one that is made, or refused, in a way of its own.
    fn key(&self, text: &str) -> Option<String> {
        match resolve(text, Dialect::V2) {
            Resolved::String | Resolved::Timestamp if text == "<<" => None,
            Resolved::String | Resolved::Timestamp | Resolved::Bool(_) | Resolved::Int(_) if !self.kept => {
                Some(String::new())
            }
            Resolved::String | Resolved::Timestamp => Some(text.to_owned()),
            Resolved::Bool(b) => Some(b.to_string()),
            Resolved::Int(n) => Some(n.to_string()),
            _ => None,
        }
    }

    /// A plain scalar's value. Any text is one.
    fn resolved(&self, text: &str) -> Value {
        if self.kept { plain(text) } else { Value::Null }
    }

    /// A plain scalar up to the end of its line, a comment, or the colon that makes it a key.
    fn plain(&mut self) -> Option<&'t str> {
        self.plain_may_start(self.byte(1)).then_some(())?;
        let start = self.at;
        let mut end = start;
        loop {
            match self.byte(0) {
                b'\n' => break,
                b':' if self.blank(1) => break,
                b' ' => {
                    self.spaces();
                    if self.byte(0) == b'#' {
                        self.at -= 1;
                        break;
                    }
                }
                _ => {
                    self.at += 1;
                    end = self.at;
                }
            }
        }
        Some(&self.text[start..end])
    }

    fn plain_may_start(&self, next: u8) -> bool {
        match self.byte(0) {
            b if b.is_ascii_alphanumeric() || b >= 0x80 => true,
            b'/' | b'.' | b'_' | b'+' | b'=' | b'<' | b'~' | b'$' | b'^' | b'(' | b')' | b';' | b'\\' => true,
            b'-' => next.is_ascii_alphanumeric() || matches!(next, b'-' | b'.' | b'_' | b'/'),
            _ => false,
        }
    }

    /// A scalar in quotes, on one line.
    fn quoted(&mut self) -> Option<String> {
        let quote = self.byte(0);
        self.at += 1;
        let mut out = String::new();
        loop {
            let rest = &self.bytes[self.at..];
            let end = match quote {
                b'"' => memchr::memchr3(b'"', b'\\', b'\n', rest)?,
                _ => memchr::memchr2(b'\'', b'\n', rest)?,
            };
            out.push_str(&self.text[self.at..self.at + end]);
            self.at += end + 1;
            match (rest[end], self.bytes.get(self.at)) {
                (b'\'', Some(b'\'')) => out.push('\''),
                (b'\\', Some(escaped)) => out.push(match escaped {
                    b'n' => '\n',
                    b't' => '\t',
                    b'r' => '\r',
                    b'"' => '"',
                    b'\\' => '\\',
                    _ => return None,
                }),
                (found, _) => return (found == quote).then_some(out),
            }
            self.at += 1;
        }
    }

    /// A literal block, from its `|`, within a collection at `indent`.
    fn literal(&mut self, indent: isize) -> Option<Value> {
        self.at += 1;
        let keep = match self.byte(0) {
            sign @ (b'-' | b'+') => {
                self.at += 1;
                Some(sign)
            }
            _ => None,
        };
        self.spaces();
        if self.byte(0) != b'\n' || self.at_end() {
            return None;
        }
        self.at += 1;
        let mut deep = 0;
        let mut out = String::new();
        // Line breaks that are part of the value only if more of it follows.
        let mut breaks = 0;
        let mut ended = false;
        while !self.at_end() {
            self.line = self.at;
            match deep {
                0 => self.spaces(),
                deep => {
                    while self.column() < deep && self.bytes.get(self.at) == Some(&b' ') {
                        self.at += 1;
                    }
                }
            }
            if self.at_end() {
                break;
            }
            let column = self.column();
            if self.byte(0) == b'\n' {
                // Spaces before the first line of text may say how deep the block is: rare, and not done here.
                if deep == 0 && column > 0 {
                    return None;
                }
                breaks += 1;
                self.at += 1;
                continue;
            }
            if deep == 0 {
                if column as isize <= indent || column == 0 {
                    break;
                }
                deep = column;
            }
            if column < deep {
                break;
            }
            if ended {
                out.push('\n');
            }
            out.extend(std::iter::repeat_n('\n', breaks));
            breaks = 0;
            let end = memchr::memchr(b'\n', &self.bytes[self.at..]);
            let stop = end.map_or(self.bytes.len(), |end| self.at + end);
            if self.kept {
                out.push_str(&self.text[self.at..stop]);
            }
            ended = end.is_some();
            self.at = stop + usize::from(ended);
            self.line = self.at;
        }
        if deep == 0 {
            return None;
        }
        if ended && keep != Some(b'-') {
            out.push('\n');
        }
        if keep == Some(b'+') {
            out.extend(std::iter::repeat_n('\n', breaks));
        }
        self.next_line();
        (self.at_end() || self.column() as isize <= indent).then_some(Value::String(out))
    }
}

/// A plain scalar's value.
fn plain(text: &str) -> Value {
    match resolve(text, Dialect::V2) {
        Resolved::Null => Value::Null,
        Resolved::Bool(b) => Value::Bool(b),
        Resolved::Int(n) => Value::Int(n),
        Resolved::Uint(n) => Value::Uint(n),
        Resolved::Float(f) => Value::Float(f),
        Resolved::Timestamp | Resolved::Merge | Resolved::String => Value::String(text.to_owned()),
    }
}
