//! What is attached, read by cosign itself. Runs when `cosign` is on PATH (2.x or 3.x), else says so.

mod support;

use std::{process::Output, sync::Arc};

use evidence::Vex;
use image::registry::http::{AllowAll, router};
use support::{REPOSITORY, World, example, facts, now};
use tokio::{net::TcpListener, process::Command};

async fn cosign(arguments: &[&str]) -> Option<Output> {
    let home = tempfile::tempdir().unwrap();
    let mut command = Command::new("cosign");
    command.args(arguments).env("HOME", home.path()).env("TUF_ROOT", home.path()).kill_on_drop(true);
    match command.output().await {
        Ok(output) => Some(output),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => panic!("cosign cannot be run: {error}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cosign_verifies_signature_and_attestations() {
    let Some(version) = cosign(&["version", "--json"]).await else {
        eprintln!("SKIPPED: cosign is not on PATH");
        return;
    };
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    let world = World::new().await;
    let image = world.image(&[("left-pad", "1.3.0")]).await;
    let unsigned = world.image(&[("left-pad", "1.2.0")]).await;
    world.maker().make(REPOSITORY, &image, &facts(1), &*example().await, &Vex::default(), now()).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap();
    let app = router(world.registry.clone(), Arc::new(AllowAll));
    let server = tokio::spawn(async move { axum::serve(listener, app).await });

    let key = world.dir.path().join("signing.key.pub");
    let key = key.to_str().unwrap();
    let good = format!("{host}/{REPOSITORY}@{image}");
    let bad = format!("{host}/{REPOSITORY}@{unsigned}");
    // Version 2 wants a trusted root as soon as there are bundles, even where a key is given; an empty one will do.
    let root = world.dir.path().join("trusted_root.json");
    std::fs::write(&root, r#"{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}"#).unwrap();
    let root = format!("--trusted-root={}", root.display());
    let offline = ["--key", key, "--insecure-ignore-tlog", "--allow-insecure-registry", "--allow-http-registry"];
    let run = async |command: &[&str], image: &str| {
        let arguments: Vec<&str> = command.iter().chain(&offline).copied().chain([image]).collect();
        let output = cosign(&arguments).await.unwrap();
        let text = format!("{}{}", String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
        (output.status.success(), text)
    };
    let mut commands: Vec<Vec<&str>> = vec![vec!["verify"]];
    for kind in ["cyclonedx", "vuln", "slsaprovenance1"] {
        commands.push(vec!["verify-attestation", "--type", kind]);
    }
    // Both ways of storing: tags, which older clients know, and Sigstore bundles as referrers. A client that finds no bundle falls back
    // to the tags, so these are gone when it is the bundles' turn.
    for format in ["--new-bundle-format=false", "--new-bundle-format=true"] {
        if format.ends_with("true") {
            for ending in ["sig", "att"] {
                let tag = evidence::sign::simple::tag(&image, ending).parse().unwrap();
                let (tagged, ..) = world.registry.find_manifest(REPOSITORY, &tag).await.unwrap();
                world.registry.delete_manifest(REPOSITORY, &tagged).await.unwrap();
            }
        }
        for command in &commands {
            let mut command = command.clone();
            command.push(format);
            if version.contains("\"v2.") {
                command.push(&root);
            }
            let (held, text) = run(&command, &good).await;
            assert!(held, "{version}\n{command:?}\n{}", text.chars().take(3000).collect::<String>());
            let (held, _) = run(&command, &bad).await;
            assert!(!held, "{command:?} held for an image without evidence");
        }
    }
    server.abort();
}
