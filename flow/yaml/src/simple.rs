//! A short way for texts as most are written: block maps and lists, scalars on one line, literal blocks, brackets.
//!
//! It gives what the whole reader gives or gives up, at the first thing that is rare (anchors, tags, folded blocks, scalars over several
//! lines, tabs) or wrong, so what is an error and what it says is decided in one place only. Rendered manifests and files of values are
//! read several times as fast this way.

use crate::{Dialect, Map, Resolved, Value, resolve};

/// Collections in collections that this way goes into; fewer than any limit allows.
pub(crate) const MOST_DEPTH: usize = 48;

/// Bytes of a key. The whole reader takes 1,024 characters.
const MOST_KEY: usize = 512;

/// The value of a text, read as go-yaml v2 reads it; nothing where the whole reader has to.
pub(crate) fn read(text: &str) -> Option<Value> {
    if !ordinary(text.as_bytes()) {
        return None;
    }
    let mut reader = Reader { text, bytes: text.as_bytes(), at: 0, line: 0, depth: 0 };
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
                    Some(plain(text))
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
            return (self.at - start <= MOST_KEY).then_some(Begun::Key(key(text)?));
        }
        Some(Begun::Plain(text))
    }

    /// A map whose first key has been read.
    fn map(&mut self, column: usize, first: String) -> Option<Value> {
        let mut map = Map::new();
        let mut key = first;
        loop {
            let value = self.value(column)?;
            map.insert(key, value);
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
            _ => plain(self.plain()?),
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
            items.push(match self.byte(0) {
                b'\n' | b'#' => {
                    self.next_line();
                    match !self.at_end() && self.column() > column {
                        true => self.block(self.column(), indent)?,
                        false => Value::Null,
                    }
                }
                b'|' => self.literal(indent)?,
                _ => self.block(self.column(), indent)?,
            });
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
            out.push_str(&self.text[self.at..stop]);
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

    /// A list or map in brackets, perhaps over several lines.
    fn flow(&mut self) -> Option<Value> {
        let list = self.byte(0) == b'[';
        self.at += 1;
        self.deeper(|reader| if list { reader.flow_list() } else { reader.flow_map() })
    }

    /// To the next thing in brackets.
    fn flow_space(&mut self) -> Option<u8> {
        loop {
            self.spaces();
            let b = *self.bytes.get(self.at)?;
            if b != b'\n' {
                return (b != b'#' && !(self.at == self.line && matches!(b, b'-' | b'.' | b'%'))).then_some(b);
            }
            self.at += 1;
            self.line = self.at;
        }
    }

    fn flow_list(&mut self) -> Option<Value> {
        let mut items = Vec::new();
        while self.flow_space()? != b']' {
            items.push(self.flow_node()?);
            self.flow_comma(b']')?;
        }
        self.at += 1;
        Some(Value::List(items))
    }

    fn flow_map(&mut self) -> Option<Value> {
        let mut map = Map::new();
        loop {
            let start = self.at;
            let key = match self.flow_space()? {
                b'}' => break,
                b'"' | b'\'' => {
                    let key = self.quoted()?;
                    self.spaces();
                    key
                }
                _ => {
                    let key = key(self.flow_plain()?)?;
                    self.blank(1).then_some(key)?
                }
            };
            if self.byte(0) != b':' || self.at - start > MOST_KEY {
                return None;
            }
            self.at += 1;
            let value = match self.flow_space()? {
                b',' | b'}' => Value::Null,
                _ => self.flow_node()?,
            };
            map.insert(key, value);
            self.flow_comma(b'}')?;
        }
        self.at += 1;
        Some(Value::Map(map))
    }

    /// Over the comma behind an item, unless it is the last.
    fn flow_comma(&mut self, end: u8) -> Option<()> {
        match self.flow_space()? {
            b',' => self.at += 1,
            b if b == end => {}
            _ => return None,
        }
        Some(())
    }

    fn flow_node(&mut self) -> Option<Value> {
        match self.byte(0) {
            b'[' | b'{' => self.flow(),
            b'"' | b'\'' => self.quoted().map(Value::String),
            _ => self.flow_plain().map(plain),
        }
    }

    /// A plain scalar in brackets; what is rare in one ends it, and what follows is then not what has to.
    fn flow_plain(&mut self) -> Option<&'t str> {
        let next = self.byte(1);
        (self.byte(0) != b'-' || next.is_ascii_alphanumeric()).then_some(())?;
        self.plain_may_start(next).then_some(())?;
        let start = self.at;
        let mut end = start;
        loop {
            match self.byte(0) {
                b'\n' | b',' | b'?' | b'[' | b']' | b'{' | b'}' => break,
                b':' if self.blank(1) => break,
                b':' if matches!(self.byte(1), b',' | b'[' | b']' | b'{' | b'}') => return None,
                b' ' => {
                    self.spaces();
                    if matches!(self.byte(0), b'#' | b':') {
                        return None;
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

/// A plain scalar as a key; nothing if it is one that is made, or refused, in a way of its own.
fn key(text: &str) -> Option<String> {
    match resolve(text, Dialect::V2) {
        Resolved::String | Resolved::Timestamp if text != "<<" => Some(text.to_owned()),
        Resolved::Bool(b) => Some(b.to_string()),
        Resolved::Int(n) => Some(n.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Decode, to_go, to_json};

    fn whole(text: &str) -> Result<Value, crate::Error> {
        Decode::default().read_whole(text)
    }

    #[test]
    fn what_is_common_is_read_this_way() {
        for text in [
            "",
            "# nothing\n\n",
            "---\na: 1\n",
            "a: b # c\nd:\n  - e: f\n    g: 1.5\n  -\n  - - x\n    - y\nh: {i: [1, \"a\\n\", 'it''s'], \"j\":true}\n",
            "a:\n- b\n- c: d\n  e:\n  - f\ng:\nh: ~\n",
            "a: |\n  x\n   y\n\n  z\n\nb: |-\n  p\nc: |+\n  q\n\nd: 2001-01-01\n",
            "a : http://x:80/y#z\n'b': \"c: d\"\n1: yes\non: [a,\n  b\n]\n\u{e9}: \u{20ac}\n",
            "- a\n- b\n",
            "word",
            "{\"a\":[{\"b\":-1}],\"c\":\"\"}\n",
        ] {
            assert_eq!(read(text), Some(whole(text).unwrap()), "{text:?}");
        }
    }

    #[test]
    fn what_is_rare_or_wrong_is_left_to_the_whole_reader() {
        for text in [
            "a: &x 1",
            "a: *x",
            "a: !!str 1",
            "a: >\n  x\n",
            "a: b\n  c",
            "a: 'b\n  c'",
            "a:\n  b\n c: d",
            "a: b: c",
            "\ta: 1",
            "<<: {a: 1}",
            "? a",
            "a: |2\n   x",
            "a\nb: c",
            "a: 1\n---\nb: 2",
            "%YAML 1.1\n---\na",
            "a: [1",
            "a: \"\\x41\"",
            "~: 1",
            "a: 1\r\n",
            "a: \u{85}",
            "[a: b]",
            "[a # b\n]",
            "- a\nb: 1",
            "a: - b",
            "a: 1\n...\n",
            "a: |\n    \n  x\n",
        ] {
            assert_eq!(read(text), None, "{text:?}");
        }
        assert_eq!(read(&"[".repeat(100_000)), None);
        assert_eq!(read(&"- ".repeat(100_000)), None);
        assert_eq!(read(&format!("{}: 1", "k".repeat(2_000))), None);
    }

    /// Pieces that texts of all kinds are made of.
    const PIECES: [&str; 48] = [
        "a", "b", "key", ": ", ":", ":\n", "\n", "\n\n", "\n  ", "\n    ", "\n   ", "\n ", " ", "  ", "- ", "-",
        "\n- ", "\n  - ", "- - ", "{", "}", "[", "]", ", ", ",", "\"q\"", "'s'", "\"", "'", " # c", "#", "|\n", "|-\n",
        "|+\n", ">\n", "1", "-1", "1.5", "true", "~", "<<", "&x ", "*x", "! ", "?", "---\n", "...", "\u{e9}",
    ];

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Int),
            "[ -~\n\u{e9}]{0,24}".prop_map(Value::String),
            "[a-z]{1,8}".prop_map(Value::String),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::List),
                prop::collection::btree_map("[a-zA-Z0-9./ -]{1,8}", inner, 0..5).prop_map(Value::Map),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..Default::default() })]

        /// What is read this way is what the whole reader reads; so what that refuses is not read.
        #[test]
        fn both_ways_lead_to_the_same(pieces in prop::collection::vec(prop::sample::select(&PIECES[..]), 0..24)) {
            let text = pieces.concat();
            if let Some(value) = read(&text) {
                prop_assert_eq!(whole(&text).ok(), Some(value), "{:?}", text);
            }
        }

        /// The same of texts that have a shape, some lines of which are then moved or cut.
        #[test]
        fn both_ways_lead_to_the_same_for_what_is_printed(
            value in value(), json in any::<bool>(), line in 0usize..12, edit in prop::sample::select(&["", " ", "  ", "- ", "#", "x"][..])
        ) {
            let printed = if json { to_json(&value) } else { to_go(&value) };
            let mut lines: Vec<String> = printed.split('\n').map(str::to_owned).collect();
            for text in [printed.clone(), {
                if let Some(line) = lines.get_mut(line) {
                    match line.strip_prefix("  ").filter(|_| edit.is_empty()) {
                        Some(less) => *line = less.to_owned(),
                        None => line.insert_str(0, edit),
                    }
                }
                lines.join("\n")
            }] {
                if let Some(value) = read(&text) {
                    prop_assert_eq!(whole(&text).ok(), Some(value), "{:?}", text);
                }
            }
        }
    }
}
