//! Releases roll out, fail, and come back; the server dies at every call it makes.

mod histories;
mod simulation;

use records::{Cause, OnFailure, Release, RolloutState, labels};
use rollout::Waiting;
use simulation::{Behaviour, World};

use Behaviour::*;
use OnFailure::{Pause, Rollback};

fn states(expected: &[(u64, &str)]) -> Vec<(u64, String)> {
    expected.iter().map(|(number, state)| (*number, (*state).to_owned())).collect()
}

#[tokio::test]
async fn a_good_release_rolls_out_and_replaces_the_one_before() {
    let mut world = World::new();
    let first = world.release(Good, Rollback).await;
    let report = world.activate().await.unwrap();
    let seen: Vec<_> = report.changed.iter().map(|rollout| rollout.state.name()).collect();
    assert_eq!(seen, ["pending", "progressing", "progressing"]);
    assert!(report.again.is_some());
    let [(_, Waiting::Ready { workload, ready: 0, wanted: 3, .. })] = &report.waiting[..] else { panic!("{report:?}") };
    assert_eq!(workload, "deployment journal/web");
    world.settle().await;
    assert_eq!(world.states().await, states(&[(1, "complete")]));
    assert_eq!(world.cluster.serving(), ["Good:1"; 3]);
    assert_eq!(world.cluster.applied(), 1, "once");
    let annotations = &world.cluster.object("Deployment", "web")["metadata"]["annotations"];
    assert_eq!(annotations[labels::RELEASE], first.to_string());
    assert_eq!(annotations[labels::RUN], "journal/1");

    world.release(Good, Rollback).await;
    world.settle().await;
    assert_eq!(world.states().await, states(&[(1, "complete"), (2, "complete")]));
    assert_eq!(world.cluster.serving(), ["Good:2"; 3]);
    assert_eq!(
        world.cluster.objects(),
        ["ConfigMap config-2", "Deployment web", "Namespace journal"],
        "what is gone is pruned"
    );
    let before = *world.records.head().borrow();
    world.restart();
    assert!(world.activate().await.unwrap().changed.is_empty());
    assert_eq!(*world.records.head().borrow(), before, "what is complete is left alone");
    assert_eq!(world.cluster.applied(), 2);
}

#[tokio::test]
async fn a_release_that_fails_goes_back_and_says_why() {
    let cases = [
        (
            NeverReady,
            "version 000000000000 of deployment journal/web did not become ready within 20 s: \
             readiness probe GET /ready on port 8080 answered 503; went back to release journal/prod/1",
        ),
        (
            Crashes,
            "version 000000000000 of deployment journal/web cannot run: its container web keeps exiting with status 1; \
             went back to release journal/prod/1",
        ),
        (
            NoImage,
            "version 000000000000 of deployment journal/web cannot run: the registry has no such image; \
             went back to release journal/prod/1",
        ),
        (
            Rejected,
            "version 000000000000 cannot be applied, since the cluster rejects deployment journal/web: \
             spec.replicas: Invalid value; went back to release journal/prod/1",
        ),
    ];
    for (behaviour, reason) in cases {
        let mut world = World::new();
        let good = world.release(Good, Rollback).await;
        world.settle().await;
        let bad = world.release(behaviour, Rollback).await;
        let began = world.now;
        world.settle().await;
        assert_eq!(world.states().await, states(&[(1, "complete"), (2, "failed"), (3, "complete")]), "{behaviour:?}");
        assert_eq!(world.reason(&bad).await, reason);
        let RolloutState::Failed { at, back_to, .. } = world.rollout(&bad).await.state else { panic!("it failed") };
        assert_eq!(back_to, Some(good.clone()));
        let took = at.duration_since(began).as_secs();
        match behaviour {
            NeverReady => assert!((20..23).contains(&took), "the deadline: {took}"),
            _ => assert!(took < 15, "no need to wait for the deadline: {took}"),
        }
        let releases = world.all::<Release>().await;
        assert_eq!(releases[2].cause, Cause::Rollback { of: bad });
        assert_eq!((&releases[2].manifests, &releases[2].commit), (&releases[0].manifests, &releases[0].commit));
        assert_eq!(world.cluster.serving(), ["Good:1"; 3], "never fewer than three, and all of the old version");
        assert_eq!(world.cluster.objects(), ["ConfigMap config-1", "Deployment web", "Namespace journal"]);
        let annotations = &world.cluster.object("Deployment", "web")["metadata"]["annotations"];
        assert_eq!(annotations[labels::RELEASE], "journal/prod/3");
    }
}

