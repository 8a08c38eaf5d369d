//! The manifests of configurations: raw YAML, kustomizations and charts, with the images in them named.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};

use chart::{Flavor, Given, Loader, Render, Warnings, render::Shown};
use kustomize::{ChartDirectory, Files, path};
use yaml::Value;

use crate::{
    Entry, Error, HelmRelease, Result,
    expand::Variables,
    image::{self, Reference},
};

/// Brings charts that are not among the files.
pub trait Charts {
    /// The chart of that name in a repository (empty: the name says where it is), in that version (empty: the newest).
    fn fetch(&self, name: &str, repository: &str, version: &str) -> std::result::Result<chart::Chart, String>;
}

/// How manifests are made.
#[derive(Clone, Copy)]
pub struct RenderOptions<'a> {
    /// Image as an artifact names it → the reference to use. Artifacts that are not here keep their names.
    pub images: &'a BTreeMap<String, String>,
    /// The environment, for templates.
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// The namespace of releases that do not say theirs; empty for `default`.
    pub namespace: &'a str,
    /// How kustomizations are built.
    pub kustomize: kustomize::Options<'a>,
    /// Brings remote charts; without it, they are errors.
    pub charts: Option<&'a dyn Charts>,
    pub flavor: Flavor,
    /// What `now` is in charts.
    pub now: jiff::Timestamp,
    /// What everything random in charts is made from.
    pub seed: u64,
}

/// What made an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Made {
    /// It stands in a file.
    File,
    Kustomization,
    Release,
}

/// One object, and what it was made from.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    pub value: Value,
    /// The file, the directory of the kustomization, or the template of the release.
    pub source: String,
    pub made: Made,
}

/// What configurations make, in their order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Rendered {
    pub objects: Vec<Object>,
    /// What is not done here, and what the engines warned of.
    pub warnings: Vec<String>,
    /// Names of [`RenderOptions::images`] that are no artifact's and that no object has.
    pub unused: Vec<String>,
}

impl Rendered {
    /// All objects as one YAML stream.
    pub fn text(&self) -> String {
        self.objects.iter().map(|object| yaml::to_go(&object.value)).collect::<Vec<_>>().join("---\n")
    }
}

/// Bytes of one manifest.
const LARGEST: usize = 64 << 20;
/// Files that one glob may find.
const MOST: usize = 20_000;

/// Makes the objects of configurations.
pub fn render(files: &dyn Files, entries: &[Entry], options: &RenderOptions<'_>) -> Result<Rendered> {
    let mut images = BTreeMap::new();
    for artifact in entries.iter().flat_map(|entry| &entry.config.build.artifacts) {
        images.insert(artifact.image.clone(), artifact.image.clone());
    }
    images.extend(options.images.iter().map(|(name, built)| (name.clone(), built.clone())));
    let used = entries.iter().flat_map(|entry| &entry.config.build.artifacts).map(|artifact| artifact.image.clone());
    let used = used.collect();
    let mut work = Work { files, options, rendered: Rendered::default(), images, used };
    for entry in entries {
        if entry.remote.is_some() {
            return Err(Error::Unsupported(format!(
                "the configuration in {} was fetched; its manifests cannot be rendered from here: copy it beside the others",
                entry.file
            )));
        }
        work.entry(entry)?;
    }
    let used = work.used;
    let unused = options.images.keys().filter(|name| !used.contains(*name));
    work.rendered.unused = unused.cloned().collect();
    Ok(work.rendered)
}

struct Work<'a> {
    files: &'a dyn Files,
    options: &'a RenderOptions<'a>,
    rendered: Rendered,
    images: BTreeMap<String, String>,
    /// Names of given images that something has.
    used: BTreeSet<String>,
}

