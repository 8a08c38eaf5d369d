//! The printer's hand: columns, indentation, and how a scalar is written. libyaml's rules as go-yaml has them.

use crate::Style;

/// What may be done with a scalar's text.
struct Allowed {
    multiline: bool,
    flow_plain: bool,
    block_plain: bool,
    single: bool,
    block: bool,
}

pub(crate) struct Emitter {
    pub out: String,
    /// In characters, from 0.
    pub column: usize,
    pub indent: isize,
    pub whitespace: bool,
    pub indention: bool,
    pub flow: usize,
    step: isize,
    width: usize,
    v3: bool,
}

fn is_break(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

fn printable(c: char) -> bool {
    matches!(c, '\n' | ' '..='~' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}') && c != '\u{feff}'
}

impl Emitter {
    /// As go-yaml v2: two spaces, lines folded at 80.
    pub fn v2() -> Self {
        Self {
            out: String::new(),
            column: 0,
            indent: -1,
            whitespace: true,
            indention: true,
            flow: 0,
            step: 2,
            width: 80,
            v3: false,
        }
    }

    /// As go-yaml v3: lines are not folded.
    pub fn v3(step: usize) -> Self {
        Self { step: step as isize, width: usize::MAX, v3: true, ..Self::v2() }
    }

    pub fn step(&self) -> isize {
        self.step
    }

    #[inline]
    fn put(&mut self, c: char) {
        self.out.push(c);
        self.column += 1;
    }

    pub fn put_break(&mut self) {
        self.out.push('\n');
        self.column = 0;
        if self.v3 {
            self.indention = true;
        }
    }

    fn write_break(&mut self, c: char) {
        if c == '\n' {
            self.put_break();
        } else {
            self.out.push(c);
            self.column = 0;
            if self.v3 {
                self.indention = true;
            }
        }
    }

    pub fn write_indent(&mut self) {
        let indent = self.indent.max(0) as usize;
        if !self.indention || self.column > indent || (self.column == indent && !self.whitespace) {
            self.put_break();
        }
        while self.column < indent {
            self.put(' ');
        }
        self.whitespace = true;
        self.indention = true;
    }

    pub fn indicator(&mut self, text: &str, need_whitespace: bool, is_whitespace: bool, is_indention: bool) {
        if need_whitespace && !self.whitespace {
            self.put(' ');
        }
        self.out.push_str(text);
        self.column += text.len();
        self.whitespace = is_whitespace;
        self.indention = self.indention && is_indention;
    }

    fn analyze(&self, text: &str) -> Allowed {
        let bytes = text.as_bytes();
        if bytes.is_empty() {
            return Allowed { multiline: false, flow_plain: false, block_plain: true, single: true, block: false };
        }
        let (mut block_indicators, mut flow_indicators) = (false, false);
        if bytes.starts_with(b"---") || bytes.starts_with(b"...") {
            (block_indicators, flow_indicators) = (true, true);
        }
        let (mut breaks, mut special, mut tabs) = (false, false, false);
        let (mut leading, mut trailing_space, mut trailing_break) = (false, false, false);
        let (mut break_space, mut space_break) = (false, false);
        let (mut was_space, mut was_break) = (false, false);
        let mut after_blank = true;
        for (i, c) in text.char_indices() {
            let next = i + c.len_utf8();
            let before_blank = next >= bytes.len() || matches!(bytes[next], b' ' | b'\t');
            let first = i == 0;
            match c {
                '#' | ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>' | '\'' | '"' | '%' | '@' | '`'
                    if first =>
                {
                    (block_indicators, flow_indicators) = (true, true);
                }
                '?' | ':' if first => {
                    flow_indicators = true;
                    block_indicators |= before_blank;
                }
                '-' if first && before_blank => (block_indicators, flow_indicators) = (true, true),
                ',' | '?' | '[' | ']' | '{' | '}' => flow_indicators = true,
                ':' => {
                    flow_indicators = true;
                    block_indicators |= before_blank;
                }
                '#' if after_blank => (block_indicators, flow_indicators) = (true, true),
                _ => {}
            }
            if c == '\t' && self.v3 {
                tabs = true;
            } else if !printable(c) {
                special = true;
            }
            if c == ' ' {
                leading |= first;
                trailing_space |= next == bytes.len();
                break_space |= was_break;
                (was_space, was_break) = (true, false);
            } else if is_break(c) {
                breaks = true;
                leading |= first;
                trailing_break |= next == bytes.len();
                space_break |= was_space;
                (was_space, was_break) = (false, true);
            } else {
                (was_space, was_break) = (false, false);
            }
            after_blank = c == ' ' || c == '\t' || is_break(c) || c == '\0';
        }
        let unfit = space_break || special;
        let no_plain = leading || trailing_space || trailing_break || break_space || unfit || tabs || breaks;
        Allowed {
            multiline: breaks,
            flow_plain: !no_plain && !flow_indicators,
            block_plain: !no_plain && !block_indicators,
            single: !break_space && !unfit && !tabs,
            block: !trailing_space && !unfit,
        }
    }

    /// True when a scalar can be a key without `?`.
    pub fn simple_key(text: &str) -> bool {
        text.len() <= 128 && !text.contains(is_break)
    }

    /// Writes a scalar in the style asked for, or the nearest one that can hold it.
    pub fn scalar(&mut self, text: &str, style: Style, simple_key: bool, deeper: isize) {
        let allowed = self.analyze(text);
        let mut style = style;
        if simple_key && allowed.multiline {
            style = Style::DoubleQuoted;
        }
        if style == Style::Plain {
            let fits = if self.flow > 0 { allowed.flow_plain } else { allowed.block_plain };
            if !fits || (text.is_empty() && (self.flow > 0 || simple_key)) {
                style = Style::SingleQuoted;
            }
        }
        if style == Style::SingleQuoted && !allowed.single {
            style = Style::DoubleQuoted;
        }
        if matches!(style, Style::Literal | Style::Folded) && (!allowed.block || self.flow > 0 || simple_key) {
            style = Style::DoubleQuoted;
        }
        let outer = self.indent;
        self.indent = if outer < 0 { self.step } else { deeper };
        match style {
            Style::Plain | Style::Flow => self.plain(text, !simple_key),
            Style::SingleQuoted => self.single(text, !simple_key),
            Style::DoubleQuoted => self.double(text, !simple_key),
            Style::Literal => self.literal(text),
            Style::Folded => self.folded(text),
        }
        self.indent = outer;
    }

    fn plain(&mut self, text: &str, breaks: bool) {
        let silent = self.v3 && text.is_empty();
        if !(self.whitespace || silent) {
            self.put(' ');
        }
        if !breaks || self.column + text.len() <= self.width {
            self.out.push_str(text);
            self.column += text.chars().count();
        } else {
            self.folding(text, false);
        }
        self.whitespace = false;
        self.indention = false;
    }

    /// Words of a one-line text, broken at single spaces behind the width.
    fn folding(&mut self, text: &str, quoted: bool) {
        let mut spaces = false;
        let mut chars = text.char_indices().peekable();
        while let Some((i, c)) = chars.next() {
            if c == ' ' {
                let inside = !quoted || (i > 0 && i < text.len() - 1);
                let next_space = chars.peek().is_some_and(|(_, next)| *next == ' ');
                if !spaces && self.column > self.width && inside && !next_space {
                    self.write_indent();
                } else {
                    self.put(c);
                }
                spaces = true;
            } else {
                if quoted && c == '\'' {
                    self.put('\'');
                }
                self.put(c);
                self.indention = false;
                spaces = false;
            }
        }
    }

    fn single(&mut self, text: &str, breaks: bool) {
        self.indicator("'", true, false, false);
        if text.contains(is_break) {
            self.single_lines(text);
        } else if breaks {
            self.folding(text, true);
        } else {
            for c in text.chars() {
                if c == '\'' {
                    self.put(c);
                }
                self.put(c);
            }
        }
        self.indicator("'", false, false, false);
        self.whitespace = false;
        self.indention = false;
    }

    fn single_lines(&mut self, text: &str) {
        let mut broke = false;
        for c in text.chars() {
            if is_break(c) {
                if !broke && c == '\n' {
                    self.put_break();
                }
                self.write_break(c);
                self.indention = true;
                broke = true;
                continue;
            }
            if broke {
                self.write_indent();
            }
            if c == '\'' {
                self.put(c);
            }
            self.put(c);
            self.indention = false;
            broke = false;
        }
    }

    fn double(&mut self, text: &str, breaks: bool) {
        self.indicator("\"", true, false, false);
        // go-yaml looks at the first bytes only: behind a byte order mark everything is escaped.
        let mark = text.starts_with('\u{feff}');
        let mut spaces = false;
        let mut chars = text.char_indices().peekable();
        while let Some((i, c)) = chars.next() {
            if mark || !printable(c) || is_break(c) || c == '"' || c == '\\' {
                self.escaped(c);
                spaces = false;
            } else if c == ' ' {
                if breaks && !spaces && self.column > self.width && i > 0 && i < text.len() - 1 {
                    self.write_indent();
                    if chars.peek().is_some_and(|(_, next)| *next == ' ') {
                        self.put('\\');
                    }
                } else {
                    self.put(c);
                }
                spaces = true;
            } else {
                self.put(c);
                spaces = false;
            }
        }
        self.indicator("\"", false, false, false);
        self.whitespace = false;
        self.indention = false;
    }

    fn escaped(&mut self, c: char) {
        let short = match c {
            '\0' => '0',
            '\u{7}' => 'a',
            '\u{8}' => 'b',
            '\t' => 't',
            '\n' => 'n',
            '\u{b}' => 'v',
            '\u{c}' => 'f',
            '\r' => 'r',
            '\u{1b}' => 'e',
            '"' => '"',
            '\\' => '\\',
            '\u{85}' => 'N',
            '\u{a0}' => '_',
            '\u{2028}' => 'L',
            '\u{2029}' => 'P',
            _ => {
                let code = c as u32;
                let text = match code {
                    0..=0xFF => format!("\\x{code:02X}"),
                    0x100..=0xFFFF => format!("\\u{code:04X}"),
                    _ => format!("\\U{code:08X}"),
                };
                self.out.push_str(&text);
                self.column += text.len();
                return;
            }
        };
        self.put('\\');
        self.put(short);
    }

    fn hints(&mut self, text: &str) {
        if text.starts_with(|c: char| c == ' ' || is_break(c)) {
            let hint = self.step.to_string();
            self.indicator(&hint, false, false, false);
        }
        let mut tail = text.chars().rev();
        let chomp = match tail.next() {
            None => "-",
            Some(c) if !is_break(c) => "-",
            Some(_) => match tail.next() {
                None => "+",
                Some(c) if is_break(c) => "+",
                Some(_) => "",
            },
        };
        if !chomp.is_empty() {
            self.indicator(chomp, false, false, false);
        }
    }

    /// The head of a text in a block.
    fn block(&mut self, indicator: &str, text: &str) {
        self.indicator(indicator, true, false, false);
        self.hints(text);
        self.put_break();
        self.indention = true;
        self.whitespace = true;
    }

    fn literal(&mut self, text: &str) {
        self.block("|", text);
        let mut broke = true;
        for c in text.chars() {
            if is_break(c) {
                self.write_break(c);
                self.indention = true;
                broke = true;
            } else {
                if broke {
                    self.write_indent();
                }
                self.put(c);
                self.indention = false;
                broke = false;
            }
        }
    }

    fn folded(&mut self, text: &str) {
        self.block(">", text);
        let mut broke = true;
        let mut leading = true;
        let mut chars = text.chars().peekable();
        let head_breaks = text.chars().find(|c| !is_break(*c));
        while let Some(c) = chars.next() {
            if is_break(c) {
                // go-yaml looks from the start of the text here, not from this place.
                if !broke && !leading && c == '\n' && !matches!(head_breaks, None | Some(' ' | '\t')) {
                    self.put_break();
                }
                self.write_break(c);
                self.indention = true;
                broke = true;
                continue;
            }
            if broke {
                self.write_indent();
                leading = c == ' ' || c == '\t';
            }
            let next_space = chars.peek() == Some(&' ');
            if !broke && c == ' ' && !next_space && self.column > self.width {
                self.write_indent();
            } else {
                self.put(c);
            }
            self.indention = false;
            broke = false;
        }
    }
}
