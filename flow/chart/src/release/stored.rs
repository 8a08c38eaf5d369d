//! How a revision is kept in a cluster: a Secret `sh.helm.release.v1.NAME.vN` of type `helm.sh/release.v1`, whose key
//! `release` is base64 of gzip of JSON (and base64 again as any Secret), and whose labels can be asked for.

use std::{collections::BTreeMap, io::Read, io::Write};

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;

use super::Record;
use crate::Error;

/// The type of the Secret.
pub const SECRET_TYPE: &str = "helm.sh/release.v1";
/// Labels that Helm writes itself and that a user may not set.
pub const SYSTEM_LABELS: [&str; 6] = ["name", "owner", "status", "version", "createdAt", "modifiedAt"];
/// A revision larger than this when unpacked is not read.
const LARGEST: u64 = 64 << 20;

/// The Secret's name.
pub fn key(name: &str, revision: u64) -> String {
    format!("sh.helm.release.v1.{name}.v{revision}")
}

/// Packs a revision into what stands under the Secret's key `release` (before the Secret's own base64).
pub fn encode(record: &Record) -> Result<String, Error> {
    let json = serde_json::to_vec(record).map_err(|error| Error::Record(error.to_string()))?;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let packed = gzip.write_all(&json).and_then(|()| gzip.finish());
    Ok(STANDARD.encode(packed.map_err(|error| Error::Record(error.to_string()))?))
}

/// Reads what stands under the Secret's key `release`. Records of the time before compression are read too.
pub fn decode(data: &[u8], labels: &BTreeMap<String, String>) -> Result<Record, Error> {
    let broken = |error: &dyn std::fmt::Display| Error::Record(format!("the stored release cannot be read: {error}"));
    let packed = STANDARD.decode(data.trim_ascii()).map_err(|error| broken(&error))?;
    let json = if packed.starts_with(&[0x1f, 0x8b, 8]) {
        let mut json = Vec::new();
        flate2::read::GzDecoder::new(packed.as_slice())
            .take(LARGEST + 1)
            .read_to_end(&mut json)
            .map_err(|error| broken(&error))?;
        if json.len() as u64 > LARGEST {
            return Err(broken(&format!("it is larger than {LARGEST} bytes")));
        }
        json
    } else {
        packed
    };
    let mut record: Record = serde_json::from_slice(&json).map_err(|error| broken(&error))?;
    record.labels = labels
        .iter()
        .filter(|(name, _)| !SYSTEM_LABELS.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let written = labels.get("modifiedAt").or_else(|| labels.get("createdAt"));
    record.written = written.and_then(|time| Timestamp::from_second(time.parse().ok()?).ok());
    Ok(record)
}

/// What a write of the Secret is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Create,
    Update,
}

/// The labels of the Secret.
pub fn labels(record: &Record, write: Access, now: Timestamp) -> BTreeMap<String, String> {
    let mut labels = record.labels.clone();
    let stamp = match write {
        Access::Create => "createdAt",
        Access::Update => "modifiedAt",
    };
    labels.insert(stamp.to_owned(), now.as_second().to_string());
    labels.insert("name".to_owned(), record.name.clone());
    labels.insert("owner".to_owned(), "helm".to_owned());
    labels.insert("status".to_owned(), record.info.status.to_string());
    labels.insert("version".to_owned(), record.version.to_string());
    labels
}

/// The first user's label that is one of Helm's own, if there is one.
pub fn reserved(labels: &BTreeMap<String, String>) -> Option<&str> {
    labels.keys().map(String::as_str).find(|name| SYSTEM_LABELS.contains(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::release::Status;

    #[test]
    fn there_and_back() {
        let mut record = Record { name: "web".into(), namespace: "shop".into(), version: 3, ..Record::default() };
        record.set(Status::Deployed, "Install complete");
        record.manifest = "---\na: <b>\n".into();
        let back = decode(encode(&record).unwrap().as_bytes(), &BTreeMap::new()).unwrap();
        assert_eq!(back, record);
    }

    #[test]
    fn labels_are_helms() {
        let mut record = Record { name: "web".into(), version: 2, ..Record::default() };
        record.labels.insert("team".into(), "a".into());
        let labels = labels(&record, Access::Create, Timestamp::UNIX_EPOCH);
        assert_eq!(labels["owner"], "helm");
        assert_eq!(labels["createdAt"], "0");
        assert_eq!(labels["team"], "a");
        assert_eq!(labels["version"], "2");
    }

    #[test]
    fn rubbish_is_an_error() {
        assert!(decode(b"!!", &BTreeMap::new()).is_err());
        assert!(decode(STANDARD.encode([0x1f, 0x8b, 8, 0, 1, 2]).as_bytes(), &BTreeMap::new()).is_err());
    }
}
