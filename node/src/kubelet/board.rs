//! Where the containers of each pod are now, for logs, exec and port forwarding.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::state::State;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Spot {
    pub attempt: u32,
    pub running: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Shown {
    pub ip: Option<IpAddr>,
    pub containers: BTreeMap<String, Spot>,
}

#[derive(Default)]
pub(crate) struct Board(Mutex<HashMap<String, Shown>>);

impl Board {
    fn pods(&self) -> MutexGuard<'_, HashMap<String, Shown>> {
        // Entries are replaced whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn show(&self, uid: &str, state: &State) {
        let containers = state
            .containers
            .iter()
            .map(|(name, slot)| (name.clone(), Spot { attempt: slot.attempt, running: slot.running().is_some() }));
        self.pods().insert(uid.to_owned(), Shown { ip: state.ip(), containers: containers.collect() });
    }

    pub fn forget(&self, uid: &str) {
        self.pods().remove(uid);
    }

    pub fn pod(&self, uid: &str) -> Option<Shown> {
        self.pods().get(uid).cloned()
    }

    pub fn container(&self, uid: &str, name: &str) -> Option<Spot> {
        self.pods().get(uid)?.containers.get(name).cloned()
    }
}
