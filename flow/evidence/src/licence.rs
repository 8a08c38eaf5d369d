//! Licences as SPDX writes them: identifiers, expressions, and names for what SPDX does not know.

use serde::{Deserialize, Serialize};
use spdx::{Expression, ParseMode, expression::ExprNode};

use crate::error::clip;

/// A licence that a component says it is under.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "type", content = "text", rename_all = "kebab-case")]
pub enum Licence {
    /// An identifier of the SPDX licence list.
    Id(String),
    /// An SPDX expression of several.
    Expression(String),
    /// What it calls itself, where SPDX has no identifier for it.
    Name(String),
}

impl Licence {
    /// As it is written: identifier, expression or name.
    pub fn text(&self) -> &str {
        match self {
            Self::Id(text) | Self::Expression(text) | Self::Name(text) => text,
        }
    }

    /// Reads what npm's `license` field holds: an identifier, an expression or anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if text.is_empty() {
            return None;
        }
        if text.len() > 400 {
            return Some(Self::Name(clip(text, 100)));
        }
        if let Some(id) = identifier(text) {
            return Some(Self::Id(id));
        }
        // `Apache 2.0`, `GPLv3`; a name without a number, like `BSD`, would be a guess.
        let numbered = text.contains(|c: char| c.is_ascii_digit());
        let close = spdx::imprecise_license_id(text).filter(|(_, length)| numbered && *length == text.len());
        if let Some((id, _)) = close {
            return Some(Self::Id(id.name.to_owned()));
        }
        let mode = ParseMode { allow_deprecated: true, ..ParseMode::STRICT };
        match Expression::parse_mode(text, mode) {
            Ok(expression)
                if expression.iter().any(|node| matches!(node, ExprNode::Op(_))) || text.contains(" WITH ") =>
            {
                let bare = text.strip_prefix('(').and_then(|t| t.strip_suffix(')')).filter(|t| !t.contains(['(', ')']));
                Some(Self::Expression(bare.unwrap_or(text).to_owned()))
            }
            _ => Some(Self::Name(clip(text, 100))),
        }
    }
}

/// The identifier on the SPDX list that `name` is, whatever its case; deprecated GNU names become what replaced them.
pub fn identifier(name: &str) -> Option<String> {
    let (base, or_later) = match name.strip_suffix('+') {
        Some(base) => (base, true),
        None => (name, false),
    };
    if let Some(gnu) = spdx::gnu_license_id(base, or_later) {
        return Some(gnu.name.to_owned());
    }
    if or_later {
        return None;
    }
    match spdx::license_id(name) {
        Some(id) => Some(id.name.to_owned()),
        None => spdx::identifiers::LICENSES
            .iter()
            .find(|licence| licence.name.eq_ignore_ascii_case(name))
            .map(|licence| licence.name.to_owned()),
    }
}

/// Reads a licence field of Debian's machine-readable copyright file, for example `GPL-2+ and (Expat or BSD-3-clause)`: one
/// licence, or several that all apply. What SPDX does not know becomes `LicenseRef-…` in an expression, so that the rest of the
/// expression still counts.
pub fn debian(short: &str) -> Vec<Licence> {
    let short = short.trim();
    if short.is_empty() {
        return Vec::new();
    }
    if short.len() > 2000 {
        return vec![Licence::Name(clip(short, 100))];
    }
    // `A or B, and C`: the comma ends what `or` joins, so both sides apply.
    let mut both = Vec::new();
    let (mut words, mut depth) = (Vec::new(), 0i32);
    let mut all = words_of(short).into_iter().peekable();
    while let Some(word) = all.next() {
        depth += i32::from(matches!(word, Word::Open)) - i32::from(matches!(word, Word::Close));
        match (word, all.peek()) {
            (Word::Comma, Some(Word::And)) if depth == 0 => {
                all.next();
                both.extend(joined(std::mem::take(&mut words), short));
            }
            (Word::Comma, Some(Word::And | Word::Or)) => {}
            (Word::Comma, Some(_)) if depth == 0 => both.extend(joined(std::mem::take(&mut words), short)),
            (Word::Comma, Some(_)) => words.push(Word::And),
            (Word::Comma, None) => {}
            (word, _) => words.push(word),
        }
    }
    both.extend(joined(words, short));
    both.sort();
    both.dedup();
    both
}

