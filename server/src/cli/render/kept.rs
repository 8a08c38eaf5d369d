//! What was rendered before, kept by what it was made of: every question that was asked of the files, with the digest of the answer.
//! When all answers are still the same, so is the result.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use manifest::{
    How,
    tree::{Answer, Question, answer, digest},
};
use serde::{Deserialize, Serialize};

use super::disk::Disk;

/// Results of one app that are kept: those of the last few branches.
const MOST: usize = 8;

pub struct Kept {
    directory: PathBuf,
    /// What decides besides the files: the options and this version of Shipway.
    options: String,
    /// Answers of this run, as many apps ask the same.
    answers: Mutex<HashMap<Question, Answer>>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Outcome {
    asked: BTreeMap<String, Answer>,
    text: String,
}

/// As one line, since maps in JSON have texts as keys.
fn line(question: &Question) -> String {
    match question {
        Question::Read(path) => format!("read {path}"),
        Question::IsDirectory(path) => format!("directory {path}"),
        Question::Canonical(path) => format!("canonical {path}"),
        Question::List(path) => format!("list {path}"),
    }
}

fn question(line: &str) -> Option<Question> {
    let (kind, path) = line.split_once(' ')?;
    let path = path.to_owned();
    Some(match kind {
        "read" => Question::Read(path),
        "directory" => Question::IsDirectory(path),
        "canonical" => Question::Canonical(path),
        "list" => Question::List(path),
        _ => return None,
    })
}

impl Kept {
    /// `$XDG_CACHE_HOME/shipway/render`, or below `~/.cache`; nothing where there is no such place.
    pub fn open(how: &How) -> Option<Self> {
        let base = std::env::var_os("XDG_CACHE_HOME").filter(|path| Path::new(path).is_absolute()).map(PathBuf::from);
        let base = base.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))?;
        Some(Self::at(base.join("shipway/render"), how))
    }

    fn at(directory: PathBuf, how: &How) -> Self {
        let program = std::env::current_exe().ok().and_then(|path| std::fs::metadata(path).ok());
        // A build of the same version may render otherwise.
        let build = program.map(|data| format!("{:?} {}", data.modified().ok(), data.len())).unwrap_or_default();
        let options = digest(&[env!("CARGO_PKG_VERSION").as_bytes(), build.as_bytes(), format!("{how:?}").as_bytes()]);
        Self { directory, options, answers: Mutex::default() }
    }

    fn file(&self, app: &str) -> PathBuf {
        let key = digest(&[self.options.as_bytes(), app.as_bytes()]);
        self.directory.join(&key[..2]).join(format!("{}.json", &key[2..]))
    }

    fn results(&self, app: &str) -> Vec<Outcome> {
        let text = std::fs::read(self.file(app)).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    fn same(&self, asked: &str, known: &Answer) -> bool {
        let Some(question) = question(asked) else { return false };
        let lock = || self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = lock().get(&question) {
            return found == known;
        }
        let found = answer(&Disk, &question);
        let same = found == *known;
        lock().insert(question, found);
        same
    }

    /// What an app gave when everything was as it is now.
    pub fn get(&self, app: &str) -> Option<String> {
        let results = self.results(app);
        let found =
            results.into_iter().find(|result| result.asked.iter().all(|(asked, known)| self.same(asked, known)));
        found.map(|result| result.text)
    }

    /// Keeps what an app gave. That it cannot be written only costs time later.
    pub fn put(&self, app: &str, asked: BTreeMap<Question, Answer>, text: &str) {
        let asked = asked.iter().map(|(question, answer)| (line(question), answer.clone())).collect();
        let mut results = self.results(app);
        results.insert(0, Outcome { asked, text: text.to_owned() });
        results.truncate(MOST);
        let file = self.file(app);
        let write = || -> std::io::Result<()> {
            let directory = file.parent().unwrap_or(&self.directory);
            std::fs::create_dir_all(directory)?;
            let mut made = tempfile::NamedTempFile::new_in(directory)?;
            serde_json::to_writer(&mut made, &results)?;
            made.persist(&file)?;
            Ok(())
        };
        if let Err(error) = write() {
            tracing::debug!(%error, file = %file.display(), "cannot keep what was rendered");
        }
    }
}

#[cfg(test)]
mod tests {
    use manifest::{Kitchen, Watched};

    use super::*;

    #[test]
    fn what_did_not_change_is_not_rendered_again() {
        let place = tempfile::tempdir().unwrap();
        let app = place.path().join("app");
        std::fs::create_dir(&app).unwrap();
        let write = |name: &str, text: &str| std::fs::write(app.join(name), text).unwrap();
        write("kustomization.yaml", "resources: [a.yaml]\n");
        write("a.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: a }\n");
        let (app, how) = (app.to_string_lossy().into_owned(), How::default());
        let kept = || Kept::at(place.path().join("kept"), &how);
        assert_eq!(kept().get(&app), None);
        let watched = Watched::new(&Disk);
        let output = Kitchen::default().render(&watched, &app, &how).unwrap();
        let text = super::super::show::yaml(&output);
        kept().put(&app, watched.asked(), &text);
        assert_eq!(kept().get(&app).as_ref(), Some(&text));
        write("unread.txt", "who cares");
        assert_eq!(kept().get(&app).as_ref(), Some(&text), "nobody read it");
        write("Chart.yaml", "name: x");
        assert_eq!(kept().get(&app), None, "it would be a chart");
        std::fs::remove_file(place.path().join("app/Chart.yaml")).unwrap();
        write("a.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: b }\n");
        assert_eq!(kept().get(&app), None);
        let other = How { seed: 1, ..How::default() };
        assert_eq!(Kept::at(place.path().join("kept"), &other).get(&app), None, "other options, other result");
    }
}
