//! The command line: what can be said, and what runs for it.

mod base;
mod build;
mod build_progress;
mod build_settings;
mod client;
mod compose;
mod helm;
mod image;
mod kustomize;
mod live;
mod memory;
mod output;
mod packs;
mod project;
mod rebase;
mod registry;
mod render;
mod rollout;
mod run;
mod skaffold;
pub mod tags;
mod trace;

pub use client::{Client, Connection};
pub use live::Live;
pub use output::{ago, exact};
pub use run::{LocalOptions, urlencode};

use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::{config::Config, demo, fault::Result, serve};

const EXAMPLES: &str = "\
Examples:
  shipway demo                              the whole journey on this machine, then nothing is left
  shipway up --data /var/lib/shipway        start the server
  shipway project create journal            make a project; prints the address to push to
  shipway build -t app:1.0 .                build a Dockerfile into the local store
  shipway run --local                       run .shipway.yaml on the working tree, without a server
  shipway runs logs journal/3 test -f       follow a step
  shipway rollout status journal prod       how far a release is
  shipway trace pod/journal/frontend-6f9c   what a container is and who let it in";

/// Carries a commit to running, verified software.
#[derive(Debug, Parser)]
#[command(name = "shipway", version, about, after_help = EXAMPLES, max_term_width = 110, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

// Each is built when it is the one that was asked for: a third of the time of a short command. What they hold has no doc comments of
// its own, for clap would show those instead of these.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
enum Command {
    /// Start the server: UI, API, git, registry and node
    Up(Config),
    /// Carry a commit through the whole journey on this machine and check every point of it
    Demo(demo::Options),
    /// Build an image from a Dockerfile or by buildpacks, without a server or a daemon
    Build(Box<build::Options>),
    /// Put a newer run image under an image that buildpacks made
    Rebase(rebase::Options),
    /// Assemble base images from Debian packages, lock them, and say what a rebuild would change
    Base(base::Options),
    /// Build and push the images of a Compose project, or print it as one file
    Compose(compose::Options),
    /// The images of the local store: list, inspect, tag, load, save, pull, push
    Image(image::Options),
    /// Run the steps of .shipway.yaml on the working tree
    Run(run::LocalOptions),
    /// Make and list projects
    Project(Below<project::Command>),
    /// List, show, follow and cancel runs
    Runs(Below<run::Command>),
    /// Give a project's steps a secret, by name
    Secret(Below<project::SecretCommand>),
    /// Clean the registry up, say what it keeps, and who may use it
    Registry(Below<registry::Command>),
    /// Show how releases reach an environment, and go back
    Rollout(Below<rollout::Command>),
    /// Walk from a running pod (or an image) back to its commit, verifying every link
    Trace(trace::Options),
    /// Render, check, show and pack Helm charts
    Helm(Box<helm::Helm>),
    /// Build and change kustomizations
    Kustomize(Below<kustomize::Command>),
    /// Show the objects of a chart, a kustomization or plain YAML: compared with a commit, checked, explained
    Render(Box<render::Options>),
    /// Read a skaffold.yaml: its effective configuration, its manifests
    Skaffold(Below<skaffold::Command>),
    /// Say what this machine lacks to run containers
    Check,
    /// Print the JSON Schema of .shipway.yaml, for editors
    Schema,
    /// Print a completion script for a shell
    Completion { shell: clap_complete::Shell },
}

// What stands below a command. A command that has this is built when it is asked for; one that is named `subcommand` is not.
#[derive(Debug, Args)]
pub struct Below<T: Subcommand> {
    #[command(subcommand)]
    pub below: T,
}

impl Command {
    /// Whether it mounts file systems and runs programs, for which an ordinary user needs a user namespace.
    fn runs_containers(&self) -> bool {
        match self {
            Self::Build(options) => !options.check,
            Self::Compose(options) => options.builds(),
            Self::Image(options) => options.prunes(),
            Self::Run(options) => options.local,
            _ => false,
        }
    }

    /// Whether it is over in a moment and does one thing after another; what blocks has threads of its own.
    fn is_brief(&self) -> bool {
        match self {
            Self::Helm(helm) => helm.is_brief(),
            Self::Kustomize(_) | Self::Render(_) | Self::Skaffold(_) => true,
            Self::Check | Self::Schema | Self::Completion { .. } => true,
            _ => false,
        }
    }
}

impl Command {
    fn isolation(&self) -> sandbox::Wanted {
        match self {
            Self::Build(options) => options.place.isolation,
            Self::Compose(options) => options.isolation(),
            Self::Image(options) => options.isolation(),
            Self::Run(options) => options.isolation,
            _ => crate::wiring::Isolation::Auto,
        }
        .into()
    }
}

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    // Started for every container, by Shipway itself: it does not wait for the command line to be understood.
    let mut arguments = std::env::args_os().skip(1);
    let first = arguments.next().unwrap_or_default();
    if first == "sandbox-helper" {
        memory::for_long();
        return crate::wiring::sandbox_helper(arguments.collect());
    }
    if matches!(first.to_str(), Some("helm" | "kustomize" | "render" | "skaffold")) {
        memory::for_a_moment();
    } else {
        memory::for_long();
    }
    let cli = Cli::parse();
    if !matches!(cli.command, Command::Up(_)) {
        end_with_the_reader();
    }
    if cli.command.runs_containers() {
        match sandbox::rootless::enter(cli.command.isolation()) {
            Ok(None) => sandbox::rootless::limits().iter().for_each(|limit| eprintln!("note: {limit}")),
            Ok(Some(code)) => return code,
            Err(missing) => return crate::wiring::cannot_run(missing).report(),
        }
    }
    // Two providers are linked in; everything that speaks TLS uses this one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut runtime = match cli.command.is_brief() {
        // Threads take longer to start than such a command takes.
        true => tokio::runtime::Builder::new_current_thread(),
        false => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = match runtime.enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            eprintln!("error: cannot start: {e}");
            return ExitCode::from(70);
        }
    };
    let ended = runtime.block_on(dispatch(cli.command));
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    match ended {
        Ok(code) => code,
        Err(fault) => fault.report(),
    }
}

