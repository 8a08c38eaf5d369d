use super::*;
use crate::sbom::{
    cyclonedx,
    layer::{self, Limits},
};

/// A layer as a plain tar archive.
fn layer(files: &[(&str, &str)]) -> LayerFacts {
    layer::read(tar_of(files).as_slice(), Limits::default()).unwrap()
}

fn tar_of(files: &[(&str, &str)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        match content.strip_prefix("-> ") {
            Some(target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_size(0);
                tar.append_link(&mut header, path, target).unwrap();
            }
            None => {
                header.set_size(content.len() as u64);
                tar.append_data(&mut header, path, content.as_bytes()).unwrap();
            }
        }
    }
    tar.into_inner().unwrap()
}

const OS: (&str, &str) = ("usr/lib/os-release", "ID=debian\nVERSION_ID=\"13\"\n");
const LIBC: &str = "Package: libc6\nStatus: install ok installed\nVersion: 2.41-12\nArchitecture: amd64\nSource: glibc\nProvides: libc6-2.41\n";
const BASH: &str = "\nPackage: bash\nStatus: install ok installed\nVersion: 5.2.37-2+b5\nArchitecture: amd64\nDepends: libc6-2.41 | x, missing\n";

fn debian() -> LayerFacts {
    layer(&[
        OS,
        ("etc/os-release", "-> ../usr/lib/os-release"),
        ("./var/lib/dpkg/status", &format!("{LIBC}{BASH}")),
        ("usr/share/doc/libc6/copyright", "Format: x\n\nFiles: *\nLicense: LGPL-2.1+\n"),
        ("usr/share/doc/bash", "-> libc6"),
    ])
}

#[test]
fn debian_packages_have_source_licence_and_edges() {
    let catalogue = Catalogue::of([&debian()]);
    let purls: Vec<&String> = catalogue.packages.keys().collect();
    assert_eq!(
        purls,
        [
            "pkg:deb/debian/bash@5.2.37-2%2Bb5?arch=amd64&distro=debian-13&upstream=bash%405.2.37-2",
            "pkg:deb/debian/libc6@2.41-12?arch=amd64&distro=debian-13&upstream=glibc"
        ]
    );
    let bash = &catalogue.packages[purls[0]];
    assert_eq!(bash.depends, BTreeSet::from([purls[1].clone()]));
    // Its documentation folder is a link to another package's.
    assert_eq!(bash.licences, [Licence::Id("LGPL-2.1-or-later".into())]);
}

#[test]
fn upper_layers_replace_hide_and_remove() {
    let base = debian();
    let upgraded = layer(&[("var/lib/dpkg/status", LIBC)]);
    assert_eq!(Catalogue::of([&base, &upgraded]).packages.len(), 1);
    let removed = layer(&[("var/lib/dpkg/.wh.status", "")]);
    assert_eq!(Catalogue::of([&base, &removed]).packages.len(), 0);
    let above = layer(&[("var/.wh.lib", "")]);
    assert_eq!(Catalogue::of([&base, &above]).packages.len(), 0);
    let opaque = layer(&[("var/lib/dpkg/.wh..wh..opq", ""), ("var/lib/dpkg/status.d/tz", "Package: tz\nVersion: 1\n")]);
    let left = Catalogue::of([&base, &opaque]);
    assert_eq!(left.packages.keys().collect::<Vec<_>>(), ["pkg:deb/debian/tz@1?distro=debian-13"]);
    let a_file = layer(&[("var/lib/dpkg", "not a folder")]);
    assert_eq!(Catalogue::of([&base, &a_file]).packages.len(), 0);
    // A name that only begins alike is not below it.
    let other = layer(&[("var/lib/.wh.dpk", "")]);
    assert_eq!(Catalogue::of([&base, &other]).packages.len(), 2);
}

