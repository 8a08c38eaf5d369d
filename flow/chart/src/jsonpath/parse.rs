//! From the text of a template to its pieces.

use yaml::Value;

use super::DEEPEST;

/// A piece of a template.
#[derive(Debug)]
pub(super) enum Piece {
    Text(String),
    Path(Vec<Part>),
    /// `{range PATH}…{end}`
    Range(Vec<Part>, Vec<Piece>),
}

/// A step of a path.
#[derive(Debug)]
pub(super) enum Part {
    Field(String),
    /// `*`
    Every,
    /// `..`
    Below,
    Index(i64),
    Slice {
        from: Option<i64>,
        to: Option<i64>,
        step: i64,
    },
    Union(Vec<Part>),
    /// `?(LEFT)` or `?(LEFT == RIGHT)`
    Filter(Operand, Option<(Compare, Operand)>),
}

#[derive(Debug)]
pub(super) enum Operand {
    Path(Vec<Part>),
    Literal(Value),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Compare {
    Equal,
    Unequal,
    Less,
    Most,
    Greater,
    Least,
}

pub(super) fn pieces(text: &str) -> Result<Vec<Piece>, String> {
    let mut open: Vec<(Vec<Part>, Vec<Piece>)> = Vec::new();
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        if !before.is_empty() {
            pieces.push(Piece::Text(before.to_owned()));
        }
        let mut action = Action { rest: after };
        loop {
            action.blanks();
            if let Some(after) = action.rest.strip_prefix('}') {
                rest = after;
                break;
            }
            if action.word("range") {
                action.blanks();
                if open.len() > DEEPEST {
                    return Err("ranges are nested too deeply".to_owned());
                }
                open.push((action.path()?, std::mem::take(&mut pieces)));
            } else if action.word("end") {
                let (parts, before) = open.pop().ok_or("not in range, nothing to end")?;
                let inside = std::mem::replace(&mut pieces, before);
                pieces.push(Piece::Range(parts, inside));
            } else if action.rest.starts_with(['\'', '"']) {
                pieces.push(Piece::Text(action.quoted()?));
            } else if let Some(word) = action.literal() {
                pieces.push(Piece::Text(word));
            } else {
                let before = action.rest.len();
                pieces.push(Piece::Path(action.path()?));
                if action.rest.len() == before {
                    return Err(action.strange());
                }
            }
        }
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest.to_owned()));
    }
    // What is not ended goes to the end.
    while let Some((parts, before)) = open.pop() {
        let inside = std::mem::replace(&mut pieces, before);
        pieces.push(Piece::Range(parts, inside));
    }
    Ok(pieces)
}

struct Action<'t> {
    rest: &'t str,
}

