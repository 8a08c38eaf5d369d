//! What `ADD` fetches from other machines.

use graph::{
    Copy as CopyOp, FileSource, Op, Origin,
    vertex::{Selected, SelectedKind},
};

use super::{
    Fetched, Remote,
    copy::Given,
    stage::{Lowering, State},
};
use crate::{Result, diagnostic::Spanned, dockerfile::Instruction, glob};

/// Whether a source of `ADD` is an address.
pub fn is_remote(path: &str) -> bool {
    let lower = path.to_ascii_lowercase();
    ["http://", "https://", "git://", "ssh://", "git@", "ftp://"].iter().any(|start| lower.starts_with(start))
}

/// Whether an address means a git repository, as Docker tells it.
pub fn is_git(url: &str) -> bool {
    let lower = url.to_ascii_lowercase();
    if ["git://", "ssh://", "git@"].iter().any(|start| lower.starts_with(start)) {
        return true;
    }
    let address = lower.split(['#', '?']).next().unwrap_or_default();
    lower.starts_with("http") && address.trim_end_matches('/').ends_with(".git")
}

/// What stands before the host of an address, where it may be a secret: a user with a password, or a token in a user's place.
fn credentials(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    authority.rsplit_once('@').map(|(who, _)| who).filter(|who| !matches!(*who, "" | "git"))
}

/// An address as it may be shown and written down: without what it says of who asks.
pub fn shown(url: &str) -> String {
    without_credentials(url, url)
}

/// A text about an address, which may hold it, likewise.
pub fn without_credentials(url: &str, text: &str) -> String {
    match credentials(url) {
        Some(who) => text.replace(&format!("{who}@"), "***@"),
        None => text.to_owned(),
    }
}

impl Lowering<'_> {
    /// One address that `ADD` names.
    pub(super) fn add_remote(
        &mut self,
        state: &mut State,
        instruction: &Instruction,
        given: &Given,
        url: &str,
        place: &Spanned<String>,
    ) -> Result<()> {
        if url.to_ascii_lowercase().starts_with("ftp://") {
            return Err(self.error(place, "ADD fetches over http, https and git only").into());
        }
        let remote = if is_git(url) {
            if given.checksum.as_ref().is_some_and(|sum| !(7..=64).contains(&sum.len()) || !is_hex(sum)) {
                let reason = "--checksum of a git repository is the id of a commit";
                return Err(self.error(place, reason).into());
            }
            Remote::Git { url: url.to_owned(), checksum: given.checksum.clone(), keep_git: given.keep_git }
        } else {
            let checksum = given.checksum.as_ref().map(|sum| sum.parse()).transpose().map_err(|_| {
                let sum = given.checksum.clone().unwrap_or_default();
                let reason = format!("`{sum}` is no digest");
                self.error(place, reason).hint("write --checksum=sha256: and 64 hexadecimal digits")
            })?;
            Remote::File { url: url.to_owned(), checksum }
        };
        let fetched = match self.options.remotes.get(&remote) {
            Some(fetched) => fetched.clone(),
            None => {
                self.missing.push((remote, self.error(place, "")));
                return Ok(());
            }
        };
        let (vertex, sources) = match fetched {
            Fetched::File { digest, name } => {
                let name = if name.is_empty() { "download".to_owned() } else { name.replace('/', "_") };
                let file = Selected {
                    from: name.clone(),
                    to: name.clone(),
                    mode: 0o600,
                    content: digest.to_string(),
                    kind: SelectedKind::File,
                };
                let files = FileSource { origin: Origin::Blobs, files: vec![file] };
                (
                    self.add(&format!("fetch {url}"), Op::Files(files), Vec::new()),
                    vec![format!("/{}", glob::escape(&name))],
                )
            }
            Fetched::Tree(tree) => {
                let files = self.select_in(&tree, "", place)?;
                (self.add(&format!("clone {url}"), Op::Files(files), Vec::new()), vec!["/".to_owned()])
            }
        };
        let operation = CopyOp { sources, unpack: given.unpack == Some(true), ..given.operation.clone() };
        self.copy_layer(state, instruction, given, operation, vertex);
        Ok(())
    }
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_apart() {
        for (url, git) in [
            ("https://example.org/a.tar.gz", false),
            ("https://example.org/a.git", true),
            ("https://example.org/a.git#main:sub", true),
            ("https://example.org/a.git?ref=main", true),
            ("https://example.org/a.gitx", false),
            ("git@example.org:a/b", true),
            ("ssh://git@example.org/a", true),
            ("git://example.org/a", true),
        ] {
            assert!(is_remote(url));
            assert_eq!(is_git(url), git, "{url}");
        }
        assert!(!is_remote("a/b.git") && !is_remote("httpdocs"));
    }

    #[test]
    fn addresses_are_shown_without_what_opens_them() {
        for (url, wanted) in [
            ("https://example.org/a@b", "https://example.org/a@b"),
            ("https://ada:pass@example.org/a", "https://***@example.org/a"),
            ("https://token@example.org/r.git#main:dir", "https://***@example.org/r.git#main:dir"),
            ("https://a:p@ss@example.org", "https://***@example.org"),
            ("ssh://git@example.org/r.git", "ssh://git@example.org/r.git"),
            ("git@example.org:r.git", "git@example.org:r.git"),
        ] {
            assert_eq!(shown(url), wanted);
        }
        let said =
            without_credentials("https://t0ken@example.org/r.git", "no access to 'https://t0ken@example.org/r.git/'");
        assert_eq!(said, "no access to 'https://***@example.org/r.git/'");
    }
}
