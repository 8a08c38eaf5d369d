//! Owns every background task of the server: none outlives it, each is told why it has to end.

use std::{future::Future, sync::Mutex, time::Duration};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// A group of tasks with one way to end them.
pub struct Supervisor {
    tasks: Mutex<JoinSet<&'static str>>,
    cancel: CancellationToken,
}

impl Supervisor {
    pub fn new() -> Self {
        Self { tasks: Mutex::new(JoinSet::new()), cancel: CancellationToken::new() }
    }

    /// Is cancelled when the server is to end; work that must not be cut short ignores it and is given the cleanup deadline.
    pub fn token(&self) -> CancellationToken {
        self.cancel.clone()
    }

    /// Runs a task until it ends by itself or sees the token cancelled.
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        while tasks.try_join_next().is_some() {}
        tasks.spawn(async move {
            task.await;
            name
        });
    }

    /// Cancels all tasks and waits for them; after `deadline` the rest is aborted and named in the log.
    pub async fn shutdown(&self, reason: &str, deadline: Duration) {
        tracing::info!(reason, "stopping");
        self.cancel.cancel();
        let mut tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(|poisoned| poisoned.into_inner()));
        let all = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(deadline, all).await.is_err() {
            tracing::warn!(left = tasks.len(), "tasks did not end in time and are aborted");
            tasks.shutdown().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_task_that_does_not_listen_is_aborted_at_the_deadline() {
        let supervisor = Supervisor::new();
        let token = supervisor.token();
        supervisor.spawn("listens", async move { token.cancelled().await });
        supervisor.spawn("deaf", std::future::pending());
        let before = tokio::time::Instant::now();
        supervisor.shutdown("test", Duration::from_secs(3)).await;
        assert_eq!(before.elapsed().as_secs(), 3);
    }
}
