//! What `ADD` and contexts name on other machines: files over HTTP, trees of git repositories.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use build::{ContextTree, Fetched, Ignore, Remote, StatCache};
use futures::StreamExt;
use records::Digest;
use tokio::process::Command;

use super::Home;
use crate::fault::{Class, Fault, Result};

/// The largest file that is fetched.
const MOST: u64 = 16 << 30;

/// Fetches one thing.
pub async fn fetch(home: &Home, remote: &Remote) -> Result<Fetched> {
    match remote {
        Remote::File { url, checksum } => file(home, url, checksum.as_ref()).await,
        Remote::Git { url, checksum, keep_git } => {
            let tree = git(home, url, checksum.as_deref(), *keep_git).await?;
            let root = tree.root.join(&tree.directory);
            let scanned =
                tokio::task::spawn_blocking(move || ContextTree::scan(&root, Ignore::default(), StatCache::default()));
            let scanned = scanned.await.map_err(|e| Fault::from_error(Class::Internal, &e))?;
            Ok(Fetched::Tree(Box::new(scanned.map_err(|e| Fault::usage(e.to_string()))?)))
        }
    }
}

async fn file(home: &Home, url: &str, checksum: Option<&Digest>) -> Result<Fetched> {
    let parsed = reqwest::Url::parse(url).map_err(|e| Fault::usage(format!("`{url}` is no address: {e}")))?;
    let last = parsed.path_segments().and_then(|mut parts| parts.next_back()).unwrap_or_default();
    let mut name = last.to_owned();
    if let Some(digest) = checksum
        && home.blobs.size(digest).await?.is_some()
    {
        return Ok(Fetched::File { digest: digest.clone(), name });
    }
    let failed = |e: &dyn std::fmt::Display| Fault::new(Class::Unavailable, format!("cannot fetch {url}: {e}"));
    let response = reqwest::Client::new().get(parsed).send().await.map_err(|e| failed(&e))?;
    let response = response.error_for_status().map_err(|e| failed(&e.status().unwrap_or_default()))?;
    let said = response.headers().get("content-disposition").and_then(|value| value.to_str().ok());
    let said = said.and_then(|value| value.split("filename=").nth(1)).map(|value| value.trim_matches(['"', ' ']));
    if let Some(said) = said.filter(|said| !said.is_empty() && !said.contains(['/', '\0', ';'])) {
        name = said.to_owned();
    }
    let mut rest = MOST;
    let chunks = response.bytes_stream().map(move |chunk| {
        let chunk = chunk.map_err(|e| image::Error::new(image::Kind::Remote, e.to_string()))?;
        rest = rest
            .checked_sub(chunk.len() as u64)
            .ok_or_else(|| image::Error::new(image::Kind::TooLarge, format!("it has more than {MOST} bytes")))?;
        Ok(chunk)
    });
    let stored = home.registry.store_stream(Box::pin(chunks), None).await.map_err(|e| failed(&e))?;
    if let Some(expected) = checksum
        && *expected != stored.digest
    {
        return Err(Fault::usage(format!("{url} came with {}, and --checksum says {expected}", stored.digest)));
    }
    Ok(Fetched::File { digest: stored.digest, name })
}

/// A checked-out commit.
pub struct Checkout {
    pub root: PathBuf,
    /// The directory in it that is meant.
    pub directory: String,
    pub commit: String,
}

