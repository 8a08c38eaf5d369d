//! Hooks: objects that are made at an event of a release's life, not as part of it.

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};

use super::Head;

/// When a hook runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    PreInstall,
    PostInstall,
    PreDelete,
    PostDelete,
    PreUpgrade,
    PostUpgrade,
    PreRollback,
    PostRollback,
    Test,
}

impl Event {
    const ALL: [Self; 9] = [
        Self::PreInstall,
        Self::PostInstall,
        Self::PreDelete,
        Self::PostDelete,
        Self::PreUpgrade,
        Self::PostUpgrade,
        Self::PreRollback,
        Self::PostRollback,
        Self::Test,
    ];

    /// The word in the annotation.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PreInstall => "pre-install",
            Self::PostInstall => "post-install",
            Self::PreDelete => "pre-delete",
            Self::PostDelete => "post-delete",
            Self::PreUpgrade => "pre-upgrade",
            Self::PostUpgrade => "post-upgrade",
            Self::PreRollback => "pre-rollback",
            Self::PostRollback => "post-rollback",
            Self::Test => "test",
        }
    }
}

/// The events of an annotation; nothing when one is unknown.
pub(super) fn events(annotation: &str) -> Option<Vec<Event>> {
    let event = |word: &str| {
        let word = word.trim().to_lowercase();
        let word = if word == "test-success" { "test" } else { &word };
        Event::ALL.into_iter().find(|event| event.as_str() == word)
    };
    annotation.split(',').map(event).collect()
}

/// When the object of a hook is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeletePolicy {
    HookSucceeded,
    HookFailed,
    BeforeHookCreation,
}

impl DeletePolicy {
    /// The word in the annotation.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HookSucceeded => "hook-succeeded",
            Self::HookFailed => "hook-failed",
            Self::BeforeHookCreation => "before-hook-creation",
        }
    }
}

/// How far a hook has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// It has never run.
    #[default]
    #[serde(rename = "")]
    Never,
    Running,
    Succeeded,
    Failed,
    #[serde(other)]
    Unknown,
}

/// The last time a hook ran.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Execution {
    #[serde(default, with = "crate::release::stamp")]
    pub started_at: Option<Timestamp>,
    #[serde(default, with = "crate::release::stamp")]
    pub completed_at: Option<Timestamp>,
    #[serde(default)]
    pub phase: Phase,
}

/// A hook, as it is stored with a release.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Hook {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// The template it comes from.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub path: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub manifest: String,
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<Event>,
    #[serde(default)]
    pub last_run: Execution,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub weight: i64,
    /// As written in the annotation, in lower case.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub delete_policies: Vec<String>,
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub output_log_policies: Vec<String>,
}

fn is_zero(n: &i64) -> bool {
    *n == 0
}

fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl Hook {
    pub(super) fn new(path: &str, manifest: &str, head: &Head, events: Vec<Event>) -> Self {
        let words = |annotation: &str| {
            head.annotation(annotation)
                .map(|words| words.split(',').map(|word| word.trim().to_lowercase()).collect())
                .unwrap_or_default()
        };
        Self {
            name: head.name.clone(),
            kind: head.kind.clone(),
            path: path.to_owned(),
            manifest: manifest.to_owned(),
            events,
            last_run: Execution::default(),
            weight: head.annotation("helm.sh/hook-weight").and_then(|weight| weight.parse().ok()).unwrap_or(0),
            delete_policies: words("helm.sh/hook-delete-policy"),
            output_log_policies: words("helm.sh/hook-output-log-policy"),
        }
    }

    /// Whether the object is deleted then. Without a word on it, it is deleted before it is made again; definitions of
    /// custom resources never are, since all their objects would go with them.
    pub fn deletes(&self, policy: DeletePolicy) -> bool {
        if self.kind == "CustomResourceDefinition" {
            return false;
        }
        match self.delete_policies.as_slice() {
            [] => policy == DeletePolicy::BeforeHookCreation,
            policies => policies.iter().any(|word| word == policy.as_str()),
        }
    }

    /// Whether its log is shown once it has ended this way.
    pub fn shows_log(&self, succeeded: bool) -> bool {
        let word = if succeeded { "hook-succeeded" } else { "hook-failed" };
        self.output_log_policies.iter().any(|policy| policy == word)
    }

    /// Whether it is a test.
    pub fn is_test(&self) -> bool {
        self.events.contains(&Event::Test)
    }
}
