//! `--tag-strategy`: names for images that every build gives anew.

use std::{path::Path, process::Stdio};

use build::{TagFacts, TagStrategy, tags};
use image::Reference;
use store::{Change, Expect};
use tokio::process::Command;

use crate::{
    fault::{Fault, Result},
    wiring::Home,
};

#[derive(Debug, Clone, Default, clap::Args)]
pub struct TagOptions {
    /// How names without a tag are tagged: build-id, system-build-id, git-hash, git-hash-build-id, semver, semver-aliases, or a
    /// template such as {branch}-{commit}-{build}
    #[arg(long, value_name = "STRATEGY")]
    pub tag_strategy: Option<String>,

    /// Number of the build [default: one more than the last one of the local store]
    #[arg(long, value_name = "ID", env = "SHIPWAY_BUILD_ID")]
    pub build_id: Option<String>,

    /// What the build is called in the whole system that builds [default: time and number]
    #[arg(long, value_name = "ID", env = "SHIPWAY_SYSTEM_BUILD_ID")]
    pub system_build_id: Option<String>,

    /// Version of the image [default: that of git's tags]
    #[arg(long, value_name = "VERSION")]
    pub image_version: Option<String>,
}

/// Names for an image.
pub struct Named {
    pub tags: Vec<Reference>,
    /// Those that no other image may get.
    pub steady: Vec<Reference>,
}

/// The kind under which the number of the last build is kept.
const COUNTER: &str = "build/number";

impl TagOptions {
    fn strategy(&self) -> Result<Option<TagStrategy>> {
        self.tag_strategy.as_deref().map(TagStrategy::parse).transpose().map_err(|e| Fault::usage(e.to_string()))
    }

    /// Names that the strategy is to tag, among those given; the others are left.
    pub fn split<'a>(&self, given: &'a [String]) -> Result<(Vec<&'a String>, Vec<Reference>)> {
        if self.strategy()?.is_none() {
            return Ok((given.iter().collect(), Vec::new()));
        }
        let (mut left, mut bare) = (Vec::new(), Vec::new());
        for text in given {
            match text.parse::<Reference>() {
                Ok(reference) if reference.tag.is_none() && reference.digest.is_none() => bare.push(reference),
                _ => left.push(text),
            }
        }
        if bare.is_empty() {
            return Err(Fault::usage("--tag-strategy has no name to tag")
                .hint("name the image without a tag: -t registry/name"));
        }
        Ok((left, bare))
    }

    /// The names of one build. `context` is where git is asked.
    pub async fn names(&self, bare: &[Reference], context: &str, home: &Home) -> Result<Named> {
        let mut named = Named { tags: Vec::new(), steady: Vec::new() };
        let Some(strategy) = self.strategy()? else { return Ok(named) };
        let mut facts = git(Path::new(context)).await;
        facts.date = Some((home.clock)());
        if let Some(text) = &self.image_version {
            let wrong = || Fault::usage(format!("`{text}` is no semantic version")).hint("write for example 1.2.3");
            facts.version = Some(tags::version(text).ok_or_else(wrong)?);
        }
        facts.build.clone_from(&self.build_id);
        facts.system_build.clone_from(&self.system_build_id);
        if facts.build.is_none() || facts.system_build.is_none() {
            let number = next(home).await?;
            let time = (home.clock)().strftime("%Y%m%dT%H%M%SZ").to_string();
            facts.build.get_or_insert(number.to_string());
            facts.system_build.get_or_insert(format!("{time}-{number}"));
        }
        for tag in strategy.tags(&facts).map_err(|e| Fault::usage(e.to_string()))? {
            for name in bare {
                let reference = Reference { tag: Some(tag.clone()), ..name.clone() };
                if strategy.stays(&tag) {
                    named.steady.push(reference.clone());
                }
                named.tags.push(reference);
            }
        }
        Ok(named)
    }
}

