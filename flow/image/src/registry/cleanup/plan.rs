//! What goes from one repository: a pure decision over its entries.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    time::Duration,
};

use records::{Digest, Timestamp};
use serde::{Deserialize, Serialize};

use super::{before, pattern::fits};

/// Everything in a repository.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    pub tags: BTreeMap<String, Tagged>,
    pub manifests: BTreeMap<Digest, Held>,
    pub links: BTreeMap<Digest, Linked>,
}

/// A tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tagged {
    pub digest: Digest,
    pub updated: Timestamp,
}

/// A manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    pub pushed: Timestamp,
    pub subject: Option<Digest>,
    /// Blobs and manifests that it names; without them when it cannot be read, and then nothing is taken to be unnamed.
    pub names: Option<Vec<Digest>>,
}

/// A blob that the repository holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Linked {
    pub since: Timestamp,
}

/// What is kept of a repository. A tag to which no rule applies is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Retention {
    /// A tag stays if one of the rules that apply to it keeps it.
    #[serde(default)]
    pub keep: Vec<Keep>,
    /// Manifests without a tag, that no other manifest which stays names and that refer to none which stays, go after so many seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub untagged_s: Option<u64>,
}

/// One rule. With neither `last` nor `younger_s` it keeps all tags to which it applies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Keep {
    /// The tags that it applies to; `*` stands for anything.
    #[serde(default = "all")]
    pub tags: String,
    /// The newest so many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<usize>,
    /// Those that were set in the last so many seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub younger_s: Option<u64>,
}

fn all() -> String {
    "*".into()
}

/// What goes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Plan {
    pub tags: Vec<Gone>,
    pub manifests: Vec<Gone>,
    pub links: Vec<Gone>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Gone {
    pub name: String,
    pub why: String,
}

impl Plan {
    pub fn is_empty(&self) -> bool {
        self.tags.is_empty() && self.manifests.is_empty() && self.links.is_empty()
    }
}

/// What goes of `view`. Whatever `in_use` names stays, with all tags and manifests from which it is reached.
pub fn plan(
    view: &View,
    retention: Option<&Retention>,
    in_use: &BTreeSet<Digest>,
    grace: Duration,
    now: Timestamp,
) -> Plan {
    let none = Retention::default();
    let retention = retention.unwrap_or(&none);
    let used = leading_to(view, in_use);
    let old_tags = old_tags(view, &retention.keep, &used, now);
    let mut plan = Plan { tags: old_tags.clone(), ..Plan::default() };
    let gone: HashSet<&str> = old_tags.iter().map(|gone| gone.name.as_str()).collect();
    let tags = view.tags.iter().filter(|(name, _)| !gone.contains(name.as_str()));
    let kept: HashSet<&Digest> = match retention.untagged_s {
        None => view.manifests.keys().collect(),
        Some(seconds) => {
            let age = Duration::from_secs(seconds).max(grace);
            let young = view.manifests.iter().filter(|(_, held)| held.pushed >= before(now, age));
            let from = tags.clone().filter(|(name, _)| subject_of_tag(name).is_none()).map(|(_, tag)| &tag.digest);
            reached(view, from.chain(used.iter().copied()).chain(young.map(|(digest, _)| digest)))
        }
    };
    // With one that cannot be read nobody knows what is named.
    let readable = view.manifests.values().all(|held| held.names.is_some());
    if readable {
        let old = view.manifests.keys().filter(|digest| !kept.contains(digest));
        let why = "no tag and no manifest that stays leads to it";
        plan.manifests = old.map(|digest| Gone { name: digest.to_string(), why: why.into() }).collect();
        let lost = |tag: &Tagged| view.manifests.contains_key(&tag.digest) && !kept.contains(&tag.digest);
        let orphans = tags.clone().filter(|(name, tag)| subject_of_tag(name).is_some() && lost(tag));
        let why = "what it refers to goes";
        let orphans: Vec<Gone> = orphans.map(|(name, _)| Gone { name: name.clone(), why: why.into() }).collect();
        plan.tags.extend(orphans);
        let held = view.manifests.iter().filter(|(digest, _)| kept.contains(digest));
        let named: HashSet<&Digest> = held.flat_map(|(_, held)| held.names.iter().flatten()).collect();
        let young = before(now, grace);
        let unnamed = view.links.iter().filter(|(digest, link)| !named.contains(digest) && link.since < young);
        let why = "no manifest of the repository names it";
        plan.links = unnamed.map(|(digest, _)| Gone { name: digest.to_string(), why: why.into() }).collect();
    }
    plan
}

