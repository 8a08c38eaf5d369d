//! TOML as the Go library that Helm uses prints and reads it.

use crate::{
    functions::Fail,
    number::format_float,
    render::Session,
    value::{Map, Value},
};

/// Prints a table.
pub fn print(s: &mut Session<'_>, value: &Value) -> Result<String, Fail> {
    let mut printer = Printer { out: String::new() };
    match value.plain() {
        Value::Map(map) => printer.table(s, &mut Vec::new(), &map)?,
        Value::List(_) if is_tables(&value.plain())? => {
            return Err(Fail::from("toml: top-level values must be Go maps or structs"));
        }
        Value::Nil => return Err(Fail::from("toml: cannot encode a nil value")),
        other => printer.element(s, &other, 0)?,
    }
    s.room(printer.out.len())?;
    Ok(printer.out)
}

struct Printer {
    out: String,
}

fn is_tables(value: &Value) -> Result<bool, Fail> {
    let Value::List(list) = value else {
        return Ok(false);
    };
    if list.iter().any(Value::is_nil) {
        return Err(Fail::from("toml: cannot encode array with nil element"));
    }
    Ok(!list.is_empty() && list.iter().all(|item| matches!(item.plain(), Value::Map(_))))
}

fn is_table(value: &Value) -> Result<bool, Fail> {
    Ok(matches!(value, Value::Map(_)) || is_tables(value)?)
}

fn quoted_key(key: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !key.is_empty() && key.chars().all(bare) { key.to_owned() } else { format!("\"{}\"", escaped(key)) }
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\x08' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\x0c' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            c if c < ' ' || c == '\x7f' => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out
}

fn path(key: &[String]) -> String {
    key.iter().map(|part| quoted_key(part)).collect::<Vec<_>>().join(".")
}

impl Printer {
    fn newline(&mut self) {
        if !self.out.is_empty() {
            self.out.push('\n');
        }
    }

    fn indent(&mut self, key: &[String]) {
        self.out.push_str(&"  ".repeat(key.len().saturating_sub(1)));
    }

    /// The plain values of a table first, then the tables in it.
    fn table(&mut self, s: &mut Session<'_>, key: &mut Vec<String>, map: &Map) -> Result<(), Fail> {
        s.charge(map.len() as u64 + 1)?;
        if key.len() > 200 {
            return Err(Fail::Limit("values more than 200 deep cannot be printed".to_owned()));
        }
        let mut tables = Vec::new();
        for (name, value) in map.pairs() {
            let value = value.plain();
            if is_table(&value)? {
                tables.push((name, value));
                continue;
            }
            if value.is_nil() {
                continue;
            }
            key.push(name.to_str().into_owned());
            self.indent(key);
            self.out.push_str(&format!("{} = ", quoted_key(&name.to_str())));
            self.element(s, &value, 0)?;
            self.newline();
            key.pop();
        }
        for (name, value) in tables {
            key.push(name.to_str().into_owned());
            match &value {
                Value::Map(map) => {
                    if key.len() == 1 {
                        self.newline();
                    }
                    self.indent(key);
                    self.out.push_str(&format!("[{}]", path(key)));
                    self.newline();
                    self.table(s, key, map)?;
                }
                Value::List(list) => {
                    for item in list.iter() {
                        self.newline();
                        self.indent(key);
                        self.out.push_str(&format!("[[{}]]", path(key)));
                        self.newline();
                        if let Value::Map(map) = item.plain() {
                            self.table(s, key, &map)?;
                        }
                    }
                }
                _ => {}
            }
            key.pop();
        }
        Ok(())
    }

    fn element(&mut self, s: &mut Session<'_>, value: &Value, depth: usize) -> Result<(), Fail> {
        s.charge(1)?;
        if depth > 200 {
            return Err(Fail::Limit("values more than 200 deep cannot be printed".to_owned()));
        }
        match value.plain() {
            Value::Str(text) => self.out.push_str(&format!("\"{}\"", escaped(&text.to_str()))),
            Value::Bool(b) => self.out.push_str(if b { "true" } else { "false" }),
            Value::Int(_, n) => self.out.push_str(&n.to_string()),
            Value::Uint(_, n) => self.out.push_str(&n.to_string()),
            Value::Float(f) if f.is_nan() => self.out.push_str("nan"),
            Value::Float(f) if f.is_infinite() => self.out.push_str(if f > 0.0 { "inf" } else { "-inf" }),
            Value::Float(f) => {
                let text = format_float(f, 'g', None);
                let point = if text.contains(['e', '.']) { "" } else { ".0" };
                self.out.push_str(&format!("{text}{point}"));
            }
            Value::Bytes(bytes) => {
                let items: Vec<String> = bytes.as_bytes().iter().map(u8::to_string).collect();
                self.out.push_str(&format!("[{}]", items.join(", ")));
            }
            Value::List(list) => {
                self.out.push('[');
                for (i, item) in list.iter().enumerate() {
                    if i > 0 {
                        self.out.push_str(", ");
                    }
                    self.element(s, item, depth + 1)?;
                }
                self.out.push(']');
            }
            Value::Map(map) => {
                self.out.push('{');
                let mut direct = Vec::new();
                let mut tables = Vec::new();
                for (name, value) in map.pairs() {
                    let table = is_table(&value.plain())?;
                    if table { tables.push((name, value)) } else { direct.push((name, value)) }
                }
                let count = direct.len() + tables.len();
                for (i, (name, value)) in direct.into_iter().chain(tables).enumerate() {
                    if value.is_nil() {
                        continue;
                    }
                    self.out.push_str(&format!("{} = ", quoted_key(&name.to_str())));
                    self.element(s, &value, depth + 1)?;
                    if i + 1 < count {
                        self.out.push_str(", ");
                    }
                }
                self.out.push('}');
            }
            Value::Object(object) => {
                let text = object.string().unwrap_or_default();
                self.out.push_str(&text);
            }
            Value::Nil | Value::Complex(..) => return Err(Fail::from("toml: cannot encode array with nil element")),
        }
        Ok(())
    }
}

/// Reads a document. Whole numbers become `int64`, as the Go library has them.
pub fn read(text: &str) -> Result<Value, String> {
    let table: toml::Table = text.parse().map_err(|e: toml::de::Error| format!("toml: {}", e.message()))?;
    Ok(convert(toml::Value::Table(table)))
}

fn convert(value: toml::Value) -> Value {
    match value {
        toml::Value::String(text) => Value::str(text),
        toml::Value::Integer(n) => Value::int64(n),
        toml::Value::Float(f) => Value::Float(f),
        toml::Value::Boolean(b) => Value::Bool(b),
        toml::Value::Datetime(time) => Value::str(time.to_string()),
        toml::Value::Array(items) => Value::list(items.into_iter().map(convert).collect()),
        toml::Value::Table(table) => Value::map(table.into_iter().map(|(k, v)| (k, convert(v)))),
    }
}
