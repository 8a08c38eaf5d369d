//! Prints effective configurations, one JSON request a line on standard input: for comparing with the original.

use std::{io::BufRead, path::Path};

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

fn main() {
    let directory = std::env::current_dir().unwrap_or_default().to_string_lossy().into_owned();
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let request: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
        let list = |key: &str| -> Vec<String> { serde_json::from_value(request[key].clone()).unwrap_or_default() };
        let (profiles, modules) = (list("Profiles"), list("Modules"));
        let env = |name: &str| std::env::var(name).ok();
        let options = skaffold::Options {
            profiles: &profiles,
            modules: &modules,
            propagate_profiles: request["Propagate"] == true,
            absolute: Some(request["Raw"] != true),
            situation: skaffold::Situation {
                env: &env,
                auto_activation: request["Auto"] == true,
                command: request["Command"].as_str().unwrap_or_default(),
                ..Default::default()
            },
            ..skaffold::Options::new(&directory)
        };
        let file = request["File"].as_str().unwrap_or_default();
        let (out, err) = match skaffold::load(&Disk, file, &options) {
            Ok(loaded) => (loaded.text(), String::new()),
            Err(error) => (String::new(), error.to_string()),
        };
        println!("{}", serde_json::json!({ "file": file, "out": out, "err": err }));
    }
}
