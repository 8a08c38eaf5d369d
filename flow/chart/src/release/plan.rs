//! What an operation does with the revisions that are there: which is current, which number comes next, what is
//! superseded, what is pruned, and how a release whose operation was cut short goes on. Decisions only.

use jiff::Timestamp;

use super::{Record, Status};
use crate::{Error, manifest::Event, manifest::Hook};

/// The label with which a running operation of ours says every few seconds that it is alive (seconds since 1970).
pub const HEARTBEAT: &str = "shipway.dev/heartbeat";

/// The revisions of one release, the oldest first.
#[derive(Clone, Debug, Default)]
pub struct History {
    records: Vec<Record>,
}

/// When a pending revision counts as left behind by a process that is gone.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Seconds without a heartbeat, for an operation that has beaten before.
    pub beat: i64,
    /// Seconds since the record was last written, for an operation that never beats (another tool's).
    pub silent: i64,
}

impl Default for Patience {
    fn default() -> Self {
        Self { beat: 30, silent: 600 }
    }
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

    /// The pending revisions whose operation is gone, with the record each is to become. They are written before anything
    /// else, so that a release is never stuck behind a process that no longer runs.
    pub fn abandoned(&self, now: Timestamp, patience: Patience) -> Vec<Record> {
        let gone = |record: &&Record| {
            if !record.info.status.is_pending() && record.info.status != Status::Uninstalling {
                return false;
            }
            let beat = record.labels.get(HEARTBEAT).and_then(|beat| beat.parse::<i64>().ok());
            match (beat, record.info.last_deployed) {
                (Some(beat), _) => now.as_second() - beat > patience.beat,
                (None, Some(time)) => now.as_second() - time.as_second() > patience.silent,
                (None, None) => true,
            }
        };
        let interrupted = |record: &Record| {
            let mut record = record.clone();
            let what = record.info.status;
            record.labels.remove(HEARTBEAT);
            record.set(Status::Failed, format!("Interrupted while {what}: the process that did it is gone"));
            record
        };
        self.records.iter().filter(gone).filter(|record| record.info.status.is_pending()).map(interrupted).collect()
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
            (Status::Uninstalled, true) => Ok(Install { revision: last.version + 1, supersedes: Some(last.version) }),
            (Status::Failed, true) => Ok(Install { revision: last.version + 1, supersedes: None }),
            _ => Err(Error::Release("cannot re-use a name that is still in use".to_owned())),
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
            record.info.last_deployed = Some(Timestamp::from_second(1000).unwrap());
            record
        };
        History::new(states.iter().enumerate().map(record).collect())
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
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
        let history = history(&[Deployed, PendingUpgrade]);
        assert!(history.abandoned(at(1100), Patience::default()).is_empty());
        let gone = history.abandoned(at(1000 + 601), Patience::default());
        assert_eq!(gone.len(), 1);
        assert_eq!(gone[0].info.status, Failed);
        let history = history.with(&gone);
        assert_eq!(history.upgrade("web").unwrap(), Upgrade { revision: 3, from: 1 });
    }

    #[test]
    fn a_heartbeat_is_heard() {
        let mut record = history(&[Status::PendingInstall]).records()[0].clone();
        record.labels.insert(HEARTBEAT.into(), "5000".into());
        let history = History::new(vec![record]);
        assert!(history.abandoned(at(5020), Patience::default()).is_empty());
        assert_eq!(history.abandoned(at(5031), Patience::default()).len(), 1);
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
