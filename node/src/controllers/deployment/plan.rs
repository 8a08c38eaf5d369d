//! What a Deployment does next with its ReplicaSets.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet};
use serde_json::{Value, json};

use super::rolling::{self, Bounds, Size};
use super::{status, status::NewSet, template};
use crate::controllers::{pods::Counts, typed};
use crate::objects::{meta, resource};

pub const REVISION: &str = "deployment.kubernetes.io/revision";
pub const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
pub const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
pub const MAX: &str = "deployment.kubernetes.io/max-replicas";

/// Annotations of a Deployment that mean nothing on its ReplicaSets.
const OWN_ANNOTATIONS: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED,
    MAX,
    "deprecated.deployment.rollback.to",
];

/// A ReplicaSet of the Deployment, and what is known of its pods.
#[derive(Debug, Clone)]
pub struct Owned {
    pub object: Arc<Value>,
    pub set: ReplicaSet,
    pub counts: Counts,
}

impl Owned {
    pub fn new(object: Arc<Value>, counts: Counts) -> Option<Self> {
        let set = typed::read(&object)?;
        Some(Self { object, set, counts })
    }

    fn name(&self) -> &str {
        typed::name(&self.set.metadata)
    }

    fn wanted(&self) -> i32 {
        self.set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(0)
    }

    fn revision(&self) -> i64 {
        typed::annotation(&self.set.metadata, REVISION).and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    fn size(&self) -> Size {
        Size { wanted: self.wanted(), available: self.counts.available }
    }
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    CreateSet(Box<Value>),
    /// Set the size and annotations of a ReplicaSet.
    ChangeSet {
        name: String,
        replicas: i32,
        before: i32,
        annotations: BTreeMap<String, String>,
        min_ready_seconds: i32,
    },
    DeleteSet {
        name: String,
    },
    /// Write the revision down on the Deployment itself.
    Revision(i64),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    pub actions: Vec<Action>,
    pub status: DeploymentStatus,
    pub again: Option<Duration>,
}

/// `owned` are the ReplicaSets that the Deployment controls, `available_in` when a pod becomes available by time alone.
pub fn plan(
    object: &Value,
    deployment: &Deployment,
    owned: &[Owned],
    available_in: Option<Duration>,
    now: Timestamp,
) -> Plan {
    let spec = deployment.spec.clone().unwrap_or_default();
    let mut sets: Vec<&Owned> = owned.iter().collect();
    sets.sort_by(|a, b| age(a).cmp(&age(b)));
    let new =
        sets.iter().copied().find(|set| template::same(&set.object["spec"]["template"], &object["spec"]["template"]));
    let old: Vec<&Owned> = sets.into_iter().filter(|set| new.is_none_or(|new| new.name() != set.name())).collect();
    let mut step = Step { object, deployment, bounds: Bounds::of(deployment), new, old, actions: Vec::new() };
    let paused = spec.paused == Some(true);
    let recreate = spec.strategy.as_ref().is_some_and(|strategy| strategy.type_.as_deref() == Some("Recreate"));
    let mut collisions = deployment.status.as_ref().and_then(|status| status.collision_count);
    let mut change = if new.is_some() { NewSet::Same } else { NewSet::None };
    let mut new_name = new.map_or_else(String::new, |new| new.name().to_owned());
    if deployment.metadata.deletion_timestamp.is_none() {
        if new.is_some() && step.take_up_revision() {
            change = NewSet::Found;
        }
        if paused || step.is_scaling() {
            step.scale();
        } else if recreate {
            step.recreate();
        } else {
            step.roll();
        }
        if let Some(Action::CreateSet(set)) = step.actions.iter_mut().find(|a| matches!(a, Action::CreateSet(_))) {
            // Another set of this Deployment that happens to have the same hash: count, and take the next name.
            while owned.iter().any(|owned| owned.name() == meta::name(set)) {
                let count = collisions.unwrap_or(0) + 1;
                collisions = Some(count);
                rename(set, object, template::hash(&object["spec"]["template"], count));
            }
            change = NewSet::Created;
            new_name = meta::name(set).to_owned();
        }
        if change == NewSet::Same {
            step.forget_history(spec.revision_history_limit);
        }
    }
    let sum = |sets: &[&Owned]| {
        sets.iter().fold(Counts::default(), |sum, set| Counts {
            active: sum.active + set.counts.active,
            ready: sum.ready + set.counts.ready,
            available: sum.available + set.counts.available,
            terminating: sum.terminating + set.counts.terminating,
        })
    };
    let new_counts = new.map_or_else(Counts::default, |new| new.counts);
    let mut everything = step.old.clone();
    everything.extend(new);
    let facts = status::Facts {
        deployment,
        all: sum(&everything),
        new: new_counts,
        new_name: &new_name,
        change,
        collisions,
        now,
    };
    let (status, deadline) = status::status(&facts);
    let again = [deadline, available_in].into_iter().flatten().min();
    Plan { actions: step.actions, status, again }
}

fn age(owned: &Owned) -> (Option<Timestamp>, &str) {
    (owned.set.metadata.creation_timestamp.as_ref().map(|time| time.0), owned.name())
}

fn rename(set: &mut Value, deployment: &Value, hash: String) {
    set["metadata"]["name"] = format!("{}-{hash}", meta::name(deployment)).into();
    for labels in ["/metadata/labels", "/spec/selector/matchLabels", "/spec/template/metadata/labels"] {
        if let Some(labels) = set.pointer_mut(labels) {
            labels[template::HASH_LABEL] = hash.as_str().into();
        }
    }
}

struct Step<'a> {
    object: &'a Value,
    deployment: &'a Deployment,
    bounds: Bounds,
    new: Option<&'a Owned>,
    /// Oldest first.
    old: Vec<&'a Owned>,
    actions: Vec<Action>,
}