fn npm_app() -> Vec<(&'static str, &'static str)> {
    vec![
        (
            "app/package.json",
            r#"{"name":"journal","version":"1.0.0","license":"Apache-2.0","dependencies":{"a":"1","b":"1"}}"#,
        ),
        (
            "app/node_modules/a/package.json",
            r#"{"name":"a","version":"1.0.0","license":"MIT","dependencies":{"b":"2"}}"#,
        ),
        ("app/node_modules/a/node_modules/b/package.json", r#"{"name":"b","version":"2.0.0","license":"ISC"}"#),
        ("app/node_modules/b/package.json", r#"{"name":"b","version":"1.0.0","license":"ISC"}"#),
        ("app/node_modules/b/dist/package.json", r#"{"name":"inner","version":"9.0.0"}"#),
    ]
}

#[test]
fn npm_packages_resolve_as_node_does() {
    let catalogue = Catalogue::of([&layer(&npm_app())]);
    assert_eq!(
        catalogue.packages.keys().collect::<Vec<_>>(),
        ["pkg:npm/a@1.0.0", "pkg:npm/b@1.0.0", "pkg:npm/b@2.0.0", "pkg:npm/journal@1.0.0"]
    );
    let depends = |purl: &str| catalogue.packages[purl].depends.iter().cloned().collect::<Vec<_>>();
    assert_eq!(depends("pkg:npm/journal@1.0.0"), ["pkg:npm/a@1.0.0", "pkg:npm/b@1.0.0"]);
    assert_eq!(depends("pkg:npm/a@1.0.0"), ["pkg:npm/b@2.0.0"]);
}

#[test]
fn a_lock_file_speaks_for_what_was_bundled_and_only_then() {
    let lock = r#"{"lockfileVersion":3,"packages":{"":{},"node_modules/a":{"version":"1.0.0","license":"MIT"},
        "node_modules/z":{"version":"3.0.0"},"node_modules/t":{"version":"1.0.0","dev":true}}}"#;
    let bundled = layer(&[("srv/package.json", r#"{"name":"x","version":"1.0.0"}"#), ("srv/package-lock.json", lock)]);
    let catalogue = Catalogue::of([&bundled]);
    assert_eq!(
        catalogue.packages.keys().collect::<Vec<_>>(),
        ["pkg:npm/a@1.0.0", "pkg:npm/x@1.0.0", "pkg:npm/z@3.0.0"]
    );
    let mut files = npm_app();
    files.push(("app/package-lock.json", lock));
    let installed = Catalogue::of([&layer(&files)]);
    assert!(!installed.packages.contains_key("pkg:npm/z@3.0.0"));
}

#[test]
fn the_document_is_deterministic_and_reads_as_cyclonedx_1_6() {
    let facts = [debian(), layer(&npm_app())];
    let digest: records::Digest = format!("sha256:{}", "ab".repeat(32)).parse().unwrap();
    let now = "2026-11-20T10:00:00Z".parse().unwrap();
    let bom = cyclonedx::document("journal/frontend", &digest, &Catalogue::of(&facts), now);
    let text = serde_json::to_string_pretty(&bom).unwrap();
    let again = cyclonedx::document("journal/frontend", &digest, &Catalogue::of(&facts), now);
    assert_eq!(text, serde_json::to_string_pretty(&again).unwrap());
    let mut written: serde_json::Value = serde_json::from_str(&text).unwrap();
    // Both follow Shipway's version.
    written["metadata"]["tools"] = serde_json::Value::Null;
    written["serialNumber"] = serde_json::Value::Null;
    insta::assert_json_snapshot!("sbom", written);
    // The types of this crate are generated from the specification's own schema.
    let read: serde_cyclonedx::cyclonedx::v_1_6::CycloneDx = serde_json::from_str(&text).unwrap();
    assert_eq!(read.components.unwrap().len(), 7);
    assert_eq!(serde_json::from_str::<cyclonedx::Bom>(&text).unwrap(), bom);
    // Every reference is unique, and every edge leads to one.
    let references: BTreeSet<&str> = bom.components.iter().filter_map(|c| c.bom_ref.as_deref()).collect();
    assert_eq!(references.len(), bom.components.len());
    for dependency in &bom.dependencies[1..] {
        assert!(dependency.depends_on.iter().all(|on| references.contains(on.as_str())));
    }
}

#[test]
fn layers_may_be_compressed() {
    let tar = tar_of(&[OS, ("var/lib/dpkg/status", LIBC)]);
    let plain = layer::read(tar.as_slice(), Limits::default()).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, &tar).unwrap();
    assert_eq!(layer::read(gzip.finish().unwrap().as_slice(), Limits::default()).unwrap(), plain);
    let zstd = zstd::encode_all(tar.as_slice(), 3).unwrap();
    assert_eq!(layer::read(zstd.as_slice(), Limits::default()).unwrap(), plain);
}

#[test]
fn bounds_and_damage_are_errors() {
    let tar = tar_of(&[("var/lib/dpkg/status", LIBC), ("big", &"x".repeat(100_000))]);
    let small = Limits { uncompressed: 50_000, ..Limits::default() };
    assert!(layer::read(tar.as_slice(), small).unwrap_err().message.contains("more than is allowed"));
    let few = Limits { entries: 1, ..Limits::default() };
    assert!(layer::read(tar.as_slice(), few).unwrap_err().message.contains("more files"));
    assert!(layer::read(&tar[..tar.len() / 2], Limits::default()).is_err());
    assert!(layer::read(&b"\x1f\x8bnot gzip"[..], Limits::default()).is_err());
    let long = "n".repeat(2 << 20);
    let mut header = tar::Header::new_gnu();
    let mut tar = tar::Builder::new(Vec::new());
    header.set_size(1);
    tar.append_data(&mut header, &long, &b"x"[..]).unwrap();
    let tar = tar.into_inner().unwrap();
    assert!(layer::read(tar.as_slice(), Limits::default()).unwrap_err().message.contains("1 MiB"));
}

#[test]
fn paths_that_lead_outside_are_not_followed() {
    let facts = layer(&[OS, ("usr/share/doc/x", "-> ../../../../../../etc")]);
    assert!(!facts.files.contains_key("usr/share/doc/x"));
    let mut header = tar::Header::new_gnu();
    let mut tar = tar::Builder::new(Vec::new());
    header.as_gnu_mut().unwrap().name[..26].copy_from_slice(b"../../var/lib/dpkg/status\0");
    header.set_size(LIBC.len() as u64);
    header.set_cksum();
    tar.append(&header, LIBC.as_bytes()).unwrap();
    let facts = layer::read(tar.into_inner().unwrap().as_slice(), Limits::default()).unwrap();
    assert!(facts.files.is_empty());
}

proptest::proptest! {
    #[test]
    fn any_bytes_end_in_facts_or_an_error(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..2000)) {
        let _ = layer::read(bytes.as_slice(), Limits::default());
    }
}
