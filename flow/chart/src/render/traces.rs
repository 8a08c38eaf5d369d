//! The template lines and the values behind what was rendered.

use std::collections::{BTreeMap, HashMap};

use template::{Place, Read};

/// Where the bytes of rendered templates come from.
#[derive(Clone, Default)]
pub struct Traces {
    pub(super) files: BTreeMap<String, template::Rendered>,
    /// The address of each table of values and its path from the values of the root chart.
    pub(super) tables: HashMap<usize, Vec<String>>,
}

/// What is behind a byte of a rendered template.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Behind {
    /// Template lines, outermost first; paths begin with the name of the chart.
    pub places: Vec<Place>,
    /// Paths of the values that were read to write it, seen from the root chart, the innermost first.
    pub values: Vec<Vec<String>>,
    /// Paths of the values that the `if`, `with` and `range` around it read.
    pub guards: Vec<Vec<String>>,
}

impl Traces {
    /// What is behind a byte of what the template at `path` gave.
    pub fn behind(&self, path: &str, offset: usize) -> Behind {
        let Some(rendered) = self.files.get(path) else { return Behind::default() };
        let read = rendered.behind(offset);
        Behind { places: rendered.locate(offset), values: self.paths(&read.reads), guards: self.paths(&read.guards) }
    }

    /// What is behind the bytes from `start` up to `end` of what the template at `path` gave, each thing once.
    pub fn within(&self, path: &str, start: usize, end: usize) -> Behind {
        let Some(rendered) = self.files.get(path) else { return Behind::default() };
        let (places, read) = rendered.within(start, end);
        Behind { places, values: self.paths(&read.reads), guards: self.paths(&read.guards) }
    }

    /// Reads of values as paths, each once; what is read on the way to another is left out.
    fn paths(&self, reads: &[Read]) -> Vec<Vec<String>> {
        let mut paths: Vec<Vec<String>> = Vec::new();
        for read in reads {
            let Some(table) = self.tables.get(&read.table) else { continue };
            let mut path = table.clone();
            path.push(read.key.clone());
            if !paths.contains(&path) {
                paths.push(path);
            }
        }
        let all = paths.clone();
        paths.retain(|path| !all.iter().any(|other| other.len() > path.len() && other.starts_with(path)));
        paths
    }
}
