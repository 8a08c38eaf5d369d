//! The registry's own way of letting people and programs in: the administrator, robots, and whoever a repository is open to.

use std::sync::Arc;

use async_trait::async_trait;
use records::Timestamp;

use super::{
    Action, Authorize, Caller, Decision, Scope,
    authorize::basic,
    tokens::{Access, Claims, LIFE_S, Signer, parse_scope},
};
use crate::{
    Result,
    registry::{
        Registry,
        robots::{Robot, Verb},
    },
};

/// Scopes that one token names at most.
const MAX_SCOPES: usize = 20;

/// Whether a text is the administrator's token.
pub type IsAdmin = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// Lets in by the records of a registry.
pub struct Door {
    registry: Registry,
    signer: Signer,
    is_admin: IsAdmin,
    /// Repositories that nobody changes by hand, by the beginning of their names, and why.
    closed: Vec<(String, String)>,
}

enum Who {
    Nobody,
    /// Somebody whose credentials are wrong or have ended.
    Wrong,
    Admin,
    Robot(Robot),
    Token(Claims),
}

impl Door {
    pub fn new(registry: Registry, is_admin: IsAdmin) -> Result<Self> {
        Ok(Self { registry, signer: Signer::new()?, is_admin, closed: Vec::new() })
    }

    /// Nobody pushes to repositories whose names begin so, or deletes there; `why` is a sentence.
    pub fn close(mut self, prefix: &str, why: &str) -> Self {
        self.closed.push((prefix.to_owned(), why.to_owned()));
        self
    }

    async fn who(&self, authorization: Option<&str>) -> Who {
        let Some(authorization) = authorization else { return Who::Nobody };
        if let Some((user, password)) = basic(authorization) {
            if user == "admin" {
                return if (self.is_admin)(&password) { Who::Admin } else { Who::Wrong };
            }
            return match self.registry.find_robot(&user, &password).await {
                Ok(Some(robot)) => Who::Robot(robot),
                Ok(None) => Who::Wrong,
                Err(error) => {
                    tracing::error!(%error, "cannot look for a robot");
                    Who::Wrong
                }
            };
        }
        let Some((scheme, token)) = authorization.split_once(' ') else { return Who::Wrong };
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Who::Wrong;
        }
        let token = token.trim();
        if (self.is_admin)(token) {
            return Who::Admin;
        }
        match self.signer.verify(token, self.registry.now()) {
            Some(claims) if claims.sub.contains('+') => match self.registry.robot_lives(&claims.sub).await {
                Ok(true) => Who::Token(claims),
                _ => Who::Wrong,
            },
            Some(claims) => Who::Token(claims),
            None => Who::Wrong,
        }
    }

    async fn is_open(&self, repository: &str, verb: Verb) -> bool {
        verb == Verb::Pull && self.registry.settings(repository).await.is_ok_and(|settings| settings.anonymous_pull)
    }

    /// Whether somebody may do something, by what is written down.
    async fn may(&self, who: &Who, repository: &str, verb: Verb) -> bool {
        match who {
            Who::Wrong => false,
            Who::Admin => true,
            Who::Nobody => self.is_open(repository, verb).await,
            Who::Robot(robot) => robot.may(repository, verb) || self.is_open(repository, verb).await,
            Who::Token(claims) => {
                let mut given = claims.access.iter().filter(|access| access.name == repository);
                // Nobody may less than those who did not say who they are.
                given.any(|access| access.actions.contains(&verb)) || self.is_open(repository, verb).await
            }
        }
    }
}

