use jiff::Timestamp;

use super::super::backoff::Backoff;
use super::super::state::Running;
use super::*;
use crate::runtime::{ContainerId, Exit, ImageConfig, ImageHandle, PodNetwork};

fn member(name: &str, role: Role) -> Member {
    Member { name: name.into(), image: "i".into(), role }
}

fn shape(members: &[(&str, Role)], restart: Restart) -> Shape {
    Shape { members: members.iter().map(|(name, role)| member(name, *role)).collect(), restart }
}

fn id(name: &str) -> ContainerId {
    ContainerId { pod: "u".into(), name: name.into(), attempt: 0 }
}

/// A pod whose network and image are here.
fn ready(shape: &Shape) -> State {
    let mut state = State::new(shape.members.iter().map(|m| m.name.as_str()), ["i"]);
    state.network = Once::Here(PodNetwork { ip: [10, 0, 0, 1].into() });
    let digest = format!("sha256:{}", "0".repeat(64)).parse().unwrap();
    let image = ImageHandle { repository: "i".into(), digest, config: ImageConfig::default() };
    state.images.insert("i".into(), Once::Here(image));
    state
}

fn run(state: &mut State, name: &str, started: bool) {
    state.containers.get_mut(name).unwrap().phase = Phase::Running(Running {
        id: id(name),
        image: None,
        image_id: String::new(),
        started_at: Timestamp::UNIX_EPOCH,
        started,
        ready: false,
    });
}

fn ended(state: &mut State, name: &str, code: i32) {
    state.containers.get_mut(name).unwrap().phase = Phase::Ended(Ended {
        id: id(name),
        image_id: String::new(),
        started_at: None,
        exit: Exit { code, out_of_memory: false, at: Timestamp::UNIX_EPOCH },
        message: String::new(),
        reason: None,
        seen: Instant::now(),
    });
}

fn start(name: &str) -> Action {
    Action::Start { name: name.into() }
}

fn stop(name: &str) -> Action {
    Action::Stop { name: name.into() }
}

fn actions(shape: &Shape, state: &State) -> Vec<Action> {
    plan(shape, state, Instant::now()).actions
}

#[tokio::test(start_paused = true)]
async fn network_and_images_are_made_side_by_side_and_nothing_starts_before_both() {
    let shape = shape(&[("a", Role::Main)], Restart::Always);
    let mut state = State::new(["a"], ["i", "j"]);
    let image = |reference: &str| Action::Image { reference: reference.into() };
    assert_eq!(actions(&shape, &state), [Action::Network, image("i"), image("j")]);
    let whole = ready(&shape);
    state.network = whole.network.clone();
    state.images.insert("i".into(), whole.images["i"].clone());
    assert_eq!(actions(&shape, &state), [image("j")], "one image is missing");
    assert_eq!(actions(&shape, &whole), [start("a")]);
}

#[tokio::test(start_paused = true)]
async fn a_refused_image_is_asked_for_again_with_back_off() {
    let shape = shape(&[("a", Role::Main)], Restart::Always);
    let mut state = ready(&shape);
    let now = Instant::now();
    let failure = Failure { reason: EVIDENCE_MISSING, message: "no signature".into() };
    let backoff = Backoff::default().again(EVIDENCE, now, now);
    state.images.insert("i".into(), Once::Missing { backoff, failed: Some((now, failure)) });
    let waiting = plan(&shape, &state, now);
    assert_eq!((waiting.actions.len(), waiting.wake), (0, Some(now + Duration::from_secs(1))));
    let due = plan(&shape, &state, now + Duration::from_secs(1));
    assert_eq!(due.actions, [Action::Image { reference: "i".into() }]);
}

