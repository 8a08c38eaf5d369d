//! Variables in Compose files: `$name`, `${name}`, `${name:-word}` and its kin, `$$`.

use std::collections::BTreeMap;

/// Nesting of `${…${…}…}`, and bytes that a value may grow to.
const MAX_DEPTH: usize = 32;
const MAX_LENGTH: usize = 1 << 20;

/// Replaces variables. An error is a sentence; names without a value are put into `unset`.
pub fn interpolate(
    text: &str,
    variables: &BTreeMap<String, String>,
    unset: &mut Vec<String>,
) -> Result<String, String> {
    if !text.contains('$') {
        return Ok(text.to_owned());
    }
    let mut reader = Reader { chars: text.chars().collect(), at: 0, variables, unset };
    reader.until(None, 0)
}

struct Reader<'a> {
    chars: Vec<char>,
    at: usize,
    variables: &'a BTreeMap<String, String>,
    unset: &'a mut Vec<String>,
}

impl Reader<'_> {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn name(&mut self) -> String {
        let start = self.at;
        while let Some(c) = self.peek() {
            let fits = c.is_ascii_alphabetic() || c == '_' || (self.at > start && c.is_ascii_digit());
            if !fits {
                break;
            }
            self.at += 1;
        }
        self.chars[start..self.at].iter().collect()
    }

    /// Up to a closing brace, which is consumed, or to the end.
    fn until(&mut self, close: Option<char>, depth: usize) -> Result<String, String> {
        if depth > MAX_DEPTH {
            return Err(format!("variables nest deeper than {MAX_DEPTH} levels"));
        }
        let mut out = String::new();
        while let Some(c) = self.peek() {
            self.at += 1;
            if Some(c) == close {
                return Ok(out);
            }
            if c != '$' {
                out.push(c);
                continue;
            }
            match self.peek() {
                Some('$') => {
                    self.at += 1;
                    out.push('$');
                }
                Some('{') => {
                    self.at += 1;
                    out.push_str(&self.braced(depth)?);
                }
                Some(c) if c.is_ascii_alphabetic() || c == '_' => {
                    let name = self.name();
                    out.push_str(&self.plain(&name));
                }
                // As the field reads it: one that begins no variable is itself.
                _ => out.push('$'),
            }
            if out.len() > MAX_LENGTH {
                return Err(format!("it grows beyond {MAX_LENGTH} bytes when its variables are replaced"));
            }
        }
        match close {
            Some(_) => Err("a `${` is not closed with `}`".into()),
            None => Ok(out),
        }
    }

    fn plain(&mut self, name: &str) -> String {
        self.variables.get(name).cloned().unwrap_or_else(|| {
            self.unset.push(name.to_owned());
            String::new()
        })
    }

    /// Behind `${`.
    fn braced(&mut self, depth: usize) -> Result<String, String> {
        let name = self.name();
        if name.is_empty() {
            return Err("`${` is not followed by the name of a variable".into());
        }
        let mut operator = String::new();
        while let Some(c @ (':' | '-' | '?' | '+')) = self.peek() {
            if operator.len() == 2 || (operator.len() == 1 && operator != ":") {
                break;
            }
            operator.push(c);
            self.at += 1;
        }
        if operator.is_empty() {
            return match self.peek() {
                Some('}') => {
                    self.at += 1;
                    Ok(self.plain(&name))
                }
                _ => Err(format!("`${{{name}` is not closed with `}}`")),
            };
        }
        let word = self.until(Some('}'), depth + 1)?;
        let value = self.variables.get(&name).cloned();
        let set = if operator.starts_with(':') { value.filter(|value| !value.is_empty()) } else { value };
        match operator.trim_start_matches(':') {
            "-" => Ok(set.unwrap_or(word)),
            "+" => Ok(set.map(|_| word).unwrap_or_default()),
            "?" => set.ok_or_else(|| match word.is_empty() {
                true => format!("the variable `{name}` must be set"),
                false => format!("the variable `{name}` must be set: {word}"),
            }),
            _ => Err(format!("`${{{name}{operator}` is not known: use `:-`, `-`, `:?`, `?`, `:+` or `+`")),
        }
    }
}

/// Reads a `.env` file into `variables`; what is there already stays. An error names the line.
pub fn read_env(text: &str, variables: &mut BTreeMap<String, String>) -> Result<(), String> {
    let mut own = BTreeMap::new();
    read_env_over(text, variables, &mut own)?;
    for (name, value) in own {
        variables.entry(name).or_insert(value);
    }
    Ok(())
}

