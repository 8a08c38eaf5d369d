//! Secrets of projects, by name: files that only their owner can read. Never in a record, a log or an answer.

use std::{
    collections::BTreeMap,
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::PathBuf,
};

use records::Name;

use crate::fault::{Class, Fault, Result};

/// The most that one secret may hold.
const LIMIT: usize = 64 << 10;

/// All secrets of a server.
#[derive(Clone)]
pub struct Secrets {
    directory: PathBuf,
}

impl Secrets {
    pub fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// Sets a secret; the name is that of an environment variable.
    pub fn set(&self, project: &Name, name: &str, value: &str) -> Result<()> {
        check_name(name)?;
        if value.len() > LIMIT {
            return Err(Fault::new(Class::TooLarge, format!("secret {name} has more than {LIMIT} bytes")));
        }
        let failed = |e: std::io::Error| Fault::new(Class::Unavailable, format!("cannot keep secret {name}: {e}"));
        let directory = self.directory.join(project.as_str());
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory).map_err(failed)?;
        let temporary = directory.join(format!(".{name}.new"));
        let _ = std::fs::remove_file(&temporary);
        let mut file =
            std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary).map_err(failed)?;
        file.write_all(value.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
        std::fs::rename(&temporary, directory.join(name)).map_err(failed)
    }

    /// All secrets of a project, for its runs.
    pub fn all(&self, project: &Name) -> Result<BTreeMap<String, String>> {
        let failed =
            |e: std::io::Error| Fault::new(Class::Unavailable, format!("cannot read the secrets of {project}: {e}"));
        let entries = match std::fs::read_dir(self.directory.join(project.as_str())) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
            Err(e) => return Err(failed(e)),
        };
        let mut all = BTreeMap::new();
        for entry in entries {
            let entry = entry.map_err(failed)?;
            if let Ok(name) = entry.file_name().into_string()
                && !name.starts_with('.')
            {
                all.insert(name, std::fs::read_to_string(entry.path()).map_err(failed)?);
            }
        }
        Ok(all)
    }
}

fn check_name(name: &str) -> Result<()> {
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    if first && name.len() <= 128 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        Ok(())
    } else {
        let shown: String = name.chars().take(40).collect();
        Err(Fault::usage(format!("`{shown}` is not a name for a secret"))
            .hint("use letters, digits and `_`, not starting with a digit, for example NPM_TOKEN"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn are_kept_by_project_and_name() {
        let directory = tempfile::tempdir().unwrap();
        let secrets = Secrets::new(directory.path().join("secrets"));
        let project: Name = "journal".parse().unwrap();
        assert!(secrets.all(&project).unwrap().is_empty());
        secrets.set(&project, "NPM_TOKEN", "hush").unwrap();
        assert_eq!(secrets.all(&project).unwrap()["NPM_TOKEN"], "hush");
        assert!(secrets.all(&"other".parse().unwrap()).unwrap().is_empty());
        for bad in ["", "../x", "1A", "A B", ".x"] {
            assert!(secrets.set(&project, bad, "x").is_err(), "{bad}");
        }
    }
}
