//! Go's syntax of regular expressions, written as the `regex` crate reads it.

type Wrong = (&'static str, String);

/// Translates an expression, or says what Go says of it and of which piece.
pub fn translate(source: &str) -> Result<String, Wrong> {
    let mut reader =
        Reader { source, at: 0, out: String::with_capacity(source.len() + 8), depth: 0, repeatable: false, last: 0 };
    reader.all()?;
    Ok(reader.out)
}

struct Reader<'t> {
    source: &'t str,
    at: usize,
    out: String,
    depth: usize,
    /// Whether there is something that `*` can repeat.
    repeatable: bool,
    /// Where the last repetition operator began, if one ended just here.
    last: usize,
}

impl<'t> Reader<'t> {
    fn rest(&self) -> &'t str {
        &self.source[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn all(&mut self) -> Result<(), Wrong> {
        let mut repeated = false;
        while let Some(c) = self.peek() {
            let begin = self.at;
            match c {
                '(' => {
                    self.group()?;
                    repeated = false;
                }
                ')' => {
                    if self.depth == 0 {
                        return Err(("unexpected )", self.source.to_owned()));
                    }
                    self.depth -= 1;
                    self.at += 1;
                    self.out.push(')');
                    self.repeatable = true;
                    repeated = false;
                }
                '|' => {
                    self.at += 1;
                    self.out.push('|');
                    self.repeatable = false;
                    repeated = false;
                }
                '*' | '+' | '?' => {
                    self.at += 1;
                    if self.peek() == Some('?') {
                        self.at += 1;
                    }
                    self.repeat(begin, repeated)?;
                    repeated = true;
                }
                '{' => match self.counts() {
                    Some(length) => {
                        let piece = &self.source[begin..begin + length];
                        let bounds: Vec<Option<u32>> =
                            piece[1..length - 1].split(',').map(|n| n.parse().ok()).collect();
                        self.at += length;
                        let too_many = bounds.iter().flatten().any(|n| *n > 1000);
                        let backwards = matches!(bounds[..], [Some(low), Some(high)] if low > high);
                        let overflow = piece[1..length - 1].split(',').any(|n| n.len() > 8);
                        if too_many || backwards || overflow {
                            return Err(("invalid repeat count", piece.to_owned()));
                        }
                        if self.peek() == Some('?') {
                            self.at += 1;
                        }
                        self.repeat(begin, repeated)?;
                        repeated = true;
                    }
                    None => {
                        self.at += 1;
                        self.out.push_str("\\{");
                        self.repeatable = true;
                        repeated = false;
                    }
                },
                '[' => {
                    self.class()?;
                    self.repeatable = true;
                    repeated = false;
                }
                '\\' => {
                    self.escape()?;
                    self.repeatable = true;
                    repeated = false;
                }
                c => {
                    self.at += c.len_utf8();
                    match c {
                        '}' | ']' | '#' | '&' | '~' | '-' => {
                            self.out.push('\\');
                            self.out.push(c);
                        }
                        // `$` is the end of the text, not of its last line.
                        c => self.out.push(c),
                    }
                    self.repeatable = true;
                    repeated = false;
                }
            }
        }
        if self.depth > 0 {
            return Err(("missing closing )", self.source.to_owned()));
        }
        Ok(())
    }

    fn repeat(&mut self, begin: usize, repeated: bool) -> Result<(), Wrong> {
        let piece = &self.source[begin..self.at];
        if !self.repeatable {
            let operator = piece.trim_end_matches(|c| c == '?' && piece.len() > 1);
            return Err(("missing argument to repetition operator", operator.to_owned()));
        }
        if repeated {
            return Err(("invalid nested repetition operator", self.source[self.last..self.at].to_owned()));
        }
        self.last = begin;
        self.out.push_str(piece);
        Ok(())
    }

    /// The length of `{2}`, `{2,}` or `{2,3}`; anything else after `{` is itself.
    fn counts(&self) -> Option<usize> {
        let rest = self.rest();
        let close = rest.find('}')?;
        let body = &rest[1..close];
        let (low, high) = body.split_once(',').unwrap_or((body, ""));
        let digits = |n: &str| n.bytes().all(|b| b.is_ascii_digit()) && (n.len() == 1 || !n.starts_with('0'));
        (!low.is_empty() && digits(low) && (high.is_empty() || digits(high))).then_some(close + 1)
    }

    fn group(&mut self) -> Result<(), Wrong> {
        let rest = self.rest();
        self.depth += 1;
        self.repeatable = false;
        let Some(flags) = rest.strip_prefix("(?") else {
            self.at += 1;
            self.out.push('(');
            return Ok(());
        };
        if flags.starts_with("P<") || flags.starts_with('<') {
            let start = if flags.starts_with('<') { 3 } else { 4 };
            let Some(end) = rest.find('>') else {
                return Err(("invalid named capture", rest.to_owned()));
            };
            let name = &rest[start..end];
            if name.is_empty() || !name.chars().all(|c| c == '_' || c.is_alphanumeric()) {
                return Err(("invalid named capture", rest[..=end].to_owned()));
            }
            self.at += end + 1;
            self.out.push_str(&format!("(?P<{name}>"));
            return Ok(());
        }
        let length = flags.find(|c: char| !matches!(c, 'i' | 'm' | 's' | 'U' | '-')).unwrap_or(flags.len());
        let end = flags[length..].chars().next();
        if !matches!(end, Some(':' | ')')) || flags[..length].matches('-').count() > 1 || flags[..length].ends_with('-')
        {
            if end.is_none() {
                return Err(("missing closing )", self.source.to_owned()));
            }
            let piece: String = rest.chars().take(2 + length + 1).collect();
            return Err(("invalid or unsupported Perl syntax", piece));
        }
        self.out.push_str(&rest[..2 + length + 1]);
        self.at += 2 + length + 1;
        if end == Some(')') {
            self.depth -= 1;
        }
        Ok(())
    }

    fn escape(&mut self) -> Result<(), Wrong> {
        let rest = self.rest();
        let Some(c) = rest[1..].chars().next() else {
            return Err(("trailing backslash at end of expression", String::new()));
        };
        if c == 'Q' {
            let body = &rest[2..];
            let (literal, length) = match body.find("\\E") {
                Some(at) => (&body[..at], at + 4),
                None => (body, rest.len()),
            };
            self.out.push_str(&regex::escape(literal));
            self.at += length;
            return Ok(());
        }
        match c {
            'A' => self.simple("\\A"),
            'z' => self.simple("\\z"),
            'b' => self.simple("(?-u:\\b)"),
            'B' => self.simple("(?-u:\\B)"),
            'd' => self.simple("[0-9]"),
            'D' => self.simple("[^0-9]"),
            's' => self.simple("[\\t\\n\\x0C\\r ]"),
            'S' => self.simple("[^\\t\\n\\x0C\\r ]"),
            'w' => self.simple("[0-9A-Za-z_]"),
            'W' => self.simple("[^0-9A-Za-z_]"),
            'p' | 'P' => {
                let (text, length) = self.property()?;
                self.out.push_str(&text);
                self.at += length;
            }
            _ => {
                let literal = self.literal()?;
                self.out.push_str(&regex::escape(&literal.to_string()));
            }
        }
        Ok(())
    }

    fn simple(&mut self, text: &str) {
        self.out.push_str(text);
        self.at += 2;
    }

    fn property(&self) -> Result<(String, usize), Wrong> {
        let rest = self.rest();
        let length = match rest[2..].chars().next() {
            Some('{') => match rest.find('}') {
                Some(end) => end + 1,
                None => return Err(("invalid character class range", rest.to_owned())),
            },
            Some(c) => 2 + c.len_utf8(),
            None => return Err(("invalid character class range", rest.to_owned())),
        };
        let piece = &rest[..length];
        // Names that neither side knows are refused here, in Go's words.
        let text = piece.replace("{^", "{").to_owned();
        let negated = piece.contains("{^");
        let text = if negated && text.starts_with("\\p") {
            text.replacen("\\p", "\\P", 1)
        } else if negated {
            text.replacen("\\P", "\\p", 1)
        } else {
            text
        };
        let text = text.replace("{Any}", "{any}");
        if regex::Regex::new(&text).is_err() {
            return Err(("invalid character class range", piece.to_owned()));
        }
        Ok((text, length))
    }

    /// An escape that stands for one character.
    fn literal(&mut self) -> Result<char, Wrong> {
        let rest = self.rest();
        let mut chars = rest[1..].chars();
        let Some(c) = chars.next() else {
            return Err(("trailing backslash at end of expression", String::new()));
        };
        let wrong = |length: usize| {
            let piece: String = rest.chars().take(length).collect();
            Err(("invalid escape sequence", piece))
        };
        let (value, length) = match c {
            'a' => ('\x07', 2),
            'f' => ('\x0c', 2),
            't' => ('\t', 2),
            'n' => ('\n', 2),
            'r' => ('\r', 2),
            'v' => ('\x0b', 2),
            'x' => {
                let body = &rest[2..];
                let (digits, length) = match body.strip_prefix('{') {
                    Some(inner) => match inner.find('}') {
                        Some(end) => (&inner[..end], end + 4),
                        None => return wrong(rest.chars().count()),
                    },
                    None => match body.get(..2) {
                        Some(digits) => (digits, 4),
                        None => return wrong(4),
                    },
                };
                match u32::from_str_radix(digits, 16).ok().and_then(char::from_u32) {
                    Some(value) => (value, length),
                    None => return wrong(length),
                }
            }
            '0'..='7' if c == '0' || chars.next().is_some_and(|d| ('0'..='7').contains(&d)) => {
                let digits: String = rest[1..].chars().take(3).take_while(|d| ('0'..='7').contains(d)).collect();
                match u32::from_str_radix(&digits, 8).ok().and_then(char::from_u32) {
                    Some(value) => (value, 1 + digits.len()),
                    None => return wrong(2),
                }
            }
            c if c.is_ascii() && !c.is_ascii_alphanumeric() => (c, 2),
            _ => return wrong(2),
        };
        self.at += length;
        Ok(value)
    }

    fn class(&mut self) -> Result<(), Wrong> {
        let begin = self.at;
        let missing = |reader: &Self| Err(("missing closing ]", reader.source[begin..].to_owned()));
        self.at += 1;
        self.out.push('[');
        if self.peek() == Some('^') {
            self.at += 1;
            self.out.push('^');
        }
        let mut first = true;
        loop {
            let Some(c) = self.peek() else {
                return missing(self);
            };
            if c == ']' && !first {
                break;
            }
            let rest = self.rest();
            if c == '-' && !first && !rest.starts_with("-]") {
                // A bare `-` in the middle is refused unless it is at an end.
                let next = rest[1..].chars().next();
                if next.is_none() {
                    return missing(self);
                }
                let piece: String = rest.chars().take(2).collect();
                return Err(("invalid character class range", piece));
            }
            first = false;
            if rest.starts_with("[:")
                && let Some(end) = rest.find(":]")
            {
                let name = &rest[..end + 2];
                const NAMES: &[&str] = &[
                    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space",
                    "upper", "word", "xdigit",
                ];
                if !NAMES.contains(&name[2..end].trim_start_matches('^')) {
                    return Err(("invalid character class range", name.to_owned()));
                }
                self.out.push_str(name);
                self.at += end + 2;
                continue;
            }
            if c == '\\' {
                let set = match rest[1..].chars().next() {
                    Some('d') => "0-9",
                    Some('D') => "[^0-9]",
                    Some('s') => "\\t\\n\\x0C\\r ",
                    Some('S') => "[^\\t\\n\\x0C\\r ]",
                    Some('w') => "0-9A-Za-z_",
                    Some('W') => "[^0-9A-Za-z_]",
                    Some('p' | 'P') => {
                        let (text, length) = self.property()?;
                        self.out.push_str(&text);
                        self.at += length;
                        continue;
                    }
                    _ => "",
                };
                if !set.is_empty() {
                    self.out.push_str(set);
                    self.at += 2;
                    continue;
                }
            }
            let from = self.at;
            let low = self.member()?;
            let mut high = low;
            if self.rest().starts_with('-') && !self.rest().starts_with("-]") {
                self.at += 1;
                if self.peek().is_none() {
                    return missing(self);
                }
                high = self.member()?;
                if high < low {
                    return Err(("invalid character class range", self.source[from..self.at].to_owned()));
                }
            }
            self.out.push_str(&format!("\\x{{{:x}}}", low as u32));
            if high != low {
                self.out.push_str(&format!("-\\x{{{:x}}}", high as u32));
            }
        }
        self.at += 1;
        self.out.push(']');
        Ok(())
    }

    fn member(&mut self) -> Result<char, Wrong> {
        match self.peek() {
            Some('\\') => self.literal(),
            Some(c) => {
                self.at += c.len_utf8();
                Ok(c)
            }
            None => Err(("missing closing ]", self.source.to_owned())),
        }
    }
}
