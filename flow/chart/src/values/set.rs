//! The grammar of `--set` and its kin: `a.b[0].c=value,d={x,y}`, with `\` before a character that is meant as itself.
//! `--set-literal` has a grammar of its own: nothing ends its value and nothing escapes.

use yaml::{Map, Value};

use crate::{
    Flavor,
    quote::{go_type, quote, quote_chars},
};

/// The largest index of a list that may be set.
const LARGEST_INDEX: i64 = 65_536;
/// The deepest path.
const DEEPEST: usize = 30;

/// How the text behind `=` becomes a value.
pub enum Form<'a> {
    /// `--set`: numbers, booleans and null are recognised.
    Typed,
    /// `--set-string`: always a string.
    Text,
    /// `--set-json`: a JSON value; nothing is null.
    Json,
    /// `--set-file`: the name of a file, given to the function, whose content is the value.
    File(&'a mut dyn FnMut(&str) -> Result<Value, String>),
    /// `--set-literal`: everything up to the end, as it is.
    Literal,
}

/// Reads one argument into `into`, over what is there. The error is Helm's, without its `failed parsing …`.
pub fn set(argument: &str, form: Form<'_>, into: &mut Map, flavor: Flavor) -> Result<(), String> {
    let mut parser = Parser { text: argument.chars().collect(), at: 0, form, flavor };
    loop {
        match parser.key(into, 0) {
            Ok(()) => {}
            Err(Stop::End) => return Ok(()),
            Err(Stop::Error(error)) => return Err(error),
        }
    }
}

enum Stop {
    /// The text is used up; on the outside this is success.
    End,
    Error(String),
}

fn fail<T>(text: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::Error(text.into()))
}

struct Parser<'a> {
    text: Vec<char>,
    at: usize,
    form: Form<'a>,
    flavor: Flavor,
}

