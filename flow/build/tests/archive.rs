//! Base images from a small archive on the loopback interface: what is trusted, what is refused, and that the result is always the same.

mod support;

use std::{
    io::Read,
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};

use build::base::{
    self, BaseImage, Definition, ExtraFile, Keyring, Progress, Refresh,
    archive::{Archive, Release},
};
use records::Timestamp;
use support::{
    Store,
    archive::{Entry, Mirror, Package, Packing, package},
};

const ALWAYS: Refresh = Refresh::After(Duration::ZERO);

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// What the clock says: the test key signs with the real time.
fn now() -> Timestamp {
    support::now()
}

fn definition(packages: &[&str]) -> Definition {
    let yaml = format!("name: test\npackages: [{}]\n", packages.join(", "));
    Definition::from_yaml("test.yaml", &yaml).unwrap()
}

/// Packages that have a little of everything.
fn packages() -> Vec<Package> {
    use Entry::{Directory, File, Hard, Link, Mode};
    let mut app = package(
        "app",
        "Depends: libone (>= 1.0), awk | none\nEssential: yes",
        vec![
            Directory("./"),
            Directory("./usr/"),
            Directory("./usr/bin/"),
            Mode("./usr/bin/app", "program", 0o755),
            Hard("./usr/bin/also", "./usr/bin/app"),
            Hard("./usr/bin/another", "./usr/bin/app"),
            Link("./usr/bin/alias", "app"),
            Directory("./bin/"),
            Mode("./bin/old-place", "x", 0o4755),
            File("./usr/share/doc/app/copyright", "MIT"),
            File("./usr/share/doc/app/changelog.gz", "long"),
            File("./usr/share/man/man1/app.1", "manual"),
            Link("./usr/share/doc/app-data", "app"),
        ],
    );
    app.packing = Packing::Zst;
    let mut one = package("libone", "Provides: lib-virtual", vec![File("./lib/x86_64-linux-gnu/libone.so.1", "lib")]);
    one.packing = Packing::Gz;
    let certificates = package(
        "certs",
        "",
        vec![File("./usr/share/ca-certificates/b.crt", "B"), File("./usr/share/ca-certificates/a.crt", "A\n")],
    );
    let mut mawk = package("mawk", "Provides: awk\nPriority: required", vec![File("./usr/bin/mawk", "awk")]);
    mawk.packing = Packing::Plain;
    vec![app, one, certificates, mawk, package("shell", "", vec![Mode("./usr/bin/sh", "sh", 0o755)])]
}

async fn assemble(definition: &Definition, archive: &Archive, store: &Store) -> Result<BaseImage, build::Error> {
    base::assemble(definition, archive, &store.registry, now(), Arc::new(|_| {})).await
}

/// Every entry of the one layer of an image, as `type mode uid path -> target = content`.
async fn listing(store: &Store, image: &BaseImage) -> Vec<String> {
    let (_, manifest) = store.registry.manifest(&image.repository, &image.digest).await.unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    let digest = manifest["layers"][0]["digest"].as_str().unwrap().parse().unwrap();
    let layer = store::blobs::get(&*store.blobs, &digest, 1 << 20).await.unwrap();
    let mut archive = tar::Archive::new(zstd::Decoder::new(&layer[..]).unwrap());
    let mut listing = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut line = format!(
            "{:?} {:o} {} {}",
            entry.header().entry_type(),
            entry.header().mode().unwrap(),
            entry.header().uid().unwrap(),
            entry.path().unwrap().display()
        );
        assert_eq!(entry.header().mtime().unwrap() as i64, at("2026-01-01T00:00:00Z").as_second());
        if let Some(target) = entry.link_name().unwrap() {
            line += &format!(" -> {}", target.display());
        }
        let mut content = String::new();
        entry.read_to_string(&mut content).unwrap();
        if !content.is_empty() && content.len() < 60 {
            line += &format!(" = {content:?}");
        }
        listing.push(line);
    }
    listing
}

