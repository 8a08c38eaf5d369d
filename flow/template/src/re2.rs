//! Go's syntax of regular expressions, written as the `regex` crate reads it.

type Wrong = (&'static str, String);

/// A translated expression.
pub struct Translated {
    pub text: String,
    /// The names of its groups, by number; the whole is number 0. Go lets a name be given twice, the `regex` crate does not,
    /// so names are kept here.
    pub names: Vec<String>,
}

/// Translates an expression, or says what Go says of it and of which piece.
pub fn translate(source: &str) -> Result<Translated, Wrong> {
    let out = String::with_capacity(source.len() + 8);
    let mut reader = Reader { source, at: 0, out, depth: 0, repeatable: false, last: 0, names: vec![String::new()] };
    reader.all()?;
    Ok(Translated { text: reader.out, names: reader.names })
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
    names: Vec<String>,
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
            self.names.push(String::new());
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
            self.out.push('(');
            self.names.push(name.to_owned());
            return Ok(());
        }
        let (mut negative, mut flagged, mut length) = (false, false, 2);
        for c in flags.chars() {
            length += c.len_utf8();
            match c {
                'i' | 'm' | 's' | 'U' => flagged = true,
                '-' if !negative => (negative, flagged) = (true, false),
                ':' | ')' if !negative || flagged => {
                    self.at += length;
                    // Go takes flags that set nothing.
                    if &rest[..length] != "(?)" {
                        self.out.push_str(&rest[..length]);
                    }
                    self.depth -= usize::from(c == ')');
                    return Ok(());
                }
                _ => break,
            }
        }
        Err(("invalid or unsupported Perl syntax", rest[..length].to_owned()))
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
        let wrong = Err(("invalid character class range", piece.to_owned()));
        let name = piece[2..].trim_start_matches('{').trim_end_matches('}');
        let (negated, name) = name.strip_prefix('^').map_or((false, name), |name| (true, name));
        if !name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | ' ')) {
            return wrong;
        }
        let letter = if piece.starts_with("\\P") == negated { 'p' } else { 'P' };
        // Go knows categories and scripts, not the many other properties of characters.
        let known = ["gc=", "sc="].into_iter().map(|kind| format!("\\{letter}{{{kind}{name}}}"));
        match known.into_iter().find(|text| regex::Regex::new(text).is_ok()) {
            Some(text) => Ok((text, length)),
            None => wrong,
        }
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
            'x' => match hexadecimal(&rest[2..]) {
                Ok((value, length)) => (value, 2 + length),
                Err(length) => return Err(("invalid escape sequence", rest[..2 + length].to_owned())),
            },
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
        // A `-` is itself wherever it is not between two characters: Go reads expressions with Perl's extensions on.
        let mut first = true;
        loop {
            let Some(c) = self.peek() else {
                return missing(self);
            };
            if c == ']' && !first {
                break;
            }
            let rest = self.rest();
            first = false;
            if rest.starts_with("[:")
                && let Some(end) = rest.find(":]")
            {
                let name = &rest[..end + 2];
                const NAMES: &[&str] = &[
                    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space",
                    "upper", "word", "xdigit",
                ];
                let plain = name[2..end].strip_prefix('^').unwrap_or(&name[2..end]);
                if !NAMES.contains(&plain) {
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

/// The character that `41` or `{1F600}` stands for and its length, or how much was read until it was wrong.
fn hexadecimal(text: &str) -> Result<(char, usize), usize> {
    let (braced, digits) = text.strip_prefix('{').map_or((false, text), |digits| (true, digits));
    let (mut value, mut count, mut length) = (0, 0, usize::from(braced));
    for c in digits.chars() {
        length += c.len_utf8();
        if braced && c == '}' {
            return char::from_u32(value).filter(|_| count > 0).map(|c| (c, length)).ok_or(length);
        }
        let digit = c.to_digit(16).filter(|_| value <= 0x10_FFFF);
        // Without braces Go reads two characters before it looks at them.
        let Some(digit) = digit else {
            let second = (!braced && count == 0).then(|| digits[c.len_utf8()..].chars().next()).flatten();
            return Err(length + second.map_or(0, char::len_utf8));
        };
        value = value * 16 + digit;
        count += 1;
        if braced && value > 0x10_FFFF {
            return Err(length);
        }
        if !braced && count == 2 {
            return char::from_u32(value).map(|c| (c, length)).ok_or(length);
        }
    }
    Err(length)
}