/// What is left between commas: several licences that all apply, or one expression.
fn joined(words: Vec<Word>, short: &str) -> Vec<Licence> {
    let all_and = words.iter().all(|word| matches!(word, Word::And | Word::Licence(_)));
    if all_and {
        let licences = words.into_iter().filter_map(|word| match word {
            Word::Licence(name) => {
                Some(debian_identifier(&name).map_or_else(|| Licence::Name(clip(&name, 100)), Licence::Id))
            }
            _ => None,
        });
        return licences.collect();
    }
    let mut expression = String::new();
    for word in &words {
        let text = match word {
            Word::And | Word::Comma => " AND ".to_owned(),
            Word::Or => " OR ".to_owned(),
            Word::Open => "(".to_owned(),
            Word::Close => ")".to_owned(),
            Word::Licence(name) => debian_identifier(name).unwrap_or_else(|| format!("LicenseRef-{}", reference(name))),
            Word::Exception(name) => {
                let known = spdx::exception_id(name).map(|exception| exception.name.to_owned());
                format!(" WITH {}", known.unwrap_or_else(|| format!("AdditionRef-{}", reference(name))))
            }
        };
        expression.push_str(&text);
    }
    let mode = ParseMode { allow_deprecated: true, ..ParseMode::STRICT };
    match Expression::parse_mode(&expression, mode) {
        Ok(_) => vec![Licence::Expression(expression)],
        Err(_) => vec![Licence::Name(clip(short, 100))],
    }
}

enum Word {
    Comma,
    And,
    Or,
    Open,
    Close,
    Licence(String),
    Exception(String),
}

/// Takes the field apart. Words without an operator between them are one name: `Apache 2.0`.
fn words_of(short: &str) -> Vec<Word> {
    let mut words: Vec<Word> = Vec::new();
    let (mut name, mut exception) = (String::new(), false);
    let mut finish = |words: &mut Vec<Word>, name: &mut String, next_is_exception: bool| {
        if !name.is_empty() {
            if matches!(words.last(), Some(Word::Licence(_) | Word::Exception(_) | Word::Close)) && !exception {
                words.push(Word::And);
            }
            let taken = std::mem::take(name);
            words.push(if exception { Word::Exception(taken) } else { Word::Licence(taken) });
        }
        exception = next_is_exception;
    };
    let spaced = short.replace('(', " ( ").replace(')', " ) ").replace([',', ';'], " , ");
    for word in spaced.split_whitespace() {
        match word.to_ascii_lowercase().as_str() {
            "," => {
                finish(&mut words, &mut name, false);
                words.push(Word::Comma);
            }
            "with" => finish(&mut words, &mut name, true),
            operator @ ("and" | "and/or" | "or" | "(" | ")") => {
                finish(&mut words, &mut name, false);
                words.push(match operator {
                    "or" => Word::Or,
                    "(" => Word::Open,
                    ")" => Word::Close,
                    _ => Word::And,
                });
            }
            _ => {
                if !name.is_empty() {
                    name.push('-');
                }
                name.push_str(word);
            }
        }
    }
    finish(&mut words, &mut name, false);
    words
}

/// The characters that SPDX allows in references of one's own.
fn reference(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect()
}

/// Debian's short names are older than SPDX's: `GPL-2+`, `Expat`, `BSD-3-clause`.
fn debian_identifier(short: &str) -> Option<String> {
    let renamed = match short.to_ascii_lowercase().as_str() {
        "expat" => "MIT",
        "artistic" | "artistic-1" => "Artistic-1.0-Perl",
        "artistic-2" => "Artistic-2.0",
        "apache-2" => "Apache-2.0",
        "bsd-2" => "BSD-2-Clause",
        "bsd-3" => "BSD-3-Clause",
        "bsd-4" => "BSD-4-Clause",
        "cc0" => "CC0-1.0",
        "mpl-2" => "MPL-2.0",
        "psf" | "psf-2" | "python" => "PSF-2.0",
        "boost-1.0" => "BSL-1.0",
        "zlib/libpng" => "zlib-acknowledgement",
        "permissive" => "FSFAP",
        _ => short,
    };
    if let Some(id) = identifier(renamed) {
        return Some(id);
    }
    // `GPL-2+`, `LGPL-2.1+`, `GFDL-NIV-1.3+`: SPDX wants two numbers and a word for the plus.
    let (base, plus) = match renamed.strip_suffix('+') {
        Some(base) => (base, "+"),
        None => (renamed, ""),
    };
    let (family, version) = base.rsplit_once('-')?;
    let version = if version.bytes().all(|b| b.is_ascii_digit()) { format!("{version}.0") } else { version.to_owned() };
    let ending = if plus.is_empty() { "only" } else { "or-later" };
    match family.to_ascii_uppercase().as_str() {
        "GFDL-NIV" => identifier(&format!("GFDL-{version}-no-invariants-{ending}")),
        "GPL" | "LGPL" | "AGPL" | "GFDL" => identifier(&format!("{family}-{version}-{ending}")),
        _ => None,
    }
}