#[async_trait]
impl Authorize for Door {
    async fn authorize(&self, authorization: Option<&str>, scope: Scope<'_>) -> Decision {
        let who = self.who(authorization).await;
        let (Some(repository), Some(verb)) = (scope.repository, Verb::of(scope.action)) else {
            return match who {
                // Clients send credentials later only if they were asked for here; wrong ones are said to be wrong at once.
                Who::Wrong => Decision::Challenge,
                Who::Nobody if scope.action == Action::Ping => Decision::Challenge,
                Who::Nobody | Who::Token(_) | Who::Robot(_) => match self.registry.settings("").await {
                    Ok(settings) if scope.action == Action::Ping || settings.anonymous_pull => Decision::Allow,
                    _ => Decision::Challenge,
                },
                Who::Admin => Decision::Allow,
            };
        };
        if !self.may(&who, repository, verb).await {
            let refusal = |user: &str| Decision::Denied(format!("{user} may not {} {repository}", said(verb)));
            return match &who {
                Who::Robot(robot) => refusal(&format!("robot {}", robot.user())),
                Who::Token(claims) => {
                    let mut asked = claims.access.iter().filter(|access| access.name == repository);
                    match asked.any(|access| access.refused.contains(&verb)) && !claims.sub.is_empty() {
                        true => refusal(&format!("robot {}", claims.sub)),
                        // It can ask for more.
                        false => Decision::Challenge,
                    }
                }
                _ => Decision::Challenge,
            };
        }
        let closed =
            self.closed.iter().find(|(prefix, _)| verb != Verb::Pull && repository.starts_with(prefix.as_str()));
        match closed {
            Some((_, why)) => Decision::Denied(why.clone()),
            None => Decision::Allow,
        }
    }

    async fn caller(&self, authorization: Option<&str>) -> Caller {
        match self.who(authorization).await {
            Who::Nobody | Who::Wrong => Caller::default(),
            Who::Admin => Caller { name: "admin".into(), scanner: false },
            Who::Robot(robot) => Caller { name: robot.user(), scanner: robot.scanner },
            Who::Token(claims) => Caller { name: claims.sub, scanner: claims.scanner },
        }
    }

    fn challenges(&self, base: &str, scope: Scope<'_>) -> Vec<String> {
        let mut bearer = format!("Bearer realm=\"{base}/v2/token\",service=\"shipway\"");
        if let (Some(repository), Some(verb)) = (scope.repository, Verb::of(scope.action)) {
            let actions = match verb {
                Verb::Pull => "pull",
                Verb::Push => "pull,push",
                Verb::Delete => "delete",
            };
            bearer += &format!(",scope=\"repository:{repository}:{actions}\"");
        }
        // Nothing besides, though Basic is taken: dockerd uses every way that is offered, so that nobody without credentials could pull, and
        // simple clients take the two for one.
        vec![bearer]
    }

    async fn token(&self, authorization: Option<&str>, scopes: &[String]) -> Result<Option<super::Issued>> {
        let who = self.who(authorization).await;
        let (sub, scanner, ends) = match &who {
            Who::Wrong | Who::Token(_) => return Ok(None),
            Who::Nobody => (String::new(), false, None),
            Who::Admin => ("admin".to_owned(), false, None),
            Who::Robot(robot) => (robot.user(), robot.scanner, robot.expires),
        };
        let mut access = Vec::new();
        for (name, verbs) in scopes.iter().take(MAX_SCOPES).filter_map(|scope| parse_scope(scope)) {
            let (mut actions, mut refused) = (Vec::new(), Vec::new());
            for verb in verbs {
                if self.may(&who, &name, verb).await { actions.push(verb) } else { refused.push(verb) }
            }
            access.push(Access { r#type: "repository".into(), name, actions, refused });
        }
        let now = self.registry.now();
        let exp = (now.as_second() + LIFE_S).min(ends.map_or(i64::MAX, Timestamp::as_second));
        let token = self.signer.sign(&Claims { sub, exp, access, scanner })?;
        Ok(Some(super::Issued { token, expires_in: exp - now.as_second(), issued_at: now }))
    }
}

fn said(verb: Verb) -> &'static str {
    match verb {
        Verb::Pull => "pull from",
        Verb::Push => "push to",
        Verb::Delete => "delete from",
    }
}