impl Work<'_> {
    fn entry(&mut self, entry: &Entry) -> Result<()> {
        let manifests = &entry.config.manifests;
        let not_here = [
            (!manifests.kpt.is_empty(), "manifests.kpt"),
            (!manifests.remote_manifests.is_empty(), "manifests.remoteManifests, which asks a cluster"),
            (manifests.transform.is_some(), "manifests.transform"),
            (manifests.validate.is_some(), "manifests.validate"),
        ];
        if let Some((_, what)) = not_here.iter().find(|(used, _)| *used) {
            return Err(Error::Unsupported(format!("{}: {what} is not supported", entry.file)));
        }
        if !manifests.hooks.before.is_empty() || !manifests.hooks.after.is_empty() {
            self.rendered.warnings.push(format!("{}: manifests.hooks are not run", entry.file));
        }
        let from = self.rendered.objects.len();
        let deploy = &entry.config.deploy;
        let mut raw = manifests.raw_yaml.clone();
        let elsewhere = manifests.kustomize.is_some()
            || manifests.helm.is_some()
            || deploy.helm.is_some()
            || deploy.docker.is_some()
            || deploy.cloudrun.is_some();
        if raw.is_empty() && !elsewhere {
            raw.push("k8s/*.yaml".to_owned());
        }
        for pattern in &raw {
            self.raw(entry, pattern)?;
        }
        for directory in manifests.kustomize.iter().flat_map(|kustomize| &kustomize.paths) {
            self.kustomization(entry, directory)?;
        }
        let releases = match (&manifests.helm, &deploy.helm) {
            (Some(helm), _) => &helm.releases,
            (None, Some(helm)) => &helm.releases,
            (None, None) => &Vec::new(),
        };
        for release in releases {
            self.release(entry, release)?;
        }
        let more: Vec<(String, Vec<String>)> = (entry.config.resource_selector.allow.iter())
            .map(|filter| (filter.group_kind.clone(), filter.image.iter().map(|path| plain(path)).collect()))
            .collect();
        for object in &mut self.rendered.objects[from..] {
            // An artifact that nothing is given for stays as it is written, tag and all.
            image::replace(&mut object.value, self.options.images, &more, &mut self.used);
        }
        Ok(())
    }

    fn variables(&self) -> Variables<'_> {
        Variables { given: BTreeMap::new(), env: self.options.env }
    }

    fn add(&mut self, text: &str, source: &str, made: Made) -> Result<()> {
        let values =
            yaml::from_str_all(text).map_err(|error| Error::Malformed { file: source.to_owned(), source: error })?;
        for value in values {
            let items = match (value.get("kind").and_then(Value::as_str), value.get("items")) {
                (Some("List"), Some(Value::List(items))) => items.clone(),
                _ => vec![value],
            };
            for value in items.into_iter().filter(|value| !value.is_null()) {
                self.rendered.objects.push(Object { value, source: source.to_owned(), made });
            }
        }
        Ok(())
    }

    fn raw(&mut self, entry: &Entry, pattern: &str) -> Result<()> {
        if ["http://", "https://", "gs://"].iter().any(|scheme| pattern.starts_with(scheme)) {
            return Err(Error::Remote(format!(
                "{}: manifests.rawYaml names {pattern}, and nothing is fetched: keep a copy beside the file",
                entry.file
            )));
        }
        let wanted = path::join(&entry.base, &self.variables().expand("manifests.rawYaml", pattern)?);
        let found = self.glob(&wanted)?;
        if found.is_empty() {
            self.rendered.warnings.push(format!("{pattern} did not match any file"));
        }
        for file in found {
            let known = [".yaml", ".yml", ".json"].iter().any(|end| file.to_lowercase().ends_with(end));
            if !known && file != wanted {
                continue;
            }
            let cannot = |problem: String| Error::Render { what: file.clone(), problem };
            let bytes = self.files.read(&file).map_err(|error| cannot(error.to_string()))?;
            if bytes.len() > LARGEST {
                return Err(cannot(format!("the file is larger than {LARGEST} bytes")));
            }
            let text = String::from_utf8(bytes).map_err(|_| cannot("the text is not UTF-8".to_owned()))?;
            self.add(&text, &file, Made::File)?;
        }
        Ok(())
    }

    /// The files that a pattern finds, in the order of their names; below a directory, all of them.
    fn glob(&self, pattern: &str) -> Result<Vec<String>> {
        if self.files.canonical(pattern).is_some() && !self.files.is_dir(pattern) {
            return Ok(vec![pattern.to_owned()]);
        }
        let mut found = vec![String::new()];
        for part in pattern.split('/').filter(|part| !part.is_empty()) {
            let mut next = Vec::new();
            for directory in &found {
                if !part.contains(['*', '?', '[']) {
                    let path = format!("{directory}/{part}");
                    next.extend(self.files.canonical(&path).map(|_| path));
                    continue;
                }
                let mut names = self.files.list(if directory.is_empty() { "/" } else { directory }).unwrap_or_default();
                names.sort_by(|a, b| a.0.cmp(&b.0));
                next.extend(
                    names
                        .into_iter()
                        .filter(|(name, _)| fits(part, name))
                        .map(|(name, _)| format!("{directory}/{name}")),
                );
            }
            if next.len() > MOST {
                return Err(Error::Limit(format!("{pattern} matches more than {MOST} files")));
            }
            found = next;
        }
        let mut files = Vec::new();
        for path in found {
            self.below(path, &mut files, 0)?;
        }
        Ok(files)
    }

    fn below(&self, path: String, files: &mut Vec<String>, depth: usize) -> Result<()> {
        if !self.files.is_dir(&path) {
            files.push(path);
        } else if depth > 32 || files.len() > MOST {
            return Err(Error::Limit(format!("{path}: more than {MOST} files, or more than 32 directories deep")));
        } else {
            let mut names = self.files.list(&path).unwrap_or_default();
            names.sort_by(|a, b| a.0.cmp(&b.0));
            for (name, _) in names {
                self.below(format!("{path}/{name}"), files, depth + 1)?;
            }
        }
        Ok(())
    }

    fn kustomization(&mut self, entry: &Entry, directory: &str) -> Result<()> {
        let directory = self.variables().expand("manifests.kustomize.paths", directory)?;
        if directory.starts_with("http://") || directory.starts_with("https://") {
            return Err(Error::Remote(format!(
                "{}: manifests.kustomize.paths names {directory}: keep a copy beside the file",
                entry.file
            )));
        }
        let root = path::join(&entry.base, &directory);
        let built = kustomize::build(self.files, &root, &self.options.kustomize)
            .map_err(|error| Error::Render { what: format!("kustomization {root}"), problem: error.to_string() })?;
        self.rendered.warnings.extend(built.warnings);
        let objects = built.objects.into_iter().map(|object| Object {
            value: object.value,
            source: root.clone(),
            made: Made::Kustomization,
        });
        self.rendered.objects.extend(objects);
        Ok(())
    }

    fn release(&mut self, entry: &Entry, release: &HelmRelease) -> Result<()> {
        let what = format!("release {:?} of {}", release.name, entry.file);
        let wrong = |problem: String| Error::Render { what: what.clone(), problem };
        if release.use_helm_secrets {
            return Err(Error::Unsupported(format!(
                "{what}: useHelmSecrets is not supported: decrypt the values first"
            )));
        }
        let plain = self.variables();
        let name = plain.expand("name", &release.name)?;
        let namespace = match (self.options.namespace, plain.expand("namespace", &release.namespace)?) {
            ("", own) if own.is_empty() => "default".to_owned(),
            ("", own) => own,
            (given, _) => given.to_owned(),
        };
        let warnings = Warnings::default();
        let chart = if release.chart_path.is_empty() {
            let Some(charts) = self.options.charts else {
                return Err(Error::Remote(format!(
                    "{what}: the chart {:?} is remote, and nothing is fetched unless it is allowed: allow it (`--allow-remote`), or keep a copy and name it in `chartPath`",
                    release.remote_chart
                )));
            };
            charts.fetch(&release.remote_chart, &release.repo, &release.version).map_err(wrong)?
        } else {
            let root = path::join(&entry.base, &plain.expand("chartPath", &release.chart_path)?);
            self.chart(&root, &warnings).map_err(wrong)?
        };
        let values = self.values(entry, release, &what)?;
        chart
            .installable()
            .and_then(|()| chart.check_dependencies(self.options.flavor))
            .map_err(|error| wrong(error.to_string()))?;
        let mut render = Render::offline(self.options.flavor, &name, &namespace);
        render.options.now = self.options.now;
        render.options.seed = self.options.seed;
        let rendered = render.run(&chart, &values, &warnings);
        self.rendered.warnings.extend(warnings.take());
        let shown = Shown { skip_tests: release.skip_tests, ..Shown::default() };
        let text = rendered
            .and_then(|rendered| rendered.print(&shown, self.options.flavor))
            .map_err(|error| wrong(error.to_string()))?;
        // Each document begins with the name of its template, which begins with that of the chart.
        let root = match release.chart_path.as_str() {
            "" => None,
            local => Some(path::join(&entry.base, &self.variables().expand("chartPath", local)?)),
        };
        for document in documents(&text) {
            let template = document.lines().find_map(|line| line.strip_prefix("# Source: "));
            let inside = template.and_then(|template| template.split_once('/')).map(|(_, inside)| inside);
            let file = inside.zip(root.as_ref()).map(|(inside, root)| path::join(root, inside));
            let file = file.filter(|file| self.files.canonical(file).is_some());
            let source = file.unwrap_or_else(|| format!("release {name}"));
            self.add(document, &source, Made::Release)?;
        }
        Ok(())
    }

    fn chart(&self, root: &str, warnings: &Warnings) -> std::result::Result<chart::Chart, String> {
        let loader = Loader { flavor: self.options.flavor, ..Loader::default() };
        let loaded = if self.files.is_dir(root) {
            loader.tree(&ChartDirectory::new(self.files, root), warnings)
        } else {
            loader.archive(&self.files.read(root).map_err(|error| error.to_string())?, warnings)
        };
        loaded.map_err(|error| error.to_string())
    }

    /// What the release says of values, in the order in which skaffold hands it to helm.
    fn values(&self, entry: &Entry, release: &HelmRelease, what: &str) -> Result<yaml::Map> {
        let variables = Variables { given: self.image_variables(), env: self.options.env };
        let mut given = Given::default();
        for file in &release.values_files {
            given.files.push(path::join(&entry.base, &variables.expand("valuesFiles", file)?));
        }
        for (key, value) in &release.set_values {
            given.typed.push(format!("{key}={value}"));
        }
        for (key, value) in &release.set_value_templates {
            let key = variables.expand("setValueTemplates", key)?;
            let value = variables.expand("setValueTemplates", value)?;
            // A tag without a digest, put together as TAG@DIGEST.
            given.typed.push(format!("{key}={}", value.strip_suffix('@').unwrap_or(&value)));
        }
        for (key, file) in &release.set_files {
            given.contents.push(format!("{key}={}", path::join(&entry.base, file)));
        }
        let overrides = (!release.overrides.is_empty()).then(|| {
            given.files.push(OVERRIDES.to_owned());
            yaml::to_go(&serde_json::Value::Object(release.overrides.clone()).into())
        });
        let problem = RefCell::new(None);
        let mut read = |file: &str| match &overrides {
            Some(text) if file == OVERRIDES => Ok(text.clone().into_bytes()),
            _ => self.files.read(file).map_err(|error| {
                problem.replace(Some(error.to_string()));
                error.to_string()
            }),
        };
        given.merge(&mut read, self.options.flavor).map_err(|error| Error::Render {
            what: what.to_owned(),
            problem: problem.take().unwrap_or_else(|| error.to_string()),
        })
    }

    /// `IMAGE_NAME`, `IMAGE_TAG`, … of each image, with a number from the second on and with the image's name.
    fn image_variables(&self) -> BTreeMap<String, String> {
        let mut variables = BTreeMap::new();
        for (i, (name, built)) in self.images.iter().enumerate() {
            let reference = Reference::parse(built);
            let number = if i == 0 { String::new() } else { (i + 1).to_string() };
            let suffix = name.replace(['.', '-', '/', ':'], "_");
            let (algorithm, hex) = built.split_once(':').unwrap_or(("", built));
            let bare = reference.base.strip_prefix(reference.domain).unwrap_or(reference.base);
            for (key, value) in [
                ("IMAGE_NAME", name.as_str()),
                ("DIGEST", built),
                ("DIGEST_ALGO", algorithm),
                ("DIGEST_HEX", hex),
                ("IMAGE_REPO", reference.base),
                ("IMAGE_TAG", reference.tag),
                ("IMAGE_DIGEST", reference.digest),
                ("IMAGE_DOMAIN", reference.domain),
                ("IMAGE_REPO_NO_DOMAIN", bare.trim_start_matches('/')),
                ("IMAGE_FULLY_QUALIFIED", built),
            ] {
                variables.insert(format!("{key}{number}"), value.to_owned());
                variables.insert(format!("{key}_{suffix}"), value.to_owned());
            }
        }
        variables
    }
}

