//! `shipway project …` and `shipway secret …`.

use std::{io::Read, process::ExitCode};

use records::{Name, Project};

use super::{Client, Connection, output};
use crate::{
    clock,
    fault::{Fault, Result},
};

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Make a project and print the address to push to
    Create {
        name: Name,
        #[command(flatten)]
        connection: Connection,
    },
    /// List all projects
    List {
        #[command(flatten)]
        connection: Connection,
    },
}

#[derive(Debug, clap::Subcommand)]
pub enum SecretCommand {
    /// Set a secret to what standard input holds (one final line break is not part of it)
    Set {
        project: Name,
        /// As steps name it, for example NPM_TOKEN
        name: String,
        #[command(flatten)]
        connection: Connection,
    },
}

pub async fn main(command: Command) -> Result<ExitCode> {
    match command {
        Command::Create { name, connection } => {
            let answer =
                Client::connect(&connection)?.post("/api/v1/projects", &serde_json::json!({ "name": name })).await?;
            if connection.json {
                output::json(&answer)?;
            } else {
                let url = answer["git"].as_str().unwrap_or_default();
                println!("project {name} is there; push to it with\n  git push {url} main");
            }
        }
        Command::List { connection } => {
            let projects: Vec<Project> = Client::connect(&connection)?.get("/api/v1/projects").await?;
            if connection.json {
                output::json(&projects)?;
            } else {
                let now = clock::now();
                let rows = projects
                    .iter()
                    .map(|p| [p.name.to_string(), p.default_branch.clone(), output::ago(p.created_at, now)]);
                print!("{}", output::table(["NAME", "BRANCH", "AGE"], rows));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub async fn secret(command: SecretCommand) -> Result<ExitCode> {
    let SecretCommand::Set { project, name, connection } = command;
    let mut value = String::new();
    std::io::stdin()
        .take(64 << 10)
        .read_to_string(&mut value)
        .map_err(|e| Fault::usage(format!("cannot read the secret from standard input: {e}")))?;
    let value = value.strip_suffix('\n').unwrap_or(&value);
    let path = format!("/api/v1/projects/{project}/secrets/{name}");
    let body = serde_json::json!({ "value": value });
    Client::connect(&connection)?.send(reqwest::Method::PUT, &path, Some(&body)).await?;
    if !connection.json {
        println!("secret {name} of project {project} is set");
    }
    Ok(ExitCode::SUCCESS)
}
