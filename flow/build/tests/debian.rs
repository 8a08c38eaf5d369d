//! Base images from the real Debian archive. Skipped, loudly, where no mirror can be reached.

mod support;

use std::{sync::Arc, time::Duration};

use build::base::{self, Archive, ArchiveOptions, Lock, Progress, Refresh};
use image::{layout, registry::ManifestRef};

/// The mirror of this environment, if one answers.
async fn mirror() -> Option<String> {
    let mirror = std::env::var("SHIPWAY_DEBIAN_MIRROR").unwrap_or_else(|_| base::archive::DEFAULT_MIRROR.into());
    let client = reqwest::Client::builder().timeout(Duration::from_secs(10)).build().unwrap();
    match client.head(format!("{mirror}/dists/trixie/InRelease")).send().await {
        Ok(answer) if answer.status().is_success() => Some(mirror),
        Ok(answer) => {
            eprintln!("SKIPPED: the mirror {mirror} answered {}", answer.status());
            None
        }
        Err(error) => {
            eprintln!("SKIPPED: the mirror {mirror} cannot be reached: {error}");
            None
        }
    }
}

fn archive(mirror: &str, cache: &std::path::Path, refresh: Refresh) -> Archive {
    let options = ArchiveOptions::debian(cache).unwrap().with_mirror(mirror, None);
    Archive::open(ArchiveOptions { refresh, ..options }).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn real_packages_give_the_same_digest_twice() {
    let Some(mirror) = mirror().await else { return };
    let now = support::now();
    let (one, two) = (support::Store::new(), support::Store::new());
    let first = archive(&mirror, &one.dir.path().join("cache"), Refresh::After(Duration::ZERO));
    let mut lock: Option<Lock> = None;
    for name in ["runtime", "node-runtime"] {
        let definition = base::builtin(name).unwrap();
        let image = base::assemble(&definition, &first, &one.registry, now, Arc::new(|_| {})).await.unwrap();
        // Another directory, another registry, and only the snapshot named.
        lock.get_or_insert_with(|| image.lock.clone());
        let second = archive(&mirror, &two.dir.path().join("cache"), Refresh::Pinned(lock.clone().unwrap()));
        let again = base::assemble(&definition, &second, &two.registry, now, Arc::new(|_| {})).await.unwrap();
        assert_eq!(again, image, "{name} is not reproducible");
        let names: Vec<&str> = image.packages.iter().map(|package| package.name.as_str()).collect();
        assert!(names.contains(&"libc6") && !names.contains(&"dpkg") && !names.contains(&"dash"), "{names:?}");

        // Cached and without a network it is the same again, and nothing is unpacked for an image that is there.
        let offline = archive(&mirror, &one.dir.path().join("cache"), Refresh::Offline);
        let silent: base::OnProgress = Arc::new(|progress: Progress| panic!("{progress:?}"));
        assert_eq!(
            base::assemble(&definition, &offline, &one.registry, now, silent).await.unwrap().digest,
            image.digest
        );
    }
}

/// For people: `cargo test -p build --test debian -- --ignored --nocapture` leaves OCI layouts in `$SHIPWAY_KEEP`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "assembles every built-in image and keeps it for a look by hand"]
async fn every_builtin_is_assembled() {
    let Some(mirror) = mirror().await else { return };
    let keep = std::path::PathBuf::from(std::env::var("SHIPWAY_KEEP").expect("SHIPWAY_KEEP names a directory"));
    let store = support::Store::new();
    let archive = archive(&mirror, &keep.join("cache"), Refresh::After(Duration::from_secs(3600)));
    for name in base::NAMES {
        let start = tokio::time::Instant::now();
        let marks = Arc::new(std::sync::Mutex::new(Vec::new()));
        let seen = marks.clone();
        let progress: base::OnProgress = Arc::new(move |progress| {
            let kept = !matches!(progress, Progress::Unpacked { packages, of } if packages < of);
            if kept && !matches!(progress, Progress::Fetched { .. }) {
                seen.lock().unwrap().push(format!("{:?} {progress:?}", start.elapsed()));
            }
        });
        let image = base::assemble(&base::builtin(name).unwrap(), &archive, &store.registry, support::now(), progress)
            .await
            .unwrap();
        println!("{name}: {} packages, {} bytes, {:?}", image.packages.len(), image.size, start.elapsed());
        marks.lock().unwrap().iter().for_each(|mark| println!("  {mark}"));
        println!("  {}", image.packages.iter().map(|p| p.name.as_str()).collect::<Vec<_>>().join(" "));
        let references = [ManifestRef::Tag("trixie".into())];
        layout::save_directory(&store.registry, &image.repository, &references, &keep.join(name)).await.unwrap();
    }
}
