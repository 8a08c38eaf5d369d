//! The application in slices: which file goes into which layer.

use std::collections::BTreeSet;

use crate::{Error, Result, launch::Slice};

/// For each slice, and last for the rest: the paths below the application that go into its layer, sorted. Directories that lead to a
/// file of a slice come with it; a directory whose content is all gone does not come again.
///
/// `paths` are relative, of everything in the application, parents before children; `directories` are those of them that are some.
pub fn assign(
    slices: &[Slice],
    root: &str,
    paths: &[String],
    directories: &BTreeSet<String>,
) -> Result<Vec<Vec<String>>> {
    let sorted: BTreeSet<&str> = paths.iter().map(String::as_str).collect();
    let mut taken: BTreeSet<&str> = BTreeSet::new();
    let mut all = Vec::new();
    for slice in slices {
        let mut matched: BTreeSet<&str> = BTreeSet::new();
        for pattern in &slice.paths {
            let relative = pattern.strip_prefix(root).unwrap_or(pattern);
            let clean = clean(relative.trim_start_matches('/'));
            for path in paths {
                if !matches(&clean, path).map_err(|why| Error::Image(format!("slice {pattern}: {why}")))? {
                    continue;
                }
                let inside = std::iter::once(path.as_str()).chain(below(&sorted, path));
                matched.extend(inside.filter(|path| !taken.contains(path)));
            }
        }
        let mut files: BTreeSet<String> = matched.iter().map(|path| (*path).to_owned()).collect();
        taken.extend(&matched);
        let mut parents: BTreeSet<&str> = BTreeSet::new();
        for path in &matched {
            let mut at = *path;
            while let Some((parent, _)) = at.rsplit_once('/') {
                parents.insert(parent);
                at = parent;
            }
        }
        files.extend(parents.iter().map(|parent| (*parent).to_owned()));
        // Deepest first: what is empty now is taken, and its parent may be empty then.
        let mut deep: Vec<&str> = parents.into_iter().collect();
        deep.sort_by_key(|path| std::cmp::Reverse(path.matches('/').count()));
        for parent in deep {
            if below(&sorted, parent).all(|path| taken.contains(path)) {
                taken.insert(parent);
            }
        }
        all.push(files.into_iter().collect());
    }
    let rest = paths.iter().filter(|path| !taken.contains(path.as_str())).cloned();
    all.push(rest.collect::<BTreeSet<_>>().into_iter().collect());
    debug_assert!(directories.iter().all(|directory| paths.contains(directory)));
    Ok(all)
}

/// Everything below a directory.
fn below<'a>(sorted: &BTreeSet<&'a str>, directory: &str) -> impl Iterator<Item = &'a str> {
    let prefix = format!("{directory}/");
    let from = sorted.range::<str, _>((std::ops::Bound::Included(prefix.as_str()), std::ops::Bound::Unbounded));
    let found: Vec<&'a str> = from.copied().take_while(|path| path.starts_with(&prefix)).collect();
    found.into_iter()
}

