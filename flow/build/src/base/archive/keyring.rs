//! Whom a signature on an archive is believed.

use std::sync::{Arc, LazyLock};

use pgp::{
    composed::{CleartextSignedMessage, Deserializable, SignedPublicKey},
    crypto::hash::HashAlgorithm,
    packet::{Signature, SignatureType},
    types::KeyDetails,
};
use records::Timestamp;

use crate::{Error, Result};

/// Debian's own keys.
const DEBIAN: &str = include_str!("../keys/debian-archive.asc");

/// A day: how far a clock may be behind the archive's.
const SKEW: i64 = 24 * 3600;

/// Public keys that are trusted to sign an archive. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Keyring(Keys);

#[derive(Debug, Clone)]
enum Keys {
    /// Those that come with Shipway. They are read when the first signature is looked at: verifying what binds them takes a while.
    Debian,
    Given(Arc<[SignedPublicKey]>),
}

static DEBIAN_KEYS: LazyLock<Result<Vec<SignedPublicKey>, String>> =
    LazyLock::new(|| read(DEBIAN).map_err(|e| e.to_string()));

/// A text whose signature was verified.
#[derive(Debug, Clone)]
pub struct SignedText {
    pub text: String,
    /// The fingerprint of the primary key, in upper-case hex.
    pub signer: String,
    /// Seconds since 1970.
    pub signed_at: i64,
}

impl Keyring {
    /// The keys of the Debian archive that come with Shipway (releases 12 and 13).
    pub fn debian() -> Self {
        Self(Keys::Debian)
    }

    /// Reads ASCII-armored public keys. Every user id and subkey must be bound to its primary key by a valid signature.
    pub fn from_armored(text: &str) -> Result<Self> {
        Ok(Self(Keys::Given(read(text)?.into())))
    }

    fn keys(&self) -> Result<&[SignedPublicKey], String> {
        match &self.0 {
            Keys::Debian => DEBIAN_KEYS.as_deref().map_err(Clone::clone),
            Keys::Given(keys) => Ok(keys),
        }
    }

    /// Primary fingerprints in upper-case hex.
    pub fn fingerprints(&self) -> Vec<String> {
        self.keys().unwrap_or_default().iter().map(fingerprint).collect()
    }

    /// Takes the text out of a cleartext-signed document if one of the keys signed it. With `now`, the key must not be expired at
    /// that time; without (a pinned, older document) it must not have been when it signed.
    pub fn verify(&self, document: &[u8], url: &str, now: Option<Timestamp>) -> Result<SignedText> {
        let untrusted = |reason: String| Error::Untrusted { url: url.to_owned(), reason };
        let (message, _) = CleartextSignedMessage::from_armor(document)
            .map_err(|e| untrusted(format!("it is not a signed document ({e})")))?;
        let text = message.signed_text();
        let mut refused = Vec::new();
        for signature in message.signatures() {
            match self.check(signature, text.as_bytes(), now) {
                Ok((signer, signed_at)) => {
                    return Ok(SignedText { text: text.replace("\r\n", "\n"), signer, signed_at });
                }
                Err(reason) => refused.push(reason),
            }
        }
        refused.dedup();
        let why = if refused.is_empty() { "it has no signature".to_owned() } else { refused.join("; ") };
        Err(untrusted(format!("{why}. Trusted are: {}", self.fingerprints().join(", "))))
    }

    fn check(&self, signature: &Signature, text: &[u8], now: Option<Timestamp>) -> Result<(String, i64), String> {
        if !matches!(signature.typ(), Some(SignatureType::Binary | SignatureType::Text)) {
            return Err("a signature is not one of a document".into());
        }
        let strong = [
            HashAlgorithm::Sha256,
            HashAlgorithm::Sha384,
            HashAlgorithm::Sha512,
            HashAlgorithm::Sha3_256,
            HashAlgorithm::Sha3_512,
        ];
        if !signature.hash_alg().is_some_and(|hash| strong.contains(&hash)) {
            return Err("a signature uses a weak hash".into());
        }
        let Some(created) = signature.created().map(|at| i64::from(at.as_secs())) else {
            return Err("a signature has no date".into());
        };
        let now = now.map(|now| now.as_second());
        if now.is_some_and(|now| created > now + SKEW) {
            return Err("a signature is from the future: check this machine's clock".into());
        }
        let at = now.unwrap_or(created);
        if let Some(lifetime) = signature.signature_expiration_time().filter(|l| l.as_secs() > 0)
            && created + i64::from(lifetime.as_secs()) < at
        {
            return Err("a signature has expired".into());
        }
        let mut reason = None;
        for key in self.keys()? {
            match verify_with(key, signature, text, created, at) {
                Some(Ok(())) => return Ok((fingerprint(key), created)),
                Some(Err(why)) => reason = Some(why),
                None => {}
            }
        }
        Err(reason.unwrap_or_else(|| match signature.issuer_fingerprint().first() {
            Some(issuer) => format!("it is signed by {}, which is not trusted", issuer.to_string().to_uppercase()),
            None => "it is signed by a key that is not trusted".into(),
        }))
    }
}

