//! The registry on this installation: who is let in, what images in quarantine are judged by, and what goes on beside it.

pub mod cleaning;
mod scanning;
mod webhooks;

use std::{collections::BTreeMap, os::unix::fs::PermissionsExt, sync::Arc, time::Duration};

use async_trait::async_trait;
use evidence::decide;
use image::{
    client::{Client, Credentials, Options},
    registry::{
        events::Events,
        gate::{Gate, Verdict},
        http::{Door, Extras, router_with},
        running::Running,
        upstream::Upstreams,
    },
};
use records::{Digest, Evidence, EvidenceKind, Policy};
use store::Records;

use crate::{
    app::App,
    fault::{Class, Fault, Result},
};

/// Repositories that Shipway itself fills: nobody pushes there by hand.
const OWN: &str = "base/";

/// Serves the registry, and starts what goes on beside it; the app's supervisor owns that.
pub fn serve(app: &Arc<App>) -> Result<axum::Router> {
    let registry = app.rooms.registry.clone();
    let unavailable = |e: image::Error| Fault::from_error(Class::Unavailable, &e);
    let token = app.token.clone();
    let door = Door::new(registry.clone(), Arc::new(move |text| token.is(text))).map_err(unavailable)?;
    let door = door.close(OWN, "base images are assembled by Shipway itself; push to another repository");
    let directory = app.config.data.join("upstreams");
    let credentials = Arc::new(move |host: &str| credentials(&directory, host));
    let client = Client::new(Options { credentials, timeout: Duration::from_secs(30), ..Options::default() });
    let upstreams = Upstreams::new(registry.clone(), client.map_err(unavailable)?);
    let (events, writing) = Events::new(registry.clone());
    app.supervisor.spawn("registry events", {
        let cancel = app.supervisor.token();
        async move {
            tokio::select! {
                () = cancel.cancelled() => {}
                () = writing.run() => {}
            }
        }
    });
    cleaning::start(app);
    scanning::start(app, upstreams.clone());
    webhooks::start(app);
    let gate: Arc<dyn Gate> = Arc::new(ByEvidence { records: app.records.clone() });
    let running: Arc<dyn Running> = Arc::new(Runs(app.clone()));
    let extras = Extras { gate: Some(gate), upstreams: Some(upstreams), events: Some(events), running: Some(running) };
    Ok(router_with(registry, Arc::new(door), extras))
}

/// `USER:PASSWORD` for another registry, from a file that only its owner reads: `DIR/upstreams/HOST`.
fn credentials(directory: &std::path::Path, host: &str) -> Option<Credentials> {
    if host.contains('/') || host.starts_with('.') {
        return None;
    }
    let path = directory.join(host);
    let mode = std::fs::metadata(&path).ok()?.permissions().mode();
    if mode & 0o077 != 0 {
        tracing::warn!(path = %path.display(), "these credentials can be read by others and are not used: chmod 600");
        return None;
    }
    let text = std::fs::read_to_string(&path).ok()?;
    let (user, password) = text.trim().split_once(':')?;
    Some(Credentials { user: user.into(), password: password.into() })
}

/// Judges images in quarantine as admission does: from the records of their evidence.
struct ByEvidence {
    records: Records,
}

#[async_trait]
impl Gate for ByEvidence {
    async fn verdict(
        &self,
        policy: &Policy,
        repository: &str,
        digest: &Digest,
    ) -> std::result::Result<Verdict, String> {
        let evidence = self.records.list::<Evidence>(&format!("{digest}/")).await.map_err(|e| e.to_string())?;
        let evidence: Vec<Evidence> = evidence.into_iter().map(|found| found.record).collect();
        Ok(verdict(policy, repository, digest, &evidence))
    }
}

/// What the releases and pods of this installation use.
struct Runs(Arc<App>);

#[async_trait]
impl Running for Runs {
    async fn running(&self) -> std::result::Result<BTreeMap<Digest, String>, String> {
        cleaning::running(&self.0).await.map_err(|fault| fault.to_string())
    }
}

/// What the evidence comes to. That something is missing is told apart from that something is wrong, so that a pull waits only for what may
/// still come.
fn verdict(policy: &Policy, repository: &str, digest: &Digest, evidence: &[Evidence]) -> Verdict {
    let reasons = decide(policy, repository, digest, evidence);
    let there = |kind: EvidenceKind| evidence.iter().any(|one| one.subject == *digest && one.detail.kind() == kind);
    let mut required = policy.require.clone();
    required.extend(policy.fail_on.map(|_| EvidenceKind::Vulnerabilities));
    required.extend((!policy.deny_licences.is_empty()).then_some(EvidenceKind::Sbom));
    let lacking = required.iter().filter(|kind| !there(**kind)).count() > 0;
    match (reasons.is_empty(), lacking) {
        (true, _) => Verdict::Good,
        (false, true) if reasons.len() == 1 => Verdict::Missing(reasons),
        (false, _) => Verdict::Bad(reasons),
    }
}

#[cfg(test)]
mod tests {
    use records::{EvidenceDetail, Finding, Name, RunId, Severity, Timestamp};

    use super::*;

    fn evidence(digest: &Digest, detail: EvidenceDetail) -> Evidence {
        Evidence {
            repository: "hub/a".into(),
            subject: digest.clone(),
            referrer: digest.clone(),
            run: RunId { project: "hub".parse::<Name>().unwrap(), build: 0 },
            detail,
            made_at: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn missing_evidence_may_still_come_and_bad_evidence_closes() {
        let digest = Digest::sha256(&[1; 32]);
        let policy = Policy {
            require: vec![EvidenceKind::Vulnerabilities],
            fail_on: Some(Severity::Critical),
            deny_licences: vec![],
        };
        let finding = |severity| Finding {
            id: "CVE-1".into(),
            purl: "pkg:deb/debian/x@1".into(),
            severity,
            fixed_in: None,
            summary: String::new(),
            not_affected: None,
        };
        let scan = |findings| evidence(&digest, EvidenceDetail::Vulnerabilities { database: digest.clone(), findings });
        let of = |evidence: &[Evidence]| verdict(&policy, "hub/a", &digest, evidence);
        assert!(matches!(of(&[]), Verdict::Missing(_)));
        assert_eq!(of(&[scan(vec![])]), Verdict::Good);
        assert_eq!(of(&[scan(vec![finding(Severity::High)])]), Verdict::Good);
        assert!(matches!(of(&[scan(vec![finding(Severity::Critical)])]), Verdict::Bad(_)));
        let other = Digest::sha256(&[2; 32]);
        let elsewhere = Evidence { subject: other, ..scan(vec![]) };
        assert!(matches!(of(&[elsewhere]), Verdict::Missing(_)), "evidence of another image");
    }

    #[test]
    fn credentials_are_read_from_private_files() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("docker.io");
        std::fs::write(&path, "me:s:cret\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(credentials(directory.path(), "docker.io").is_none());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let found = credentials(directory.path(), "docker.io").unwrap();
        assert_eq!((found.user.as_str(), found.password.as_str()), ("me", "s:cret"));
        assert!(credentials(directory.path(), "../docker.io").is_none());
    }
}
