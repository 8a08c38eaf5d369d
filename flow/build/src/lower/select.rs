//! Which files of a context an instruction means.

use std::collections::BTreeSet;

use graph::{
    FileSource,
    vertex::{Selected, SelectedKind},
};

use super::stage::Lowering;
use crate::{
    Result,
    context::{ContextEntry, ContextTree},
    diagnostic::{Spanned, Warning, did_you_mean},
    glob::{self, Glob},
    ignore::clean,
    pattern::Exclusions,
};

/// How sources are chosen.
pub struct Choice<'a> {
    pub tree: &'a ContextTree,
    pub parents: bool,
    pub exclude: &'a Exclusions,
}

/// What was chosen.
#[derive(Default)]
pub struct Chosen {
    /// Paths in `files`, as a copy names them.
    pub sources: Vec<String>,
    pub files: Vec<Selected>,
    /// The paths of the context that were chosen.
    pub paths: Vec<String>,
}

impl Lowering<'_> {
    /// The files that sources mean, and the sources as paths of these files.
    pub fn choose(
        &mut self,
        choice: &Choice<'_>,
        paths: &[(String, &Spanned<String>)],
        to_directory: bool,
        target: &Spanned<String>,
    ) -> Result<Chosen> {
        let mut chosen = Chosen::default();
        for (path, place) in paths {
            let (front, rest) = match path.split_once("/./").filter(|_| choice.parents) {
                Some((front, rest)) => (clean(front), clean(rest)),
                None => (String::new(), clean(path)),
            };
            let whole = clean(&format!("{front}/{rest}"));
            let matched = match glob::has_wildcard(&whole) {
                true => self.matching(choice, &whole, place)?,
                false => vec![whole],
            };
            if matched.is_empty() {
                let reason = format!("`{path}` matches no file of the build context");
                let diagnostic = self.error(place, reason);
                self.warnings.push(Warning::new("NothingMatches", diagnostic));
            }
            for path in matched {
                self.take(choice, &front, path, place, &mut chosen)?;
            }
        }
        if chosen.sources.len() > 1 && !to_directory && !choice.parents {
            let reason = format!("{} files match: the target must be a directory", chosen.sources.len());
            return Err(self.error(target, reason).hint(format!("end it with a slash: {}/", target.value)).into());
        }
        chosen.files.sort_by(|a, b| a.to.cmp(&b.to));
        chosen.files.dedup_by(|a, b| a.to == b.to);
        choice.tree.hash(&mut chosen.files)?;
        if choice.parents && !chosen.sources.is_empty() {
            chosen.sources = vec!["/".to_owned()];
        }
        Ok(chosen)
    }

    /// One path that was matched.
    fn take(
        &self,
        choice: &Choice<'_>,
        front: &str,
        path: String,
        place: &Spanned<String>,
        chosen: &mut Chosen,
    ) -> Result<()> {
        let mut files = self.files_of(choice.tree, &path, place)?;
        let is_file = files.first().is_some_and(|file| file.to == path && file.kind != SelectedKind::Directory);
        if !choice.exclude.is_empty() {
            let name = path.rsplit('/').next().unwrap_or(&path);
            let inside = |file: &Selected| match is_file {
                true => name.to_owned(),
                false => file.to[path.len().min(file.to.len())..].trim_start_matches('/').to_owned(),
            };
            // A directory above what an exception takes back stays for its sake.
            let stays = |file: &Selected| {
                let inside = inside(file);
                inside.is_empty() || !choice.exclude.leave_out(&inside)
            };
            let mut above = BTreeSet::new();
            if choice.exclude.has_exceptions() {
                for file in files.iter().filter(|file| stays(file)) {
                    above.extend(file.to.match_indices('/').map(|(at, _)| file.to[..at].to_owned()));
                }
            }
            files.retain(|file| stays(file) || above.contains(&file.to));
            if files.is_empty() {
                return Ok(());
            }
        }
        chosen.paths.push(path.clone());
        if choice.parents {
            let front = if front.is_empty() { String::new() } else { format!("{front}/") };
            let below = |to: &str| to.strip_prefix(&front).unwrap_or(to).to_owned();
            // The directories above it are made as they are in the context.
            let kept = below(&path);
            for (at, _) in kept.match_indices('/') {
                let (to, from) = (kept[..at].to_owned(), format!("{front}{}", &kept[..at]));
                let mode = choice.tree.get(&from).map_or(0o755, |entry| entry.mode);
                let kind = SelectedKind::Directory;
                chosen.files.push(Selected { from, to, mode, content: String::new(), kind });
            }
            files.iter_mut().for_each(|file| file.to = below(&file.to));
            files.retain(|file| !file.to.is_empty());
            chosen.sources.push(String::new());
        } else {
            chosen.sources.push(format!("/{}", glob::escape(&path)));
        }
        chosen.files.extend(files);
        Ok(())
    }

    /// The paths that a pattern matches, whole paths only.
    fn matching(&self, choice: &Choice<'_>, pattern: &str, place: &Spanned<String>) -> Result<Vec<String>> {
        let glob = if choice.parents { Glob::ignore(pattern) } else { Glob::path(pattern) };
        let glob = glob.map_err(|error| self.error(place, error.to_string()))?;
        let entries = choice.tree.entries();
        Ok(entries.filter(|entry| glob.matches(&entry.path)).map(|entry| entry.path.clone()).collect())
    }

    /// A file, or a directory with all in it, hashed.
    pub fn select_in(&self, tree: &ContextTree, path: &str, place: &Spanned<String>) -> Result<FileSource> {
        let mut files = self.files_of(tree, path, place)?;
        tree.hash(&mut files)?;
        Ok(FileSource { origin: tree.origin().clone(), files })
    }

    /// A file, or a directory with all in it, by its path in the context (empty for the root). Links on the way are followed.
    fn files_of(&self, tree: &ContextTree, path: &str, place: &Spanned<String>) -> Result<Vec<Selected>> {
        if let Some((found, reason)) = tree.unusable(path) {
            let reason = format!("`{found}` cannot be copied: {reason}");
            return Err(self.error(place, reason).hint("leave it out with .dockerignore").into());
        }
        let resolved = match tree.resolve(path) {
            Some(resolved) => resolved,
            None => return Err(self.not_there(tree, path, place)),
        };
        let selected = |entry: &ContextEntry, to: String| Selected {
            from: entry.path.clone(),
            to,
            mode: entry.mode,
            content: entry.content.clone(),
            kind: entry.kind,
        };
        let mut files = Vec::new();
        match tree.get(&resolved) {
            Some(entry) if entry.kind != SelectedKind::Directory => files.push(selected(entry, path.to_owned())),
            entry => {
                files.extend(entry.map(|entry| selected(entry, path.to_owned())));
                for below in tree.below(&resolved) {
                    let inside = below.path[resolved.len()..].trim_start_matches('/');
                    let to = if path.is_empty() { inside.to_owned() } else { format!("{path}/{inside}") };
                    files.push(selected(below, to));
                }
            }
        }
        Ok(files)
    }

    fn not_there(&self, tree: &ContextTree, path: &str, place: &Spanned<String>) -> crate::Error {
        if let Some(by) = tree.ignore().decide(path) {
            let reason = format!("`{path}` is left out of the build context");
            let hint = format!("{} line {} says `{}`: take it back with `!{path}`", by.file, by.line, by.pattern);
            return self.error(place, reason).hint(hint).into();
        }
        if tree.get(path).is_some() {
            let reason = format!("the link `{path}` leads out of the build context, or nowhere");
            return self.error(place, reason).into();
        }
        let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
        let near = tree.below(directory).map(|entry| entry.path.as_str());
        let guess = did_you_mean(path, near.take(10_000)).map(|near| format!("did you mean `{near}`?"));
        let hint = guess.unwrap_or_else(|| "paths are relative to the root of the build context".into());
        self.error(place, format!("`{path}` is not in the build context")).hint(hint).into()
    }
}
