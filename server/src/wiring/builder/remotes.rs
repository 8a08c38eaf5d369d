//! What `ADD` and contexts name on other machines: files over HTTP, trees of git repositories.
//!
//! A server fetches for people whom it does not trust with itself: then only what a step's container could reach is fetched, over
//! protocols that need nothing of the server's own. This machine's loopback and link-local addresses (where clouds keep credentials)
//! are not reached, whatever a name resolves to and wherever an answer leads.

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
};

use build::{ContextTree, Fetched, Ignore, Remote, StatCache};
use data_encoding::HEXLOWER;
use futures::StreamExt;
use image::Registry;
use records::Digest;
use reqwest::{dns, redirect};
use tokio::process::Command;

use crate::fault::{Class, Fault, Result};

/// The largest file that is fetched.
const MOST: u64 = 16 << 30;

/// Redirects that are followed.
const MOST_REDIRECTS: usize = 10;

/// Where what is fetched goes, and what may be fetched.
pub struct Fetcher<'a> {
    pub registry: &'a Registry,
    /// Where trees of git are checked out.
    pub checkouts: PathBuf,
    /// For somebody else: only what a container could reach.
    pub guarded: bool,
}

/// What went wrong with an address, without what it says of who asks.
fn told(url: &str, fault: Fault) -> Fault {
    Fault { message: build::without_credentials(url, &fault.message), ..fault }
}

/// Fetches one thing.
pub async fn fetch(home: &Fetcher<'_>, remote: &Remote) -> Result<Fetched> {
    match remote {
        Remote::File { url, checksum } => file(home, url, checksum.as_ref()).await.map_err(|fault| told(url, fault)),
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

/// Whether an address leads to this machine itself, or to its own link.
fn is_own(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            address.is_loopback() || address.is_link_local() || address.is_unspecified() || address.is_broadcast()
        }
        IpAddr::V6(address) => {
            address.is_loopback()
                || address.is_unspecified()
                || address.is_unicast_link_local()
                || address.to_ipv4_mapped().is_some_and(|address| is_own(address.into()))
        }
    }
}

/// A host that is an address, or `None` for a name.
fn literal(url: &reqwest::Url) -> Option<IpAddr> {
    url.host_str()?.trim_matches(['[', ']']).parse().ok()
}

fn own(host: &str) -> String {
    format!("{host} is this machine, which builds do not reach")
}

/// Resolves names to what may be reached.
struct Guard;

impl dns::Resolve for Guard {
    fn resolve(&self, name: dns::Name) -> dns::Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let allowed: Vec<SocketAddr> = found.filter(|address| !is_own(address.ip())).collect();
            if allowed.is_empty() {
                return Err(own(name.as_str()).into());
            }
            Ok(Box::new(allowed.into_iter()) as dns::Addrs)
        })
    }
}

fn client(guarded: bool) -> Result<reqwest::Client> {
    let mut builder = reqwest::Client::builder().user_agent(concat!("shipway/", env!("CARGO_PKG_VERSION")));
    builder =
        builder.connect_timeout(std::time::Duration::from_secs(30)).read_timeout(std::time::Duration::from_secs(60));
    if guarded {
        let follow = redirect::Policy::custom(|attempt| match literal(attempt.url()) {
            Some(address) if is_own(address) => attempt.error(own(&address.to_string())),
            _ if attempt.previous().len() > MOST_REDIRECTS => attempt.error("it leads on without end"),
            _ => attempt.follow(),
        });
        // A proxy of the server's own could reach what must not be reached.
        builder = builder.dns_resolver(Arc::new(Guard)).redirect(follow).no_proxy();
    }
    builder.build().map_err(|e| Fault::from_error(Class::Internal, &e))
}

