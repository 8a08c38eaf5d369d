//! What a commit wants to run: its manifests, rendered once, kept as a blob.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use globset::GlobSet;
use manifest::{FileError, SourceFile};
use pipeline::Pipeline;
use records::{Digest, Name};

use super::tree::Tree;
use crate::{
    app::App,
    fault::{Class, Fault, Result},
};

/// Bytes of all manifests of a commit.
pub const LIMIT: u64 = 64 << 20;

/// The manifests of a commit, each a blob with a JSON array of objects.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Deployed {
    /// For every environment that has none of its own; `None` when nothing is deployed.
    pub all: Option<Digest>,
    /// For single environments: a chart is rendered for each.
    pub environments: BTreeMap<Name, Digest>,
}

/// What was rendered from charts, by all that it was made of: an unchanged one is not rendered again.
#[derive(Default)]
pub struct Kept(Mutex<HashMap<String, Digest>>);

/// Renderings that are remembered.
const MOST_KEPT: usize = 10_000;

/// Reads the manifests that `deploy.from` names.
pub async fn read(app: &App, tree: &Tree<'_>, parsed: &Pipeline) -> Result<Deployed> {
    let Some(deploy) = &parsed.deploy else { return Ok(Deployed::default()) };
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
    let kind = if wanted.is_none() { manifest::recognise(beside) } else { manifest::Kind::Plain };
    if kind == manifest::Kind::Chart {
        return charted(app, tree, parsed, directory).await;
    }
    if deploy.values.iter().chain(deploy.environments.iter().flat_map(|target| &target.values)).next().is_some() {
        return Err(Fault::usage(format!("`deploy.from` names {from}, which is no chart, and so takes no `values`"))
            .hint("leave `values` out, or name a directory with a Chart.yaml"));
    }
    let all = plain(app, tree, from, directory, wanted, kind, entries, missing).await?;
    Ok(Deployed { all: Some(all), ..Deployed::default() })
}

