//! What the registries are asked to do.

use std::{
    fmt,
    sync::atomic::{AtomicUsize, Ordering},
    time::SystemTime,
};

use anyhow::{Context, Result, ensure};

use super::{super::http::Connection, peers::Peer};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const REPOSITORY: &str = "bench/app";
/// Blobs that are there before pushes and pulls are mixed.
const THERE: usize = 40;

#[derive(Debug, Clone, Copy)]
pub enum Load {
    /// So many blobs of so many MB pushed, then pulled; MB a second.
    Blobs { size: usize, count: usize },
    /// So many manifests pushed with a tag each, then pulled by it; manifests a second.
    Manifests { count: usize },
    /// Blobs of 1 MB, three pulls for a push; requests a second, all of them under `pull`.
    Mixed { count: usize },
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blobs { size, .. } => write!(f, "{size} MB"),
            Self::Manifests { .. } => f.write_str("manifests"),
            Self::Mixed { .. } => f.write_str("mixed 1 MB"),
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub struct Figure {
    pub push: Option<f64>,
    pub pull: f64,
    /// Seconds of processor time of the registry.
    pub cpu: f64,
    /// MiB.
    pub peak: f64,
}

pub fn measure(load: Load, peer: &Peer, connections: usize, seed: u64) -> Result<Figure> {
    let (content, count) = match load {
        Load::Blobs { size, count } => (Blobs::new(size * 1_000_000, count, seed), count),
        Load::Manifests { count } => (Blobs::new(1000, 1, seed), count),
        Load::Mixed { count } => (Blobs::new(1_000_000, THERE + count.div_ceil(4), seed), count),
    };
    let (push, pull);
    let before;
    match load {
        Load::Blobs { size, .. } => {
            before = peer.cpu()?;
            let megabytes = (size * count) as f64;
            let work = |connection: &mut Connection, number| content.push(peer, connection, number);
            push = Some(megabytes / together(peer, connections, count, work)?);
            let work = |connection: &mut Connection, number| content.pull(connection, number);
            pull = megabytes / together(peer, connections, count, work)?;
        }
        Load::Manifests { .. } => {
            content.push(peer, &mut peer.connect()?, 0)?;
            before = peer.cpu()?;
            let work = |connection: &mut Connection, number| {
                let manifest = content.manifest(number);
                let path = format!("/v2/{REPOSITORY}/manifests/t{number}");
                let done = connection.send_as(MANIFEST, "PUT", &path, &[manifest.as_bytes()], |_| {})?;
                ensure!(done.status == 201, "a manifest was answered with {}", done.status);
                Ok(())
            };
            push = Some(count as f64 / together(peer, connections, count, work)?);
            let work = |connection: &mut Connection, number| {
                let got = connection.send("GET", &format!("/v2/{REPOSITORY}/manifests/t{number}"), &[], |_| {})?;
                ensure!(got.status == 200, "a pull was answered with {}", got.status);
                Ok(())
            };
            pull = count as f64 / together(peer, connections, count, work)?;
        }
        Load::Mixed { .. } => {
            let work = |connection: &mut Connection, number| content.push(peer, connection, number);
            together(peer, connections, THERE, work)?;
            before = peer.cpu()?;
            let work = |connection: &mut Connection, number: usize| match number % 4 {
                0 => content.push(peer, connection, THERE + number / 4),
                _ => content.pull(connection, (number * 7) % THERE),
            };
            push = None;
            pull = count as f64 / together(peer, connections, count, work)?;
        }
    }
    Ok(Figure { push, pull, cpu: peer.cpu()? - before, peak: peer.peak()? })
}

/// Content that nobody has: the number makes it another one.
struct Blobs {
    content: Vec<u8>,
    digests: Vec<String>,
}

impl Blobs {
    fn new(size: usize, count: usize, seed: u64) -> Self {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut content = vec![0u8; size];
        for chunk in content.chunks_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let length = chunk.len();
            chunk.copy_from_slice(&state.to_le_bytes()[..length]);
        }
        let mut blobs = Self { content, digests: Vec::new() };
        for number in 0..count {
            let mut sum = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
            sum.update(&(number as u64).to_le_bytes());
            sum.update(&blobs.content[8..]);
            let hex: String = sum.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
            blobs.digests.push(format!("sha256:{hex}"));
        }
        blobs
    }

    fn push(&self, peer: &Peer, connection: &mut Connection, number: usize) -> Result<()> {
        let begun = connection.send("POST", &format!("/v2/{REPOSITORY}/blobs/uploads/"), &[], |_| {})?;
        ensure!(begun.status == 202, "an upload was answered with {}", begun.status);
        let place = peer.path(begun.header("location").context("an upload has a place")?);
        let path = format!("{place}{}digest={}", if place.contains('?') { '&' } else { '?' }, self.digests[number]);
        let head = (number as u64).to_le_bytes();
        let done = connection.send("PUT", &path, &[&head, &self.content[8..]], |_| {})?;
        ensure!(done.status == 201, "a blob was answered with {}", done.status);
        Ok(())
    }

    fn pull(&self, connection: &mut Connection, number: usize) -> Result<()> {
        let mut read = 0;
        let path = format!("/v2/{REPOSITORY}/blobs/{}", self.digests[number]);
        let got = connection.send("GET", &path, &[], |bytes| read += bytes.len())?;
        ensure!(
            got.status == 200 && read == self.content.len(),
            "a pull was answered with {} and {read} bytes",
            got.status
        );
        Ok(())
    }

    fn manifest(&self, number: usize) -> String {
        let (digest, size) = (&self.digests[0], self.content.len());
        format!(
            r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{digest}","size":{size}}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{digest}","size":{size}}}],"annotations":{{"number":"{number}"}}}}"#
        )
    }
}

/// Does `work` for every number, on so many connections; the seconds that it took.
fn together(
    peer: &Peer,
    connections: usize,
    count: usize,
    work: impl Fn(&mut Connection, usize) -> Result<()> + Sync,
) -> Result<f64> {
    let next = AtomicUsize::new(0);
    let opened: Result<Vec<Connection>> = (0..connections).map(|_| peer.connect()).collect();
    let opened = opened?;
    #[allow(clippy::disallowed_methods, reason = "this measures")]
    let begun = SystemTime::now();
    std::thread::scope(|scope| {
        let threads: Vec<_> = opened
            .into_iter()
            .map(|mut connection| {
                let (next, work) = (&next, &work);
                scope.spawn(move || -> Result<()> {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= count {
                            return Ok(());
                        }
                        work(&mut connection, number).with_context(|| peer.kind.name())?;
                    }
                })
            })
            .collect();
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| anyhow::anyhow!("a client panicked"))?)
    })?;
    Ok(begun.elapsed()?.as_secs_f64())
}
