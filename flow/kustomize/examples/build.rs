//! Prints what a kustomization on the disk makes: `cargo run -p kustomize --example build -- DIRECTORY…`. For development.

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
}

fn main() -> std::process::ExitCode {
    for root in std::env::args().skip(1) {
        match kustomize::build(&Disk, &root, &kustomize::Options::default()) {
            Ok(built) => print!("{}", built.text()),
            Err(error) => {
                eprintln!("Error: {error}");
                return std::process::ExitCode::FAILURE;
            }
        }
    }
    std::process::ExitCode::SUCCESS
}
