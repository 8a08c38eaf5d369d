//! The nine points, one after the other.

use std::{collections::BTreeMap, future::Future, time::Duration};

use records::{Evidence, EvidenceKind, Image, Rollout, RolloutState, Run, RunState, StepState, Timestamp};
use tokio::time::Instant;

use super::{
    Options,
    cluster::Cluster,
    load::Load,
    progress::Progress,
    report::{Point, Report},
    server::Server,
    workspace::Workspace,
};
use crate::{
    cli::Client,
    clock,
    fault::{Class, Fault, Result},
    logs::Line,
    shipment::Shipment,
    trace::Trace,
};

const NAMES: [&str; 9] = [
    "push a project with git",
    "run its tests in containers",
    "build its images on bases of our own",
    "make evidence and decide by it",
    "release it to three replicas",
    "roll out version 2 under load",
    "go back from version 3 by itself",
    "refuse what has no evidence",
    "trace a pod back to its commit",
];

/// The service that the load goes to, and the pods that run it.
const HOST: &str = "frontend.journal.localhost";
const NAMESPACE: &str = "journal";

/// Requests that at least have to be sent.
const REQUESTS: u64 = 1000;

struct Journey<'a> {
    options: &'a Options,
    progress: &'a Progress,
    server: &'a Server,
    client: Client,
    cluster: Cluster,
    workspace: Option<Workspace>,
    load: Option<Load>,
    report: Report,
}

/// Travels, and ends what it started whatever happens.
pub async fn travel(options: &Options, progress: &Progress) -> Result<Report> {
    let server = Server::start(options).await?;
    progress.note(&format!("server ready after {:.3} s at {}", server.ready_s, server.url));
    // From here on the server is ended and what it left is looked for, whatever happens.
    let travelled = travel_with(options, progress, &server).await;
    let mut report = match travelled {
        Ok(report) => report,
        Err(fault) => {
            server.stop().await;
            return Err(fault);
        }
    };
    report.rss_mib = server.rss_mib();
    if options.keep {
        progress.end();
        eprintln!(
            "the server stays up at {} (token in {}); Ctrl-C ends it",
            server.url,
            server.file("admin-token").display()
        );
        eprintln!("kubectl --kubeconfig {} get pods -n {NAMESPACE}", server.kubeconfig().display());
        server.keep().await;
    }
    let left = server.stop().await;
    if !left.is_empty() {
        return Err(Fault::new(Class::Failed, format!("something was left behind: {}", left.join("; "))));
    }
    Ok(report)
}

async fn travel_with(options: &Options, progress: &Progress, server: &Server) -> Result<Report> {
    let client = server.client()?;
    let cluster = Cluster::connect(&server.kubeconfig()).await?;
    let report = Report { ready_s: Some(server.ready_s), ..Report::default() };
    let mut journey = Journey { options, progress, server, client, cluster, workspace: None, load: None, report };
    journey.all().await;
    let Journey { load, mut report, .. } = journey;
    if let Some(load) = load {
        load.stop().await;
        (report.requests_sent, report.requests_failed) = (load.sent(), load.failed());
        report.failures = load.failures();
    }
    Ok(report)
}

