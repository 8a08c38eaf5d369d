//! The scheduler, driven with a simulated executor and a paused clock.

mod simulation;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use graph::{Cancel, Error, Exec, Graph, Limits, Op, Options, Outcome, Scheduler, Scope, SecretUse, Vertex};
use simulation::{Act, Log, Simulation, exec, vertex};

const S: fn(u64) -> Duration = Duration::from_secs;

fn one(vertex: &usize) -> &[usize] {
    std::slice::from_ref(vertex)
}

fn scheduler(simulation: &Arc<Simulation>) -> Scheduler {
    Scheduler::new(simulation.clone(), simulation.clone(), Limits { parallelism: 8, ..Limits::default() })
}

#[tokio::test(start_paused = true)]
async fn independent_vertices_run_at_the_same_time() {
    let simulation = Simulation::new([("a", Act::Takes(S(10))), ("b", Act::Takes(S(10))), ("c", Act::Takes(S(1)))]);
    let mut graph = Graph::new();
    let (a, b) = (graph.add(vertex("a", &[], &[])), graph.add(vertex("b", &[], &[])));
    let c = graph.add(vertex("c", &[a], &[b]));
    let log = Log::new();
    let start = tokio::time::Instant::now();
    let report = scheduler(&simulation).run(&graph, &[c], log.clone(), Options::default()).await;
    assert!(report.all_finished(&[a, b, c]));
    assert_eq!(start.elapsed(), S(11));
    assert_eq!(simulation.inputs_of("c"), [graph.id(a).clone()]);
    assert_eq!(log.of(c), ["started", "finished"]);
}

