//! `shipway base …`: base images from `base.yaml`, and their lock files.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use build::base::{BaseImage, BaseLock, Change, ChangeKind, NAMES, Refresh, builtin, schema};
use serde_json::json;

use super::output;
use crate::{
    fault::{Class, Fault, Result},
    wiring::{
        Built, Home, Output, OutputKind, Place,
        output::write,
        recipes::{self, Loaded},
        repository, to_give,
    },
};

#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(subcommand)]
    command: Command,

    #[command(flatten)]
    place: Place,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Assemble an image into the local store; writes the lock file where there is none
    Build(Build),
    /// Write the lock file anew, from the archive as it is now, and say what changes
    Lock {
        #[command(flatten)]
        file: File,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Say what `lock` would change; exits with 1 when that is something
    Outdated {
        #[command(flatten)]
        file: File,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List the base images that are built in
    Ls,
    /// Print the JSON Schema of base.yaml, for editors
    Schema,
}

#[derive(Debug, clap::Args)]
struct File {
    /// The base image
    #[arg(value_name = "FILE", default_value = "base.yaml")]
    file: PathBuf,
}

#[derive(Debug, clap::Args)]
struct Build {
    #[command(flatten)]
    file: File,

    /// Name of the image, as name:tag; can be given more than once
    #[arg(long, short, value_name = "NAME")]
    tag: Vec<String>,

    /// Let a tag be `latest`
    #[arg(long)]
    allow_latest: bool,

    /// Fail where the lock file is missing or of something else, in place of writing it
    #[arg(long, conflicts_with = "update")]
    locked: bool,

    /// Write the lock file anew first
    #[arg(long)]
    update: bool,

    /// Use only what was fetched before
    #[arg(long)]
    offline: bool,

    /// Push the image under its names
    #[arg(long)]
    push: bool,

    /// Where the image goes besides the local store: type=registry|oci|docker[,dest=PATH]
    #[arg(long, short, value_name = "OUTPUT")]
    output: Vec<String>,

    /// Print what was built as JSON
    #[arg(long)]
    json: bool,
}

pub async fn main(options: Options) -> Result<ExitCode> {
    super::trace_to_stderr("error");
    match &options.command {
        Command::Schema => {
            print!("{}", schema());
            return Ok(ExitCode::SUCCESS);
        }
        Command::Ls => {
            let rows = NAMES.iter().filter_map(|name| builtin(name)).map(|base| [base.name, base.description]);
            print!("{}", output::table(["NAME", "WHAT IT IS"], rows));
            return Ok(ExitCode::SUCCESS);
        }
        _ => {}
    }
    let home = Home::open(&options.place, &|text| eprintln!("{text}")).await?;
    let terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate());
    let mut terminate = terminate.map_err(|e| Fault::from_error(Class::Internal, &e))?;
    let done = tokio::select! {
        done = run(&home, &options.command) => done,
        // What is being written is invisible until it is whole.
        _ = tokio::signal::ctrl_c() => Err(Fault::new(Class::Signalled(2), "cancelled: Ctrl-C")),
        _ = terminate.recv() => Err(Fault::new(Class::Signalled(15), "cancelled: SIGTERM")),
    };
    let closed = home.close().await;
    let code = done?;
    closed?;
    Ok(code)
}

