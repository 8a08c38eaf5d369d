//! What is to be done next for a pod.

use std::time::Duration;

use tokio::time::Instant;

use super::backoff::{EVIDENCE, KUBERNETES, MACHINE, Steps};
use super::state::{Ended, Ending, Failure, Once, Phase, Slot, State};

/// Whether an ended container is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    Always,
    OnFailure,
    Never,
}

impl Restart {
    pub fn parse(text: Option<&str>) -> Self {
        match text {
            Some("Never") => Self::Never,
            Some("OnFailure") => Self::OnFailure,
            _ => Self::Always,
        }
    }

    fn again(self, ended: &Ended) -> bool {
        match self {
            Self::Always => true,
            Self::OnFailure => ended.exit.code != 0,
            Self::Never => false,
        }
    }
}

/// A container as its pod describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub name: String,
    pub image: String,
    pub role: Role,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Runs to its end before the next one starts.
    Init,
    /// An init container that stays: it starts in its turn and ends after all others.
    Sidecar,
    Main,
}

/// What the plan needs of a pod's spec: its containers in their order, init containers first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    pub members: Vec<Member>,
    pub restart: Restart,
}

impl Shape {
    fn of(&self, roles: &'static [Role]) -> impl DoubleEndedIterator<Item = &Member> {
        self.members.iter().filter(|member| roles.contains(&member.role))
    }

    pub fn restart_of(&self, member: &Member) -> Restart {
        match (member.role, self.restart) {
            (Role::Sidecar, _) => Restart::Always,
            // An init container is done once it succeeded.
            (Role::Init, Restart::Always) => Restart::OnFailure,
            (_, restart) => restart,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Make the pod's network.
    Network,
    /// Bring an image here and ask whether it may run.
    Image {
        reference: String,
    },
    Start {
        name: String,
    },
    /// Ask a running container to end.
    Stop {
        name: String,
    },
    /// Nothing runs and nothing will: remove the network and files of the pod, and, when it is being deleted, its object.
    Finish,
}

#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    pub actions: Vec<Action>,
    /// When to look again even if nothing happens.
    pub wake: Option<Instant>,
}

impl Plan {
    fn wake_at(&mut self, at: Instant) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }
}

/// How long a failure of this sort waits before it is tried again.
pub fn steps(failure: &Failure) -> Steps {
    match failure.reason {
        EVIDENCE_MISSING => EVIDENCE,
        "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" => KUBERNETES,
        _ => MACHINE,
    }
}

pub const EVIDENCE_MISSING: &str = "EvidenceMissing";

pub fn plan(shape: &Shape, state: &State, now: Instant) -> Plan {
    let mut plan = Plan::default();
    if state.finishing {
        return plan;
    }
    if state.ending.is_some() || over(shape, state) {
        end(shape, state, &mut plan);
        return plan;
    }
    // Network and images do not need each other.
    if let Some(due) = due_once(&state.network, now, &mut plan)
        && due
    {
        plan.actions.push(Action::Network);
    }
    let mut images_here = true;
    for (reference, image) in &state.images {
        images_here &= image.here().is_some();
        if due_once(image, now, &mut plan) == Some(true) {
            plan.actions.push(Action::Image { reference: reference.clone() });
        }
    }
    // Nothing of a pod starts before every one of its images is here and admitted.
    if !images_here || state.network.here().is_none() {
        return plan;
    }
    for member in shape.of(&[Role::Init, Role::Sidecar]) {
        let Some(slot) = state.containers.get(&member.name) else { continue };
        if member.role == Role::Init && initialized(shape, state) {
            break;
        }
        consider(shape, member, slot, now, &mut plan);
        if !passed(member, slot) {
            break;
        }
    }
    if initialized(shape, state) {
        for member in shape.of(&[Role::Sidecar, Role::Main]) {
            if let Some(slot) = state.containers.get(&member.name) {
                consider(shape, member, slot, now, &mut plan);
            }
        }
    }
    plan
}

/// Whether the next container in the order may start.
fn passed(member: &Member, slot: &Slot) -> bool {
    match member.role {
        Role::Init => slot.ended().is_some_and(|ended| ended.exit.code == 0),
        Role::Sidecar => slot.running().is_some_and(|running| running.started),
        Role::Main => false,
    }
}

