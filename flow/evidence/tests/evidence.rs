//! Evidence made, attached, read back, tampered with.

mod support;

use std::{collections::BTreeMap, fs};

use evidence::{
    Kind, SigningKey, Vex, artifact, decide,
    sign::{bundle::Bundle, dsse::Envelope},
    statement::{self, Statement},
    verify::{self, attested, missing},
};
use records::{Digest, EvidenceDetail, EvidenceKind, Policy};
use serde_json::{Value, json};
use support::{REPOSITORY, World, at, example, facts, now, sum};

const BUNDLE: &str = evidence::sign::bundle::MEDIA_TYPE;

#[tokio::test]
async fn all_kinds_are_made_attached_and_hold() {
    let world = World::new().await;
    let image = world.image(&[("left-pad", "1.3.0")]).await;
    let database = example().await;
    let made = world.maker().make(REPOSITORY, &image, &facts(1), &database, &Vex::default(), now()).await.unwrap();
    assert_eq!(made.iter().map(|one| one.detail.kind()).collect::<Vec<_>>(), EvidenceKind::ALL);
    assert_eq!(decide(&Policy::default(), REPOSITORY, &image, &made), [""; 0]);
    let EvidenceDetail::Sbom { components, licences } = &made[0].detail else { panic!() };
    assert_eq!((*components, licences.as_slice()), (5, &["Apache-2.0".to_owned(), "MIT".into(), "Zlib".into()][..]));

    let keys = [world.key.public().clone()];
    let checked = evidence::verify(&world.registry, REPOSITORY, &image, &keys).await.unwrap();
    let lines: Vec<String> = checked.iter().map(ToString::to_string).collect();
    assert!(checked.iter().all(|one| one.held), "{lines:#?}");
    assert_eq!(missing(&checked), []);
    // What records name is among what was checked.
    assert!(made.iter().all(|one| checked.iter().any(|c| c.referrer == one.referrer && c.kind == one.detail.kind())));
    let provenance = &made[2].referrer;
    let statement = attested(&world.registry, REPOSITORY, &image, provenance, &keys).await.unwrap();
    let mut written = statement.predicate;
    written["runDetails"]["builder"]["version"]["shipway"] = Value::Null;
    insta::assert_json_snapshot!("provenance", written);
    let sbom = verify::sbom(&world.registry, REPOSITORY, &image, &made[0].referrer).await.unwrap();
    assert_eq!(sbom.components.len(), 6);
}

#[tokio::test]
async fn everything_can_be_repeated() {
    let world = World::new().await;
    let image = world.image(&[]).await;
    let database = example().await;
    let vex = Vex::default();
    let first = world.maker().make(REPOSITORY, &image, &facts(1), &database, &vex, now()).await.unwrap();
    let before = referrers(&world, &image).await;
    let blobs = world.registry.blobs().list().await.unwrap().len();
    // Later, by another process.
    let later = at("2026-11-21T10:00:00Z");
    let again = world.maker().make(REPOSITORY, &image, &facts(1), &database, &vex, later).await.unwrap();
    assert_eq!(first, again);
    assert_eq!(referrers(&world, &image).await, before);
    assert_eq!(world.registry.blobs().list().await.unwrap().len(), blobs);
    assert_eq!(before.1[BUNDLE], 4);

    // Another run of the same image has a provenance of its own; all else stays.
    let other = world.maker().make(REPOSITORY, &image, &facts(2), &database, &vex, later).await.unwrap();
    let changed: Vec<EvidenceKind> =
        first.iter().zip(&other).filter(|(a, b)| a.referrer != b.referrer).map(|(a, _)| a.detail.kind()).collect();
    assert_eq!(changed, [EvidenceKind::Provenance]);
}

#[tokio::test]
async fn what_was_attached_in_part_is_completed() {
    let world = World::new().await;
    let image = world.image(&[]).await;
    let database = example().await;
    let first = world.maker().make(REPOSITORY, &image, &facts(1), &database, &Vex::default(), now()).await.unwrap();
    for gone in referrers(&world, &image).await.0 {
        world.registry.delete_manifest(REPOSITORY, &gone).await.unwrap();
        let again = world.maker().make(REPOSITORY, &image, &facts(1), &database, &Vex::default(), now()).await.unwrap();
        assert_eq!(first.len(), again.len());
        let checked =
            evidence::verify(&world.registry, REPOSITORY, &image, &[world.key.public().clone()]).await.unwrap();
        assert!(checked.iter().all(|one| one.held) && missing(&checked).is_empty());
        assert_eq!(checked.len(), 6);
    }
}

