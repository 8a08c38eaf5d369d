//! What a commit wants to run: its manifests, rendered once, kept as a blob.

use globset::GlobSet;
use manifest::SourceFile;
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
    let path = |name: &str| if directory.is_empty() { name.to_owned() } else { format!("{directory}/{name}") };
    // Files that are no manifests are looked at too, so that a chart or a kustomization is recognised by its own.
    let named = |name: &str| manifest::is_manifest(name) || name.ends_with("kustomization") || name == "Kustomization";
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
    let values: Vec<_> = objects.into_iter().map(|object| object.value).collect();
    let text = serde_json::to_vec(&values).map_err(|e| Fault::from_error(Class::Internal, &e))?;
    Ok(Some(store::blobs::put(&*app.blobs, text).await?))
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
