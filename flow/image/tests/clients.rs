//! The tools that people use, untouched: `skopeo` and `podman`.

mod support;

use std::{path::Path, process::Stdio, sync::Arc};

use async_trait::async_trait;
use image::{
    layout::{LoadLimits, load_archive, save_archive, save_directory},
    registry::{
        Limits, ManifestRef,
        http::{Action, Authorize, Decision, Scope, basic},
    },
};
use support::{ALL, Stores, serve};
use tempfile::TempDir;
use tokio::process::Command;

async fn have(program: &str) -> bool {
    let found = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().await;
    let found = found.is_ok_and(|status| status.success());
    if !found {
        eprintln!("SKIPPED: {program} is not installed");
    }
    found
}

/// A home without anybody's credentials.
fn home() -> TempDir {
    let home = TempDir::new().unwrap();
    std::fs::write(home.path().join("auth.json"), "{}").unwrap();
    home
}

async fn run(program: &str, arguments: &[&str], home: &Path) -> String {
    let (success, text) = attempt(program, arguments, home).await;
    assert!(success, "{program} {arguments:?}: {text}");
    text
}

async fn attempt(program: &str, arguments: &[&str], home: &Path) -> (bool, String) {
    let output = Command::new(program)
        .args(arguments)
        .env("HOME", home)
        .env("XDG_RUNTIME_DIR", home)
        .env("REGISTRY_AUTH_FILE", home.join("auth.json"))
        .env("TMPDIR", home)
        .output()
        .await
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text.into_owned())
}

/// A small image, made by this crate, as an OCI archive.
async fn archive(home: &Path) -> (std::path::PathBuf, records::Digest) {
    use image::{layer, oci};
    let registry = support::open(Stores::Memory, home, Limits::default(), support::clock()).await;
    let mut layers = Vec::new();
    for n in 0..2 {
        let tree = TempDir::new().unwrap();
        std::fs::create_dir(tree.path().join(format!("dir{n}"))).unwrap();
        std::fs::write(tree.path().join(format!("dir{n}/file")), vec![n; 300_000]).unwrap();
        let options = layer::WriteOptions { compression: layer::Compression::Gzip, ..Default::default() };
        layers.push((&layer::write_blob(registry.blobs(), tree.path().into(), options).await.unwrap()).into());
    }
    let configuration = oci::configuration(&oci::Platform::host());
    let documents = oci::documents(configuration, &layers, &Default::default()).unwrap();
    registry.store(documents.config).await.unwrap();
    registry.put_image("small", &["v1"], documents.media_type, documents.manifest).await.unwrap();
    let path = home.join("image.tar");
    let file = tokio::fs::File::create(&path).await.unwrap();
    let names = [ManifestRef::Tag("v1".into())];
    save_archive(&registry, "small", &names, file).await.unwrap();
    save_directory(&registry, "small", &names, &home.join("layout")).await.unwrap();
    (path, documents.digest)
}

#[tokio::test(flavor = "multi_thread")]
async fn skopeo_copies_there_and_back() {
    if !have("skopeo").await {
        return;
    }
    for stores in ALL {
        let home = home();
        let (archive, digest) = archive(home.path()).await;
        let served = serve(stores).await;
        let at = |name: &str| home.path().join(name).display().to_string();
        let remote = |name: &str| format!("docker://{}/{name}", served.host);
        let copy = async |from: &str, to: &str| {
            run(
                "skopeo",
                &["copy", "--insecure-policy", "--src-tls-verify=false", "--dest-tls-verify=false", from, to],
                home.path(),
            )
            .await
        };
        copy(&format!("oci-archive:{}", archive.display()), &remote("s/small:v1")).await;
        assert_eq!(served.registry.resolve("s/small", "v1").await.unwrap(), digest, "bytes are kept as they are");
        copy(&format!("oci:{}:v1", at("layout")), &remote("s/layout:v1")).await;
        assert_eq!(served.registry.resolve("s/layout", "v1").await.unwrap(), digest);

        // Every other form there and back; Docker's has its own manifest (schema 2).
        copy(&remote("s/small:v1"), &format!("docker-archive:{}:small:v1", at("docker.tar"))).await;
        copy(&format!("docker-archive:{}", at("docker.tar")), &remote("d/small:v1")).await;
        copy(&remote("d/small:v1"), &format!("dir:{}", at("dir"))).await;
        copy(&format!("dir:{}", at("dir")), &remote("e/small:v1")).await;
        assert_eq!(
            served.registry.resolve("d/small", "v1").await.unwrap(),
            served.registry.resolve("e/small", "v1").await.unwrap()
        );
        copy(&remote("s/small:v1"), &format!("oci-archive:{}:v1", at("back.tar"))).await;
        let file = tokio::fs::File::open(at("back.tar")).await.unwrap();
        let loaded = load_archive(&served.registry, "loaded", file, LoadLimits::default()).await.unwrap();
        assert_eq!((&loaded[0].digest, loaded[0].tag.as_deref()), (&digest, Some("v1")));

        let inspected = run("skopeo", &["inspect", "--tls-verify=false", &remote("s/small:v1")], home.path()).await;
        assert!(inspected.contains(digest.as_str()), "{inspected}");
        let tags = run("skopeo", &["list-tags", "--tls-verify=false", &remote("s/small")], home.path()).await;
        assert!(tags.contains("v1"), "{tags}");
        run("skopeo", &["delete", "--tls-verify=false", &remote("s/small:v1")], home.path()).await;
        assert!(served.registry.resolve("s/small", "v1").await.is_err());
    }
}

