//! Base images from `base.yaml` and a lock: the same digest elsewhere, later and offline, whatever the archive has become.

mod support;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use build::base::{
    self, Archive, BaseImage, BaseLock, ChangeKind, Definition, LockedPackage, OnProgress, Recipe, Refresh,
};
use bytes::Bytes;
use support::{
    Store,
    archive::{Entry, Mirror, Package, package},
};

const ALWAYS: Refresh = Refresh::After(Duration::ZERO);
/// Of the archive of snapshots: the time of the release and the hours after which its packages are sure to be there.
const OLD: &str = "/snapshots/debian/20260101T060000Z";

fn packages(version: &'static str) -> Vec<Package> {
    let mut packages = vec![
        package("base-files", "", vec![Entry::File("./usr/lib/os-release", "ID=debian\n")]),
        package("netbase", "", vec![]),
        package("tzdata", "", vec![Entry::File("./usr/share/zoneinfo/Europe/Berlin", "TZif")]),
        package("ca-certificates", "Depends: openssl", vec![Entry::File("./usr/share/ca-certificates/a.crt", "A\n")]),
        package("app", "Depends: lib\nMulti-Arch: same", vec![Entry::Mode("./usr/bin/app", "app", 0o755)]),
        package("lib", "", vec![]),
        package("dpkg", "", vec![Entry::Mode("./usr/bin/dpkg", "dpkg", 0o755)]),
    ];
    packages.iter_mut().filter(|p| p.name == "lib").for_each(|p| p.version = version);
    packages
}

fn definition(text: &str) -> Definition {
    Recipe::read("base.yaml", text).unwrap().definition(&BTreeMap::new()).unwrap()
}

fn silent() -> OnProgress {
    Arc::new(|_| {})
}

async fn lock(definition: &Definition, archive: &Archive) -> BaseLock {
    base::lock_packages(definition, archive, support::now(), silent()).await.unwrap()
}

