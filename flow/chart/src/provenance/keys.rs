//! Rings of OpenPGP keys: packets as GnuPG's `pubring.gpg` and `secring.gpg` hold them, GnuPG's keybox, armored exports.

use pgp::{
    composed::{PublicOrSecret, SignedPublicKey, SignedSecretKey},
    crypto::hash::HashAlgorithm,
    packet::{Signature, SignatureType},
    types::KeyDetails,
};

use super::{Verified, wrong};
use crate::Error;

/// Bytes of a ring at most.
const LARGEST: usize = 64 << 20;
/// How far a clock may be behind a signer's, in seconds.
const SKEW: i64 = 24 * 3600;

/// The keys of a ring. Those that cannot be read are left out.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    public: Vec<SignedPublicKey>,
    secret: Vec<SignedSecretKey>,
}

impl Keys {
    /// Reads a ring.
    pub fn read(data: &[u8]) -> Result<Self, Error> {
        if data.len() > LARGEST {
            return Err(wrong(format!("the keyring has more than {LARGEST} bytes")));
        }
        let mut keys = Self::default();
        let armored = data.trim_ascii_start().starts_with(b"-----BEGIN PGP");
        if armored {
            // A file may hold several exports, one after the other.
            let text = String::from_utf8_lossy(data);
            for block in text.split("-----BEGIN PGP").skip(1) {
                let block = format!("-----BEGIN PGP{block}");
                let (found, _) = PublicOrSecret::from_armor_many(block.as_bytes())
                    .map_err(|error| wrong(format!("the keyring cannot be read: {error}")))?;
                keys.take(found);
            }
        } else if let Some(blocks) = keybox(data) {
            for block in blocks {
                keys.packets(block)?;
            }
        } else {
            keys.packets(data)?;
        }
        if keys.public.is_empty() {
            return Err(wrong("the keyring has no key in it"));
        }
        Ok(keys)
    }

    fn packets(&mut self, data: &[u8]) -> Result<(), Error> {
        let found = PublicOrSecret::from_reader_many(data)
            .map_err(|error| wrong(format!("the keyring cannot be read: {error}")))?;
        self.take(found.0);
        Ok(())
    }

    fn take(&mut self, found: impl Iterator<Item = Result<PublicOrSecret, pgp::errors::Error>>) {
        for key in found.flatten() {
            match key {
                PublicOrSecret::Public(key) => self.public.push(key),
                PublicOrSecret::Secret(key) => {
                    self.public.push(key.to_public_key());
                    self.secret.push(key);
                }
            }
        }
        // Whoever is named on a key without the key's own word for it is not on it.
        self.public.retain(|key| key.verify_bindings().is_ok());
    }

    /// The one secret key that has `id` in a name; the one with that very name goes first.
    pub(super) fn secret(&self, id: &str) -> Result<&SignedSecretKey, Error> {
        let named = |key: &&SignedSecretKey, exact: bool| {
            names(&key.details).iter().any(|name| if exact { name == id } else { name.contains(id) })
        };
        if let Some(key) = self.secret.iter().find(|key| named(key, true)) {
            return Ok(key);
        }
        let mut found = self.secret.iter().filter(|key| named(key, false));
        match (found.next(), found.next()) {
            (Some(key), None) => Ok(key),
            (Some(_), Some(_)) => Err(wrong(format!("more than one key contain the id {id:?}"))),
            (None, _) if self.public.iter().any(|key| names(&key.details).iter().any(|name| name.contains(id))) => {
                Err(wrong("provided key is not a private key. Try providing a keyring with secret keys"))
            }
            (None, _) => Err(wrong(format!("private key not found: the keyring has none with {id:?} in its name"))),
        }
    }

    /// Who made one of the signatures on the text.
    pub(super) fn signer(&self, signatures: &[Signature], text: &[u8], now: i64) -> Result<Verified, Error> {
        let mut why = "openpgp: signature made by unknown entity".to_owned();
        for signature in signatures {
            for key in &self.public {
                match holds(key, signature, text, now) {
                    None => {}
                    Some(Err(refused)) => why = refused,
                    Some(Ok(())) => {
                        let fingerprint = key.fingerprint().to_string().to_uppercase();
                        return Ok(Verified { signed_by: names(&key.details), fingerprint, hash: String::new() });
                    }
                }
            }
        }
        Err(wrong(why))
    }
}