#[tokio::test]
async fn without_a_way_back_it_stays() {
    let mut world = World::new();
    let bad = world.release(NeverReady, Rollback).await;
    world.settle().await;
    assert_eq!(world.states().await, states(&[(1, "failed")]));
    assert!(world.reason(&bad).await.ends_with("; there is no earlier release to go back to, so it was left as it is"));

    let mut world = World::new();
    world.release(Good, Rollback).await;
    world.settle().await;
    let bad = world.release(NeverReady, Pause).await;
    world.settle().await;
    assert_eq!(world.states().await, states(&[(1, "complete"), (2, "failed")]));
    assert!(world.reason(&bad).await.ends_with("as its environment asks for"));
}

#[tokio::test]
async fn a_fix_overtakes_what_is_broken_at_once() {
    let mut world = World::new();
    world.release(Good, Rollback).await;
    world.settle().await;
    world.release(NeverReady, Rollback).await;
    world.activate().await;
    world.pass(500);
    world.release(Good, Rollback).await;
    world.settle().await;
    assert_eq!(world.states().await, states(&[(1, "complete"), (2, "superseded"), (3, "complete")]));
    assert_eq!(world.cluster.serving(), ["Good:3"; 3]);

    // Also while it goes back, and also when what it goes back to has broken meanwhile.
    world.release(Crashes, Rollback).await;
    while world.states().await.len() < 5 {
        world.pass(500);
        world.activate().await;
    }
    world.release(Good, Rollback).await;
    world.settle().await;
    let expected = [(4, "failed"), (5, "superseded"), (6, "complete")];
    assert_eq!(world.states().await[3..], states(&expected));
    assert_eq!(world.cluster.serving(), ["Good:6"; 3]);
}

#[tokio::test]
async fn two_at_once_roll_out_the_newer_alone() {
    let mut world = World::new();
    world.release(Good, Rollback).await;
    world.release(Good, Rollback).await;
    world.settle().await;
    assert_eq!(world.states().await, states(&[(2, "complete")]));
    assert_eq!(world.cluster.applied(), 1);
}

#[tokio::test]
async fn a_cluster_that_is_away_is_waited_for() {
    let mut world = World::new();
    world.release(Good, Rollback).await;
    world.activate().await;
    world.cluster.unreachable(true);
    world.activate().await;
    let before = *world.records.head().borrow();
    for _ in 0..200 {
        world.pass(500);
        let report = world.activate().await.unwrap();
        let [(_, waiting)] = &report.waiting[..] else { panic!("{report:?}") };
        assert_eq!(waiting.to_string(), "the cluster cannot be reached: connection refused");
    }
    assert_eq!(*world.records.head().borrow(), before, "waiting writes nothing");
    world.cluster.unreachable(false);
    world.settle().await;
    assert_eq!(
        world.states().await,
        states(&[(1, "complete")]),
        "100 s without an answer are no failure of the release"
    );
}

#[tokio::test]
async fn a_server_that_was_down_for_long_gives_the_release_its_time() {
    let mut world = World::new();
    world.release(Good, Rollback).await;
    world.activate().await;
    world.now = world.now.checked_add(std::time::Duration::from_secs(3600)).unwrap();
    world.restart();
    world.settle().await;
    assert_eq!(world.states().await, states(&[(1, "complete")]));
}

/// A good release, a bad one, the way back; the server is killed at each of its calls in turn, before and after the call's effect.
#[tokio::test]
async fn killed_at_any_call_it_ends_the_same() {
    async fn journey(fate: Option<(i64, bool)>, bad: Behaviour) -> (World, i64) {
        let mut world = World::new();
        if let Some((call, after)) = fate {
            world.fate.set(call, after);
        }
        world.release(Good, Rollback).await;
        world.settle().await;
        let calls = world.fate.calls();
        world.release(bad, Rollback).await;
        world.settle().await;
        let calls = calls.max(world.fate.calls());
        (world, calls)
    }
    for bad in [NeverReady, Crashes, Rejected] {
        let (peaceful, calls) = journey(None, bad).await;
        let expected = peaceful.states().await;
        assert_eq!(expected, states(&[(1, "complete"), (2, "failed"), (3, "complete")]));
        let mut died = 0;
        for call in 1..=calls {
            for after in [false, true] {
                let (world, _) = journey(Some((call, after)), bad).await;
                died += world.restarts;
                assert_eq!(world.states().await, expected, "{bad:?}, killed at call {call}, after its effect: {after}");
                assert_eq!(world.cluster.serving(), ["Good:1"; 3]);
                assert_eq!(world.cluster.objects(), peaceful.cluster.objects());
                let reason = world.reason(&"journal/prod/2".parse().unwrap()).await;
                assert_eq!(reason, peaceful.reason(&"journal/prod/2".parse().unwrap()).await);
                assert_eq!(world.all::<Release>().await.len(), 3, "one way back, not two");
                assert!(world.cluster.applied() <= 4, "once more than in peace at most");
            }
        }
        assert_eq!(died, 2 * calls as u32, "it died each time");
    }
}