/// Reads a file of variables into `own`; what its values name is looked for in `known`, and then in the lines above. An error names the line.
pub fn read_env_over(
    text: &str,
    known: &BTreeMap<String, String>,
    own: &mut BTreeMap<String, String>,
) -> Result<(), String> {
    let mut variables = known.clone();
    let variables = &mut variables;
    let mut lines = text.trim_start_matches('\u{feff}').lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").map_or(line, str::trim_start);
        let (name, value) = line.split_once('=').unwrap_or((line, ""));
        let name = name.trim();
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(format!("line {}: `{name}` is no name of a variable", number + 1));
        }
        let value = value.trim_start();
        let said = |why: String| format!("line {}: {why}", number + 1);
        let value = match value.chars().next() {
            Some(quote @ ('"' | '\'')) => {
                // A quoted value may go on over several lines.
                let mut whole = value[1..].to_owned();
                loop {
                    if let Some(end) = closing(&whole, quote) {
                        whole.truncate(end);
                        break;
                    }
                    match lines.next() {
                        Some((_, next)) if whole.len() + next.len() < MAX_LENGTH => {
                            whole.push('\n');
                            whole.push_str(next);
                        }
                        _ => return Err(said(format!("a {quote} is not closed"))),
                    }
                }
                match quote {
                    '\'' => whole,
                    _ => interpolate(&unescape(&whole), variables, &mut Vec::new()).map_err(said)?,
                }
            }
            _ => {
                let end = value.find(" #").unwrap_or(value.len());
                interpolate(value[..end].trim_end(), variables, &mut Vec::new()).map_err(said)?
            }
        };
        variables.entry(name.to_owned()).or_insert_with(|| value.clone());
        own.entry(name.to_owned()).or_insert(value);
    }
    Ok(())
}

fn closing(text: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quote == '"' => escaped = true,
            c if c == quote => return Some(at),
            _ => {}
        }
    }
    None
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, if c == '\\' { chars.next() } else { None }) {
            ('\\', Some('n')) => out.push('\n'),
            ('\\', Some('t')) => out.push('\t'),
            ('\\', Some('r')) => out.push('\r'),
            ('\\', Some('$')) => out.push_str("$$"),
            ('\\', Some(other @ ('"' | '\\'))) => out.push(other),
            ('\\', Some(other)) => out.extend(['\\', other]),
            (c, _) => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables() -> BTreeMap<String, String> {
        [("A", "a"), ("EMPTY", "")].into_iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect()
    }

    #[test]
    fn follows_the_compose_specification() {
        for (text, expected) in [
            ("$A-${A}", "a-a"),
            ("$$A", "$A"),
            ("${NONE:-x}", "x"),
            ("${EMPTY:-x}", "x"),
            ("${EMPTY-x}", ""),
            ("${A:+x}", "x"),
            ("${EMPTY:+x}", ""),
            ("${EMPTY+x}", "x"),
            ("${NONE:-${A}b}", "ab"),
            ("${NONE:-${ALSO:-c}}", "c"),
            ("${A:?no}", "a"),
            ("$NONE.", "."),
            ("no variables", "no variables"),
            ("costs 5$", "costs 5$"),
        ] {
            assert_eq!(interpolate(text, &variables(), &mut Vec::new()).as_deref(), Ok(expected), "{text}");
        }
        for (text, why) in [
            ("${NONE:?say it}", "`NONE` must be set: say it"),
            ("${A", "not closed"),
            ("${}", "no"),
            ("${A:=x}", "not known"),
            ("${1}", "not followed"),
        ] {
            let error = interpolate(text, &variables(), &mut Vec::new()).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
        let mut unset = Vec::new();
        interpolate("$NONE ${A}", &variables(), &mut unset).unwrap();
        assert_eq!(unset, ["NONE"]);
    }

    #[test]
    fn env_files_are_read_as_everybody_writes_them() {
        let mut found = variables();
        let text =
            "# c\nA=other\nexport B = b # c\nC='$A # x'\nD=\"$A\\n\\\"q\\\"\"\nE=\"two\nlines\"\nF=${B}f\nG\nH=a#b\n";
        read_env(text, &mut found).unwrap();
        for (name, value) in [
            ("A", "a"),
            ("B", "b"),
            ("C", "$A # x"),
            ("D", "a\n\"q\""),
            ("E", "two\nlines"),
            ("F", "bf"),
            ("G", ""),
            ("H", "a#b"),
        ] {
            assert_eq!(found[name], value, "{name}");
        }
        assert!(read_env("A=\"x", &mut BTreeMap::new()).unwrap_err().contains("line 1"));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[$A{}:?+a-]{0,40}") {
            let _ = interpolate(&text, &variables(), &mut Vec::new());
            let _ = read_env(&text, &mut variables());
        }
    }
}
