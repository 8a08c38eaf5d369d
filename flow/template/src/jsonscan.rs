//! What Go's `encoding/json` says about a text that is no JSON.

/// Nothing, if the text is one JSON value; else Go's words.
pub fn check(text: &[u8]) -> Result<(), String> {
    let mut scan = Scan { text, at: 0 };
    scan.space();
    scan.value("looking for beginning of value", 0)?;
    scan.space();
    match text.get(scan.at) {
        None => Ok(()),
        Some(c) => Err(invalid(*c, "after top-level value")),
    }
}

struct Scan<'t> {
    text: &'t [u8],
    at: usize,
}

fn invalid(c: u8, context: &str) -> String {
    let shown = match c {
        b'\'' => r"'\''".to_owned(),
        b'"' => "'\"'".to_owned(),
        c => crate::quote::quote_rune(char::from(c), false),
    };
    format!("invalid character {shown} {context}")
}

impl Scan<'_> {
    fn space(&mut self) {
        while matches!(self.text.get(self.at), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn next(&mut self) -> Result<u8, String> {
        let c = *self.text.get(self.at).ok_or("unexpected end of JSON input")?;
        self.at += 1;
        Ok(c)
    }

    /// Inside of a literal or a number, Go takes the end for a space.
    fn within(&mut self) -> u8 {
        self.next().unwrap_or(b' ')
    }

    fn value(&mut self, context: &str, depth: usize) -> Result<(), String> {
        // serde_json goes no deeper either.
        if depth > 120 {
            return Err("exceeded max depth".to_owned());
        }
        match self.next()? {
            b'{' => self.members(depth),
            b'[' => {
                self.space();
                if self.text.get(self.at) == Some(&b']') {
                    self.at += 1;
                    return Ok(());
                }
                loop {
                    self.space();
                    self.value("looking for beginning of value", depth + 1)?;
                    self.space();
                    match self.next()? {
                        b',' => {}
                        b']' => return Ok(()),
                        c => return Err(invalid(c, "after array element")),
                    }
                }
            }
            b'"' => self.string(),
            b't' => self.word(b"rue", "true"),
            b'f' => self.word(b"alse", "false"),
            b'n' => self.word(b"ull", "null"),
            c @ (b'-' | b'0'..=b'9') => self.number(c),
            c => Err(invalid(c, context)),
        }
    }

    fn members(&mut self, depth: usize) -> Result<(), String> {
        self.space();
        if self.text.get(self.at) == Some(&b'}') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.space();
            match self.next()? {
                b'"' => self.string()?,
                c => return Err(invalid(c, "looking for beginning of object key string")),
            }
            self.space();
            match self.next()? {
                b':' => {}
                c => return Err(invalid(c, "after object key")),
            }
            self.space();
            self.value("looking for beginning of value", depth + 1)?;
            self.space();
            match self.next()? {
                b',' => {}
                b'}' => return Ok(()),
                c => return Err(invalid(c, "after object key:value pair")),
            }
        }
    }

    fn string(&mut self) -> Result<(), String> {
        loop {
            match self.next()? {
                b'"' => return Ok(()),
                b'\\' => match self.within() {
                    b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"' => {}
                    b'u' => {
                        for _ in 0..4 {
                            let c = self.within();
                            if !c.is_ascii_hexdigit() {
                                return Err(invalid(c, "in \\u hexadecimal character escape"));
                            }
                        }
                    }
                    c => return Err(invalid(c, "in string escape code")),
                },
                c if c < b' ' => return Err(invalid(c, "in string literal")),
                _ => {}
            }
        }
    }

    fn word(&mut self, rest: &[u8], name: &str) -> Result<(), String> {
        for wanted in rest {
            let c = self.within();
            if c != *wanted {
                let expected = char::from(*wanted);
                return Err(invalid(c, &format!("in literal {name} (expecting '{expected}')")));
            }
        }
        Ok(())
    }

    fn digits(&mut self) {
        while self.text.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
    }

    fn number(&mut self, mut first: u8) -> Result<(), String> {
        if first == b'-' {
            first = self.within();
            if !first.is_ascii_digit() {
                return Err(invalid(first, "in numeric literal"));
            }
        }
        if first != b'0' {
            self.digits();
        }
        if self.text.get(self.at) == Some(&b'.') {
            self.at += 1;
            let c = self.within();
            if !c.is_ascii_digit() {
                return Err(invalid(c, "after decimal point in numeric literal"));
            }
            self.digits();
        }
        if matches!(self.text.get(self.at), Some(b'e' | b'E')) {
            self.at += 1;
            let mut c = self.within();
            if matches!(c, b'+' | b'-') {
                c = self.within();
            }
            if !c.is_ascii_digit() {
                return Err(invalid(c, "in exponent of numeric literal"));
            }
            self.digits();
        }
        Ok(())
    }
}
