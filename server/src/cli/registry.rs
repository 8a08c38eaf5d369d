//! `shipway registry …`.

use std::{io::Read, process::ExitCode};

use image::registry::{
    cleanup::{Keep, Retention},
    robots::{Grant, Verb},
};
use serde_json::{Value, json};

use super::{Client, Connection, output, urlencode};
use crate::{
    clock,
    fault::{Class, Fault, Result},
};

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Remove what the rules do not keep and what nothing names; pushes and pulls go on meanwhile
    Gc {
        /// Only say what would go
        #[arg(long)]
        dry_run: bool,
        /// How long a repository holds what no manifest names, for example 24h
        #[arg(long, value_name = "TIME", value_parser = seconds)]
        grace: Option<u64>,
        /// How long content stays that no record names
        #[arg(long, value_name = "TIME", value_parser = seconds)]
        lease: Option<u64>,
        #[command(flatten)]
        connection: Connection,
    },
    /// Say what is kept of repositories (a part of their names, or `*` for all)
    #[command(subcommand)]
    Retention(RetentionCommand),
    /// Tokens for programs
    #[command(subcommand)]
    Robot(RobotCommand),
    /// Everything that holds for repositories, as JSON
    #[command(subcommand)]
    Settings(SettingsCommand),
    /// Who pushed, pulled and deleted what
    Events {
        /// Only repositories whose names begin so
        #[arg(default_value = "")]
        prefix: String,
        /// How far back, for example 24h
        #[arg(long, value_name = "TIME", value_parser = seconds, default_value = "24h")]
        since: u64,
        #[command(flatten)]
        connection: Connection,
    },
}

#[derive(Debug, clap::Subcommand)]
pub enum RetentionCommand {
    /// Set the rule of a part of the registry
    Set {
        part: String,
        /// The newest so many tags stay
        #[arg(long, value_name = "N")]
        keep_last: Option<usize>,
        /// Tags set in this time stay, for example 30d
        #[arg(long, value_name = "TIME", value_parser = seconds)]
        younger: Option<u64>,
        /// The tags that this is about; `*` stands for anything
        #[arg(long, value_name = "PATTERN", default_value = "*")]
        tags: String,
        /// Tags that stay whatever their number and age
        #[arg(long, value_name = "PATTERN")]
        always: Vec<String>,
        /// Manifests without a tag go after this time
        #[arg(long, value_name = "TIME", value_parser = seconds)]
        untagged: Option<u64>,
        #[command(flatten)]
        connection: Connection,
    },
    /// Keep everything again
    Rm {
        part: String,
        #[command(flatten)]
        connection: Connection,
    },
}

#[derive(Debug, clap::Subcommand)]
pub enum RobotCommand {
    /// Make a token; its secret is shown this once
    Create {
        project: String,
        name: String,
        /// May push, too
        #[arg(long)]
        push: bool,
        /// May delete, too
        #[arg(long)]
        delete: bool,
        /// May pull what is in quarantine
        #[arg(long)]
        scanner: bool,
        /// Repositories of the project; `*` stands for anything
        #[arg(long, value_name = "PATTERN", default_value = "*")]
        repository: Vec<String>,
        /// When it ends, for example 90d
        #[arg(long, value_name = "TIME", value_parser = seconds)]
        expires: Option<u64>,
        #[command(flatten)]
        connection: Connection,
    },
    /// List tokens
    Ls {
        project: Option<String>,
        #[command(flatten)]
        connection: Connection,
    },
    /// Take a token away
    Rm {
        project: String,
        name: String,
        #[command(flatten)]
        connection: Connection,
    },
}

#[derive(Debug, clap::Subcommand)]
pub enum SettingsCommand {
    /// Show all settings, or those of a part
    Show {
        part: Option<String>,
        #[command(flatten)]
        connection: Connection,
    },
    /// Set what standard input holds, as JSON, for a part of the names (`*` for all)
    Set {
        part: String,
        #[command(flatten)]
        connection: Connection,
    },
    /// Forget the settings of a part
    Rm {
        part: String,
        #[command(flatten)]
        connection: Connection,
    },
}

