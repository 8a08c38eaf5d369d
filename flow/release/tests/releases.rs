//! From records of runs to records of releases: order, evidence, policy, approvals, going back.

use std::{collections::BTreeMap, sync::Arc};

use records::{
    Cause, Decision, Digest, Environment, Evidence, EvidenceDetail, EvidenceKind, Finding, Image, OnFailure, Policy,
    Record, Release, Rollout, RolloutState, Run, RunId, Severity, Strategy, Timestamp,
};
use release::{Error, Releases, Waiting};
use serde_json::{Value, json};
use store::{Expect, MemoryBlobs, MemoryLog, Records};

struct World {
    records: Records,
    blobs: Arc<MemoryBlobs>,
    releases: Releases,
    now: Timestamp,
}

fn digest(n: u64) -> Digest {
    format!("sha256:{n:064x}").parse().unwrap()
}

fn environment(name: &str) -> Environment {
    Environment {
        name: name.parse().unwrap(),
        namespace: format!("journal-{name}").parse().unwrap(),
        after: None,
        approve: vec![],
        policy: Policy::default(),
        strategy: Strategy::Rolling,
        on_failure: OnFailure::Rollback,
        progress_deadline_s: 60,
    }
}

fn run_id(build: u64) -> RunId {
    format!("journal/{build}").parse().unwrap()
}

impl World {
    fn new() -> Self {
        let records = Records::new(Arc::new(MemoryLog::new()));
        let blobs = Arc::new(MemoryBlobs::new());
        let releases = Releases::new(records.clone(), blobs.clone(), "registry:1");
        Self { records, blobs, releases, now: "2026-01-01T00:00:00Z".parse().unwrap() }
    }

    async fn put<R: Record>(&self, record: &R) {
        self.records.put(record, Expect::Any).await.unwrap();
    }

