//! DSSE envelopes (<https://github.com/secure-systems-lab/dsse>): a payload, its type, and signatures over both.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};

use super::key::{PublicKey, SigningKey};
use crate::error::{Error, Result, clip};

/// The media type of an envelope.
pub const MEDIA_TYPE: &str = "application/vnd.dsse.envelope.v1+json";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Envelope {
    /// Base64.
    pub payload: String,
    pub payload_type: String,
    pub signatures: Vec<Signature>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub keyid: String,
    /// Base64.
    pub sig: String,
}

/// What is signed: the pre-authentication encoding of the DSSE protocol, version 1.
fn encoding(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut message = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    message.extend_from_slice(payload);
    message
}

impl Envelope {
    /// Signs a payload.
    pub fn seal(key: &SigningKey, payload_type: &str, payload: &[u8]) -> Result<Self> {
        let signature = key.sign(&encoding(payload_type, payload))?;
        Ok(Self {
            payload: BASE64_STANDARD.encode(payload),
            payload_type: payload_type.to_owned(),
            signatures: vec![Signature { keyid: String::new(), sig: BASE64_STANDARD.encode(signature) }],
        })
    }

    /// The payload, and which of `keys` signed it; an error when none did or when it is not of the type that is expected.
    pub fn open<'k>(&self, keys: &'k [PublicKey], payload_type: &str) -> Result<(Vec<u8>, &'k PublicKey)> {
        if self.payload_type != payload_type {
            let found = clip(&self.payload_type, 100);
            return Err(Error::invalid(format!("the envelope holds `{found}`, expected {payload_type}")));
        }
        let payload = BASE64_STANDARD
            .decode(&self.payload)
            .map_err(|e| Error::invalid("the envelope's payload is not base64").caused(e))?;
        let message = encoding(payload_type, &payload);
        for signature in self.signatures.iter().take(16) {
            let Ok(sum) = BASE64_STANDARD.decode(&signature.sig) else { continue };
            if let Some(key) = keys.iter().find(|key| key.verify(&message, &sum)) {
                return Ok((payload, key));
            }
        }
        Err(Error::invalid("no trusted key signed the envelope"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_encoding_is_the_protocol_s() {
        // The example of the protocol's specification.
        let encoded = encoding("http://example.com/HelloWorld", b"hello world");
        assert_eq!(encoded, b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
    }

    #[test]
    fn any_change_is_noticed() {
        let key = SigningKey::generate().unwrap();
        let keys = [SigningKey::generate().unwrap().public().clone(), key.public().clone()];
        let sealed = Envelope::seal(&key, "a/b", b"payload").unwrap();
        let (payload, by) = sealed.open(&keys, "a/b").unwrap();
        assert_eq!((payload.as_slice(), by), (&b"payload"[..], key.public()));
        assert!(sealed.open(&keys[..1], "a/b").is_err());
        assert!(sealed.open(&keys, "a/c").is_err());
        let payload = BASE64_STANDARD.encode(b"payloae");
        assert!(Envelope { payload, ..sealed.clone() }.open(&keys, "a/b").is_err());
        let retyped = Envelope { payload_type: "a/c".into(), ..sealed.clone() };
        assert!(retyped.open(&keys, "a/c").is_err());
        assert!(Envelope { signatures: Vec::new(), ..sealed }.open(&keys, "a/b").is_err());
    }
}
