//! Waiting with an end, and with a message that says what was waited for and what there was instead.

use std::time::Duration;

use tokio::time::Instant;

/// Asks again and again until there is an answer. After `limit` it panics with the last thing that was said instead.
#[track_caller]
pub fn wait_for<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Result<T, String>) -> T {
    let started = Instant::now();
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(instead) if started.elapsed() > limit => panic!("{what}: not within {limit:?}; instead {instead}"),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}