    /// A run that passed and built one image, whose digest is its build number.
    async fn run(&self, build: u64, environments: &[Environment]) -> Run {
        let containers = json!([{ "name": "web", "image": "journal/frontend" }]);
        let objects = json!([
            { "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "frontend" }, "spec": { "template": { "spec": { "containers": containers } } } },
            { "apiVersion": "v1", "kind": "Service", "metadata": { "name": "frontend" } },
        ]);
        let manifests = store::blobs::put(&*self.blobs, objects.to_string()).await.unwrap();
        let mut run = Run::new(run_id(build), "a".repeat(40).parse().unwrap(), self.now);
        run = run.start(self.now).unwrap().pass(self.now).unwrap();
        run.environments = environments.to_vec();
        run.manifests = Some(manifests);
        self.put(&run).await;
        let image = Image {
            run: run.id.clone(),
            commit: run.commit.clone(),
            repository: "journal/frontend".into(),
            tag: "t".into(),
            digest: digest(build),
            size: 1,
            layers: vec![],
            bases: vec![],
            built_at: self.now,
        };
        self.put(&image).await;
        run
    }

    async fn evidence(&self, build: u64, detail: EvidenceDetail) {
        let (subject, referrer) = (digest(build), digest(1000 + build));
        let repository = "journal/frontend".into();
        self.put(&Evidence { repository, subject, referrer, run: run_id(build), detail, made_at: self.now }).await;
    }

    async fn all_evidence(&self, build: u64) {
        let key = "k".to_owned();
        self.evidence(build, EvidenceDetail::Sbom { components: 1, licences: vec!["MIT".into()] }).await;
        self.evidence(build, EvidenceDetail::Vulnerabilities { database: digest(0), findings: vec![] }).await;
        self.evidence(build, EvidenceDetail::Provenance { builder: "b".into() }).await;
        self.evidence(build, EvidenceDetail::Signature { key }).await;
    }

    async fn released(&self) -> Vec<String> {
        let report = self.releases.activate(self.now).await.unwrap();
        assert!(report.failed.is_empty(), "{:?}", report.failed);
        report.released.iter().map(|release| format!("{} of {}", release.id, release.run)).collect()
    }

    async fn waiting(&self) -> Vec<Waiting> {
        self.releases.activate(self.now).await.unwrap().waiting
    }

    async fn complete(&self, id: &str) {
        let rollout = Rollout::new(id.parse().unwrap(), self.now);
        self.put(&rollout.become_state(RolloutState::Complete { at: self.now }).unwrap()).await;
    }

    async fn release(&self, id: &str) -> Release {
        let id: records::ReleaseId = id.parse().unwrap();
        self.records.get::<Release>(&id.key()).await.unwrap().expect("the release").record
    }

    fn later(&mut self, seconds: i64) {
        self.now = Timestamp::from_second(self.now.as_second() + seconds).unwrap();
    }
}

#[tokio::test]
async fn a_passed_run_is_released_once_with_its_images_by_digest() {
    let world = World::new();
    world.run(1, &[environment("prod")]).await;
    world.all_evidence(1).await;
    assert_eq!(world.released().await, ["journal/prod/1 of journal/1"]);
    assert_eq!(world.released().await, [""; 0], "once");
    let again = Releases::new(world.records.clone(), world.blobs.clone(), "registry:1");
    assert!(again.activate(world.now).await.unwrap().released.is_empty(), "also after a restart");

    let release = world.release("journal/prod/1").await;
    assert_eq!(release.decision, Decision::Admitted { at: world.now });
    assert_eq!(release.cause, Cause::Run);
    assert_eq!((release.images[0].repository.as_str(), &release.images[0].digest), ("journal/frontend", &digest(1)));
    let text = store::blobs::get(&*world.blobs, &release.manifests, 1 << 20).await.unwrap();
    let objects: Vec<Value> = serde_json::from_slice(&text).unwrap();
    let kinds: Vec<_> = objects.iter().map(|object| object["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["Namespace", "Service", "Deployment"]);
    let image = &objects[2]["spec"]["template"]["spec"]["containers"][0]["image"];
    assert_eq!(image, &json!(format!("registry:1/journal/frontend@{}", digest(1))));
    assert_eq!(objects[2]["metadata"]["namespace"], "journal-prod");
    assert_eq!(objects[2]["metadata"]["labels"][records::labels::ENVIRONMENT], "prod");
}

#[tokio::test]
async fn only_the_newest_run_goes_out_and_none_goes_back() {
    let world = World::new();
    for build in 1..=3 {
        world.run(build, &[environment("prod")]).await;
        world.all_evidence(build).await;
    }
    let failed = Run::new(run_id(4), "b".repeat(40).parse().unwrap(), world.now);
    world.put(&failed.fail(world.now, "a test failed").unwrap()).await;
    assert_eq!(world.released().await, ["journal/prod/1 of journal/3"]);
    assert!(world.released().await.is_empty(), "runs 1 and 2 have been overtaken");
    world.run(5, &[]).await;
    assert!(world.released().await.is_empty(), "a run of another branch goes nowhere");
}

#[tokio::test]
async fn environments_follow_one_another() {
    let world = World::new();
    let after = Some("dev".parse().unwrap());
    let environments = [environment("dev"), Environment { after, ..environment("prod") }];
    world.run(1, &environments).await;
    world.all_evidence(1).await;
    assert_eq!(world.released().await, ["journal/dev/1 of journal/1"]);
    let waiting = world.waiting().await;
    assert_eq!(
        waiting[0].to_string(),
        "run journal/1 waits to go to prod until it is complete in dev, where it is about to roll out"
    );
    world.complete("journal/dev/1").await;
    assert_eq!(world.released().await, ["journal/prod/1 of journal/1"]);

    // A newer run that is not complete in dev does not hold up one that is.
    world.run(2, &environments).await;
    world.all_evidence(2).await;
    world.released().await;
    world.complete("journal/dev/2").await;
    world.run(3, &environments).await;
    world.all_evidence(3).await;
    assert_eq!(world.released().await, ["journal/dev/3 of journal/3", "journal/prod/2 of journal/2"]);
}

#[tokio::test]
async fn missing_evidence_is_waited_for_and_then_refused() {
    let mut world = World::new();
    world.run(1, &[environment("prod")]).await;
    world.evidence(1, EvidenceDetail::Provenance { builder: "b".into() }).await;
    let report = world.releases.activate(world.now).await.unwrap();
    let [Waiting::Evidence { missing, .. }] = &report.waiting[..] else { panic!("{:?}", report.waiting) };
    assert_eq!(missing.len(), 3, "{missing:?}");
    assert_eq!(report.again.unwrap().as_second(), world.now.as_second() + 60);
    world.later(59);
    assert!(world.released().await.is_empty());
    world.later(1);
    assert_eq!(world.released().await.len(), 1);
    let Decision::Refused { reasons, .. } = world.release("journal/prod/1").await.decision else {
        panic!("not admitted")
    };
    assert_eq!(reasons[0], "image journal/frontend (000000000000) has no SBOM");

    // It comes late, but in time.
    world.run(2, &[environment("prod")]).await;
    assert!(world.released().await.is_empty());
    world.later(30);
    world.all_evidence(2).await;
    world.released().await;
    assert!(matches!(world.release("journal/prod/2").await.decision, Decision::Admitted { .. }));
}

fn finding(severity: Severity, not_affected: Option<&str>) -> Finding {
    Finding {
        id: "CVE-2026-1".into(),
        purl: "pkg:deb/debian/openssl@3.0.1".into(),
        severity,
        fixed_in: Some("3.0.2".into()),
        summary: String::new(),
        not_affected: not_affected.map(str::to_owned),
    }
}

#[tokio::test]
async fn findings_and_licences_refuse() {
    let world = World::new();
    let mut place = environment("prod");
    place.policy.deny_licences = vec!["AGPL-3.0-only".into()];
    let images = [records::ReleasedImage { repository: "journal/frontend".into(), digest: digest(1) }];
    world.all_evidence(1).await;
    let decided = async |place: &Environment| {
        let evidence = world.records.list::<Evidence>("").await.unwrap();
        let evidence: Vec<Evidence> = evidence.into_iter().map(|found| found.record).collect();
        match release::decide(&place.policy, &images, &evidence, world.now) {
            Decision::Admitted { .. } => vec![],
            Decision::Refused { reasons, .. } => reasons,
        }
    };
    let scan = |findings| EvidenceDetail::Vulnerabilities { database: digest(0), findings };
    assert_eq!(decided(&place).await, [""; 0]);
    world
        .evidence(1, scan(vec![finding(Severity::Medium, None), finding(Severity::Critical, Some("not called"))]))
        .await;
    assert_eq!(decided(&place).await, [""; 0]);
    world.evidence(1, scan(vec![finding(Severity::High, None)])).await;
    let expected = "image journal/frontend (000000000000) has CVE-2026-1 (high) in pkg:deb/debian/openssl@3.0.1: update it to 3.0.2, \
        or state in VEX why it does not apply";
    assert_eq!(decided(&place).await, [expected]);
    place.policy.fail_on = None;
    let licences = vec!["MIT OR AGPL-3.0-only".into(), "AGPL-3.0-only".into()];
    world.evidence(1, EvidenceDetail::Sbom { components: 2, licences }).await;
    assert_eq!(
        decided(&place).await,
        ["image journal/frontend (000000000000) has a part under AGPL-3.0-only, which this environment denies"]
    );
    // Rules need what they look into, even when nobody requires it by name.
    place.policy = Policy { require: vec![], fail_on: Some(Severity::Low), deny_licences: vec![] };
    let other = [records::ReleasedImage { repository: "x".into(), digest: digest(9) }];
    assert_eq!(release::missing(&place.policy, &other, &[]), ["image x (000000000000) has no vulnerability scan"]);
    let kinds = EvidenceKind::ALL.len();
    assert_eq!(release::missing(&Policy::default(), &other, &[]).len(), kinds);
}

#[tokio::test]
async fn somebody_has_to_approve() {
    let world = World::new();
    let prod = Environment { approve: vec!["managers".into(), "admins".into()], ..environment("prod") };
    world.run(1, std::slice::from_ref(&prod)).await;
    world.all_evidence(1).await;
    assert!(world.released().await.is_empty());
    assert_eq!(
        world.waiting().await[0].to_string(),
        "run journal/1 waits to go to prod until one of managers, admins approves it"
    );
    let approve = async |build, place: &str, group: &str| {
        world.releases.approve(&run_id(build), &place.parse().unwrap(), group, "ada", world.now).await
    };
    for (build, place, group) in [(1, "prod", "guests"), (1, "dev", "admins"), (2, "prod", "admins")] {
        assert!(matches!(approve(build, place, group).await, Err(Error::Invalid(_))));
    }
    approve(1, "prod", "admins").await.unwrap();
    assert_eq!(world.released().await.len(), 1);
    world.run(2, &[prod]).await;
    world.all_evidence(2).await;
    assert!(world.released().await.is_empty(), "an approval is for one run");
}

#[tokio::test]
async fn images_without_a_digest_refuse_the_release() {
    let world = World::new();
    let mut run = world.run(1, &[environment("prod")]).await;
    let pod = |image| json!([{ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "p" }, "spec": { "containers": [{ "name": "c", "image": image }] } }]);
    run.manifests = Some(store::blobs::put(&*world.blobs, pod("nginx:latest").to_string()).await.unwrap());
    world.put(&run).await;
    world.released().await;
    let Decision::Refused { reasons, .. } = world.release("journal/prod/1").await.decision else {
        panic!("not admitted")
    };
    assert!(reasons[0].contains("container c of Pod p asks for image `nginx:latest`"), "{reasons:?}");
    let undo =
        world.releases.undo(&"journal".parse().unwrap(), &"prod".parse().unwrap(), Some(1), "ada", world.now).await;
    assert!(matches!(undo, Err(Error::Invalid(_))));

    // A base image that the run resolved needs evidence as any other does.
    let mut run = world.run(2, &[environment("prod")]).await;
    run.manifests = Some(store::blobs::put(&*world.blobs, pod("redis").to_string()).await.unwrap());
    run.resolved = BTreeMap::from([("redis".into(), digest(77))]);
    world.put(&run).await;
    let [Waiting::Evidence { missing, .. }] = &world.waiting().await[..] else { panic!("it waits") };
    assert!(missing[0].starts_with("image base/redis"), "{missing:?}");
}

#[tokio::test]
async fn undo_goes_back_to_what_was_complete() {
    let world = World::new();
    let (project, prod) = ("journal".parse().unwrap(), "prod".parse().unwrap());
    let undo = async |to| world.releases.undo(&project, &prod, to, "ada", world.now).await;
    assert!(matches!(undo(None).await, Err(Error::Invalid(_))));
    for build in 1..=3 {
        world.run(build, &[environment("prod")]).await;
        world.all_evidence(build).await;
        world.released().await;
        if build != 2 {
            world.complete(&format!("journal/prod/{build}")).await;
        }
    }
    let release = undo(None).await.unwrap();
    assert_eq!(release.id.to_string(), "journal/prod/4");
    assert_eq!(release.cause, Cause::Undo { by: "ada".into(), to: "journal/prod/1".parse().unwrap() });
    assert_eq!((release.run.build, &release.images[0].digest), (1, &digest(1)));
    assert!(world.released().await.is_empty(), "going back does not bring run 3 again");
    assert_eq!(undo(Some(2)).await.unwrap().run.build, 2);
    assert!(matches!(undo(Some(9)).await, Err(Error::Invalid(_))));

    // What has become known since counts.
    world
        .evidence(
            1,
            EvidenceDetail::Vulnerabilities { database: digest(0), findings: vec![finding(Severity::High, None)] },
        )
        .await;
    let Err(Error::Refused { reasons, .. }) = undo(Some(1)).await else { panic!("the policy decides anew") };
    assert!(reasons[0].contains("CVE-2026-1"), "{reasons:?}");
}
