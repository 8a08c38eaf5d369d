//! Operations whose process is gone, at every point, and those whose process is not.

use std::time::Duration;

use chart::release::Status;
use helm::{Life, Rollback, Uninstall};

use crate::harness::{World, deploy, source};

async fn states(helm: &helm::Helm) -> Vec<Status> {
    helm.releases.history("web").await.unwrap().records().iter().map(|record| record.info.status).collect()
}

/// Waits until the newest revision is as said.
async fn until(helm: &helm::Helm, state: Status, revision: u64) {
    for _ in 0..3000 {
        let history = helm.releases.history("web").await.unwrap();
        if history.last().is_some_and(|last| last.info.status == state && last.version == revision) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("revision {revision} never was {state}: {:?}", states(helm).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_that_was_killed_is_gone_on_from() {
    let world = World::start().await;
    let first = world.helm("first", Life::Unknown);
    first.install(&source("1.0.0", &[]), &deploy("web")).await.unwrap();
    // It dies while it waits, with its objects written.
    let mut options = deploy("web");
    options.wait = helm::Strategy::Watcher;
    let dying = first.clone();
    let killed =
        tokio::spawn(async move { dying.upgrade(&source("2.0.0", &["image=bad:2", "extra=side"]), &options).await });
    until(&first, Status::PendingUpgrade, 2).await;
    while world.find("v1", "ConfigMap", "side").await.is_none() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    // While it lives nobody else gets in, whether that is known or only heard.
    let near = world.helm("near", Life::Alive);
    let busy = near.upgrade(&source("3.0.0", &[]), &deploy("web")).await.unwrap_err();
    assert_eq!(busy.to_string(), "another operation (install/upgrade/rollback) is in progress");
    let far = world.helm("far", Life::Unknown);
    let busy = far.rollback(&Rollback { name: "web".into(), ..Rollback::default() }).await.unwrap_err();
    assert!(matches!(busy, helm::Error::Busy), "{busy}");

    killed.abort();
    let _ = killed.await;
    let here = world.helm("here", Life::Gone);
    let record = here.upgrade(&source("3.0.0", &["image=web:3"]), &deploy("web")).await.unwrap();
    assert_eq!(record.version, 3);
    assert_eq!(states(&here).await, [Status::Superseded, Status::Failed, Status::Deployed]);
    let interrupted = here.releases.get("web", 2).await.unwrap().unwrap();
    assert_eq!(interrupted.info.description, "Interrupted while pending-upgrade: the process that did it is gone");
    assert_eq!(
        world.find("v1", "ConfigMap", "side").await,
        None,
        "what only the interrupted revision made is not left"
    );
    let deployment = world.find("apps/v1", "Deployment", "web").await.unwrap();
    assert_eq!(deployment["spec"]["template"]["spec"]["containers"][0]["image"], "web:3");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn from_afar_silence_counts() {
    let world = World::start().await;
    let first = world.helm("first", Life::Unknown);
    let dying = first.clone();
    let killed = tokio::spawn(async move { dying.install(&source("1.0.0", &["before=slow"]), &deploy("web")).await });
    until(&first, Status::PendingInstall, 1).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    killed.abort();
    let _ = killed.await;
    let far = world.helm("far", Life::Unknown);
    let record = far.install(&source("1.0.0", &[]), &deploy("web")).await.unwrap();
    assert_eq!(record.version, 2, "an install that never ended is begun again");
    assert_eq!(states(&far).await, [Status::Failed, Status::Deployed]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rollbacks_and_uninstalls_too() {
    let world = World::start().await;
    let first = world.helm("first", Life::Unknown);
    first.install(&source("1.0.0", &["image=bad:1"]), &deploy("web")).await.unwrap();
    first.upgrade(&source("2.0.0", &[]), &deploy("web")).await.unwrap();
    let back = Rollback {
        name: "web".into(),
        wait: helm::Strategy::Watcher,
        timeout: Duration::from_secs(20),
        ..Rollback::default()
    };
    let dying = first.clone();
    let killed = tokio::spawn(async move { dying.rollback(&back).await.map(drop) });
    until(&first, Status::PendingRollback, 3).await;
    killed.abort();
    let _ = killed.await;
    let here = world.helm("here", Life::Gone);
    here.upgrade(&source("2.1.0", &["image=web:2"]), &deploy("web")).await.unwrap();
    assert_eq!(states(&here).await, [Status::Superseded, Status::Superseded, Status::Failed, Status::Deployed]);

    // Stopped by the user: it says so, and nothing is pending.
    let stopped = world.helm("stopped", Life::Gone);
    let (stop, options) = (stopped.stop.clone(), deploy("web"));
    let task = stopped.clone();
    let running = tokio::spawn(async move { task.upgrade(&source("2.2.0", &["before=slow"]), &options).await });
    until(&here, Status::PendingUpgrade, 5).await;
    stop.cancel();
    let said = running.await.unwrap().unwrap_err().to_string();
    assert_eq!(said, "pre-upgrade hooks failed: context canceled");
    assert_eq!(here.releases.get("web", 5).await.unwrap().unwrap().info.status, Status::Failed);

    // An uninstall goes on where it was.
    let whole = Uninstall { name: "web".into(), timeout: Duration::from_secs(20), ..Uninstall::default() };
    let history = here.releases.history("web").await.unwrap();
    let mut half = history.last().unwrap().clone();
    half.set(Status::Uninstalling, "Deletion in progress (or silently failed)");
    half.claim = Some(chart::release::Claim { owner: "dead".into(), beat: "3".into() });
    here.releases.take(&half, None, "2026-01-01T00:00:00Z".parse().unwrap()).await.unwrap();
    here.uninstall(&whole).await.unwrap().unwrap();
    assert!(states(&here).await.is_empty());
    assert_eq!(world.find("apps/v1", "Deployment", "web").await, None);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_taken_for_dead_stops() {
    let world = World::start().await;
    let slow = world.helm("slow", Life::Unknown);
    slow.install(&source("1.0.0", &[]), &deploy("web")).await.unwrap();
    let task = slow.clone();
    let running = tokio::spawn(async move { task.upgrade(&source("2.0.0", &["before=slow"]), &deploy("web")).await });
    until(&slow, Status::PendingUpgrade, 2).await;
    let here = world.helm("here", Life::Gone);
    here.upgrade(&source("3.0.0", &[]), &deploy("web")).await.unwrap();
    let said = running.await.unwrap().unwrap_err();
    assert!(matches!(said, helm::Error::TakenOver(_)), "{said}");
    assert_eq!(states(&here).await, [Status::Superseded, Status::Failed, Status::Deployed]);
    world.end().await;
}

/// Writes a stored revision as helm does, `helm test` too: whole, and without annotations.
async fn rewritten(world: &World, name: &str) {
    let api = world.api("v1", "Secret");
    for _ in 0..50 {
        let mut secret = api.get(name).await.unwrap();
        secret.metadata.annotations = None;
        match api.replace(name, &kube::api::PostParams::default(), &secret).await {
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            done => return drop(done.unwrap()),
        }
    }
    panic!("{name} could not be written");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_helm_erased_is_written_again() {
    let world = World::start().await;
    let helm = world.helm("first", Life::Unknown);
    helm.install(&source("1.0.0", &[]), &deploy("web")).await.unwrap();
    let mut options = deploy("web");
    options.wait = helm::Strategy::Watcher;
    options.rollback_on_failure = true;
    options.timeout = Duration::from_secs(8);
    let task = helm.clone();
    let running = tokio::spawn(async move { task.upgrade(&source("2.0.0", &["image=bad:2"]), &options).await });
    until(&helm, Status::PendingUpgrade, 2).await;
    rewritten(&world, "sh.helm.release.v1.web.v2").await;
    assert_eq!(helm.releases.get("web", 2).await.unwrap().unwrap().claim, None);
    // The next sign of life brings it back; after that one it is erased again, and the end is written all the same.
    let mut claim = None;
    for _ in 0..3000 {
        claim = helm.releases.get("web", 2).await.unwrap().unwrap().claim;
        if claim.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(claim.map(|claim| claim.owner).as_deref(), Some("first"));
    rewritten(&world, "sh.helm.release.v1.web.v2").await;
    let said = running.await.unwrap().unwrap_err().to_string();
    assert!(said.contains("has been rolled back due to rollback-on-failure"), "{said}");
    assert_eq!(states(&helm).await, [Status::Superseded, Status::Failed, Status::Deployed]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erased_claim_is_lost_when_somebody_went_on() {
    let world = World::start().await;
    let helm = world.helm("first", Life::Unknown);
    helm.install(&source("1.0.0", &[]), &deploy("web")).await.unwrap();
    let mut options = deploy("web");
    options.wait = helm::Strategy::Watcher;
    options.rollback_on_failure = true;
    options.timeout = Duration::from_secs(2);
    let task = helm.clone();
    let running = tokio::spawn(async move { task.upgrade(&source("2.0.0", &["image=bad:2"]), &options).await });
    until(&helm, Status::PendingUpgrade, 2).await;
    let mut newer = helm.releases.get("web", 2).await.unwrap().unwrap();
    rewritten(&world, "sh.helm.release.v1.web.v2").await;
    newer.version = 3;
    newer.claim = None;
    newer.set(Status::Deployed, "another tool's");
    helm.releases.create(&newer, "2026-01-01T00:00:00Z".parse().unwrap()).await.unwrap();
    let said = running.await.unwrap().unwrap_err();
    assert!(matches!(said, helm::Error::TakenOver(_)), "{said}");
    assert_eq!(states(&helm).await.last(), Some(&Status::Deployed), "nothing is rolled back over the other's revision");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_leaves_alone_what_ended_meanwhile() {
    let world = World::start().await;
    let helm = world.helm("first", Life::Unknown);
    helm.install(&source("1.0.0", &[]), &deploy("slow")).await.unwrap();
    // The test's pod is `slow-test`, which nobody ends.
    let testing = helm::Testing { name: "slow".into(), timeout: Duration::from_secs(3), ..Default::default() };
    let task = helm.clone();
    let running = tokio::spawn(async move { task.test(&testing).await });
    while world.find("v1", "Pod", "slow-test").await.is_none() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    helm.upgrade(&source("2.0.0", &[]), &deploy("slow")).await.unwrap();
    let (record, result) = running.await.unwrap().unwrap();
    assert!(result.is_err(), "the pod never ended");
    assert_eq!((record.version, record.info.status), (1, Status::Superseded));
    let first = helm.releases.get("slow", 1).await.unwrap().unwrap();
    assert_eq!(first.info.status, Status::Superseded, "not deployed, as it was when the test began");
    assert!(first.hooks.iter().any(|hook| hook.is_test() && hook.last_run.completed_at.is_some()));
    world.end().await;
}
