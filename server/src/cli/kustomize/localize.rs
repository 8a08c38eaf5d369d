//! `kustomize localize`: a copy of a kustomization that needs nothing from elsewhere.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use kustomize::{Inflate, Localize, Localized};

use super::{Disk, Fetched, Pulled, unavailable, wrong};
use crate::{
    clock,
    fault::{Class, Fault, Result},
};

#[derive(Debug, Args)]
pub struct Options {
    /// The directory or address of the kustomization
    #[arg(default_value = ".")]
    target: String,
    /// The directory of the copy, which must not be there yet [default: localized-NAME here]
    destination: Option<PathBuf>,
    /// The directory that bases and components may lie in, copied with its structure [default: that of the kustomization]
    #[arg(long, value_name = "DIR")]
    scope: Option<String>,
    /// Do not build both to see whether the copy makes the same
    #[arg(long)]
    no_verify: bool,
    /// Fetch what is not in the files: git repositories and files, by https, http and ssh
    #[arg(long)]
    allow_remote: bool,
}

pub fn main(options: &Options, runtime: tokio::runtime::Handle) -> Result<ExitCode> {
    let pulled = Pulled::new(runtime.clone(), chart::Flavor::default());
    let remote = Fetched::new(runtime);
    let remote = options.allow_remote.then_some(&remote as &dyn kustomize::Remote);
    let how = Localize { scope: options.scope.as_deref(), remote };
    let copy = kustomize::localize(&Disk, &options.target, &how).map_err(wrong)?;
    let directory = options.destination.clone().unwrap_or_else(|| PathBuf::from(&copy.name));
    std::fs::create_dir(&directory).map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            let named = directory.display().to_string();
            Fault::new(Class::Conflict, format!("localize destination {named:?} already exists"))
                .hint("name another directory behind the kustomization, or remove that one")
        }
        _ => unavailable(&directory, &error),
    })?;
    if let Err(fault) = write(&copy, &directory) {
        // Half a copy is none; it was made just now.
        let _ = std::fs::remove_dir_all(&directory);
        return Err(fault);
    }
    if !options.no_verify {
        let inflate = Inflate {
            fetch: options.allow_remote.then_some(&pulled as &dyn kustomize::Fetch),
            now: clock::now(),
            ..Inflate::new()
        };
        let how = kustomize::Options { charts: Some(&inflate), remote, ..Default::default() };
        let built = |root: &str| {
            kustomize::build(&Disk, root, &how).map(|built| built.text()).map_err(|error| {
                wrong(error).hint(format!(
                    "the copy is in {}; --no-verify leaves it at that (build it with the flags that it needs)",
                    directory.display()
                ))
            })
        };
        let target = directory.join(&copy.target);
        // What is not on this machine is built from what was just fetched: what it is made from is the same.
        let before = match Path::new(&options.target).exists() {
            true => built(&options.target)?,
            false => built_from(&options.target, &how, &directory)?,
        };
        if before != built(&target.to_string_lossy())? {
            return Err(Fault::new(
                Class::Failed,
                format!(
                    "VERIFICATION FAILED: `kustomize build` for {} and {} are different after localization",
                    options.target,
                    directory.display()
                ),
            ));
        }
        eprintln!(
            "VERIFICATION SUCCESS: `kustomize build` for {} and {} are the same after localization.",
            options.target,
            directory.display()
        );
    }
    eprintln!("SUCCESS: localized {:?} to directory {}", options.target, directory.display());
    Ok(ExitCode::SUCCESS)
}

/// What the kustomization at an address makes.
fn built_from(address: &str, how: &kustomize::Options<'_>, copy: &Path) -> Result<String> {
    let (Some(remote), hint) = (how.remote, format!("the copy is in {}", copy.display())) else {
        return Err(Fault::not_found(format!("{address} is not on this machine")));
    };
    let failed = |why: String| Fault::new(Class::Unavailable, why).hint(hint.clone());
    let (files, root) = remote.repository(address).map_err(failed)?;
    kustomize::build(files.as_ref(), &root, how).map(|built| built.text()).map_err(|error| wrong(error).hint(hint))
}

/// Writes a copy into a directory that is new and empty.
fn write(copy: &Localized, directory: &Path) -> Result<()> {
    for below in &copy.directories {
        let path = directory.join(below);
        std::fs::create_dir_all(&path).map_err(|error| unavailable(&path, &error))?;
    }
    for (name, content) in &copy.files {
        let path = directory.join(name);
        let made = path.parent().map_or(Ok(()), std::fs::create_dir_all);
        made.and_then(|()| std::fs::write(&path, content)).map_err(|error| unavailable(&path, &error))?;
    }
    Ok(())
}
