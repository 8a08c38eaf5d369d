//! The tokens of a template.

use crate::quote::{is_print, quote_str};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Error,
    Bool,
    Char,
    CharConstant,
    Complex,
    Assign,
    Declare,
    Eof,
    Field,
    Identifier,
    LeftDelim,
    LeftParen,
    Number,
    Pipe,
    RawString,
    RightDelim,
    RightParen,
    Space,
    String,
    Text,
    Variable,
    Block,
    Break,
    Continue,
    Dot,
    Define,
    Else,
    End,
    If,
    Nil,
    Range,
    Template,
    With,
}

impl Kind {
    fn is_keyword(self) -> bool {
        use Kind::*;
        matches!(self, Block | Break | Continue | Dot | Define | Else | End | If | Nil | Range | Template | With)
    }
}

/// A token: what it is, where it starts, its text, the line it starts on. What is wrong with one that is an error, the lexer knows.
#[derive(Clone, Copy, Debug)]
pub struct Token<'t> {
    pub kind: Kind,
    pub pos: usize,
    pub text: &'t str,
    pub line: usize,
}

impl Token<'_> {
    pub fn start() -> Self {
        Self { kind: Kind::Error, pos: 0, text: "", line: 0 }
    }
}

impl std::fmt::Display for Token<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.kind {
            Kind::Eof => f.write_str("EOF"),
            kind if kind.is_keyword() => write!(f, "<{}>", self.text),
            _ if self.text.len() > 10 => {
                let head: String = self.text.chars().take(10).collect();
                write!(f, "{}...", quote_str(&head))
            }
            _ => f.write_str(&quote_str(self.text)),
        }
    }
}

/// Reads tokens one by one.
pub struct Lexer<'t> {
    input: &'t str,
    left: &'t str,
    right: &'t str,
    pos: usize,
    start: usize,
    line: usize,
    start_line: usize,
    parens: usize,
    inside: bool,
    /// What is wrong with the text. Nothing is read behind that.
    pub wrong: String,
}

type Fault<'t> = Token<'t>;

impl<'t> Lexer<'t> {
    pub fn new(input: &'t str, left: &'t str, right: &'t str) -> Self {
        Self {
            input,
            left,
            right,
            pos: 0,
            start: 0,
            line: 1,
            start_line: 1,
            parens: 0,
            inside: false,
            wrong: String::new(),
        }
    }