impl Action<'_> {
    fn blanks(&mut self) {
        self.rest = self.rest.trim_start();
    }

    /// What is said of a character that cannot stand here.
    fn strange(&self) -> String {
        match self.rest.chars().next() {
            Some(c) => format!("unrecognized character in action: U+{:04X} '{c}'", u32::from(c)),
            None => "unclosed action".to_owned(),
        }
    }

    fn word(&mut self, word: &str) -> bool {
        let after = self.rest.strip_prefix(word).filter(|after| !after.starts_with(|c: char| c.is_alphanumeric()));
        after.map(|after| self.rest = after).is_some()
    }

    /// A number, `true` or `false`, as it is printed.
    fn literal(&mut self) -> Option<String> {
        let end = self.rest.find(|c: char| !(c.is_alphanumeric() || "+-.".contains(c))).unwrap_or(self.rest.len());
        let word = &self.rest[..end];
        let number = word.parse::<f64>().is_ok() && !word.starts_with('.');
        (number || matches!(word, "true" | "false")).then(|| {
            self.rest = &self.rest[end..];
            word.to_owned()
        })
    }

    /// A text in quotes of either kind, with Go's escapes.
    fn quoted(&mut self) -> Result<String, String> {
        let mut chars = self.rest.char_indices();
        let quote = chars.next().map(|(_, quote)| quote).unwrap_or('"');
        let mut text = String::new();
        while let Some((at, c)) = chars.next() {
            match c {
                c if c == quote => {
                    self.rest = &self.rest[at + c.len_utf8()..];
                    return Ok(text);
                }
                '\\' => match chars.next() {
                    Some((_, 'n')) => text.push('\n'),
                    Some((_, 't')) => text.push('\t'),
                    Some((_, 'r')) => text.push('\r'),
                    Some((_, c)) => text.push(c),
                    None => break,
                },
                c => text.push(c),
            }
        }
        Err("unterminated quoted string".to_owned())
    }

    /// Steps until something follows that is none.
    fn path(&mut self) -> Result<Vec<Part>, String> {
        let mut parts = Vec::new();
        if let Some(after) = self.rest.strip_prefix(['$', '@']) {
            self.rest = after;
        }
        loop {
            if parts.len() > DEEPEST {
                return Err("a path is too long".to_owned());
            }
            if let Some(after) = self.rest.strip_prefix("..") {
                self.rest = after;
                parts.push(Part::Below);
                if self.rest.starts_with('[') {
                    continue;
                }
                parts.push(self.field()?);
            } else if let Some(after) = self.rest.strip_prefix('.') {
                self.rest = after;
                if self.rest.starts_with('[') {
                    continue;
                }
                parts.push(self.field()?);
            } else if let Some(after) = self.rest.strip_prefix('[') {
                self.rest = after;
                parts.push(self.brackets()?);
            } else {
                return match self.rest.chars().next() {
                    None => Err("unclosed action".to_owned()),
                    Some(c) if c == '}' || c.is_whitespace() || "=!<>)'\"".contains(c) => Ok(parts),
                    Some(c) if parts.is_empty() && c.is_alphanumeric() => {
                        parts.push(self.field()?);
                        continue;
                    }
                    Some(_) => Err(self.strange()),
                };
            }
        }
    }

    fn field(&mut self) -> Result<Part, String> {
        let mut name = String::new();
        let mut chars = self.rest.char_indices();
        let mut end = self.rest.len();
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' => name.extend(chars.next().map(|(_, c)| c)),
                c if c.is_whitespace() || ".[]{}|,()<>=!&~'\"".contains(c) => {
                    end = at;
                    break;
                }
                c => name.push(c),
            }
        }
        self.rest = &self.rest[end..];
        if self.rest.is_empty() {
            return Err("unclosed action".to_owned());
        }
        Ok(if name == "*" { Part::Every } else { Part::Field(name) })
    }

    /// What stands in `[…]`.
    fn brackets(&mut self) -> Result<Part, String> {
        if let Some(after) = self.rest.strip_prefix("?(") {
            self.rest = after;
            return self.filter();
        }
        let mut parts = Vec::new();
        loop {
            self.blanks();
            if self.rest.starts_with(['\'', '"']) {
                parts.push(Part::Field(self.quoted()?));
            } else {
                let end = self.rest.find([',', ']']).ok_or("unterminated array")?;
                parts.push(place(self.rest[..end].trim())?);
                self.rest = &self.rest[end..];
            }
            self.blanks();
            match self.rest.chars().next() {
                Some(',') => self.rest = &self.rest[1..],
                Some(']') => {
                    self.rest = &self.rest[1..];
                    let only = if parts.len() == 1 { parts.pop() } else { None };
                    return Ok(only.unwrap_or(Part::Union(parts)));
                }
                _ => return Err("unterminated array".to_owned()),
            }
        }
    }

    fn filter(&mut self) -> Result<Part, String> {
        const COMPARE: [(&str, Compare); 6] = [
            ("==", Compare::Equal),
            ("!=", Compare::Unequal),
            ("<=", Compare::Most),
            (">=", Compare::Least),
            ("<", Compare::Less),
            (">", Compare::Greater),
        ];
        let left = self.operand()?;
        self.blanks();
        let mut right = None;
        if let Some((sign, compare)) = COMPARE.iter().find(|(sign, _)| self.rest.starts_with(sign)) {
            self.rest = &self.rest[sign.len()..];
            right = Some((*compare, self.operand()?));
            self.blanks();
        }
        match self.rest.strip_prefix(')').map(|after| after.trim_start().strip_prefix(']')) {
            Some(Some(after)) => self.rest = after,
            Some(None) => return Err("unclosed array expect ]".to_owned()),
            None => {
                // A sign that begins like `==` and goes on otherwise.
                self.rest = self.rest.strip_prefix('=').unwrap_or(self.rest);
                if self.rest.starts_with(['&', '|', '~']) {
                    return Err(self.strange());
                }
                return Err("unterminated filter".to_owned());
            }
        }
        Ok(Part::Filter(left, right))
    }

    fn operand(&mut self) -> Result<Operand, String> {
        self.blanks();
        if self.rest.starts_with(['\'', '"']) {
            return self.quoted().map(|text| Operand::Literal(Value::String(text)));
        }
        if let Some(word) = self.literal() {
            return Ok(Operand::Literal(match word.as_str() {
                "true" => Value::Bool(true),
                "false" => Value::Bool(false),
                number => Value::Float(number.parse().unwrap_or_default()),
            }));
        }
        self.path().map(Operand::Path)
    }
}

/// `*`, an index or `FROM:TO:STEP`.
fn place(text: &str) -> Result<Part, String> {
    let number = |text: &str| {
        if text.is_empty() {
            Ok(None)
        } else {
            text.parse().map(Some).map_err(|_| format!("invalid array index {text}"))
        }
    };
    let wrong = || format!("invalid array index {text}");
    let parts: Vec<&str> = text.split(':').collect();
    match parts.as_slice() {
        ["*"] => Ok(Part::Every),
        [index] => number(index)?.map(Part::Index).ok_or_else(wrong),
        [from, to] => Ok(Part::Slice { from: number(from)?, to: number(to)?, step: 1 }),
        [from, to, step] => Ok(Part::Slice { from: number(from)?, to: number(to)?, step: number(step)?.unwrap_or(1) }),
        _ => Err(wrong()),
    }
}
