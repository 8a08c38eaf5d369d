//! One front door: finds out what a path is, and renders it.

use std::{rc::Rc, sync::Arc};

use chart::{Flavor, Given, KubeVersion, Loader, Warnings};
use kustomize::FileError;

use crate::{
    Error, MAX_FILE_BYTES, MAX_OBJECTS, Object, Result, SourceFile,
    document::{Document, Name, Origin, Traced},
    history::History,
    is_manifest,
    parse::{flatten, unique},
    tree::{ChartFiles, EntryKind, Tree, clean, join},
};

/// What can be rendered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum App {
    /// A directory with a `Chart.yaml`.
    Chart,
    /// A packed chart.
    Archive,
    /// A directory with a kustomization file.
    Kustomization,
    /// A file of Skaffold.
    Skaffold,
    /// A file with objects in it.
    File,
    /// A directory with such files, in it and below it.
    Directory,
}

impl App {
    /// What people call it.
    pub fn what(self) -> &'static str {
        match self {
            Self::Chart => "chart",
            Self::Archive => "packed chart",
            Self::Kustomization => "kustomization",
            Self::Skaffold => "Skaffold project",
            Self::File => "file of objects",
            Self::Directory => "directory of objects",
        }
    }

    /// Whether values, a release name and a namespace mean something for it.
    pub fn takes_values(self) -> bool {
        matches!(self, Self::Chart | Self::Archive)
    }
}

/// How to render.
#[derive(Clone, Debug)]
pub struct How {
    /// The release's name.
    pub name: String,
    /// The release's namespace.
    pub namespace: String,
    /// Values that are put over the chart's; files are read from the tree, relative names from `directory`.
    pub given: Given,
    /// Where relative names of values files are relative to.
    pub directory: String,
    pub flavor: Flavor,
    /// The version of Kubernetes that templates are told; the one that this Helm takes for granted if there is none.
    pub kube: Option<KubeVersion>,
    /// APIs that templates are told the cluster has, besides those of Kubernetes itself.
    pub api_versions: Vec<String>,
    /// The definitions of custom resources of charts too.
    pub include_crds: bool,
    /// Without hooks that are tests.
    pub skip_tests: bool,
    /// What `now` is in templates.
    pub now: Option<i64>,
    /// What everything random is made from.
    pub seed: u64,
    /// Whether to note what is behind every byte.
    pub trace: bool,
    /// Kustomizations may read files outside of their directories.
    pub load_anywhere: bool,
}

impl Default for How {
    fn default() -> Self {
        Self {
            name: "release-name".into(),
            namespace: "default".into(),
            given: Given::default(),
            directory: "/".into(),
            flavor: Flavor::Helm4,
            kube: None,
            api_versions: Vec::new(),
            include_crds: false,
            skip_tests: false,
            now: None,
            seed: 0,
            trace: false,
            load_anywhere: false,
        }
    }
}

/// What was rendered.
#[derive(Debug, Clone)]
pub struct Output {
    pub app: App,
    /// In the order of the tool that this replaces.
    pub documents: Vec<Document>,
    pub warnings: Vec<String>,
}

impl Output {
    /// The objects for an environment, lists taken apart, each once. Tests are left out, and so are hooks for what a release never
    /// does (a chart is not deleted or rolled back by hooks here). A hook that would have to run before or after the rest is an
    /// error: everything of a release is applied together, and what ran out of order would do harm.
    pub fn objects(&self, from: &str) -> Result<Vec<Object>> {
        const NEVER: [&str; 6] = ["test", "test-success", "pre-delete", "post-delete", "pre-rollback", "post-rollback"];
        let mut objects = Vec::new();
        for document in &self.documents {
            if let Some(words) = &document.hook {
                let runs: Vec<&str> = words.split(',').map(str::trim).filter(|word| !NEVER.contains(word)).collect();
                if runs.is_empty() {
                    continue;
                }
                return Err(Error::Hook {
                    template: document.origin.at(0, 1).file,
                    object: document.name.to_string(),
                    words: runs.join(", "),
                });
            }
            let at = document.origin.at(0, 1);
            let value =
                document.value().map_err(|source| Error::Yaml { file: at.file.clone(), source: Box::new(source) })?;
            flatten(value.into(), &at, "", &mut objects)?;
        }
        unique(&objects, &[])?;
        match objects.len() {
            0 => Err(Error::Empty(from.to_owned())),
            count if count > MAX_OBJECTS => Err(Error::TooMany { from: from.to_owned(), limit: MAX_OBJECTS }),
            _ => Ok(objects),
        }
    }
}

