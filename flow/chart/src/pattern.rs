//! File name patterns as Go's `path/filepath` matches them: `.helmignore` and `--show-only` are written in them.

/// A pattern that is not well formed; Go says `syntax error in pattern`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("syntax error in pattern")]
pub struct BadPattern;

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Star,
    Any,
    Class { negated: bool, ranges: Vec<(char, char)> },
    Literal(char),
}

/// Whether `name` matches the whole of `pattern`: `*` and `?` never match `/`, `[a-z]` and `[^a-z]` are classes, `\` escapes.
pub fn matches(pattern: &str, name: &str) -> Result<bool, BadPattern> {
    Pattern::new(pattern).map(|pattern| pattern.matches(name))
}

/// A pattern that many names are held against.
#[derive(Clone, Debug)]
pub struct Pattern {
    tokens: Vec<Token>,
    /// What every name that matches begins with, and ends with: hardly a name has to be looked at closer.
    head: String,
    tail: String,
}

impl Pattern {
    pub fn new(pattern: &str) -> Result<Self, BadPattern> {
        let tokens = tokens(pattern)?;
        let literal = |token: &Token| if let Token::Literal(c) = token { Some(*c) } else { None };
        let head = tokens.iter().map_while(literal).collect();
        let ends = tokens.iter().rposition(|token| literal(token).is_none()).map_or(0, |at| at + 1);
        let tail = tokens[ends..].iter().filter_map(literal).collect();
        Ok(Self { tokens, head, tail })
    }

    pub fn matches(&self, name: &str) -> bool {
        if !name.starts_with(&self.head) || !name.ends_with(&self.tail) {
            return false;
        }
        let name: Vec<char> = name.chars().collect();
        run(&self.tokens, &name)
    }
}

fn tokens(pattern: &str) -> Result<Vec<Token>, BadPattern> {
    let mut out = Vec::new();
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        out.push(match c {
            '*' => Token::Star,
            '?' => Token::Any,
            '\\' => Token::Literal(chars.next().ok_or(BadPattern)?),
            '[' => {
                let negated = chars.next_if_eq(&'^').is_some();
                let mut ranges = Vec::new();
                loop {
                    if !ranges.is_empty() && chars.next_if_eq(&']').is_some() {
                        break;
                    }
                    let low = member(&mut chars)?;
                    let high = if chars.next_if_eq(&'-').is_some() { member(&mut chars)? } else { low };
                    ranges.push((low, high));
                }
                Token::Class { negated, ranges }
            }
            c => Token::Literal(c),
        });
    }
    Ok(out)
}

fn member(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<char, BadPattern> {
    match chars.next().ok_or(BadPattern)? {
        '-' | ']' => Err(BadPattern),
        '\\' => chars.next().ok_or(BadPattern),
        c => Ok(c),
    }
}

fn accepts(token: &Token, c: char) -> bool {
    match token {
        Token::Star => false,
        Token::Any => c != '/',
        Token::Literal(l) => *l == c,
        Token::Class { negated, ranges } => ranges.iter().any(|(low, high)| *low <= c && c <= *high) != *negated,
    }
}

/// Greedy with one point to come back to: a star that has been passed never needs to grow again.
fn run(tokens: &[Token], name: &[char]) -> bool {
    let (mut t, mut n) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    loop {
        if t == tokens.len() && n == name.len() {
            return true;
        }
        match tokens.get(t) {
            Some(Token::Star) => {
                back = Some((t, n));
                t += 1;
                continue;
            }
            Some(token) if n < name.len() && accepts(token, name[n]) => {
                t += 1;
                n += 1;
                continue;
            }
            _ => {}
        }
        match back {
            Some((star, from)) if from < name.len() && name[from] != '/' => {
                back = Some((star, from + 1));
                t = star + 1;
                n = from + 1;
            }
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_go_matches() {
        for (pattern, name, expected) in [
            ("abc", "abc", Ok(true)),
            ("*", "abc", Ok(true)),
            ("*c", "abc", Ok(true)),
            ("a*", "ab/c", Ok(false)),
            ("a*/b", "abc/b", Ok(true)),
            ("a*b*c*d*e*/f", "axbxcxdxe/f", Ok(true)),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/fff", Ok(false)),
            ("a*b?c*x", "abxbbxdbxebxczzx", Ok(true)),
            ("ab[c]", "abc", Ok(true)),
            ("ab[^b-d]", "abc", Ok(false)),
            ("a\\*b", "a*b", Ok(true)),
            ("[\\-x]", "-", Ok(true)),
            ("[x-]", "x", Err(BadPattern)),
            ("[]a]", "]", Err(BadPattern)),
            ("[", "a", Err(BadPattern)),
            ("a[", "x", Err(BadPattern)),
            ("*x", "xxx", Ok(true)),
            ("a*a", "a", Ok(false)),
            ("a*a", "aba", Ok(true)),
            ("ab", "abab", Ok(false)),
            ("a?b", "a/b", Ok(false)),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