/// Whether all init containers are done. Once a main container was started they stay done.
pub fn initialized(shape: &Shape, state: &State) -> bool {
    let slot = |member: &Member| state.containers.get(&member.name);
    let begun = shape
        .of(&[Role::Main])
        .filter_map(slot)
        .any(|slot| slot.attempt > 0 || !matches!(slot.phase, Phase::Idle { failed: None }));
    begun || shape.of(&[Role::Init, Role::Sidecar]).all(|member| slot(member).is_some_and(|slot| passed(member, slot)))
}

/// `Some(true)` when it is to be made now, `Some(false)` when later.
fn due_once<T>(once: &Once<T>, now: Instant, plan: &mut Plan) -> Option<bool> {
    let Once::Missing { backoff, failed } = once else { return None };
    let until = failed.as_ref().and_then(|(at, failure)| backoff.until(steps(failure), *at));
    match until {
        Some(until) if until > now => {
            plan.wake_at(until);
            Some(false)
        }
        _ => Some(true),
    }
}

/// Starts a container when it is due.
fn consider(shape: &Shape, member: &Member, slot: &Slot, now: Instant, plan: &mut Plan) {
    let start = Action::Start { name: member.name.clone() };
    if plan.actions.contains(&start) {
        return;
    }
    let until = match &slot.phase {
        Phase::Idle { failed: None } => None,
        Phase::Idle { failed: Some((at, failure)) } => slot.backoff.until(steps(failure), *at),
        Phase::Ended(ended) if shape.restart_of(member).again(ended) => slot.backoff.until(KUBERNETES, ended.seen),
        _ => return,
    };
    match until {
        Some(until) if until > now => plan.wake_at(until),
        _ => plan.actions.push(start),
    }
}

/// Whether nothing of the pod will run again by itself: every main container ended for good, or an init container failed for
/// good.
pub fn over(shape: &Shape, state: &State) -> bool {
    let done = |member: &Member| {
        let ended = state.containers.get(&member.name).and_then(Slot::ended);
        ended.is_some_and(|ended| !shape.restart_of(member).again(ended))
    };
    let mut main = shape.of(&[Role::Main]).peekable();
    let all_done = main.peek().is_some() && main.all(done);
    let init_failed = shape.of(&[Role::Init]).any(|member| {
        let ended = state.containers.get(&member.name).and_then(Slot::ended);
        done(member) && ended.is_some_and(|ended| ended.exit.code != 0)
    });
    all_done || init_failed
}

/// Main and init containers end together, then sidecars in the reverse of their order.
fn end(shape: &Shape, state: &State, plan: &mut Plan) {
    let slot = |member: &Member| state.containers.get(&member.name);
    let stop = |member: &Member, plan: &mut Plan| {
        if slot(member).is_some_and(|slot| matches!(slot.phase, Phase::Running(_))) {
            plan.actions.push(Action::Stop { name: member.name.clone() });
        }
    };
    let mut busy = false;
    for member in shape.of(&[Role::Init, Role::Main]) {
        busy |= slot(member).is_some_and(Slot::is_busy);
        stop(member, plan);
    }
    if busy {
        return;
    }
    for member in shape.of(&[Role::Sidecar]).rev() {
        if slot(member).is_some_and(Slot::is_busy) {
            stop(member, plan);
            return;
        }
    }
    // What is being made is waited for: it would be left behind otherwise.
    let making = matches!(state.network, Once::Making { .. });
    if !making && (state.ending == Some(Ending::Deleted) || state.network.here().is_some()) {
        plan.actions.push(Action::Finish);
    }
}

/// How long until an ended container starts again; `None` when it does not, or at once.
pub fn restart_in(shape: &Shape, member: &Member, slot: &Slot, now: Instant) -> Option<Duration> {
    let ended = slot.ended().filter(|ended| shape.restart_of(member).again(ended))?;
    let until = slot.backoff.until(KUBERNETES, ended.seen)?;
    Some(until.saturating_duration_since(now))
}

/// Whether an ended container will start again.
pub fn restarts(shape: &Shape, member: &Member, slot: &Slot) -> bool {
    slot.ended().is_some_and(|ended| shape.restart_of(member).again(ended))
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
