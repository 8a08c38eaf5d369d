//! Provenance files: what is signed here holds, and nothing else does. That the real `helm` and this crate verify each other's
//! files is checked by hand with GnuPG; the format is the same.

use chart::{
    Loader, Warnings,
    metadata::Metadata,
    provenance::{Keys, sign, verify},
};
use pgp::{
    composed::{ArmorOptions, KeyType, SecretKeyParamsBuilder, SignedSecretKey},
    ser::Serialize,
};

/// Later than any key that a test makes.
const NOW: i64 = 4_000_000_000;

fn key(name: &str, passphrase: Option<&str>) -> SignedSecretKey {
    SecretKeyParamsBuilder::default()
        .key_type(KeyType::Ed25519Legacy)
        .can_certify(true)
        .can_sign(true)
        .primary_user_id(name.into())
        .passphrase(passphrase.map(str::to_owned))
        .build()
        .unwrap()
        .generate(rand::thread_rng())
        .unwrap()
}

fn metadata() -> Metadata {
    let mut metadata = Metadata::default();
    metadata.read("apiVersion: v2\nname: web\nversion: 1.2.3\ndescription: '- a list? no'\n").unwrap();
    metadata
}

fn public(key: &SignedSecretKey) -> Vec<u8> {
    key.to_public_key().to_bytes().unwrap()
}

fn signed(key: &SignedSecretKey) -> String {
    let keys = Keys::read(&key.to_bytes().unwrap()).unwrap();
    sign(&keys, "Ada", b"", &metadata(), "web-1.2.3.tgz", b"archive", NOW).unwrap()
}

fn refused(keys: &Keys, name: &str, archive: &[u8], statement: &[u8], now: i64) -> String {
    verify(keys, name, archive, statement, now).unwrap_err().to_string()
}

#[test]
fn what_was_signed_holds_in_every_kind_of_ring() {
    let ada = key("Ada Example <ada@example.org>", None);
    let statement = signed(&ada);
    assert!(statement.starts_with("-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n"), "{statement}");
    assert!(statement.contains("\nname: web\n") && statement.contains("\n...\nfiles:\n  web-1.2.3.tgz: sha256:"));
    let binary = public(&ada);
    let bob = key("Bob <bob@example.org>", None);
    let two = [public(&bob), binary.clone()].concat();
    let armored = |key: &SignedSecretKey| key.to_public_key().to_armored_string(ArmorOptions::default()).unwrap();
    let exports = format!("{}{}", armored(&bob), armored(&ada)).into_bytes();
    for ring in [binary.clone(), two, exports, keybox(&binary)] {
        let verified = verify(&Keys::read(&ring).unwrap(), "web-1.2.3.tgz", b"archive", statement.as_bytes(), NOW);
        let verified = verified.unwrap();
        assert_eq!(verified.signed_by, ["Ada Example <ada@example.org>"]);
        assert_eq!(verified.hash.len(), "sha256:".len() + 64);
        assert!(verified.fingerprint.chars().all(|c| c.is_ascii_digit() || c.is_ascii_uppercase()));
    }
}

/// A keybox as GnuPG writes it: a header blob, then one with the key.
fn keybox(key: &[u8]) -> Vec<u8> {
    let mut ring = [&32_u32.to_be_bytes()[..], &[1, 1, 0, 2], b"KBXf", &[0; 20]].concat();
    let size = u32::try_from(key.len()).unwrap();
    ring.extend([(20 + size + 4).to_be_bytes(), [2, 1, 0, 0], 20_u32.to_be_bytes(), size.to_be_bytes()].concat());
    ring.extend([0; 4]);
    ring.extend(key);
    ring.extend([0; 4]);
    ring
}

#[test]
fn what_was_altered_does_not() {
    let ada = key("Ada Example <ada@example.org>", None);
    let keys = Keys::read(&public(&ada)).unwrap();
    let statement = signed(&ada);
    let name = "web-1.2.3.tgz";
    let changed = refused(&keys, name, b"archivE", statement.as_bytes(), NOW);
    assert!(changed.starts_with("sha256 sum does not match for web-1.2.3.tgz"), "{changed}");
    let renamed = refused(&keys, "web-9.9.9.tgz", b"archive", statement.as_bytes(), NOW);
    assert_eq!(renamed, "provenance does not contain a SHA for a file named \"web-9.9.9.tgz\"");
    let forged = statement.replace("version: 1.2.3", "version: 6.6.6");
    assert!(refused(&keys, name, b"archive", forged.as_bytes(), NOW).contains("invalid signature"));
    assert_eq!(refused(&keys, name, b"archive", b"nothing", NOW), "signature block not found");
    let early = refused(&keys, name, b"archive", statement.as_bytes(), 1_000_000_000);
    assert!(early.contains("from the future"), "{early}");
}

#[test]
fn a_stranger_is_not_believed() {
    let statement = signed(&key("Ada", None));
    let other = Keys::read(&public(&key("Ada", None))).unwrap();
    let why = refused(&other, "web-1.2.3.tgz", b"archive", statement.as_bytes(), NOW);
    assert_eq!(why, "openpgp: signature made by unknown entity");
}

#[test]
fn the_key_to_sign_with_is_one_and_secret() {
    let (ada, bob) = (key("Ada <a@example.org>", None), key("Bob <b@example.org>", None));
    let both = [ada.to_bytes().unwrap(), bob.to_bytes().unwrap()].concat();
    let keys = Keys::read(&both).unwrap();
    let with = |keys: &Keys, id: &str, passphrase: &str| {
        sign(keys, id, passphrase.as_bytes(), &metadata(), "w.tgz", b"x", NOW).map_err(|e| e.to_string())
    };
    assert!(with(&keys, "Bob", "").is_ok());
    assert_eq!(with(&keys, "example.org", "").unwrap_err(), "more than one key contain the id \"example.org\"");
    assert!(with(&keys, "Eve", "").unwrap_err().starts_with("private key not found"));
    let known = Keys::read(&public(&ada)).unwrap();
    assert!(with(&known, "Ada", "").unwrap_err().contains("not a private key"));
    let locked = Keys::read(&key("Cy", Some("open sesame")).to_bytes().unwrap()).unwrap();
    assert!(with(&locked, "Cy", "open sesame").is_ok());
    assert!(with(&locked, "Cy", "").unwrap_err().contains("passphrase"));
    let wrong = with(&locked, "Cy", "shazam").unwrap_err();
    assert!(!wrong.contains("shazam"), "{wrong}");
}

#[test]
fn rings_that_are_none() {
    for ring in [&b""[..], b"hello", b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nAAAA\n", &keybox(b"")[..]] {
        assert!(Keys::read(ring).is_err(), "{ring:?}");
    }
}

#[test]
fn versions_are_printed_as_go_prints_numbers() {
    let mut metadata = Metadata::default();
    metadata.read("apiVersion: v2\nname: a\nversion: 72445e2\nappVersion: 1.5\n").unwrap();
    assert_eq!((metadata.version.as_str(), metadata.app_version.as_str()), ("7.2445e+06", "1.5"));
    let file = |text: &'static str| chart::File { name: "Chart.yaml".into(), data: text.into() };
    let load = |text| Loader::default().files(vec![file(text)], &Warnings::default()).map_err(|e| e.to_string());
    assert!(load("apiVersion: v2\nname: a\nversion: 72445e2\n").unwrap_err().contains("is invalid"));
    assert_eq!(load("apiVersion: v3\nname: a\nversion: 1.0.0\n").unwrap_err(), "invalid chart apiVersion");
}
