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
    let offline = ["--key", key, "--insecure-ignore-tlog", "--allow-insecure-registry", "--allow-http-registry"];
    let run = async |command: &[&str], image: &str| {
        let arguments: Vec<&str> = command.iter().chain(&offline).copied().chain([image]).collect();
        let output = cosign(&arguments).await.unwrap();
        let text = format!("{}{}", String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
        eprintln!("cosign {arguments:?}: {}", output.status);
        (output.status.success(), text)
    };
    let mut commands: Vec<Vec<&str>> = vec![vec!["verify"]];
    for kind in ["cyclonedx", "vuln", "slsaprovenance1"] {
        commands.push(vec!["verify-attestation", "--type", kind]);
    }
    // Both ways of storing: tags, and Sigstore bundles as referrers. Older clients know only the first.
    for format in ["--new-bundle-format=false", "--new-bundle-format=true"] {
        for command in &commands {
            let mut command = command.clone();
            command.push(format);
            let (held, text) = run(&command, &good).await;
            assert!(held, "{version}\n{command:?}\n{}", text.chars().take(3000).collect::<String>());
            let (held, _) = run(&command, &bad).await;
            assert!(!held, "{command:?} held for an image without evidence");
        }
    }
    server.abort();
}
