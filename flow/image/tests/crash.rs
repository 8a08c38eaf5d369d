//! What a client was told is stored is there after `kill -9`, and nothing is half there.

mod support;

use std::{path::Path, process::Stdio, sync::Arc, time::Duration};

use futures::future::join_all;
use image::{
    Algorithm, hash, media,
    registry::{Limits, http::AllowAll},
};
use reqwest::Client;
use serde_json::{Value, json};
use support::{Stores, clock, open, serve_registry};
use tempfile::TempDir;
use tokio::process::{Child, Command};

const HOME: &str = "SHIPWAY_TEST_CRASH_HOME";
const KILLS: u64 = 12;

fn sha256(content: &[u8]) -> String {
    hash::digest(Algorithm::Sha256, content).to_string()
}

/// Not a test of its own: the process that is killed.
#[tokio::test(flavor = "multi_thread")]
async fn victim() {
    let Some(home) = std::env::var_os(HOME) else { return };
    let home = Path::new(&home);
    let registry = open(Stores::Disk, home, Limits::default(), clock()).await;
    let served = serve_registry(registry, Arc::new(AllowAll), TempDir::new_in(home).unwrap()).await;
    std::fs::write(home.join("host.new"), &served.host).unwrap();
    std::fs::rename(home.join("host.new"), home.join("host")).unwrap();
    std::future::pending::<()>().await;
}

async fn start(home: &Path) -> (Child, String) {
    let _ = std::fs::remove_file(home.join("host"));
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "victim", "--nocapture"])
        .env(HOME, home)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    for _ in 0..6000 {
        if let Ok(host) = std::fs::read_to_string(home.join("host")) {
            return (child, host);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the registry did not start");
}

/// Pushes images one after the other until the registry goes away; tells of each that was acknowledged.
async fn push_on(http: &Client, host: &str, round: u64, known: &mut Vec<(String, String)>) -> reqwest::Result<()> {
    for n in 0.. {
        let layer = format!("layer {round} {n}").repeat(5000);
        let mut digests = Vec::new();
        for content in ["{}", &layer] {
            let begun = http.post(format!("http://{host}/v2/a/blobs/uploads/")).send().await?;
            let place = begun.headers()["location"].to_str().unwrap().to_owned();
            // In two parts, or at once, which takes another way to the disk.
            let half = if n % 2 == 0 { content.len() / 2 } else { 0 };
            if half > 0 {
                http.patch(format!("http://{host}{place}")).body(content[..half].to_owned()).send().await?;
            }
            let digest = sha256(content.as_bytes());
            let url = format!("http://{host}{place}?digest={digest}");
            let done = http.put(url).body(content[half..].to_owned()).send().await?;
            assert_eq!(done.status(), 201);
            digests.push(digest);
        }
        let manifest = json!({
            "schemaVersion": 2, "mediaType": media::OCI_MANIFEST,
            "config": { "mediaType": media::OCI_CONFIG, "digest": digests[0], "size": 2 },
            "layers": [{ "mediaType": media::OCI_LAYER, "digest": digests[1], "size": layer.len() }],
        })
        .to_string();
        let tag = format!("t-{round}-{n}");
        let url = format!("http://{host}/v2/a/manifests/{tag}");
        let request = http.put(url).header("content-type", media::OCI_MANIFEST).body(manifest.clone());
        assert_eq!(request.send().await?.status(), 201);
        known.push((tag, sha256(manifest.as_bytes())));
    }
    Ok(())
}

/// Every tag leads to a whole image.
async fn check(http: &Client, host: &str, known: &[(String, String)]) {
    let list: Value = http.get(format!("http://{host}/v2/a/tags/list")).send().await.unwrap().json().await.unwrap();
    let tags: Vec<&str> =
        list["tags"].as_array().map(|tags| tags.iter().filter_map(Value::as_str).collect()).unwrap_or_default();
    for (tag, digest) in known {
        assert!(tags.contains(&tag.as_str()), "tag {tag} was acknowledged and is lost");
        let response = http.get(format!("http://{host}/v2/a/manifests/{tag}")).send().await.unwrap();
        assert_eq!(response.headers()["docker-content-digest"], digest.as_str());
    }
    for tag in tags {
        let response = http.get(format!("http://{host}/v2/a/manifests/{tag}")).send().await.unwrap();
        assert_eq!(response.status(), 200, "{tag}");
        let digest = response.headers()["docker-content-digest"].to_str().unwrap().to_owned();
        let manifest = response.bytes().await.unwrap();
        assert_eq!(sha256(&manifest), digest);
        let manifest: Value = serde_json::from_slice(&manifest).unwrap();
        let layer = manifest["layers"][0]["digest"].as_str().unwrap();
        let content = http.get(format!("http://{host}/v2/a/blobs/{layer}")).send().await.unwrap();
        assert_eq!(sha256(&content.bytes().await.unwrap()), layer);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_a_kill() {
    let home = TempDir::new().unwrap();
    // The process's id is as good a seed as any, and it is printed.
    let seed = u64::from(std::process::id());
    eprintln!("seed {seed}");
    let http = Client::new();
    let mut known = Vec::new();
    // Where the machine is busy with other things, a push may need longer than a registry lives.
    for round in 0..10 * KILLS {
        if round >= KILLS && !known.is_empty() {
            break;
        }
        let (mut child, host) = start(home.path()).await;
        check(&http, &host, &known).await;
        let random = seed.wrapping_mul(6_364_136_223_846_793_005);
        let random = random.wrapping_add(round.wrapping_mul(1_442_695_040_888_963_407)) >> 33;
        let life = 5 + random % 120 + 100 * round.saturating_sub(KILLS);
        // Several at the same time: their records share a commit, their names a sync.
        let mut fresh: [Vec<_>; 3] = Default::default();
        let numbered = (3 * round..).zip(&mut fresh);
        let pushing = join_all(numbered.map(|(number, known)| push_on(&http, &host, number, known)));
        let killing = async {
            tokio::time::sleep(Duration::from_millis(life)).await;
            child.kill().await.unwrap();
        };
        let (pushed, ()) = tokio::join!(pushing, killing);
        assert!(pushed.iter().all(Result::is_err), "the registry was killed");
        known.extend(fresh.into_iter().flatten());
    }
    let (mut child, host) = start(home.path()).await;
    check(&http, &host, &known).await;
    eprintln!("{} images were acknowledged over {KILLS} kills", known.len());
    assert!(!known.is_empty());
    child.kill().await.unwrap();
}