#[tokio::test(flavor = "multi_thread")]
async fn packages_become_one_layer_that_is_always_the_same() {
    let mirror = Mirror::new(&packages()).await;
    let (one, two) = (Store::new(), Store::new());
    let mut definition = definition(&["app", "certs"]);
    definition.users =
        vec![base::User { name: "app".into(), uid: 1000, home: "/home/app".into(), shell: "/usr/sbin/nologin".into() }];
    definition.user = "app".into();
    definition.files = vec![
        ExtraFile {
            path: "/etc/motd".into(),
            content: Some("hi".into()),
            link: None,
            mode: Some("600".into()),
            owner: 1000,
        },
        ExtraFile { path: "/data".into(), content: None, link: None, mode: None, owner: 1000 },
    ];
    definition.drop = vec!["usr/bin/also".into()];
    let seen = Arc::new(Mutex::new(Vec::new()));
    let progress: base::OnProgress = {
        let seen = seen.clone();
        Arc::new(move |progress: Progress| seen.lock().unwrap().push(progress))
    };
    let archive = mirror.archive(&one.dir.path().join("cache"), ALWAYS);
    let image = base::assemble(&definition, &archive, &one.registry, now(), progress).await.unwrap();
    let names: Vec<&str> = image.packages.iter().map(|package| package.name.as_str()).collect();
    assert_eq!(names, ["app", "certs", "libone", "mawk"]);
    insta::assert_snapshot!(listing(&one, &image).await.join("\n"));
    {
        let seen = seen.lock().unwrap();
        assert!(matches!(seen.first(), Some(Progress::Index { packages: 5, .. })), "{seen:?}");
        assert!(seen.contains(&Progress::Unpacked { packages: 4, of: 4 }));
        assert!(matches!(seen.last(), Some(Progress::Packed { .. })));
    }
    let (_, manifest) = one.registry.manifest(&image.repository, &image.digest).await.unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    let config = manifest["config"]["digest"].as_str().unwrap().parse().unwrap();
    let config = store::blobs::get(&*one.blobs, &config, 1 << 20).await.unwrap();
    let config = build::ImageConfig::from_json(&config).unwrap();
    assert_eq!((config.config.user.as_str(), config.created.as_deref()), ("app", Some("2026-01-01T00:00:00Z")));
    assert_eq!(one.registry.resolve("base/test", "trixie-20260101").await.unwrap(), image.digest);

    // In another directory, fetched again: the same bytes.
    let archive = mirror.archive(&two.dir.path().join("cache"), ALWAYS);
    assert_eq!(assemble(&definition, &archive, &two).await.unwrap(), image);

    // Without the mirror, from the cache alone, into an empty registry: the same bytes.
    let lock = image.lock.clone();
    let url = mirror.url.clone();
    let offline = mirror.archive(&two.dir.path().join("cache"), Refresh::Offline);
    let pinned = mirror.archive(&two.dir.path().join("cache"), Refresh::Pinned(lock));
    drop(mirror);
    for archive in [offline, pinned] {
        let three = Store::new();
        assert_eq!(assemble(&definition, &archive, &three).await.unwrap(), image, "{url}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_index_costs_no_request_and_a_stale_one_is_asked_for() {
    let mirror = Mirror::new(&packages()).await;
    let store = Store::new();
    let cache = store.dir.path().join("cache");
    let definition = definition(&["mawk"]);
    let hour = Refresh::After(Duration::from_secs(3600));
    let archive = mirror.archive(&cache, hour.clone());
    let image = assemble(&definition, &archive, &store).await.unwrap();
    let requests = mirror.requests();
    assert_eq!(assemble(&definition, &archive, &store).await.unwrap(), image);
    assert_eq!(assemble(&definition, &mirror.archive(&cache, hour.clone()), &store).await.unwrap(), image);
    assert_eq!(mirror.requests(), requests, "what is fresh is not asked for again");

    let later = now() + Duration::from_secs(7200);
    base::assemble(&definition, &archive, &store.registry, later, Arc::new(|_| {})).await.unwrap();
    assert_eq!(mirror.requests(), requests + 1);

    // An older index than the one that was seen does not come back.
    mirror.publish_index(b"", "Wed, 31 Dec 2025 00:00:00 UTC", "");
    assert_eq!(assemble(&definition, &mirror.archive(&cache, ALWAYS), &store).await.unwrap(), image);
    // Nor does a mirror that cannot be reached stop anybody who has what is needed.
    mirror.failures.store(100, Ordering::SeqCst);
    assert_eq!(assemble(&definition, &mirror.archive(&cache, ALWAYS), &store).await.unwrap(), image);
    // Who asks what there is now is told that nobody knows.
    let asked = mirror.archive(&cache, Refresh::Now).snapshot("trixie", now()).await;
    assert!(matches!(asked, Err(build::Error::Fetch { .. })), "the index of before is taken for that of now");
    // And it is not asked again at once.
    let archive = mirror.archive(&cache, hour);
    let much_later = later + Duration::from_secs(7200);
    for wait in [0, 60] {
        let requests = mirror.requests();
        let then = much_later + Duration::from_secs(wait);
        base::assemble(&definition, &archive, &store.registry, then, Arc::new(|_| {})).await.unwrap();
        assert_eq!(mirror.requests() > requests, wait == 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_trusted_whole_and_current_index_is_used() {
    let mut mirror = Mirror::new(&packages()).await;
    mirror.signer.by_subkey = true;
    mirror.publish(&packages(), "");
    let definition = definition(&["mawk"]);
    let attempt = async |mirror: &Mirror| {
        let store = Store::new();
        assemble(&definition, &mirror.archive(&store.dir.path().join("cache"), ALWAYS), &store).await.map_err(|e| {
            let text = e.to_string().replace(&mirror.url, "http://mirror");
            text.split(". Trusted are:").next().unwrap().to_owned()
        })
    };
    attempt(&mirror).await.expect("a signature by a subkey");
    let good = mirror.files.lock().unwrap()["/dists/trixie/InRelease"].clone();
    let good_text = String::from_utf8(good.clone()).unwrap();
    let set = |text: String| mirror.put("/dists/trixie/InRelease", text.into_bytes());

    set(good_text.replace("Origin: Test", "Origin: Evil"));
    let error = attempt(&mirror).await.unwrap_err();
    assert!(
        error.starts_with("http://mirror/dists/trixie/InRelease is not trusted: it was altered after it was signed"),
        "{error}"
    );

    set(good_text.split("-----BEGIN PGP SIGNATURE").next().unwrap().to_owned());
    assert!(attempt(&mirror).await.unwrap_err().contains("it is not a signed document"));

    set("Origin: Test\nSuite: stable\n".into());
    assert!(attempt(&mirror).await.unwrap_err().contains("it is not a signed document"));

    // What stands before or behind the signed part is not signed.
    set(format!("Suite: evil\n{good_text}"));
    assert!(attempt(&mirror).await.is_err());
    set(format!("{good_text}\nSuite: evil\n"));
    assert!(attempt(&mirror).await.is_err());

    let stranger = support::archive::Signer::new();
    set(stranger.sign("Suite: stable\nCodename: trixie\nDate: Thu, 01 Jan 2026 00:00:00 UTC\nSHA256:\n"));
    assert!(attempt(&mirror).await.unwrap_err().contains("which is not trusted"));

    mirror.publish_index(b"", support::archive::DATE, "Valid-Until: Thu, 01 Jan 2026 00:00:01 UTC\n");
    let error = attempt(&mirror).await.unwrap_err();
    assert!(error.contains("it was valid until 2026-01-01T00:00:01Z: the mirror is out of date"), "{error}");

    mirror.publish_index(b"", "Fri, 20 Nov 2099 00:00:00 UTC", "");
    assert!(attempt(&mirror).await.unwrap_err().contains("in the future"));

    let other =
        mirror.signer.sign("Suite: oldstable\nCodename: bookworm\nDate: Thu, 01 Jan 2026 00:00:00 UTC\nSHA256:\n");
    set(other);
    assert!(attempt(&mirror).await.unwrap_err().contains("it is signed for bookworm (oldstable), not for trixie"));

    mirror.files.lock().unwrap().remove("/dists/trixie/InRelease");
    assert_eq!(
        attempt(&mirror).await.unwrap_err(),
        "cannot fetch http://mirror/dists/trixie/InRelease: the mirror answered 404 Not Found"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_altered_on_its_way_is_refused_and_not_kept() {
    for (path, change) in [
        ("by-hash", (|content: &mut Vec<u8>| content[20] ^= 1) as fn(&mut Vec<u8>)),
        ("pool/main/mawk", |content| *content.last_mut().unwrap() ^= 1),
        ("pool/main/mawk", |content| content.truncate(100)),
        ("pool/main/mawk", |content| content.push(0)),
        ("by-hash", |content| content.push(0)),
    ] {
        let mirror = Mirror::new(&packages()).await;
        mirror.change(path, change);
        let store = Store::new();
        let cache = store.dir.path().join("cache");
        let error = assemble(&definition(&["mawk"]), &mirror.archive(&cache, ALWAYS), &store).await.unwrap_err();
        assert!(matches!(error, build::Error::Altered { .. }), "{path}: {error}");
        assert!(error.to_string().contains(path), "{error}");
        for entry in std::fs::read_dir(cache.join("sha256")).unwrap() {
            let entry = entry.unwrap();
            let content = std::fs::read(entry.path()).unwrap();
            assert_eq!(support::archive::sha256(&content), entry.file_name().to_str().unwrap());
        }
        assert_eq!(std::fs::read_dir(cache.join("tmp")).unwrap().count(), 0, "nothing is left half-written");
        // The mirror is repaired: all is well.
        mirror.publish(&packages(), "");
        assemble(&definition(&["mawk"]), &mirror.archive(&cache, ALWAYS), &store).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_cache_heals_and_a_failing_mirror_is_tried_again() {
    let mirror = Mirror::new(&packages()).await;
    let store = Store::new();
    let cache = store.dir.path().join("cache");
    let image = assemble(&definition(&["app"]), &mirror.archive(&cache, ALWAYS), &store).await.unwrap();
    for entry in std::fs::read_dir(cache.join("sha256")).unwrap() {
        let path = entry.unwrap().path();
        let mut content = std::fs::read(&path).unwrap();
        content[10] ^= 0xff;
        std::fs::write(&path, content).unwrap();
    }
    mirror.failures.store(2, Ordering::SeqCst);
    let again = Store::new();
    assert_eq!(assemble(&definition(&["app"]), &mirror.archive(&cache, ALWAYS), &again).await.unwrap(), image);
    assert_eq!(mirror.failures.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_packages_are_refused_by_name() {
    use Entry::{Device, File, Hard, Link};
    let attempt = async |entries: Vec<Entry>, mend: fn(&mut Package)| {
        let mut evil = package("evil", "", entries);
        mend(&mut evil);
        let mirror = Mirror::new(&[evil]).await;
        let store = Store::new();
        let archive = mirror.archive(&store.dir.path().join("cache"), ALWAYS);
        let result = assemble(&definition(&["evil"]), &archive, &store).await;
        assert!(store.registry.resolve("base/test", "trixie").await.is_err() || result.is_ok(), "nothing is pushed");
        result.map_err(|e| e.to_string())
    };
    let same: fn(&mut Package) = |_| {};
    for (entries, expected) in [
        (vec![File("./../../etc/passwd", "x")], "has the path `./../../etc/passwd`, which leads out of the image"),
        (vec![File("./usr/../../x", "x")], "which leads out of the image"),
        (vec![Device("./dev/sda")], "has `dev/sda`, which is no file, link or directory"),
        (vec![Hard("./usr/x", "../../etc/shadow")], "has `usr/x`, a link out of the image"),
        (vec![Link("./loop", "loop"), File("./loop/x", "x")], "lies behind links that lead in a circle"),
        (vec![File("./f", "x"), File("./f/x", "x")], "lies below /f, which is no directory"),
    ] {
        let error = attempt(entries, same).await.unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
    // A link that points out of the image leads nowhere but to its root.
    attempt(vec![Link("./up", "../../../../.."), File("./up/tmp/x", "x")], same).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_package_must_be_the_one_that_was_asked_for() {
    let mirror = Mirror::new(&[]).await;
    let deb = package("other", "", vec![]).deb();
    let index = format!(
        "Package: wanted\nVersion: 1.0-1\nArchitecture: amd64\nFilename: pool/x.deb\nSize: {}\nSHA256: {}\n\n",
        deb.len(),
        support::archive::sha256(&deb)
    );
    mirror.put("/pool/x.deb", deb);
    mirror.publish_index(index.as_bytes(), support::archive::DATE, "");
    let store = Store::new();
    let archive = mirror.archive(&store.dir.path().join("cache"), ALWAYS);
    let error = assemble(&definition(&["wanted"]), &archive, &store).await.unwrap_err().to_string();
    assert_eq!(error, "package wanted 1.0-1: says that it is other 1.0-1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shell_is_there_only_where_it_is_wanted() {
    let mirror = Mirror::new(&packages()).await;
    let store = Store::new();
    let archive = mirror.archive(&store.dir.path().join("cache"), ALWAYS);
    let error = assemble(&definition(&["shell"]), &archive, &store).await.unwrap_err().to_string();
    assert!(error.contains("must not have a shell, and has /usr/bin/sh"), "{error}");
    let mut with = definition(&["shell"]);
    with.shell = true;
    assemble(&with, &archive, &store).await.unwrap();
    let mut without = definition(&["mawk"]);
    without.shell = true;
    let error = assemble(&without, &archive, &store).await.unwrap_err().to_string();
    assert!(error.contains("no package brings /bin/sh"), "{error}");
    let error = assemble(&definition(&["nothing"]), &archive, &store).await.unwrap_err().to_string();
    assert!(error.starts_with("base image test: nothing cannot be had: the archive has no nothing"), "{error}");
}

/// A document that Debian signed on 2026-11-18, with the keys of releases 12 and 13.
const SECURITY: &[u8] = include_bytes!("data/trixie-security.InRelease");

#[test]
fn debians_own_signatures_hold() {
    let keyring = Keyring::debian();
    let verify = |document: &[u8], now: Option<&str>| {
        Release::verify(document, &keyring, "http://x/InRelease", "trixie-security", now.map(at))
            .map_err(|e| e.to_string())
    };
    let release = verify(SECURITY, Some("2026-11-20T00:00:00Z")).unwrap();
    assert_eq!((release.codename.as_str(), release.by_hash, release.separate_all), ("trixie-security", true, false));
    assert!(release.packages("main", "amd64").unwrap().path.ends_with("Packages.xz"));
    assert!(verify(SECURITY, Some("2027-01-01T00:00:00Z")).unwrap_err().contains("the mirror is out of date"));
    assert!(verify(SECURITY, Some("2040-01-01T00:00:00Z")).unwrap_err().contains("has expired"));
    assert!(verify(SECURITY, Some("2026-01-01T00:00:00Z")).unwrap_err().contains("from the future"));
    // A pinned document is believed whatever its age.
    verify(SECURITY, None).unwrap();
    let mut altered = SECURITY.to_vec();
    let place = altered.windows(10).position(|w| w == b"Components").unwrap();
    altered[place + 12] ^= 1;
    assert!(verify(&altered, None).unwrap_err().contains("altered after it was signed"));
    // Keys of somebody else do not help.
    let stranger = Keyring::from_armored(&support::archive::Signer::new().public()).unwrap();
    let error = Release::verify(SECURITY, &stranger, "u", "trixie-security", None).unwrap_err().to_string();
    assert!(error.contains("which is not trusted"), "{error}");
}
