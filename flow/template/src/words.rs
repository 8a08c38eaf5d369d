//! Words in names: `camelCase`, `snake_case`, `kebab-case`.

use crate::functions::text::{lower, upper};

fn connector(c: char) -> bool {
    c == '-' || c == '_' || c.is_whitespace()
}

/// Punctuation by Unicode category, as far as ASCII and Latin-1 go; the general punctuation block besides.
fn punctuation(c: char) -> bool {
    match c {
        '$' | '+' | '<' | '=' | '>' | '^' | '`' | '|' | '~' => false,
        c if c.is_ascii_punctuation() => true,
        '¡' | '§' | '«' | '¶' | '·' | '»' | '¿' => true,
        c => ('\u{2010}'..='\u{2027}').contains(&c) || ('\u{3001}'..='\u{3003}').contains(&c),
    }
}

/// `some_words` → `SomeWords`.
pub fn pascal(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let lead = chars.iter().take_while(|c| connector(**c)).count();
    out.extend(&chars[..lead]);
    let Some(&first) = chars.get(lead) else {
        // Only connectors: the last one is written twice.
        out.extend(chars.last());
        return out;
    };
    let mut first_upper = first.is_uppercase();
    let mut current = upper(first);
    for &next in &chars[lead + 1..] {
        let previous = std::mem::replace(&mut current, next);
        if connector(current) && connector(previous) {
            out.push(previous);
            continue;
        }
        if connector(previous) {
            first_upper = current.is_uppercase();
            current = upper(current);
            continue;
        }
        if first_upper {
            if current.is_uppercase() {
                current = lower(current);
            } else {
                first_upper = false;
            }
        }
        out.push(previous);
    }
    out.push(current);
    out
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    None,
    Number,
    Upper,
    Letters,
    Connector,
    Punctuation,
    Other,
}

/// Reads one word off the front.
fn next(chars: &[char]) -> (Kind, &[char], &[char]) {
    let Some(&first) = chars.first() else {
        return (Kind::None, chars, chars);
    };
    let letter = |c: char| c.is_alphabetic();
    let run = |ok: &dyn Fn(char) -> bool| chars.iter().take_while(|c| ok(**c)).count();
    let (kind, end) = match first {
        c if connector(c) => (Kind::Connector, run(&connector)),
        c if punctuation(c) => (Kind::Punctuation, run(&punctuation)),
        c if c.is_uppercase() => {
            let capitals = run(&|c| c.is_uppercase());
            let end = match chars.get(capitals) {
                // The last capital of `HTTPStatus` belongs to the next word.
                Some(c) if capitals > 1 && letter(*c) => capitals - 1,
                Some(c) if capitals == 1 && letter(*c) => {
                    1 + chars[1..].iter().take_while(|c| letter(**c) && !c.is_uppercase()).count()
                }
                _ => capitals,
            };
            (Kind::Upper, end)
        }
        c if letter(c) => (Kind::Letters, run(&|c| letter(c) && !c.is_uppercase())),
        c if c.is_numeric() => (Kind::Number, run(&char::is_numeric)),
        _ => {
            let other = |c: char| !(connector(c) || letter(c) || c.is_numeric() || punctuation(c));
            (Kind::Other, run(&other))
        }
    };
    let (word, rest) = chars.split_at(end);
    (kind, word, rest)
}

fn push(out: &mut String, kind: Kind, word: &[char], separator: char) {
    if !matches!(kind, Kind::Upper | Kind::Connector) {
        out.extend(word);
        return;
    }
    out.extend(word.iter().map(|c| if connector(*c) { separator } else { lower(*c) }));
}

/// `SomeWords` → `some_words` with any separator.
pub fn separated(text: &str, separator: char) -> String {
    let chars: Vec<char> = text.chars().filter(|c| *c != '\u{fffd}').collect();
    let mut out = String::with_capacity(text.len() + 8);
    let (mut kind, mut word, mut rest) = next(&chars);
    while !rest.is_empty() {
        if kind != Kind::Connector {
            push(&mut out, kind, word, separator);
        }
        let (before, last) = (kind, word);
        (kind, word, rest) = next(rest);
        let ends = |kind: Kind| matches!(kind, Kind::None | Kind::Punctuation | Kind::Connector);
        match before {
            Kind::Number => {
                while matches!(kind, Kind::Letters | Kind::Number) {
                    push(&mut out, kind, word, separator);
                    (kind, word, rest) = next(rest);
                }
                if !ends(kind) {
                    out.push(separator);
                }
            }
            Kind::Connector => push(&mut out, before, last, separator),
            Kind::Punctuation => {}
            _ if kind != Kind::Number => {
                if !matches!(kind, Kind::Connector | Kind::Punctuation) {
                    out.push(separator);
                }
            }
            _ if rest.is_empty() => {}
            _ => {
                let number = word;
                (kind, word, rest) = next(rest);
                if kind != Kind::Letters {
                    push(&mut out, Kind::Number, number, separator);
                    if !matches!(kind, Kind::Connector | Kind::Punctuation) {
                        out.push(separator);
                    }
                    continue;
                }
                out.push(separator);
                push(&mut out, Kind::Number, number, separator);
                while matches!(kind, Kind::Letters | Kind::Number) {
                    push(&mut out, kind, word, separator);
                    (kind, word, rest) = next(rest);
                }
                if !ends(kind) {
                    out.push(separator);
                }
            }
        }
    }
    push(&mut out, kind, word, separator);
    out
}
