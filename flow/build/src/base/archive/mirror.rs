//! Fetching files of a mirror: bounded in size and time, tried again when the network fails.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use data_encoding::HEXLOWER;
use futures::{FutureExt, future::BoxFuture};

use super::cache::Cache;
use crate::{Error, Result};

/// How often a request is made, and how long is waited before it is made again.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(500);
/// A connection that sends nothing for so long is given up.
const STALL: Duration = Duration::from_secs(30);
const CONNECT: Duration = Duration::from_secs(10);

/// Speaks HTTP to mirrors.
#[derive(Debug, Clone, Default)]
pub struct Mirrors {
    /// Made when it is first needed: it reads all certificates that this machine trusts.
    client: Arc<OnceLock<reqwest::Client>>,
}

/// Why a request gave nothing.
enum Failure {
    /// It may work when it is tried again.
    Passing(Error),
    Final(Error),
}

impl Mirrors {
    fn client(&self) -> Result<&reqwest::Client> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let client = reqwest::Client::builder()
            .user_agent(concat!("shipway/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT)
            .read_timeout(STALL)
            .build()
            .map_err(|e| failed("the mirror", "no HTTP client could be made", e))?;
        Ok(self.client.get_or_init(|| client))
    }

    /// A small document, at most `limit` bytes.
    pub async fn get(&self, url: &str, limit: u64) -> Result<Vec<u8>> {
        self.retry(|| {
            async move {
                let mut response = self.request(url).await?;
                let mut content = Vec::new();
                while let Some(chunk) = next(&mut response, url).await? {
                    content.extend_from_slice(&chunk);
                    if content.len() as u64 > limit {
                        return Err(Failure::Final(too_large(url, limit)));
                    }
                }
                Ok(content)
            }
            .boxed()
        })
        .await
    }

    /// A file of known size and digest, into the cache. `progress` is told bytes as they come.
    pub async fn fetch(
        &self,
        cache: &Cache,
        url: &str,
        sha256: &str,
        size: u64,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<()> {
        self.retry(|| {
            async move {
                use std::io::Write;
                let mut response = self.request(url).await?;
                let mut file = cache.temporary().map_err(Failure::Final)?;
                let mut hasher = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
                let mut read = 0u64;
                while let Some(chunk) = next(&mut response, url).await? {
                    read += chunk.len() as u64;
                    if read > size {
                        return Err(Failure::Final(altered(url, &format!("{size} bytes"), "more")));
                    }
                    hasher.update(&chunk);
                    // A few hundred kilobytes into the page cache: not worth a thread of its own.
                    let written = file.write_all(&chunk);
                    written.map_err(|e| Failure::Final(Error::io(format!("cannot keep {url}"))(e)))?;
                    progress(chunk.len() as u64);
                }
                if read < size {
                    return Err(Failure::Passing(altered(url, &format!("{size} bytes"), &format!("{read} bytes"))));
                }
                let found = HEXLOWER.encode(hasher.finish().as_ref());
                if found != sha256 {
                    return Err(Failure::Final(altered(url, &format!("sha256:{sha256}"), &format!("sha256:{found}"))));
                }
                cache.keep(file, sha256).map(|_| ()).map_err(Failure::Final)
            }
            .boxed()
        })
        .await
    }

    /// `attempt` gives boxed futures: those of an async closure over references are not known to move between threads.
    async fn retry<'a, T>(&self, attempt: impl Fn() -> BoxFuture<'a, Result<T, Failure>>) -> Result<T> {
        let mut tried = 1;
        loop {
            match attempt().await {
                Ok(done) => return Ok(done),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Passing(error)) if tried == ATTEMPTS => return Err(error),
                Err(Failure::Passing(error)) => {
                    tracing::debug!(%error, tried, "the mirror failed; trying again");
                    tokio::time::sleep(PAUSE * tried).await;
                    tried += 1;
                }
            }
        }
    }

    async fn request(&self, url: &str) -> Result<reqwest::Response, Failure> {
        let sent = self.client().map_err(Failure::Final)?.get(url).send().await;
        let response = sent.map_err(|e| {
            let passing = !e.is_builder() && !e.is_redirect();
            let error = failed(url, &causes(&e), e);
            if passing { Failure::Passing(error) } else { Failure::Final(error) }
        })?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let error = Error::Fetch { url: url.to_owned(), reason: format!("the mirror answered {status}"), source: None };
        let passing = status.is_server_error() || status.as_u16() == 429;
        Err(if passing { Failure::Passing(error) } else { Failure::Final(error) })
    }
}

async fn next(response: &mut reqwest::Response, url: &str) -> Result<Option<bytes::Bytes>, Failure> {
    response.chunk().await.map_err(|e| Failure::Passing(failed(url, &causes(&e), e)))
}

/// The whole chain in one line: the outermost cause alone says nothing.
fn causes(error: &reqwest::Error) -> String {
    // The address is named by who says this.
    let mut text = match error.url() {
        Some(url) => error.to_string().replace(&format!(" for url ({url})"), ""),
        None => error.to_string(),
    };
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let part = cause.to_string();
        if !text.contains(&part) {
            text = format!("{text}: {part}");
        }
        source = cause.source();
    }
    text
}

fn failed(url: &str, reason: &str, source: reqwest::Error) -> Error {
    Error::Fetch { url: url.to_owned(), reason: reason.to_owned(), source: Some(Arc::new(source)) }
}

fn too_large(url: &str, limit: u64) -> Error {
    Error::Fetch { url: url.to_owned(), reason: format!("has more than {limit} bytes"), source: None }
}

fn altered(url: &str, expected: &str, found: &str) -> Error {
    Error::Altered { what: url.to_owned(), expected: expected.to_owned(), found: found.to_owned() }
}