#[tokio::test(start_paused = true)]
async fn parallelism_is_bounded_over_all_runs() {
    let names = ["a", "b", "c", "d"];
    let simulation = Simulation::new(names.map(|name| (name, Act::Takes(S(10)))));
    let scheduler =
        Scheduler::new(simulation.clone(), simulation.clone(), Limits { parallelism: 2, ..Limits::default() });
    let run = |names: [&'static str; 2]| {
        let mut graph = Graph::new();
        let wanted = names.map(|name| graph.add(vertex(name, &[], &[])));
        let scheduler = scheduler.clone();
        async move { scheduler.run(&graph, &wanted, Log::new(), Options::default()).await }
    };
    let start = tokio::time::Instant::now();
    tokio::join!(run(["a", "b"]), run(["c", "d"]));
    assert_eq!(start.elapsed(), S(20));
    assert_eq!(simulation.most_at_once(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_a_cached_vertex_was_made_from_is_not_run() {
    let simulation = Simulation::new([]);
    let mut graph = Graph::new();
    let base = graph.add(vertex("base", &[], &[]));
    let image = graph.add(vertex("image", &[base], &[]));
    let scheduler = scheduler(&simulation);
    scheduler.run(&graph, &[image], Log::new(), Options::default()).await;
    simulation.forget(graph.id(base));
    let log = Log::new();
    let report = scheduler.run(&graph, &[image], log.clone(), Options::default()).await;
    assert!(matches!(&report.outcomes[..], [Outcome::NotNeeded, Outcome::Finished { cached: true, .. }]));
    assert_eq!(log.of(image), ["cached"]);
    assert_eq!(simulation.runs("base"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_gate_holds_for_a_cached_result_too() {
    let mut graph = Graph::new();
    let base = graph.add(vertex("base", &[], &[]));
    let image = graph.add(vertex("image", &[base], &[]));
    let simulation = Simulation::new([("test", Act::Fails(Error::Exit { code: 1, artifacts: vec![] }))]);
    let scheduler = scheduler(&simulation);
    scheduler.run(&graph, &[image], Log::new(), Options::default()).await;

    // The same image, whose first vertex now waits for a test: `after` is no part of the address.
    let mut graph = Graph::new();
    let test = graph.add(vertex("test", &[], &[]));
    let base = graph.add(vertex("base", &[], &[test]));
    let image = graph.add(vertex("image", &[base], &[]));
    let log = Log::new();
    let report = scheduler.run(&graph, &[image], log.clone(), Options::default()).await;
    assert_eq!(log.of(image), ["stopped: `test` failed: exited with status 1"]);
    assert!(report.output(image).is_none() && report.failures().count() == 1);
}

#[tokio::test(start_paused = true)]
async fn a_failure_stops_what_needs_it_and_what_runs_for_nobody_else() {
    let simulation = Simulation::new([
        ("slow", Act::Takes(S(100))),
        ("bad", Act::FailsAfter(S(1), Error::Signal { signal: 9, out_of_memory: true })),
        ("other", Act::Takes(S(5))),
    ]);
    let mut graph = Graph::new();
    let slow = graph.add(vertex("slow", &[], &[]));
    let bad = graph.add(vertex("bad", &[], &[]));
    let other = graph.add(vertex("other", &[], &[]));
    let both = graph.add(vertex("both", &[slow, bad], &[]));
    let late = graph.add(vertex("late", &[both], &[]));
    let log = Log::new();
    let start = tokio::time::Instant::now();
    let report = scheduler(&simulation).run(&graph, &[late, other], log.clone(), Options::default()).await;
    assert_eq!(start.elapsed(), S(5), "`slow` was cancelled, `other` was not");
    assert_eq!(log.of(late), ["stopped: `bad` failed: killed by signal 9 (out of memory)"]);
    assert_eq!(
        log.of(slow),
        ["started", "stopped: not needed any more: `bad` failed: killed by signal 9 (out of memory)"]
    );
    assert_eq!(simulation.cancelled("slow"), 1);
    assert!(report.output(other).is_some());
    assert_eq!(simulation.runs("both"), 0);
}

#[tokio::test(start_paused = true)]
async fn fail_fast_stops_everything() {
    let simulation = Simulation::new([
        ("bad", Act::FailsAfter(S(1), Error::Exit { code: 3, artifacts: vec![] })),
        ("other", Act::Takes(S(50))),
    ]);
    let mut graph = Graph::new();
    let wanted = [graph.add(vertex("bad", &[], &[])), graph.add(vertex("other", &[], &[]))];
    let log = Log::new();
    let options = Options { fail_fast: true, ..Options::default() };
    scheduler(&simulation).run(&graph, &wanted, log.clone(), options).await;
    assert_eq!(log.of(1), ["started", "stopped: `bad` failed: exited with status 3"]);
}

#[tokio::test(start_paused = true)]
async fn cancelling_says_who_and_waits_for_the_cleaning_up() {
    let simulation = Simulation::new([("a", Act::Takes(S(100)))]);
    simulation.cleanup_takes(S(2));
    let mut graph = Graph::new();
    let a = graph.add(vertex("a", &[], &[]));
    let b = graph.add(vertex("b", &[a], &[]));
    let cancel = Cancel::new();
    let switch = cancel.clone();
    tokio::spawn(async move {
        tokio::time::sleep(S(3)).await;
        switch.cancel("by admin");
        switch.cancel("too late to matter");
    });
    let log = Log::new();
    let start = tokio::time::Instant::now();
    let options = Options { cancel, ..Options::default() };
    scheduler(&simulation).run(&graph, &[b], log.clone(), options).await;
    assert_eq!(start.elapsed(), S(5));
    assert_eq!(log.of(a), ["started", "stopped: cancelled: by admin"]);
    assert_eq!(log.of(b), ["stopped: cancelled: by admin"]);
}

#[tokio::test(start_paused = true)]
async fn two_runs_do_the_same_vertex_once() {
    let simulation = Simulation::new([("a", Act::Says(S(10), "hello\n"))]);
    let scheduler = scheduler(&simulation);
    let mut graph = Graph::new();
    let a = graph.add(vertex("a", &[], &[]));
    let (first, second) = (Log::new(), Log::new());
    let late = async {
        tokio::time::sleep(S(4)).await;
        scheduler.run(&graph, one(&a), second.clone(), Options::default()).await
    };
    let (one, two) = tokio::join!(scheduler.run(&graph, one(&a), first.clone(), Options::default()), late);
    assert_eq!(simulation.runs("a"), 1);
    assert!(one.output(a).is_some() && one.output(a) == two.output(a));
    // Who comes late hears what was said before.
    assert_eq!(first.of(a), ["started", "stdout: hello\n", "finished"]);
    assert_eq!(second.of(a), first.of(a));
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_run_leaves_the_work_that_another_waits_for() {
    let simulation = Simulation::new([("a", Act::Takes(S(10)))]);
    let scheduler = scheduler(&simulation);
    let mut graph = Graph::new();
    let a = graph.add(vertex("a", &[], &[]));
    let cancel = Cancel::new();
    let first = scheduler.run(&graph, one(&a), Log::new(), Options { cancel: cancel.clone(), ..Options::default() });
    let second = scheduler.run(&graph, one(&a), Log::new(), Options::default());
    let switch = async {
        tokio::time::sleep(S(5)).await;
        cancel.cancel("by a test");
    };
    let (one, two, ()) = tokio::join!(first, second, switch);
    assert!(matches!(&one.outcomes[a], Outcome::Stopped { because } if because == "cancelled: by a test"));
    assert!(two.output(a).is_some());
    assert_eq!((simulation.runs("a"), simulation.cancelled("a")), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn who_comes_while_a_cancelled_vertex_cleans_up_starts_it_afresh() {
    let simulation = Simulation::new([("a", Act::Takes(S(10)))]);
    simulation.cleanup_takes(S(3));
    let scheduler = scheduler(&simulation);
    let mut graph = Graph::new();
    let a = graph.add(vertex("a", &[], &[]));
    let cancel = Cancel::new();
    let first = scheduler.run(&graph, one(&a), Log::new(), Options { cancel: cancel.clone(), ..Options::default() });
    let second = async {
        tokio::time::sleep(S(5)).await;
        cancel.cancel("by a test");
        tokio::time::sleep(S(1)).await;
        scheduler.run(&graph, one(&a), Log::new(), Options::default()).await
    };
    let start = tokio::time::Instant::now();
    let (_, two) = tokio::join!(first, second);
    assert!(two.output(a).is_some());
    assert_eq!(start.elapsed(), S(5 + 3 + 10));
    assert_eq!((simulation.runs("a"), simulation.most_at_once()), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn dropping_a_run_cancels_its_work() {
    let simulation = Simulation::new([("a", Act::Takes(S(100)))]);
    let scheduler = scheduler(&simulation);
    let mut graph = Graph::new();
    let a = graph.add(vertex("a", &[], &[]));
    let run = scheduler.run(&graph, one(&a), Log::new(), Options::default());
    assert!(tokio::time::timeout(S(1), run).await.is_err());
    tokio::time::sleep(S(1)).await;
    assert_eq!((simulation.cancelled("a"), scheduler.under_way()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn closing_stops_everything_and_later_runs_end_at_once() {
    let simulation = Simulation::new([("a", Act::Takes(S(100)))]);
    let scheduler = scheduler(&simulation);
    let mut graph = Graph::new();
    let a = graph.add(vertex("a", &[], &[]));
    let log = Log::new();
    let close = async {
        tokio::time::sleep(S(1)).await;
        scheduler.close().await;
    };
    tokio::join!(scheduler.run(&graph, one(&a), log.clone(), Options::default()), close);
    assert_eq!(log.of(a), ["started", "stopped: the server is stopping"]);
    let log = Log::new();
    scheduler.run(&graph, one(&a), log.clone(), Options::default()).await;
    assert_eq!(log.of(a), ["stopped: the server is stopping"]);
}

#[tokio::test(start_paused = true)]
async fn a_failing_machine_is_tried_again_with_growing_pauses() {
    let broken = Error::Infrastructure { message: "no space left".into(), source: None };
    let simulation = Simulation::new([("a", Act::FailsTimes(2, broken.clone())), ("b", Act::Fails(broken))]);
    let mut graph = Graph::new();
    let (a, b) = (graph.add(vertex("a", &[], &[])), graph.add(vertex("b", &[], &[])));
    let log = Log::new();
    let start = tokio::time::Instant::now();
    let report = scheduler(&simulation).run(&graph, &[a, b], log.clone(), Options::default()).await;
    assert_eq!(start.elapsed(), Duration::from_millis(1500));
    assert!(report.output(a).is_some());
    assert_eq!(
        log.of(b),
        [
            "started",
            "note: no space left; trying again in 500ms (attempt 2 of 3)\n",
            "note: no space left; trying again in 1s (attempt 3 of 3)\n",
            "failed: no space left"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_step_that_takes_too_long_is_stopped() {
    let simulation = Simulation::new([("a", Act::Takes(S(100)))]);
    let mut graph = Graph::new();
    let a = graph.add(Vertex { op: Op::Exec(Exec { timeout: Some(S(7)), ..exec("a") }), ..vertex("a", &[], &[]) });
    let log = Log::new();
    let start = tokio::time::Instant::now();
    scheduler(&simulation).run(&graph, one(&a), log.clone(), Options::default()).await;
    assert_eq!(start.elapsed(), S(7));
    assert_eq!(log.of(a), ["started", "failed: took longer than 7s"]);
    assert_eq!(simulation.cancelled("a"), 1);
}

#[tokio::test(start_paused = true)]
async fn an_executor_that_ignores_cancellation_is_given_up() {
    let simulation = Simulation::new([("a", Act::Ignores)]);
    let mut graph = Graph::new();
    let a = graph.add(Vertex { op: Op::Exec(Exec { timeout: Some(S(7)), ..exec("a") }), ..vertex("a", &[], &[]) });
    let start = tokio::time::Instant::now();
    let report = scheduler(&simulation).run(&graph, one(&a), Log::new(), Options::default()).await;
    assert_eq!(start.elapsed(), S(7 + 30));
    assert!(matches!(report.outcomes[a], Outcome::Failed(Error::Timeout(_))));
}

#[tokio::test(start_paused = true)]
async fn an_executor_that_panics_fails_its_vertex_only() {
    let simulation = Simulation::new([("a", Act::Panics)]);
    let mut graph = Graph::new();
    let wanted = [graph.add(vertex("a", &[], &[])), graph.add(vertex("b", &[], &[]))];
    let report = scheduler(&simulation).run(&graph, &wanted, Log::new(), Options::default()).await;
    assert!(matches!(report.outcomes[0], Outcome::Failed(Error::Infrastructure { .. })));
    assert!(report.output(1).is_some());
}

fn with_secret(name: &str, scope: Scope) -> Vertex {
    let secrets = vec![SecretUse { name: "TOKEN".into(), env: "TOKEN".into() }];
    Vertex { op: Op::Exec(Exec { secrets, ..exec(name) }), scope, ..vertex(name, &[], &[]) }
}

#[tokio::test(start_paused = true)]
async fn secrets_reach_the_step_and_never_the_log() {
    let simulation = Simulation::new([("a", Act::TellsSecrets)]);
    let mut graph = Graph::new();
    let a = graph.add(with_secret("a", Scope::Within("run/journal/1".into())));
    let log = Log::new();
    let secrets = Arc::new(BTreeMap::from([("TOKEN".to_owned(), "hunter2hunter3".to_owned())]));
    let report =
        scheduler(&simulation).run(&graph, one(&a), log.clone(), Options { secrets, ..Options::default() }).await;
    assert!(report.output(a).is_some());
    assert_eq!(log.of(a), ["started", "stdout: TOKEN=***!\n", "stderr: half ***", "finished"]);
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_is_missing_or_shared_is_refused() {
    let simulation = Simulation::new([]);
    let mut graph = Graph::new();
    let missing = graph.add(with_secret("a", Scope::Within("run/journal/1".into())));
    let shared = graph.add(with_secret("b", Scope::Shared));
    let log = Log::new();
    scheduler(&simulation).run(&graph, &[missing, shared], log.clone(), Options::default()).await;
    assert_eq!(log.of(missing), ["failed: there is no secret `TOKEN`"]);
    assert!(log.of(shared)[0].contains("may be shared"), "{:?}", log.of(shared));
    assert_eq!(simulation.runs("a") + simulation.runs("b"), 0);
}

#[tokio::test(start_paused = true)]
async fn an_unfinished_line_is_shown_after_a_moment() {
    let simulation = Simulation::new([("a", Act::Says(S(10), "Password: "))]);
    let mut graph = Graph::new();
    let a = graph.add(vertex("a", &[], &[]));
    let log = Log::new();
    let start = tokio::time::Instant::now();
    let scheduler = scheduler(&simulation);
    let waits = async {
        while log.of(a).len() < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        start.elapsed()
    };
    let (_, after) = tokio::join!(scheduler.run(&graph, one(&a), log.clone(), Options::default()), waits);
    assert!(after <= Duration::from_millis(300), "{after:?}");
    assert_eq!(log.of(a), ["started", "stdout: Password: ", "finished"]);
}
