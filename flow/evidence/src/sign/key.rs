//! Key pairs: PKCS#8 and SubjectPublicKeyInfo in PEM, as OpenSSL and `cosign verify --key` read them.

use std::{
    fmt, fs,
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use aws_lc_rs::{
    encoding::{AsDer, PublicKeyX509Der},
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use records::Digest;

use crate::error::{Error, Kind, Result};

const PRIVATE: &str = "PRIVATE KEY";
const PUBLIC: &str = "PUBLIC KEY";
/// A key file is some hundred bytes.
const LIMIT: u64 = 64 << 10;

/// A key that signs. Its private part never leaves it, neither in an error nor in `Debug`.
pub struct SigningKey {
    pair: EcdsaKeyPair,
    public: PublicKey,
}

/// A key that checks signatures.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    der: Vec<u8>,
}

fn key_error(message: impl Into<String>) -> Error {
    Error::new(Kind::Key, message)
}

impl SigningKey {
    /// A new key.
    pub fn generate() -> Result<Self> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING)
            .map_err(|e| key_error("no signing key can be generated").caused(e))?;
        Self::of(pair)
    }

    fn of(pair: EcdsaKeyPair) -> Result<Self> {
        let der: PublicKeyX509Der<'_> =
            pair.public_key().as_der().map_err(|e| key_error("the signing key has no public part").caused(e))?;
        let public = PublicKey { der: der.as_ref().to_vec() };
        Ok(Self { pair, public })
    }

    /// Reads a private key: PKCS#8 in PEM, not encrypted.
    pub fn from_pem(pem: &str) -> Result<Self> {
        if pem.contains("ENCRYPTED") {
            return Err(key_error(
                "the signing key is encrypted: decrypt it with `openssl pkcs8`, or let Shipway make its own",
            ));
        }
        let expected = "expected an ECDSA P-256 key as PKCS#8 in PEM (`BEGIN PRIVATE KEY`)";
        let der =
            from_pem(pem, PRIVATE).ok_or_else(|| key_error(format!("the signing key cannot be read: {expected}")))?;
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &der)
            .map_err(|e| key_error(format!("the signing key cannot be used ({e}): {expected}")))?;
        Self::of(pair)
    }

    /// The private key as PKCS#8 in PEM.
    fn to_pem(&self) -> Result<String> {
        let der = self.pair.to_pkcs8v1().map_err(|e| key_error("the signing key cannot be written").caused(e))?;
        Ok(to_pem(der.as_ref(), PRIVATE))
    }

    /// Reads the key at `path`, or makes one there at first start: readable by its owner only, with the public key beside it as
    /// `<path>.pub`. Two starts at the same time end with the same key.
    pub fn load_or_create(path: &Path) -> Result<Self> {
        match Self::load(path) {
            Err(error) if error.kind == Kind::NotFound => {}
            found => return found,
        }
        let key = Self::generate()?;
        let failed =
            |e: io::Error| key_error(format!("the signing key cannot be written to {}: {e}", path.display())).caused(e);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        let partial = appended(path, &format!(".{}.partial", std::process::id()));
        let written = write_private(&partial, key.to_pem()?.as_bytes()).and_then(|()| {
            // A link, unlike a rename, does not replace a key that another start has just put there.
            fs::hard_link(&partial, path)
        });
        let _ = fs::remove_file(&partial);
        match written {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(failed(e)),
        }
        if let Some(Ok(folder)) = path.parent().map(fs::File::open) {
            let _ = folder.sync_all();
        }
        Self::load(path)
    }

    /// Reads the key at `path`; `NotFound` when there is none. A key that others can read is refused.
    pub fn load(path: &Path) -> Result<Self> {
        let failed = |e: io::Error| {
            let kind = if e.kind() == io::ErrorKind::NotFound { Kind::NotFound } else { Kind::Key };
            Error::new(kind, format!("the signing key {} cannot be read: {e}", path.display())).caused(e)
        };
        let metadata = fs::metadata(path).map_err(failed)?;
        if metadata.permissions().mode() & 0o077 != 0 {
            let at = path.display();
            return Err(key_error(format!("the signing key {at} can be read by others: run `chmod 600 {at}`")));
        }
        if metadata.len() > LIMIT {
            return Err(key_error(format!("the signing key {} has more than {LIMIT} bytes", path.display())));
        }
        let key = Self::from_pem(&fs::read_to_string(path).map_err(failed)?)
            .map_err(|e| Error { message: format!("{}: {}", path.display(), e.message), ..e })?;
        let public = appended(path, ".pub");
        let pem = key.public.to_pem();
        if fs::read_to_string(&public).ok().as_deref() != Some(&pem)
            && let Err(error) = fs::write(&public, pem)
        {
            tracing::warn!(path = %public.display(), %error, "the public key could not be written beside the signing key");
        }
        Ok(key)
    }

    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// A signature in ASN.1 DER. Two signatures of the same bytes differ.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>> {
        let signature = self.pair.sign(&SystemRandom::new(), message);
        signature.map(|signature| signature.as_ref().to_vec()).map_err(|e| key_error("signing failed").caused(e))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public.id())
    }
}

fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

fn appended(path: &Path, ending: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(ending);
    path.into()
}

impl PublicKey {
    /// Reads `BEGIN PUBLIC KEY`.
    pub fn from_pem(pem: &str) -> Result<Self> {
        let der = from_pem(pem, PUBLIC).ok_or_else(|| {
            key_error("the public key cannot be read: expected an ECDSA P-256 key in PEM (`BEGIN PUBLIC KEY`)")
        })?;
        let parsed = aws_lc_rs::signature::ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &der)
            .map_err(|e| key_error("the public key is not an ECDSA P-256 key").caused(e))?;
        let der: PublicKeyX509Der<'_> =
            parsed.as_der().map_err(|e| key_error("the public key cannot be used").caused(e))?;
        Ok(Self { der: der.as_ref().to_vec() })
    }

    pub fn to_pem(&self) -> String {
        to_pem(&self.der, PUBLIC)
    }

    /// The digest of the key (SubjectPublicKeyInfo in DER): how records name it.
    pub fn id(&self) -> Digest {
        image::hash::digest(image::Algorithm::Sha256, &self.der)
    }

    /// The same as cosign writes it into bundles: the sum in base64.
    pub fn hint(&self) -> String {
        BASE64_STANDARD.encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &self.der))
    }

    /// Whether `signature` (ASN.1 DER) is one of `message` by this key.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &self.der).verify(message, signature).is_ok()
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.id())
    }
}

/// PEM of RFC 7468.
fn to_pem(der: &[u8], label: &str) -> String {
    let text = BASE64_STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    for line in text.as_bytes().chunks(64) {
        pem.extend(line.iter().map(|byte| char::from(*byte)));
        pem.push('\n');
    }
    pem + &format!("-----END {label}-----\n")
}

fn from_pem(pem: &str, label: &str) -> Option<Vec<u8>> {
    let (_, rest) = pem.split_once(&format!("-----BEGIN {label}-----"))?;
    let (body, _) = rest.split_once(&format!("-----END {label}-----"))?;
    let body: String = body.split_whitespace().collect();
    BASE64_STANDARD.decode(body).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_kept_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys/signing.key");
        let key = SigningKey::load_or_create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let again = SigningKey::load_or_create(&path).unwrap();
        assert_eq!(key.public(), again.public());
        let public =
            PublicKey::from_pem(&fs::read_to_string(dir.path().join("keys/signing.key.pub")).unwrap()).unwrap();
        let signature = key.sign(b"message").unwrap();
        assert!(public.verify(b"message", &signature));
        assert!(!public.verify(b"massage", &signature));
        assert!(!SigningKey::generate().unwrap().public().verify(b"message", &signature));
        assert_eq!(fs::read_dir(dir.path().join("keys")).unwrap().count(), 2);
        assert!(!format!("{key:?}").contains("PRIVATE"));
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("signing.key");
        SigningKey::load_or_create(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = SigningKey::load_or_create(&path).unwrap_err();
        assert!(error.message.contains("chmod 600"), "{error}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "rubbish").unwrap();
        let error = SigningKey::load_or_create(&path).unwrap_err();
        assert!(error.message.contains("BEGIN PRIVATE KEY"), "{error}");
    }

    /// OpenSSL is the reference for the formats.
    #[test]
    fn openssl_reads_and_checks_what_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let key = SigningKey::load_or_create(&at("k")).unwrap();
        fs::write(at("m"), "message").unwrap();
        fs::write(at("s"), key.sign(b"message").unwrap()).unwrap();
        let mut openssl = std::process::Command::new("openssl");
        openssl.args(["dgst", "-sha256", "-verify"]).arg(at("k.pub")).arg("-signature").arg(at("s")).arg(at("m"));
        match openssl.output() {
            Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr)),
            Err(error) => eprintln!("SKIPPED: openssl cannot be run: {error}"),
        }
    }
}
