//! Cutting rendered text into its documents, with the two readings of `---` that Helm 3 and Helm 4 have.

use crate::Flavor;

/// The documents of a text, in its order, none of them blank.
pub fn split(text: &str, flavor: Flavor) -> Vec<&str> {
    match flavor {
        Flavor::Helm3 => split_trimmed(text),
        Flavor::Helm4 => split_lines(text),
    }
}

/// Helm 3: `---` at the start of a line ends a document, with all white space around it; documents are trimmed. White space
/// behind a separator belongs to it, so that a second `---` right after it is text.
fn split_trimmed(text: &str) -> Vec<&str> {
    let text = text.trim();
    let mut documents = Vec::new();
    let mut from = 0;
    if let Some(rest) = text.strip_prefix("---") {
        from = 3 + blank(rest);
    }
    while let Some(found) = text[from..].find("\n---") {
        let newline = from + found;
        documents.push(text[from..newline].trim_end_matches(SPACE));
        from = newline + 4 + blank(&text[newline + 4..]);
    }
    documents.push(&text[from..]);
    documents.into_iter().filter(|document| !document.is_empty()).map(str::trim).collect()
}

const SPACE: [char; 5] = ['\t', '\n', '\u{c}', '\r', ' '];

fn blank(text: &str) -> usize {
    text.len() - text.trim_start_matches(SPACE).len()
}

/// Helm 4: every line that starts with `---` starts a document; only leading white space is taken off.
fn split_lines(text: &str) -> Vec<&str> {
    let text = text.trim_start();
    let mut documents = Vec::new();
    let mut from = 0;
    let mut at = 0;
    loop {
        let separator =
            if text[at..].starts_with("---") { Some(at) } else { text[at..].find("\n---").map(|found| at + found + 1) };
        let Some(separator) = separator else { break };
        documents.push(&text[from..separator]);
        let after = &text[separator + 3..];
        from = separator + 3 + (after.len() - after.trim_start_matches([' ', '\t']).len());
        at = from;
        // What follows on the same line is text; the next separator stands at the start of a later line.
        if text[at..].starts_with("---") {
            match text[at..].find("\n---") {
                Some(found) => at += found + 1,
                None => break,
            }
        }
    }
    documents.push(&text[from..]);
    documents.into_iter().filter(|document| !document.trim().is_empty()).map(str::trim_start).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn helm_3() {
        for (text, expected) in [
            ("", vec![]),
            ("a: 1\n", vec!["a: 1"]),
            ("---\na: 1\n---\nb: 2\n", vec!["a: 1", "b: 2"]),
            ("---\n---\na: 1", vec!["---\na: 1"]),
            ("a: 1\n\n---   \n\nb: 2\n---", vec!["a: 1", "b: 2"]),
            ("a: 1\n---b: 2", vec!["a: 1", "b: 2"]),
            ("a: |\n  x\n  ---\n  y", vec!["a: |\n  x\n  ---\n  y"]),
            ("# only\n---\n", vec!["# only"]),
        ] {
            assert_eq!(split(text, Flavor::Helm3), expected, "{text:?}");
        }
    }

    #[test]
    fn helm_4() {
        for (text, expected) in [
            ("", vec![]),
            ("a: 1\n", vec!["a: 1\n"]),
            ("---\na: 1\n---\nb: 2\n", vec!["a: 1\n", "b: 2\n"]),
            ("---\n---\na: 1", vec!["a: 1"]),
            ("a: 1\n\n---   \n\nb: 2\n---", vec!["a: 1\n\n", "b: 2\n"]),
            ("a: 1\n---b: 2", vec!["a: 1\n", "b: 2"]),
            ("a: 1\n--- ---\nb: 2", vec!["a: 1\n", "---\nb: 2"]),
        ] {
            assert_eq!(split(text, Flavor::Helm4), expected, "{text:?}");
        }
    }
}
