//! The database of installed Debian packages, `deb-control(5)` stanzas.

use deb822_fast::borrowed::{BorrowedParagraph, iter_paragraphs_borrowed};

use super::facts::DebianPackage;
use crate::error::{Error, Result, clip};

/// Reads stanzas. With `status`, only packages that are installed; a file of distroless images has no `Status`.
pub fn parse(text: &str, status: bool) -> Result<Vec<DebianPackage>> {
    let mut packages = Vec::new();
    for stanza in iter_paragraphs_borrowed(text) {
        let stanza = stanza.map_err(|error| {
            Error::invalid(format!("the dpkg database cannot be read: {}", clip(&error.to_string(), 200)))
        })?;
        let get = |name: &str| stanza.get_single(name).map(str::trim).filter(|value| !value.is_empty());
        let (Some(name), Some(version)) = (get("Package"), get("Version")) else { continue };
        // `install ok half-configured` has its files in place as well; only these two words say that they are not.
        let state = get("Status").and_then(|state| state.rsplit(' ').next());
        if status && matches!(state, None | Some("not-installed" | "config-files")) {
            continue;
        }
        let (source, source_version) = source(get("Source"), name, version);
        packages.push(DebianPackage {
            name: name.into(),
            version: version.into(),
            architecture: get("Architecture").unwrap_or_default().into(),
            source,
            source_version,
            homepage: get("Homepage").filter(|url| is_web(url)).map(Into::into),
            maintainer: get("Maintainer").map(|name| clip(name, 200)),
            depends: ["Pre-Depends", "Depends"].iter().flat_map(|field| relations(&stanza, field)).collect(),
            provides: relations(&stanza, "Provides").into_iter().flatten().collect(),
        });
    }
    Ok(packages)
}

fn is_web(url: &str) -> bool {
    (url.starts_with("https://") || url.starts_with("http://")) && !url.contains(char::is_whitespace)
}

/// `Source: gcc-14 (14.2.0-19)`; without it, the source is named like the package, and its version is the package's without the
/// number of a binary-only rebuild.
fn source(field: Option<&str>, name: &str, version: &str) -> (String, String) {
    let rebuilt = || match version.rsplit_once("+b") {
        Some((before, number)) if !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) => before.to_owned(),
        _ => version.to_owned(),
    };
    match field {
        None => (name.to_owned(), rebuilt()),
        Some(field) => match field.split_once('(') {
            Some((source, version)) => (source.trim().to_owned(), version.trim_end_matches(')').trim().to_owned()),
            None => (field.to_owned(), rebuilt()),
        },
    }
}

/// `libc6 (>= 2.36), default-mta | mail-transport-agent` → names, alternatives together.
fn relations(stanza: &BorrowedParagraph<'_>, field: &str) -> Vec<Vec<String>> {
    let Some(lines) = stanza.get(field) else { return Vec::new() };
    let line = lines.join(" ");
    line.split(',')
        .map(|group| {
            let names =
                group.split('|').filter_map(|one| one.split([' ', '(', ':', '[', '\t']).find(|word| !word.is_empty()));
            names.map(str::to_owned).collect::<Vec<_>>()
        })
        .filter(|group| !group.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Package: libgcc-s1\nStatus: install ok installed\nArchitecture: amd64\nSource: gcc-14\nVersion: 14.2.0-19+b2\n\
        Depends: gcc-14-base (= 14.2.0-19), libc6 (>= 2.35) | libc\nHomepage: http://gcc.gnu.org/\nDescription: support\n more\n .\n text\n\n\
        Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n\n\
        Package: bash\nStatus: install ok installed\nSource: bash (5.2.37-2)\nVersion: 5.2.37-2+b5\nArchitecture: amd64\n";

    #[test]
    fn reads_installed_packages_with_their_source() {
        let packages = parse(STATUS, true).unwrap();
        assert_eq!(packages.len(), 2);
        assert_eq!((packages[0].source.as_str(), packages[0].source_version.as_str()), ("gcc-14", "14.2.0-19"));
        assert_eq!(packages[0].depends, [vec!["gcc-14-base".to_owned()], vec!["libc6".into(), "libc".into()]]);
        assert_eq!((packages[1].source.as_str(), packages[1].source_version.as_str()), ("bash", "5.2.37-2"));
    }

    #[test]
    fn distroless_files_have_no_status() {
        let packages = parse("Package: tzdata\nVersion: 2025b-4\nArchitecture: all\n", false).unwrap();
        assert_eq!(packages[0].source, "tzdata");
    }

    #[test]
    fn says_what_it_cannot_read() {
        assert!(parse("no colon here\n", true).unwrap_err().message.contains("no colon here"));
    }
}
