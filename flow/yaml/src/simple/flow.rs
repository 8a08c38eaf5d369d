//! What stands in brackets.

use super::{MOST_KEY, Reader};
use crate::{Map, Value};

impl<'t> Reader<'t> {
    /// A list or map in brackets, perhaps over several lines.
    pub(super) fn flow(&mut self) -> Option<Value> {
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
            let item = self.flow_node()?;
            if self.kept {
                items.push(item);
            }
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
                    let key = self.flow_plain().and_then(|text| self.key(text))?;
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
            if self.kept {
                map.insert(key, value);
            }
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
            _ => {
                let text = self.flow_plain()?;
                Some(self.resolved(text))
            }
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
