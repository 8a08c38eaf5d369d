//! The registry, driven by `skopeo`, `podman` and `curl`.

use std::{path::Path, process::Command};

use serde_json::{Value, json};
use testbed::{Answer, Said, Shared, Shipway, need_root, need_tool, said, sha256};

use crate::{golden, shipway};

fn server() -> Option<&'static Shipway> {
    static SERVER: Shared = Shared::new();
    need_root().then(|| SERVER.get(|| Shipway::start(shipway())))
}

/// A small image as an OCI layout; gives the digest of its manifest. `entries` are the arguments with which tar makes the only layer.
pub fn layout(directory: &Path, entries: &[&str]) -> String {
    std::fs::create_dir_all(directory.join("files/etc")).unwrap();
    std::fs::write(directory.join("files/etc/greeting"), "hello\n").unwrap();
    let layer = directory.join("layer.tar");
    let mut tar = Command::new("tar");
    tar.arg("--create").arg("--file").arg(&layer).arg("--directory").arg(directory.join("files")).args(entries);
    said(&mut tar, b"").ok();
    let layer = std::fs::read(layer).unwrap();
    let blobs = directory.join("layout/blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let keep = |content: &[u8]| {
        let digest = sha256(content);
        std::fs::write(blobs.join(digest.trim_start_matches("sha256:")), content).unwrap();
        (digest, content.len())
    };
    let (diff, size) = keep(&layer);
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": { "Cmd": ["/bin/true"] },
        "rootfs": { "type": "layers", "diff_ids": [diff] }, "history": [],
    });
    let (config, config_size) = keep(config.to_string().as_bytes());
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": config_size },
        "layers": [{ "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": diff, "size": size }],
    });
    let (manifest, manifest_size) = keep(manifest.to_string().as_bytes());
    let index = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": manifest, "size": manifest_size,
            "annotations": { "org.opencontainers.image.ref.name": "v1" },
        }],
    });
    std::fs::write(directory.join("layout/index.json"), index.to_string()).unwrap();
    std::fs::write(directory.join("layout/oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    manifest
}

/// Runs a program with a home that nobody else has.
pub fn at_home(home: &Path, program: &str, arguments: &[&str]) -> Said {
    let mut command = Command::new(program);
    command.args(arguments).env("HOME", home).env("XDG_RUNTIME_DIR", home).env("TMPDIR", home);
    command.env("REGISTRY_AUTH_FILE", home.join("auth.json"));
    if !home.join("auth.json").exists() {
        std::fs::write(home.join("auth.json"), "{}").unwrap();
    }
    said(&mut command, b"")
}

/// `skopeo copy` with the token for what is written.
pub fn copy(server: &Shipway, home: &Path, from: &str, to: &str, token: Option<&str>) -> Said {
    let mut arguments =
        vec!["copy", "--preserve-digests", "--insecure-policy", "--src-tls-verify=false", "--dest-tls-verify=false"];
    let credentials = token.map(|token| format!("--dest-creds=admin:{token}"));
    arguments.extend(credentials.as_deref());
    let full = |name: &str| name.replace("docker://", &format!("docker://{}/", server.host()));
    let (from, to) = (full(from), full(to));
    arguments.extend([from.as_str(), to.as_str()]);
    at_home(home, "skopeo", &arguments)
}

#[test]
fn skopeo_pushes_and_pulls() {
    let Some(server) = server() else { return };
    if !need_tool("skopeo") {
        return;
    }
    let home = testbed::directory();
    let digest = layout(home.path(), &["etc"]);
    let from = format!("oci:{}:v1", home.path().join("layout").display());

    let refused = copy(server, home.path(), &from, "docker://team/app:v1", None).failed();
    assert!(refused.contains("unauthorized") || refused.contains("authentication required"), "{refused}");
    let refused = copy(server, home.path(), &from, "docker://team/app:v1", Some("wrong")).failed();
    assert!(refused.contains("unauthorized") || refused.contains("invalid username/password"), "{refused}");
    assert_eq!(server.get("/v2/team/app/tags/list").status, 404, "nothing arrived");

    copy(server, home.path(), &from, "docker://team/app:v1", Some(&server.token())).ok();
    let tagged = server.get("/v2/team/app/manifests/v1");
    assert!(tagged.headers.to_lowercase().contains(&format!("docker-content-digest: {digest}")), "{tagged:?}");
    assert_eq!(server.json("/v2/team/app/tags/list"), json!({ "name": "team/app", "tags": ["v1"] }));
    let catalog = server.json("/v2/_catalog");
    assert!(catalog["repositories"].as_array().unwrap().contains(&json!("team/app")), "{catalog}");

    // Without a token, by tag and by digest; the bytes are the same.
    for name in ["docker://team/app:v1", &format!("docker://team/app@{digest}")] {
        let to = home.path().join("back");
        copy(server, home.path(), name, &format!("dir:{}", to.display()), None).ok();
        assert_eq!(sha256(&std::fs::read(to.join("manifest.json")).unwrap()), digest);
    }
    let inspected = at_home(
        home.path(),
        "skopeo",
        &["inspect", "--tls-verify=false", &format!("docker://{}/team/app:v1", server.host())],
    );
    assert_eq!(testbed::json(&inspected.ok())["Digest"], digest.as_str());

    let refused = copy(server, home.path(), &from, "docker://base/debian:v1", Some(&server.token())).failed();
    assert!(refused.contains("base images are assembled by Shipway itself"), "{refused}");
}

#[test]
fn podman_pushes_and_pulls() {
    let Some(server) = server() else { return };
    if !need_tool("podman") {
        return;
    }
    let home = testbed::directory();
    layout(home.path(), &["etc"]);
    let path = |name: &str| home.path().join(name).display().to_string();
    // A storage of its own, so that nothing of this machine's is touched.
    let (root, runroot) = (path("storage"), path("run"));
    let podman = |arguments: &[&str]| {
        let all = [&["--root", &root, "--runroot", &runroot, "--storage-driver", "vfs"][..], arguments].concat();
        at_home(home.path(), "podman", &all)
    };
    std::fs::write(home.path().join("policy.json"), r#"{"default":[{"type":"insecureAcceptAnything"}]}"#).unwrap();
    let (policy, name) = (path("policy.json"), format!("{}/podman/app:v1", server.host()));
    let archive = path("layer.tar");
    podman(&["import", "--quiet", &archive, &name]).ok();
    let refused = podman(&["push", "--tls-verify=false", "--signature-policy", &policy, &name]).failed();
    assert!(refused.contains("unauthorized") || refused.contains("authentication required"), "{refused}");
    let credentials = format!("admin:{}", server.token());
    podman(&["login", "--tls-verify=false", "--username", "admin", "--password", &server.token(), &server.host()]).ok();
    podman(&["logout", &server.host()]).ok();
    podman(&["push", "--tls-verify=false", "--signature-policy", &policy, "--creds", &credentials, &name]).ok();
    let manifest = server.json("/v2/podman/app/manifests/v1");
    assert_eq!(manifest["layers"].as_array().unwrap().len(), 1, "{manifest}");
    podman(&["rmi", "--force", &name]).ok();
    let pulled = podman(&["pull", "--quiet", "--tls-verify=false", "--signature-policy", &policy, &name]).ok();
    let inspected = testbed::json(&podman(&["image", "inspect", pulled.trim()]).ok());
    assert!(inspected[0]["RepoTags"].as_array().unwrap().contains(&json!(name)), "{inspected}");
    let wrong =
        podman(&["login", "--tls-verify=false", "--username", "admin", "--password", "wrong", &server.host()]).failed();
    assert!(wrong.contains("invalid username/password") || wrong.contains("unauthorized"), "{wrong}");
    // It leaves mounts of its own storage behind otherwise.
    podman(&["system", "reset", "--force"]).ok();
}

/// Pushes one blob with curl, as the distribution specification describes it.
fn upload(server: &Shipway, content: &[u8], digest: &str) -> Answer {
    let begun = server.ask("POST", "/v2/curl/app/blobs/uploads/", None);
    assert_eq!(begun.status, 202, "{begun:?}");
    let location = begun.headers.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("location").then(|| value.trim().to_owned())
    });
    let location = location.expect("an upload has a place");
    let place = if location.starts_with('/') { server.url(&location) } else { location };
    let url = format!("{place}{}digest={digest}", if place.contains('?') { '&' } else { '?' });
    let token = format!("Authorization: Bearer {}", server.token());
    let kind = "Content-Type: application/octet-stream";
    Answer::fetch(&["--request", "PUT", "--header", &token, "--header", kind, "--data-binary", "@-", &url], content)
}

