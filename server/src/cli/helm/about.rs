//! `helm version` and `helm env`.

use std::process::ExitCode;

use clap::Args;

use super::{connect::Target, places::Places, print};
use crate::fault::{Fault, Result};

/// The version of Helm that this is like.
const LIKE: &str = "v4.3";

// Flags of `helm version`.
#[derive(Debug, Args)]
pub struct Version {
    /// The version alone
    #[arg(long)]
    short: bool,
    /// A Go template: '{{.Version}}'
    #[arg(long, value_name = "TEMPLATE", default_value = "", hide_default_value = true)]
    template: String,
}

/// Scripts ask which helm it is: it says the one whose output it has, and behind `+` what it is itself.
pub fn version(options: &Version) -> Result<ExitCode> {
    let version = format!("{LIKE}+shipway.{}", env!("CARGO_PKG_VERSION"));
    if !options.template.is_empty() {
        let text = helm::with_template(
            &options.template,
            serde_json::json!({ "Version": version, "GitCommit": "", "GitTreeState": "", "GoVersion": "", "KubeClientVersion": "" }),
        );
        return print(&text.map_err(super::flags::fault)?);
    }
    if options.short {
        return print(&format!("{version}\n"));
    }
    print(&format!("version.BuildInfo{{Version:{version:?}, GitCommit:\"\", GitTreeState:\"\", GoVersion:\"\"}}\n"))
}

/// Prints one value, or all as lines that a shell reads.
pub fn environment(name: Option<&str>, target: &Target, places: &Places) -> Result<ExitCode> {
    let mut all = places.environment();
    all.extend(target.environment());
    all.sort();
    match name {
        Some(name) => match all.iter().find(|(known, _)| *known == name) {
            Some((_, value)) => print(&format!("{value}\n")),
            None => Err(Fault::not_found(format!("{name} is no variable that is read here"))
                .hint("`shipway helm env` lists them")),
        },
        None => print(&all.iter().map(|(name, value)| format!("{name}={value:?}\n")).collect::<String>()),
    }
}