async fn run(home: &Home, command: &Command) -> Result<ExitCode> {
    match command {
        Command::Build(build) => assemble(home, build).await,
        Command::Lock { file, json } => {
            let loaded = load(&file.file).await?;
            let newer = chosen(home, &loaded, &file.file, Refresh::Now).await?;
            put(&loaded, &newer)?;
            let changes = loaded.lock.as_ref().map(|lock| lock.changes(&newer));
            match (json, changes) {
                (true, changes) => tell(&loaded, &newer, changes.as_deref().unwrap_or_default())?,
                (false, None) => println!("{}: {} packages", loaded.lock_path, newer.packages.len()),
                (false, Some(changes)) if changes.is_empty() => println!("{}: nothing has changed", loaded.lock_path),
                (false, Some(changes)) => print!("{}", table(&changes)),
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Outdated { file, json } => {
            let loaded = load(&file.file).await?;
            let Some(lock) = &loaded.lock else {
                return Err(Fault::not_found(format!("there is no lock file {}", loaded.lock_path))
                    .hint(format!("write it with `shipway base lock {}`", file.file.display())));
            };
            let newer = chosen(home, &loaded, &file.file, Refresh::Now).await?;
            let changes = lock.changes(&newer);
            match (json, changes.is_empty()) {
                (true, _) => tell(&loaded, &newer, &changes)?,
                (false, true) => println!("{} is up to date with the archive of {}", loaded.recipe.name(), newer.date),
                (false, false) => print!("{}", table(&changes)),
            }
            Ok(if changes.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Command::Ls | Command::Schema => Ok(ExitCode::SUCCESS),
    }
}

async fn load(file: &Path) -> Result<Loaded> {
    let (directory, name) = recipes::split(file);
    let shown = match directory.as_os_str() == "." {
        true => String::new(),
        false => format!("{}/", directory.display()),
    };
    recipes::load(&recipes::Below(&directory), &name, &shown).await
}

/// The packages as they would be now. The archive is asked as `refresh` says.
async fn chosen(home: &Home, loaded: &Loaded, file: &Path, refresh: Refresh) -> Result<BaseLock> {
    let bases = home.bases_with(|options| options.refresh = refresh)?;
    bases.lock(loaded, &file.display().to_string(), &|text| eprintln!("{text}")).await
}

/// Writes the lock file, whole or not at all.
fn put(loaded: &Loaded, lock: &BaseLock) -> Result<()> {
    let path = Path::new(&loaded.lock_path);
    let text = lock.to_text().map_err(|e| Fault::from_error(Class::Internal, &e))?;
    let failed = |e: std::io::Error| Fault::new(Class::Unavailable, format!("cannot write {}: {e}", path.display()));
    if std::fs::read_to_string(path).is_ok_and(|there| there == text) {
        return Ok(());
    }
    let (directory, _) = recipes::split(path);
    let mut file = tempfile::Builder::new().prefix(".base-lock-").tempfile_in(&directory).map_err(failed)?;
    std::io::Write::write_all(&mut file, text.as_bytes()).map_err(failed)?;
    // A file for everybody who has the repository, as an editor would write it.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    file.as_file().set_permissions(mode).map_err(failed)?;
    file.persist(path).map_err(|e| failed(e.error))?;
    Ok(())
}

fn table(changes: &[Change]) -> String {
    let word = |kind: ChangeKind| match kind {
        ChangeKind::Added => "added",
        ChangeKind::Upgraded => "upgraded",
        ChangeKind::Downgraded => "downgraded",
        ChangeKind::Rebuilt => "rebuilt",
        ChangeKind::Removed => "removed",
    };
    let cell = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
    let rows = changes.iter().map(|change| {
        let Change { package, kind, locked, available, from } = change;
        [package.clone(), word(*kind).to_owned(), cell(locked), cell(available), cell(from)]
    });
    output::table(["PACKAGE", "CHANGE", "LOCKED", "AVAILABLE", "FROM"], rows)
}

fn tell(loaded: &Loaded, newer: &BaseLock, changes: &[Change]) -> Result<()> {
    output::json(&json!({
        "name": loaded.recipe.name(),
        "lock": loaded.lock_path,
        "locked": loaded.lock.as_ref().map(|lock| lock.date),
        "available": newer.date,
        "changes": changes,
    }))
}

async fn assemble(home: &Home, build: &Build) -> Result<ExitCode> {
    let file = &build.file.file;
    let mut outputs = Vec::new();
    for text in &build.output {
        let output = Output::parse(text, build.allow_latest, &mut crate::wiring::Packing::default())?;
        if !output.kind.needs_image() {
            return Err(Fault::usage(format!("a base image is not written as {output}"))
                .hint("there are type=registry, type=oci and type=docker"));
        }
        outputs.push(output);
    }
    if build.push {
        outputs.push(Output { kind: OutputKind::Registry, dest: None, names: Vec::new() });
    }
    let tags = build.tag.iter().map(|tag| to_give(tag, build.allow_latest)).collect::<Result<Vec<_>>>()?;
    for output in &outputs {
        output.check()?;
        if output.kind == OutputKind::Registry && tags.is_empty() && output.names.is_empty() {
            let fault = Fault::usage("an image without a name cannot be pushed");
            return Err(fault.hint("name it with -t registry/name:tag"));
        }
    }
    let mut loaded = load(file).await?;
    let shown = file.display().to_string();
    let mut chosen_now = false;
    let fits = match &loaded.lock {
        None => Err(Fault::not_found(format!("there is no lock file {}", loaded.lock_path))
            .hint(format!("write it with `shipway base lock {shown}`"))),
        Some(lock) => {
            let host = ::build::Platform::host().debian().unwrap_or_default();
            lock.check(&loaded.definition, host).map_err(|e| recipes::explain(&loaded.recipe, &shown, e))
        }
    };
    match fits {
        Ok(()) if !build.update => {}
        Err(fault) if build.locked => return Err(fault),
        _ => {
            let refresh = match (build.offline, build.update) {
                (true, _) => Refresh::Offline,
                (false, true) => Refresh::Now,
                (false, false) => Refresh::After(std::time::Duration::ZERO),
            };
            loaded.lock = Some(chosen(home, &loaded, file, refresh).await?);
            chosen_now = true;
        }
    }
    let bases = home.bases_with(|options| {
        if build.offline {
            options.refresh = Refresh::Offline;
        }
    })?;
    let base = bases.recipe(&loaded, &shown, &|text| eprintln!("{text}")).await?;
    // A lock of what could not be assembled would be believed the next time.
    if let Some(lock) = loaded.lock.as_ref().filter(|_| chosen_now) {
        put(&loaded, lock)?;
        eprintln!("wrote {}", loaded.lock_path);
    }
    let mut built =
        Built { digest: Some(base.digest.clone()), repository: base.repository.clone(), ..Built::default() };
    for tag in &tags {
        let name = tag.tag.as_deref().unwrap_or("latest");
        crate::wiring::tag(&home.registry, &base.repository, &base.digest, &repository(tag), name).await?;
        built.names.push(tag.to_string());
    }
    for output in &outputs {
        eprintln!("writing {output}");
        write(home, None, output, "", &built, &tags).await?;
    }
    report(&base, &built, build.json)?;
    Ok(ExitCode::SUCCESS)
}

fn report(base: &BaseImage, built: &Built, json: bool) -> Result<()> {
    if json {
        return output::json(&json!({
            "digest": base.digest,
            "repository": base.repository,
            "names": built.names,
            "size": base.size,
            "packages": base.packages,
        }));
    }
    let names: String = built.names.iter().map(|name| format!("{name} ")).collect();
    println!("{names}{}", base.digest);
    Ok(())
}