/// Renders many apps, and keeps what they share: parsed templates.
#[derive(Clone, Default)]
pub struct Kitchen {
    templates: Arc<template::Cache>,
}

/// Says what is at a path.
pub fn recognise_path(tree: &dyn Tree, path: &str) -> Result<App> {
    let Some(real) = tree.canonical(path) else { return Err(Error::Missing(path.to_owned())) };
    if !tree.is_dir(&real) {
        let name = path.rsplit('/').next().unwrap_or(path);
        return Ok(match name {
            name if name.ends_with(".tgz") || name.ends_with(".tar.gz") => App::Archive,
            name if kustomize::NAMES.contains(&name) => App::Kustomization,
            "Chart.yaml" => App::Chart,
            name if skaffold::NAMES.contains(&name) => App::Skaffold,
            _ => App::File,
        });
    }
    // Asked one by one, so that what else lies in the directory does not matter to who notes what was asked.
    let has = |wanted: &str| tree.canonical(&join(&real, wanted)).is_some_and(|found| !tree.is_dir(&found));
    Ok(if has("Chart.yaml") {
        App::Chart
    } else if kustomize::NAMES.iter().any(|name| has(name)) {
        App::Kustomization
    } else if skaffold::NAMES.iter().any(|name| has(name)) {
        App::Skaffold
    } else {
        App::Directory
    })
}

impl Kitchen {
    /// Renders what is at a path.
    pub fn render(&self, tree: &dyn Tree, path: &str, how: &How) -> Result<Output> {
        let path = clean(path);
        let app = recognise_path(tree, &path)?;
        // A file that makes a directory what it is stands for the directory.
        let directory = if matches!(app, App::Chart | App::Kustomization) && !tree.is_dir(&path) {
            join(&path, "..")
        } else {
            path.clone()
        };
        match app {
            App::Chart | App::Archive => self.chart(tree, &directory, app, how),
            App::Kustomization => kustomization(tree, &directory, how),
            App::Skaffold => skaffold_project(tree, &path, how),
            App::File => plain(&[read(tree, &path)?], app),
            App::Directory => directory_of_files(tree, &directory),
        }
    }

    fn chart(&self, tree: &dyn Tree, path: &str, app: App, how: &How) -> Result<Output> {
        let failed = |source: chart::Error| Error::Chart { from: path.to_owned(), source: Box::new(source) };
        let warnings = Warnings::default();
        let loader = Loader { flavor: how.flavor, ..Loader::default() };
        let chart = match app {
            App::Archive => {
                let archive = tree.read(path).map_err(|error| unreadable(path, &error))?;
                loader.archive(&archive, &warnings).map_err(failed)?
            }
            _ => loader.tree(&ChartFiles { tree, root: path.to_owned() }, &warnings).map_err(failed)?,
        };
        let mut reader = |file: &str| {
            tree.read(&join(&how.directory, file)).map_err(|error| match error {
                FileError::NotFound(_) => format!("open {file}: no such file or directory"),
                other => other.to_string(),
            })
        };
        let values = how.given.merge(&mut reader, how.flavor).map_err(failed)?;
        chart.installable().and_then(|()| chart.check_dependencies(how.flavor)).map_err(failed)?;
        let mut render = chart::Render::offline(how.flavor, &how.name, &how.namespace);
        render.options.seed = how.seed;
        render.options.trace = how.trace;
        render.options.now = now(how);
        render.cache = Some(self.templates.clone());
        render.include_crds = how.include_crds;
        if let Some(kube) = &how.kube {
            render.capabilities.kube = kube.clone();
        }
        render.capabilities.api_versions.extend(how.api_versions.iter().cloned());
        let (rendered, traces) = if how.trace {
            let (rendered, traces) = render.run_traced(&chart, &values, &warnings).map_err(failed)?;
            (rendered, Some(Rc::new(Traced { traces })))
        } else {
            (render.run(&chart, &values, &warnings).map_err(failed)?, None)
        };
        let mut documents = Vec::new();
        if how.include_crds {
            for (file, text) in &rendered.crds {
                // As a file of a chart, so that its lines can be named.
                documents.extend(documents_of(&format!("/{file}"), text)?);
            }
        }
        let mut offsets = Offsets::new(&rendered.files, how.flavor);
        let mut add = |path: &str, text: &str, name: Name, hook: Option<String>| {
            let offset = if how.trace { offsets.of(path, text) } else { 0 };
            let origin = Origin::Template { template: path.to_owned(), offset, traces: traces.clone() };
            // What follows `---` on the same line, and comments without an object, are nothing to apply.
            if !name.kind.is_empty() || !name.api_version.is_empty() || has_content(text) {
                documents.push(Document { name, text: ended(text), origin, hook });
            }
        };
        for manifest in &rendered.manifests {
            let head = &manifest.head;
            let name = Name {
                kind: head.kind.clone(),
                namespace: head.namespace.clone(),
                name: head.name.clone(),
                api_version: head.version.clone(),
            };
            add(&manifest.path, &manifest.content, name, None);
        }
        for hook in &rendered.hooks {
            if how.skip_tests && hook.is_test() {
                continue;
            }
            let value = yaml::from_str(&hook.manifest)
                .map_err(|source| Error::Yaml { file: hook.path.clone(), source: Box::new(source) })?;
            let words =
                match value.get("metadata").and_then(|m| m.get("annotations")).and_then(|a| a.get("helm.sh/hook")) {
                    Some(yaml::Value::String(words)) => words.clone(),
                    _ => "hook".to_owned(),
                };
            add(&hook.path, &hook.manifest, Name::of(&value), Some(words));
        }
        Ok(Output { app, documents, warnings: warnings.take() })
    }
}

