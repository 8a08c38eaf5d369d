use http_body_util::BodyExt;
use records::{Cause, Decision, Environment, OnFailure, Policy, RolloutState, Strategy};
use serde_json::json;
use store::{MemoryBlobs, MemoryLog};

use super::*;

fn id() -> ReleaseId {
    "journal/prod/1".parse().unwrap()
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// A response to a request that began 20 ms ago.
async fn response(status: u16, body: Body) -> (Instant, Response) {
    let began = Instant::now();
    tokio::time::advance(Duration::from_millis(20)).await;
    (began, Response::builder().status(status).body(body).unwrap())
}

fn counting() -> Arc<Counters> {
    let counters = Arc::new(Counters::default());
    let services = Services { namespace: "journal".parse().unwrap(), names: BTreeSet::from(["frontend".to_owned()]) };
    counters.begin(&id(), services, at(10));
    counters
}

#[tokio::test(start_paused = true)]
async fn a_request_counts_until_its_body_has_ended_for_the_service_that_it_names() {
    let counters = counting();
    for (host, status) in [
        ("frontend.journal.localhost:8080", 200),
        ("frontend.journal.localhost", 503),
        ("redis.journal.localhost", 503),
        ("frontend.other.localhost", 503),
        ("localhost", 503),
    ] {
        let (began, response) = response(status, Body::from("hello")).await;
        let response = counters.count(host, began, response);
        tokio::time::advance(Duration::from_millis(30)).await;
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "hello");
    }
    let seen = counters.end(&id()).unwrap().observation(id(), at(20));
    assert_eq!((seen.from, seen.requests, seen.failed), (at(10), 2, 1));
    assert!((50.0..52.0).contains(&seen.p50_ms), "{}", seen.p50_ms);
    assert_eq!(counters.end(&id()), None);
}

#[tokio::test(start_paused = true)]
async fn a_response_that_breaks_off_has_failed_and_one_that_nobody_reads_has_not() {
    let counters = counting();
    let broken = futures::stream::iter([Ok("half"), Err(std::io::Error::other("reset"))]);
    let (began, response_that_breaks) = response(200, Body::from_stream(broken)).await;
    let body = counters.count("frontend.journal.localhost", began, response_that_breaks).into_body();
    assert!(body.collect().await.is_err());
    let (began, unread) = response(200, Body::from("hello")).await;
    drop(counters.count("frontend.journal.localhost", began, unread));
    let window = counters.end(&id()).unwrap();
    assert_eq!((window.requests(), window.failed()), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_rollout_that_ends_leaves_an_observation() {
    let (records, blobs) = (Records::new(Arc::new(MemoryLog::default())), Arc::new(MemoryBlobs::default()));
    let objects = json!([{"kind": "Service", "metadata": {"name": "frontend"}}, {"kind": "Secret", "metadata": {"name": "redis"}}]);
    let manifests = store::blobs::put(&*blobs, serde_json::to_vec(&objects).unwrap()).await.unwrap();
    let environment = Environment {
        name: "prod".parse().unwrap(),
        namespace: "journal".parse().unwrap(),
        after: None,
        approve: Vec::new(),
        policy: Policy::default(),
        strategy: Strategy::Rolling,
        on_failure: OnFailure::Rollback,
        progress_deadline_s: 60,
    };
    let release = Release {
        id: id(),
        run: "journal/1".parse().unwrap(),
        commit: "a".repeat(40).parse().unwrap(),
        environment,
        images: Vec::new(),
        manifests,
        cause: Cause::Run,
        decision: Decision::Admitted { at: at(1) },
        created_at: at(1),
    };
    records.put(&release, Expect::Absent).await.unwrap();
    let rollout = Rollout::new(id(), at(1));
    records.put(&rollout, Expect::Absent).await.unwrap();

    let counters = Arc::new(Counters::default());
    let observations = Observations::new(records.clone(), blobs, counters.clone());
    observations.activate(at(2)).await.unwrap();
    observations.activate(at(3)).await.unwrap();
    let (began, answered) = response(200, Body::empty()).await;
    drop(counters.count("frontend.journal.localhost", began, answered));
    assert_eq!(records.get::<Observation>(&id().key()).await.unwrap(), None);

    let ended = rollout.become_state(RolloutState::Complete { at: at(4) }).unwrap();
    records.put(&ended, Expect::Present).await.unwrap();
    observations.activate(at(5)).await.unwrap();
    let seen = records.get::<Observation>(&id().key()).await.unwrap().unwrap().record;
    assert_eq!((seen.from, seen.to, seen.requests, seen.failed), (at(2), at(5), 1, 0));

    // A server that was started later knows nothing and overwrites nothing.
    let later = Observations::new(records.clone(), Arc::new(MemoryBlobs::default()), Arc::new(Counters::default()));
    later.activate(at(9)).await.unwrap();
    assert_eq!(records.get::<Observation>(&id().key()).await.unwrap().unwrap().record, seen);
}
