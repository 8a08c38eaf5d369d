//! What kustomizations name that is elsewhere: files by HTTP, repositories by git. Only used when it is allowed, and bounded
//! in size and time.

use std::{cell::RefCell, collections::HashMap, path::Path, process::Stdio, sync::Arc, time::Duration};

use futures::StreamExt;
use kustomize::{Address, Files, Remote};
use tokio::runtime::Handle;

use super::disk::Rooted;

/// Bytes of a file at most.
const LARGEST_FILE: usize = 64 << 20;
/// Bytes of a repository at most, checked out.
const LARGEST_REPOSITORY: u64 = 1 << 30;
/// Seconds that fetching may take, whatever the address says.
const LONGEST: u64 = 600;

/// Fetches, each repository once.
pub struct Fetched {
    runtime: Handle,
    repositories: RefCell<HashMap<(String, String, bool), Arc<tempfile::TempDir>>>,
}

impl Fetched {
    pub fn new(runtime: Handle) -> Self {
        Self { runtime, repositories: RefCell::default() }
    }

    /// A repository, checked out at a branch, tag or commit.
    pub fn checkout(&self, address: &Address) -> Result<Arc<tempfile::TempDir>, String> {
        let key = (address.repository.clone(), address.reference.clone(), address.submodules);
        if let Some(known) = self.repositories.borrow().get(&key) {
            return Ok(known.clone());
        }
        if address.repository.starts_with("file://") {
            return Err(format!(
                "{}: repositories on this machine are not fetched: name the directory itself",
                address.repository
            ));
        }
        if address.repository.starts_with('-') || address.reference.starts_with('-') {
            return Err(format!("{} at {}: neither may begin with a dash", address.repository, address.reference));
        }
        let directory = tempfile::Builder::new().prefix("shipway-remote-").tempdir();
        let directory = Arc::new(directory.map_err(|error| format!("cannot make a directory: {error}"))?);
        self.runtime.block_on(clone(address, directory.path()))?;
        self.repositories.borrow_mut().insert(key, directory.clone());
        Ok(directory)
    }
}

impl Remote for Fetched {
    fn text(&self, address: &str) -> Result<String, String> {
        self.runtime.block_on(get(address))
    }

    fn repository(&self, address: &str) -> Result<(Box<dyn Files>, String), String> {
        let parsed = Address::parse(address).map_err(|problem| format!("{address}: {problem}"))?;
        let directory = self.checkout(&parsed)?;
        let files = Rooted::new(directory).map_err(|error| format!("{address}: {error}"))?;
        Ok((Box::new(files), kustomize::path::clean(&format!("/{}", parsed.path))))
    }
}

/// A file by HTTP.
async fn get(address: &str) -> Result<String, String> {
    let failed = |error: &dyn std::fmt::Display| format!("cannot fetch {address}: {error}");
    let client = reqwest::Client::builder()
        .user_agent(concat!("shipway/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(Duration::from_secs(15))
        .timeout(Duration::from_secs(60))
        .redirect(reqwest::redirect::Policy::limited(5))
        .build()
        .map_err(|error| failed(&error))?;
    let answer = client.get(address).send().await.map_err(|error| failed(&error.without_url()))?;
    if !answer.status().is_success() {
        return Err(failed(&answer.status()));
    }
    let mut content = Vec::new();
    let mut stream = answer.bytes_stream();
    while let Some(piece) = stream.next().await {
        content.extend_from_slice(&piece.map_err(|error| failed(&error.without_url()))?);
        if content.len() > LARGEST_FILE {
            return Err(failed(&format!("it is larger than {LARGEST_FILE} bytes")));
        }
    }
    String::from_utf8(content).map_err(|_| failed(&"it is not text in UTF-8"))
}

/// Fetches one commit, without history.
async fn clone(address: &Address, into: &Path) -> Result<(), String> {
    let limit = Duration::from_secs(address.timeout.min(LONGEST));
    let reference = if address.reference.is_empty() { "HEAD" } else { &address.reference };
    let work = async {
        git(into, &["init", "--quiet"]).await?;
        git(into, &["fetch", "--quiet", "--depth=1", "--no-tags", "--", &address.repository, reference]).await?;
        git(into, &["checkout", "--quiet", "--detach", "FETCH_HEAD"]).await?;
        if address.submodules && into.join(".gitmodules").is_file() {
            git(into, &["submodule", "--quiet", "update", "--init", "--recursive", "--depth=1"]).await?;
        }
        Ok(())
    };
    let watch = async {
        loop {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let directory = into.to_owned();
            let size = tokio::task::spawn_blocking(move || size(&directory, 0)).await.unwrap_or(0);
            if size > LARGEST_REPOSITORY {
                return format!("it is larger than {LARGEST_REPOSITORY} bytes");
            }
        }
    };
    let failed = |problem: String| format!("cannot fetch {} at {reference}: {problem}", address.repository);
    tokio::select! {
        done = work => done.map_err(failed),
        problem = watch => Err(failed(problem)),
        () = tokio::time::sleep(limit) => Err(failed(format!("it took longer than {} s; `?timeout=` in the address gives it more", limit.as_secs()))),
    }
}

/// Runs git so that nothing it reads makes it run or ask anything, and only these ways lead out.
async fn git(directory: &Path, arguments: &[&str]) -> Result<(), String> {
    let output = tokio::process::Command::new("git")
        .args(["-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "advice.detachedHead=false"])
        .args(arguments)
        .current_dir(directory)
        .env("GIT_ALLOW_PROTOCOL", "https:http:ssh")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_LFS_SKIP_SMUDGE", "1")
        .env_remove("GIT_DIR")
        .env_remove("GIT_WORK_TREE")
        .env_remove("GIT_INDEX_FILE")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| format!("cannot run git: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("git failed").trim().to_owned();
    Err(said.chars().take(300).collect())
}

/// Bytes below a directory, links not followed.
fn size(directory: &Path, depth: usize) -> u64 {
    let Ok(entries) = std::fs::read_dir(directory) else { return 0 };
    let entries =
        entries.filter_map(|entry| entry.ok()).filter_map(|entry| Some((entry.path(), entry.metadata().ok()?)));
    let below =
        entries.map(|(path, data)| if data.is_dir() && depth < 64 { size(&path, depth + 1) } else { data.len() });
    below.sum()
}