fn has_content(text: &str) -> bool {
    text.lines().any(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'))
}

fn ended(text: &str) -> String {
    let mut text = text.trim_end().to_owned();
    text.push('\n');
    text
}

/// Finds documents again in the texts that they were cut from.
struct Offsets<'a> {
    cut: std::collections::HashMap<&'a str, Vec<(usize, &'a str)>>,
}

impl<'a> Offsets<'a> {
    fn new(files: &'a std::collections::BTreeMap<String, String>, flavor: Flavor) -> Self {
        let cut = files.iter().map(|(path, text)| {
            let begin = text.as_ptr().addr();
            let parts = chart::manifest::split(text, flavor);
            (path.as_str(), parts.into_iter().map(|part| (part.as_ptr().addr() - begin, part)).collect())
        });
        Self { cut: cut.collect() }
    }

    /// Each document is found once, so that equal ones are told apart.
    fn of(&mut self, path: &str, text: &str) -> usize {
        let Some(parts) = self.cut.get_mut(path) else { return 0 };
        let Some(at) = parts.iter().position(|(_, part)| *part == text) else { return 0 };
        parts.remove(at).0
    }
}

fn kustomization(tree: &dyn Tree, path: &str, how: &How) -> Result<Output> {
    let history = how.trace.then(History::default);
    let charts = inflate(how);
    let options = kustomize::Options {
        load_restrictor: if how.load_anywhere {
            kustomize::LoadRestrictor::None
        } else {
            kustomize::LoadRestrictor::RootOnly
        },
        charts: Some(&charts),
        observer: history.as_ref().map(|history| history as &dyn kustomize::Observer),
        ..Default::default()
    };
    let built = kustomize::build(tree, path, &options);
    let built = built.map_err(|source| Error::Kustomization { from: path.to_owned(), source: Box::new(source) })?;
    let history = history.map(Rc::new);
    let documents = built.objects.iter().map(|object| Document {
        name: Name {
            kind: object.id.gvk.kind.clone(),
            namespace: object.id.namespace.clone(),
            name: object.id.name.clone(),
            api_version: object.id.gvk.api_version(),
        },
        text: yaml::to_go(&object.value),
        origin: Origin::Kustomization { root: path.to_owned(), history: history.clone() },
        hook: None,
    });
    Ok(Output { app: App::Kustomization, documents: documents.collect(), warnings: built.warnings })
}

/// What the configurations of a file of Skaffold make, without profiles; images keep the names that artifacts have.
fn skaffold_project(tree: &dyn Tree, path: &str, how: &How) -> Result<Output> {
    let failed = |source: skaffold::Error| Error::Skaffold { from: path.to_owned(), source: Box::new(source) };
    let names = skaffold::NAMES.map(|name| join(path, name));
    let file = names.into_iter().find(|file| tree.is_dir(path) && tree.canonical(file).is_some());
    let file = file.unwrap_or_else(|| path.to_owned());
    let directory = join(&file, "..");
    let mut options = skaffold::Options::new(&directory);
    options.situation.command = "render";
    let loaded = skaffold::load(tree, &file, &options).map_err(failed)?;
    let charts = inflate(how);
    let rendering = skaffold::RenderOptions {
        images: &std::collections::BTreeMap::new(),
        env: &|_| None,
        namespace: "",
        kustomize: kustomize::Options { charts: Some(&charts), ..Default::default() },
        charts: None,
        flavor: how.flavor,
        now: now(how),
        seed: how.seed,
    };
    let rendered = skaffold::render(tree, &loaded.entries, &rendering).map_err(failed)?;
    let documents = rendered.objects.iter().map(|object| Document {
        name: Name::of(&object.value),
        text: yaml::to_go(&object.value),
        origin: Origin::File { file: object.source.clone(), line: 1 },
        hook: None,
    });
    let warnings = loaded.warnings.into_iter().chain(rendered.warnings).collect();
    Ok(Output { app: App::Skaffold, documents: documents.collect(), warnings })
}

