//! What an operation does with the revisions that are there: which is current, which number comes next, what is
//! superseded, what is pruned, and how a release whose operation was cut short goes on. Decisions only.

use super::{Record, Status};
use crate::{Error, manifest::Event, manifest::Hook};

/// The annotation of a stored revision that names the process that works on it.
pub const OWNER: &str = "shipway.dev/owner";
/// The annotation that such a process changes every few seconds.
pub const HEARTBEAT: &str = "shipway.dev/heartbeat";

/// The revisions of one release, the oldest first.
#[derive(Clone, Debug, Default)]
pub struct History {
    records: Vec<Record>,
}

/// How an install starts.
#[derive(Clone, Debug, PartialEq)]
pub struct Install {
    pub revision: u64,
    /// A revision to mark superseded.
    pub supersedes: Option<u64>,
}

/// How an upgrade starts.
#[derive(Clone, Debug, PartialEq)]
pub struct Upgrade {
    pub revision: u64,
    /// The revision whose objects are taken as the state before.
    pub from: u64,
}

/// How a rollback starts.
#[derive(Clone, Debug, PartialEq)]
pub struct Rollback {
    pub revision: u64,
    pub from: u64,
    pub to: u64,
}

impl History {
    /// Orders the revisions of one release.
    pub fn new(mut records: Vec<Record>) -> Self {
        records.sort_by_key(|record| record.version);
        Self { records }
    }

    /// The revisions, oldest first.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// The newest revision.
    pub fn last(&self) -> Option<&Record> {
        self.records.last()
    }

    /// A revision by its number.
    pub fn get(&self, revision: u64) -> Option<&Record> {
        self.records.iter().find(|record| record.version == revision)
    }

    /// The newest deployed revision.
    pub fn deployed(&self) -> Option<&Record> {
        self.records.iter().rev().find(|record| record.info.status == Status::Deployed)
    }

    /// The revisions whose operation has begun and not ended. Whoever finds that the process of one is gone writes it down
    /// as [`Record::interrupted`] before anything else, so that a release is never stuck behind a process that is no more.
    pub fn unsettled(&self) -> impl Iterator<Item = &Record> {
        self.records.iter().filter(|record| record.is_unsettled())
    }

    /// The interrupted revisions that came after the deployed one: what they made may be there, and is nobody else's.
    pub fn leftovers(&self) -> impl Iterator<Item = &Record> {
        let deployed = self.deployed().map_or(0, |record| record.version);
        self.records.iter().filter(move |record| record.version > deployed && record.is_interrupted())
    }

    /// The history with some revisions as they are now.
    pub fn with(mut self, changed: &[Record]) -> Self {
        for record in changed {
            match self.records.iter_mut().find(|known| known.version == record.version) {
                Some(known) => *known = record.clone(),
                None => self.records.push(record.clone()),
            }
        }
        Self::new(self.records)
    }

    /// Whether a new release of this name may be installed; `replace` allows it over one that is uninstalled or failed.
    pub fn install(&self, replace: bool) -> Result<Install, Error> {
        let Some(last) = self.last() else { return Ok(Install { revision: 1, supersedes: None }) };
        match (last.info.status, replace) {
            // It was never told that it worked, so it is begun again.
            _ if last.is_interrupted() && self.deployed().is_none() => {
                Ok(Install { revision: last.version + 1, supersedes: None })
            }
            (Status::Uninstalled, true) => Ok(Install { revision: last.version + 1, supersedes: Some(last.version) }),
            (Status::Failed, true) => Ok(Install { revision: last.version + 1, supersedes: None }),
            _ => Err(Error::Release("cannot reuse a name that is still in use".to_owned())),
        }
    }

    /// Whether `upgrade --install` installs: there is nothing yet, or only what was uninstalled.
    pub fn installs(&self) -> bool {
        self.last().is_none_or(|last| last.info.status == Status::Uninstalled)
    }

    /// What an upgrade starts from.
    pub fn upgrade(&self, name: &str) -> Result<Upgrade, Error> {
        let nothing = || Error::Release(format!("{name:?} has no deployed releases"));
        let last = self.last().ok_or_else(nothing)?;
        if last.info.status.is_pending() {
            return Err(pending());
        }
        let from = match (self.deployed(), last.info.status) {
            (Some(deployed), _) => deployed.version,
            (None, Status::Failed | Status::Superseded) => last.version,
            (None, _) => return Err(nothing()),
        };
        Ok(Upgrade { revision: last.version + 1, from })
    }

    /// What a rollback goes to: the given revision, or the one before the newest.
    pub fn rollback(&self, to: Option<u64>) -> Result<Rollback, Error> {
        let last = self.last().ok_or_else(|| Error::Release("release: not found".to_owned()))?;
        let to = to.filter(|to| *to != 0).unwrap_or_else(|| last.version.saturating_sub(1));
        if self.get(to).is_none() {
            return Err(Error::Release(format!("release has no {to} version")));
        }
        Ok(Rollback { revision: last.version + 1, from: last.version, to })
    }