async fn locked(
    definition: &Definition,
    lock: &BaseLock,
    archive: &Archive,
    store: &Store,
) -> Result<BaseImage, build::Error> {
    base::assemble_locked(definition, lock, archive, &store.registry, silent()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_gives_the_same_image_elsewhere_later_and_offline() {
    let mirror = Mirror::new(&packages("1.0-1")).await;
    let (one, two, three) = (Store::new(), Store::new(), Store::new());
    let definition = definition("name: tool\npackages: [app]\n");
    let archive = mirror.archive(&one.dir.path().join("cache"), ALWAYS);
    let written = lock(&definition, &archive).await;
    let names: Vec<&str> = written.packages.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(names, ["app", "base-files", "ca-certificates", "lib", "netbase", "tzdata"]);
    let file = BaseLock::parse("base.lock", &written.to_text().unwrap()).unwrap();
    assert_eq!(file, written);

    let first = locked(&definition, &file, &archive, &one).await.unwrap();
    // Without a lock it is the same image, as long as the archive is.
    let unlocked = base::assemble_file(&definition, &archive, &one.registry, support::now(), silent()).await.unwrap();
    assert_eq!(unlocked.digest, first.digest);

    // The archive goes on; the old package is only in the archive of snapshots.
    let old = mirror.files.lock().unwrap().remove("/pool/main/lib_1.0-1_amd64.deb").unwrap();
    mirror.publish(&packages("2.0-1"), "");
    let elsewhere = mirror.archive(&two.dir.path().join("cache"), ALWAYS);
    let error = locked(&definition, &file, &elsewhere, &two).await.unwrap_err();
    assert!(error.is_transient() && error.to_string().contains("lib_1.0-1"), "{error}");
    mirror.put(&format!("{OLD}/pool/main/lib_1.0-1_amd64.deb"), old);
    assert_eq!(locked(&definition, &file, &elsewhere, &two).await.unwrap().digest, first.digest);

    // Another registry, and no network: the packages are enough.
    let requests = mirror.requests();
    let offline = mirror.archive(&two.dir.path().join("cache"), Refresh::Offline);
    assert_eq!(locked(&definition, &file, &offline, &three).await.unwrap().digest, first.digest);
    assert_eq!(mirror.requests(), requests);

    // What a rebuild would change.
    let newer = lock(&definition, &elsewhere).await;
    let changes = file.changes(&newer);
    assert_eq!(changes.len(), 1);
    assert_eq!((changes[0].package.as_str(), changes[0].kind), ("lib", ChangeKind::Upgraded));
    assert_eq!(changes[0].available.as_deref(), Some("2.0-1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_of_something_else_is_refused_and_so_is_another_content() {
    let mirror = Mirror::new(&packages("1.0-1")).await;
    let store = Store::new();
    let archive = mirror.archive(&store.dir.path().join("cache"), ALWAYS);
    let plain = definition("name: tool\npackages: [app]\n");
    let written = lock(&plain, &archive).await;
    for (text, why) in [
        ("name: tool\npackages: [app, dpkg]\n", "package dpkg is new"),
        ("name: tool\n", "package app is gone"),
        ("name: tool\npackages: [app]\nsuite: forky\n", "the suite is forky, and was trixie"),
        ("name: tool\npackages: [app]\narchitecture: arm64\n", "the architecture is arm64"),
        ("name: tool\npackages: [app]\nsnapshot: 2026-01-01\n", "the snapshot is 2026-01-01T00:00:00Z"),
        ("name: tool\npackages: [app]\nexclude: [lib]\n", "left out package lib is new"),
    ] {
        let error = locked(&definition(text), &written, &archive, &store).await.unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
    // What only the image shows, and not the packages, may change.
    let other = definition("name: tool\npackages: [app]\nuser: root\nenvironment: {A: b}\n");
    let one = locked(&plain, &written, &archive, &store).await.unwrap();
    assert_ne!(locked(&other, &written, &archive, &store).await.unwrap().digest, one.digest);

    let mut forged = written.clone();
    let lib = forged.packages.iter_mut().find(|package: &&mut LockedPackage| package.name == "lib").unwrap();
    lib.sha256 = "0".repeat(64);
    let error = locked(&plain, &forged, &archive, &store).await.unwrap_err().to_string();
    assert!(error.contains("was altered on its way"), "{error}");
}

/// The content of a file of the one layer of an image.
async fn read(store: &Store, image: &BaseImage, path: &str) -> Option<String> {
    use std::io::Read;
    let (_, manifest) = store.registry.manifest(&image.repository, &image.digest).await.unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    let digest = manifest["layers"][0]["digest"].as_str().unwrap().parse().unwrap();
    let layer = store::blobs::get(&*store.blobs, &digest, 1 << 20).await.unwrap();
    let mut archive = tar::Archive::new(zstd::Decoder::new(&layer[..]).unwrap());
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        if entry.path().unwrap().to_str() == Some(path) {
            if let Some(target) = entry.link_name().unwrap() {
                return Some(format!("-> {}", target.display()));
            }
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            return Some(text);
        }
    }
    None
}

#[tokio::test(flavor = "multi_thread")]
async fn zones_certificates_and_files_are_where_they_belong() {
    let mirror = Mirror::new(&packages("1.0-1")).await;
    let store = Store::new();
    let archive = mirror.archive(&store.dir.path().join("cache"), ALWAYS);
    let text = "name: tool\ntimezone: Europe/Berlin\nca-certificates: [corp.pem]\nfiles:\n  - {path: /etc/app.conf, source: app.conf, mode: '0600', owner: 1000}\n";
    let pem = "-----BEGIN CERTIFICATE-----\nx\n";
    let contents = BTreeMap::from([
        ("corp.pem".to_owned(), Bytes::from_static(pem.as_bytes())),
        ("app.conf".to_owned(), Bytes::from_static(b"a = 1\n")),
    ]);
    let definition = Recipe::read("base.yaml", text).unwrap().definition(&contents).unwrap();
    let image = base::assemble_file(&definition, &archive, &store.registry, support::now(), silent()).await.unwrap();
    let read = |path| read(&store, &image, path);
    assert_eq!(read("etc/localtime").await.unwrap(), "-> /usr/share/zoneinfo/Europe/Berlin");
    assert_eq!(read("etc/timezone").await.unwrap(), "Europe/Berlin\n");
    assert_eq!(read("etc/ssl/certs/ca-certificates.crt").await.unwrap(), format!("A\n{pem}"));
    assert_eq!(read("usr/local/share/ca-certificates/corp.crt").await.unwrap(), pem);
    assert_eq!(read("etc/app.conf").await.unwrap(), "a = 1\n");
    assert_eq!(read("etc/os-release").await.unwrap(), "-> ../usr/lib/os-release");
    assert!(read("var/lib/dpkg/status.d/tzdata").await.unwrap().starts_with("Package: tzdata\n"));
    assert!(read("etc/passwd").await.unwrap().contains("nonroot:x:65532"));
    // Nothing has a tag: another project's image may have the same name.
    assert!(store.registry.resolve(&image.repository, "trixie").await.is_err());

    let nowhere = self::definition("name: tool\ntimezone: Europe/Berlim\n");
    let error = base::assemble_file(&nowhere, &archive, &store.registry, support::now(), silent()).await;
    assert!(error.unwrap_err().to_string().contains("did you mean `Europe/Berlin`?"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_package_manager_is_there_only_where_it_is_wanted_and_knows_what_is_installed() {
    let mirror = Mirror::new(&packages("1.0-1")).await;
    let store = Store::new();
    let archive = mirror.archive(&store.dir.path().join("cache"), ALWAYS);
    let smuggled = definition("name: tool\npackages: [dpkg]\n");
    let error = base::assemble_file(&smuggled, &archive, &store.registry, support::now(), silent()).await;
    assert!(error.unwrap_err().to_string().contains("must not have a package manager, and has /usr/bin/dpkg"));

    let mut packages = packages("1.0-1");
    packages.push(package("openssl", "", vec![]));
    for name in definition("package-manager: true\n").packages {
        if !packages.iter().any(|package| package.name == name) {
            let entry = match name.as_str() {
                "dash" => vec![Entry::Mode("./usr/bin/sh", "sh", 0o755)],
                _ => vec![],
            };
            packages.push(package(String::leak(name), "", entry));
        }
    }
    mirror.publish(&packages, "");
    let definition = definition("name: tool\npackages: [app]\npackage-manager: true\n");
    let image = base::assemble_file(&definition, &archive, &store.registry, support::now(), silent()).await.unwrap();
    let status = read(&store, &image, "var/lib/dpkg/status").await.unwrap();
    assert!(status.contains("Package: app\nStatus: install ok installed\nVersion: 1.0-1\n"), "{status}");
    assert_eq!(read(&store, &image, "var/lib/dpkg/info/app:amd64.list").await.unwrap(), "/.\n/usr/bin/app\n");
    assert!(read(&store, &image, "var/lib/dpkg/status.d/app").await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_holds_whatever_its_age_and_is_asked_for_once() {
    let mirror = Mirror::new(&packages("1.0-1")).await;
    let then = support::now();
    // Past the time until which it is valid, when it is used.
    let until = then.checked_add(Duration::from_secs(7 * 24 * 3600)).unwrap();
    mirror.publish(&packages("1.0-1"), &format!("Valid-Until: {}\n", until.strftime("%a, %d %b %Y %H:%M:%S UTC")));
    let files: BTreeMap<String, Vec<u8>> = mirror.files.lock().unwrap().clone();
    for (path, content) in files {
        mirror.put(&format!("/snapshots/debian/{}{path}", then.strftime("%Y%m%dT%H%M%SZ")), content);
    }
    mirror.publish(&packages("2.0-1"), "");
    let store = Store::new();
    let archive = mirror.archive(&store.dir.path().join("cache"), ALWAYS);
    let definition = definition(&format!("name: tool\npackages: [lib]\nsnapshot: {then}\n"));
    let later = then.checked_add(Duration::from_secs(60 * 24 * 3600)).unwrap();
    let version = |lock: &BaseLock| lock.packages.iter().find(|p| p.name == "lib").unwrap().version.clone();
    let first = base::lock_packages(&definition, &archive, later, silent()).await.unwrap();
    assert_eq!(version(&first), "1.0-1");
    let requests = mirror.requests();
    let again = base::lock_packages(&definition, &archive, later, silent()).await.unwrap();
    assert_eq!((again, mirror.requests()), (first.clone(), requests));
    // The lock leads back to it without asking for the snapshot's index.
    let image = locked(&definition, &first, &archive, &store).await.unwrap();
    assert!(image.packages.iter().any(|p| p.name == "lib" && p.version == "1.0-1"));
    // Without a snapshot it is what there is today.
    let today = self::definition("name: tool\npackages: [lib]\n");
    let newest = base::lock_packages(&today, &archive, then, silent()).await.unwrap();
    assert_eq!(version(&newest), "2.0-1");
}