/// The command line as shells complete it: `help` knows what stands below each command. By itself it does not, for it is made before
/// the commands are, which are built when they are asked for.
fn completed() -> clap::Command {
    let mut command = Cli::command().bin_name("shipway");
    command.build();
    with_topics(command, "shipway")
}

/// The command with what `help` can be asked about, and so those below it.
fn with_topics(command: clap::Command, path: &str) -> clap::Command {
    let ask = format!("{path} help");
    let topics: Vec<clap::Command> = named(&command).map(|below| topic(below, &ask)).collect();
    let deeper = |below: clap::Command| {
        let path = format!("{path} {}", below.get_name());
        with_topics(below, &path)
    };
    command.mut_subcommands(|below| match below.get_name() {
        "help" => topics.iter().fold(below, |help, topic| help.mut_subcommand(topic.get_name(), |_| topic.clone())),
        _ => deeper(below),
    })
}

fn named(command: &clap::Command) -> impl Iterator<Item = &clap::Command> {
    command.get_subcommands().filter(|below| below.get_name() != "help")
}

/// A command and those below it as what `help` is asked about; `path` is what stands before it.
fn topic(command: &clap::Command, path: &str) -> clap::Command {
    let path = format!("{path} {}", command.get_name());
    // Names of commands live as long as the program; this runs once.
    let name: &'static str = command.get_name().to_owned().leak();
    let below: Vec<clap::Command> = named(command).map(|below| topic(below, &path)).collect();
    let topic = clap::Command::new(name)
        .bin_name(path)
        .hide(command.is_hide_set())
        .disable_help_flag(true)
        .disable_version_flag(true)
        .disable_help_subcommand(true)
        .subcommands(below);
    match command.get_about() {
        Some(about) => topic.about(about.clone()),
        None => topic,
    }
}

/// `shipway … | head` ends as other programs do whose reader has gone: without a word, and with the code of SIGPIPE. Rust ignores that
/// signal, which a server must, and lets printing panic instead.
fn end_with_the_reader() {
    let otherwise = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let said = panic.payload_as_str().unwrap_or_default();
        if said.starts_with("failed printing to std") && said.contains("Broken pipe") {
            std::process::exit(141);
        }
        otherwise(panic);
    }));
}

async fn dispatch(command: Command) -> Result<ExitCode> {
    match command {
        Command::Up(config) => {
            trace_to_stderr("info");
            serve::up(config).await.map(|()| ExitCode::SUCCESS)
        }
        Command::Demo(options) => demo::main(options).await,
        Command::Build(options) => build::main(*options).await,
        Command::Rebase(options) => rebase::main(options).await,
        Command::Base(options) => base::main(options).await,
        Command::Compose(options) => compose::main(options).await,
        Command::Image(options) => image::main(options).await,
        Command::Run(options) => run::local(options).await,
        Command::Project(command) => project::main(command.below).await,
        Command::Secret(command) => project::secret(command.below).await,
        Command::Runs(command) => run::main(command.below).await,
        Command::Registry(command) => registry::main(command.below).await,
        Command::Rollout(command) => rollout::main(command.below).await,
        Command::Trace(options) => trace::main(options).await,
        Command::Helm(helm) => helm::main(*helm).await,
        Command::Kustomize(command) => kustomize::main(command.below).await,
        Command::Render(options) => render::main(*options).await,
        Command::Skaffold(command) => skaffold::main(command.below).await,
        Command::Check => crate::wiring::check(),
        Command::Schema => {
            print!("{}", pipeline::schema());
            Ok(ExitCode::SUCCESS)
        }
        Command::Completion { shell } => {
            clap_complete::generate(shell, &mut completed(), "shipway", &mut std::io::stdout());
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Diagnostics go to standard error, filtered by `SHIPWAY_LOG` (for example `info,node=debug`).
pub fn trace_to_stderr(default: &str) {
    use std::io::IsTerminal;
    let filter = tracing_subscriber::EnvFilter::try_from_env("SHIPWAY_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(default));
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .try_init();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_command_says_of_itself_what_is_said_of_it() {
        let mut built = Cli::command();
        built.build();
        let about = |command: &clap::Command| command.get_about().map(ToString::to_string);
        let differ = |listed: &clap::Command, built: &clap::Command| -> Vec<_> {
            (listed.get_subcommands())
                .filter_map(|command| Some((about(command), about(built.find_subcommand(command.get_name())?))))
                .filter(|(listed, own)| listed != own)
                .collect()
        };
        let wrong = differ(&Cli::command(), &built);
        assert!(wrong.is_empty(), "{wrong:#?}");
        // Commands whose own are built when they are asked for, too.
        let helm = helm::Command::augment_subcommands(clap::Command::new("helm"));
        let kustomize = kustomize::Command::augment_subcommands(clap::Command::new("kustomize"));
        for listed in [helm, kustomize] {
            assert!(listed.get_subcommands().count() > 3);
            let wrong = differ(&listed, built.find_subcommand(listed.get_name()).unwrap());
            assert!(wrong.is_empty(), "{wrong:#?}");
        }
    }
}
