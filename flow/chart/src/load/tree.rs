//! Unpacked charts: a directory, walked in Go's order, with its `.helmignore` heeded.

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;

use super::{Limits, archive::without_mark, ignore::Ignore};
use crate::{Error, File};

/// What the entry of a directory is, links already followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file of so many bytes.
    File(u64),
    /// A directory.
    Directory,
    /// A device, a socket or anything else that has no content to read.
    Irregular,
}

/// Where the files of a chart are read from. Paths are relative to the chart and use `/`; `""` is the chart itself. An
/// implementation on a disk follows links only within the bounds that its caller has set.
pub trait Tree {
    /// The names in a directory and what they are, in any order.
    fn list(&self, directory: &str) -> std::io::Result<Vec<(String, Kind)>>;
    /// A file's content.
    fn read(&self, file: &str) -> std::io::Result<Vec<u8>>;
    /// Whether a file that was listed is one that may as well be read when it is asked for: no link, which would have to be followed
    /// to know whether it may be read at all.
    fn is_plain(&self, _file: &str) -> bool {
        false
    }
}

/// What hardly any template looks at: documentation, tests, change logs. The chart's own description and the templates are not, nor are
/// those of the charts in it.
fn is_spare(path: &str) -> bool {
    let mut path = path;
    while let Some((_, inner)) = path.strip_prefix("charts/").and_then(|rest| rest.split_once('/')) {
        path = inner;
    }
    let described =
        ["Chart.yaml", "Chart.lock", "values.yaml", "values.schema.json", "requirements.yaml", "requirements.lock"];
    let below = ["templates/", "crds/", "charts/"];
    !described.contains(&path) && !below.iter().any(|directory| path.starts_with(directory))
}

/// Whether a text may ask for the files of its chart. Hardly any does.
fn asks_for_files(data: &[u8]) -> bool {
    [&b".Files"[..], b"\"Files\"", b"`Files`"].iter().any(|words| memchr::memmem::find(data, words).is_some())
}

/// Path → content.
impl Tree for BTreeMap<String, Bytes> {
    fn list(&self, directory: &str) -> std::io::Result<Vec<(String, Kind)>> {
        let prefix = if directory.is_empty() { String::new() } else { format!("{directory}/") };
        let mut names: BTreeMap<String, Kind> = BTreeMap::new();
        for (path, data) in self.range(prefix.clone()..).take_while(|(path, _)| path.starts_with(&prefix)) {
            match path[prefix.len()..].split_once('/') {
                Some((name, _)) => names.insert(name.to_owned(), Kind::Directory),
                None => names.insert(path[prefix.len()..].to_owned(), Kind::File(data.len() as u64)),
            };
        }
        Ok(names.into_iter().collect())
    }

    fn read(&self, file: &str) -> std::io::Result<Vec<u8>> {
        self.get(file).map(|data| data.to_vec()).ok_or_else(|| std::io::ErrorKind::NotFound.into())
    }
}

/// The chart's files in the order of their paths, part by part.
pub fn walk(tree: &dyn Tree, limits: &Limits) -> Result<Vec<File>, Error> {
    walked(tree, limits, false).map(|(files, _)| files)
}

/// The same, and the paths of files that were not read: templates seem not to ask for any, and if one does in a way that is not seen, what
/// it asks for is read then.
pub(super) fn walk_spared(tree: &dyn Tree, limits: &Limits) -> Result<(Vec<File>, HashSet<String>), Error> {
    let (mut files, spared) = walked(tree, limits, true)?;
    if !files.iter().any(|file| asks_for_files(&file.data)) {
        return Ok((files, spared));
    }
    for file in files.iter_mut().filter(|file| spared.contains(&file.name)) {
        let data = tree.read(&file.name);
        let data = data.map_err(|error| Error::File { path: file.name.clone(), cause: error.to_string() })?;
        file.data = without_mark(data);
    }
    Ok((files, HashSet::new()))
}

fn walked(tree: &dyn Tree, limits: &Limits, sparing: bool) -> Result<(Vec<File>, HashSet<String>), Error> {
    let ignore = match tree.read(".helmignore") {
        Ok(text) => Ignore::parse(&String::from_utf8_lossy(&text))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ignore::parse("")?,
        Err(error) => return Err(Error::File { path: ".helmignore".to_owned(), cause: error.to_string() }),
    };
    let mut walk = Walk { tree, ignore, limits, files: Vec::new(), size: 0, sparing, spared: HashSet::new() };
    walk.directory("", 0)?;
    Ok((walk.files, walk.spared))
}

struct Walk<'a> {
    tree: &'a dyn Tree,
    ignore: Ignore,
    limits: &'a Limits,
    files: Vec<File>,
    size: u64,
    sparing: bool,
    spared: HashSet<String>,
}

impl Walk<'_> {
    fn directory(&mut self, directory: &str, depth: usize) -> Result<(), Error> {
        if depth > self.limits.depth {
            return Err(Error::File {
                path: directory.to_owned(),
                cause: format!(
                    "directories are nested more than {} deep; is there a link to itself?",
                    self.limits.depth
                ),
            });
        }
        let unreadable =
            |path: &str, error: std::io::Error| Error::File { path: path.to_owned(), cause: error.to_string() };
        let mut entries = self.tree.list(directory).map_err(|error| unreadable(directory, error))?;
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        for (name, kind) in entries {
            let path = if directory.is_empty() { name } else { format!("{directory}/{name}") };
            match kind {
                Kind::Directory if self.ignore.ignores(&path, true) => {}
                Kind::Directory => self.directory(&path, depth + 1)?,
                _ if self.ignore.ignores(&path, false) => {}
                Kind::Irregular => {
                    let cause = format!("cannot load irregular file {path} as it has file mode type bits set");
                    return Err(Error::File { path, cause });
                }
                Kind::File(size) => {
                    if size > self.limits.file {
                        let cause =
                            format!("chart file {path:?} is larger than the maximum file size {}", self.limits.file);
                        return Err(Error::File { path, cause });
                    }
                    self.size += size;
                    if self.size > self.limits.chart || self.files.len() >= self.limits.files {
                        let cause = format!(
                            "the chart is larger than {} bytes or has more than {} files",
                            self.limits.chart, self.limits.files
                        );
                        return Err(Error::File { path, cause });
                    }
                    if self.sparing && is_spare(&path) && self.tree.is_plain(&path) {
                        self.spared.insert(path.clone());
                        self.files.push(File { name: path, data: Bytes::new() });
                        continue;
                    }
                    let data = self.tree.read(&path).map_err(|error| unreadable(&path, error))?;
                    self.files.push(File { name: path, data: without_mark(data) });
                }
            }
        }
        Ok(())
    }
}
