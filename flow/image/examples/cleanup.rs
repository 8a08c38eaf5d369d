//! How long a clean-up takes, and how much memory, while others push: `cleanup DIRECTORY BLOBS`.
//!
//! Half of the blobs are named by manifests, a quarter only held by repositories, a quarter held by nobody. They are made as files without
//! a sync each, which is what makes a million of them possible; everything after that is the registry as it is.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt, TryStreamExt};
use image::{
    Registry,
    hash::{Algorithm, digest},
    registry::cleanup::Cleanup,
};
use records::Digest;
use store::{DirectoryBlobs, LeasedBlobs, SqliteLog};

type Error = Box<dyn std::error::Error + Send + Sync>;

/// Blobs that a manifest names, and manifests of a repository.
const NAMED: usize = 50;
const MANIFESTS: usize = 50;

async fn open(directory: &Path, ago: Duration) -> Result<(Registry, Arc<SqliteLog>), Error> {
    #[allow(clippy::disallowed_methods, reason = "this is the program that has a clock")]
    let clock: image::Clock = Arc::new(move || records::Timestamp::now() - ago);
    let log = Arc::new(SqliteLog::open(directory.join("records.db")).await?);
    let blobs = Arc::new(DirectoryBlobs::open(directory.join("blobs")).await?);
    let blobs = Arc::new(LeasedBlobs::new(blobs, clock.clone()));
    Ok((Registry::new(blobs, log.clone(), directory.join("uploads"), clock), log))
}

fn content(number: usize) -> Vec<u8> {
    format!("blob {number}\n").into_bytes()
}

/// Half are named, in repositories of so many manifests of so many blobs; a quarter is held.
async fn generate(directory: &Path, count: usize) -> Result<(), Error> {
    let (registry, log) = open(directory, Duration::from_secs(30 * 24 * 3600)).await?;
    let place = directory.join("blobs/sha256");
    let digests: Vec<Digest> = (0..count).map(|number| digest(Algorithm::Sha256, &content(number))).collect();
    for (number, digest) in digests.iter().enumerate() {
        std::fs::write(place.join(digest.hex()), content(number))?;
    }
    eprintln!("{count} files");
    let each = NAMED * MANIFESTS;
    let links = (0..count / 4 * 3).map(|number| {
        let (registry, digest) = (&registry, &digests[number]);
        async move { registry.link_blob(&format!("bench/r{}", number / each), digest).await }
    });
    futures::stream::iter(links).buffer_unordered(200).try_collect::<()>().await?;
    eprintln!("{} held", count / 4 * 3);
    let manifests = (0..count / 2 / NAMED).map(|number| {
        let (registry, digests) = (&registry, &digests);
        async move {
            let named: Vec<_> = (number * NAMED..(number + 1) * NAMED)
                .map(|blob| {
                    serde_json::json!({
                        "mediaType": image::media::OCI_LAYER, "digest": digests[blob], "size": content(blob).len(),
                    })
                })
                .collect();
            let manifest = serde_json::json!({
                "schemaVersion": 2, "mediaType": image::media::OCI_MANIFEST, "config": named[0], "layers": named[1..],
            });
            let repository = format!("bench/r{}", number / MANIFESTS);
            registry.put_manifest(&repository, &[&format!("t{number}")], None, "", manifest.to_string()).await
        }
    });
    let made = futures::stream::iter(manifests).buffer_unordered(50).try_fold(0, async |n, _| Ok(n + 1)).await?;
    eprintln!("{made} manifests");
    log.close().await?;
    Ok(())
}

/// Pushes small images until it is told to end; every one is read back.
async fn push(registry: &Registry, name: &str, end: &AtomicBool, pushed: &AtomicU64) -> Result<(), Error> {
    let mut number = 0;
    while !end.load(Ordering::Relaxed) {
        number += 1;
        let config = registry.put_blob(name, format!("{{\"n\":\"{name} {number}\"}}")).await?;
        let layer = registry.put_blob(name, format!("layer {name} {number}")).await?;
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": image::media::OCI_MANIFEST,
            "config": { "mediaType": image::media::OCI_CONFIG, "digest": config.digest, "size": config.size },
            "layers": [{ "mediaType": image::media::OCI_LAYER, "digest": layer.digest, "size": layer.size }],
        });
        registry.put_manifest(name, &["latest"], None, "", manifest.to_string()).await?;
        registry.read_blob(name, &layer.digest, 0, None).await?;
        pushed.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or_default() / 1024
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [directory, count] = &arguments[..] else { return Err("cleanup DIRECTORY BLOBS".into()) };
    let (directory, count) = (Path::new(directory), count.parse::<usize>()?);
    if !directory.join("records.db").exists() {
        std::fs::create_dir_all(directory)?;
        generate(directory, count).await?;
        eprintln!("made; start it again to measure the clean-up alone");
        return Ok(());
    }
    let (registry, log) = open(directory, Duration::ZERO).await?;
    eprintln!("open, {} MiB", peak());
    let (end, pushed) = (AtomicBool::new(false), AtomicU64::new(0));
    let cleanup = Cleanup {
        dry_run: false,
        grace: Duration::from_secs(24 * 3600),
        lease: Duration::ZERO,
        retention: &|_| None,
        speaking: &[],
        in_use: &Default::default(),
    };
    #[allow(clippy::disallowed_methods, reason = "this measures")]
    let begun = std::time::Instant::now();
    let clean = async {
        #[allow(clippy::disallowed_methods, reason = "this is the program that has a clock")]
        let report = registry.clean_up(&cleanup, records::Timestamp::now()).await;
        end.store(true, Ordering::Relaxed);
        report
    };
    let names: Vec<String> = (0..4).map(|n| format!("push/p{n}")).collect();
    let pushes = futures::future::try_join_all(names.iter().map(|name| push(&registry, name, &end, &pushed)));
    let (report, pushes) = futures::future::join(clean, pushes).await;
    let seconds = begun.elapsed().as_secs_f64();
    pushes?;
    let report = report?;
    println!(
        "{} blobs, {} repositories: {} links and {} blobs went, {} waited, {} failed in {seconds:.1} s, peak {} MiB; {} images pushed meanwhile, none failed",
        report.stored,
        report.repositories,
        report.links,
        report.blobs,
        report.waiting,
        report.failed,
        peak(),
        pushed.into_inner()
    );
    log.close().await?;
    Ok(())
}
