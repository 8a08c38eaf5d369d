//! More clients of the field, each as people use it: push, pull, copy between repositories, list, delete, log in. What is not in PATH is skipped.

mod support;

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

use image::registry::{
    Limits, Settings,
    http::{Door, Extras},
    robots::{Grant, Verb},
};
use support::{Served, Stores, open, serve_extras};
use tempfile::TempDir;

/// A closed registry with a robot, and a home of the client's own.
struct World {
    served: Served,
    home: TempDir,
    secret: String,
}

const USER: &str = "team+ci";

async fn world() -> World {
    let directory = TempDir::new().unwrap();
    let clock: image::Clock = Arc::new(|| "2026-11-20T12:00:00Z".parse().unwrap());
    let registry = open(Stores::Disk, directory.path(), Limits::default(), clock).await;
    registry.set_settings("", Some(&Settings { anonymous_pull: false, ..Settings::default() })).await.unwrap();
    let actions = vec![Verb::Pull, Verb::Push, Verb::Delete];
    let grants = vec![Grant { repository: "*".into(), actions }];
    let (_, secret) = registry.create_robot("team", "ci", grants, false, None).await.unwrap();
    let door = Door::new(registry.clone(), Arc::new(|_| false)).unwrap();
    let served = serve_extras(registry, Arc::new(door), Extras::default(), directory).await;
    World { served, home: TempDir::new().unwrap(), secret }
}

fn have(program: &str) -> bool {
    let found = Command::new(program).arg("--help").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !found {
        eprintln!("SKIPPED: {program} is not installed");
    }
    found
}

impl World {
    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    async fn attempt(&self, program: &str, arguments: &[&str]) -> (bool, String) {
        let home = self.home.path();
        let output = tokio::process::Command::new(program)
            .args(arguments)
            .env("HOME", home)
            .env("XDG_CONFIG_HOME", home.join("config"))
            .env("XDG_CACHE_HOME", home.join("cache"))
            .env("XDG_RUNTIME_DIR", home)
            .env("DOCKER_CONFIG", home.join("docker"))
            .env("REGISTRY_AUTH_FILE", home.join("auth.json"))
            .env("TMPDIR", home)
            .env("COSIGN_PASSWORD", "")
            .current_dir(home)
            .stdin(Stdio::null())
            .output()
            .await
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        (output.status.success(), text.into_owned())
    }

    async fn run(&self, program: &str, arguments: &[&str]) -> String {
        let (success, text) = self.attempt(program, arguments).await;
        assert!(success, "{program} {arguments:?}: {text}");
        text
    }

    async fn refused(&self, program: &str, arguments: &[&str]) -> String {
        let (success, text) = self.attempt(program, arguments).await;
        assert!(!success, "{program} {arguments:?} should have failed: {text}");
        text.to_lowercase()
    }

    /// A name at the registry.
    fn at(&self, name: &str) -> String {
        format!("{}/{name}", self.served.host)
    }
}

/// An image of two layers as an OCI layout; gives its digest.
async fn layout(to: &Path) -> records::Digest {
    use image::{layer, layout::save_directory, oci, registry::ManifestRef};
    let home = TempDir::new().unwrap();
    let registry = open(Stores::Memory, home.path(), Limits::default(), support::clock()).await;
    let mut layers = Vec::new();
    for n in 0..2u8 {
        let tree = TempDir::new().unwrap();
        std::fs::write(tree.path().join(format!("file{n}")), vec![n; 3_000_000]).unwrap();
        let options = layer::WriteOptions { compression: layer::Compression::Gzip, ..Default::default() };
        layers.push((&layer::write_blob(registry.blobs(), tree.path().into(), options).await.unwrap()).into());
    }
    let documents = oci::documents(oci::configuration(&oci::Platform::host()), &layers, &Default::default()).unwrap();
    registry.store(documents.config).await.unwrap();
    registry.put_image("small", &["v1"], documents.media_type, documents.manifest).await.unwrap();
    save_directory(&registry, "small", &[ManifestRef::Tag("v1".into())], to).await.unwrap();
    documents.digest
}

