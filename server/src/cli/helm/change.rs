//! `helm rollback`, `helm uninstall` and `helm test`.

use std::process::ExitCode;

use clap::Args;
use helm::{Rollback, Testing, Uninstall};

use super::{
    connect::Target,
    flags::{self, Format, Trial, Waiting, Writing},
    print, say, show,
};
use crate::fault::{Fault, Result};

// Flags of `helm rollback`.
#[derive(Debug, Args)]
pub struct RollbackOptions {
    name: String,
    /// The one before the newest if none is given
    revision: Option<u64>,
    /// Only try
    #[arg(long, value_enum, value_name = "HOW", num_args = 0..=1, require_equals = true, default_missing_value = "client")]
    dry_run: Option<Trial>,
    /// Without hooks
    #[arg(long)]
    no_hooks: bool,
    /// With --wait: until Jobs have ended, too
    #[arg(long)]
    wait_for_jobs: bool,
    /// Delete what the rollback made when it fails
    #[arg(long)]
    cleanup_on_fail: bool,
    /// Say this of the revision
    #[arg(long, default_value = "", hide_default_value = true)]
    description: String,
    /// The most revisions to keep; 0 keeps all
    #[arg(long, value_name = "N", default_value_t = 10, env = "HELM_MAX_HISTORY", hide_env = true)]
    history_max: usize,
    #[command(flatten)]
    waiting: Waiting,
    #[command(flatten)]
    writing: Writing,
    #[command(flatten)]
    target: Target,
}

/// Carries out `helm rollback`.
pub async fn rollback(options: &RollbackOptions) -> Result<ExitCode> {
    let helm = options.target.helm(&options.name).await?;
    let rollback = Rollback {
        name: options.name.clone(),
        revision: options.revision,
        dry_run: Trial::dry_run(options.dry_run),
        no_hooks: options.no_hooks,
        wait: options.waiting.strategy(),
        wait_for_jobs: options.wait_for_jobs,
        timeout: options.waiting.timeout,
        description: options.description.clone(),
        cleanup_on_fail: options.cleanup_on_fail,
        force_replace: options.writing.force_replace,
        force_conflicts: options.writing.force_conflicts,
        server_side: options.writing.server_side(),
        history_max: options.history_max,
    };
    helm.rollback(&rollback).await.map_err(flags::fault)?;
    print("Rollback was a success! Happy Helming!\n")
}

// Flags of `helm uninstall`.
#[derive(Debug, Args)]
pub struct UninstallOptions {
    #[arg(required = true)]
    names: Vec<String>,
    /// Only try
    #[arg(long)]
    dry_run: bool,
    /// Without hooks
    #[arg(long)]
    no_hooks: bool,
    /// No release is as good as an uninstalled one
    #[arg(long)]
    ignore_not_found: bool,
    /// Keep the revisions, the newest as uninstalled
    #[arg(long)]
    keep_history: bool,
    /// What becomes of the objects' dependents: background, foreground or orphan
    #[arg(long, value_name = "HOW", default_value = "background")]
    cascade: String,
    /// Say this of the revision
    #[arg(long, default_value = "", hide_default_value = true)]
    description: String,
    #[command(flatten)]
    waiting: Waiting,
    #[command(flatten)]
    target: Target,
}

/// Carries out `helm uninstall`.
pub async fn uninstall(options: &UninstallOptions) -> Result<ExitCode> {
    let helm = options.target.helm(&options.names.join(", ")).await?;
    for name in &options.names {
        let uninstall = Uninstall {
            name: name.clone(),
            dry_run: options.dry_run,
            no_hooks: options.no_hooks,
            ignore_not_found: options.ignore_not_found,
            keep_history: options.keep_history,
            wait: options.waiting.strategy(),
            cascade: options.cascade.clone(),
            timeout: options.waiting.timeout,
            description: options.description.clone(),
        };
        let done = helm.uninstall(&uninstall).await.map_err(flags::fault)?;
        if let Some(done) = done.filter(|done| !done.info.is_empty()) {
            say(&done.info);
        }
        say(format!("release \"{name}\" uninstalled"));
    }
    Ok(ExitCode::SUCCESS)
}

// Flags of `helm test`.
#[derive(Debug, Args)]
pub struct TestOptions {
    name: String,
    /// Only tests named so (name=NAME), or all but those (!name=NAME)
    #[arg(long, value_name = "FILTER", value_delimiter = ',')]
    filter: Vec<String>,
    /// Print what the tests' pods wrote
    #[arg(long)]
    logs: bool,
    /// How long each wait may take
    #[arg(long, value_name = "DURATION", value_parser = flags::duration, default_value = "5m0s")]
    timeout: std::time::Duration,
    /// How the result is printed
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    #[command(flatten)]
    target: Target,
}

/// Carries out `helm test`.
pub async fn test(options: &TestOptions) -> Result<ExitCode> {
    let mut testing = Testing { name: options.name.clone(), timeout: options.timeout, ..Testing::default() };
    for filter in &options.filter {
        let without = filter.strip_prefix('!').map(str::trim_start);
        match (filter.strip_prefix("name="), without.and_then(|rest| rest.strip_prefix("name="))) {
            (Some(name), _) => testing.only.push(name.to_owned()),
            (_, Some(name)) => testing.without.push(name.to_owned()),
            _ => return Err(Fault::usage(format!("{filter:?} is no filter: name=NAME or !name=NAME"))),
        }
    }
    let helm = options.target.helm(&options.name).await?;
    let (record, result) = helm.test(&testing).await.map_err(flags::fault)?;
    let shown = show::Shown { hide_notes: true, ..show::Shown::default() };
    let document = show::document(&record, true);
    // The tests' objects are deleted, whether or not this can be read.
    let mut printed = show::formatted(options.output, &document, || show::status(&record, &shown))
        .and_then(|text| print(&text).map(drop));
    let mut read = Ok(());
    if options.logs {
        say("");
        match helm::action::logs(&helm, &record, &testing).await {
            Ok(logs) => printed = printed.and(print(&String::from_utf8_lossy(&logs)).map(drop)),
            Err(error) => read = Err(error),
        }
    }
    let cleaned = helm.clean_tests(&record, &testing, result.is_ok()).await;
    result.and(read).and(cleaned).map_err(flags::fault)?;
    printed.map(|()| ExitCode::SUCCESS)
}
