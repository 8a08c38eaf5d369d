//! Words: where they start and end, with quotes and escapes still in them.

/// Yields the byte range of each word of a text. Whitespace inside quotes or behind an escape belongs to the word.
pub struct Lexer<'a> {
    text: &'a str,
    escape: char,
    at: usize,
}

impl<'a> Lexer<'a> {
    pub fn new(text: &'a str, escape: char) -> Self {
        Self { text, escape, at: 0 }
    }

    /// Starts at a byte offset, which must be a character boundary.
    pub fn from(text: &'a str, escape: char, at: usize) -> Self {
        Self { text, escape, at }
    }
}

impl Iterator for Lexer<'_> {
    type Item = (usize, usize);

    fn next(&mut self) -> Option<(usize, usize)> {
        let rest = &self.text[self.at..];
        let start = self.at + (rest.len() - rest.trim_start().len());
        if start >= self.text.len() {
            self.at = self.text.len();
            return None;
        }
        let mut quote: Option<char> = None;
        let mut chars = self.text[start..].char_indices();
        let mut end = self.text.len();
        while let Some((offset, c)) = chars.next() {
            match quote {
                None if c.is_whitespace() => {
                    end = start + offset;
                    break;
                }
                None if c == '"' || c == '\'' => quote = Some(c),
                Some(q) if c == q => quote = None,
                // A single-quoted text knows no escapes.
                _ if c == self.escape && quote != Some('\'') => {
                    chars.next();
                }
                _ => {}
            }
        }
        self.at = end;
        Some((start, end))
    }
}

/// The word without its quotes and escapes; `None` when a quote is not closed, or when it is more than one word.
pub fn unquote(word: &str) -> Option<String> {
    let mut out = String::new();
    let mut quote: Option<char> = None;
    let mut chars = word.chars();
    while let Some(c) = chars.next() {
        match quote {
            None if c.is_whitespace() => return None,
            None if c == '"' || c == '\'' => quote = Some(c),
            Some(q) if c == q => quote = None,
            _ if c == '\\' && quote != Some('\'') => out.push(chars.next()?),
            _ => out.push(c),
        }
    }
    quote.is_none().then_some(out)
}

/// The JSON array of strings that an exec form is; `None` when the text is none.
pub fn json_array(text: &str) -> Option<Vec<String>> {
    text.trim_start().starts_with('[').then(|| serde_json::from_str(text).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_quoted_and_escaped_spaces_together() {
        let words =
            |text: &str| -> Vec<String> { Lexer::new(text, '\\').map(|(s, e)| text[s..e].to_owned()).collect() };
        assert_eq!(words(r#"a="b c"  d\ e 'f "g' h"#), [r#"a="b c""#, r"d\ e", r#"'f "g'"#, "h"]);
        assert_eq!(words("  "), Vec::<String>::new());
        assert_eq!(words(r"'a\' b"), [r"'a\'", "b"]);
    }
}
