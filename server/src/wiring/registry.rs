//! Who may use the registry: everybody may pull, whoever has the token may push and delete.

use async_trait::async_trait;
use image::registry::http::{Action, Authorize, Decision, Scope};

use crate::token::Token;

/// The registry's rule on this installation.
pub struct TokenPushes(pub Token);

/// Repositories that Shipway itself fills: nobody pushes there by hand.
const OWN: &str = "base/";

#[async_trait]
impl Authorize for TokenPushes {
    async fn authorize(&self, authorization: Option<&str>, scope: Scope<'_>) -> Decision {
        let known = self.0.authorizes(authorization);
        match (scope.action, authorization) {
            // Clients send credentials later only if they were asked for here; wrong ones are said to be wrong at once.
            (Action::Ping, Some(_)) if !known => Decision::Challenge,
            (Action::Ping, None) => Decision::Challenge,
            (Action::Ping | Action::Pull | Action::Catalog, _) => Decision::Allow,
            (Action::Push | Action::Delete, _) if !known => Decision::Challenge,
            (Action::Push | Action::Delete, _) if scope.repository.is_some_and(|name| name.starts_with(OWN)) => {
                Decision::Denied("base images are assembled by Shipway itself; push to another repository".into())
            }
            (Action::Push | Action::Delete, _) => Decision::Allow,
        }
    }
}
