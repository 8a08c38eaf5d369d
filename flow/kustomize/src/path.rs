//! Paths, as texts with `/`.

/// Without `.`, `..` and double slashes; absolute stays absolute.
pub fn clean(path: &str) -> String {
    let absolute = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => match parts.last() {
                Some(&last) if last != ".." => {
                    parts.pop();
                }
                _ if absolute => {}
                _ => parts.push(".."),
            },
            part => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (absolute, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

pub fn join(base: &str, path: &str) -> String {
    if path.starts_with('/') { clean(path) } else { clean(&format!("{base}/{path}")) }
}

/// True when `path` is `root` or below it.
pub fn within(path: &str, root: &str) -> bool {
    root == "/" || path == root || path.strip_prefix(root).is_some_and(|rest| rest.starts_with('/'))
}

/// The last part.
pub fn base(path: &str) -> &str {
    path.trim_end_matches('/').rsplit('/').next().unwrap_or(path)
}

/// True for what is brought from elsewhere: a host in it, or a scheme.
pub fn is_remote(path: &str) -> bool {
    if path.starts_with("http://") || path.starts_with("https://") {
        return true;
    }
    if ["git::", "ssh://", "git@", "github.com/", "git.com:", "github.com:", "gh:", "file://"]
        .iter()
        .any(|p| path.starts_with(p))
    {
        return true;
    }
    // host.tld/org/repo//dir?ref=x, and what has a git suffix.
    let known = path.contains("?ref=")
        || path.contains("?version=")
        || path.contains(".git/")
        || path.ends_with(".git")
        || path.contains("_git/");
    known && !path.starts_with('.') && !path.starts_with('/')
}
