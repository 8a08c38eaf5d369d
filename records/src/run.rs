//! A run of a project's pipeline on one commit.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{CommitId, Digest, Environment, IllegalTransition, Name, Record, ReleasedImage, RunId, Timestamp};

/// Where a run is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum RunState {
    Queued,
    Running {
        since: Timestamp,
    },
    Passed {
        since: Timestamp,
        at: Timestamp,
    },
    /// `reason` is one sentence.
    Failed {
        since: Timestamp,
        at: Timestamp,
        reason: String,
    },
    Cancelled {
        at: Timestamp,
        by: String,
    },
}

impl RunState {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running { .. } => "running",
            Self::Passed { .. } => "passed",
            Self::Failed { .. } => "failed",
            Self::Cancelled { .. } => "cancelled",
        }
    }

    pub fn ended(&self) -> bool {
        matches!(self, Self::Passed { .. } | Self::Failed { .. } | Self::Cancelled { .. })
    }
}

/// What a part of a run does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepKind {
    /// A step that the pipeline file names.
    Step,
    /// An image that is built and pushed.
    Image,
    /// Evidence that is made for the images.
    Evidence,
}

/// Where a step is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum StepState {
    Waiting,
    Running {
        since: Timestamp,
    },
    Passed {
        since: Timestamp,
        at: Timestamp,
        cached: bool,
    },
    Failed {
        since: Timestamp,
        at: Timestamp,
        reason: String,
        exit_code: Option<i32>,
    },
    /// It never ran, and why.
    Skipped {
        because: String,
    },
    Cancelled {
        at: Timestamp,
    },
}

impl StepState {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running { .. } => "running",
            Self::Passed { .. } => "passed",
            Self::Failed { .. } => "failed",
            Self::Skipped { .. } => "skipped",
            Self::Cancelled { .. } => "cancelled",
        }
    }
}

impl StepState {
    /// What has not ended will not any more.
    fn cancel(self, now: Timestamp, because: &str) -> Self {
        match self {
            Self::Waiting => Self::Skipped { because: because.to_owned() },
            Self::Running { .. } => Self::Cancelled { at: now },
            ended => ended,
        }
    }
}

/// Test results that a step wrote as JUnit XML.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestSummary {
    pub passed: u64,
    pub failed: u64,
    pub skipped: u64,
    /// Name and message of failed tests, the first fifty.
    pub failures: Vec<(String, String)>,
}

/// A file that a step left behind on purpose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// Relative to the workspace.
    pub path: String,
    pub digest: Digest,
    pub size: u64,
}

/// One node of the run's graph as people see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRun {
    pub name: String,
    pub kind: StepKind,
    pub needs: Vec<String>,
    pub state: StepState,
    pub tests: Option<TestSummary>,
    pub artifacts: Vec<Artifact>,
}

/// One run. The log of a step is kept beside the records, under the run and the step's name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    pub id: RunId,
    pub commit: CommitId,
    pub state: RunState,
    pub steps: Vec<StepRun>,
    /// What every image name resolved to, by digest: name → `sha256:…`.
    pub resolved: BTreeMap<String, Digest>,
    /// The images that the manifests ask for and the run neither builds nor runs steps in, as they are written there. They were in the
    /// registry already.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub found: BTreeMap<String, ReleasedImage>,
    /// Where the run's images are to go.
    pub environments: Vec<Environment>,
    /// The blob with the rendered manifests (JSON array), images still by name.
    pub manifests: Option<Digest>,
    /// The same for environments that have manifests of their own, by name: a chart is rendered for each.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub manifests_of: BTreeMap<Name, Digest>,
    pub created_at: Timestamp,
}

impl Run {
    pub fn new(id: RunId, commit: CommitId, now: Timestamp) -> Self {
        Self {
            id,
            commit,
            state: RunState::Queued,
            steps: Vec::new(),
            resolved: BTreeMap::new(),
            found: BTreeMap::new(),
            environments: Vec::new(),
            manifests: None,
            manifests_of: BTreeMap::new(),
            created_at: now,
        }
    }