/// `90`, `30m`, `24h`, `7d` in seconds.
fn seconds(text: &str) -> std::result::Result<u64, String> {
    let wrong = || format!("`{text}` is no time: write for example 90s, 30m, 24h or 7d");
    let (number, unit) = match text.char_indices().find(|(_, c)| !c.is_ascii_digit()) {
        Some((at, _)) => text.split_at(at),
        None => (text, "s"),
    };
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit)).ok_or_else(wrong)
}

fn path(part: &str) -> String {
    let part = if part == "*" { "" } else { part };
    format!("/api/v1/registry/settings?part={}", urlencode(part))
}

pub async fn main(command: Command) -> Result<ExitCode> {
    match command {
        Command::Gc { dry_run, grace, lease, connection } => {
            let mut asked = json!({ "dryRun": dry_run });
            grace.into_iter().for_each(|grace| asked["graceS"] = grace.into());
            lease.into_iter().for_each(|lease| asked["leaseS"] = lease.into());
            let report = Client::connect(&connection)?.post("/api/v1/registry/cleanup", &asked).await?;
            if connection.json { output::json(&report)? } else { tell(&report) }
        }
        Command::Retention(command) => retention(command).await?,
        Command::Robot(command) => robot(command).await?,
        Command::Settings(command) => settings(command).await?,
        Command::Events { prefix, since, connection } => {
            let path = format!("/api/v1/registry/events?prefix={}&hours={}", urlencode(&prefix), since.div_ceil(3600));
            let events: Vec<Value> = Client::connect(&connection)?.get(&path).await?;
            if connection.json {
                output::json(&events)?;
            } else {
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                let rows = events.iter().map(|event| {
                    let who = text(&event["who"]);
                    let who = if who.is_empty() { "anybody".to_owned() } else { who };
                    let name = event["tag"].as_str().or(event["digest"].as_str()).unwrap_or_default().to_owned();
                    [text(&event["at"]), who, text(&event["action"]), text(&event["repository"]), name]
                });
                print!("{}", output::table(["AT", "WHO", "DID", "REPOSITORY", "WHAT"], rows));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn tell(report: &Value) {
    let count = |name: &str| report[name].as_u64().unwrap_or_default();
    for gone in report["gone"].as_array().into_iter().flatten() {
        let text = |name: &str| gone[name].as_str().unwrap_or_default();
        println!("{} {} of {}: {}", text("what"), text("name"), text("repository"), text("why"));
    }
    let goes = if report["dryRun"] == true { "would go" } else { "went" };
    println!(
        "{goes}: {} tags, {} manifests, {} blobs that repositories held; of {} blobs in the store {} with {} bytes; {} more wait",
        count("tags"),
        count("manifests"),
        count("links"),
        count("stored"),
        count("blobs"),
        count("bytes"),
        count("waiting"),
    );
    if count("failed") > 0 {
        println!("{} could not be cleaned up this time; the server's log says why", count("failed"));
    }
}

/// Changes one of the settings of a part and leaves the others.
async fn change(client: &Client, part: &str, name: &str, value: Option<Value>) -> Result<()> {
    let all: Value = client.get("/api/v1/registry/settings").await?;
    let key = if part == "*" { "" } else { part };
    let mut settings = all[key].as_object().cloned().unwrap_or_default();
    match value {
        Some(value) => drop(settings.insert(name.into(), value)),
        None => drop(settings.remove(name)),
    }
    client.send(reqwest::Method::PUT, &path(part), Some(&Value::Object(settings))).await.map(drop)
}

async fn retention(command: RetentionCommand) -> Result<()> {
    match command {
        RetentionCommand::Set { part, keep_last, younger, tags, always, untagged, connection } => {
            let mut keep: Vec<Keep> = Vec::new();
            if keep_last.is_some() || younger.is_some() {
                keep.push(Keep { tags, last: keep_last, younger_s: younger });
            }
            keep.extend(always.into_iter().map(|tags| Keep { tags, last: None, younger_s: None }));
            if keep.is_empty() && untagged.is_none() {
                return Err(
                    Fault::usage("this rule would remove nothing").hint("give --keep-last, --younger or --untagged")
                );
            }
            let rule = Retention { keep, untagged_s: untagged };
            change(&Client::connect(&connection)?, &part, "retention", Some(json!(rule))).await?;
            println!("the rule of {part} is set; `shipway registry gc --dry-run` shows what would go");
        }
        RetentionCommand::Rm { part, connection } => {
            change(&Client::connect(&connection)?, &part, "retention", None).await?;
            println!("everything of {part} is kept");
        }
    }
    Ok(())
}

async fn robot(command: RobotCommand) -> Result<()> {
    match command {
        RobotCommand::Create { project, name, push, delete, scanner, repository, expires, connection } => {
            let mut actions = vec![Verb::Pull];
            actions.extend(push.then_some(Verb::Push));
            actions.extend(delete.then_some(Verb::Delete));
            let own = |pattern: String| match pattern.starts_with(&format!("{project}/")) || pattern == "*" {
                true => pattern,
                false => format!("{project}/{pattern}"),
            };
            let grants: Vec<Grant> = repository
                .into_iter()
                .map(|pattern| Grant { repository: own(pattern), actions: actions.clone() })
                .collect();
            let ends = expires.and_then(|s| clock::now().checked_add(std::time::Duration::from_secs(s)).ok());
            let body =
                json!({ "project": project, "name": name, "grants": grants, "scanner": scanner, "expires": ends });
            let robot = Client::connect(&connection)?.post("/api/v1/registry/robots", &body).await?;
            if connection.json {
                return output::json(&robot);
            }
            let text = |name: &str| robot[name].as_str().unwrap_or_default().to_owned();
            println!("user      {}\npassword  {}\n\nThe password is not shown again.", text("user"), text("secret"));
        }
        RobotCommand::Ls { project, connection } => {
            let of = project.map(|project| format!("?project={}", urlencode(&project))).unwrap_or_default();
            let robots: Vec<Value> = Client::connect(&connection)?.get(&format!("/api/v1/registry/robots{of}")).await?;
            if connection.json {
                return output::json(&robots);
            }
            let rows = robots.iter().map(|robot| {
                let grants = robot["grants"].as_array().into_iter().flatten().map(|grant| {
                    let actions = grant["actions"].as_array().into_iter().flatten().filter_map(Value::as_str);
                    let actions: Vec<&str> = actions.collect();
                    format!("{}:{}", grant["repository"].as_str().unwrap_or_default(), actions.join(","))
                });
                let expires = robot["expires"].as_str().unwrap_or("never").to_owned();
                let user = robot["user"].as_str().unwrap_or_default().to_owned();
                let scanner = if robot["scanner"] == true { "scanner" } else { "" };
                [user, grants.collect::<Vec<_>>().join(" "), expires, scanner.to_owned()]
            });
            print!("{}", output::table(["USER", "MAY", "ENDS", ""], rows));
        }
        RobotCommand::Rm { project, name, connection } => {
            let path = format!("/api/v1/registry/robots/{}/{}", urlencode(&project), urlencode(&name));
            Client::connect(&connection)?.send(reqwest::Method::DELETE, &path, None).await?;
            println!("robot {project}+{name} is gone");
        }
    }
    Ok(())
}

async fn settings(command: SettingsCommand) -> Result<()> {
    match command {
        SettingsCommand::Show { part, connection } => {
            let all: Value = Client::connect(&connection)?.get("/api/v1/registry/settings").await?;
            let Some(part) = part else { return output::json(&all) };
            let found = &all[if part == "*" { "" } else { part.as_str() }];
            if found.is_null() {
                return Err(Fault::new(Class::NotFound, format!("nothing is set for {part}")));
            }
            output::json(found)?;
        }
        SettingsCommand::Set { part, connection } => {
            let mut text = String::new();
            let read = std::io::stdin().take(1 << 20).read_to_string(&mut text);
            read.map_err(|e| Fault::usage(format!("cannot read standard input: {e}")))?;
            let value: Value =
                serde_json::from_str(&text).map_err(|e| Fault::usage(format!("standard input is no JSON: {e}")))?;
            Client::connect(&connection)?.send(reqwest::Method::PUT, &path(&part), Some(&value)).await?;
            println!("it is set for {part}");
        }
        SettingsCommand::Rm { part, connection } => {
            Client::connect(&connection)?.send(reqwest::Method::DELETE, &path(&part), None).await?;
            println!("nothing is set for {part}");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::seconds;

    #[test]
    fn times_have_units() {
        assert_eq!(["90", "30m", "24h", "7d", "5s"].map(|text| seconds(text).unwrap()), [90, 1800, 86_400, 604_800, 5]);
        for bad in ["", "d", "1w", "1.5h", "99999999999999999999d"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