/// The number of this build in the local store, which one process works in at a time.
async fn next(home: &Home) -> Result<u64> {
    let log = home.records.log();
    let last = log.get(COUNTER, "last").await?;
    let number = last.and_then(|entry| std::str::from_utf8(&entry.value).ok()?.parse::<u64>().ok()).unwrap_or(0) + 1;
    let change = Change {
        kind: COUNTER.into(),
        key: "last".into(),
        expect: Expect::Any,
        value: number.to_string().into_bytes().into(),
        delete: false,
    };
    log.append(vec![change]).await?;
    Ok(number)
}

/// What git knows of a directory; nothing where it is in no repository.
async fn git(directory: &Path) -> TagFacts {
    let ask = async |arguments: &[&str]| -> Option<String> {
        let mut git = Command::new("git");
        git.arg("-C").arg(directory).args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        let output = git.output().await.ok().filter(|output| output.status.success())?;
        Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
    };
    let Some(commit) = ask(&["rev-parse", "--verify", "HEAD"]).await else { return TagFacts::default() };
    let here = ask(&["tag", "--points-at", "HEAD"]).await.unwrap_or_default();
    // The nearest tag that looks like a version, as `v1.2.3-4-gabcdef`.
    let pattern =
        ["describe", "--tags", "--long", "--match", "[0-9]*.[0-9]*.[0-9]*", "--match", "v[0-9]*.[0-9]*.[0-9]*"];
    let described = ask(&pattern).await.unwrap_or_default();
    let before = described.rsplit_once("-g").and_then(|(rest, _)| rest.rsplit_once('-'));
    let before = before.and_then(|(tag, commits)| Some((tag, commits.parse().ok()?)));
    // Files that git does not know are part of the context as well.
    let dirty = ask(&["status", "--porcelain", "--", "."]).await.is_some_and(|changes| !changes.is_empty());
    TagFacts {
        dirty,
        version: tags::version_of(here.lines(), before, &commit),
        branch: ask(&["rev-parse", "--abbrev-ref", "HEAD"]).await.filter(|branch| branch != "HEAD"),
        commit: Some(commit),
        ..TagFacts::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn run(directory: &Path, arguments: &[&str]) {
        let mut git = Command::new("git");
        git.arg("-C").arg(directory).args(["-c", "user.name=A", "-c", "user.email=a@example.org"]).args(arguments);
        assert!(git.output().await.unwrap().status.success(), "{arguments:?}");
    }

    #[tokio::test]
    async fn git_tells_commit_version_and_changes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        assert_eq!(git(path).await, TagFacts::default());
        run(path, &["init", "-q", "-b", "trunk"]).await;
        std::fs::write(path.join("a"), "1").unwrap();
        run(path, &["add", "."]).await;
        run(path, &["commit", "-q", "-m", "one"]).await;
        run(path, &["tag", "v1.2.3"]).await;
        let facts = git(path).await;
        assert_eq!(facts.version.unwrap().to_string(), "1.2.3");
        assert_eq!((facts.branch.as_deref(), facts.dirty), (Some("trunk"), false));
        std::fs::write(path.join("b"), "1").unwrap();
        assert!(git(path).await.dirty);
        run(path, &["add", "."]).await;
        run(path, &["commit", "-q", "-m", "two"]).await;
        let facts = git(path).await;
        let version = facts.version.unwrap().to_string();
        assert!(version.starts_with("1.2.4-dev.1.g") && version.ends_with(&facts.commit.unwrap()[..12]), "{version}");
    }

    #[test]
    fn only_names_without_a_tag_are_tagged() {
        let options = TagOptions { tag_strategy: Some("git-hash".into()), ..TagOptions::default() };
        let given = ["app".to_owned(), "registry:5000/app".to_owned(), "app:1".to_owned()];
        let (left, bare) = options.split(&given).unwrap();
        assert_eq!((left.len(), bare.len()), (1, 2));
        assert!(options.split(&given[2..]).is_err());
        assert_eq!(TagOptions::default().split(&given).unwrap().0.len(), 3);
    }
}