fn put_manifest(server: &Shipway, name: &str, manifest: &[u8]) -> Answer {
    let token = format!("Authorization: Bearer {}", server.token());
    let kind = "Content-Type: application/vnd.oci.image.manifest.v1+json";
    let url = server.url(&format!("/v2/curl/app/manifests/{name}"));
    Answer::fetch(&["--request", "PUT", "--header", &token, "--header", kind, "--data-binary", "@-", &url], manifest)
}

#[test]
fn errors_are_those_of_the_specification() {
    let Some(server) = server() else { return };
    let blob = b"content".as_slice();
    assert_eq!(upload(server, blob, &sha256(blob)).status, 201);
    let manifest = |layer: &str| {
        let config =
            json!({ "mediaType": "application/vnd.oci.empty.v1+json", "digest": sha256(blob), "size": blob.len() });
        let layers =
            json!([{ "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer, "size": blob.len() }]);
        let kind = "application/vnd.oci.image.manifest.v1+json";
        json!({ "schemaVersion": 2, "mediaType": kind, "config": config, "layers": layers }).to_string()
    };
    let whole = manifest(&sha256(blob));
    let mut all = String::new();
    let mut tell = |what: &str, answer: Answer| {
        let error = &answer.json()["errors"][0];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let message = server.plain(&text(&error["message"]));
        all.push_str(&format!("{what}\n  {} {}: {message}\n", answer.status, text(&error["code"])));
    };
    tell("no such tag", server.get("/v2/curl/app/manifests/none"));
    tell("no such repository", server.get("/v2/nowhere/manifests/none"));
    tell("no such blob", server.get(&format!("/v2/curl/app/blobs/{}", sha256(b"none"))));
    let known = |path: &str| {
        let credentials = format!("admin:{}", server.token());
        Answer::fetch(&["--user", &credentials, "--path-as-is", &server.url(path)], b"")
    };
    tell("no digest", known("/v2/curl/app/blobs/sha256:12"));
    tell("no name", known("/v2/UPPER/manifests/v1"));
    tell("a name that goes up", known("/v2/a/../../etc/manifests/v1"));
    tell(
        "a push without a token",
        Answer::fetch(&["--request", "POST", &server.url("/v2/curl/app/blobs/uploads/")], b""),
    );
    tell("a blob with a wrong digest", upload(server, b"other", &sha256(blob)));
    tell("a manifest with a wrong digest", put_manifest(server, &sha256(b"other"), whole.as_bytes()));
    tell(
        "a manifest with a layer that is not there",
        put_manifest(server, "v1", manifest(&sha256(b"none")).as_bytes()),
    );
    tell("a manifest that is none", put_manifest(server, "v1", b"{"));
    tell("a manifest under `base`", server.ask("PUT", "/v2/base/debian/manifests/v1", Some(&json!({}))));
    golden!(all);
    assert_eq!(server.get("/v2/curl/app/manifests/v1").status, 404, "nothing was half-written");
    assert_eq!(put_manifest(server, "v1", whole.as_bytes()).status, 201);
    assert_eq!(sha256(server.get("/v2/curl/app/manifests/v1").body.as_bytes()), sha256(whole.as_bytes()));
}
