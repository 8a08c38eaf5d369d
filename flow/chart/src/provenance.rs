//! Provenance files: a chart's metadata and the digest of its archive, signed in clear text with OpenPGP, as `helm package
//! --sign` writes them.

mod keys;

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::HEXLOWER;
use pgp::{
    composed::{ArmorOptions, CleartextSignedMessage},
    crypto::hash::HashAlgorithm,
    packet::{SignatureConfig, SignatureType, Subpacket, SubpacketData},
    types::{KeyDetails, KeyVersion, Password, Timestamp},
};
use yaml::Value;

pub use keys::Keys;

use crate::{Error, metadata::Metadata};

/// Bytes of a provenance file at most.
const LARGEST: usize = 1 << 20;

/// A provenance that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The names on the key, such as `Ada <ada@example.org>`.
    pub signed_by: Vec<String>,
    /// Of the primary key, in upper-case hex.
    pub fingerprint: String,
    /// `sha256:…` of the archive.
    pub hash: String,
}

fn wrong(why: impl Into<String>) -> Error {
    Error::Provenance(why.into())
}

fn sum(archive: &[u8]) -> String {
    let hex: String = HEXLOWER.encode(digest(&SHA256, archive).as_ref());
    format!("sha256:{hex}")
}

/// Makes the provenance of an archive of that name, signed at `now` (seconds since 1970) by the one secret key with `id` in
/// one of its names.
pub fn sign(
    keys: &Keys,
    id: &str,
    passphrase: &[u8],
    metadata: &Metadata,
    name: &str,
    archive: &[u8],
    now: i64,
) -> Result<String, Error> {
    let key = &keys.secret(id)?.primary_key;
    if key.version() != KeyVersion::V4 {
        return Err(wrong(format!("the key {id:?} is not of version 4, which helm needs to verify what it signs")));
    }
    let files = Value::Map([(name.to_owned(), Value::from(sum(archive).as_str()))].into());
    let sums = yaml::to_go(&Value::Map([("files".to_owned(), files)].into()));
    let text = format!("{}\n...\n{sums}", metadata.yaml());
    let failed = |error: pgp::errors::Error| wrong(format!("cannot sign {name} with the key {id:?}: {error}"));
    let mut config = SignatureConfig::v4(SignatureType::Text, key.algorithm(), HashAlgorithm::Sha512);
    let at = Timestamp::from_secs(u32::try_from(now).map_err(|_| wrong("the time is out of OpenPGP's range"))?);
    for data in [SubpacketData::SignatureCreationTime(at), SubpacketData::IssuerFingerprint(key.fingerprint())] {
        config.hashed_subpackets.push(Subpacket::regular(data).map_err(failed)?);
    }
    let issuer = Subpacket::regular(SubpacketData::IssuerKeyId(key.legacy_key_id())).map_err(failed)?;
    config.unhashed_subpackets.push(issuer);
    let message = CleartextSignedMessage::new(&text, config, key, &Password::from(passphrase)).map_err(|error| {
        let hint = if passphrase.is_empty() { "; if the key is locked, give its passphrase in a file" } else { "" };
        wrong(format!("cannot sign {name} with the key {id:?}: {error}{hint}"))
    })?;
    message.to_armored_string(ArmorOptions::default()).map_err(failed)
}

/// Holds an archive of that name against its provenance. `now` is in seconds since 1970.
pub fn verify(keys: &Keys, name: &str, archive: &[u8], provenance: &[u8], now: i64) -> Result<Verified, Error> {
    if provenance.len() > LARGEST {
        return Err(wrong(format!("the provenance of {name} has more than {LARGEST} bytes")));
    }
    let (message, _) =
        CleartextSignedMessage::from_armor(provenance).map_err(|_| wrong("signature block not found"))?;
    let text = message.signed_text();
    let signer = keys.signer(message.signatures(), text.as_bytes(), now)?;
    let text = text.replace("\r\n", "\n");
    let (_, sums) = text.split_once("\n...\n").ok_or_else(|| wrong("message block must have at least two parts"))?;
    let sums = yaml::from_str(sums).map_err(|error| wrong(error.to_string()))?;
    let said = sums.get("files").and_then(|files| files.get(name)).and_then(Value::as_str);
    let said = said.ok_or_else(|| wrong(format!("provenance does not contain a SHA for a file named {name:?}")))?;
    let hash = sum(archive);
    if said != hash {
        return Err(wrong(format!("sha256 sum does not match for {name}: {said:?} != {hash:?}")));
    }
    Ok(Verified { hash, ..signer })
}
