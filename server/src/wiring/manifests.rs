//! What a commit wants to run: its manifests, rendered once, kept as a blob.

use std::collections::BTreeSet;

use globset::GlobSet;
use manifest::{FileError, SourceFile};
use pipeline::Pipeline;
use records::Digest;

use super::tree::Tree;
use crate::{
    app::App,
    fault::{Class, Fault, Result},
};

/// Bytes of all manifests of a commit.
const LIMIT: u64 = 64 << 20;

/// Reads the manifests that `deploy.from` names; the digest of the JSON array of objects, or `None` when nothing is deployed.
pub async fn read(app: &App, tree: &Tree<'_>, parsed: &Pipeline) -> Result<Option<Digest>> {
    let Some(deploy) = &parsed.deploy else { return Ok(None) };
    let from = deploy.from.trim_end_matches('/');
    let single = manifest::is_manifest(from);
    let (directory, wanted) = match (single, from.rsplit_once('/')) {
        (true, Some((directory, _))) => (directory, Some(from)),
        (true, None) => ("", Some(from)),
        (false, _) => (from, None),
    };
    let missing =
        || Fault::usage(format!("`deploy.from` names {from}, which commit {} does not have", tree.commit.short()));
    let entries = match tree.list(directory).await {
        Err(fault) if fault.class == Class::NotFound => return Err(missing()),
        other => other?,
    };
    let beside = entries.iter().filter(|entry| !entry.path.contains('/')).map(|entry| entry.path.as_str());
    if wanted.is_none() && manifest::recognise(beside) == manifest::Kind::Kustomization {
        let objects = kustomized(tree, directory).await?;
        return keep(app, objects).await.map(Some);
    }
    let path = |name: &str| if directory.is_empty() { name.to_owned() } else { format!("{directory}/{name}") };
    // Files that are no manifests are looked at too, so that a kustomization is recognised by its own.
    let named = |name: &str| manifest::is_manifest(name) || name.ends_with("Kustomization");
    let chosen: Vec<_> = entries
        .into_iter()
        .filter(|entry| entry.kind == source::EntryKind::File && named(&entry.path))
        .filter(|entry| wanted.is_none_or(|wanted| path(&entry.path) == wanted))
        .collect();
    if chosen.is_empty() {
        return Err(
            missing().hint("it is a directory with Kubernetes manifests (.yaml, .yml, .json), or one such file")
        );
    }
    let ids = chosen.iter().map(|entry| entry.id.clone()).collect();
    let contents = tree.repositories.read_blobs(tree.project, ids, LIMIT).await;
    let contents = contents.map_err(|e| Fault::from_error(Class::Usage, &e))?;
    let paths: Vec<String> = chosen.iter().map(|entry| path(&entry.path)).collect();
    let files: Vec<SourceFile<'_>> =
        paths.iter().zip(&contents).map(|(path, content)| SourceFile { path, content }).collect();
    let objects = manifest::parse(from, &files).map_err(|e| Fault::usage(e.to_string()))?;
    keep(app, objects).await.map(Some)
}

/// Writes the objects down; the digest of the JSON array.
async fn keep(app: &App, objects: Vec<manifest::Object>) -> Result<Digest> {
    let values: Vec<_> = objects.into_iter().map(|object| object.value).collect();
    let text = serde_json::to_vec(&values).map_err(|e| Fault::from_error(Class::Internal, &e))?;
    Ok(store::blobs::put(&*app.blobs, text).await?)
}

/// The kustomization in a directory of a commit, built from the commit's files alone.
async fn kustomized(tree: &Tree<'_>, directory: &str) -> Result<Vec<manifest::Object>> {
    let files = CommitFiles {
        repositories: tree.repositories.clone(),
        project: tree.project.clone(),
        commit: tree.commit.clone(),
        paths: tree.list("").await?.into_iter().map(|entry| entry.path).collect(),
        runtime: tokio::runtime::Handle::current(),
    };
    let directory = directory.to_owned();
    let built = tokio::task::spawn_blocking(move || manifest::kustomization(&files, &directory)).await;
    let built = built.map_err(|e| Fault::from_error(Class::Internal, &e))?;
    built.map_err(|e| Fault::usage(e.to_string()))
}

/// The files of a commit as a renderer sees them, that asks for one after the other: `/` is the root of the repository. Not to be used
/// on a thread of the runtime.
struct CommitFiles {
    repositories: source::Repositories,
    project: records::Name,
    commit: records::CommitId,
    paths: BTreeSet<String>,
    runtime: tokio::runtime::Handle,
}

impl manifest::Files for CommitFiles {
    fn read(&self, path: &str) -> std::result::Result<Vec<u8>, FileError> {
        if self.is_dir(path) {
            return Err(FileError::Directory(path.into()));
        }
        let inside = path.trim_start_matches('/');
        let read = self.repositories.read_file(&self.project, &self.commit, inside, LIMIT);
        let read = self.runtime.block_on(read).map_err(|e| FileError::Other(e.to_string()))?;
        read.ok_or_else(|| FileError::NotFound(path.into()))
    }

    fn is_dir(&self, path: &str) -> bool {
        let below = format!("{}/", path.trim_matches('/'));
        below == "/" || self.paths.range(below.clone()..).next().is_some_and(|path| path.starts_with(&below))
    }

    fn canonical(&self, path: &str) -> Option<String> {
        let known = self.paths.contains(path.trim_start_matches('/')) || self.is_dir(path);
        known.then(|| path.to_owned())
    }
}

/// The files of a commit that match any of the patterns, with their content.
pub async fn matching(tree: &Tree<'_>, globs: &[String]) -> Result<Vec<(String, Vec<u8>)>> {
    if globs.is_empty() {
        return Ok(Vec::new());
    }
    let mut set = GlobSet::builder();
    for glob in globs {
        let glob = globset::GlobBuilder::new(glob).literal_separator(true).build();
        set.add(glob.map_err(|e| Fault::usage(e.to_string()))?);
    }
    let set = set.build().map_err(|e| Fault::usage(e.to_string()))?;
    let entries = tree.list("").await?;
    let chosen: Vec<_> =
        entries.into_iter().filter(|e| e.kind == source::EntryKind::File && set.is_match(&e.path)).collect();
    let ids = chosen.iter().map(|entry| entry.id.clone()).collect();
    let contents = tree.repositories.read_blobs(tree.project, ids, LIMIT).await;
    let contents = contents.map_err(|e| Fault::from_error(Class::Usage, &e))?;
    Ok(chosen.into_iter().map(|entry| entry.path).zip(contents).collect())
}