/// Flips one byte in every manifest and every blob that evidence is made of, one at a time.
#[tokio::test]
async fn any_flipped_byte_is_noticed() {
    let world = World::new().await;
    let image = world.image(&[]).await;
    world.maker().make(REPOSITORY, &image, &facts(1), &*example().await, &Vex::default(), now()).await.unwrap();
    let keys = [world.key.public().clone()];
    let mut flipped = 0;
    for referrer in referrers(&world, &image).await.0 {
        let document = artifact::manifest(&world.registry, REPOSITORY, &referrer).await.unwrap();
        let layers = document.layers.unwrap().into_iter().map(|layer| layer.digest);
        for blob in layers.chain([referrer.clone()]) {
            let path = world.registry.blobs().path(&blob).unwrap();
            let good = fs::read(&path).unwrap();
            for position in [0, good.len() / 3, good.len() - 2] {
                let mut bad = good.clone();
                bad[position] ^= 0x01;
                write(&path, &bad);
                let checked = evidence::verify(&world.registry, REPOSITORY, &image, &keys).await.unwrap();
                let broken: Vec<_> = checked.iter().filter(|one| !one.held).collect();
                // The plain SBOM falls with the signed one that it must equal.
                assert!(broken.iter().any(|one| one.referrer == referrer), "{blob} at {position}: {checked:?}");
                assert!(broken.len() <= 2 && broken.iter().all(|one| !one.detail.is_empty()));
                flipped += 1;
            }
            write(&path, &good);
        }
    }
    assert_eq!(flipped, 36);
    // The image itself.
    let path = world.registry.blobs().path(&image).unwrap();
    let mut bad = fs::read(&path).unwrap();
    bad[10] ^= 1;
    write(&path, &bad);
    let error = evidence::verify(&world.registry, REPOSITORY, &image, &keys).await.unwrap_err();
    assert!(error.message.contains("not what its digest says"), "{error}");
}

/// Blobs may be written read-only.
fn write(path: &std::path::Path, content: &[u8]) {
    fs::remove_file(path).unwrap();
    fs::write(path, content).unwrap();
}

#[tokio::test]
async fn another_key_vouches_for_nothing() {
    let world = World::new().await;
    let image = world.image(&[]).await;
    world.maker().make(REPOSITORY, &image, &facts(1), &*example().await, &Vex::default(), now()).await.unwrap();
    for keys in [vec![], vec![SigningKey::generate().unwrap().public().clone()]] {
        let checked = evidence::verify(&world.registry, REPOSITORY, &image, &keys).await.unwrap();
        assert!(!checked.is_empty() && checked.iter().all(|one| !one.held), "{checked:?}");
        assert_eq!(missing(&checked), EvidenceKind::ALL);
    }
}

/// Every attached manifest by its digest, with how often each artifact type is there.
async fn referrers(world: &World, image: &Digest) -> (Vec<Digest>, BTreeMap<String, usize>) {
    let all = world.registry.referrers(REPOSITORY, image, None).await.unwrap();
    let mut types = BTreeMap::new();
    for descriptor in &all {
        *types.entry(descriptor.artifact_type.clone().unwrap_or_default()).or_default() += 1;
    }
    (all.into_iter().map(|descriptor| descriptor.digest).collect(), types)
}

/// Someone who may push, but does not have the key.
#[tokio::test]
async fn forged_and_moved_evidence_is_neither_believed_nor_in_the_way() {
    let world = World::new().await;
    let (image, other) = (world.image(&[]).await, world.image(&[("left-pad", "1.3.0")]).await);
    let database = example().await;
    let vex = Vex::default();
    world.maker().make(REPOSITORY, &other, &facts(1), &database, &vex, now()).await.unwrap();
    // Everything of the other image, attached to this one.
    for moved in world.registry.referrers(REPOSITORY, &other, Some(BUNDLE)).await.unwrap() {
        let document = artifact::manifest(&world.registry, REPOSITORY, &moved.digest).await.unwrap();
        let layer = &document.layers.as_ref().unwrap()[0];
        let content = artifact::blob(&world.registry, REPOSITORY, layer).await.unwrap();
        let layers = vec![artifact::layer(BUNDLE, content.to_vec())];
        world.registry.attach(REPOSITORY, &image, BUNDLE, layers, moved.annotations.unwrap()).await.unwrap();
    }
    // A statement about this image, by another key.
    let forger = SigningKey::generate().unwrap();
    let forged = Statement::about(REPOSITORY, &image, statement::SIGNATURE, json!({}));
    let envelope = Envelope::seal(&forger, statement::PAYLOAD_TYPE, &serde_json::to_vec(&forged).unwrap()).unwrap();
    let bundle = serde_json::to_vec(&Bundle::new(envelope, world.key.public())).unwrap();
    let annotations = BTreeMap::from([
        ("dev.sigstore.bundle.predicateType".to_owned(), statement::SIGNATURE.to_owned()),
        ("dev.shipway.evidence.inputs".to_owned(), "guessed".to_owned()),
    ]);
    world
        .registry
        .attach(REPOSITORY, &image, BUNDLE, vec![artifact::layer(BUNDLE, bundle)], annotations)
        .await
        .unwrap();

    let keys = [world.key.public().clone()];
    let checked = evidence::verify(&world.registry, REPOSITORY, &image, &keys).await.unwrap();
    assert_eq!(checked.len(), 5);
    assert!(checked.iter().all(|one| !one.held), "{checked:?}");
    world.maker().make(REPOSITORY, &image, &facts(1), &database, &vex, now()).await.unwrap();
    let checked = evidence::verify(&world.registry, REPOSITORY, &image, &keys).await.unwrap();
    assert_eq!(missing(&checked), []);
    assert_eq!(checked.iter().filter(|one| one.held).count(), 6);
}

