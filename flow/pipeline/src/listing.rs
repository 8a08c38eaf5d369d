//! The records that a pipeline starts with: the parts of its run, and the environments that its images go to.

use records::{Environment, EvidenceKind, Name, Policy, StepKind, StepRun, StepState};

use crate::file::Pipeline;

/// The part of a run that makes evidence for its images.
pub const EVIDENCE: &str = "evidence";

impl Pipeline {
    /// The parts of a run as people see them, all waiting: steps, then images, then (when there are images and evidence is required or
    /// something signs) `evidence`, which waits for all images.
    pub fn step_runs(&self) -> Vec<StepRun> {
        let part = |name: String, kind, needs| StepRun {
            name,
            kind,
            needs,
            state: StepState::Waiting,
            tests: None,
            artifacts: Vec::new(),
        };
        let names = |needs: &[usize]| needs.iter().map(|i| self.steps[*i].name.to_string()).collect();
        let steps = self.steps.iter().map(|step| part(step.name.to_string(), StepKind::Step, names(&step.needs)));
        let images = self.images.iter().map(|image| part(image.name.clone(), StepKind::Image, names(&image.needs)));
        let mut parts: Vec<StepRun> = steps.chain(images).collect();
        let evidence = !self.verify.require.is_empty() || !self.verify.sign.is_empty();
        if evidence && !self.images.is_empty() {
            let needs = self.images.iter().map(|image| image.name.clone()).collect();
            parts.push(part(EVIDENCE.into(), StepKind::Evidence, needs));
        }
        parts
    }

    /// The kinds of evidence to make: those that are required, and a signature when something signs.
    pub fn evidence(&self) -> Vec<EvidenceKind> {
        let mut kinds = self.verify.require.clone();
        if !self.verify.sign.is_empty() {
            kinds.push(EvidenceKind::Signature);
        }
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    }

    /// Where the images go, in the order of the file. A namespace that the file leaves out is `<project>-<environment>`, cut to the 63
    /// characters that a name may have.
    pub fn environments(&self, project: &Name) -> Vec<Environment> {
        let policy = Policy {
            require: self.verify.require.clone(),
            fail_on: self.verify.fail_on,
            deny_licences: self.verify.deny_licences.clone(),
        };
        let targets = self.deploy.iter().flat_map(|deploy| &deploy.environments);
        let environment = |target: &crate::Target| Environment {
            name: target.name.clone(),
            namespace: target.namespace.clone().unwrap_or_else(|| joined(project, &target.name)),
            after: target.after.clone(),
            approve: target.approve.clone(),
            policy: policy.clone(),
            strategy: target.strategy.clone(),
            on_failure: target.on_failure,
            progress_deadline_s: target.progress_deadline.as_secs().max(1),
        };
        targets.map(environment).collect()
    }
}

/// `<project>-<environment>`; both are names, so the two are one unless they are too long together.
fn joined(project: &Name, environment: &Name) -> Name {
    let whole = format!("{project}-{environment}");
    let short: String = whole.chars().take(63).collect();
    short.trim_end_matches('-').parse().unwrap_or_else(|_| environment.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_made_of_project_and_environment() {
        let name = |text: &str| text.parse::<Name>().unwrap();
        assert_eq!(joined(&name("journal"), &name("dev")).as_str(), "journal-dev");
        let long = joined(&name(&"a".repeat(62)), &name("dev"));
        assert_eq!(long.as_str(), "a".repeat(62));
    }
}
