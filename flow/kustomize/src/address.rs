//! Addresses of git repositories, in all the forms that kustomize takes them.

/// A repository, the directory in it, and what to check out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// What git is told to fetch from.
    pub repository: String,
    /// The directory of the kustomization in it; empty for its root.
    pub path: String,
    /// A branch, tag or commit; empty for the default branch.
    pub reference: String,
    /// Seconds until fetching is given up.
    pub timeout: u64,
    pub submodules: bool,
}

const SECONDS: u64 = 27;
const SCHEMES: [&str; 4] = ["ssh://", "https://", "http://", "file://"];

impl Address {
    /// Takes an address apart: `https://host/org/repo//dir?ref=v1`, `git@host:org/repo.git/dir`, `github.com/org/repo/dir`, …
    pub fn parse(address: &str) -> Result<Self, String> {
        if address.starts_with('/') {
            return Err(format!("uri looks like abs path: {address}"));
        }
        let (rest, query) = address.split_once('?').unwrap_or((address, ""));
        let mut parsed = Self {
            repository: String::new(),
            path: String::new(),
            reference: String::new(),
            timeout: SECONDS,
            submodules: true,
        };
        parsed.query(query);
        let rest = without(rest, "git::").unwrap_or(rest);
        let (scheme, rest) =
            SCHEMES.iter().find_map(|scheme| Some((*scheme, without(rest, scheme)?))).unwrap_or(("", rest));
        let (user, rest) = user(rest);
        let lower = rest.to_ascii_lowercase();
        let github = lower.starts_with("github.com/") || lower.starts_with("github.com:");
        // `user@host:path`
        let short = scheme.is_empty() && (!user.is_empty() || github);
        if scheme.is_empty() && !short {
            return Err("failed to parse scheme".to_owned());
        }
        let (host, rest) = match scheme {
            "file://" => (format!("{scheme}{user}"), rest),
            _ => {
                let slash = rest.find('/');
                let colon =
                    rest.find(':').filter(|colon| short && *colon > 0 && slash.is_none_or(|slash| *colon < slash));
                let (host, rest) = match colon.or(slash) {
                    Some(end) => rest.split_at(end + 1),
                    None => (rest, ""),
                };
                if host.is_empty() {
                    return Err("failed to parse host segment".to_owned());
                }
                match (github, scheme == "ssh://" || !user.is_empty()) {
                    (true, true) => (format!("{user}github.com:"), rest),
                    (true, false) => ("https://github.com/".to_owned(), rest),
                    (false, _) => (format!("{scheme}{user}{host}"), rest),
                }
            }
        };
        let (repository, path) = split(rest, scheme == "file://").ok_or("failed to parse repo path segment")?;
        if repository.is_empty() {
            return Err("failed to parse repo path segment".to_owned());
        }
        if crate::path::clean(path.trim_start_matches('/')).split('/').next() == Some("..") {
            return Err(format!("url path exits repo: {rest}"));
        }
        parsed.repository = format!("{host}{repository}");
        parsed.path = path.strip_prefix('/').unwrap_or(&path).to_owned();
        Ok(parsed)
    }

    fn query(&mut self, query: &str) {
        let pairs: Vec<(&str, &str)> = query.split('&').filter_map(|pair| pair.split_once('=')).collect();
        let first = |key: &str| pairs.iter().find(|(name, value)| *name == key && !value.is_empty()).map(|pair| pair.1);
        self.reference = first("ref").or(first("version")).unwrap_or_default().replace("%2F", "/").replace("%2f", "/");
        if let Some(seconds) = first("timeout").and_then(seconds) {
            self.timeout = seconds;
        }
        match first("submodules") {
            Some("0" | "f" | "F" | "false" | "FALSE" | "False") => self.submodules = false,
            Some("1" | "t" | "T" | "true" | "TRUE" | "True") => self.submodules = true,
            _ => {}
        }
    }
}