#[tokio::test]
async fn a_vulnerable_package_refuses_the_image_until_a_statement_covers_it() {
    let world = World::new().await;
    let image = world.image(&[("shipway-test-vulnerable", "1.0.0"), ("minimist", "1.2.2")]).await;
    let database = example().await;
    let mut vex = Vex::default();
    let maker = world.maker();
    let made = maker.make(REPOSITORY, &image, &facts(1), &database, &vex, now()).await.unwrap();
    let EvidenceDetail::Vulnerabilities { findings, database: against } = &made[1].detail else { panic!() };
    assert_eq!(against, database.digest());
    assert_eq!(
        findings.iter().map(|f| f.id.as_str()).collect::<Vec<_>>(),
        ["GHSA-vh95-rmgr-6w4m", "SHIPWAY-TEST-0001"]
    );
    let reasons = decide(&Policy::default(), REPOSITORY, &image, &made);
    assert_eq!(
        reasons,
        [format!(
            "image {REPOSITORY}@{image} has SHIPWAY-TEST-0001 (critical) in shipway-test-vulnerable 1.0.0, fixed in 2.0.0"
        )]
    );
    // The report is a CycloneDX document in cosign's predicate, and holds the same findings.
    let keys = [world.key.public().clone()];
    let statement = attested(&world.registry, REPOSITORY, &image, &made[1].referrer, &keys).await.unwrap();
    let mut stripped = statement.predicate.clone();
    stripped["scanner"]["version"] = Value::Null;
    stripped["scanner"]["uri"] = Value::Null;
    stripped["scanner"]["result"]["metadata"]["tools"] = Value::Null;
    stripped["scanner"]["result"]["serialNumber"] = Value::Null;
    insta::assert_json_snapshot!("scan", stripped);
    let result = statement.predicate["scanner"]["result"].clone();
    let typed: serde_cyclonedx::cyclonedx::v_1_6::CycloneDx = serde_json::from_value(result).unwrap();
    assert_eq!(typed.vulnerabilities.unwrap().len(), 2);
    let read: evidence::vulnerability::report::Predicate = serde_json::from_value(statement.predicate).unwrap();
    assert_eq!(&evidence::vulnerability::report::findings(&read), findings);

    let document = json!({"@context": "https://openvex.dev/ns/v0.2.0", "@id": "x", "author": "a", "timestamp": "2026-01-01T00:00:00Z", "version": 1,
        "statements": [{"vulnerability": {"name": "SHIPWAY-TEST-0001"}, "status": "not_affected", "justification": "vulnerable_code_not_in_execute_path",
            "products": [{"@id": "pkg:oci/frontend?repository_url=journal/frontend", "subcomponents": [{"@id": "pkg:npm/shipway-test-vulnerable"}]}]}]});
    vex.add("security/journal.openvex.json", document.to_string().as_bytes()).unwrap();
    let later = at("2026-11-20T11:00:00Z");
    let scan =
        maker.rescan(REPOSITORY, &image, &facts(1).run, &facts(1).builder, &database, &vex, later).await.unwrap();
    assert_ne!(scan.referrer, made[1].referrer);
    // Older clients find the new scan in place of the old one, and all else as it was.
    let tag = evidence::sign::simple::tag(&image, "att").parse().unwrap();
    let (older, ..) = world.registry.find_manifest(REPOSITORY, &tag).await.unwrap();
    let older = artifact::manifest(&world.registry, REPOSITORY, &older).await.unwrap().layers.unwrap();
    assert_eq!(older.len(), 3);
    let mut evidence = made.clone();
    evidence.push(scan);
    assert_eq!(decide(&Policy::default(), REPOSITORY, &image, &evidence), [""; 0]);
}