impl Parser<'_> {
    fn literal(&self) -> bool {
        matches!(self.form, Form::Literal)
    }

    /// Characters up to one of `stops`, which is taken too; `None` when the text ends before.
    fn until(&mut self, stops: &[char]) -> (Vec<char>, Option<char>) {
        let mut out = Vec::new();
        while let Some(&c) = self.text.get(self.at) {
            self.at += 1;
            if stops.contains(&c) {
                return (out, Some(c));
            }
            if c == '\\' && !self.literal() {
                match self.text.get(self.at) {
                    Some(&next) => {
                        self.at += 1;
                        out.push(next);
                    }
                    None => return (out, None),
                }
            } else {
                out.push(c);
            }
        }
        (out, None)
    }

    fn key(&mut self, data: &mut Map, depth: usize) -> Result<(), Stop> {
        let stops: &[char] = if self.literal() { &['=', '[', '.'] } else { &['=', '[', ',', '.'] };
        let (key, last) = self.until(stops);
        let key: String = key.into_iter().collect();
        match last {
            None if key.is_empty() => Err(Stop::End),
            None => fail(format!("key {} has no value", quote(&key))),
            Some('[') => {
                let index = self.index()?;
                let mut list = match data.get_mut(&key) {
                    None => Vec::new(),
                    Some(Value::List(list)) => std::mem::take(list),
                    Some(other) => return fail(conversion(other, "[]interface {}")),
                };
                let result = self.item(&mut list, index, depth);
                put(data, key, Value::List(list));
                result
            }
            Some('=') => self.value(data, key),
            Some(',') => fail(format!("key {} has no value (cannot end with ,)", quote(&key))),
            Some(_) => {
                if depth + 1 > DEEPEST {
                    return fail(format!(
                        "value name nested level is greater than maximum supported nested level of {DEEPEST}"
                    ));
                }
                let mut inner = match data.get_mut(&key) {
                    None => Map::new(),
                    Some(Value::Map(inner)) => std::mem::take(inner),
                    Some(other) => return fail(conversion(other, "map[string]interface {}")),
                };
                let result = self.key(&mut inner, depth + 1);
                if inner.is_empty() {
                    if result.is_ok() {
                        return fail(format!("key map {} has no value", quote(&key)));
                    }
                } else {
                    put(data, key, Value::Map(inner));
                }
                result
            }
        }
    }

    fn value(&mut self, data: &mut Map, key: String) -> Result<(), Stop> {
        match self.form {
            Form::Json => {
                let value = self.json()?;
                put(data, key, value);
                return Ok(());
            }
            Form::Literal => {
                let (value, _) = self.until(&[]);
                put(data, key, Value::String(value.into_iter().collect()));
                return Ok(());
            }
            _ => {}
        }
        match self.text.get(self.at) {
            None => {
                put(data, key, Value::String(String::new()));
                Err(Stop::End)
            }
            Some('{') => {
                let list = self.list()?;
                put(data, key, list);
                Ok(())
            }
            Some(_) => {
                let (text, _) = self.until(&[',']);
                let value = self.read(&text)?;
                put(data, key, value);
                Ok(())
            }
        }
    }

    fn read(&mut self, text: &[char]) -> Result<Value, Stop> {
        let text: String = text.iter().collect();
        match &mut self.form {
            Form::File(read) => read(&text).map_err(Stop::Error),
            Form::Typed => Ok(typed(text)),
            _ => Ok(Value::String(text)),
        }
    }

    fn list(&mut self) -> Result<Value, Stop> {
        self.at += 1;
        let mut list = Vec::new();
        loop {
            let (text, last) = self.until(&[',', '}']);
            match last {
                None => return fail("list must terminate with '}'"),
                Some('}') => {
                    if self.text.get(self.at) == Some(&',') {
                        self.at += 1;
                    }
                    list.push(self.read(&text)?);
                    return Ok(Value::List(list));
                }
                Some(_) => list.push(self.read(&text)?),
            }
        }
    }

    /// A JSON value and the comma behind it.
    fn json(&mut self) -> Result<Value, Stop> {
        if self.blank() {
            return Ok(Value::Null);
        }
        let rest: String = self.text[self.at..].iter().collect();
        let mut values = serde_json::Deserializer::from_str(&rest).into_iter::<Value>();
        let value = match values.next() {
            Some(Ok(value)) => value,
            Some(Err(error)) => return fail(error.to_string()),
            None => return Ok(Value::Null),
        };
        self.at += rest[..values.byte_offset()].chars().count();
        self.blank();
        Ok(super::floats(value))
    }

    /// Takes white space up to a comma or the end, and says whether there was nothing else.
    fn blank(&mut self) -> bool {
        while let Some(&c) = self.text.get(self.at) {
            if c == ',' {
                self.at += 1;
                return true;
            }
            if !c.is_whitespace() {
                return false;
            }
            self.at += 1;
        }
        true
    }

    fn index(&mut self) -> Result<i64, Stop> {
        let (text, last) = self.until(&[']']);
        if last.is_none() {
            return match self.flavor {
                Flavor::Helm3 => fail("error parsing index: EOF"),
                // The end is the end to it, wherever it comes.
                Flavor::Helm4 => Err(Stop::End),
            };
        }
        let text: String = text.into_iter().collect();
        text.parse().or_else(|_| {
            let digits = text.strip_prefix(['-', '+']).unwrap_or(&text);
            let number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            let why = if number { "value out of range" } else { "invalid syntax" };
            fail(format!("error parsing index: strconv.Atoi: parsing {}: {why}", quote(&text)))
        })
    }

    fn item(&mut self, list: &mut Vec<Value>, index: i64, depth: usize) -> Result<(), Stop> {
        if index < 0 {
            return fail(format!("negative {index} index not allowed"));
        }
        let (text, last) = self.until(&['[', '.', '=']);
        if !text.is_empty() {
            return fail(format!("unexpected data at end of array index: {}", quote_chars(&text)));
        }
        let at = usize::try_from(index).unwrap_or(usize::MAX);
        let value = match last {
            None => return Err(Stop::End),
            Some('=') => match self.form {
                Form::Json => self.json()?,
                Form::Literal => Value::String(self.until(&[]).0.into_iter().collect()),
                _ => match self.text.get(self.at) {
                    None => Value::String(String::new()),
                    Some('{') => self.list()?,
                    Some(_) => {
                        let (text, _) = self.until(&[',']);
                        self.read(&text)?
                    }
                },
            },
            Some('[') => {
                let next = self.index()?;
                let mut inner = match list.get_mut(at) {
                    None | Some(Value::Null) => Vec::new(),
                    Some(Value::List(inner)) => std::mem::take(inner),
                    Some(other) => return fail(conversion(other, "[]interface {}")),
                };
                self.item(&mut inner, next, depth)?;
                Value::List(inner)
            }
            Some(_) => {
                let mut inner = match list.get_mut(at) {
                    Some(Value::Map(inner)) => std::mem::take(inner),
                    _ => Map::new(),
                };
                self.key(&mut inner, depth)?;
                Value::Map(inner)
            }
        };
        if index > LARGEST_INDEX {
            return fail(format!("index of {index} is greater than maximum supported index of {LARGEST_INDEX}"));
        }
        if list.len() <= at {
            list.resize(at + 1, Value::Null);
        }
        list[at] = value;
        Ok(())
    }
}

fn put(data: &mut Map, key: String, value: Value) {
    if !key.is_empty() {
        data.insert(key, value);
    }
}

fn conversion(value: &Value, wanted: &str) -> String {
    format!("unable to parse key: interface conversion: interface {{}} is {}, not {wanted}", go_type(value))
}

fn typed(text: String) -> Value {
    let is = |word: &str| text.eq_ignore_ascii_case(word);
    if is("true") {
        return Value::Bool(true);
    }
    if is("false") {
        return Value::Bool(false);
    }
    if is("null") {
        return Value::Null;
    }
    if text == "0" {
        return Value::Int(0);
    }
    if !text.starts_with('0')
        && let Ok(number) = text.parse::<i64>()
    {
        return Value::Int(number);
    }
    Value::String(text)
}
