//! What dates an image and its layers, so that the same commit gives the same digest on every machine and every day.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    sync::Mutex,
};

use tokio::process::Command;

use crate::fault::{Fault, Result};

/// Where times come from.
pub struct Dates {
    root: PathBuf,
    /// Seconds since 1970: what the person set, else the time of the last commit that changed the context; `None` outside of git.
    pub image: Option<i64>,
    /// The last commit that changed the context.
    commit: Option<String>,
    /// What git said of paths.
    known: Mutex<Vec<(Vec<String>, i64)>>,
}

impl Dates {
    /// `set` is what the build was told; the environment's `SOURCE_DATE_EPOCH` holds where it was told nothing.
    pub async fn of(root: PathBuf, set: Option<&String>) -> Result<Self> {
        let set = set.cloned().or_else(|| std::env::var("SOURCE_DATE_EPOCH").ok()).filter(|text| !text.is_empty());
        let mut dates = Self { root, image: None, commit: None, known: Mutex::default() };
        if let Some(text) = set {
            let seconds = text.parse::<i64>().ok().filter(|seconds| (0..=253_402_300_799).contains(seconds));
            let wrong =
                || Fault::usage(format!("SOURCE_DATE_EPOCH is `{text}`, which is no number of seconds since 1970"));
            dates.image = Some(seconds.ok_or_else(wrong)?);
            return Ok(dates);
        }
        if let Some((commit, time)) = last_change(&dates.root, &[String::new()]).await {
            (dates.image, dates.commit) = (Some(time), Some(commit));
        }
        Ok(dates)
    }

    /// What tells two builds of the same files apart.
    pub fn identity(&self) -> String {
        format!("{:?} {:?}", self.image, self.commit)
    }

    /// The time of a layer that is made from these paths of the context, and of a base of the time `base`.
    pub async fn layer(&self, paths: &[String], base: i64) -> Result<i64> {
        let Some(image) = self.image else { return Ok(base) };
        if self.commit.is_none() {
            return Ok(image);
        }
        if paths.is_empty() {
            return Ok(base);
        }
        let find =
            |known: &Vec<(Vec<String>, i64)>| known.iter().find(|(known, _)| known == paths).map(|(_, time)| *time);
        let lock = || self.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(time) = find(&lock()) {
            return Ok(time.max(base));
        }
        // Files that are in no commit yet are as old as the context.
        let time = last_change(&self.root, paths).await.map_or(image, |(_, time)| time);
        lock().push((paths.to_vec(), time));
        Ok(time.max(base))
    }
}

/// The last commit that changed something at these paths below a directory, and its time; `None` where there is no git, or no such commit.
async fn last_change(root: &Path, paths: &[String]) -> Option<(String, i64)> {
    // A process is dear where it has nothing to say.
    let in_git = || root.ancestors().any(|directory| directory.join(".git").symlink_metadata().is_ok());
    if std::env::var_os("GIT_DIR").is_none() && !in_git() {
        return None;
    }
    let mut git = Command::new("git");
    git.arg("-C").arg(root).args(["--literal-pathspecs", "log", "-1", "--format=%H %ct", "--"]);
    git.args(paths.iter().map(|path| if path.is_empty() { "." } else { path }));
    git.stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let output = git.output().await.ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (commit, time) = text.trim().split_once(' ')?;
    Some((commit.to_owned(), time.parse().ok()?))
}