#[allow(clippy::too_many_arguments, reason = "one step of `read`")]
async fn plain(
    app: &App,
    tree: &Tree<'_>,
    from: &str,
    directory: &str,
    wanted: Option<&str>,
    kind: manifest::Kind,
    entries: Vec<source::TreeEntry>,
    missing: impl Fn() -> Fault,
) -> Result<Digest> {
    if kind == manifest::Kind::Kustomization {
        let objects = kustomized(tree, directory).await?;
        return keep(app, objects).await;
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
    keep(app, objects).await
}

/// The chart in a directory of a commit, rendered for each environment: the release is called like the project and stands in the
/// environment's namespace. Time and seed are fixed, so that the same commit gives the same objects.
async fn charted(app: &App, tree: &Tree<'_>, parsed: &Pipeline, directory: &str) -> Result<Deployed> {
    let Some(deploy) = &parsed.deploy else { return Ok(Deployed::default()) };
    let files = Arc::new(CommitFiles::open(tree).await?);
    let mut deployed = Deployed::default();
    for (environment, target) in parsed.environments(tree.project).iter().zip(&deploy.environments) {
        let given: Vec<String> = deploy.values.iter().chain(&target.values).cloned().collect();
        let key = files.key(directory, &given, tree.project, &environment.namespace);
        let known = lock(&app.rooms.rendered.0).get(&key).cloned();
        if let Some(known) = known
            && app.blobs.size(&known).await?.is_some()
        {
            deployed.environments.insert(environment.name.clone(), known);
            continue;
        }
        let mut how = manifest::How {
            name: tree.project.to_string(),
            namespace: environment.namespace.to_string(),
            include_crds: true,
            ..manifest::How::default()
        };
        how.given.files = given;
        let (files, directory) = (files.clone(), directory.to_owned());
        let built = tokio::task::spawn_blocking(move || {
            let output = manifest::Kitchen::default().render(&*files, &format!("/{directory}"), &how)?;
            output.objects(&directory)
        });
        let built = built.await.map_err(|e| Fault::from_error(Class::Internal, &e))?;
        let objects = built.map_err(|e| Fault::usage(format!("environment {}: {e}", environment.name)))?;
        let digest = keep(app, objects).await?;
        let mut kept = lock(&app.rooms.rendered.0);
        if kept.len() >= MOST_KEPT {
            kept.clear();
        }
        kept.insert(key, digest.clone());
        deployed.environments.insert(environment.name.clone(), digest);
    }
    Ok(deployed)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes the objects down; the digest of the JSON array.
async fn keep(app: &App, objects: Vec<manifest::Object>) -> Result<Digest> {
    let values: Vec<_> = objects.into_iter().map(|object| object.value).collect();
    let text = serde_json::to_vec(&values).map_err(|e| Fault::from_error(Class::Internal, &e))?;
    Ok(store::blobs::put(&*app.blobs, text).await?)
}

/// The kustomization in a directory of a commit, built from the commit's files alone.
async fn kustomized(tree: &Tree<'_>, directory: &str) -> Result<Vec<manifest::Object>> {
    let files = CommitFiles::open(tree).await?;
    let directory = directory.to_owned();
    let built = tokio::task::spawn_blocking(move || manifest::kustomization(&files, &directory)).await;
    let built = built.map_err(|e| Fault::from_error(Class::Internal, &e))?;
    built.map_err(|e| Fault::usage(e.to_string()))
}

/// The files of a commit as a renderer sees them, that asks for one after the other: `/` is the root of the repository. Not to be used
/// on a thread of the runtime.
struct CommitFiles {
    repositories: source::Repositories,
    project: Name,
    commit: records::CommitId,
    /// Path → object id and size, without what is of another repository.
    entries: BTreeMap<String, (String, u64)>,
    runtime: tokio::runtime::Handle,
}

impl CommitFiles {
    async fn open(tree: &Tree<'_>) -> Result<Self> {
        let entries = tree.list("").await?.into_iter().filter(|entry| entry.kind != source::EntryKind::Submodule);
        Ok(Self {
            repositories: tree.repositories.clone(),
            project: tree.project.clone(),
            commit: tree.commit.clone(),
            entries: entries.map(|entry| (entry.path, (entry.id, entry.size.unwrap_or(0)))).collect(),
            runtime: tokio::runtime::Handle::current(),
        })
    }

    /// All that decides what a chart gives: its files, the files of values, and what it is told of the release.
    fn key(&self, directory: &str, given: &[String], name: &Name, namespace: &Name) -> String {
        let below = if directory.is_empty() { String::new() } else { format!("{directory}/") };
        let mut parts: Vec<String> = vec![env!("CARGO_PKG_VERSION").into(), name.to_string(), namespace.to_string()];
        for (path, (id, _)) in self.entries.range(below.clone()..).take_while(|(path, _)| path.starts_with(&below)) {
            parts.extend([path.clone(), id.clone()]);
        }
        for path in given {
            let id = self.entries.get(path).map(|(id, _)| id.clone()).unwrap_or_default();
            parts.extend([format!("values {path}"), id]);
        }
        let parts: Vec<&[u8]> = parts.iter().map(String::as_bytes).collect();
        manifest::tree::digest(&parts)
    }
}

impl manifest::Tree for CommitFiles {
    fn entries(&self, directory: &str) -> Vec<(String, manifest::tree::EntryKind)> {
        let below = match directory.trim_matches('/') {
            "" => String::new(),
            directory => format!("{directory}/"),
        };
        let inside = self.entries.range(below.clone()..).take_while(|(path, _)| path.starts_with(&below));
        let inside: Vec<(String, u64)> = inside.map(|(path, (_, size))| (format!("/{path}"), *size)).collect();
        let directory = format!("/{}", directory.trim_matches('/'));
        manifest::tree::names(inside.iter().map(|(path, size)| (path.as_str(), *size)), &directory)
    }
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
        below == "/" || self.entries.range(below.clone()..).next().is_some_and(|(path, _)| path.starts_with(&below))
    }

    fn canonical(&self, path: &str) -> Option<String> {
        let known = self.entries.contains_key(path.trim_start_matches('/')) || self.is_dir(path);
        known.then(|| path.to_owned())
    }

    fn list(&self, directory: &str) -> std::result::Result<Vec<(String, Option<u64>)>, FileError> {
        Ok(manifest::tree::listed(manifest::Tree::entries(self, directory)))
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