fn names(details: &pgp::composed::SignedKeyDetails) -> Vec<String> {
    details.users.iter().map(|user| String::from_utf8_lossy(user.id.id()).into_owned()).collect()
}

/// `None` if the key did not make the signature; else whether it counts.
fn holds(key: &SignedPublicKey, signature: &Signature, text: &[u8], now: i64) -> Option<Result<(), String>> {
    let subkey = key.public_subkeys.iter().find(|subkey| signature.verify(&subkey.key, text).is_ok());
    let by_primary = subkey.is_none();
    if by_primary && signature.verify(&key.primary_key, text).is_err() {
        let issued = signature.issuer_fingerprint().iter().any(|issuer| **issuer == key.fingerprint());
        return issued.then(|| Err("openpgp: invalid signature: it was altered after it was signed".to_owned()));
    }
    Some(counts(key, subkey.map(|subkey| subkey.signatures.as_slice()), signature, now))
}

fn counts(key: &SignedPublicKey, subkey: Option<&[Signature]>, signature: &Signature, now: i64) -> Result<(), String> {
    let name = key.fingerprint().to_string().to_uppercase();
    if !matches!(signature.typ(), Some(SignatureType::Binary | SignatureType::Text)) {
        return Err("openpgp: the signature is not one of a document".to_owned());
    }
    let strong = [HashAlgorithm::Sha256, HashAlgorithm::Sha384, HashAlgorithm::Sha512];
    let strong = [&strong[..], &[HashAlgorithm::Sha3_256, HashAlgorithm::Sha3_512, HashAlgorithm::Sha224]].concat();
    if !signature.hash_alg().is_some_and(|hash| strong.contains(&hash)) {
        return Err("openpgp: the signature uses a weak hash".to_owned());
    }
    let created = signature.created().map(|at| i64::from(at.as_secs()));
    let created = created.ok_or("openpgp: the signature has no date")?;
    if created > now + SKEW {
        return Err("openpgp: the signature is from the future: check this machine's clock".to_owned());
    }
    let over = |from: i64, lifetime: Option<u32>| lifetime.is_some_and(|l| l > 0 && from + i64::from(l) < now);
    if over(created, signature.signature_expiration_time().map(|l| l.as_secs())) {
        return Err("openpgp: signature expired".to_owned());
    }
    if !key.details.revocation_signatures.is_empty() {
        return Err(format!("openpgp: signature made by revoked key {name}"));
    }
    let lifetime = |signatures: &mut dyn Iterator<Item = &Signature>| {
        let newest = signatures.max_by_key(|s| s.created().map_or(0, |at| at.as_secs()));
        newest.and_then(Signature::key_expiration_time).map(|l| l.as_secs())
    };
    let mut own =
        key.details.direct_signatures.iter().chain(key.details.users.iter().flat_map(|user| &user.signatures));
    if over(i64::from(key.created_at().as_secs()), lifetime(&mut own)) {
        return Err(format!("openpgp: key expired: {name}"));
    }
    match subkey {
        Some(bindings) if bindings.iter().any(|s| s.typ() == Some(SignatureType::SubkeyRevocation)) => {
            Err(format!("openpgp: signature made by a revoked subkey of {name}"))
        }
        Some(bindings) if !bindings.iter().any(|s| s.key_flags().sign()) => {
            Err(format!("openpgp: signature made by a subkey of {name} that is not for signing"))
        }
        _ => Ok(()),
    }
}

/// The keys in a keybox, which GnuPG keeps since 2.1: blobs with a length (4 bytes, big endian), a type (2 is OpenPGP), and for
/// such the place and length of the key (4 bytes each, at 8 and 12).
fn keybox(data: &[u8]) -> Option<Vec<&[u8]>> {
    if data.get(8..12) != Some(b"KBXf") {
        return None;
    }
    let number = |blob: &[u8], at: usize| Some(u32::from_be_bytes(blob.get(at..at + 4)?.try_into().ok()?) as usize);
    let (mut found, mut rest) = (Vec::new(), data);
    while let Some(length) = number(rest, 0).filter(|length| (5..=rest.len()).contains(length)) {
        let (blob, after) = rest.split_at(length);
        if blob[4] == 2
            && let (Some(place), Some(size)) = (number(blob, 8), number(blob, 12))
            && let Some(key) = place.checked_add(size).and_then(|end| blob.get(place..end))
        {
            found.push(key);
        }
        rest = after;
    }
    Some(found)
}
