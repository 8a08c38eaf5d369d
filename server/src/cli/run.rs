//! `shipway run --local` and `shipway runs …`.

use std::{io::Write, path::PathBuf, process::ExitCode};

use records::{Name, Run, RunId, RunState, StepState};

use super::{Client, Connection, output};
use crate::{
    clock,
    fault::{Class, Fault, Result},
    logs::Line,
};

#[derive(Debug, clap::Args)]
pub struct LocalOptions {
    /// Run on this machine, without a server
    #[arg(long, required = true)]
    pub local: bool,

    /// The working tree
    #[arg(value_name = "DIR", default_value = ".")]
    pub directory: PathBuf,

    /// Only this step or image and what it needs; can be given more than once
    #[arg(long, value_name = "NAME")]
    pub step: Vec<String>,

    /// Where base images, built images and the cache are kept; can be removed at any time
    #[arg(long, value_name = "DIR", env = "SHIPWAY_LOCAL_DATA", default_value = "/var/lib/shipway-local")]
    pub data: PathBuf,

    /// Debian mirror from which base images are assembled
    #[arg(long, value_name = "URL", default_value = "http://deb.debian.org/debian", env = "SHIPWAY_DEBIAN_MIRROR")]
    pub mirror: String,

    /// Directory in which downloaded packages are kept for all of this machine [default: DATA/packages]
    #[arg(long, value_name = "DIR", env = "SHIPWAY_PACKAGE_CACHE")]
    pub package_cache: Option<PathBuf>,

    /// How steps are kept apart from this machine: by namespaces, or only by a root directory of their own
    #[arg(long, value_name = "HOW", default_value = "auto", env = "SHIPWAY_ISOLATION")]
    pub isolation: crate::wiring::Isolation,

    /// Print the run as one JSON object at the end; what its parts say goes to standard error
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List the runs of a project, newest first
    List {
        project: Name,
        #[command(flatten)]
        connection: Connection,
    },
    /// Show a run and its steps
    Show {
        /// <project>/<build>
        run: RunId,
        #[command(flatten)]
        connection: Connection,
    },
    /// Print the log of a step
    Logs {
        /// <project>/<build>
        run: RunId,
        step: String,
        /// Go on until the step has ended
        #[arg(long, short)]
        follow: bool,
        #[command(flatten)]
        connection: Connection,
    },
    /// Stop a run
    Cancel {
        /// <project>/<build>
        run: RunId,
        #[command(flatten)]
        connection: Connection,
    },
}

pub async fn local(options: LocalOptions) -> Result<ExitCode> {
    super::trace_to_stderr("error");
    let local = crate::wiring::run_local(&options).await?;
    if options.json {
        output::json(&local.run)?;
    } else {
        let _ = std::io::stdout().write_all(super::live::summary(&local.run, &local.images).as_bytes());
    }
    Ok(match local.run.state {
        RunState::Passed { .. } => ExitCode::SUCCESS,
        RunState::Cancelled { ref by, .. } => {
            crate::wiring::signal_of(by).map_or(ExitCode::FAILURE, |signal| ExitCode::from(128 + signal))
        }
        _ => ExitCode::FAILURE,
    })
}

pub async fn main(command: Command) -> Result<ExitCode> {
    match command {
        Command::List { project, connection } => {
            let runs: Vec<Run> = Client::connect(&connection)?.get(&format!("/api/v1/projects/{project}/runs")).await?;
            if connection.json {
                output::json(&runs)?;
            } else {
                let now = clock::now();
                let rows = runs.iter().map(|run| {
                    let commit = run.commit.short().to_owned();
                    [run.id.to_string(), output::state(run.state.name()), commit, output::ago(run.created_at, now)]
                });
                print!("{}", output::table(["RUN", "STATE", "COMMIT", "AGE"], rows));
            }
        }
        Command::Show { run, connection } => {
            let run: Run = Client::connect(&connection)?
                .get(&format!("/api/v1/projects/{}/runs/{}", run.project, run.build))
                .await?;
            if connection.json {
                output::json(&run)?;
            } else {
                print!("{}", describe(&run));
            }
        }
        Command::Logs { run, step, follow, connection } => {
            let client = Client::connect(&connection)?;
            let step = urlencode(&step);
            let path = format!("/api/v1/projects/{}/runs/{}/logs/{step}?follow={follow}", run.project, run.build);
            let mut response = client.send(reqwest::Method::GET, &path, None).await?;
            let mut rest = Vec::new();
            while let Some(chunk) = response.chunk().await.map_err(|e| Fault::from_error(Class::Unavailable, &e))? {
                rest.extend_from_slice(&chunk);
                while let Some(end) = rest.iter().position(|b| *b == b'\n') {
                    let line: Vec<u8> = rest.drain(..=end).collect();
                    print_line(&line, connection.json);
                }
            }
        }
        Command::Cancel { run, connection } => {
            let path = format!("/api/v1/projects/{}/runs/{}/cancel", run.project, run.build);
            let answer = Client::connect(&connection)?.post(&path, &serde_json::json!({})).await?;
            if connection.json {
                output::json(&answer)?;
            } else {
                println!("run {run} is cancelled");
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn print_line(line: &[u8], json: bool) {
    match (json, serde_json::from_slice::<Line>(line)) {
        (false, Ok(line)) => println!("{}", line.text),
        _ => print!("{}", String::from_utf8_lossy(line)),
    }
}

/// A step's name as one segment of a path.
pub fn urlencode(text: &str) -> String {
    let keep = |b: &u8| b.is_ascii_alphanumeric() || b"-_.~".contains(b);
    text.bytes().map(|b| if keep(&b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

fn describe(run: &Run) -> String {
    let mut text = format!("run     {}\ncommit  {}\nstate   {}\n", run.id, run.commit, output::state(run.state.name()));
    if let RunState::Failed { reason, .. } = &run.state {
        text.push_str(&format!("reason  {reason}\n"));
    }
    let rows = run.steps.iter().map(|step| {
        let note = match &step.state {
            StepState::Failed { reason, .. } => reason.clone(),
            StepState::Skipped { because } => because.clone(),
            StepState::Passed { cached: true, .. } => "cached".into(),
            _ => String::new(),
        };
        let tests =
            step.tests.as_ref().map(|t| format!("{} passed, {} failed", t.passed, t.failed)).unwrap_or_default();
        [step.name.clone(), output::state(step.state.name()), tests, note]
    });
    text.push('\n');
    text.push_str(&output::table(["STEP", "STATE", "TESTS", "NOTE"], rows));
    text
}