#[tokio::test(flavor = "multi_thread")]
async fn crane() {
    if !have("crane") {
        return;
    }
    let world = world().await;
    let digest = layout(&world.path("layout")).await;
    let (from, app) = (world.path("layout").display().to_string(), world.at("team/app:v1"));
    let refused = world.refused("crane", &["push", &from, &app]).await;
    assert!(refused.contains("unauthorized"), "{refused}");
    world.run("crane", &["auth", "login", &world.served.host, "-u", USER, "-p", &world.secret]).await;
    let said = world.run("crane", &["push", &from, &app]).await;
    assert!(said.contains(digest.as_str()), "{said}");
    assert_eq!(world.run("crane", &["digest", &app]).await.trim(), digest.as_str());
    world.run("crane", &["copy", &app, &world.at("team/other/app:v2")]).await;
    assert_eq!(world.served.registry.resolve("team/other/app", "v2").await.unwrap(), digest);
    world.run("crane", &["tag", &app, "latest"]).await;
    assert_eq!(world.run("crane", &["ls", &world.at("team/app")]).await, "latest\nv1\n");
    let back = world.path("back").display().to_string();
    world.run("crane", &["pull", "--format", "oci", &app, &back]).await;
    assert!(world.path("back/index.json").exists());
    world.run("crane", &["validate", "--remote", &app]).await;
    world.run("crane", &["index", "append", "-m", &app, "-t", &world.at("team/app:multi")]).await;
    let refused = world.refused("crane", &["copy", &app, &world.at("foreign/app:v1")]).await;
    // It asks with HEAD first, and an answer to that has no words.
    assert!(refused.contains("forbidden") || refused.contains("denied"), "{refused}");
    world.run("crane", &["delete", &world.at(&format!("team/app@{digest}"))]).await;
    assert!(world.served.registry.resolve("team/app", "v1").await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn regctl() {
    if !have("regctl") {
        return;
    }
    let world = world().await;
    let digest = layout(&world.path("layout")).await;
    let (from, app) = (format!("ocidir://{}:v1", world.path("layout").display()), world.at("team/app:v1"));
    world.run("regctl", &["registry", "set", "--tls", "disabled", &world.served.host]).await;
    let refused = world.refused("regctl", &["image", "copy", &from, &app]).await;
    assert!(refused.contains("unauthorized"), "{refused}");
    world.run("regctl", &["registry", "login", &world.served.host, "-u", USER, "-p", &world.secret]).await;
    world.run("regctl", &["image", "copy", &from, &app]).await;
    assert_eq!(world.run("regctl", &["image", "digest", &app]).await.trim(), digest.as_str());
    world.run("regctl", &["image", "copy", &app, &world.at("team/other:v2")]).await;
    assert_eq!(world.run("regctl", &["tag", "ls", &world.at("team/app")]).await.trim(), "v1");
    std::fs::write(world.path("note"), "a note").unwrap();
    let note = world.path("note").display().to_string();
    let put = ["artifact", "put", "--artifact-type", "application/x.note", "--subject", &app, "--file", &note];
    world.run("regctl", &put).await;
    let listed = world.run("regctl", &["artifact", "list", &app]).await;
    assert!(listed.contains("application/x.note"), "{listed}");
    let referrers = world.served.registry.referrers("team/app", &digest, None).await.unwrap();
    assert_eq!(referrers.len(), 1);
    let back = format!("ocidir://{}:v1", world.path("back").display());
    world.run("regctl", &["image", "copy", &app, &back]).await;
    world.run("regctl", &["tag", "rm", &world.at("team/other:v2")]).await;
    world.run("regctl", &["manifest", "delete", &world.at(&format!("team/app@{digest}"))]).await;
    assert!(world.served.registry.resolve("team/app", "v1").await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn oras() {
    if !have("oras") {
        return;
    }
    let world = world().await;
    std::fs::write(world.path("hello.txt"), "hello").unwrap();
    let app = world.at("team/notes:v1");
    let file = "hello.txt:text/plain";
    let refused = world.refused("oras", &["push", "--plain-http", &app, file]).await;
    assert!(refused.contains("unauthorized") || refused.contains("credential"), "{refused}");
    world.run("oras", &["login", "--plain-http", &world.served.host, "-u", USER, "-p", &world.secret]).await;
    world.run("oras", &["push", "--plain-http", "--artifact-type", "application/x.notes", &app, file]).await;
    std::fs::write(world.path("more.txt"), "more").unwrap();
    world.run("oras", &["attach", "--plain-http", "--artifact-type", "application/x.more", &app, "more.txt"]).await;
    let found = world.run("oras", &["discover", "--plain-http", &app]).await;
    assert!(found.contains("application/x.more"), "{found}");
    world.run("oras", &["copy", "--from-plain-http", "--to-plain-http", "-r", &app, &world.at("team/copy:v1")]).await;
    let out = world.path("out").display().to_string();
    world.run("oras", &["pull", "--plain-http", "-o", &out, &world.at("team/copy:v1")]).await;
    assert_eq!(std::fs::read_to_string(world.path("out/hello.txt")).unwrap(), "hello");
    let tags = world.run("oras", &["repo", "tags", "--plain-http", &world.at("team/notes")]).await;
    assert_eq!(tags.trim(), "v1");
    world.run("oras", &["manifest", "delete", "--plain-http", "--force", &app]).await;
}

/// Signs, attests, attaches and looks in each of its ways: by tags, by referrers, and with Sigstore bundles.
#[tokio::test(flavor = "multi_thread")]
async fn cosign() {
    if !have("cosign") {
        return;
    }
    let world = world().await;
    let version = world.run("cosign", &["version", "--json"]).await;
    if !version.contains("\"v2.") {
        return eprintln!("SKIPPED: cosign is not a 2.x: {version}");
    }
    let digest = layout(&world.path("layout")).await;
    image::layout::load_directory(&world.served.registry, "team/app", &world.path("layout")).await.unwrap();
    let (tagged, exact) = (world.at("team/app:v1"), world.at(&format!("team/app@{digest}")));
    std::fs::write(world.path("bom.json"), r#"{"bomFormat":"CycloneDX","specVersion":"1.5","version":1}"#).unwrap();
    // Version 2 wants a trusted root as soon as there are bundles, even where a key is given; an empty one will do.
    let root = r#"{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}"#;
    std::fs::write(world.path("root.json"), root).unwrap();
    let plain = ["--allow-insecure-registry", "--allow-http-registry"];
    let sign = [&["--yes", "--key=cosign.key", "--tlog-upload=false"], &plain[..]].concat();
    let check = [&["--key=cosign.pub", "--insecure-ignore-tlog"], &plain[..]].concat();
    let cosign = async |command: &[&str], options: &[&str], image: &str| {
        world.run("cosign", &[command, options, &[image]].concat()).await
    };

    world.run("cosign", &["generate-key-pair"]).await;
    let refused = world.refused("cosign", &[&["sign"], &sign[..], &[&exact]].concat()).await;
    assert!(refused.contains("unauthorized"), "{refused}");
    world.run("cosign", &["login", &world.served.host, "-u", USER, "-p", &world.secret]).await;
    let refused = world.refused("cosign", &[&["verify"], &check[..], &[&tagged]].concat()).await;
    assert!(refused.contains("no signatures found"), "{refused}");

    // By tags.
    cosign(&["sign"], &sign, &exact).await;
    let verified = cosign(&["verify"], &check, &tagged).await;
    assert!(verified.contains(digest.as_str()), "{verified}");
    cosign(&["attest", "--type=cyclonedx", "--predicate=bom.json"], &sign, &tagged).await;
    cosign(&["attest", "--type=cyclonedx", "--predicate=bom.json", "--replace"], &sign, &exact).await;
    cosign(&["verify-attestation", "--type=cyclonedx"], &check, &tagged).await;
    cosign(&["attach", "sbom", "--sbom=bom.json", "--type=cyclonedx"], &plain, &tagged).await;
    let tags = world.served.registry.tagged("team/app").await.unwrap();
    let names: Vec<_> = tags.iter().map(|(name, ..)| name.replace(digest.hex(), "")).collect();
    assert_eq!(names, ["sha256-.att", "sha256-.sbom", "sha256-.sig", "v1"]);
    let referrers = async || world.served.registry.referrers("team/app", &digest, None).await.unwrap().len();
    assert_eq!(referrers().await, 0);
    world.run("cosign", &[&["copy"], &plain[..], &[&tagged, &world.at("team/copy:v2")]].concat()).await;
    cosign(&["verify"], &check, &world.at("team/copy:v2")).await;
    cosign(&["save", "--dir=saved"], &plain, &tagged).await;
    cosign(&["load", "--dir=saved"], &plain, &world.at("team/loaded:v1")).await;
    cosign(&["verify"], &check, &world.at(&format!("team/loaded@{digest}"))).await;

    // By referrers.
    let referrer = ["COSIGN_EXPERIMENTAL=1", "cosign"];
    let by_referrers = async |command: &[&str], options: &[&str]| {
        let mode = ["--registry-referrers-mode=oci-1-1"];
        world.run("env", &[&referrer, command, &mode, options, &[&exact]].concat()).await
    };
    by_referrers(&["sign"], &sign).await;
    by_referrers(&["attach", "sbom", "--sbom=bom.json", "--type=cyclonedx"], &plain).await;
    assert_eq!(referrers().await, 2);
    world.run("env", &[&referrer, &["verify", "--experimental-oci11"], &check[..], &[&exact]].concat()).await;

    // As bundles.
    let bundle = ["--new-bundle-format", "--trusted-root=root.json"];
    cosign(&["sign", "--new-bundle-format"], &sign, &exact).await;
    cosign(&["attest", "--new-bundle-format", "--type=cyclonedx", "--predicate=bom.json"], &sign, &exact).await;
    assert_eq!(referrers().await, 4);
    cosign(&[&["verify"], &bundle[..]].concat(), &check, &tagged).await;
    cosign(&[&["verify-attestation", "--type=cyclonedx"], &bundle[..]].concat(), &check, &tagged).await;
    let tree = cosign(&["tree", "--experimental-oci11"], &plain, &tagged).await;
    let parts = ["Signatures", "Attestations", "SBOMs", "artifact.sig.v1+json", "bundle.v0.3+json"];
    assert!(parts.iter().all(|part| tree.contains(part)), "{tree}");

    cosign(&["clean", "--force", "--type=all"], &plain, &tagged).await;
    let tags = world.served.registry.tagged("team/app").await.unwrap();
    assert_eq!(tags.len(), 1, "{tags:?}");
    assert_eq!(referrers().await, 4, "those are not in the way of its cleaning");
}

#[tokio::test(flavor = "multi_thread")]
async fn helm() {
    charts("helm").await;
}

/// Where several are installed, they have their number for a name.
#[tokio::test(flavor = "multi_thread")]
async fn helm_3_and_4() {
    charts("helm3").await;
    charts("helm4").await;
}

async fn charts(helm: &str) {
    if !have(helm) {
        return;
    }
    let world = world().await;
    let chart = world.path("chart");
    std::fs::create_dir_all(chart.join("templates")).unwrap();
    std::fs::write(chart.join("Chart.yaml"), "apiVersion: v2\nname: small\nversion: 1.2.3\n").unwrap();
    std::fs::write(chart.join("templates/map.yaml"), "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n").unwrap();
    world.run(helm, &["package", "chart"]).await;
    let to = format!("oci://{}", world.at("team/charts"));
    let refused = world.refused(helm, &["push", "--plain-http", "small-1.2.3.tgz", &to]).await;
    assert!(refused.contains("unauthorized") || refused.contains("credential"), "{refused}");
    world.run(helm, &["registry", "login", "--plain-http", &world.served.host, "-u", USER, "-p", &world.secret]).await;
    world.run(helm, &["push", "--plain-http", "small-1.2.3.tgz", &to]).await;
    let name = format!("{to}/small");
    std::fs::create_dir(world.path("out")).unwrap();
    world.run(helm, &["pull", "--plain-http", "--version", "1.2.3", "-d", "out", &name]).await;
    let sent = std::fs::read(world.path("small-1.2.3.tgz")).unwrap();
    assert!(std::fs::read(world.path("out/small-1.2.3.tgz")).unwrap() == sent);
    let shown = world.run(helm, &["show", "chart", "--plain-http", "--version", "1.2.3", &name]).await;
    assert!(shown.contains("name: small"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn buildah() {
    if !have("buildah") {
        return;
    }
    if !nix::unistd::geteuid().is_root() {
        return eprintln!("SKIPPED: buildah with a storage of its own needs root here");
    }
    let world = world().await;
    std::fs::write(world.path("auth.json"), "{}").unwrap();
    let (root, run_root) = (world.path("root").display().to_string(), world.path("run").display().to_string());
    let storage = ["--root", &root, "--runroot", &run_root, "--storage-driver", "vfs"];
    std::fs::write(world.path("file"), "hello").unwrap();
    let app = format!("docker://{}", world.at("team/app:v1"));
    let buildah = async |arguments: &[&str]| world.run("buildah", &[&storage[..], arguments].concat()).await;
    let container = buildah(&["from", "scratch"]).await.trim().to_owned();
    buildah(&["copy", &container, "file", "/file"]).await;
    buildah(&["commit", &container, "small"]).await;
    let id = buildah(&["images", "-q", "--no-trunc"]).await.trim().trim_start_matches("sha256:").to_owned();
    let push = ["push", "--tls-verify=false", &id, &app];
    let refused = world.refused("buildah", &[&storage[..], &push].concat()).await;
    assert!(refused.contains("unauthorized") || refused.contains("authentication required"), "{refused}");
    let login = ["login", "--tls-verify=false", "-u", USER, "-p", &world.secret, &world.served.host];
    world.run("buildah", &login).await;
    world.run("buildah", &[&storage[..], &push].concat()).await;
    buildah(&["rm", "--all"]).await;
    buildah(&["rmi", "--all", "--force"]).await;
    buildah(&["pull", "--tls-verify=false", &world.at("team/app:v1")]).await;
    buildah(&["rmi", "--all", "--force"]).await;
}

/// The client of Rust's programs, which is always here.
#[tokio::test(flavor = "multi_thread")]
async fn oci_client() {
    use futures::TryStreamExt;
    use oci_client::{
        Client, Reference,
        client::{BlobResponse, ClientConfig, ClientProtocol, Config, ImageLayer},
        manifest::{OciDescriptor, OciImageManifest},
        secrets::RegistryAuth,
    };

    let world = world().await;
    let named = |name: &str| world.at(name).parse::<Reference>().unwrap();
    let auth = RegistryAuth::Basic(USER.into(), world.secret.clone());
    // Content goes in parts of 4 MiB, or in one piece; the second layer has several parts.
    let content: Vec<u8> = (0..9_000_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let layers = [ImageLayer::oci_v1("one", None), ImageLayer::oci_v1(content.clone(), None)];
    for (use_monolithic_push, tag) in [(false, "parts"), (true, "whole")] {
        let config = || ClientConfig { protocol: ClientProtocol::Http, use_monolithic_push, ..ClientConfig::default() };
        let client = || Client::new(config());
        let app = named(&format!("team/app-{tag}:v1"));
        let configuration = || Config::oci_v1("{}", None);
        let anonymous = client().push(&app, &layers, configuration(), &RegistryAuth::Anonymous, None).await;
        assert!(anonymous.is_err(), "nobody without a name pushes");
        let client = client();
        client.push(&app, &layers, configuration(), &auth, None).await.unwrap();
        let pulled = client.pull(&app, &auth, vec![&layers[0].media_type]).await.unwrap();
        assert_eq!(pulled.layers.len(), 2);
        assert!(layers.iter().all(|layer| pulled.layers.iter().any(|pulled| pulled.data == layer.data)));
        let digest = client.fetch_manifest_digest(&app, &auth).await.unwrap();
        assert_eq!(pulled.digest.as_deref(), Some(digest.as_str()));
        assert_eq!(client.list_tags(&app, &auth, None, None).await.unwrap().tags, ["v1"]);

        // Where a pull was cut it goes on.
        let manifest = pulled.manifest.unwrap();
        let large = manifest.layers.iter().max_by_key(|layer| layer.size).unwrap();
        let rest = client.pull_blob_stream_partial(&app, large, 8_000_000, Some(1_000_000)).await.unwrap();
        let BlobResponse::Partial(rest) = rest else { panic!("not a part") };
        let rest: Vec<u8> = rest.stream.map_ok(|chunk| chunk.to_vec()).try_concat().await.unwrap();
        assert!(rest == content[8_000_000..]);

        // Its token is for one repository, so it mounts from where everybody may pull.
        let open = Settings { anonymous_pull: true, ..Settings::default() };
        world.served.registry.set_settings(&format!("team/app-{tag}"), Some(&open)).await.unwrap();
        let copy = named(&format!("team/copy-{tag}:v1"));
        client.store_auth_if_needed(copy.resolve_registry(), &auth).await;
        client.mount_blob(&copy, &app, &large.digest).await.unwrap();
        assert!(client.blob_exists(&copy, &large.digest).await.unwrap());

        let subject = OciDescriptor {
            media_type: "application/vnd.oci.image.manifest.v1+json".into(),
            digest: digest.clone(),
            size: i64::try_from(serde_json::to_vec(&manifest).unwrap().len()).unwrap(),
            ..OciDescriptor::default()
        };
        let note = [ImageLayer::new("a note", "text/plain".into(), None)];
        let empty = Config::new("{}", "application/vnd.oci.empty.v1+json".into(), None);
        let mut referrer = OciImageManifest::build(&note, &empty, None);
        (referrer.subject, referrer.artifact_type) = (Some(subject), Some("application/x.note".into()));
        client.push(&named(&format!("team/app-{tag}:note")), &note, empty, &auth, Some(referrer)).await.unwrap();
        let by_digest = app.clone_with_digest(digest);
        let found = client.pull_referrers(&by_digest, Some("application/x.note")).await.unwrap();
        assert_eq!(found.manifests.len(), 1);
    }
}