impl<'a> Step<'a> {
    fn max_old_revision(&self) -> i64 {
        self.old.iter().map(|set| set.revision()).max().unwrap_or(0)
    }

    /// Gives the new set the newest revision; true when it did not have it.
    fn take_up_revision(&mut self) -> bool {
        let Some(new) = self.new else { return false };
        let revision = new.revision().max(self.max_old_revision() + 1);
        let known = typed::annotation(&self.deployment.metadata, REVISION).and_then(|text| text.parse::<i64>().ok());
        if known != Some(revision) {
            self.actions.push(Action::Revision(revision));
        }
        let switched = known.is_some_and(|known| known != revision) && new.revision() != revision;
        let annotations = self.annotations(Some(new), revision);
        let min_ready = self.min_ready();
        let has = |key: &String, value: &String| typed::annotation(&new.set.metadata, key) == Some(value.as_str());
        let has_min_ready = new.set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0) == min_ready;
        // Sizes are part of the annotations and change with scaling only.
        let stale = annotations.iter().any(|(key, value)| ![DESIRED, MAX].contains(&key.as_str()) && !has(key, value));
        if stale || !has_min_ready {
            self.change(new, new.wanted(), annotations);
        }
        switched
    }

    fn min_ready(&self) -> i32 {
        self.deployment.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0)
    }

    /// What the new set's annotations are to be.
    fn annotations(&self, set: Option<&Owned>, revision: i64) -> BTreeMap<String, String> {
        let own = self.deployment.metadata.annotations.iter().flatten();
        let mut annotations: BTreeMap<String, String> = own
            .filter(|(key, _)| !OWN_ANNOTATIONS.contains(&key.as_str()))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        annotations.extend(self.sizes());
        annotations.insert(REVISION.into(), revision.to_string());
        if let Some(set) = set
            && set.revision() > 0
            && set.revision() != revision
        {
            let history = typed::annotation(&set.set.metadata, REVISION_HISTORY).unwrap_or_default();
            let mut history: Vec<&str> = history.split(',').filter(|entry| !entry.is_empty()).collect();
            let before = set.revision().to_string();
            history.push(&before);
            annotations.insert(REVISION_HISTORY.into(), history.join(","));
        }
        annotations
    }

    fn sizes(&self) -> [(String, String); 2] {
        let most = self.bounds.replicas.saturating_add(self.bounds.max_surge);
        [(DESIRED.into(), self.bounds.replicas.to_string()), (MAX.into(), most.to_string())]
    }

    /// Sets the size of a set; a change of the same set in this step is amended.
    fn change(&mut self, set: &Owned, replicas: i32, annotations: BTreeMap<String, String>) {
        let min_ready_seconds = self.min_ready();
        let known = self.actions.iter_mut().find_map(|action| match action {
            Action::ChangeSet { name, replicas, annotations, .. } if name == set.name() => {
                Some((replicas, annotations))
            }
            _ => None,
        });
        match known {
            Some((size, known)) => {
                *size = replicas;
                known.extend(annotations);
            }
            None => self.actions.push(Action::ChangeSet {
                name: set.name().to_owned(),
                replicas,
                before: set.wanted(),
                annotations,
                min_ready_seconds: if self.new.is_some_and(|new| new.name() == set.name()) {
                    min_ready_seconds
                } else {
                    set.set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0)
                },
            }),
        }
    }

    fn resize(&mut self, set: &Owned, replicas: i32) {
        let sizes = self.sizes();
        let stale = sizes.iter().any(|(key, value)| typed::annotation(&set.set.metadata, key) != Some(value));
        if set.wanted() != replicas || (stale && replicas > 0) {
            self.change(set, replicas, sizes.into());
        }
    }

    /// Whether somebody changed how many replicas the Deployment wants, since its sets were last sized.
    fn is_scaling(&self) -> bool {
        let sets = self.old.iter().chain(self.new.as_ref());
        sets.filter(|set| set.wanted() > 0).any(|set| {
            let desired = typed::annotation(&set.set.metadata, DESIRED).and_then(|text| text.parse::<i32>().ok());
            desired.is_some_and(|desired| desired != self.bounds.replicas)
        })
    }

    fn scale(&mut self) {
        let active: Vec<&Owned> =
            self.new.into_iter().chain(self.old.iter().rev().copied()).filter(|set| set.wanted() > 0).collect();
        let newest = self.new.or_else(|| self.old.last().copied());
        if active.len() <= 1 {
            if let Some(only) = active.first().copied().or(newest) {
                self.resize(only, self.bounds.replicas);
            }
            return;
        }
        let saturated = self
            .new
            .is_some_and(|new| new.wanted() == self.bounds.replicas && new.counts.available == self.bounds.replicas);
        if saturated {
            for old in self.old.clone() {
                self.resize(old, 0);
            }
            return;
        }
        let sizes: Vec<i32> = active.iter().map(|set| set.wanted()).collect();
        for (set, size) in active.into_iter().zip(rolling::proportional(self.bounds, &sizes)) {
            self.resize(set, size);
        }
    }

    fn roll(&mut self) {
        let others: i32 = self.old.iter().map(|set| set.wanted()).sum();
        let mut new_size = Size { wanted: 0, available: 0 };
        match self.new {
            Some(new) => {
                new_size = new.size();
                new_size.wanted = rolling::grow(self.bounds, new.wanted(), others);
                self.resize(new, new_size.wanted);
            }
            None => {
                new_size.wanted = rolling::grow(self.bounds, 0, others);
                self.create(new_size.wanted);
            }
        }
        let sizes: Vec<Size> = self.old.iter().map(|set| set.size()).collect();
        for (set, size) in self.old.clone().into_iter().zip(rolling::shrink(self.bounds, new_size, &sizes)) {
            if size != set.wanted() {
                self.resize(set, size);
            }
        }
    }

    fn recreate(&mut self) {
        let standing: Vec<&Owned> = self.old.iter().copied().filter(|set| set.wanted() > 0).collect();
        if !standing.is_empty() {
            for set in standing {
                self.resize(set, 0);
            }
            return;
        }
        if self.old.iter().any(|set| set.counts.active > 0 || set.counts.terminating > 0) {
            return;
        }
        match self.new {
            Some(new) => self.resize(new, self.bounds.replicas),
            None => self.create(self.bounds.replicas),
        }
    }

    fn create(&mut self, replicas: i32) {
        let revision = self.max_old_revision() + 1;
        let collisions = self.deployment.status.as_ref().and_then(|status| status.collision_count).unwrap_or(0);
        let hash = template::hash(&self.object["spec"]["template"], collisions);
        let mut template = self.object["spec"]["template"].clone();
        meta::map_mut(meta_of(&mut template), "labels").insert(template::HASH_LABEL.into(), hash.as_str().into());
        let mut selector = self.object["spec"]["selector"].clone();
        meta::map_mut(&mut selector, "matchLabels").insert(template::HASH_LABEL.into(), hash.as_str().into());
        let set = json!({
            "apiVersion": "apps/v1", "kind": "ReplicaSet",
            "metadata": {
                "name": format!("{}-{hash}", meta::name(self.object)),
                "namespace": meta::namespace(self.object),
                "labels": template["metadata"]["labels"],
                "annotations": self.annotations(None, revision),
                "ownerReferences": [meta::controller_reference(&resource::DEPLOYMENTS, self.object)],
            },
            "spec": {
                "replicas": replicas, "minReadySeconds": self.min_ready(), "selector": selector, "template": template,
            },
        });
        self.actions.push(Action::Revision(revision));
        self.actions.push(Action::CreateSet(Box::new(set)));
    }

    /// Deletes the oldest empty sets beyond the limit, once the rollout is complete.
    fn forget_history(&mut self, limit: Option<i32>) {
        let complete = self.new.is_some_and(|new| new.counts.available == self.bounds.replicas)
            && self.old.iter().all(|set| set.counts.active == 0 && set.wanted() == 0);
        let Some(limit) = limit.filter(|_| complete).and_then(|limit| usize::try_from(limit).ok()) else { return };
        let mut old = self.old.clone();
        old.sort_by_key(|set| set.revision());
        let surplus = old.len().saturating_sub(limit);
        let empty = |set: &&&Owned| set.counts == Counts::default() && set.set.metadata.deletion_timestamp.is_none();
        for set in old.iter().take(surplus).filter(empty) {
            self.actions.push(Action::DeleteSet { name: set.name().to_owned() });
        }
    }
}

fn meta_of(template: &mut Value) -> &mut Value {
    meta::map_mut(template, "metadata");
    &mut template["metadata"]
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