/// The documents of a YAML stream.
fn documents(text: &str) -> Vec<&str> {
    let (mut found, mut start, mut at) = (Vec::new(), 0, 0);
    for line in text.split_inclusive('\n') {
        if line.trim_end() == "---" && at > start {
            found.push(&text[start..at]);
            start = at;
        }
        at += line.len();
    }
    found.push(&text[start..]);
    found
}

/// Stands for the file that skaffold writes the overrides to.
const OVERRIDES: &str = "skaffold-overrides.yaml";

/// A JSON path without its stars: lists are walked anyway.
fn plain(path: &str) -> String {
    if path == ".*" { path.to_owned() } else { path.replace(".*", "") }
}

/// A part of a path and a pattern: `*`, `?` and `[a-z]`.
fn fits(pattern: &str, name: &str) -> bool {
    let escaped: String = pattern
        .chars()
        .map(|c| match c {
            '*' => "[^/]*".to_owned(),
            '?' => "[^/]".to_owned(),
            '[' | ']' | '-' | '^' => c.to_string(),
            c => regex::escape(&c.to_string()),
        })
        .collect();
    let pattern = regex::RegexBuilder::new(&format!("^{escaped}$")).size_limit(1 << 20).build();
    pattern.is_ok_and(|pattern| pattern.is_match(name))
}
