//! Tokens for programs: each belongs to a project, may do what its grants say, and ends by itself. Only a hash of the secret is kept.

use aws_lc_rs::{constant_time, digest};
use base64::Engine;
use data_encoding::HEXLOWER;
use records::Timestamp;
use serde::{Deserialize, Serialize};
use store::Expect;

use super::{Registry, cleanup::pattern::fits, entries, http::Action};
use crate::{Error, Kind, Result};

/// Key `<project>/<name>`.
const ROBOT: &str = "registry/robot";
/// Tells secrets of robots from others, also for programs that look for leaked ones.
const MARK: &str = "swr_";

/// A token for a program. Its user name is `<project>+<name>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Robot {
    pub project: String,
    pub name: String,
    pub grants: Vec<Grant>,
    /// May pull what is in quarantine.
    #[serde(default)]
    pub scanner: bool,
    pub created: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// SHA-256 of the secret, in hex. The secret is random, so that is as good as a slow hash.
    pub hash: String,
}

/// What may be done where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Repositories; `*` stands for anything.
    pub repository: String,
    pub actions: Vec<Verb>,
}

/// An action as token servers name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    Pull,
    Push,
    Delete,
}

impl Verb {
    pub fn of(action: Action) -> Option<Self> {
        match action {
            Action::Pull => Some(Self::Pull),
            Action::Push => Some(Self::Push),
            Action::Delete => Some(Self::Delete),
            Action::Ping | Action::Catalog => None,
        }
    }
}

impl Robot {
    pub fn user(&self) -> String {
        format!("{}+{}", self.project, self.name)
    }

    pub fn may(&self, repository: &str, verb: Verb) -> bool {
        self.grants.iter().any(|grant| grant.actions.contains(&verb) && fits(&grant.repository, repository))
    }

    pub fn is_over(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}

fn is_name(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !text.is_empty() && text.len() <= 63 && text.bytes().all(inner) && !text.starts_with('-')
}

fn hash(secret: &str) -> String {
    let sum = digest::digest(&digest::SHA256, secret.as_bytes());
    HEXLOWER.encode(sum.as_ref())
}

impl Registry {
    /// Makes a robot and returns it with its secret, which cannot be had again. Its grants lie within the project.
    pub async fn create_robot(
        &self,
        project: &str,
        name: &str,
        mut grants: Vec<Grant>,
        scanner: bool,
        expires: Option<Timestamp>,
    ) -> Result<(Robot, String)> {
        let wrong = |why: String| Error::new(Kind::Malformed, why);
        if !is_name(name) || !is_name(project) {
            return Err(wrong(format!(
                "`{project}+{name}` is no name of a robot: use a-z, 0-9 and `-` for project and name"
            )));
        }
        for grant in &mut grants {
            let own = format!("{project}/");
            if grant.repository == "*" {
                grant.repository = format!("{own}*");
            }
            if !grant.repository.starts_with(&own) {
                return Err(wrong(format!("`{}` is not of project {project}: write {own}…", grant.repository)));
            }
        }
        let mut random = [0; 32];
        aws_lc_rs::rand::fill(&mut random)
            .map_err(|e| Error::new(Kind::Io, "no random numbers are to be had").caused(e))?;
        let secret = format!("{MARK}{}", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(random));
        let robot = Robot {
            project: project.into(),
            name: name.into(),
            grants,
            scanner,
            created: self.now(),
            expires,
            hash: hash(&secret),
        };
        let change = entries::put(ROBOT, format!("{project}/{name}"), &robot, Expect::Absent)?;
        self.log().append(vec![change]).await.map_err(|error| match error.kind {
            store::Kind::Conflict => {
                let message = format!("robot {project}+{name} is there already: remove it first, or use another name");
                Error::new(Kind::Store(store::Kind::Conflict), message).caused(error)
            }
            _ => error.into(),
        })?;
        Ok((robot, secret))
    }

    /// The robots of a project, or all.
    pub async fn robots(&self, project: Option<&str>) -> Result<Vec<Robot>> {
        let prefix = project.map(|project| format!("{project}/")).unwrap_or_default();
        self.all(ROBOT, &prefix).await?.iter().map(entries::read).collect()
    }

    pub async fn remove_robot(&self, project: &str, name: &str) -> Result<()> {
        match self.log().get(ROBOT, &format!("{project}/{name}")).await? {
            Some(entry) => {
                self.log().append(vec![entries::remove(&entry)]).await?;
                Ok(())
            }
            None => Err(Error::new(Kind::NameUnknown, format!("there is no robot {project}+{name}"))),
        }
    }

    /// The robot of that name, if the secret is its own and it has not ended.
    pub async fn find_robot(&self, user: &str, secret: &str) -> Result<Option<Robot>> {
        let Some((project, name)) = user.split_once('+').filter(|(p, n)| is_name(p) && is_name(n)) else {
            return Ok(None);
        };
        let Some(entry) = self.log().get(ROBOT, &format!("{project}/{name}")).await? else { return Ok(None) };
        let robot: Robot = entries::read(&entry)?;
        let right = constant_time::verify_slices_are_equal(robot.hash.as_bytes(), hash(secret).as_bytes()).is_ok();
        Ok(Some(robot).filter(|robot| right && !robot.is_over(self.now())))
    }

    /// Whether it is there and has not ended: what it was given before it ended holds no longer than itself.
    pub(super) async fn robot_lives(&self, user: &str) -> Result<bool> {
        let Some((project, name)) = user.split_once('+') else { return Ok(false) };
        let Some(entry) = self.log().get(ROBOT, &format!("{project}/{name}")).await? else { return Ok(false) };
        Ok(!entries::read::<Robot>(&entry)?.is_over(self.now()))
    }
}