/// Reads are free, writes need the password.
struct Guarded;

#[async_trait]
impl Authorize for Guarded {
    async fn authorize(&self, authorization: Option<&str>, scope: Scope<'_>) -> Decision {
        match (authorization.and_then(basic), scope.action) {
            (Some((user, password)), _) if user == "admin" && password == "pass" => Decision::Allow,
            (Some(_), _) => Decision::Challenge,
            (None, Action::Pull) => Decision::Allow,
            (None, _) => Decision::Challenge,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn skopeo_logs_in_to_write() {
    if !have("skopeo").await {
        return;
    }
    let home = home();
    let (archive, digest) = archive(home.path()).await;
    let served = support::serve_with(Stores::Memory, Limits::default(), Arc::new(Guarded)).await;
    let from = format!("oci-archive:{}", archive.display());
    let to = format!("docker://{}/s/small:v1", served.host);
    let push = ["copy", "--insecure-policy", "--dest-tls-verify=false"];
    let (success, text) = attempt("skopeo", &[&push[..], &[&from, &to]].concat(), home.path()).await;
    assert!(!success && (text.contains("authentication required") || text.contains("unauthorized")), "{text}");
    let wrong = ["--dest-creds", "admin:wrong"];
    assert!(!attempt("skopeo", &[&push[..], &wrong, &[&from, &to]].concat(), home.path()).await.0);
    let right = ["--dest-creds", "admin:pass"];
    run("skopeo", &[&push[..], &right, &[&from, &to]].concat(), home.path()).await;
    assert_eq!(served.registry.resolve("s/small", "v1").await.unwrap(), digest);
    // Anybody reads, also with a client that was told to log in.
    run("skopeo", &["inspect", "--tls-verify=false", &to], home.path()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn podman_pulls_and_pushes() {
    if !have("podman").await {
        return;
    }
    if !nix::unistd::geteuid().is_root() {
        return eprintln!("SKIPPED: podman with a storage of its own needs root here");
    }
    for stores in ALL {
        let home = home();
        let (archive, digest) = archive(home.path()).await;
        let served = serve(stores).await;
        let (root, run_root) = (home.path().join("root"), home.path().join("run"));
        let podman = async |arguments: &[&str]| {
            let mut all = vec!["--root", root.to_str().unwrap(), "--runroot", run_root.to_str().unwrap()];
            all.extend(["--storage-driver", "vfs", "--events-backend", "none"]);
            all.extend(arguments);
            run("podman", &all, home.path()).await
        };
        let file = tokio::fs::File::open(&archive).await.unwrap();
        load_archive(&served.registry, "p/small", file, LoadLimits::default()).await.unwrap();
        let name = format!("{}/p/small:v1", served.host);
        podman(&["pull", "--tls-verify=false", &name]).await;
        let digests = podman(&["images", "--digests", "--no-trunc"]).await;
        assert!(digests.contains(digest.as_str()), "{digests}");
        for format in ["oci", "v2s2"] {
            let other = format!("{}/p/{format}:v2", served.host);
            podman(&["tag", &name, &other]).await;
            podman(&["push", "--tls-verify=false", "--format", format, &other]).await;
            podman(&["rmi", &other]).await;
            podman(&["pull", "--tls-verify=false", &other]).await;
        }
        podman(&["rmi", "--all", "--force"]).await;
    }
}
