//! `shipway rollout …`.

use std::process::ExitCode;

use records::{Name, RolloutState, RunId};

use super::{Client, Connection, output};
use crate::{clock, fault::Result, shipment::Shipment};

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Show the newest release of an environment; with --watch until it has ended
    Status {
        project: Name,
        environment: Name,
        /// Wait until the rollout has ended; exit 1 when it failed
        #[arg(long, short)]
        watch: bool,
        #[command(flatten)]
        connection: Connection,
    },
    /// List all releases of an environment, newest first
    History {
        project: Name,
        environment: Name,
        #[command(flatten)]
        connection: Connection,
    },
    /// Let a run go to an environment that asks for approval
    Approve {
        /// <project>/<build>
        run: RunId,
        environment: Name,
        /// The group, of those that approve for the environment, in whose name
        #[arg(long, value_name = "GROUP")]
        group: String,
        #[command(flatten)]
        connection: Connection,
    },
    /// Bring an earlier release back (the last complete one before the present one, unless --to names it)
    Undo {
        project: Name,
        environment: Name,
        /// Number of the release
        #[arg(long, value_name = "N")]
        to: Option<u64>,
        #[command(flatten)]
        connection: Connection,
    },
}

pub async fn main(command: Command) -> Result<ExitCode> {
    match command {
        Command::Status { project, environment, watch, connection } => {
            let client = Client::connect(&connection)?;
            let path = format!("/api/v1/projects/{project}/environments/{environment}/releases?limit=1");
            let mut said = String::new();
            loop {
                let newest: Vec<Shipment> = client.get(&path).await?;
                let Some(newest) = newest.into_iter().next() else {
                    println!("nothing was released to {project}/{environment} yet");
                    return Ok(ExitCode::SUCCESS);
                };
                let sentence = newest.sentence();
                if !connection.json && sentence != said {
                    println!("{sentence}");
                    said = sentence;
                }
                let state = newest.state();
                if !watch || !matches!(state, "pending" | "progressing") {
                    if connection.json {
                        output::json(&newest)?;
                    }
                    let failed = watch && matches!(state, "failed" | "refused");
                    return Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS });
                }
                tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            }
        }
        Command::History { project, environment, connection } => {
            let path = format!("/api/v1/projects/{project}/environments/{environment}/releases");
            let all: Vec<Shipment> = Client::connect(&connection)?.get(&path).await?;
            if connection.json {
                output::json(&all)?;
            } else {
                let now = clock::now();
                let rows = all.iter().map(|s| {
                    let release = &s.release;
                    let cause = match &release.cause {
                        records::Cause::Run => format!("run {}", release.run),
                        records::Cause::Rollback { of } => format!("rollback of {}", of.number),
                        records::Cause::Undo { by, to } => format!("undo to {} by {by}", to.number),
                    };
                    let note = match s.rollout.as_ref().map(|r| &r.state) {
                        Some(RolloutState::Failed { reason, .. }) => reason.clone(),
                        _ => String::new(),
                    };
                    [
                        release.id.number.to_string(),
                        output::state(s.state()),
                        release.commit.short().to_owned(),
                        cause,
                        output::ago(release.created_at, now),
                        note,
                    ]
                });
                print!("{}", output::table(["RELEASE", "STATE", "COMMIT", "CAUSE", "AGE", "NOTE"], rows));
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Approve { run, environment, group, connection } => {
            let path = format!("/api/v1/projects/{}/runs/{}/approve", run.project, run.build);
            let body = serde_json::json!({ "environment": environment, "group": group });
            let answer = Client::connect(&connection)?.post(&path, &body).await?;
            if connection.json {
                output::json(&answer)?;
            } else {
                println!("{group} lets run {run} go to {environment}");
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Undo { project, environment, to, connection } => {
            let path = format!("/api/v1/projects/{project}/environments/{environment}/undo");
            let answer = Client::connect(&connection)?.post(&path, &serde_json::json!({ "to": to })).await?;
            if connection.json {
                output::json(&answer)?;
            } else {
                println!("release {} was made", answer["release"].as_str().unwrap_or_default());
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}
