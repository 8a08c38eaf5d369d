//! Who looks at a page, and when: what every page needs and no page is about.

use std::future::Future;

use records::Timestamp;

/// The eyes that a page is made for.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    pub now: Timestamp,
    /// Whether the person may write.
    pub signed_in: bool,
}

tokio::task_local! {
    static SEEN: Seen;
}

impl Seen {
    /// Answers a request whose pages are made for these eyes.
    pub async fn by<F: Future>(self, answer: F) -> F::Output {
        SEEN.scope(self, answer).await
    }
}

/// Whether the person who looks may write.
pub fn signed_in() -> bool {
    SEEN.try_with(|seen| seen.signed_in).unwrap_or(false)
}

/// When the page is looked at.
pub fn now() -> Timestamp {
    SEEN.try_with(|seen| seen.now).unwrap_or(Timestamp::UNIX_EPOCH)
}
