//! What the kubelet knows of one pod on this machine.

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::Timestamp;
use tokio::time::Instant;

use super::backoff::Backoff;
use crate::runtime::{ContainerId, Exit, ImageHandle, PodNetwork};

/// Why something is not there yet: the reason is one word, as in a container's `state.waiting`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub reason: &'static str,
    pub message: String,
}

/// Something that is made once for a pod.
#[derive(Debug, Clone, PartialEq)]
pub enum Once<T> {
    /// Not there. `failed` is when it failed last, and why.
    Missing {
        backoff: Backoff,
        failed: Option<(Instant, Failure)>,
    },
    Making {
        backoff: Backoff,
        failed: Option<(Instant, Failure)>,
    },
    Here(T),
}

impl<T> Default for Once<T> {
    fn default() -> Self {
        Self::Missing { backoff: Backoff::default(), failed: None }
    }
}

impl<T> Once<T> {
    pub fn here(&self) -> Option<&T> {
        match self {
            Self::Here(value) => Some(value),
            _ => None,
        }
    }

    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Missing { failed, .. } | Self::Making { failed, .. } => failed.as_ref().map(|(_, failure)| failure),
            Self::Here(_) => None,
        }
    }
}

/// A container whose program runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Running {
    pub id: ContainerId,
    pub image: Option<ImageHandle>,
    /// The digest, where only that is known of a container from before a restart.
    pub image_id: String,
    pub started_at: Timestamp,
    /// Its postStart hook is done and its startup probe has succeeded.
    pub started: bool,
    pub ready: bool,
}

/// A container whose program ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Ended {
    pub id: ContainerId,
    pub image_id: String,
    pub started_at: Option<Timestamp>,
    pub exit: Exit,
    /// For people: what the program left as its last words, or why the exit is not known.
    pub message: String,
    /// Another reason than the exit tells, such as `ContainerStatusUnknown`.
    pub reason: Option<&'static str>,
    /// When the kubelet learned of it.
    pub seen: Instant,
}

/// What one container is doing.
#[derive(Debug, Clone, PartialEq)]
pub enum Phase {
    /// Not started yet; `failed` when a start was tried and did not work.
    Idle {
        failed: Option<(Instant, Failure)>,
    },
    Starting,
    Running(Running),
    /// It was told to end.
    Stopping(Running),
    Ended(Ended),
}

/// One container of the pod.
#[derive(Debug, Clone, PartialEq)]
pub struct Slot {
    /// Of the current or, when idle, the next start; also how often it was started again.
    pub attempt: u32,
    pub phase: Phase,
    /// How the start before this one ended.
    pub last: Option<Ended>,
    pub backoff: Backoff,
}

impl Default for Slot {
    fn default() -> Self {
        Self { attempt: 0, phase: Phase::Idle { failed: None }, last: None, backoff: Backoff::default() }
    }
}

impl Slot {
    pub fn running(&self) -> Option<&Running> {
        match &self.phase {
            Phase::Running(running) | Phase::Stopping(running) => Some(running),
            _ => None,
        }
    }

    pub fn ended(&self) -> Option<&Ended> {
        match &self.phase {
            Phase::Ended(ended) => Some(ended),
            _ => None,
        }
    }

    /// Whether a program runs or is about to.
    pub fn is_busy(&self) -> bool {
        matches!(self.phase, Phase::Starting | Phase::Running(_) | Phase::Stopping(_))
    }
}

/// Why a pod is brought to its end.
#[derive(Debug, Clone, PartialEq)]
pub enum Ending {
    /// Its object is being deleted.
    Deleted,
    /// It ran for longer than it may.
    Deadline,
}

#[derive(Debug, Clone, PartialEq)]
pub struct State {
    pub network: Once<PodNetwork>,
    /// By reference, as containers name them.
    pub images: BTreeMap<String, Once<ImageHandle>>,
    pub containers: BTreeMap<String, Slot>,
    pub ending: Option<Ending>,
    /// When the kubelet first worked on the pod.
    pub started: Option<Timestamp>,
    /// Its network and files are being removed.
    pub finishing: bool,
}

impl State {
    /// A pod of which nothing exists yet.
    pub fn new<'a>(containers: impl IntoIterator<Item = &'a str>, images: impl IntoIterator<Item = &'a str>) -> Self {
        Self {
            network: Once::default(),
            images: images.into_iter().map(|image| (image.to_owned(), Once::default())).collect(),
            containers: containers.into_iter().map(|name| (name.to_owned(), Slot::default())).collect(),
            ending: None,
            started: None,
            finishing: false,
        }
    }

    pub fn ip(&self) -> Option<IpAddr> {
        self.network.here().map(|network| network.ip)
    }

    pub fn is_busy(&self) -> bool {
        self.containers.values().any(Slot::is_busy)
    }
}