    /// The blob with the manifests for an environment.
    pub fn manifests_for(&self, environment: &Name) -> Option<&Digest> {
        self.manifests_of.get(environment).or(self.manifests.as_ref())
    }

    fn illegal(&self, to: &'static str) -> IllegalTransition {
        IllegalTransition { record: format!("run {}", self.id), from: self.state.name(), to }
    }

    /// Queued, or running already when an earlier server died: running.
    pub fn start(self, now: Timestamp) -> Result<Self, IllegalTransition> {
        match self.state {
            RunState::Queued => Ok(Self { state: RunState::Running { since: now }, ..self }),
            RunState::Running { .. } => Ok(self),
            _ => Err(self.illegal("running")),
        }
    }

    pub fn pass(self, now: Timestamp) -> Result<Self, IllegalTransition> {
        match self.state {
            RunState::Running { since } => Ok(Self { state: RunState::Passed { since, at: now }, ..self }),
            _ => Err(self.illegal("passed")),
        }
    }

    pub fn fail(self, now: Timestamp, reason: impl Into<String>) -> Result<Self, IllegalTransition> {
        let since = match self.state {
            RunState::Running { since } => since,
            RunState::Queued => now,
            _ => return Err(self.illegal("failed")),
        };
        Ok(Self { state: RunState::Failed { since, at: now, reason: reason.into() }, ..self })
    }

    pub fn cancel(self, now: Timestamp, by: impl Into<String>) -> Result<Self, IllegalTransition> {
        if self.state.ended() {
            return Err(self.illegal("cancelled"));
        }
        let by = by.into();
        let because = format!("the run was cancelled by {by}");
        let end = |step: StepRun| StepRun { state: step.state.cancel(now, &because), ..step };
        let steps = self.steps.into_iter().map(end).collect();
        Ok(Self { state: RunState::Cancelled { at: now, by }, steps, ..self })
    }

    /// All test results of all steps.
    pub fn tests(&self) -> TestSummary {
        let mut sum = TestSummary::default();
        for tests in self.steps.iter().filter_map(|step| step.tests.as_ref()) {
            sum.passed += tests.passed;
            sum.failed += tests.failed;
            sum.skipped += tests.skipped;
            sum.failures.extend(tests.failures.iter().cloned());
        }
        sum
    }
}

impl Record for Run {
    const KIND: &'static str = "run";
    fn key(&self) -> String {
        self.id.key()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run() -> Run {
        Run::new("journal/1".parse().unwrap(), "a".repeat(40).parse().unwrap(), Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn a_run_ends_once() {
        let now = Timestamp::UNIX_EPOCH;
        let passed = run().start(now).unwrap().pass(now).unwrap();
        assert!(passed.clone().fail(now, "late").is_err());
        assert!(passed.clone().cancel(now, "admin").is_err());
        assert!(passed.start(now).is_err());
        assert!(run().pass(now).is_err());
    }

    #[test]
    fn the_steps_of_a_run_end_with_it() {
        let now = Timestamp::UNIX_EPOCH;
        let step = |name: &str, state| StepRun {
            name: name.into(),
            kind: StepKind::Step,
            needs: Vec::new(),
            state,
            tests: None,
            artifacts: Vec::new(),
        };
        let passed = StepState::Passed { since: now, at: now, cached: false };
        let steps = vec![
            step("a", passed.clone()),
            step("b", StepState::Running { since: now }),
            step("c", StepState::Waiting),
        ];
        let cancelled = Run { steps, ..run() }.start(now).unwrap().cancel(now, "admin").unwrap();
        let states: Vec<StepState> = cancelled.steps.into_iter().map(|step| step.state).collect();
        let because = "the run was cancelled by admin".to_owned();
        assert_eq!(states, [passed, StepState::Cancelled { at: now }, StepState::Skipped { because }]);
    }

    #[test]
    fn a_restarted_server_starts_a_running_run_again() {
        let now = Timestamp::UNIX_EPOCH;
        let running = run().start(now).unwrap();
        assert_eq!(running.clone().start(now).unwrap(), running);
    }
}
