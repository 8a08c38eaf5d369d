//! A directory with rendered files. What an earlier run wrote and this one does not is taken away, and nothing else: the files
//! that were written are listed beside them.

use std::{
    collections::BTreeSet,
    path::{Component, Path, PathBuf},
};

use crate::fault::{Class, Fault, Result};

/// The list, in the directory.
const LIST: &str = ".shipway-rendered";
/// Its largest size.
const LARGEST: u64 = 64 << 20;

pub struct Written {
    directory: PathBuf,
    before: BTreeSet<String>,
    now: BTreeSet<String>,
}

impl Written {
    pub fn into(directory: &Path) -> Self {
        let list = directory.join(LIST);
        let small = std::fs::metadata(&list).is_ok_and(|data| data.is_file() && data.len() <= LARGEST);
        let text = if small { std::fs::read_to_string(&list).unwrap_or_default() } else { String::new() };
        let before = text.lines().filter(|line| is_ours(line)).map(str::to_owned).collect();
        Self { directory: directory.to_owned(), before, now: BTreeSet::new() }
    }

    fn unwritable(&self, error: &std::io::Error) -> Fault {
        Fault::new(Class::Unavailable, format!("cannot write into {}: {error}", self.directory.display()))
    }

    /// Writes a file, unless it is there with this text.
    pub fn write(&mut self, name: &str, text: &str) -> Result<()> {
        let file = self.directory.join(name);
        if !std::fs::read(&file).is_ok_and(|there| there == text.as_bytes()) {
            let made = file.parent().map_or(Ok(()), std::fs::create_dir_all);
            made.and_then(|()| std::fs::write(&file, text)).map_err(|error| self.unwritable(&error))?;
        }
        self.now.insert(name.to_owned());
        Ok(())
    }

    /// Leaves a file as an earlier run wrote it.
    pub fn keep(&mut self, name: &str) {
        if self.before.contains(name) {
            self.now.insert(name.to_owned());
        }
    }

    /// Takes away what only an earlier run wrote, and notes what there is now.
    pub fn finish(self) -> Result<()> {
        for stale in self.before.difference(&self.now) {
            let file = self.directory.join(stale);
            match std::fs::remove_file(&file) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(self.unwritable(&error)),
                _ => {}
            }
            // Directories that are empty now; the first that is not stays, and all above it.
            for directory in file.ancestors().skip(1).take_while(|directory| *directory != self.directory) {
                if std::fs::remove_dir(directory).is_err() {
                    break;
                }
            }
        }
        let mut text: String = self.now.iter().flat_map(|name| [name, "\n"]).collect();
        text.insert_str(0, "# Written by `shipway render`, which takes away what it does not render any more.\n");
        std::fs::create_dir_all(&self.directory)
            .and_then(|()| std::fs::write(self.directory.join(LIST), text))
            .map_err(|error| self.unwritable(&error))
    }
}

/// The list is a file like any other: nothing in it may lead elsewhere, or to what this never writes.
fn is_ours(name: &str) -> bool {
    name.ends_with(".yaml") && Path::new(name).components().all(|part| matches!(part, Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_written_is_taken_away() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("out");
        let run = |names: &[&str]| {
            let mut written = Written::into(&root);
            names.iter().for_each(|name| written.write(name, "a: 1\n").unwrap());
            written.finish().unwrap();
        };
        run(&["a.yaml", "deep/er/b.yaml"]);
        std::fs::write(root.join("mine.yaml"), "").unwrap();
        run(&["a.yaml"]);
        assert!(root.join("a.yaml").is_file() && root.join("mine.yaml").is_file());
        assert!(!root.join("deep").exists());
        for wrong in ["../x.yaml", "/etc/x.yaml", "a.txt", "# x", "a/../b.yaml"] {
            assert!(!is_ours(wrong), "{wrong}");
        }
    }
}