#[tokio::test(start_paused = true)]
async fn init_containers_run_one_after_the_other_and_sidecars_stay() {
    let shape = shape(
        &[("one", Role::Init), ("side", Role::Sidecar), ("two", Role::Init), ("main", Role::Main)],
        Restart::Always,
    );
    let mut state = ready(&shape);
    assert_eq!(actions(&shape, &state), [start("one")]);
    ended(&mut state, "one", 0);
    assert_eq!(actions(&shape, &state), [start("side")]);
    run(&mut state, "side", false);
    assert_eq!(actions(&shape, &state), [], "the sidecar has not started up yet");
    run(&mut state, "side", true);
    assert_eq!(actions(&shape, &state), [start("two")]);
    ended(&mut state, "two", 0);
    assert_eq!(actions(&shape, &state), [start("main")]);
    run(&mut state, "main", true);
    assert_eq!(actions(&shape, &state), []);
    ended(&mut state, "side", 1);
    assert_eq!(actions(&shape, &state), [start("side")], "a sidecar always starts again");
}

#[tokio::test(start_paused = true)]
async fn restart_policies_decide_what_happens_at_the_end() {
    for (restart, code, again) in [
        (Restart::Always, 0, true),
        (Restart::Always, 1, true),
        (Restart::OnFailure, 0, false),
        (Restart::OnFailure, 1, true),
        (Restart::Never, 0, false),
        (Restart::Never, 1, false),
    ] {
        let shape = shape(&[("a", Role::Main)], restart);
        let mut state = ready(&shape);
        ended(&mut state, "a", code);
        let expected = if again { start("a") } else { Action::Finish };
        assert_eq!(actions(&shape, &state), [expected], "{restart:?} {code}");
        assert_eq!(over(&shape, &state), !again);
    }
}

#[tokio::test(start_paused = true)]
async fn a_container_that_crashed_again_waits_for_its_back_off() {
    let shape = shape(&[("a", Role::Main)], Restart::Always);
    let mut state = ready(&shape);
    let now = Instant::now();
    ended(&mut state, "a", 1);
    state.containers.get_mut("a").unwrap().backoff = Backoff::default().again(KUBERNETES, now, now);
    let waiting = plan(&shape, &state, now + Duration::from_secs(9));
    assert_eq!((waiting.actions.len(), waiting.wake), (0, Some(now + Duration::from_secs(10))));
    assert_eq!(plan(&shape, &state, now + Duration::from_secs(10)).actions, [start("a")]);
}

#[tokio::test(start_paused = true)]
async fn a_failed_init_container_ends_a_pod_that_never_restarts() {
    let shape = shape(&[("one", Role::Init), ("main", Role::Main)], Restart::Never);
    let mut state = ready(&shape);
    ended(&mut state, "one", 3);
    assert!(over(&shape, &state));
    assert_eq!(actions(&shape, &state), [Action::Finish]);
}

#[tokio::test(start_paused = true)]
async fn a_deleted_pod_ends_its_containers_then_its_sidecars_then_itself() {
    let shape = shape(&[("s1", Role::Sidecar), ("s2", Role::Sidecar), ("main", Role::Main)], Restart::Always);
    let mut state = ready(&shape);
    for name in ["s1", "s2", "main"] {
        run(&mut state, name, true);
    }
    state.ending = Some(Ending::Deleted);
    assert_eq!(actions(&shape, &state), [stop("main")]);
    if let Some(slot) = state.containers.get_mut("main")
        && let Phase::Running(running) = slot.phase.clone()
    {
        slot.phase = Phase::Stopping(running);
    }
    assert_eq!(actions(&shape, &state), [], "it is asked once");
    ended(&mut state, "main", 143);
    assert_eq!(actions(&shape, &state), [stop("s2")]);
    ended(&mut state, "s2", 0);
    assert_eq!(actions(&shape, &state), [stop("s1")]);
    ended(&mut state, "s1", 0);
    assert_eq!(actions(&shape, &state), [Action::Finish]);
    state.finishing = true;
    assert_eq!(actions(&shape, &state), []);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_deleted_before_it_has_anything_is_finished_at_once() {
    let shape = shape(&[("a", Role::Main)], Restart::Always);
    let mut state = State::new(["a"], ["i"]);
    state.ending = Some(Ending::Deleted);
    assert_eq!(actions(&shape, &state), [Action::Finish]);
    state.network = Once::Making { backoff: Backoff::default(), failed: None };
    assert_eq!(actions(&shape, &state), [], "the network that is being made must not be left behind");
}
