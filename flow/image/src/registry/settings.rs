//! What holds for a repository: who may pull, which tags stand still, how much there may be, what evidence is asked for, what is kept, and
//! where its content comes from.
//!
//! Settings are written for a part of the name (`journal`, `hub/library`) or for everything (the empty name). Those of the longest part hold,
//! alone: nothing is mixed.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use records::Policy;
use serde::{Deserialize, Serialize};
use store::{Change, Expect, Seq};

use super::{
    Registry,
    cleanup::{Retention, pattern::fits},
    entries,
};
use crate::{Error, Kind, Result, reference::check_repository};

/// Key: the part of the name, or nothing.
pub const SETTINGS: &str = "registry/settings";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    /// Whether everybody may pull.
    pub anonymous_pull: bool,
    /// Tags that stay what they are once they are set; `*` stands for anything.
    pub immutable_tags: Vec<String>,
    /// The most bytes that all repositories together may hold; a blob counts once for each repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota_bytes: Option<u64>,
    /// The most tags of all repositories together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota_tags: Option<u64>,
    /// What is asked for before an image is handed out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quarantine: Option<Quarantine>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
    /// The registry, and the part of its names, that this is a copy of: `docker.io`, `registry.example.org/team`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<Upstream>,
    /// The repository that is meant by this name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            anonymous_pull: true,
            immutable_tags: Vec::new(),
            quota_bytes: None,
            quota_tags: None,
            quarantine: None,
            retention: None,
            upstream: None,
            alias: None,
        }
    }
}

/// No image is handed out before its evidence is there and good, to nobody but the scanner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Quarantine {
    pub policy: Policy,
    /// How long a pull waits for evidence that is not there yet.
    #[serde(default)]
    pub wait_s: u64,
}

/// Where the content of a proxied repository comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Upstream {
    pub from: String,
    /// How long a tag is taken to be what it was.
    #[serde(default = "fresh")]
    pub fresh_s: u64,
}

fn fresh() -> u64 {
    60
}

/// Settings as they are at a version of the log.
#[derive(Default)]
pub(super) struct Cache(Mutex<Option<(Seq, Arc<All>)>>);

/// All settings, by the part of the name that they are for.
#[derive(Debug, Default)]
pub struct All(BTreeMap<String, Arc<Settings>>);

impl All {
    /// The settings of a repository, and the part of the name that they are for.
    pub fn of(&self, repository: &str) -> (String, Arc<Settings>) {
        let mut part = repository;
        loop {
            if let Some(found) = self.0.get(part) {
                // An alias is for its name alone.
                if found.alias.is_none() || part == repository {
                    return (part.to_owned(), found.clone());
                }
            }
            if part.is_empty() {
                return (String::new(), Arc::default());
            }
            part = part.rsplit_once('/').map_or("", |(front, _)| front);
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &Settings)> {
        self.0.iter().map(|(part, settings)| (part.as_str(), &**settings))
    }
}

impl Registry {
    /// All settings, as they are now.
    pub async fn all_settings(&self) -> Result<Arc<All>> {
        let head = *self.log().head().borrow();
        let cached = self.inner.settings.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((seq, all)) = &cached {
            let same = *seq == head || {
                let changes = self.log().changes(SETTINGS, *seq, 1).await;
                changes.is_ok_and(|changes| changes.is_empty())
            };
            if same {
                *self.inner.settings.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((head, all.clone()));
                return Ok(all.clone());
            }
        }
        let mut all = BTreeMap::new();
        for entry in self.all(SETTINGS, "").await? {
            all.insert(entry.key.clone(), Arc::new(entries::read(&entry)?));
        }
        let all = Arc::new(All(all));
        *self.inner.settings.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((head, all.clone()));
        Ok(all)
    }

    pub async fn settings(&self, repository: &str) -> Result<Arc<Settings>> {
        Ok(self.all_settings().await?.of(repository).1)
    }

    /// Writes settings for a part of the name (everything when it is empty); with `None` what is written there is removed.
    pub async fn set_settings(&self, part: &str, settings: Option<&Settings>) -> Result<()> {
        if !part.is_empty() {
            check_repository(part)?;
        }
        if let Some(settings) = settings {
            check(part, settings)?;
        }
        let change = match settings {
            Some(settings) => entries::put(SETTINGS, part.to_owned(), settings, Expect::Any)?,
            None => Change {
                kind: SETTINGS.into(),
                key: part.to_owned(),
                expect: Expect::Any,
                value: "{}".into(),
                delete: true,
            },
        };
        self.log().append(vec![change]).await?;
        Ok(())
    }

    /// `Denied` when a tag that is there must not come to stand for something else.
    pub(super) async fn check_mutable(&self, repository: &str, tag: &str) -> Result<()> {
        let settings = self.settings(repository).await?;
        if settings.immutable_tags.iter().any(|pattern| fits(pattern, tag)) {
            return Err(Error::new(
                Kind::Denied,
                format!(
                    "tag {tag} of {repository} stands still: push another tag, or let an administrator change the settings"
                ),
            ));
        }
        Ok(())
    }
}

fn check(part: &str, settings: &Settings) -> Result<()> {
    let wrong = |why: String| Error::new(Kind::Malformed, format!("settings of `{part}`: {why}"));
    if let Some(alias) = &settings.alias {
        check_repository(alias)?;
        if part.is_empty() || alias == part {
            return Err(wrong("an alias stands for another repository".into()));
        }
    }
    if let Some(upstream) = &settings.upstream {
        if part.is_empty() {
            return Err(wrong("name the part of the registry that is a copy of another one".into()));
        }
        let sample = if upstream.from.contains('/') { upstream.from.clone() } else { format!("{}/a", upstream.from) };
        let host = sample.parse::<crate::Reference>().map_err(|e| wrong(e.message))?.host;
        if host.is_none() {
            return Err(wrong(format!("upstream `{}` names no registry", upstream.from)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_part_holds() {
        let with = |n: u64| Arc::new(Settings { quota_tags: Some(n), ..Settings::default() });
        let alias = Arc::new(Settings { alias: Some("hub/library/node".into()), ..Settings::default() });
        let all = BTreeMap::from([
            (String::new(), with(0)),
            ("a".into(), with(1)),
            ("a/b".into(), with(2)),
            ("node".into(), alias),
        ]);
        let all = All(all);
        let of = |name: &str| (all.of(name).0, all.of(name).1.quota_tags.unwrap_or(99));
        assert_eq!(of("a/b/c"), ("a/b".into(), 2));
        assert_eq!(of("a/bc"), ("a".into(), 1));
        assert_eq!(of("ab"), (String::new(), 0));
        assert_eq!(of("node"), ("node".into(), 99));
        assert_eq!(of("node/x"), (String::new(), 0));
        assert_eq!(All::default().of("x").1.quota_tags, None);
    }

    #[test]
    fn nonsense_is_refused() {
        let settings = |text: &str| serde_json::from_str::<Settings>(text);
        assert!(settings(r#"{"anonymusPull":true}"#).is_err());
        let bad = [
            ("", r#"{"alias":"x"}"#),
            ("x", r#"{"alias":"x"}"#),
            ("x", r#"{"alias":"X"}"#),
            ("", r#"{"upstream":{"from":"docker.io"}}"#),
            ("x", r#"{"upstream":{"from":"library"}}"#),
        ];
        for (part, text) in bad {
            assert!(check(part, &settings(text).unwrap()).is_err(), "{part} {text}");
        }
        assert!(check("hub", &settings(r#"{"upstream":{"from":"docker.io"}}"#).unwrap()).is_ok());
    }
}