/// Tags that no rule keeps.
fn old_tags(view: &View, rules: &[Keep], used: &HashSet<&Digest>, now: Timestamp) -> Vec<Gone> {
    // Signatures of the older kind go with what they refer to, not by their own age or number.
    let mut by_age: Vec<(&String, &Tagged)> =
        view.tags.iter().filter(|(name, _)| subject_of_tag(name).is_none()).collect();
    by_age.sort_by(|a, b| b.1.updated.cmp(&a.1.updated).then(b.0.cmp(a.0)));
    // Why each tag would go, while nothing keeps it.
    let mut going: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let mut kept: HashSet<&str> = HashSet::new();
    for rule in rules {
        let applies = by_age.iter().filter(|(name, _)| fits(&rule.tags, name));
        for (rank, (name, tag)) in applies.enumerate() {
            let last = rule.last.is_some_and(|last| rank < last);
            let young = rule.younger_s.is_some_and(|age| tag.updated >= before(now, Duration::from_secs(age)));
            let all = rule.last.is_none() && rule.younger_s.is_none();
            if last || young || all || used.contains(&tag.digest) {
                kept.insert(name);
            } else {
                going.entry(name).or_default().push(described(rule));
            }
        }
    }
    let old = going.into_iter().filter(|(name, _)| !kept.contains(name));
    old.map(|(name, why)| Gone { name: name.to_owned(), why: why.join("; ") }).collect()
}

fn described(rule: &Keep) -> String {
    let of = if rule.tags == "*" { String::new() } else { format!(" of `{}`", rule.tags) };
    match (rule.last, rule.younger_s) {
        (Some(last), None) => format!("it is not among the last {last}{of}"),
        (None, Some(age)) => format!("it is older than {age} s{of}"),
        (Some(last), Some(age)) => format!("it is neither among the last {last} nor younger than {age} s{of}"),
        (None, None) => String::new(),
    }
}

/// The manifests in use, and those that name them, directly or not.
fn leading_to<'a>(view: &'a View, in_use: &BTreeSet<Digest>) -> HashSet<&'a Digest> {
    let mut parents: HashMap<&Digest, Vec<&Digest>> = HashMap::new();
    for (digest, held) in &view.manifests {
        for name in held.names.iter().flatten().filter(|name| view.manifests.contains_key(name)) {
            parents.entry(name).or_default().push(digest);
        }
    }
    let mut found: HashSet<&Digest> = HashSet::new();
    let mut next: Vec<&Digest> = view.manifests.keys().filter(|digest| in_use.contains(*digest)).collect();
    while let Some(digest) = next.pop() {
        if found.insert(digest) {
            next.extend(parents.get(digest).into_iter().flatten());
        }
    }
    found
}

/// The manifests that one comes to: what they name, and what refers to them.
fn reached<'a>(view: &'a View, from: impl Iterator<Item = &'a Digest>) -> HashSet<&'a Digest> {
    let mut referrers: HashMap<&Digest, Vec<&Digest>> = HashMap::new();
    for (digest, held) in &view.manifests {
        if let Some(subject) = &held.subject {
            referrers.entry(subject).or_default().push(digest);
        }
    }
    // Signatures of the older kind say by their tag what they refer to.
    for (tag, tagged) in &view.tags {
        if let Some(subject) = subject_of_tag(tag)
            && let Some((subject, _)) = view.manifests.get_key_value(&subject)
        {
            referrers.entry(subject).or_default().push(&tagged.digest);
        }
    }
    let mut found: HashSet<&Digest> = HashSet::new();
    let mut next: Vec<&Digest> = from.collect();
    while let Some(digest) = next.pop() {
        let Some((digest, held)) = view.manifests.get_key_value(digest) else { continue };
        if found.insert(digest) {
            next.extend(held.names.iter().flatten().filter(|name| view.manifests.contains_key(name)));
            next.extend(referrers.get(digest).into_iter().flatten());
        }
    }
    found
}

/// What a tag such as `sha256-<hex>.sig` or `sha256-<hex>` refers to.
pub fn subject_of_tag(tag: &str) -> Option<Digest> {
    let (algorithm, rest) = tag.split_once('-')?;
    let hex = rest.split('.').next()?;
    format!("{algorithm}:{hex}").parse().ok()
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
