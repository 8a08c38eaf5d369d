//! `helm search`.

use std::process::ExitCode;

use chart::{
    repository::{Wanted, search},
    version::Range,
};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{flags::Format, places::Places, print, repositories::Repositories, show, warned};
use crate::fault::{Class, Fault, Result};

// Where to look.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// In the indexes of the repositories that are known, as they were fetched last
    #[command(disable_version_flag = true)]
    Repo(Options),
    /// On the Artifact Hub, which is not asked
    #[command(hide = true)]
    Hub {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
}

// Flags of `helm search repo`.
#[derive(Debug, Args)]
pub struct Options {
    /// Words of a name, a description or keywords; nothing lists everything
    words: Vec<String>,
    /// They are a regular expression
    #[arg(short, long)]
    regexp: bool,
    /// Every version, not the newest alone
    #[arg(short = 'l', long)]
    versions: bool,
    /// Versions before a release too
    #[arg(long)]
    devel: bool,
    /// A range of versions
    #[arg(long, value_name = "RANGE", default_value = "", hide_default_value = true)]
    version: String,
    /// The most characters of a column
    #[arg(long, value_name = "N", default_value_t = 50)]
    max_col_width: usize,
    /// Nothing found is an error
    #[arg(long)]
    fail_on_no_result: bool,
    /// How the result is printed
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    #[command(flatten)]
    places: Places,
}

pub fn main(command: &Command) -> Result<ExitCode> {
    match command {
        Command::Repo(options) => repositories(options),
        Command::Hub { words } => Err(Fault::usage(format!("the Artifact Hub is not searched from here for {:?}", words.join(" "))).hint(
            "search it at https://artifacthub.io, then `shipway helm repo add NAME URL` and `shipway helm search repo WORD`",
        )),
    }
}

fn repositories(options: &Options) -> Result<ExitCode> {
    let repositories = Repositories::read(&options.places)?.list;
    if repositories.is_empty() {
        return Err(Fault::not_found("no repositories configured").hint("shipway helm repo add NAME URL"));
    }
    let mut indexes = Vec::new();
    for repository in repositories {
        match repository.kept(&options.places) {
            Ok(index) => indexes.push((repository.name, index)),
            Err(fault) => warned(format!("WARNING: {}", fault.message)),
        }
    }
    let range = match (options.version.as_str(), options.devel) {
        ("", true) => ">0.0.0-0",
        ("", false) => ">0.0.0",
        (range, _) => range,
    };
    let range =
        Range::parse(range).map_err(|why| Fault::usage(format!("an invalid version/constraint format: {why}")))?;
    let words = options.words.join(" ");
    let pattern = match options.regexp {
        true => Some(
            regex::Regex::new(&words).map_err(|e| Fault::usage(format!("{words:?} is no regular expression: {e}")))?,
        ),
        false => None,
    };
    let matches = |line: &str| pattern.as_ref().and_then(|pattern| pattern.find(line)).map(|found| found.start());
    let wanted = match (options.words.is_empty(), options.regexp) {
        (true, _) => Wanted::Everything,
        (_, true) => Wanted::Pattern(&matches),
        (_, false) => Wanted::Words(&words),
    };
    let hits = search(&indexes, &wanted, &range, options.versions);
    if hits.is_empty() && options.fail_on_no_result {
        return Err(Fault::new(Class::Failed, "no results found"));
    }
    let found: Vec<Value> = hits
        .iter()
        .map(|hit| {
            let about = &hit.entry.metadata;
            json!({ "name": hit.name, "version": about.version, "app_version": about.app_version, "description": about.description })
        })
        .collect();
    let table = || {
        if hits.is_empty() {
            return "No results found\n".to_owned();
        }
        let mut rows = vec![["NAME", "CHART VERSION", "APP VERSION", "DESCRIPTION"].map(str::to_owned).to_vec()];
        rows.extend(hits.iter().map(|hit| {
            let about = &hit.entry.metadata;
            vec![hit.name.clone(), about.version.clone(), about.app_version.clone(), about.description.clone()]
        }));
        show::table_of(&rows, options.max_col_width)
    };
    print(&show::formatted(options.output, &found, table)?)
}