/// `61`, `61s`, `2m`
fn seconds(text: &str) -> Option<u64> {
    let (number, factor) = match text.strip_suffix('s') {
        Some(number) => (number, 1),
        None => text.strip_suffix('m').map_or((text, 1), |number| (number, 60)),
    };
    number.parse::<u64>().ok()?.checked_mul(factor).filter(|seconds| *seconds > 0)
}

fn without<'t>(text: &'t str, prefix: &str) -> Option<&'t str> {
    text.get(..prefix.len()).filter(|start| start.eq_ignore_ascii_case(prefix)).map(|_| &text[prefix.len()..])
}

/// `name@`, and what follows.
fn user(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).unwrap_or(text.len());
    match text[end..].starts_with('@') && text.starts_with(|c: char| c.is_ascii_alphabetic()) {
        true => text.split_at(end + 1),
        false => ("", text),
    }
}

/// The path of the repository and of the directory in it.
fn split(text: &str, whole: bool) -> Option<(String, String)> {
    if let Some((before, after)) = text.split_once("_git/") {
        let (name, path) = after.split_once('/').unwrap_or((after, ""));
        return Some((format!("{before}_git/{name}"), path.to_owned()));
    }
    if let Some((before, after)) = text.split_once("//") {
        return Some((before.to_owned(), after.to_owned()));
    }
    if let Some((before, after)) = text.split_once(".git") {
        return Some((format!("{before}.git"), after.to_owned()));
    }
    if whole {
        return Some((text.to_owned(), String::new()));
    }
    let (owner, rest) = text.split_once('/')?;
    let (name, path) = rest.split_once('/').unwrap_or((rest, ""));
    Some((format!("{owner}/{name}"), path.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart_as_kustomize_does() {
        for (text, repository, path, reference) in [
            ("https://github.com/org/repo", "https://github.com/org/repo", "", ""),
            ("https://github.com/org/repo/dir/sub?ref=v1", "https://github.com/org/repo", "dir/sub", "v1"),
            ("https://github.com/org/repo//dir?ref=v1&timeout=5", "https://github.com/org/repo", "dir", "v1"),
            ("github.com/org/repo/dir?version=v2", "https://github.com/org/repo", "dir", "v2"),
            ("git@github.com:org/repo.git/dir", "git@github.com:org/repo.git", "/dir".trim_start_matches('/'), ""),
            ("ssh://git@github.com/org/repo.git", "git@github.com:org/repo.git", "", ""),
            (
                "git::https://gitlab.example/a/b.git/c?ref=feature%2Fx",
                "https://gitlab.example/a/b.git",
                "c",
                "feature/x",
            ),
            ("https://u@dev.azure.com/org/p/_git/repo/x/y", "https://u@dev.azure.com/org/p/_git/repo", "x/y", ""),
            ("git@host.example:path/repo.git//d", "git@host.example:path/repo.git", "d", ""),
            ("file:///srv/repo//d?ref=x", "file:///srv/repo", "d", "x"),
            ("https://host.example/a/b/c", "https://host.example/a/b", "c", ""),
        ] {
            let address = Address::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(
                (address.repository.as_str(), address.path.as_str(), address.reference.as_str()),
                (repository, path, reference),
                "{text}"
            );
        }
        for (text, problem) in [
            ("/abs", "uri looks like abs path: /abs"),
            ("../base", "failed to parse scheme"),
            ("base/dir", "failed to parse scheme"),
            ("https://github.com/org", "failed to parse repo path segment"),
            ("https://github.com/org/repo//../../x", "url path exits repo: org/repo//../../x"),
            ("ext::sh -c x", "failed to parse scheme"),
            ("https://", "failed to parse host segment"),
        ] {
            assert_eq!(Address::parse(text).unwrap_err(), problem, "{text}");
        }
        assert_eq!(
            Address::parse("https://h/a/b?timeout=2m&submodules=false").map(|a| (a.timeout, a.submodules)),
            Ok((120, false))
        );
    }
}
