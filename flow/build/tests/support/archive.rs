//! A small Debian archive made on the spot: packages, indices signed with a key of its own, and a server on the loopback interface.

use std::{
    collections::BTreeMap,
    io::Write,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use build::base::{Archive, ArchiveOptions, Keyring, Refresh};
use pgp::{
    composed::{
        ArmorOptions, CleartextSignedMessage, KeyType, SecretKeyParamsBuilder, SignedSecretKey, SubkeyParamsBuilder,
    },
    types::Password,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Behind every clock that runs the tests.
pub const DATE: &str = "Thu, 01 Jan 2026 00:00:00 UTC";

/// Who signs.
pub struct Signer {
    key: SignedSecretKey,
    /// Sign with a subkey, as Debian's automatic keys do.
    pub by_subkey: bool,
}

impl Signer {
    pub fn new() -> Self {
        let subkey = SubkeyParamsBuilder::default().key_type(KeyType::Ed25519Legacy).can_sign(true).build().unwrap();
        let key = SecretKeyParamsBuilder::default()
            .key_type(KeyType::Ed25519Legacy)
            .can_certify(true)
            .can_sign(true)
            .primary_user_id("Test Archive <test@example.org>".into())
            .subkey(subkey)
            .build()
            .unwrap()
            .generate(rand::thread_rng())
            .unwrap();
        Self { key, by_subkey: false }
    }

    pub fn public(&self) -> String {
        self.key.to_public_key().to_armored_string(ArmorOptions::default()).unwrap()
    }

    pub fn sign(&self, text: &str) -> String {
        let (rng, none) = (rand::thread_rng(), Password::empty());
        let message = if self.by_subkey {
            CleartextSignedMessage::sign(rng, text, &self.key.secret_subkeys[0].key, &none)
        } else {
            CleartextSignedMessage::sign(rng, text, &self.key.primary_key, &none)
        };
        message.unwrap().to_armored_string(ArmorOptions::default()).unwrap()
    }
}

/// How the tars of a package are compressed.
#[derive(Clone, Copy)]
pub enum Packing {
    Plain,
    Gz,
    Xz,
    Zst,
}

impl Packing {
    fn name(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Gz => ".gz",
            Self::Xz => ".xz",
            Self::Zst => ".zst",
        }
    }

    pub fn pack(self, content: &[u8]) -> Vec<u8> {
        match self {
            Self::Plain => content.to_vec(),
            Self::Gz => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(content).unwrap();
                encoder.finish().unwrap()
            }
            Self::Xz => {
                let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 0);
                encoder.write_all(content).unwrap();
                encoder.finish().unwrap()
            }
            Self::Zst => zstd::encode_all(content, 1).unwrap(),
        }
    }
}

/// An entry of a package: a path, and what is there.
#[derive(Clone)]
pub enum Entry {
    File(&'static str, &'static str),
    Mode(&'static str, &'static str, u32),
    Directory(&'static str),
    Link(&'static str, &'static str),
    Hard(&'static str, &'static str),
    Device(&'static str),
}

/// A package to be made.
#[derive(Clone)]
pub struct Package {
    pub name: &'static str,
    pub version: &'static str,
    /// Lines such as `Depends: x`.
    pub fields: &'static str,
    pub entries: Vec<Entry>,
    pub packing: Packing,
}

pub fn package(name: &'static str, fields: &'static str, entries: Vec<Entry>) -> Package {
    Package { name, version: "1.0-1", fields, entries, packing: Packing::Xz }
}

impl Package {
    pub fn control(&self) -> String {
        let more = if self.fields.is_empty() { String::new() } else { format!("{}\n", self.fields) };
        format!(
            "Package: {}\nVersion: {}\nArchitecture: amd64\nMaintainer: Test <test@example.org>\n{more}Description: a test\n of the longer kind\n",
            self.name, self.version
        )
    }

    pub fn deb(&self) -> Vec<u8> {
        let mut control = tar::Builder::new(Vec::new());
        let text = self.control();
        append(&mut control, "./control", text.as_bytes(), 0o644);
        append(&mut control, "./postinst", b"#!/bin/sh\nexit 1\n", 0o755);
        let mut data = tar::Builder::new(Vec::new());
        for entry in &self.entries {
            let mut header = tar::Header::new_gnu();
            header.set_uid(0);
            header.set_gid(0);
            header.set_size(0);
            header.set_mtime(1);
            match entry {
                Entry::File(path, content) => append(&mut data, path, content.as_bytes(), 0o644),
                Entry::Mode(path, content, mode) => append(&mut data, path, content.as_bytes(), *mode),
                Entry::Directory(path) => {
                    header.set_mode(0o755);
                    raw(&mut data, &mut header, tar::EntryType::Directory, path, None, &[]);
                }
                Entry::Link(path, target) => {
                    header.set_mode(0o777);
                    raw(&mut data, &mut header, tar::EntryType::Symlink, path, Some(target), &[]);
                }
                Entry::Hard(path, target) => {
                    header.set_mode(0o644);
                    raw(&mut data, &mut header, tar::EntryType::Link, path, Some(target), &[]);
                }
                Entry::Device(path) => {
                    header.set_mode(0o644);
                    raw(&mut data, &mut header, tar::EntryType::Char, path, None, &[]);
                }
            }
        }
        let end = self.packing.name();
        ar(&[
            ("debian-binary", b"2.0\n".to_vec()),
            (&format!("control.tar{end}"), self.packing.pack(&control.into_inner().unwrap())),
            (&format!("data.tar{end}"), self.packing.pack(&data.into_inner().unwrap())),
        ])
    }
}

fn append(tar: &mut tar::Builder<Vec<u8>>, path: &str, content: &[u8], mode: u32) {
    let mut header = tar::Header::new_gnu();
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1);
    raw(tar, &mut header, tar::EntryType::Regular, path, None, content);
}

/// Writes names as they are given: also those that a well-meaning library refuses.
fn raw(
    tar: &mut tar::Builder<Vec<u8>>,
    header: &mut tar::Header,
    kind: tar::EntryType,
    path: &str,
    link: Option<&str>,
    content: &[u8],
) {
    header.set_entry_type(kind);
    header.set_size(content.len() as u64);
    let old = header.as_old_mut();
    old.name[..path.len()].copy_from_slice(path.as_bytes());
    if let Some(link) = link {
        old.linkname[..link.len()].copy_from_slice(link.as_bytes());
    }
    header.set_cksum();
    tar.append(header, content).unwrap();
}

fn ar(members: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut out = b"!<arch>\n".to_vec();
    for (name, content) in members {
        out.extend(format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 1, 0, 0, "100644", content.len()).as_bytes());
        out.extend(content);
        if content.len() % 2 == 1 {
            out.push(b'\n');
        }
    }
    out
}

