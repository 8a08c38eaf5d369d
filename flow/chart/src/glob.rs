//! The patterns of `.Files.Glob`: `*` stays in a directory, `**` does not, `{a,b}` are alternatives.

const MOST_ALTERNATIVES: usize = 1024;

/// A compiled pattern. One that cannot be read matches every path, as in Helm.
#[derive(Clone, Debug)]
pub struct Glob {
    alternatives: Vec<Vec<Token>>,
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Literal(char),
    One,
    Within,
    Across,
    Class { negated: bool, members: Members },
}

#[derive(Clone, Debug, PartialEq)]
enum Members {
    Range(char, char),
    List(Vec<char>),
}

impl Glob {
    /// Reads a pattern.
    pub fn new(pattern: &str) -> Self {
        let chars: Vec<char> = pattern.chars().collect();
        match alternatives(&chars, &mut 0, 0) {
            Some(alternatives) => Self { alternatives },
            None => Self { alternatives: vec![vec![Token::Across]] },
        }
    }

    /// Whether the whole path matches.
    pub fn matches(&self, path: &str) -> bool {
        let path: Vec<char> = path.chars().collect();
        self.alternatives.iter().any(|tokens| run(tokens, &path))
    }
}

/// Reads until the end (depth 0) or the `}` or `,` that ends one branch.
fn alternatives(chars: &[char], at: &mut usize, depth: usize) -> Option<Vec<Vec<Token>>> {
    if depth > 16 {
        return None;
    }
    let mut out: Vec<Vec<Token>> = vec![Vec::new()];
    while let Some(&c) = chars.get(*at) {
        *at += 1;
        let token = match c {
            '*' if chars.get(*at) == Some(&'*') => {
                *at += 1;
                Token::Across
            }
            '*' => Token::Within,
            '?' => Token::One,
            '\\' => {
                let literal = *chars.get(*at)?;
                *at += 1;
                Token::Literal(literal)
            }
            '[' => class(chars, at)?,
            '{' => {
                let mut branches = Vec::new();
                loop {
                    branches.extend(alternatives(chars, at, depth + 1)?);
                    match chars.get(at.checked_sub(1)?)? {
                        '}' => break,
                        ',' => {}
                        _ => return None,
                    }
                }
                if out.len().checked_mul(branches.len())? > MOST_ALTERNATIVES {
                    return None;
                }
                out = out
                    .iter()
                    .flat_map(|head| branches.iter().map(move |tail| [head.as_slice(), tail.as_slice()].concat()))
                    .collect();
                continue;
            }
            ',' | '}' if depth > 0 => return Some(out),
            c => Token::Literal(c),
        };
        out.iter_mut().for_each(|tokens| tokens.push(token.clone()));
    }
    (depth == 0).then_some(out)
}

fn class(chars: &[char], at: &mut usize) -> Option<Token> {
    let negated = chars.get(*at) == Some(&'!');
    if negated {
        *at += 1;
    }
    let mut members = Vec::new();
    loop {
        let c = *chars.get(*at)?;
        *at += 1;
        match c {
            ']' if members.is_empty() => return None,
            ']' => return Some(Token::Class { negated, members: Members::List(members) }),
            '-' if members.len() == 1 && chars.get(*at).is_some_and(|c| *c != ']') => {
                let high = *chars.get(*at)?;
                *at += 1;
                let close = *chars.get(*at)?;
                *at += 1;
                if close != ']' || high < members[0] {
                    return None;
                }
                return Some(Token::Class { negated, members: Members::Range(members[0], high) });
            }
            '\\' => {
                members.push(*chars.get(*at)?);
                *at += 1;
            }
            c => members.push(c),
        }
    }
}

/// Every position of the path that the tokens so far can reach, one token after the other: never exponential.
fn run(tokens: &[Token], path: &[char]) -> bool {
    let mut reach = vec![false; path.len() + 1];
    reach[0] = true;
    for token in tokens {
        let mut next = vec![false; path.len() + 1];
        for (at, _) in reach.iter().enumerate().filter(|(_, reached)| **reached) {
            match token {
                Token::Across => next[at..].fill(true),
                Token::Within => {
                    let end = path[at..].iter().position(|c| *c == '/').map_or(path.len(), |n| at + n);
                    next[at..=end].fill(true);
                }
                single => {
                    if path.get(at).is_some_and(|c| accepts(single, *c)) {
                        next[at + 1] = true;
                    }
                }
            }
        }
        reach = next;
    }
    reach[path.len()]
}

fn accepts(token: &Token, c: char) -> bool {
    match token {
        Token::Literal(l) => *l == c,
        Token::One => c != '/',
        Token::Class { negated, members: Members::Range(low, high) } => (*low <= c && c <= *high) != *negated,
        Token::Class { negated, members: Members::List(list) } => list.contains(&c) != *negated,
        Token::Within | Token::Across => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_files_glob() {
        for (pattern, path, expected) in [
            ("config/*", "config/a.yaml", true),
            ("config/*", "config/sub/a.yaml", false),
            ("config/**", "config/sub/a.yaml", true),
            ("**.yaml", "config/sub/a.yaml", true),
            ("{a,b}/*.txt", "b/x.txt", true),
            ("{a,b}/*.txt", "c/x.txt", false),
            ("x{1,{2,3}}", "x3", true),
            ("file?.txt", "file1.txt", true),
            ("file?.txt", "file/.txt", false),
            ("[a-c].x", "b.x", true),
            ("[!a-c].x", "b.x", false),
            ("[abc].x", "c.x", true),
            ("[", "anything/at/all", true),
            ("a,b", "a,b", true),
        ] {
            assert_eq!(Glob::new(pattern).matches(path), expected, "{pattern} {path}");
        }
    }
}
