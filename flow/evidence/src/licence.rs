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
/// licence, or several that all apply.
pub fn debian(short: &str) -> Vec<Licence> {
    let short = short.trim();
    if short.is_empty() {
        return Vec::new();
    }
    if short.len() > 400 {
        return vec![Licence::Name(clip(short, 100))];
    }
    let spaced = short.replace('(', " ( ").replace(')', " ) ").replace(',', " , ");
    let mut words = Vec::new();
    let mut known = true;
    let mut before: Option<&str> = None;
    for word in spaced.split_whitespace() {
        match word.to_ascii_lowercase().as_str() {
            // A comma before `and` and `or` changes precedence only; nobody relies on it.
            "," => continue,
            "and" | "and/or" => words.push("AND".to_owned()),
            "or" => words.push("OR".to_owned()),
            "with" => words.push("WITH".to_owned()),
            "(" | ")" => words.push(word.to_owned()),
            _ if before.is_some_and(|b| b.eq_ignore_ascii_case("with")) => match spdx::exception_id(word) {
                Some(exception) => words.push(exception.name.to_owned()),
                None => known = false,
            },
            _ => match debian_identifier(word) {
                Some(id) => words.push(id),
                None => known = false,
            },
        }
        before = Some(word);
    }
    if !known {
        return vec![Licence::Name(clip(short, 100))];
    }
    if words.len() == 1 {
        return words.pop().map(Licence::Id).into_iter().collect();
    }
    let only_and = words.iter().skip(1).step_by(2).all(|word| word == "AND");
    let atoms = words.iter().step_by(2).all(|word| !matches!(word.as_str(), "AND" | "OR" | "WITH" | "(" | ")"));
    if only_and && atoms && words.len() % 2 == 1 {
        return words.into_iter().step_by(2).map(Licence::Id).collect();
    }
    let expression = words.join(" ").replace("( ", "(").replace(" )", ")");
    let mode = ParseMode { allow_deprecated: true, ..ParseMode::STRICT };
    match Expression::parse_mode(&expression, mode) {
        Ok(_) => vec![Licence::Expression(expression)],
        Err(_) => vec![Licence::Name(clip(short, 100))],
    }
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
    if licence.len() <= 400
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
        assert_eq!(debian("Expat, and (ISC or Zlib)"), [Licence::Expression("MIT AND (ISC OR Zlib)".into())]);
        assert_eq!(debian("public-domain"), [Licence::Name("public-domain".into())]);
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