/// What is at the bottom of an error: that of the client says only that it failed.
fn root_cause<'a>(error: &'a (dyn std::error::Error + 'static)) -> &'a (dyn std::error::Error + 'static) {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause
}

async fn file(home: &Fetcher<'_>, url: &str, checksum: Option<&Digest>) -> Result<Fetched> {
    let parsed = reqwest::Url::parse(url).map_err(|e| Fault::usage(format!("`{url}` is no address: {e}")))?;
    let last = parsed.path_segments().and_then(|mut parts| parts.next_back()).unwrap_or_default();
    let mut name = last.to_owned();
    if let Some(digest) = checksum
        && home.registry.blobs().size(digest).await?.is_some()
    {
        return Ok(Fetched::File { digest: digest.clone(), name });
    }
    let failed = |e: &dyn std::fmt::Display| Fault::new(Class::Unavailable, format!("cannot fetch {url}: {e}"));
    if home.guarded && literal(&parsed).is_some_and(is_own) {
        return Err(Fault::usage(format!("{url}: {}", own(parsed.host_str().unwrap_or_default()))));
    }
    let response = client(home.guarded)?.get(parsed).send().await.map_err(|e| failed(&root_cause(&e)))?;
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
pub async fn git(home: &Fetcher<'_>, url: &str, checksum: Option<&str>, keep_git: bool) -> Result<Checkout> {
    check_out(home, url, checksum, keep_git).await.map_err(|fault| told(url, fault))
}

async fn check_out(home: &Fetcher<'_>, url: &str, checksum: Option<&str>, keep_git: bool) -> Result<Checkout> {
    let (address, reference, directory) = parse(url);
    if home.guarded {
        guard(&address).await?;
    }
    // A name that begins with a dash would be an option.
    if reference.as_deref().is_some_and(|name| name.starts_with('-')) || address.starts_with('-') {
        return Err(Fault::usage(format!("`{url}` is no address of a repository")));
    }
    let run = |directory, arguments| run(directory, arguments, home.guarded);
    let named = reference.clone().unwrap_or_else(|| "HEAD".into());
    let commit = match (named.len() >= 40 && named.bytes().all(|b| b.is_ascii_hexdigit()), named) {
        (true, commit) => commit,
        (false, named) => resolve(&address, &named, home.guarded).await?,
    };
    if let Some(checksum) = checksum
        && !commit.starts_with(&checksum.to_ascii_lowercase())
    {
        return Err(Fault::usage(format!("{url} stands for commit {commit}, and --checksum says {checksum}")));
    }
    let sum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, format!("{address} {keep_git}").as_bytes());
    let name: String = HEXLOWER.encode(&sum.as_ref()[..8]);
    let root = home.checkouts.join(format!("{name}-{commit}"));
    if !root.is_dir() {
        let new = root.with_extension("new");
        let _ = std::fs::remove_dir_all(&new);
        std::fs::create_dir_all(&new).map_err(|e| Fault::from_error(Class::Unavailable, &e))?;
        run(&new, vec!["init", "--quiet"]).await?;
        run(&new, vec!["remote", "add", "origin", &address]).await?;
        // Not every server gives a commit by its id; then all of the reference is fetched.
        if run(&new, vec!["fetch", "--quiet", "--depth=1", "origin", &commit]).await.is_err() {
            let named = reference.as_deref().unwrap_or("HEAD");
            run(&new, vec!["fetch", "--quiet", "origin", named]).await?;
        }
        run(&new, vec!["checkout", "--quiet", "--force", &commit]).await?;
        // What opened the repository stays out of what is made of it.
        run(&new, vec!["remote", "set-url", "origin", &build::shown(&address)]).await?;
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

/// What a server may clone for somebody else.
async fn guard(address: &str) -> Result<()> {
    let refused = |why: &str| Fault::usage(format!("`{address}` cannot be cloned in a pipeline: {why}"));
    let url = reqwest::Url::parse(address).map_err(|_| refused("it is no address over https, http or git"))?;
    if !matches!(url.scheme(), "https" | "http" | "git") {
        return Err(refused("only https, http and git are spoken there, as the server lends nobody its keys"));
    }
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let found = tokio::net::lookup_host((host, 0)).await.map_err(|e| refused(&e.to_string()))?;
    if host.is_empty() || found.map(|address| address.ip()).any(is_own) {
        return Err(refused(&own(host)));
    }
    Ok(())
}

async fn resolve(address: &str, reference: &str, guarded: bool) -> Result<String> {
    let peeled = format!("{reference}^{{}}");
    let listed =
        run(Path::new("/"), vec!["ls-remote", "--exit-code", "--", address, reference, &peeled], guarded).await?;
    let rows: Vec<(&str, &str)> = listed.lines().filter_map(|line| line.split_once('\t')).collect();
    // A tag that is signed stands for what it is of.
    let order =
        [format!("refs/tags/{reference}^{{}}"), format!("refs/heads/{reference}"), format!("refs/tags/{reference}")];
    let best = order.iter().find_map(|name| rows.iter().find(|(_, found)| found == name)).or(rows.first());
    best.map(|(commit, _)| (*commit).to_owned())
        .ok_or_else(|| Fault::not_found(format!("{address} has no reference `{reference}`")))
}

async fn run(directory: &Path, arguments: Vec<&str>, guarded: bool) -> Result<String> {
    let mut command = Command::new("git");
    command.current_dir(directory).args(["-c", "protocol.ext.allow=never", "-c", "advice.detachedHead=false"]);
    if guarded {
        command.args(["-c", "http.followRedirects=false", "-c", "credential.helper=", "-c", "core.askPass="]);
        command.env("GIT_ALLOW_PROTOCOL", "https:http:git").env("GIT_CONFIG_NOSYSTEM", "1").env("HOME", "/nonexistent");
        command
            .env_remove("GIT_ASKPASS")
            .env_remove("SSH_AUTH_SOCK")
            .env_remove("http_proxy")
            .env_remove("https_proxy");
    }
    let output = command
        .args(&arguments)
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

    #[tokio::test]
    async fn a_server_does_not_fetch_from_itself() {
        let directory = tempfile::tempdir().unwrap();
        let blobs: Arc<dyn store::Blobs> = Arc::new(store::memory::MemoryBlobs::default());
        let log = Arc::new(store::memory::MemoryLog::default());
        let registry = Registry::new(blobs, log, directory.path().join("uploads"), crate::clock::system());
        let fetcher = Fetcher { registry: &registry, checkouts: directory.path().join("checkouts"), guarded: true };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        for url in [
            format!("http://127.0.0.1:{port}/x"),
            format!("http://[::1]:{port}/x"),
            format!("http://localhost:{port}/x"),
            format!("http://[::ffff:127.0.0.1]:{port}/x"),
            "http://169.254.169.254/latest/meta-data".to_owned(),
            format!("http://0.0.0.0:{port}/x"),
        ] {
            let error = fetch(&fetcher, &Remote::File { url: url.clone(), checksum: None }).await.unwrap_err();
            assert!(error.message.contains("this machine"), "{url}: {}", error.message);
        }
        for url in
            ["ssh://git@127.0.0.1/a", "file:///etc/.git", "/etc/a.git", "http://localhost/a.git", "git@localhost:a"]
        {
            let remote = Remote::Git { url: url.into(), checksum: None, keep_git: false };
            let error = fetch(&fetcher, &remote).await.unwrap_err();
            assert!(error.message.contains("cannot be cloned in a pipeline"), "{url}: {}", error.message);
        }
        let heard = tokio::time::timeout(std::time::Duration::from_millis(50), listener.accept()).await;
        assert!(heard.is_err(), "nobody connects");
    }

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