/// A path without `.`, `..` and double slashes.
fn clean(pattern: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in pattern.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Go's `filepath.Match`: `*` and `?` stay within a part of the path, `[…]` with `^` for not, `\` takes the next character as it is.
pub fn matches(pattern: &str, path: &str) -> Result<bool, String> {
    let pattern: Vec<char> = pattern.chars().collect();
    check(&pattern)?;
    let text: Vec<char> = path.chars().collect();
    // Linear in memory and quadratic at worst: one star is remembered.
    let (mut p, mut t, mut back) = (0, 0, None);
    loop {
        if p < pattern.len() && pattern[p] == '*' {
            back = Some((p, t));
            p += 1;
            continue;
        }
        if t == text.len() {
            return Ok(p == pattern.len());
        }
        match (p < pattern.len()).then(|| one(&pattern[p..], text[t])).flatten() {
            Some(used) => {
                p += used;
                t += 1;
            }
            None => match back {
                Some((star, from)) if text[from] != '/' => {
                    back = Some((star, from + 1));
                    (p, t) = (star + 1, from + 1);
                }
                _ => return Ok(false),
            },
        }
    }
}

/// How many characters of the pattern say that `c` fits.
fn one(pattern: &[char], c: char) -> Option<usize> {
    match pattern[0] {
        '?' => (c != '/').then_some(1),
        '\\' => (pattern.get(1) == Some(&c)).then_some(2),
        '[' => {
            let not = pattern.get(1) == Some(&'^');
            let (mut at, mut found) = (if not { 2 } else { 1 }, false);
            let get = |at: &mut usize| {
                if pattern[*at] == '\\' {
                    *at += 1;
                }
                *at += 1;
                pattern[*at - 1]
            };
            while pattern[at] != ']' {
                let low = get(&mut at);
                let high = if pattern[at] == '-' {
                    at += 1;
                    get(&mut at)
                } else {
                    low
                };
                found |= (low..=high).contains(&c);
            }
            (found != not && c != '/').then_some(at + 1)
        }
        literal => (literal == c).then_some(1),
    }
}

/// Whether every class is closed and every `\` has something after it.
fn check(pattern: &[char]) -> Result<(), String> {
    let malformed = || Err("the pattern is malformed".to_owned());
    let mut at = 0;
    while at < pattern.len() {
        match pattern[at] {
            '\\' if at + 1 >= pattern.len() => return malformed(),
            '\\' => at += 2,
            '[' => {
                at += 1;
                if pattern.get(at) == Some(&'^') {
                    at += 1;
                }
                let first = at;
                loop {
                    let character = |at: &mut usize| -> bool {
                        match pattern.get(*at) {
                            None | Some('-') => false,
                            Some(']') => false,
                            Some('\\') if *at + 1 >= pattern.len() => false,
                            Some('\\') => {
                                *at += 2;
                                true
                            }
                            Some(_) => {
                                *at += 1;
                                true
                            }
                        }
                    };
                    if pattern.get(at) == Some(&']') && at > first {
                        at += 1;
                        break;
                    }
                    if !character(&mut at) {
                        return malformed();
                    }
                    if pattern.get(at) == Some(&'-') {
                        at += 1;
                        if !character(&mut at) {
                            return malformed();
                        }
                    }
                    if at >= pattern.len() {
                        return malformed();
                    }
                }
            }
            _ => at += 1,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_gos_do() {
        // The table of Go's own documentation of the function, as far as it says what is true.
        for (pattern, path, fits) in [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*c", "abc", true),
            ("a*", "a", true),
            ("a*", "ab/c", false),
            ("a*/b", "abc/b", true),
            ("a*/b", "a/c/b", false),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/f", true),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("ab[c]", "abc", true),
            ("ab[b-d]", "abc", true),
            ("ab[e-g]", "abc", false),
            ("ab[^c]", "abc", false),
            ("ab[^e-g]", "abc", true),
            ("a\\*b", "a*b", true),
            ("a?b", "a/b", false),
            ("a[^a]b", "a/b", false),
            ("[\\]a]", "]", true),
            ("*x", "xxx", true),
            ("", "", true),
            ("a", "", false),
        ] {
            assert_eq!(matches(pattern, path), Ok(fits), "{pattern} {path}");
        }
        for wrong in ["[", "[]a]", "[-]", "[a", "a\\", "[x-]", "[-x]", "[^"] {
            assert!(matches(wrong, "a").is_err(), "{wrong}");
        }
        assert_eq!(clean("./a//b/../c/"), "a/c");
    }

    #[test]
    fn each_file_is_in_one_layer() {
        let paths = ["a", "a/1", "a/2", "b", "b/c", "b/c/3", "d.txt"].map(str::to_owned);
        let directories = ["a", "b", "b/c"].map(str::to_owned).into();
        let slice = |paths: &[&str]| Slice { paths: paths.iter().map(|p| (*p).to_owned()).collect() };
        let all =
            assign(&[slice(&["a/1", "/app/*.txt"]), slice(&["b/c", "a/1"]), slice(&[])], "/app", &paths, &directories)
                .unwrap();
        assert_eq!(all[0], ["a", "a/1", "d.txt"]);
        assert_eq!(all[1], ["b", "b/c", "b/c/3"]);
        assert!(all[2].is_empty());
        assert_eq!(all[3], ["a", "a/2"]);
    }
}
