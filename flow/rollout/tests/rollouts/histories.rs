//! Whatever happens in whatever order, it ends, and it ends well where it can.

use std::collections::BTreeSet;

use crate::simulation::{Behaviour, World};
use proptest::prelude::*;
use records::{Cause, OnFailure, Release, Rollout, RolloutState};

#[derive(Debug, Clone)]
enum Happening {
    Release(Behaviour, OnFailure),
    Pass(u8),
    /// The server dies at its so-many-th call from now, before or after the effect.
    Die(u8, bool),
    Away(u8),
}

fn happening() -> impl Strategy<Value = Happening> {
    let behaviour = prop_oneof![3 => Just(Behaviour::Good), 2 => (0..5_usize).prop_map(|i| Behaviour::ALL[i])];
    let on_failure = prop_oneof![4 => Just(OnFailure::Rollback), 1 => Just(OnFailure::Pause)];
    prop_oneof![
        2 => (behaviour, on_failure).prop_map(|(behaviour, on_failure)| Happening::Release(behaviour, on_failure)),
        3 => (1..60_u8).prop_map(Happening::Pass),
        2 => (1..250_u8, any::<bool>()).prop_map(|(call, after)| Happening::Die(call, after)),
        1 => (1..80_u8).prop_map(Happening::Away),
    ]
}

async fn live(history: Vec<Happening>) -> Result<(), TestCaseError> {
    let mut world = World::new();
    let mut served = false;
    for happening in history {
        match happening {
            Happening::Release(behaviour, on_failure) => {
                world.release(behaviour, on_failure).await;
            }
            Happening::Die(call, after) => world.fate.set(call.into(), after),
            Happening::Pass(steps) | Happening::Away(steps) => {
                world.cluster.unreachable(matches!(happening, Happening::Away(_)));
                for _ in 0..steps {
                    world.activate().await;
                    world.pass(500);
                    served |= world.cluster.serving().len() >= 3;
                    prop_assert!(!served || world.cluster.serving().len() >= 3, "it never serves less than it did");
                }
                world.cluster.unreachable(false);
            }
        }
    }
    world.fate.set(0, false);
    world.settle().await;

    let releases: Vec<Release> = world.all().await;
    let rollouts: Vec<Rollout> = world.all().await;
    let state = |release: &Release| rollouts.iter().find(|r| r.release == release.id).map(|rollout| &rollout.state);
    let mut undone = BTreeSet::new();
    for release in &releases {
        if let Cause::Rollback { of } = &release.cause {
            prop_assert!(undone.insert(of.to_string()), "one way back for each failure");
            let of = releases.iter().find(|release| release.id == *of).expect("what failed is on record");
            let failed = state(of);
            prop_assert!(matches!(failed, Some(RolloutState::Failed { back_to: Some(_), .. })), "{failed:?}");
        }
    }
    for rollout in &rollouts {
        prop_assert!(rollout.state.ended(), "nothing is left half done: {rollout:?}");
        if let RolloutState::Failed { reason, back_to, .. } = &rollout.state {
            prop_assert!(!reason.contains('\n') && !reason.ends_with('.') && reason.len() < 400, "{reason}");
            if let Some(back) = back_to {
                let back = rollouts.iter().find(|rollout| rollout.release == *back).expect("it was rolled out");
                let complete = matches!(back.state, RolloutState::Complete { .. });
                prop_assert!(complete, "it goes back only to what was complete");
            }
        }
    }
    let Some(newest) = releases.last() else { return Ok(()) };
    match state(newest) {
        Some(RolloutState::Complete { .. }) => {
            let text = newest.commit.as_str().trim_start_matches('0');
            let number = u64::from_str_radix(text, 16).expect("the commits of these tests are numbers");
            prop_assert_eq!(world.cluster.serving(), vec![format!("Good:{}", number); 3], "the newest is what runs");
        }
        state => {
            let stays = matches!(state, Some(RolloutState::Failed { back_to: None, .. }));
            prop_assert!(stays, "the newest is complete, or failed without a way back: {state:?}");
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn every_history_ends(history in prop::collection::vec(happening(), 1..25)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(live(history))?;
    }
}