    /// Where a failed upgrade goes back to: the newest revision below it that was once deployed.
    pub fn last_good(&self, failed: u64) -> Option<u64> {
        self.records
            .iter()
            .rev()
            .filter(|record| record.version != failed)
            .find(|record| matches!(record.info.status, Status::Superseded | Status::Deployed))
            .map(|record| record.version)
    }

    /// The deployed revisions other than the given one: they become superseded once it is deployed.
    pub fn superseded_by(&self, revision: u64) -> Vec<u64> {
        self.records
            .iter()
            .filter(|record| record.version != revision && record.info.status == Status::Deployed)
            .map(|record| record.version)
            .collect()
    }

    /// The revisions to delete so that, with the one to come, at most `most` remain (0: all do). The deployed one stays.
    pub fn prune(&self, most: usize) -> Vec<u64> {
        if most == 0 || self.records.len() < most {
            return Vec::new();
        }
        let deployed = self.deployed().map(|record| record.version);
        let surplus = self.records.len() - (most - 1);
        self.records
            .iter()
            .map(|record| record.version)
            .filter(|version| Some(*version) != deployed)
            .take(surplus)
            .collect()
    }
}

/// Another operation holds the release.
pub fn pending() -> Error {
    Error::Release("another operation (install/upgrade/rollback) is in progress".to_owned())
}

/// The hooks of an event in the order in which they run: by weight, then by name, then by kind.
pub fn hooks(record: &Record, event: Event) -> Vec<&Hook> {
    let mut hooks: Vec<&Hook> = record.hooks.iter().filter(|hook| hook.events.contains(&event)).collect();
    hooks.sort_by(|a, b| a.weight.cmp(&b.weight).then_with(|| a.name.cmp(&b.name)));
    hooks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(states: &[Status]) -> History {
        let record = |(at, status): (usize, &Status)| {
            let mut record = Record { name: "web".into(), version: at as u64 + 1, ..Record::default() };
            record.info.status = *status;
            record.info.last_deployed = Some(jiff::Timestamp::from_second(1000).unwrap());
            record
        };
        History::new(states.iter().enumerate().map(record).collect())
    }

    #[test]
    fn installs() {
        assert_eq!(history(&[]).install(false).unwrap().revision, 1);
        assert!(history(&[Status::Deployed]).install(true).is_err());
        assert!(history(&[Status::Uninstalled]).install(false).is_err());
        let again = history(&[Status::Uninstalled]).install(true).unwrap();
        assert_eq!(again, Install { revision: 2, supersedes: Some(1) });
        assert_eq!(history(&[Status::Failed]).install(true).unwrap(), Install { revision: 2, supersedes: None });
    }

    #[test]
    fn upgrades() {
        use Status::*;
        assert_eq!(history(&[Superseded, Deployed]).upgrade("web").unwrap(), Upgrade { revision: 3, from: 2 });
        assert_eq!(history(&[Deployed, Failed]).upgrade("web").unwrap(), Upgrade { revision: 3, from: 1 });
        assert_eq!(history(&[Failed]).upgrade("web").unwrap(), Upgrade { revision: 2, from: 1 });
        assert!(history(&[Deployed, PendingUpgrade]).upgrade("web").is_err());
        let none = history(&[Uninstalled]).upgrade("web").unwrap_err();
        assert_eq!(none.to_string(), "\"web\" has no deployed releases");
    }

    #[test]
    fn what_was_cut_short_does_not_wedge() {
        use Status::*;
        let cut = history(&[Deployed, PendingUpgrade]);
        let gone: Vec<Record> = cut.unsettled().cloned().map(Record::interrupted).collect();
        assert_eq!(gone.len(), 1);
        let history_now = cut.with(&gone);
        assert_eq!(history_now.upgrade("web").unwrap(), Upgrade { revision: 3, from: 1 });
        assert_eq!(history_now.leftovers().map(|record| record.version).collect::<Vec<_>>(), [2]);

        let first = history(&[PendingInstall]);
        assert!(first.install(false).is_err());
        let first = history(&[PendingInstall]).with(&[first.records()[0].clone().interrupted()]);
        assert_eq!(first.install(false).unwrap().revision, 2);
        assert_eq!(
            first.records()[0].info.description,
            "Interrupted while pending-install: the process that did it is gone"
        );
        // One that failed by itself is not taken for one that was cut short.
        assert!(history(&[Failed]).install(false).is_err());
        assert_eq!(history(&[Uninstalling]).unsettled().count(), 1);
    }

    #[test]
    fn rolls_back() {
        use Status::*;
        let history = history(&[Superseded, Deployed, Failed]);
        assert_eq!(history.rollback(None).unwrap(), Rollback { revision: 4, from: 3, to: 2 });
        assert_eq!(history.rollback(Some(1)).unwrap().to, 1);
        assert_eq!(history.rollback(Some(9)).unwrap_err().to_string(), "release has no 9 version");
        assert_eq!(history.last_good(3), Some(2));
    }

    #[test]
    fn prunes_but_never_the_deployed() {
        use Status::*;
        let history = history(&[Deployed, Failed, Failed, Failed]);
        assert!(history.prune(0).is_empty());
        assert!(history.prune(5).is_empty());
        assert_eq!(history.prune(3), [2, 3]);
        assert_eq!(history.prune(1), [2, 3, 4]);
    }
}