pub fn sha256(content: &[u8]) -> String {
    let sum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, content);
    sum.as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

/// What the server serves; tests change it to do harm.
pub type Files = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

/// An archive and its server.
pub struct Mirror {
    pub url: String,
    pub files: Files,
    pub signer: Signer,
    /// Requests so far.
    pub requests: Arc<AtomicU32>,
    /// The next so many requests are answered with an error of the server.
    pub failures: Arc<AtomicU32>,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Mirror {
    /// An archive of one suite, `trixie`, with these packages.
    pub async fn new(packages: &[Package]) -> Self {
        let files: Files = Arc::default();
        let (requests, failures) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(serve(listener, files.clone(), requests.clone(), failures.clone()));
        let mirror = Self { url, files, signer: Signer::new(), requests, failures, server };
        mirror.publish(packages, "");
        mirror
    }

    /// Publishes packages under a signed index; `release` holds more fields of it.
    pub fn publish(&self, packages: &[Package], release: &str) {
        let mut index = String::new();
        for package in packages {
            let deb = package.deb();
            let path = format!("pool/main/{}_{}_amd64.deb", package.name, package.version);
            index += &package.control();
            index += &format!("Filename: {path}\nSize: {}\nSHA256: {}\n\n", deb.len(), sha256(&deb));
            self.put(&format!("/{path}"), deb);
        }
        self.publish_index(index.as_bytes(), DATE, release);
    }

    pub fn publish_index(&self, index: &[u8], date: &str, release: &str) {
        let packed = Packing::Xz.pack(index);
        let path = "main/binary-amd64/Packages.xz";
        self.put(&format!("/dists/trixie/main/binary-amd64/by-hash/SHA256/{}", sha256(&packed)), packed.clone());
        let text = format!(
            "Origin: Test\nSuite: stable\nCodename: trixie\nDate: {date}\nAcquire-By-Hash: yes\nArchitectures: all amd64\nNo-Support-for-Architecture-all: Packages\nComponents: main\n{release}SHA256:\n {} {} {path}\n",
            sha256(&packed),
            packed.len()
        );
        self.put("/dists/trixie/InRelease", self.signer.sign(&text).into_bytes());
    }

    pub fn put(&self, path: &str, content: Vec<u8>) {
        self.files.lock().unwrap().insert(path.to_owned(), content);
    }

    /// Changes what is served under paths that contain a text.
    pub fn change(&self, path: &str, change: impl Fn(&mut Vec<u8>)) {
        let mut files = self.files.lock().unwrap();
        let mut changed = files.iter_mut().filter(|(name, _)| name.contains(path)).peekable();
        assert!(changed.peek().is_some(), "nothing is served under {path}");
        changed.for_each(|(_, content)| change(content));
    }

    pub fn archive(&self, cache: &Path, refresh: Refresh) -> Archive {
        let keyring = Keyring::from_armored(&self.signer.public()).unwrap();
        Archive::open(ArchiveOptions {
            mirror: self.url.clone(),
            security_mirror: None,
            snapshots: format!("{}/snapshots", self.url),
            components: vec!["main".into()],
            architecture: "amd64".into(),
            cache: cache.to_owned(),
            keyring,
            refresh,
        })
        .unwrap()
    }

    pub fn requests(&self) -> u32 {
        self.requests.load(Ordering::SeqCst)
    }
}

async fn serve(listener: tokio::net::TcpListener, files: Files, requests: Arc<AtomicU32>, failures: Arc<AtomicU32>) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let (files, requests, failures) = (files.clone(), requests.clone(), failures.clone());
        tokio::spawn(async move {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                match stream.read_u8().await {
                    Ok(byte) => head.push(byte),
                    Err(_) => return,
                }
            }
            let text = String::from_utf8_lossy(&head).into_owned();
            let path = text.split(' ').nth(1).unwrap_or_default().to_owned();
            requests.fetch_add(1, Ordering::SeqCst);
            let fail = failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok();
            let found = files.lock().unwrap().get(&path).cloned();
            let (status, body) = match found {
                _ if fail => ("503 Service Unavailable", Vec::new()),
                Some(body) => ("200 OK", body),
                None => ("404 Not Found", Vec::new()),
            };
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = stream.write_all(head.as_bytes()).await;
            let _ = stream.write_all(&body).await;
            let _ = stream.shutdown().await;
        });
    }
}
