//! What is done now and then so that a server that runs for years stays as it was: never while somebody waits for it.

use std::{sync::Arc, time::Duration};

use tokio::time::MissedTickBehavior;

use crate::app::App;

/// How often.
const PERIOD: Duration = Duration::from_secs(60 * 60);
/// A server that has just started has other things to do.
const FIRST: Duration = Duration::from_secs(10 * 60);

/// Starts it; the app's supervisor owns it.
pub fn start(app: &Arc<App>) {
    let (owner, app) = (app.clone(), app.clone());
    let cancel = app.supervisor.token();
    owner.supervisor.spawn("housekeeping", async move {
        let mut period = tokio::time::interval_at(tokio::time::Instant::now() + FIRST, PERIOD);
        period.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                _ = period.tick() => {}
            }
            // Cut short by the end of the server, it is done again an hour after the next start: every effect can be repeated.
            tokio::select! {
                () = cancel.cancelled() => return,
                () = pack(&app) => {}
            }
        }
    });
}

/// Packs what pushes have left loose in the repositories, one after the other.
async fn pack(app: &App) {
    let projects = match app.rooms.repositories.list() {
        Ok(projects) => projects,
        Err(error) => return tracing::warn!(%error, "cannot list the repositories"),
    };
    for project in projects {
        if let Err(error) = app.rooms.repositories.maintain(&project).await {
            tracing::warn!(%project, %error, "cannot pack a repository");
        }
    }
}
