//! Releases: what each environment is to run, and what people say about it.

use std::{collections::BTreeSet, sync::Mutex};

use records::{Name, ReleaseId, RunId, Timestamp};
use release::Report;

use crate::{
    app::App,
    fault::{Class, Fault, Result},
};

/// Who asks, as long as there is one administrator.
const ADMIN: &str = "admin";

/// Sentences that were said and still hold, so that each is said once.
#[derive(Default)]
pub struct Said(Mutex<BTreeSet<String>>);

impl Said {
    /// Those that were not said last time; the others of last time are forgotten.
    pub fn news(&self, now: impl IntoIterator<Item = String>) -> Vec<String> {
        let now: BTreeSet<String> = now.into_iter().collect();
        let mut said = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let news = now.difference(&said).cloned().collect();
        *said = now;
        news
    }
}

/// Makes the releases whose turn it is; when to look again though nothing changes.
pub async fn activate(app: &App, said: &Said) -> Result<Option<Timestamp>> {
    let Report { released: _, waiting, again, failed } = app.rooms.releases.activate(app.now()).await.map_err(fault)?;
    let waiting = waiting.iter().map(ToString::to_string);
    let failed = failed.iter().map(|(id, error)| format!("release {id}: {}", crate::fault::chain(error)));
    for sentence in said.news(waiting.chain(failed)) {
        tracing::info!("{sentence}");
    }
    Ok(again)
}

/// Notes that a member of `group` lets a run go to an environment.
pub async fn approve(app: &App, run: &RunId, environment: &Name, group: &str) -> Result<()> {
    app.run(run).await?;
    app.rooms.releases.approve(run, environment, group, ADMIN, app.now()).await.map_err(fault)
}

/// Brings an earlier release back.
pub async fn undo(app: &App, project: &Name, environment: &Name, to: Option<u64>) -> Result<ReleaseId> {
    app.project(project).await?;
    let made = app.rooms.releases.undo(project, environment, to, ADMIN, app.now()).await;
    Ok(made.map_err(fault)?.id)
}

fn fault(error: release::Error) -> Fault {
    match error {
        release::Error::Invalid(message) => Fault::new(Class::Conflict, message),
        refused @ release::Error::Refused { .. } => {
            Fault::from_error(Class::Conflict, &refused).hint("run the pipeline again, so that evidence is made anew")
        }
        release::Error::Store(error) => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use records::Digest;

    use super::*;

    #[test]
    fn a_sentence_is_said_when_it_begins_to_hold() {
        let said = Said::default();
        let news = |now: &[&str]| said.news(now.iter().map(|s| (*s).to_owned()));
        assert_eq!(news(&["a", "b"]), ["a", "b"]);
        assert_eq!(news(&["b", "c"]), ["c"]);
        assert_eq!(news(&["a"]), ["a"]);
        assert!(news(&[]).is_empty());
    }

    #[test]
    fn what_cannot_be_is_a_conflict_and_says_why() {
        let id: ReleaseId = "journal/prod/1".parse().unwrap();
        let digest: Digest = format!("sha256:{}", "0".repeat(64)).parse().unwrap();
        let reasons = vec![format!("image journal/web ({}) has no signature", digest.short())];
        let fault = fault(release::Error::Refused { release: id, reasons });
        assert_eq!(fault.class, Class::Conflict);
        insta::assert_snapshot!(fault.message, @"the policy of its environment refuses release journal/prod/1: image journal/web (000000000000) has no signature");
    }
}
