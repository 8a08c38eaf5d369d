//! Prints what a kustomization on the disk makes, charts (as Helm 3 renders them) included: `cargo run -p kustomize --example build -- DIRECTORY…`. For development.

use std::path::Path;

use kustomize::{FileError, Files};

struct Disk;

impl Files for Disk {
    fn read(&self, path: &str) -> Result<Vec<u8>, FileError> {
        std::fs::read(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => FileError::NotFound(path.to_owned()),
            _ => FileError::Other(format!("open {path}: {error}")),
        })
    }

    fn is_dir(&self, path: &str) -> bool {
        Path::new(path).is_dir()
    }

    fn canonical(&self, path: &str) -> Option<String> {
        Path::new(path).canonicalize().ok()?.to_str().map(str::to_owned)
    }

    fn list(&self, directory: &str) -> Result<Vec<(String, Option<u64>)>, FileError> {
        let failed = |error: std::io::Error| FileError::Other(format!("read {directory}: {error}"));
        let entries = std::fs::read_dir(directory).map_err(failed)?.filter_map(Result::ok);
        let sized = entries.filter_map(|entry| {
            let data = std::fs::metadata(entry.path()).ok()?;
            Some((entry.file_name().to_string_lossy().into_owned(), data.is_file().then_some(data.len())))
        });
        Ok(sized.collect())
    }
}

fn main() -> std::process::ExitCode {
    let inflate = kustomize::Inflate { flavor: chart::Flavor::Helm3, ..kustomize::Inflate::new() };
    let options = kustomize::Options { charts: Some(&inflate), ..kustomize::Options::default() };
    for root in std::env::args().skip(1) {
        match kustomize::build(&Disk, &root, &options) {
            Ok(built) => print!("{}", built.text()),
            Err(error) => {
                eprintln!("Error: {error}");
                return std::process::ExitCode::FAILURE;
            }
        }
    }
    std::process::ExitCode::SUCCESS
}