#[tokio::test]
async fn what_has_no_evidence_says_so() {
    let world = World::new().await;
    let image = world.image(&[]).await;
    let keys = [world.key.public().clone()];
    assert_eq!(
        missing(&evidence::verify(&world.registry, REPOSITORY, &image, &keys).await.unwrap()),
        EvidenceKind::ALL
    );
    let nowhere = sum(b"nowhere");
    let maker = world.maker();
    let database = example().await;
    let made = maker.make(REPOSITORY, &nowhere, &facts(1), &database, &Vex::default(), now()).await;
    assert_eq!(made.unwrap_err().kind, Kind::NotFound);
    // A layer that is no archive: an error that names it, and nothing attached.
    let broken = world.push(&[(image::media::OCI_LAYER_GZIP, b"\x1f\x8bno".to_vec())]).await;
    let error = maker.make(REPOSITORY, &broken, &facts(1), &database, &Vex::default(), now()).await.unwrap_err();
    assert!(error.message.contains(sum(b"\x1f\x8bno").as_str()), "{error}");
    assert_eq!(referrers(&world, &broken).await.0, []);
}

#[tokio::test]
async fn without_a_database_there_is_no_scan_and_the_policy_says_so() {
    let world = World::new().await;
    let image = world.image(&[]).await;
    let folder = tempfile::tempdir().unwrap();
    let empty = evidence::DatabaseFiles::open(folder.path()).await.unwrap().current();
    let maker = world.maker();
    let made = maker.make(REPOSITORY, &image, &facts(1), &empty, &Vex::default(), now()).await.unwrap();
    let kinds: Vec<EvidenceKind> = made.iter().map(|one| one.detail.kind()).collect();
    assert_eq!(kinds, [EvidenceKind::Sbom, EvidenceKind::Provenance, EvidenceKind::Signature]);
    let reasons = decide(&Policy::default(), REPOSITORY, &image, &made);
    assert_eq!(reasons, [format!("image {REPOSITORY}@{image} has no vulnerability scan")]);
    let again = maker.rescan(REPOSITORY, &image, &facts(1).run, "b", &empty, &Vex::default(), now()).await;
    assert_eq!(again.unwrap_err().kind, Kind::Database);
}

/// Figures, not a test: `cargo test -p evidence --release -- --ignored --nocapture figures`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "prints figures"]
async fn figures() {
    let world = World::new().await;
    let mut files = vec![("usr/lib/os-release".to_owned(), "ID=debian\nVERSION_ID=\"13\"\n".to_owned())];
    for n in 0..300 {
        let stanza = format!("Package: lib{n}\nVersion: 1.{n}-1\nArchitecture: amd64\nDepends: lib{}\n", n / 2);
        files.push((format!("var/lib/dpkg/status.d/lib{n}"), stanza));
        files.push((
            format!("usr/share/doc/lib{n}/copyright"),
            format!("Format: x\n\nFiles: *\nLicense: GPL-2+\n{}", " text\n".repeat(2000)),
        ));
    }
    let noise: String =
        (0..40_000_000u64).map(|n| char::from(b'a' + (n.wrapping_mul(2_654_435_761) >> 7) as u8 % 26)).collect();
    files.push(("usr/bin/node".to_owned(), noise));
    let base = zstd::encode_all(support::tar(&files).as_slice(), 1).unwrap();
    let database = example().await;
    let maker = world.maker();
    for n in 0..6u64 {
        let app = support::tar(&[("app/server.js".to_owned(), format!("version {n}"))]);
        let image = world.push(&[(image::media::OCI_LAYER_ZSTD, base.clone()), (image::media::OCI_LAYER, app)]).await;
        let start = tokio::time::Instant::now();
        let catalogue = maker.catalogue(REPOSITORY, &image).await.unwrap();
        let read = start.elapsed();
        let start = tokio::time::Instant::now();
        let bom = evidence::sbom::cyclonedx::document(REPOSITORY, &image, &catalogue, now());
        let bytes = serde_json::to_vec(&bom).unwrap().len();
        let written = start.elapsed();
        let start = tokio::time::Instant::now();
        maker.make(REPOSITORY, &image, &facts(n), &database, &Vex::default(), now()).await.unwrap();
        let made = start.elapsed();
        let start = tokio::time::Instant::now();
        maker.make(REPOSITORY, &image, &facts(n), &database, &Vex::default(), now()).await.unwrap();
        let again = start.elapsed();
        let start = tokio::time::Instant::now();
        evidence::verify(&world.registry, REPOSITORY, &image, &[world.key.public().clone()]).await.unwrap();
        let verified = start.elapsed();
        eprintln!(
            "layers {read:?}, document {written:?} ({bytes} bytes), all evidence {made:?}, again {again:?}, verify {verified:?}"
        );
    }
}
