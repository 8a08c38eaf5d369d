//! One front door: finds out what a path is, and renders it.

use std::{
    collections::{BTreeMap, VecDeque},
    rc::Rc,
    sync::Arc,
};

use chart::{Flavor, Given, KubeVersion, Loader, Warnings};
use kustomize::FileError;

use crate::{
    Error, MAX_OBJECTS, Object, Result,
    document::{Document, Name, Origin, Traced},
    history::History,
    parse::{flatten, unique},
    plain,
    tree::{ChartFiles, Tree, clean, join},
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
            App::File => plain::file(tree, &path),
            App::Directory => plain::directory(tree, &directory),
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
        let roots = if how.trace && app == App::Chart { roots(tree, &chart, path) } else { BTreeMap::new() };
        let (rendered, traces) = if how.trace {
            let (rendered, traces) = render.run_traced(&chart, &values, &warnings).map_err(failed)?;
            (rendered, Some(Rc::new(Traced { traces, roots: roots.clone() })))
        } else {
            (render.run(&chart, &values, &warnings).map_err(failed)?, None)
        };
        let mut documents = Vec::new();
        if how.include_crds {
            for (file, text) in &rendered.crds {
                documents.extend(plain::documents_of(&place(&roots, file), text)?);
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

/// The directories of a chart and of its unpacked subcharts, by what the names of their templates begin with.
fn roots(tree: &dyn Tree, chart: &chart::Chart, path: &str) -> BTreeMap<String, String> {
    fn add(tree: &dyn Tree, chart: &chart::Chart, prefix: &str, path: &str, roots: &mut BTreeMap<String, String>) {
        roots.insert(prefix.to_owned(), path.to_owned());
        for (name, child) in named_children(chart) {
            let directory = join(path, &format!("charts/{}", child.name()));
            if tree.is_dir(&directory) {
                add(tree, child, &format!("{prefix}/charts/{name}"), &directory, roots);
            }
        }
    }
    let mut roots = BTreeMap::new();
    add(tree, chart, chart.name(), path, &mut roots);
    roots
}

/// The subcharts of a chart by the names that they go by in it; with several aliases, one is there several times.
pub(crate) fn named_children(chart: &chart::Chart) -> Vec<(String, &chart::Chart)> {
    let mut found = Vec::new();
    for child in &chart.dependencies {
        let declared = chart.metadata.dependencies.iter().filter(|wanted| wanted.name == child.name());
        let before = found.len();
        found.extend(declared.map(|wanted| {
            let name = if wanted.alias.is_empty() { &wanted.name } else { &wanted.alias };
            (name.clone(), child)
        }));
        if found.len() == before {
            found.push((child.name().to_owned(), child));
        }
    }
    found
}

/// The file of a template, if it is in none of the archives.
pub(crate) fn place(roots: &BTreeMap<String, String>, template: &str) -> String {
    let ends = template.match_indices('/').map(|(at, _)| at).rev();
    let found = ends.map(|end| template.split_at(end)).find_map(|(prefix, rest)| Some((roots.get(prefix)?, rest)));
    match found {
        // What is in an archive has the name that templates give it.
        Some((_, rest)) if rest.starts_with("/charts/") => template.to_owned(),
        Some((root, rest)) => join(root, rest.trim_start_matches('/')),
        None => template.to_owned(),
    }
}

fn has_content(text: &str) -> bool {
    text.lines().any(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'))
}

pub(crate) fn ended(text: &str) -> String {
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
    let history = how.trace.then(History::default);
    let observer = history.as_ref().map(|history| history as &dyn kustomize::Observer);
    let rendering = skaffold::RenderOptions {
        images: &BTreeMap::new(),
        env: &|_| None,
        namespace: "",
        kustomize: kustomize::Options { charts: Some(&charts), observer, ..Default::default() },
        charts: None,
        flavor: how.flavor,
        now: now(how),
        seed: how.seed,
    };
    let rendered = skaffold::render(tree, &loaded.entries, &rendering).map_err(failed)?;
    let history = history.map(Rc::new);
    // The objects are printed anew: their lines are looked up in the files that they were read from.
    let mut read: BTreeMap<String, VecDeque<Rc<yaml::Node>>> = BTreeMap::new();
    let mut documents = Vec::with_capacity(rendered.objects.len());
    for object in &rendered.objects {
        let name = Name::of(&object.value);
        let origin = match object.made {
            skaffold::Made::Kustomization => {
                Origin::Kustomization { root: object.source.clone(), history: history.clone() }
            }
            skaffold::Made::File if how.trace => {
                let roots = read.entry(object.source.clone()).or_insert_with(|| {
                    let content = tree.read(&object.source).unwrap_or_default();
                    plain::roots(&String::from_utf8_lossy(&content)).into()
                });
                let root = roots
                    .pop_front()
                    .filter(|root| root.get("kind").and_then(yaml::Node::as_scalar).unwrap_or_default() == name.kind);
                Origin::Reprinted { file: object.source.clone(), before: 0, root }
            }
            _ => Origin::Reprinted { file: object.source.clone(), before: 0, root: None },
        };
        documents.push(Document { name, text: yaml::to_go(&object.value), origin, hook: None });
    }
    let warnings = loaded.warnings.into_iter().chain(rendered.warnings).collect();
    Ok(Output { app: App::Skaffold, documents, warnings })
}

fn now(how: &How) -> jiff::Timestamp {
    how.now.and_then(|now| jiff::Timestamp::from_second(now).ok()).unwrap_or_default()
}

/// Charts that a kustomization names and that are among the files.
fn inflate(how: &How) -> kustomize::Inflate<'static> {
    let (flavor, now, seed) = (how.flavor, now(how), how.seed);
    kustomize::Inflate { flavor, now, seed, api_versions: how.api_versions.clone(), ..kustomize::Inflate::new() }
}

pub(crate) fn unreadable(path: &str, error: &FileError) -> Error {
    Error::Unreadable { file: path.to_owned(), cause: error.to_string() }
}