/// Whether `licence` (an identifier, an expression or a name) cannot be used without one of `denied`: an `OR` leaves a choice.
pub fn is_denied(licence: &str, denied: &[String]) -> bool {
    let is = |id: &str| {
        denied.iter().any(|d| d.eq_ignore_ascii_case(id) || identifier(d).is_some_and(|d| d.eq_ignore_ascii_case(id)))
    };
    if licence.len() <= 4000
        && let Ok(expression) = Expression::parse_mode(licence, ParseMode::LAX)
    {
        return !expression.evaluate(|requirement| {
            let plain = requirement.license.to_string();
            !(is(&plain) || identifier(&plain).is_some_and(|id| is(&id)))
        });
    }
    is(licence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_npm_packages_write() {
        assert_eq!(Licence::parse("MIT"), Some(Licence::Id("MIT".into())));
        assert_eq!(Licence::parse("Apache 2.0"), Some(Licence::Id("Apache-2.0".into())));
        assert_eq!(Licence::parse("mit"), Some(Licence::Id("MIT".into())));
        assert_eq!(Licence::parse("(MIT OR Apache-2.0)"), Some(Licence::Expression("MIT OR Apache-2.0".into())));
        assert_eq!(Licence::parse("GPL-3.0"), Some(Licence::Id("GPL-3.0-only".into())));
        assert_eq!(Licence::parse("SEE LICENSE IN x"), Some(Licence::Name("SEE LICENSE IN x".into())));
        assert_eq!(Licence::parse("UNLICENSED"), Some(Licence::Name("UNLICENSED".into())));
        assert_eq!(Licence::parse(" "), None);
    }

    #[test]
    fn reads_what_debian_writes() {
        let id = |id: &str| Licence::Id(id.into());
        assert_eq!(debian("GPL-2+"), [id("GPL-2.0-or-later")]);
        assert_eq!(debian("LGPL-2.1"), [id("LGPL-2.1-only")]);
        assert_eq!(debian("Expat"), [id("MIT")]);
        assert_eq!(debian("BSD-3-clause and GPL-2+"), [id("BSD-3-Clause"), id("GPL-2.0-or-later")]);
        assert_eq!(debian("GFDL-NIV-1.3+"), [id("GFDL-1.3-no-invariants-or-later")]);
        assert_eq!(debian("GPL-1+ or Artistic"), [Licence::Expression("GPL-1.0-or-later OR Artistic-1.0-Perl".into())]);
        assert_eq!(debian("Expat and (ISC or Zlib)"), [Licence::Expression("MIT AND (ISC OR Zlib)".into())]);
        assert_eq!(debian("public-domain"), [Licence::Name("public-domain".into())]);
        assert_eq!(debian("Apache 2.0"), [id("Apache-2.0")]);
        assert_eq!(debian("GPL-2+, ISC"), [id("GPL-2.0-or-later"), id("ISC")]);
        assert_eq!(debian("AGPL-3 and Foo"), [id("AGPL-3.0-only"), Licence::Name("Foo".into())]);
        let expression = |text: &str| [Licence::Expression(text.into())];
        assert_eq!(debian("GPL-2+ or Foo~bar"), expression("GPL-2.0-or-later OR LicenseRef-Foo-bar"));
        assert_eq!(debian("Apache-2.0 with LLVM exception"), expression("Apache-2.0 WITH LLVM-exception"));
        assert_eq!(debian("GPL-2+ with Texinfo exception"), expression("GPL-2.0-or-later WITH Texinfo-exception"));
        assert_eq!(debian(""), []);
    }

    #[test]
    fn a_choice_is_denied_only_when_every_side_is() {
        let denied = ["AGPL-3.0-only".to_owned(), "GPL-3.0".to_owned()];
        assert!(is_denied("AGPL-3.0-only", &denied));
        assert!(is_denied("AGPL-3.0", &denied));
        assert!(!is_denied("AGPL-3.0-or-later", &denied));
        assert!(is_denied("MIT AND AGPL-3.0-only", &denied));
        assert!(!is_denied("MIT OR AGPL-3.0-only", &denied));
        assert!(is_denied("GPL-3.0-only OR AGPL-3.0-only", &denied));
        assert!(is_denied("AGPL-3.0-only WITH AdditionRef-Some-exception", &denied));
        assert!(is_denied("AGPL-3.0-only AND LicenseRef-Foo", &denied));
        assert!(is_denied("Commercial Thing", &["commercial thing".to_owned()]));
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in ".{0,60}") {
            let _ = debian(&text);
            let _ = Licence::parse(&text);
            let _ = is_denied(&text, std::slice::from_ref(&text));
        }
    }
}
