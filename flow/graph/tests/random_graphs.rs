//! Random graphs with random failures, cache contents and speeds: what must hold for every one of them.

mod simulation;

use std::{collections::HashMap, sync::Arc, time::Duration};

use graph::{Error, Graph, Limits, Options, Outcome, Scheduler};
use proptest::prelude::*;
use simulation::{Act, Log, Simulation, vertex};

#[derive(Debug, Clone)]
struct Plan {
    /// For each vertex: inputs, after, milliseconds, whether it fails.
    vertices: Vec<(Vec<usize>, Vec<usize>, u64, bool)>,
    wanted: Vec<usize>,
    warm: Vec<usize>,
    parallelism: usize,
}

fn plan() -> impl Strategy<Value = Plan> {
    (1usize..14).prop_flat_map(|n| {
        let edges = || prop::collection::vec(any::<prop::sample::Index>(), 0..3);
        let one = (edges(), edges(), 0u64..20, prop::bool::weighted(0.12));
        let some = || prop::collection::vec(0..n, 0..3);
        (prop::collection::vec(one, n), prop::collection::vec(0..n, 1..4), some(), 1usize..4).prop_map(
            |(raw, wanted, warm, parallelism)| {
                let earlier = |i: usize, edges: &[prop::sample::Index]| -> Vec<usize> {
                    if i == 0 { vec![] } else { edges.iter().map(|e| e.index(i)).collect() }
                };
                let vertices = raw.iter().enumerate();
                let vertices =
                    vertices.map(|(i, (a, b, ms, fails))| (earlier(i, a), earlier(i, b), *ms, *fails)).collect();
                Plan { vertices, wanted, warm, parallelism }
            },
        )
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_graph(plan in plan()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(check(plan))?;
    }
}

async fn check(plan: Plan) -> Result<(), TestCaseError> {
    let mut graph = Graph::new();
    let mut acts = HashMap::new();
    let name = |i: usize| format!("v{i}");
    for (i, (inputs, after, ms, fails)) in plan.vertices.iter().enumerate() {
        graph.add(vertex(&name(i), inputs, after));
        let (time, error) = (Duration::from_millis(*ms), Error::Exit { code: 1, artifacts: vec![] });
        acts.insert(name(i), if *fails { Act::FailsAfter(time, error) } else { Act::Takes(time) });
    }
    let simulation = Simulation::of(acts);
    let limits = Limits { parallelism: plan.parallelism, ..Limits::default() };
    let scheduler = Scheduler::new(simulation.clone(), simulation.clone(), limits);
    // An earlier run left some results, of which some inputs are then lost.
    scheduler.run(&graph, &plan.warm, Log::new(), Options::default()).await;
    let before: Vec<u32> = (0..graph.len()).map(|i| simulation.runs(&name(i))).collect();
    let start = simulation.trail().len();

    let log = Log::new();
    let two = tokio::join!(
        scheduler.run(&graph, &plan.wanted, log.clone(), Options::default()),
        scheduler.run(&graph, &plan.wanted, Arc::new(Log::default()), Options::default()),
    );
    let report = two.0;
    prop_assert_eq!(scheduler.under_way(), 0);
    prop_assert!(simulation.most_at_once() <= plan.parallelism);

    let trail = simulation.trail().split_off(start);
    let place = |mark: &str, i: usize| trail.iter().position(|t| *t == format!("{mark}v{i}"));
    for (i, (inputs, after, _, fails)) in plan.vertices.iter().enumerate() {
        let ran = simulation.runs(&name(i)) - before[i];
        let failed_before = ran > 1;
        // Two runs at the same time do it once; only a failure, which is not kept, can be met twice by the two.
        prop_assert!(!failed_before || *fails || simulation.cancelled(&name(i)) > 0, "v{} ran {} times", i, ran);
        let story = log.of(i);
        let ends = story.iter().filter(|line| *line != "started").count();
        match &report.outcomes[i] {
            Outcome::NotNeeded => prop_assert!(story.is_empty()),
            _ => prop_assert_eq!(ends, 1, "{:?}", &story),
        }
        match &report.outcomes[i] {
            Outcome::Finished { cached, .. } => {
                prop_assert!(!fails);
                for gate in after {
                    prop_assert!(report.output(*gate).is_some(), "v{} finished before its gate v{}", i, gate);
                }
                if !cached {
                    for input in inputs {
                        prop_assert!(report.output(*input).is_some());
                    }
                }
            }
            Outcome::Failed(_) => prop_assert!(fails),
            Outcome::Stopped { because } => prop_assert!(because.contains("failed"), "{}", because),
            Outcome::NotNeeded => prop_assert!(!plan.wanted.contains(&i)),
        }
        // Order: nothing starts before what it needs has ended well, in this run or before it.
        if let Some(began) = place("+", i) {
            for needed in inputs.iter().chain(after) {
                if simulation.runs(&name(*needed)) > before[*needed] {
                    let ended = place("-", *needed);
                    prop_assert!(
                        ended.is_some_and(|ended| ended < began),
                        "v{} began before v{}: {:?}",
                        i,
                        needed,
                        &trail
                    );
                }
            }
        }
    }
    // When nothing failed, everything that was wanted is there.
    if report.failures().count() == 0 {
        prop_assert!(report.all_finished(&plan.wanted));
    }
    Ok(())
}
