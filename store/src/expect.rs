//! What a change expects, checked in the same way and the same words by every backend.

use crate::{Change, Error, Expect, Kind, Result, Seq};

/// `Conflict` unless the live version `found` is what `change` expects.
pub(crate) fn check(change: &Change, found: Option<Seq>) -> Result<()> {
    let problem = match (change.expect, found) {
        (Expect::Any, _) | (Expect::Absent, None) | (Expect::Present, Some(_)) => return Ok(()),
        (Expect::Version(wanted), Some(found)) if wanted == found => return Ok(()),
        (Expect::Absent, Some(found)) => format!("exists already, at version {found}"),
        (Expect::Present, None) => "does not exist".to_owned(),
        (Expect::Version(wanted), None) => {
            format!("does not exist any more; the change was made from version {wanted}")
        }
        (Expect::Version(wanted), Some(found)) => {
            format!("has been changed: it is at version {found}, and the change was made from version {wanted}")
        }
    };
    Err(Error::new(Kind::Conflict, format!("{} {} {problem}", change.kind, change.key)))
}

/// The smallest string that is greater than every string that starts with `prefix`; `None` when there is none.
pub(crate) fn after_prefix(prefix: &str) -> Option<String> {
    let mut end = prefix.to_owned();
    while let Some(last) = end.pop() {
        // UTF-8 sorts as code points do; the surrogates are no code points of text.
        let next = if last == '\u{D7FF}' { Some('\u{E000}') } else { char::from_u32(last as u32 + 1) };
        if let Some(next) = next {
            end.push(next);
            return Some(end);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_prefix_is_a_range(prefix in ".{0,4}", text in ".{0,6}", rest in ".{0,3}") {
            let inside = |text: &str| text >= prefix.as_str() && after_prefix(&prefix).is_none_or(|end| text < end.as_str());
            prop_assert_eq!(inside(&text), text.starts_with(&prefix));
            let longer = format!("{prefix}{rest}");
            prop_assert!(inside(&longer));
        }
    }

    #[test]
    fn the_edges_of_unicode() {
        assert_eq!(after_prefix(""), None);
        assert_eq!(after_prefix("\u{10FFFF}"), None);
        assert_eq!(after_prefix("a\u{10FFFF}").as_deref(), Some("b"));
        assert_eq!(after_prefix("\u{D7FF}").as_deref(), Some("\u{E000}"));
    }
}