    /// The next token; after the end or an error, the end again.
    pub fn next_token(&mut self) -> Token<'t> {
        match if self.inside { self.action() } else { self.text() } {
            Ok(token) | Err(token) => token,
        }
    }

    fn rest(&self) -> &'t str {
        &self.input[self.pos..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.pos += c.len_utf8();
        if c == '\n' {
            self.line += 1;
        }
        Some(c)
    }

    fn emit(&mut self, kind: Kind) -> Token<'t> {
        let token = Token { kind, pos: self.start, text: &self.input[self.start..self.pos], line: self.start_line };
        self.start = self.pos;
        self.start_line = self.line;
        token
    }

    /// Leaves out everything up to `to`, counting its lines.
    fn skip_to(&mut self, to: usize) {
        self.line += lines(&self.input[self.pos..to]);
        self.pos = to;
        self.start = to;
        self.start_line = self.line;
    }

    fn fault(&mut self, message: impl Into<String>) -> Fault<'t> {
        let token = Token { kind: Kind::Error, pos: self.start, text: "", line: self.start_line };
        self.wrong = message.into();
        self.input = "";
        self.pos = 0;
        self.start = 0;
        self.inside = false;
        token
    }

    fn text(&mut self) -> Result<Token<'t>, Fault<'t>> {
        loop {
            let Some(at) = self.find_left() else {
                if self.pos < self.input.len() {
                    let rest = self.rest();
                    self.line += lines(rest);
                    self.pos = self.input.len();
                    return Ok(self.emit(Kind::Text));
                }
                return Ok(self.emit(Kind::Eof));
            };
            if at > 0 {
                let delim = self.pos + at;
                let text = &self.input[self.start..delim];
                let kept = if left_trim(&self.input[delim + self.left.len()..]) {
                    text.trim_end_matches(SPACE).len()
                } else {
                    text.len()
                };
                self.pos = self.start + kept;
                self.line += lines(&self.input[self.start..self.pos]);
                let token = self.emit(Kind::Text);
                self.skip_to(delim);
                if kept > 0 {
                    return Ok(token);
                }
            }
            let after = self.pos + self.left.len();
            let marker = if left_trim(&self.input[after..]) { 2 } else { 0 };
            if !self.input[after + marker..].starts_with("/*") {
                self.pos = after;
                let token = self.emit(Kind::LeftDelim);
                self.inside = true;
                self.skip_to(after + marker);
                self.parens = 0;
                return Ok(token);
            }
            self.skip_to(after + marker);
            let Some(end) = self.input[self.pos + 2..].find("*/") else {
                return Err(self.fault("unclosed comment"));
            };
            let end = self.pos + 2 + end + 2;
            let Some(trim) = self.right_delim(end) else {
                return Err(self.fault("comment ends before closing delimiter"));
            };
            self.skip_to(end);
            let mut next = end + self.right.len() + if trim { 2 } else { 0 };
            if trim {
                next += spaces(&self.input[next..]);
            }
            self.skip_to(next);
        }
    }

    /// How far away the next opening delimiter is.
    fn find_left(&self) -> Option<usize> {
        let rest = self.rest().as_bytes();
        let (left, first) = (self.left.as_bytes(), *self.left.as_bytes().first()?);
        let mut from = 0;
        loop {
            let at = from + memchr::memchr(first, &rest[from..])?;
            if rest[at..].starts_with(left) {
                return Some(at);
            }
            from = at + 1;
        }
    }

    /// Whether the closing delimiter is at `at`, and if so, whether it trims.
    fn right_delim(&self, at: usize) -> Option<bool> {
        let rest = &self.input[at..];
        // Most of what an action is made of begins neither of the two.
        let may = |b: &u8| self.right.as_bytes().first() == Some(b) || SPACE.contains(&(*b as char));
        if !rest.as_bytes().first().is_some_and(may) {
            return None;
        }
        if rest.starts_with(self.right) {
            return Some(false);
        }
        let bytes = rest.as_bytes();
        (bytes.len() >= 2
            && SPACE.contains(&(bytes[0] as char))
            && bytes[1] == b'-'
            && rest[2..].starts_with(self.right))
        .then_some(true)
    }

    fn close(&mut self, trim: bool) -> Token<'t> {
        if trim {
            self.skip_to(self.pos + 2);
        }
        self.pos += self.right.len();
        let token = self.emit(Kind::RightDelim);
        if trim {
            self.skip_to(self.pos + spaces(self.rest()));
        }
        self.inside = false;
        token
    }

    /// One space, or a name in ASCII with what has to follow one: most of what actions are made of, told by its first byte.
    fn common(&mut self) -> Option<Token<'t>> {
        if self.right != RIGHT {
            return None;
        }
        let bytes = self.input.as_bytes();
        let (first, next) = (*bytes.get(self.pos)?, *bytes.get(self.pos + 1)?);
        if first == b' ' && !matches!(next, b' ' | b'\t' | b'\r' | b'\n' | b'-') {
            self.pos += 1;
            return Some(self.emit(Kind::Space));
        }
        if !(first.is_ascii_alphabetic() || matches!(first, b'_' | b'$' | b'.'))
            || first == b'.' && next.is_ascii_digit()
        {
            return None;
        }
        let rest = &bytes[self.pos + 1..];
        let length = rest.iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'_').count();
        let ends = match rest.get(length)? {
            b' ' | b'\t' | b'\r' | b'\n' | b'.' | b',' | b'|' | b':' | b')' | b'(' => true,
            _ => rest[length..].starts_with(RIGHT.as_bytes()),
        };
        if !ends {
            return None;
        }
        self.pos += 1 + length;
        Some(self.emit(match first {
            b'$' => Kind::Variable,
            b'.' if length == 0 => Kind::Dot,
            b'.' => Kind::Field,
            _ => keyword(&self.input[self.start..self.pos]),
        }))
    }

    fn action(&mut self) -> Result<Token<'t>, Fault<'t>> {
        if let Some(token) = self.common() {
            return Ok(token);
        }
        // A trimming delimiter starts with its space, so it is looked for first.
        let trims = {
            let bytes = self.rest().as_bytes();
            bytes.len() >= 2 && SPACE.contains(&(bytes[0] as char)) && bytes[1] == b'-'
        };
        let closing =
            if trims && self.rest()[2..].starts_with(self.right) { Some(true) } else { self.right_delim(self.pos) };
        if let Some(trim) = closing {
            if self.parens > 0 {
                return Err(self.fault("unclosed left paren"));
            }
            return Ok(self.close(trim));
        }
        let Some(c) = self.bump() else {
            return Err(self.fault("unclosed action"));
        };
        match c {
            c if SPACE.contains(&c) => {
                while let Some(c) = self.peek() {
                    if !SPACE.contains(&c) || self.right_delim(self.pos) == Some(true) {
                        break;
                    }
                    self.bump();
                }
                Ok(self.emit(Kind::Space))
            }
            '=' => Ok(self.emit(Kind::Assign)),
            ':' => match self.bump() {
                Some('=') => Ok(self.emit(Kind::Declare)),
                _ => Err(self.fault("expected :=")),
            },
            '|' => Ok(self.emit(Kind::Pipe)),
            '"' => self.quoted('"', Kind::String, "unterminated quoted string"),
            '\'' => self.quoted('\'', Kind::CharConstant, "unterminated character constant"),
            '`' => loop {
                match self.bump() {
                    None => return Err(self.fault("unterminated raw quoted string")),
                    Some('`') => return Ok(self.emit(Kind::RawString)),
                    Some(_) => {}
                }
            },
            '$' => self.name(Kind::Variable),
            '.' if !self.peek().is_some_and(|c| c.is_ascii_digit()) && self.pos < self.input.len() => {
                self.name(Kind::Field)
            }
            '.' | '+' | '-' | '0'..='9' => {
                self.pos -= 1;
                self.number()
            }
            c if alphanumeric(c) => self.identifier(),
            '(' => {
                self.parens += 1;
                Ok(self.emit(Kind::LeftParen))
            }
            ')' => {
                if self.parens == 0 {
                    return Err(self.fault("unexpected right paren"));
                }
                self.parens -= 1;
                Ok(self.emit(Kind::RightParen))
            }
            c if c.is_ascii() && is_print(c) => Ok(self.emit(Kind::Char)),
            c => Err(self.fault(format!("unrecognized character in action: {}", code_point(Some(c))))),
        }
    }

    fn quoted(&mut self, quote: char, kind: Kind, wrong: &'static str) -> Result<Token<'t>, Fault<'t>> {
        loop {
            match self.bump() {
                Some('\\') if !matches!(self.bump(), None | Some('\n')) => {}
                None | Some('\n' | '\\') => return Err(self.fault(wrong)),
                Some(c) if c == quote => return Ok(self.emit(kind)),
                Some(_) => {}
            }
        }
    }

    /// Over letters, digits and underscores.
    fn word(&mut self) {
        let bytes = self.rest().as_bytes();
        self.pos += bytes.iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'_').count();
        while self.peek().is_some_and(alphanumeric) {
            self.bump();
        }
    }

    fn at_terminator(&self) -> bool {
        match self.peek() {
            None | Some(' ' | '\t' | '\r' | '\n' | '.' | ',' | '|' | ':' | ')' | '(') => true,
            Some(_) => self.rest().starts_with(self.right),
        }
    }

    fn name(&mut self, kind: Kind) -> Result<Token<'t>, Fault<'t>> {
        if self.at_terminator() {
            return Ok(self.emit(if kind == Kind::Field { Kind::Dot } else { kind }));
        }
        self.word();
        self.terminated()?;
        Ok(self.emit(kind))
    }

    fn terminated(&mut self) -> Result<(), Fault<'t>> {
        if self.at_terminator() {
            return Ok(());
        }
        let c = self.peek();
        Err(self.fault(format!("bad character {}", code_point(c))))
    }

    fn identifier(&mut self) -> Result<Token<'t>, Fault<'t>> {
        self.word();
        self.terminated()?;
        Ok(self.emit(keyword(&self.input[self.start..self.pos])))
    }

    fn number(&mut self) -> Result<Token<'t>, Fault<'t>> {
        let well = self.scan_number();
        if well && !matches!(self.peek(), Some('+' | '-')) {
            return Ok(self.emit(Kind::Number));
        }
        if well && self.scan_number() && self.input.as_bytes()[self.pos - 1] == b'i' {
            return Ok(self.emit(Kind::Complex));
        }
        let text = quote_str(&self.input[self.start..self.pos]);
        Err(self.fault(format!("bad number syntax: {text}")))
    }

    fn accept(&mut self, valid: &str) -> bool {
        let ok = self.peek().is_some_and(|c| valid.contains(c));
        if ok {
            self.bump();
        }
        ok
    }

    fn scan_number(&mut self) -> bool {
        self.accept("+-");
        let mut digits = "0123456789_";
        if self.accept("0") {
            if self.accept("xX") {
                digits = "0123456789abcdefABCDEF_";
            } else if self.accept("oO") {
                digits = "01234567_";
            } else if self.accept("bB") {
                digits = "01_";
            }
        }
        while self.accept(digits) {}
        if self.accept(".") {
            while self.accept(digits) {}
        }
        let exponent = match digits.len() {
            11 => "eE",
            23 => "pP",
            _ => "",
        };
        if self.accept(exponent) {
            self.accept("+-");
            while self.accept("0123456789_") {}
        }
        self.accept("i");
        if self.peek().is_some_and(alphanumeric) {
            self.bump();
            return false;
        }
        true
    }
}