fn now(how: &How) -> jiff::Timestamp {
    how.now.and_then(|now| jiff::Timestamp::from_second(now).ok()).unwrap_or_default()
}

/// Charts that a kustomization names and that are among the files.
fn inflate(how: &How) -> kustomize::Inflate<'static> {
    let (flavor, now, seed) = (how.flavor, now(how), how.seed);
    kustomize::Inflate { flavor, now, seed, api_versions: how.api_versions.clone(), ..kustomize::Inflate::new() }
}

fn unreadable(path: &str, error: &FileError) -> Error {
    Error::Unreadable { file: path.to_owned(), cause: error.to_string() }
}

fn read(tree: &dyn Tree, path: &str) -> Result<(String, Vec<u8>)> {
    let content = tree.read(path).map_err(|error| unreadable(path, &error))?;
    Ok((path.to_owned(), content))
}

/// Directories in directories of plain files.
const DEEPEST: usize = 40;
/// Files of one directory of objects.
const MOST_FILES: usize = 20_000;

fn directory_of_files(tree: &dyn Tree, path: &str) -> Result<Output> {
    let mut files = Vec::new();
    collect(tree, path, 0, &mut files)?;
    let contents = files.iter().map(|file| read(tree, file)).collect::<Result<Vec<_>>>()?;
    if contents.is_empty() {
        return Err(Error::Empty(path.to_owned()));
    }
    plain(&contents, App::Directory)
}

fn collect(tree: &dyn Tree, directory: &str, depth: usize, files: &mut Vec<String>) -> Result<()> {
    if depth > DEEPEST || files.len() > MOST_FILES {
        return Err(Error::Unreadable {
            file: directory.to_owned(),
            cause: format!("there are more than {MOST_FILES} files, or directories nested deeper than {DEEPEST}"),
        });
    }
    let mut entries = tree.entries(directory);
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    for (name, kind) in entries {
        let path = join(directory, &name);
        match kind {
            EntryKind::Directory if !name.starts_with('.') => match recognise_path(tree, &path)? {
                App::Directory => collect(tree, &path, depth + 1, files)?,
                other => return Err(Error::Below { file: path, what: other.what() }),
            },
            EntryKind::File(_) if is_manifest(&name) && !name.starts_with('.') => files.push(path),
            _ => {}
        }
    }
    Ok(())
}

/// The objects of texts, as they stand there.
fn plain(files: &[(String, Vec<u8>)], app: App) -> Result<Output> {
    let mut documents = Vec::new();
    for (path, content) in files {
        if content.len() > MAX_FILE_BYTES {
            let cause = format!("the file has more than {} MiB: split it", MAX_FILE_BYTES >> 20);
            return Err(Error::Unreadable { file: path.clone(), cause });
        }
        let Ok(text) = std::str::from_utf8(content) else {
            return Err(Error::Unreadable { file: path.clone(), cause: "it is not UTF-8".to_owned() });
        };
        documents.extend(documents_of(path, text)?);
    }
    Ok(Output { app, documents, warnings: Vec::new() })
}

/// Objects of a text that came from nowhere in particular, for example standard input.
pub fn objects_of(file: &str, text: &str) -> Result<Output> {
    plain(&[(file.to_owned(), text.as_bytes().to_vec())], App::File)
}

fn documents_of(path: &str, text: &str) -> Result<Vec<Document>> {
    // The checks and sentences of the pipeline: one object each, with a kind and a name, none twice.
    let checked = crate::parse(path, &[SourceFile { path, content: text.as_bytes() }]);
    match checked {
        Ok(_) | Err(Error::Empty(_)) => {}
        Err(error) => return Err(error),
    }
    let mut found = Vec::new();
    for part in crate::parse::documents(text) {
        let value = yaml::from_str(part.text)
            .map_err(|source| Error::Yaml { file: path.to_owned(), source: Box::new(source) })?;
        if value.is_null() {
            continue;
        }
        let (skipped, body) = part.body();
        let line = (part.before + skipped + 1) as u64;
        let origin = Origin::File { file: path.to_owned(), line };
        found.push(Document { name: Name::of(&value), text: ended(body), origin, hook: None });
    }
    Ok(found)
}