impl Journey<'_> {
    async fn all(&mut self) {
        macro_rules! point {
            ($index:literal, $step:ident) => {
                if !self.point($index, async |journey| journey.$step().await).await {
                    return self.not_reached($index + 1);
                }
            };
        }
        point!(0, push);
        point!(1, tests);
        point!(2, images);
        point!(3, evidence);
        point!(4, release);
        point!(5, version_2);
        point!(6, version_3);
        point!(7, tamper);
        point!(8, trace);
    }

    async fn point(&mut self, index: usize, step: impl AsyncFnOnce(&mut Self) -> Result<String>) -> bool {
        self.progress.begin(index + 1, NAMES[index]);
        let (held, detail) = match step(self).await {
            Ok(detail) => (true, detail),
            Err(fault) => (false, fault.message),
        };
        self.progress.done(index + 1, NAMES[index], held, &detail);
        self.report.points.push(Point { name: NAMES[index], held, detail });
        held
    }

    fn not_reached(&mut self, from: usize) {
        for name in &NAMES[from..] {
            self.report.points.push(Point { name, held: false, detail: "not reached".into() });
        }
    }

    /// 1: the project is made and pushed.
    async fn push(&mut self) -> Result<String> {
        self.client.post("/api/v1/projects", &serde_json::json!({ "name": "journal" })).await?;
        let remote = format!("{}/git/journal.git", self.server.url);
        let workspace = Workspace::create(&remote, self.server.token.clone()).await?;
        let commit = workspace.commit("Keep a journal").await?;
        workspace.push().await?;
        self.workspace = Some(workspace);
        let known: Vec<records::Commit> = until(Duration::from_secs(10), "the commit to be recorded", || async {
            let commits: Vec<records::Commit> = self.client.get("/api/v1/projects/journal/commits").await?;
            Ok(Some(commits).filter(|commits| !commits.is_empty()))
        })
        .await?;
        match known.first() {
            Some(first) if first.id.as_str() == commit => {
                Ok(format!("commit {} by {} is recorded", first.id.short(), first.author.name))
            }
            _ => Err(Fault::new(Class::Failed, format!("commit {commit} is not what was recorded"))),
        }
    }

    /// 2: steps run in containers, and their results are read.
    async fn tests(&mut self) -> Result<String> {
        let run =
            self.run_until(1, |run| run.state.ended() || run.steps.iter().any(|step| step.tests.is_some())).await?;
        if let RunState::Failed { reason, .. } = &run.state {
            return Err(failure(&run, reason));
        }
        let tests = run.tests();
        if tests.passed == 0 || tests.failed > 0 {
            return Err(Fault::new(Class::Failed, format!("{} tests passed, {} failed", tests.passed, tests.failed)));
        }
        let step = run.steps.iter().find(|step| step.tests.is_some()).map(|step| step.name.clone()).unwrap_or_default();
        let lines = self.log(1, &step).await?;
        if lines.is_empty() {
            return Err(Fault::new(Class::Failed, format!("step {step} left no log")));
        }
        Ok(format!("step {step}: {} tests passed, {} lines of log", tests.passed, lines.len()))
    }

    /// 3: images are built and in the registry.
    async fn images(&mut self) -> Result<String> {
        let run = self.passed(1).await?;
        let images = self.images_of(&run).await?;
        let mut said = Vec::new();
        for image in &images {
            let wanted = format!("{}-{}", run.commit.short(), run.id.build);
            if image.tag != wanted {
                return Err(Fault::new(
                    Class::Failed,
                    format!("{} is tagged {}, not {wanted}", image.repository, image.tag),
                ));
            }
            let path = format!("/v2/{}/manifests/{}", image.repository, image.tag);
            let answer = self.client.send(reqwest::Method::HEAD, &path, None).await?;
            let digest =
                answer.headers().get("docker-content-digest").and_then(|v| v.to_str().ok()).unwrap_or_default();
            if digest != image.digest.as_str() {
                return Err(Fault::new(Class::Failed, format!("the registry has {digest} for {}", image.repository)));
            }
            said.push(format!("{}:{} ({:.1} MiB)", image.repository, image.tag, image.size as f64 / 1_048_576.0));
            self.report.digests.insert(image.repository.clone(), image.digest.to_string());
        }
        if images.is_empty() {
            return Err(Fault::new(Class::Failed, "no image was built"));
        }
        Ok(said.join(", "))
    }

    /// 4: every image has every kind of evidence, as referrers.
    async fn evidence(&mut self) -> Result<String> {
        let digests = self.report.digests.clone();
        let mut total = 0;
        for (repository, digest) in &digests {
            let path = format!("/api/v1/evidence/{digest}");
            let all: Vec<Evidence> = until(Duration::from_secs(60), "the evidence", || async {
                let all: Vec<Evidence> = self.client.get(&path).await?;
                let whole = EvidenceKind::ALL.iter().all(|kind| all.iter().any(|e| e.detail.kind() == *kind));
                Ok(Some(all).filter(|_| whole))
            })
            .await?;
            let referrers: serde_json::Value = self.client.get(&format!("/v2/{repository}/referrers/{digest}")).await?;
            let listed = referrers["manifests"].as_array().map(Vec::as_slice).unwrap_or_default();
            for evidence in &all {
                if !listed.iter().any(|entry| entry["digest"] == evidence.referrer.as_str()) {
                    let kind = evidence.detail.kind().title();
                    return Err(Fault::new(
                        Class::Failed,
                        format!("the {kind} of {repository} is not among its referrers"),
                    ));
                }
            }
            total += all.len();
        }
        Ok(format!("{total} pieces for {} images: SBOM, scan, provenance and signature each", digests.len()))
    }

    /// 5: the release is applied and serves.
    async fn release(&mut self) -> Result<String> {
        let shipment = self.rolled_out(1).await?;
        let applied = shipment.rollout.as_ref().map(|rollout| rollout.created_at);
        let ready = applied.zip(self.cluster.first_ready());
        self.report.first_pod_ready_s = ready.map(|(applied, ready)| ready.duration_since(applied).as_secs_f64());
        let url = format!("http://{HOST}:{}/", self.server.url.rsplit(':').next().unwrap_or_default());
        let page = self.page().await?;
        let ready = self.ready_replicas(&shipment);
        if !page.contains("<html") {
            return Err(Fault::new(Class::Failed, format!("{url} does not answer with a page")));
        }
        self.progress.note(&url);
        Ok(format!("release {} is complete ({ready}), the page answers at {url}", shipment.release.id))
    }

    /// 6: a one-line change, under load.
    async fn version_2(&mut self) -> Result<String> {
        self.load = Some(Load::start(&self.server.url, HOST, self.options.rate)?);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let before = clock::now();
        self.change(&[("frontend/version.js", "'1.0.0'", "'2.0.0'")], "Call it version 2").await?;
        let run = self.passed(2).await?;
        let shipment = self.rolled_out(2).await?;
        self.measure(before, &run, &shipment).await?;
        self.serves("2.0.0").await?;
        self.no_failures()?;
        Ok(format!(
            "release {} is complete {:.2} s after the push, {} requests so far, none failed",
            shipment.release.id,
            self.report.push_to_serving_s.unwrap_or_default(),
            self.sent()
        ))
    }

    /// 7: a version that never becomes ready.
    async fn version_3(&mut self) -> Result<String> {
        let change = [
            ("frontend/version.js", "'2.0.0'", "'3.0.0'"),
            ("deploy/frontend.yaml", "value: redis }", "value: a-redis-that-is-not-there }"),
        ];
        self.change(&change, "Call it version 3, and look for Redis in the wrong place").await?;
        self.passed(3).await?;
        let failed = until(Duration::from_secs(120), "the rollout of version 3 to fail", || async {
            let all = self.shipments().await?;
            let broken = all.iter().find(|s| s.release.run.build == 3);
            let state = broken.and_then(|s| s.rollout.as_ref()).map(|rollout| rollout.state.clone());
            match state {
                Some(RolloutState::Failed { reason, back_to, .. }) => Ok(Some((reason, back_to))),
                Some(RolloutState::Complete { .. }) => Err(Fault::new(Class::Failed, "version 3 was taken for ready")),
                _ => Ok(None),
            }
        })
        .await?;
        let (reason, back_to) = failed;
        if back_to.is_none() {
            return Err(Fault::new(Class::Failed, format!("it did not go back: {reason}")));
        }
        until(Duration::from_secs(60), "version 2 to be whole again", || async {
            let newest = self.shipments().await?.into_iter().next();
            let done = newest.is_some_and(|s| {
                matches!(s.release.cause, records::Cause::Rollback { .. })
                    && matches!(s.rollout, Some(Rollout { state: RolloutState::Complete { .. }, .. }))
            });
            Ok(done.then_some(()))
        })
        .await?;
        self.serves("2.0.0").await?;
        let missing = REQUESTS.saturating_sub(self.sent());
        if missing > 0 {
            let wait = missing as f64 / f64::from(self.options.rate.max(1));
            tokio::time::sleep(Duration::from_secs_f64(wait + 0.5)).await;
        }
        if let Some(load) = &self.load {
            load.stop().await;
        }
        self.no_failures()?;
        if self.sent() < REQUESTS {
            return Err(Fault::new(Class::Failed, format!("only {} requests were sent", self.sent())));
        }
        if self.load.as_ref().is_some_and(|load| load.versions().contains_key("3.0.0")) {
            return Err(Fault::new(Class::Failed, "version 3 answered requests though it was never ready"));
        }
        Ok(format!("{reason}; {} requests, none failed", self.sent()))
    }

    /// 8: an image that was pushed by hand.
    async fn tamper(&mut self) -> Result<String> {
        let digest = self.report.digests.get("journal/frontend").cloned().unwrap_or_default();
        let rogue = super::rogue::push(&self.client, "journal/frontend", &digest).await?;
        let message = self.cluster.refused(NAMESPACE, "rogue", &rogue).await?;
        for kind in EvidenceKind::ALL {
            if !message.contains(kind.title()) {
                return Err(Fault::new(
                    Class::Failed,
                    format!("the refusal does not name the {}: {message}", kind.title()),
                ));
            }
        }
        Ok(message)
    }

    /// 9: the way back from a pod.
    async fn trace(&mut self) -> Result<String> {
        let pod = self.cluster.a_pod(NAMESPACE, "app=frontend").await?;
        let trace: Trace = self.client.get(&format!("/api/v1/trace/pod/{NAMESPACE}/{pod}")).await?;
        let (links, held) = (trace.links.len(), trace.held());
        let broken = trace.links.iter().find(|link| !link.held).map(|link| link.detail.clone());
        self.report.trace = Some(trace);
        match (held, broken) {
            (true, _) => Ok(format!("pod {pod}: {links} links, every one verified")),
            (false, broken) => Err(Fault::new(Class::Failed, broken.unwrap_or_else(|| "the chain is empty".into()))),
        }
    }

    /// Edits (file, old, new), commits and pushes.
    async fn change(&self, edits: &[(&str, &str, &str)], subject: &str) -> Result<()> {
        let workspace =
            self.workspace.as_ref().ok_or_else(|| Fault::new(Class::Internal, "there is no working tree"))?;
        for (file, old, new) in edits {
            workspace.edit(file, old, new)?;
        }
        workspace.commit(subject).await?;
        workspace.push().await
    }

    /// The figures of a warm change, from the times that the records carry.
    async fn measure(&mut self, push: Timestamp, run: &Run, shipment: &Shipment) -> Result<()> {
        let since = |at: Timestamp| Some((at.duration_since(push)).as_secs_f64());
        let first_step = run.steps.first().map(|step| step.name.clone()).unwrap_or_default();
        self.report.push_to_first_log_s =
            self.log(run.id.build, &first_step).await?.first().and_then(|line| since(line.at));
        let images = self.images_of(run).await?;
        self.report.push_to_image_s = images.iter().map(|image| image.built_at).max().and_then(since);
        if let Some(Rollout { state: RolloutState::Complete { at }, .. }) = &shipment.rollout {
            self.report.push_to_serving_s = since(*at);
        }
        Ok(())
    }

    /// The service answers with this version, and only with it.
    async fn serves(&self, version: &str) -> Result<()> {
        for _ in 0..10 {
            let page = self.page().await?;
            if !page.contains(&format!("version {version}")) {
                return Err(Fault::new(Class::Failed, format!("the page is not that of version {version}")));
            }
        }
        Ok(())
    }

    async fn page(&self) -> Result<String> {
        let http = reqwest::Client::builder().no_proxy().build().map_err(|e| Fault::from_error(Class::Internal, &e))?;
        let unreachable = |e: reqwest::Error| {
            Fault::new(Class::Failed, format!("the page does not answer: {}", crate::fault::chain(&e)))
        };
        let response = http.get(&self.server.url).header(http::header::HOST, HOST).send().await.map_err(unreachable)?;
        response.error_for_status().map_err(unreachable)?.text().await.map_err(unreachable)
    }

    fn sent(&self) -> u64 {
        self.load.as_ref().map_or(0, Load::sent)
    }

    fn no_failures(&self) -> Result<()> {
        let Some(load) = &self.load else { return Ok(()) };
        match load.failed() {
            0 => Ok(()),
            failed => {
                let first = load.failures().into_iter().next().unwrap_or_default();
                Err(Fault::new(
                    Class::Failed,
                    format!("{failed} of {} requests failed, the first: {first}", load.sent()),
                ))
            }
        }
    }

    async fn run_until(&self, build: u64, is_enough: impl Fn(&Run) -> bool) -> Result<Run> {
        until(Duration::from_secs(600), &format!("run {build}"), || async {
            let run: Run = match self.client.get(&format!("/api/v1/projects/journal/runs/{build}")).await {
                Err(fault) if fault.class == Class::NotFound => return Ok(None),
                other => other?,
            };
            let now = run.steps.iter().find(|step| matches!(step.state, StepState::Running { .. }));
            if let Some(step) = now {
                let line = self.log(build, &step.name).await?.pop().map(|line| line.text).unwrap_or_default();
                self.progress.note(&format!("{}: {line}", step.name));
            }
            Ok(Some(run).filter(&is_enough))
        })
        .await
    }

    async fn passed(&self, build: u64) -> Result<Run> {
        let run = self.run_until(build, |run| run.state.ended()).await?;
        match &run.state {
            RunState::Passed { .. } => Ok(run),
            RunState::Failed { reason, .. } => Err(failure(&run, reason)),
            other => Err(Fault::new(Class::Failed, format!("run {} is {}", run.id, other.name()))),
        }
    }

    async fn images_of(&self, run: &Run) -> Result<Vec<Image>> {
        let all: Vec<Image> = self.client.get("/api/v1/projects/journal/images").await?;
        Ok(all.into_iter().filter(|image| image.run == run.id).collect())
    }

    async fn shipments(&self) -> Result<Vec<Shipment>> {
        self.client.get("/api/v1/projects/journal/environments/prod/releases").await
    }

    /// Waits until the release of a run is complete.
    async fn rolled_out(&self, build: u64) -> Result<Shipment> {
        until(Duration::from_secs(120), "the release to be complete", || async {
            let all = self.shipments().await?;
            let Some(shipment) = all.into_iter().find(|s| s.release.run.build == build) else { return Ok(None) };
            self.progress.note(&shipment.sentence());
            match shipment.state() {
                "complete" => Ok(Some(shipment)),
                "failed" | "refused" => Err(Fault::new(Class::Failed, shipment.sentence())),
                _ => Ok(None),
            }
        })
        .await
    }

    fn ready_replicas(&self, shipment: &Shipment) -> String {
        let images: BTreeMap<_, _> =
            shipment.release.images.iter().map(|i| (&i.repository, i.digest.short())).collect();
        images.iter().map(|(repository, digest)| format!("{repository}@{digest}")).collect::<Vec<_>>().join(", ")
    }

    async fn log(&self, build: u64, step: &str) -> Result<Vec<Line>> {
        let step = crate::cli::urlencode(step);
        let path = format!("/api/v1/projects/journal/runs/{build}/logs/{step}");
        let answer = self.client.send(reqwest::Method::GET, &path, None).await?;
        let text = answer.text().await.map_err(|e| Fault::from_error(Class::Unavailable, &e))?;
        Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }
}

/// Asks again until there is an answer; an error names what it waited for.
async fn until<T, F: Future<Output = Result<Option<T>>>>(
    limit: Duration,
    what: &str,
    ask: impl Fn() -> F,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(answer) = ask().await? {
            return Ok(answer);
        }
        if Instant::now() > deadline {
            return Err(Fault::new(Class::Failed, format!("waited {} s for {what}", limit.as_secs())));
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

/// Why a run failed, with the tests that did.
fn failure(run: &Run, reason: &str) -> Fault {
    let tests: String =
        run.tests().failures.into_iter().map(|(test, message)| format!("; {test}: {message}")).collect();
    Fault::new(Class::Failed, format!("run {} failed: {reason}{tests}", run.id))
}
