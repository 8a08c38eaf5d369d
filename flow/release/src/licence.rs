//! SPDX licence expressions (SPDX 2.3, annex D), as far as it takes to say whether one can be met without a denied licence.

use std::collections::HashSet;

/// Whether every way to meet `expression` uses a denied licence. What is no expression is met only if it names none of them: fails closed.
pub(crate) fn is_denied(expression: &str, denied: &HashSet<String>) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ");
    let tokens: Vec<String> = spaced.split_ascii_whitespace().map(str::to_ascii_lowercase).collect();
    let mut parser = Parser { tokens: &tokens, denied, depth: 0 };
    match parser.any() {
        Some(refused) if parser.tokens.is_empty() => refused,
        _ => tokens.iter().any(|token| matches(token, denied)),
    }
}

/// `GPL-2.0+` is a licence of its own and `GPL-2.0` too.
fn matches(token: &str, denied: &HashSet<String>) -> bool {
    denied.contains(token) || token.strip_suffix('+').is_some_and(|token| denied.contains(token))
}

struct Parser<'a> {
    tokens: &'a [String],
    denied: &'a HashSet<String>,
    depth: usize,
}

impl Parser<'_> {
    fn take(&mut self, word: &str) -> bool {
        let found = self.tokens.first().is_some_and(|token| token == word);
        if found {
            self.tokens = &self.tokens[1..];
        }
        found
    }

    /// Alternatives: denied when all are.
    fn any(&mut self) -> Option<bool> {
        let mut denied = self.all()?;
        while self.take("or") {
            denied &= self.all()?;
        }
        Some(denied)
    }

    /// Parts that hold together: denied when one is.
    fn all(&mut self) -> Option<bool> {
        let mut denied = self.one()?;
        while self.take("and") {
            denied |= self.one()?;
        }
        Some(denied)
    }

    fn one(&mut self) -> Option<bool> {
        if self.take("(") {
            self.depth += 1;
            let denied = if self.depth > 50 { None } else { self.any() };
            self.depth -= 1;
            return if self.take(")") { denied } else { None };
        }
        let (token, rest) = self.tokens.split_first()?;
        if matches!(token.as_str(), "or" | "and" | "with" | ")") {
            return None;
        }
        self.tokens = rest;
        if self.take("with") {
            self.tokens = self.tokens.split_first()?.1;
        }
        Some(matches(token, self.denied))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions() {
        let denied = HashSet::from(["agpl-3.0-only".to_owned(), "gpl-2.0".to_owned()]);
        for allowed in [
            "MIT",
            "",
            "MIT AND Apache-2.0",
            "MIT OR AGPL-3.0-only",
            "(AGPL-3.0-only OR MIT) AND ISC",
            "AGPL-3.0-or-later",
        ] {
            assert!(!is_denied(allowed, &denied), "{allowed}");
        }
        let refused = [
            "AGPL-3.0-only",
            "agpl-3.0-ONLY",
            "MIT AND AGPL-3.0-only",
            "AGPL-3.0-only OR GPL-2.0+",
            "MIT AND (AGPL-3.0-only OR GPL-2.0)",
            "GPL-2.0 WITH Classpath-exception-2.0",
            "MIT/AGPL-3.0-only AGPL-3.0-only",
            "MIT OR AGPL-3.0-only)",
            "((AGPL-3.0-only",
        ];
        for refused in refused {
            assert!(is_denied(refused, &denied), "{refused}");
        }
        let deep = "(".repeat(100_000) + "AGPL-3.0-only";
        assert!(is_denied(&deep, &denied));
    }
}
