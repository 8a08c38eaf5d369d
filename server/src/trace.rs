//! The walk back along the chain: pod → image → evidence → run → commit, every link verified against its source.

use std::fmt;

use records::{Commit, Digest, Image, Release, Rollout, RolloutState, Run};
use serde::{Deserialize, Serialize};

use crate::{
    app::App,
    fault::{Fault, Result},
};

/// One link of the chain.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Link {
    /// `pod`, `image`, `signature`, `run`, `commit` …
    pub kind: String,
    /// The thing's own name: a digest, a run's id, a commit.
    pub name: String,
    /// What was checked and found, one sentence.
    pub detail: String,
    pub held: bool,
}

/// A chain from something that runs to its commit.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Trace {
    pub of: String,
    pub links: Vec<Link>,
}

impl Trace {
    /// Whether there is a chain and every link of it was verified.
    pub fn held(&self) -> bool {
        !self.links.is_empty() && self.links.iter().all(|link| link.held)
    }

    fn add(&mut self, kind: &str, name: impl Into<String>, held: bool, detail: impl Into<String>) {
        self.links.push(Link { kind: kind.into(), name: name.into(), detail: detail.into(), held });
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.of)?;
        let width = self.links.iter().map(|link| link.kind.len()).max().unwrap_or_default();
        for (at, link) in self.links.iter().enumerate() {
            let branch = if at + 1 == self.links.len() { "└─" } else { "├─" };
            let mark = if link.held { "✓" } else { "✗" };
            writeln!(f, "{branch} {mark} {:width$}  {}", link.kind, link.name)?;
            let trunk = if at + 1 == self.links.len() { "  " } else { "│ " };
            writeln!(f, "{trunk}   {:width$}  {}", "", link.detail)?;
        }
        Ok(())
    }
}

/// Traces `pod/NAMESPACE/NAME` or `REPOSITORY@DIGEST`.
pub async fn trace(app: &App, what: &str) -> Result<Trace> {
    let mut trace = Trace { of: what.to_owned(), links: Vec::new() };
    if let Some(pod) = what.strip_prefix("pod/") {
        let (namespace, name) = pod
            .split_once('/')
            .ok_or_else(|| Fault::usage(format!("`{what}` names no pod")).hint("write pod/NAMESPACE/NAME"))?;
        let running = app.rooms.pod_images(namespace, name).await?;
        for (container, repository, digest) in running {
            trace.add(
                "pod",
                format!("{namespace}/{name}"),
                true,
                format!("container {container} runs {repository}@{digest}"),
            );
            released(app, namespace, &digest, &mut trace).await?;
            image(app, &repository, &digest, &mut trace).await?;
        }
        return Ok(trace);
    }
    let (repository, digest) = what.split_once('@').ok_or_else(|| {
        Fault::usage(format!("`{what}` cannot be traced")).hint("write pod/NAMESPACE/NAME or REPOSITORY@sha256:…")
    })?;
    let digest: Digest = digest.parse().map_err(|e: records::digest::InvalidDigest| Fault::usage(e.to_string()))?;
    image(app, repository, &digest, &mut trace).await?;
    Ok(trace)
}

/// The release that brought the image into the namespace.
async fn released(app: &App, namespace: &str, digest: &Digest, trace: &mut Trace) -> Result<()> {
    let releases: Vec<Release> = app.newest_first("").await?;
    let brought = releases.into_iter().filter(|release| {
        release.environment.namespace.as_str() == namespace
            && release.images.iter().any(|image| image.digest == *digest)
    });
    let Some(release) = brought.max_by_key(|release| release.id.number) else {
        trace.add("release", "–", false, format!("no release brought {digest} into namespace {namespace}"));
        return Ok(());
    };
    let rollout = app.records.get::<Rollout>(&release.id.key()).await?.map(|found| found.record);
    let admitted = matches!(release.decision, records::Decision::Admitted { .. });
    let state = rollout.as_ref().map_or("not rolled out", |rollout| rollout.state.name());
    let reason = match rollout.map(|rollout| rollout.state) {
        Some(RolloutState::Failed { reason, .. }) => format!(": {reason}"),
        _ => String::new(),
    };
    let detail = format!("admitted by the policy of environment {}; rollout {state}{reason}", release.id.environment);
    trace.add("release", release.id.to_string(), admitted, detail);
    Ok(())
}

/// The image's evidence, its run and its commit.
async fn image(app: &App, repository: &str, digest: &Digest, trace: &mut Trace) -> Result<()> {
    let images: Vec<Image> = app.newest_first("").await?;
    let built = images.into_iter().find(|image| image.digest == *digest && image.repository == repository);
    let stored = app.rooms.has_image(repository, digest).await?;
    match &built {
        Some(image) => {
            let bases = if image.bases.is_empty() { String::new() } else { format!(" on {}", image.bases.join(", ")) };
            trace.add("image", digest.to_string(), stored, format!("{}:{}{bases}", image.repository, image.tag));
        }
        None => {
            trace.add(
                "image",
                digest.to_string(),
                false,
                format!("no run of this installation built {repository}@{digest}"),
            );
        }
    }
    for evidence in app.rooms.verify_evidence(repository, digest).await? {
        trace.links.push(evidence);
    }
    let Some(image) = built else { return Ok(()) };
    let run: Run = app.run(&image.run).await?;
    let tests = run.tests();
    let passed = matches!(run.state, records::RunState::Passed { .. });
    let results = format!("{}; tests: {} passed, {} failed", run.state.name(), tests.passed, tests.failed);
    trace.add("run", run.id.to_string(), passed && tests.failed == 0, results);
    let key = format!("{}/{}", run.id.project, image.commit);
    match app.records.get::<Commit>(&key).await?.map(|found| found.record) {
        Some(commit) => {
            let there = app.rooms.has_commit(&commit).await?;
            let detail = format!("“{}” by {} <{}>", commit.subject, commit.author.name, commit.author.email);
            trace.add("commit", commit.id.to_string(), there && commit.id == run.commit, detail);
        }
        None => trace.add("commit", image.commit.to_string(), false, "it is not recorded"),
    }
    Ok(())
}
