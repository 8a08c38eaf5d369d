//! The one place that reads the wall clock. Everything else is given `now`.

use std::sync::Arc;

use records::Timestamp;

/// Gives the current time.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The clock of this machine.
pub fn system() -> Clock {
    Arc::new(now)
}

/// The time of this machine.
#[allow(clippy::disallowed_methods, reason = "the one clock")]
pub fn now() -> Timestamp {
    Timestamp::now()
}
