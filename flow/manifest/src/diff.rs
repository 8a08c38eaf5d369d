//! What changed between two renderings, object by object.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use similar::TextDiff;

use crate::document::{Document, Name};

/// What became of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Added,
    Removed,
    Changed,
}

impl Change {
    pub fn word(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Changed => "changed",
        }
    }
}

/// An object that is not as it was.
#[derive(Debug, Clone)]
pub struct Difference {
    pub name: Name,
    pub change: Change,
    /// Empty for one that was added.
    pub before: String,
    /// Empty for one that was removed.
    pub after: String,
}

/// The objects that differ: changed and added ones in the order of `after`, then removed ones. Objects are the same by group, kind,
/// namespace and name: a new API version is a change.
pub fn differences(before: &[Document], after: &[Document]) -> Vec<Difference> {
    let key = |name: &Name| [name.group().to_owned(), name.kind.clone(), name.namespace.clone(), name.name.clone()];
    let mut old: BTreeMap<[String; 4], VecDeque<&Document>> = BTreeMap::new();
    for document in before {
        old.entry(key(&document.name)).or_default().push_back(document);
    }
    let mut found = Vec::new();
    for document in after {
        let name = document.name.clone();
        match old.get_mut(&key(&name)).and_then(VecDeque::pop_front) {
            Some(was) if was.text == document.text => {}
            Some(was) => {
                let (before, after) = (was.text.clone(), document.text.clone());
                found.push(Difference { name, change: Change::Changed, before, after });
            }
            None => {
                let after = document.text.clone();
                found.push(Difference { name, change: Change::Added, before: String::new(), after });
            }
        }
    }
    let left: Vec<&Document> = old.into_values().flatten().collect();
    // In the order in which they stood.
    for document in before.iter().filter(|document| left.iter().any(|gone| std::ptr::eq(*gone, *document))) {
        let (name, before) = (document.name.clone(), document.text.clone());
        found.push(Difference { name, change: Change::Removed, before, after: String::new() });
    }
    found
}

impl Difference {
    /// As a unified diff with three lines around each change.
    pub fn unified(&self, before: &str, after: &str) -> String {
        let names =
            |side: &str, there: bool| if there { format!("{side}/{}", self.name) } else { "/dev/null".to_owned() };
        // A text that nobody would read through is compared roughly after a while.
        let diff = TextDiff::configure().timeout(Duration::from_secs(2)).diff_lines(&self.before, &self.after);
        diff.unified_diff()
            .context_radius(3)
            .header(&names(before, self.change != Change::Added), &names(after, self.change != Change::Removed))
            .to_string()
    }
}
