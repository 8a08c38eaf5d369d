//! `/usr/share/doc/<package>/copyright`: machine-readable (DEP-5) files name their licences; of others the licences are known
//! that they refer to under `/usr/share/common-licenses`.

use std::collections::BTreeSet;

use deb822_fast::borrowed::iter_paragraphs_borrowed;

use crate::licence::{self, Licence};

/// The licences that the file names, each once, sorted.
pub fn parse(text: &str) -> Vec<Licence> {
    let mut found = BTreeSet::new();
    if is_machine_readable(text) {
        for stanza in iter_paragraphs_borrowed(text) {
            // The rest of a file after a line that is none is not read: some are written by hand.
            let Ok(stanza) = stanza else { break };
            let applies = stanza.get("Files").is_some() || stanza.get("Format").is_some();
            if let Some(short) = stanza.get("License").and_then(|lines| lines.first()).filter(|_| applies) {
                found.extend(licence::debian(short));
            }
        }
    }
    if found.is_empty() {
        let mut vague = BTreeSet::new();
        let marker = "/usr/share/common-licenses/";
        for (at, _) in text.match_indices(marker).take(64) {
            let rest = &text[at + marker.len()..];
            let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "-.+".contains(c))).unwrap_or(rest.len());
            let name = rest[..end].trim_end_matches('.');
            match name {
                // Without a version it is a link to the newest one, and says little.
                "GPL" | "LGPL" | "GFDL" => drop(vague.insert(Licence::Name(name.to_owned()))),
                "BSD" => found.extend(licence::debian("BSD-3-Clause")),
                name => found.extend(licence::debian(name)),
            }
        }
        if found.is_empty() {
            found = vague;
        }
    }
    found.into_iter().take(100).collect()
}

fn is_machine_readable(text: &str) -> bool {
    let first = text.lines().find(|line| !line.trim().is_empty() && !line.starts_with('#')).unwrap_or_default();
    let format = ["format:", "format-specification:"];
    format.iter().any(|field| first.get(..field.len()).is_some_and(|start| start.eq_ignore_ascii_case(field)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_licences_that_apply_to_files() {
        let text = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\nUpstream-Name: x\n\n\
            Files: *\nCopyright: 2020 A\nLicense: GPL-2+\n\nFiles: lib/*\nCopyright: B\nLicense: Expat\n Permission is\n\n\
            License: GPL-2+\n text\n\nLicense: unused\n text\n";
        assert_eq!(parse(text), [Licence::Id("GPL-2.0-or-later".into()), Licence::Id("MIT".into())]);
    }

    #[test]
    fn falls_back_to_common_licences() {
        let text = "This is X.\n\nOn Debian systems see `/usr/share/common-licenses/LGPL-2.1'.\nand /usr/share/common-licenses/GPL.";
        assert_eq!(parse(text), [Licence::Id("LGPL-2.1-only".into())]);
        assert_eq!(parse("see /usr/share/common-licenses/GPL"), [Licence::Name("GPL".into())]);
        assert_eq!(parse("nothing"), []);
    }
}