fn read(text: &str) -> Result<Vec<SignedPublicKey>> {
    let wrong = |reason: String| Error::malformed("the keyring", reason);
    let (found, _) = SignedPublicKey::from_string_many(text).map_err(|e| wrong(e.to_string()))?;
    let mut keys = Vec::new();
    for key in found {
        let key = key.map_err(|e| wrong(e.to_string()))?;
        let fingerprint = fingerprint(&key);
        key.verify_bindings().map_err(|e| wrong(format!("key {fingerprint}: {e}")))?;
        keys.push(key);
    }
    if keys.is_empty() {
        return Err(wrong("has no key in it".into()));
    }
    Ok(keys)
}

/// `None` when the signature does not name the key; else whether it holds.
fn verify_with(
    key: &SignedPublicKey,
    signature: &Signature,
    text: &[u8],
    created: i64,
    at: i64,
) -> Option<Result<(), String>> {
    let name = fingerprint(key);
    let altered = || Err(format!("it was altered after it was signed, or the signature by {name} is forged"));
    let expired = |born: u32, self_signatures: &[Signature]| {
        let newest = self_signatures.iter().max_by_key(|s| s.created().map_or(0, |at| at.as_secs()));
        let lifetime = newest.and_then(Signature::key_expiration_time).map_or(0, |lifetime| lifetime.as_secs());
        lifetime > 0 && i64::from(born) + i64::from(lifetime) < at
    };
    let users: Vec<Signature> = key.details.users.iter().flat_map(|user| user.signatures.clone()).collect();
    let direct: Vec<Signature> = key.details.direct_signatures.iter().cloned().chain(users).collect();
    let primary_problem = if !key.details.revocation_signatures.is_empty() {
        Some(format!("the key {name} was revoked"))
    } else if expired(key.created_at().as_secs(), &direct) {
        Some(format!("the key {name} has expired"))
    } else {
        None
    };

    if names(signature, &key.primary_key) {
        let may_sign = direct.iter().any(|s| s.key_flags().sign());
        let result = match primary_problem {
            Some(problem) => Err(problem),
            None if !may_sign || i64::from(key.created_at().as_secs()) > created => {
                Err(format!("the key {name} may not sign"))
            }
            None if signature.verify(&key.primary_key, text).is_ok() => Ok(()),
            None => altered(),
        };
        return Some(result);
    }
    let subkey = key.public_subkeys.iter().find(|subkey| names(signature, &subkey.key))?;
    let revoked = subkey.signatures.iter().any(|s| s.typ() == Some(SignatureType::SubkeyRevocation));
    let may_sign = subkey.signatures.iter().any(|s| s.key_flags().sign());
    Some(match primary_problem {
        Some(problem) => Err(problem),
        None if revoked => Err(format!("a subkey of {name} was revoked")),
        None if expired(subkey.key.created_at().as_secs(), &subkey.signatures) => {
            Err(format!("a subkey of {name} has expired"))
        }
        None if !may_sign => Err(format!("a subkey of {name} may not sign")),
        None if signature.verify(&subkey.key, text).is_ok() => Ok(()),
        None => altered(),
    })
}

/// Whether the signature says that this key made it. A signature that names nobody is believed nobody's.
fn names(signature: &Signature, key: &impl KeyDetails) -> bool {
    signature.issuer_fingerprint().contains(&&key.fingerprint())
        || (signature.issuer_fingerprint().is_empty() && signature.issuer_key_id().contains(&&key.legacy_key_id()))
}

fn fingerprint(key: &SignedPublicKey) -> String {
    key.fingerprint().to_string().to_uppercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debians_keys_are_the_pinned_ones() {
        let mut found = Keyring::debian().fingerprints();
        found.sort();
        // As printed by https://ftp-master.debian.org/keys.html.
        assert_eq!(
            found,
            [
                "04B54C3CDCA79751B16BC6B5225629DF75B188BD",
                "05AB90340C0C5E797F44A8C8254CF3B5AEC0A8F0",
                "41587F7DB8C774BCCF131416762F67A0B2C39DE4",
                "4D64FEC119C2029067D6E791F8D2585B8783D481",
                "5E04A1E3223A19A20706E20F9904613D4CCE68C6",
                "B8B80B5B623EAB6AD8775C45B7C5D7D6350947F8",
            ]
        );
    }
}
