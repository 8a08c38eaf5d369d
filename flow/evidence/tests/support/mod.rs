//! A registry with an image in it.

use std::{path::Path, sync::Arc};

use evidence::{Database, DatabaseFiles, LayerCache, Maker, RunFacts, SigningKey, Source};
use image::{Registry, media};
use records::{Digest, TestSummary, Timestamp};
use serde_json::json;

pub const REPOSITORY: &str = "journal/frontend";

pub struct World {
    pub dir: tempfile::TempDir,
    pub registry: Registry,
    pub key: Arc<SigningKey>,
}

pub fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub fn now() -> Timestamp {
    at("2026-11-20T10:00:00Z")
}

pub fn sum(content: &[u8]) -> Digest {
    image::hash::digest(image::Algorithm::Sha256, content)
}

impl World {
    pub async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Arc::new(store::DirectoryBlobs::open(dir.path().join("blobs")).await.unwrap());
        let log = Arc::new(store::MemoryLog::new());
        let registry = Registry::new(blobs, log, dir.path().join("uploads"), Arc::new(now));
        let key = Arc::new(SigningKey::load_or_create(&dir.path().join("signing.key")).unwrap());
        Self { dir, registry, key }
    }

    pub fn maker(&self) -> Maker {
        Maker::new(self.registry.clone(), LayerCache::new(Some(self.dir.path().join("facts"))), self.key.clone())
    }

    /// Pushes an image of two layers: Debian packages, and an application with `packages` installed.
    pub async fn image(&self, packages: &[(&str, &str)]) -> Digest {
        let base = zstd::encode_all(tar(&base_files()).as_slice(), 1).unwrap();
        let mut files = vec![(
            "app/package.json".to_owned(),
            r#"{"name":"journal","version":"1.0.0","license":"Apache-2.0"}"#.to_owned(),
        )];
        for (name, version) in packages {
            let manifest = json!({ "name": name, "version": version, "license": "MIT" }).to_string();
            files.push((format!("app/node_modules/{name}/package.json"), manifest));
        }
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut gzip, &tar(&files)).unwrap();
        let app = gzip.finish().unwrap();
        self.push(&[(media::OCI_LAYER_ZSTD, base), (media::OCI_LAYER_GZIP, app)]).await
    }

    pub async fn push(&self, layers: &[(&str, Vec<u8>)]) -> Digest {
        let mut descriptors = Vec::new();
        for (media_type, content) in layers {
            let stored = self.registry.store(content.clone()).await.unwrap();
            descriptors.push(json!({ "mediaType": media_type, "digest": stored.digest, "size": stored.size }));
        }
        let ids: Vec<String> = layers.iter().map(|(_, content)| sum(content).to_string()).collect();
        let config = json!({ "architecture": "amd64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": ids } });
        let config = self.registry.store(config.to_string()).await.unwrap();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": media::OCI_MANIFEST, "layers": descriptors,
            "config": { "mediaType": media::OCI_CONFIG, "digest": config.digest, "size": config.size },
        });
        self.registry.put_image(REPOSITORY, &["1"], media::OCI_MANIFEST, manifest.to_string()).await.unwrap().digest
    }
}

fn base_files() -> Vec<(String, String)> {
    let mut files = vec![(
        "usr/lib/os-release".to_owned(),
        "ID=debian\nVERSION_ID=\"13\"\nPRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\n".to_owned(),
    )];
    let packages = [
        ("libc6", "glibc", "2.41-12"),
        ("openssl", "openssl", "3.5.1-1"),
        ("zlib1g", "zlib", "1:1.3.dfsg+really1.3.1-1+b1"),
    ];
    for (name, source, version) in packages {
        let stanza =
            format!("Package: {name}\nVersion: {version}\nArchitecture: amd64\nSource: {source}\nDepends: libc6\n");
        files.push((format!("var/lib/dpkg/status.d/{name}"), stanza));
        let copyright =
            "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\nFiles: *\nLicense: Zlib\n";
        files.push((format!("usr/share/doc/{name}/copyright"), copyright.to_owned()));
    }
    files
}

pub fn tar(files: &[(String, String)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, path, content.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap()
}

pub fn facts(build: u64) -> RunFacts {
    RunFacts {
        run: format!("journal/{build}").parse().unwrap(),
        commit: "a".repeat(40).parse().unwrap(),
        source: Source {
            uri: "git+http://127.0.0.1:8080/git/journal.git".into(),
            branch: "main".into(),
            pipeline: ".shipway.yaml".into(),
            pipeline_digest: sum(b"steps: []"),
        },
        builder: "http://127.0.0.1:8080/".into(),
        started_at: at("2026-11-20T09:59:00Z"),
        finished_at: at("2026-11-20T09:59:30Z"),
        bases: vec![format!("base/node-runtime@{}", sum(b"base"))],
        step_images: vec![format!("node@{}", sum(b"node"))],
        tests: TestSummary { passed: 12, failed: 0, skipped: 1, failures: Vec::new() },
    }
}

/// The database that is shipped as an example.
pub async fn example() -> Arc<Database> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/osv");
    DatabaseFiles::open(path).await.unwrap().current()
}
