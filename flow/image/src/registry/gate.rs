//! Quarantine: an image is handed out only when its evidence is there and good, to nobody but the scanner.
//!
//! What counts is the manifest. An index is handed out when one of its images may be; a referrer with what it refers to, unless it is an image
//! itself; a blob when a manifest of the repository that names it may be. What cannot be read or is not known stays closed.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use records::{Digest, Policy};
use tokio::time::Instant;

use super::{Document, Quarantine, Registry, cleanup::plan::subject_of_tag, entries};
use crate::{Error, Kind, Result, media};

/// What the evidence of an image comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Good,
    /// Evidence that is asked for is not there; the sentences say which.
    Missing(Vec<String>),
    Bad(Vec<String>),
}

/// Judges images by the evidence that there is. An error closes.
#[async_trait]
pub trait Gate: Send + Sync + 'static {
    async fn verdict(&self, policy: &Policy, repository: &str, digest: &Digest)
    -> std::result::Result<Verdict, String>;
}

/// Indexes within indexes, and referrers of referrers.
const DEPTH: usize = 5;
/// Manifests whose names are kept at hand.
const KNOWN: usize = 20_000;
/// Seconds that a pull waits at most.
const LONGEST: u64 = 600;
/// How often evidence that is waited for is looked for when nothing says that it came.
const LOOK: Duration = Duration::from_secs(1);

/// What manifests name, by digest: it never changes.
#[derive(Default)]
pub(super) struct Named(Mutex<HashMap<Digest, Arc<Vec<Digest>>>>);

impl Registry {
    /// `Denied` unless the manifest may be handed out. Waits for evidence as long as the quarantine says; `link` is where to read more.
    pub async fn admit_manifest(
        &self,
        gate: &dyn Gate,
        quarantine: &Quarantine,
        repository: &str,
        digest: &Digest,
        link: &str,
    ) -> Result<()> {
        let until = Instant::now() + Duration::from_secs(quarantine.wait_s.min(LONGEST));
        let mut head = self.log().head();
        loop {
            head.borrow_and_update();
            let verdict = self.judge(gate, &quarantine.policy, repository, digest, DEPTH).await;
            let Verdict::Missing(_) = verdict else { return said(verdict, repository, digest, link) };
            tokio::select! {
                () = tokio::time::sleep_until(until) => return said(verdict, repository, digest, link),
                _ = head.changed() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// `Denied` unless a manifest that may be handed out names the blob.
    pub async fn admit_blob(
        &self,
        gate: &dyn Gate,
        quarantine: &Quarantine,
        repository: &str,
        digest: &Digest,
        link: &str,
    ) -> Result<()> {
        let mut verdict = Verdict::Missing(vec![format!("no image of repository {repository} names blob {digest}")]);
        for entry in self.all(entries::MANIFEST, &format!("{repository}@")).await? {
            let Some(manifest) = entry.key.rsplit_once('@').and_then(|(_, digest)| digest.parse::<Digest>().ok())
            else {
                continue;
            };
            let names = self.known_names(&manifest).await?;
            if manifest != *digest && !names.contains(digest) {
                continue;
            }
            verdict = self.judge(gate, &quarantine.policy, repository, &manifest, DEPTH).await;
            if verdict == Verdict::Good {
                break;
            }
        }
        said(verdict, repository, digest, link)
    }

    pub(super) async fn known_names(&self, manifest: &Digest) -> Result<Arc<Vec<Digest>>> {
        let named = &self.inner.named.0;
        if let Some(known) = named.lock().unwrap_or_else(PoisonError::into_inner).get(manifest) {
            return Ok(known.clone());
        }
        let names = Arc::new(self.names(manifest).await?);
        let mut named = named.lock().unwrap_or_else(PoisonError::into_inner);
        if named.len() >= KNOWN {
            named.clear();
        }
        named.insert(manifest.clone(), names.clone());
        Ok(names)
    }

    async fn judge(
        &self,
        gate: &dyn Gate,
        policy: &Policy,
        repository: &str,
        digest: &Digest,
        depth: usize,
    ) -> Verdict {
        let missing = |why: String| Verdict::Missing(vec![why]);
        if depth == 0 {
            return Verdict::Bad(vec![format!("{repository}@{digest} is nested too deep to be judged")]);
        }
        let document = match self.manifest(repository, digest).await {
            Ok((info, content)) => Document::parse(&info.media_type, &content),
            Err(error) => Err(error),
        };
        let (document, media_type) = match document {
            Ok(document) => document,
            Err(error) => return missing(format!("{repository}@{digest} cannot be judged: {error}")),
        };
        if media::shape(&media_type) == Some(media::Shape::Index) && document.manifests.iter().flatten().count() > 0 {
            let mut worst = Vec::new();
            let mut all_bad = true;
            for child in document.children().take(100) {
                match Box::pin(self.judge(gate, policy, repository, &child.digest, depth - 1)).await {
                    Verdict::Good => return Verdict::Good,
                    Verdict::Missing(why) => {
                        all_bad = false;
                        worst.extend(why);
                    }
                    Verdict::Bad(why) => worst.extend(why),
                }
            }
            worst.truncate(5);
            return if all_bad { Verdict::Bad(worst) } else { Verdict::Missing(worst) };
        }
        if !is_image(&document)
            && let Some(subject) = self.subject(repository, digest, &document).await
        {
            return Box::pin(self.judge(gate, policy, repository, &subject, depth - 1)).await;
        }
        match gate.verdict(policy, repository, digest).await {
            Ok(verdict) => verdict,
            Err(why) => missing(format!("the evidence of {repository}@{digest} cannot be read: {why}")),
        }
    }

    /// What a manifest that is no image refers to: by its subject, or by the tag that older tools give it.
    async fn subject(&self, repository: &str, digest: &Digest, document: &Document) -> Option<Digest> {
        if let Some(subject) = &document.subject {
            return Some(subject.digest.clone());
        }
        let prefix = entries::by_tag(repository, "sha256-");
        for entry in self.all(entries::TAG, &prefix).await.ok()? {
            let tag: entries::Tag = entries::read(&entry).ok()?;
            let subject = entry.key.rsplit_once(':').and_then(|(_, tag)| subject_of_tag(tag));
            if tag.digest == *digest && subject.is_some() {
                return subject;
            }
        }
        None
    }
}

/// Whether it can be run: its configuration is that of an image, and it has layers of files.
fn is_image(document: &Document) -> bool {
    let config = document.config.as_ref().map_or("", |config| config.media_type.as_str());
    let files = |media_type: &str| {
        media_type.starts_with("application/vnd.oci.image.layer.")
            || media_type.starts_with("application/vnd.docker.image.rootfs.")
    };
    let layers = document.layers.iter().flatten();
    // Signatures of the older kind have an image's configuration and no files.
    [media::OCI_CONFIG, media::DOCKER_CONFIG].contains(&config) && layers.clone().any(|layer| files(&layer.media_type))
        || layers.clone().count() > 0 && layers.clone().all(|layer| files(&layer.media_type))
}

fn said(verdict: Verdict, repository: &str, digest: &Digest, link: &str) -> Result<()> {
    let denied = |how: &str, why: Vec<String>| {
        let message = format!("{repository}@{digest} is in quarantine: {how}{}; see {link}", why.join("; "));
        Err(Error::new(Kind::Denied, message))
    };
    match verdict {
        Verdict::Good => Ok(()),
        Verdict::Missing(why) => denied("it is not judged yet: ", why),
        Verdict::Bad(why) => denied("", why),
    }
}