/// Checks a reference of a git repository out: `url#reference:directory`, or `?ref=…&subdir=…`.
pub async fn git(home: &Home, url: &str, checksum: Option<&str>, keep_git: bool) -> Result<Checkout> {
    let (address, reference, directory) = parse(url);
    let named = reference.clone().unwrap_or_else(|| "HEAD".into());
    let commit = match (named.len() >= 40 && named.bytes().all(|b| b.is_ascii_hexdigit()), named) {
        (true, commit) => commit,
        (false, named) => resolve(&address, &named).await?,
    };
    if let Some(checksum) = checksum
        && !commit.starts_with(&checksum.to_ascii_lowercase())
    {
        return Err(Fault::usage(format!("{url} stands for commit {commit}, and --checksum says {checksum}")));
    }
    let sum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, format!("{address} {keep_git}").as_bytes());
    let name: String = sum.as_ref()[..8].iter().map(|b| format!("{b:02x}")).collect();
    let root = home.data.join("checkouts").join(format!("{name}-{commit}"));
    if !root.is_dir() {
        let new = root.with_extension("new");
        let _ = std::fs::remove_dir_all(&new);
        std::fs::create_dir_all(&new).map_err(|e| Fault::from_error(Class::Unavailable, &e))?;
        run(&new, &["init", "--quiet"]).await?;
        run(&new, &["remote", "add", "origin", &address]).await?;
        // Not every server gives a commit by its id; then all of the reference is fetched.
        if run(&new, &["fetch", "--quiet", "--depth=1", "origin", &commit]).await.is_err() {
            let named = reference.as_deref().unwrap_or("HEAD");
            run(&new, &["fetch", "--quiet", "origin", named]).await?;
        }
        run(&new, &["checkout", "--quiet", "--force", &commit]).await?;
        if !keep_git {
            std::fs::remove_dir_all(new.join(".git")).map_err(|e| Fault::from_error(Class::Unavailable, &e))?;
        }
        std::fs::rename(&new, &root).map_err(|e| Fault::from_error(Class::Unavailable, &e))?;
    }
    Ok(Checkout { root, directory, commit })
}

/// The address, the reference and the directory.
fn parse(url: &str) -> (String, Option<String>, String) {
    let filled = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    // What leads out of the repository is a path in it all the same.
    let clean =
        |text: &str| text.split('/').filter(|part| !matches!(*part, "" | "." | "..")).collect::<Vec<_>>().join("/");
    if let Some((address, fragment)) = url.split_once('#') {
        let (reference, directory) = fragment.split_once(':').unwrap_or((fragment, ""));
        return (address.to_owned(), filled(reference), clean(directory));
    }
    let Some((address, query)) = url.split_once('?') else { return (url.to_owned(), None, String::new()) };
    let get = |names: &[&str]| {
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.into_iter().find(|(name, _)| names.contains(name)).map(|(_, value)| value.to_owned())
    };
    (address.to_owned(), get(&["ref", "tag", "branch", "commit"]), clean(&get(&["subdir"]).unwrap_or_default()))
}

async fn resolve(address: &str, reference: &str) -> Result<String> {
    let listed =
        run(Path::new("/"), &["ls-remote", "--exit-code", "--", address, reference, &format!("{reference}^{{}}")])
            .await?;
    let rows: Vec<(&str, &str)> = listed.lines().filter_map(|line| line.split_once('\t')).collect();
    // A tag that is signed stands for what it is of.
    let order =
        [format!("refs/tags/{reference}^{{}}"), format!("refs/heads/{reference}"), format!("refs/tags/{reference}")];
    let best = order.iter().find_map(|name| rows.iter().find(|(_, found)| found == name)).or(rows.first());
    best.map(|(commit, _)| (*commit).to_owned())
        .ok_or_else(|| Fault::not_found(format!("{address} has no reference `{reference}`")))
}

async fn run(directory: &Path, arguments: &[&str]) -> Result<String> {
    let output = Command::new("git")
        .current_dir(directory)
        .args(["-c", "protocol.ext.allow=never", "-c", "advice.detachedHead=false"])
        .args(arguments)
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_LFS_SKIP_SMUDGE", "1")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|e| Fault::new(Class::Unavailable, format!("cannot run git: {e}")))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.trim().lines().last().unwrap_or_default().to_owned();
        return Err(Fault::new(Class::Unavailable, format!("git {}: {said}", arguments[0])));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_repositories_are_taken_apart() {
        let parsed = |url: &str| {
            let (address, reference, directory) = parse(url);
            format!("{address} {} {directory}", reference.unwrap_or_default())
        };
        assert_eq!(parsed("https://e.org/a.git"), "https://e.org/a.git  ");
        assert_eq!(parsed("https://e.org/a.git#v1:sub/dir"), "https://e.org/a.git v1 sub/dir");
        assert_eq!(parsed("https://e.org/a.git#:sub"), "https://e.org/a.git  sub");
        assert_eq!(parsed("https://e.org/a.git?ref=v1&subdir=../x"), "https://e.org/a.git v1 x");
    }
}