/// What a word is that is no field and no variable.
fn keyword(word: &str) -> Kind {
    match word {
        "block" => Kind::Block,
        "break" => Kind::Break,
        "continue" => Kind::Continue,
        "define" => Kind::Define,
        "else" => Kind::Else,
        "end" => Kind::End,
        "if" => Kind::If,
        "range" => Kind::Range,
        "nil" => Kind::Nil,
        "template" => Kind::Template,
        "with" => Kind::With,
        "true" | "false" => Kind::Bool,
        _ => Kind::Identifier,
    }
}

/// The usual closing delimiter.
const RIGHT: &str = "}}";

const SPACE: [char; 4] = [' ', '\t', '\r', '\n'];

/// Ends of lines in a text.
fn lines(text: &str) -> usize {
    text.bytes().filter(|b| *b == b'\n').count()
}

fn spaces(text: &str) -> usize {
    text.len() - text.trim_start_matches(SPACE).len()
}

fn left_trim(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() >= 2 && bytes[0] == b'-' && SPACE.contains(&(bytes[1] as char))
}

/// Letters, digits and the underscore.
pub fn alphanumeric(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

/// `%#U`.
fn code_point(c: Option<char>) -> String {
    match c {
        Some(c) if is_print(c) => format!("U+{:04X} '{c}'", c as u32),
        Some(c) => format!("U+{:04X}", c as u32),
        None => "U+FFFFFFFFFFFFFFFF".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With other delimiters every token is read character by character.
    #[test]
    fn what_is_common_is_read_as_everything_else_is() {
        for action in [
            " .a.b | c $d $ (e .f) ",
            "- .a -",
            ".",
            " . ",
            "$x := .y, $z",
            " if true ",
            "end",
            " .5 + 0x1F ",
            "  a\n\tb ",
            " é.è $é ",
            ".a-b",
            "a:b",
            "$.x.y",
            "a}b",
            ". } ",
            " - 1",
            " \"s\" `r` 'c' ",
            "else if .x",
            "range $i,$e := .l",
            "nil _x _",
            "a'b",
            "$-",
            "..",
            ".a..b",
        ] {
            let tokens = |left: &str, right: &str| {
                let text = format!("t{left}{action}{right}u");
                let mut lexer = Lexer::new(&text, left, right);
                let mut tokens = Vec::new();
                loop {
                    let token = lexer.next_token();
                    tokens.push((token.kind, token.text.replace(left, "").replace(right, ""), token.line));
                    if matches!(token.kind, Kind::Eof | Kind::Error) {
                        return (tokens, lexer.wrong);
                    }
                }
            };
            assert_eq!(tokens("{{", "}}"), tokens("<<", ">>"), "{action:?}");
        }
    }
}
