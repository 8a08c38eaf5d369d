//! What `helm template` prints.

use super::Rendered;
use crate::{Error, Flavor, manifest::split, pattern};

/// Which of the documents are wanted.
#[derive(Clone, Debug, Default)]
pub struct Shown {
    pub no_hooks: bool,
    pub skip_tests: bool,
    /// Patterns of templates, relative to the chart; all when there are none.
    pub only: Vec<String>,
}

/// One document under the name of its template.
pub(super) fn document(out: &mut String, path: &str, text: &str) {
    out.push_str("---\n# Source: ");
    out.push_str(path);
    out.push('\n');
    out.push_str(text);
    out.push('\n');
}

impl Rendered {
    /// The text that `helm template` prints.
    pub fn print(&self, shown: &Shown, flavor: Flavor) -> Result<String, Error> {
        let mut out = self.manifest.trim().to_owned();
        out.push('\n');
        for hook in self.shown_hooks(shown) {
            document(&mut out, &hook.path, &hook.manifest);
        }
        if shown.only.is_empty() {
            return Ok(out);
        }
        let documents = split(&out, flavor);
        let mut chosen = String::new();
        for wanted in &shown.only {
            let mut missing = true;
            for document in &documents {
                let Some(path) = source(document) else { continue };
                if pattern::matches(wanted, path).unwrap_or(false) {
                    chosen.push_str("---\n");
                    chosen.push_str(document);
                    chosen.push('\n');
                    missing = false;
                }
            }
            if missing {
                return Err(Error::NoTemplate(wanted.clone()));
            }
        }
        Ok(chosen)
    }

    /// The hooks that are wanted.
    pub fn shown_hooks<'a>(&'a self, shown: &'a Shown) -> impl Iterator<Item = &'a crate::manifest::Hook> {
        self.hooks.iter().filter(move |hook| !(shown.no_hooks || shown.skip_tests && hook.is_test()))
    }

    /// File → text as `helm template --output-dir` writes them; several documents of one template go to one file.
    pub fn files(&self, shown: &Shown, crds: bool) -> Vec<(String, String)> {
        let mut files: Vec<(String, String)> = Vec::new();
        let mut add = |path: &str, text: &str| {
            let at = files.iter().position(|(known, _)| known == path).unwrap_or_else(|| {
                files.push((path.to_owned(), String::new()));
                files.len() - 1
            });
            document(&mut files[at].1, path, text);
        };
        if crds {
            self.crds.iter().for_each(|(path, text)| add(path, text));
        }
        self.manifests.iter().for_each(|manifest| add(&manifest.path, &manifest.content));
        self.shown_hooks(shown).for_each(|hook| add(&hook.path, &hook.manifest));
        files
    }
}

/// The path within its chart of the template that a document names first.
fn source(document: &str) -> Option<&str> {
    document.lines().find_map(|line| {
        let path = &line[line.find("# Source: ")? + "# Source: ".len()..];
        let (chart, path) = path.split_once('/')?;
        (!chart.is_empty() && !path.is_empty()).then_some(path)
    })
}
