//! One revision of a release, as Helm writes it down (JSON, Helm 3's field order; Helm 4's newer fields are kept).

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::manifest::Hook;

/// Where a revision stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    Deployed,
    Uninstalled,
    Superseded,
    Failed,
    Uninstalling,
    PendingInstall,
    PendingUpgrade,
    PendingRollback,
    #[default]
    #[serde(other)]
    Unknown,
}

impl Status {
    /// The word that Helm writes and prints.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Deployed => "deployed",
            Self::Uninstalled => "uninstalled",
            Self::Superseded => "superseded",
            Self::Failed => "failed",
            Self::Uninstalling => "uninstalling",
            Self::PendingInstall => "pending-install",
            Self::PendingUpgrade => "pending-upgrade",
            Self::PendingRollback => "pending-rollback",
        }
    }

    /// True while an operation on the revision has begun and has not ended.
    pub fn is_pending(self) -> bool {
        matches!(self, Self::PendingInstall | Self::PendingUpgrade | Self::PendingRollback)
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// What is said about a revision beside its content.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Info {
    #[serde(default, with = "stamp")]
    pub first_deployed: Option<Timestamp>,
    #[serde(default, with = "stamp")]
    pub last_deployed: Option<Timestamp>,
    #[serde(default, with = "stamp")]
    pub deleted: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    #[serde(default)]
    pub status: Status,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub notes: String,
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

const INTERRUPTED: &str = "Interrupted while ";

/// One revision of a release.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Record {
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub info: Info,
    /// The chart as stored: metadata, lock, templates, values, schema, files; subcharts are not part of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chart: Option<Value>,
    /// The values given by the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<Value>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub manifest: String,
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<Hook>,
    /// The revision, from 1.
    #[serde(default)]
    pub version: u64,
    #[serde(default)]
    pub namespace: String,
    #[serde(flatten)]
    pub other: Map<String, Value>,
    /// Labels of the object that holds the record, without Helm's own.
    #[serde(skip)]
    pub labels: std::collections::BTreeMap<String, String>,
    /// Who works on it, as the object that holds the record says.
    #[serde(skip)]
    pub claim: Option<Claim>,
    /// When it was last written, as the object that holds the record says.
    #[serde(skip)]
    pub written: Option<Timestamp>,
}

/// The process that works on a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    pub owner: String,
    /// Another one every few seconds, as long as the process lives.
    pub beat: String,
}

impl Record {
    /// Sets where the revision stands and what is said about it.
    pub fn set(&mut self, status: Status, description: impl Into<String>) {
        self.info.status = status;
        self.info.description = description.into();
    }

    /// True while an operation on it, uninstalling too, has begun and has not ended.
    pub fn is_unsettled(&self) -> bool {
        self.info.status.is_pending() || self.info.status == Status::Uninstalling
    }

    /// What becomes of it when the process that worked on it is gone.
    pub fn interrupted(mut self) -> Self {
        let what = self.info.status;
        self.claim = None;
        self.set(Status::Failed, format!("{INTERRUPTED}{what}: the process that did it is gone"));
        self
    }

    /// Whether [`Self::interrupted`] made it.
    pub fn is_interrupted(&self) -> bool {
        self.info.status == Status::Failed && self.info.description.starts_with(INTERRUPTED)
    }

    /// `ssa` (server-side apply), `csa` (patches of the client) or empty, which is the same as `csa`.
    pub fn apply_method(&self) -> &str {
        self.other.get("apply_method").and_then(Value::as_str).unwrap_or_default()
    }

    /// Sets how its objects are written.
    pub fn set_apply_method(&mut self, server_side: bool) {
        self.other.insert("apply_method".to_owned(), if server_side { "ssa" } else { "csa" }.into());
    }

    /// The revision that it brought back, for a rollback.
    pub fn rollback_revision(&self) -> Option<u64> {
        self.info.other.get("rollback_revision").and_then(Value::as_u64).filter(|revision| *revision > 0)
    }

    /// The name of the chart it was made from.
    pub fn chart_name(&self) -> &str {
        self.metadata("name")
    }

    /// The version of the chart it was made from.
    pub fn chart_version(&self) -> &str {
        self.metadata("version")
    }

    /// The version of the application, as the chart says.
    pub fn app_version(&self) -> &str {
        self.metadata("appVersion")
    }

    fn metadata(&self, field: &str) -> &str {
        self.chart.as_ref().and_then(|chart| chart["metadata"][field].as_str()).unwrap_or_default()
    }
}

fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// A point in time; none is written as an empty text, as Helm 3 does and Helm 4 reads.
pub(crate) mod stamp {
    use super::*;

    pub fn serialize<S: Serializer>(time: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => serializer.collect_str(time),
            None => serializer.serialize_str(""),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
        match Option::<String>::deserialize(deserializer)?.as_deref() {
            None | Some("") => Ok(None),
            Some(text) => text.parse().map(Some).map_err(serde::de::Error::custom),
        }
    }
}
