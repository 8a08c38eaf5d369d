//! Cancellation that says why.

use std::sync::{Arc, OnceLock};

use tokio_util::sync::CancellationToken;

/// A cancellation token with the reason of who pulled it. Clones are the same switch.
#[derive(Debug, Clone, Default)]
pub struct Cancel {
    token: CancellationToken,
    reason: Arc<OnceLock<String>>,
}

impl Cancel {
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancels. The first reason stays, for example `by admin`.
    pub fn cancel(&self, reason: impl Into<String>) {
        // A later caller finds the reason set: the first one is what happened.
        let _ = self.reason.set(reason.into());
        self.token.cancel();
    }

    pub fn is_cancelled(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Ends when it is cancelled.
    pub async fn cancelled(&self) {
        self.token.cancelled().await;
    }

    /// Why, once it is cancelled.
    pub fn reason(&self) -> &str {
        self.reason.get().map_or("no reason was given", String::as_str)
    }

    pub fn token(&self) -> &CancellationToken {
        &self.token
    }
}

impl From<CancellationToken> for Cancel {
    fn from(token: CancellationToken) -> Self {
        Self { token, reason: Arc::default() }
    }
}
