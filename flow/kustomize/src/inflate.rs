//! `helmCharts`: charts rendered by our own engine, as kustomize has `helm template` render them.

use chart::{Chart, Flavor, KubeVersion, Loader, Render, Warnings, load::Kind, render::Shown};
use yaml::Value;

use crate::{
    ChartGlobals, Charts, FileError, Files,
    kustomization::{self, without_nulls},
    merge, path,
    schema::Schema,
};

/// Brings charts that are not among the files.
pub trait Fetch {
    /// The chart of that name in a repository (an address, `oci://…` too), in that version; empty for the newest.
    fn fetch(&self, name: &str, repository: &str, version: &str, devel: bool) -> Result<Chart, String>;
}

/// Inflates charts from the files, and from repositories when it is given a [`Fetch`].
#[derive(Clone)]
pub struct Inflate<'a> {
    /// Without it, charts that are not among the files are an error.
    pub fetch: Option<&'a dyn Fetch>,
    /// Whose output is wanted where versions of Helm differ.
    pub flavor: Flavor,
    /// What `now` is in templates.
    pub now: jiff::Timestamp,
    /// What everything random is made from.
    pub seed: u64,
    /// In place of those that kustomizations name, when not empty.
    pub api_versions: Vec<String>,
    /// In place of the one that kustomizations name, when not empty.
    pub kube_version: String,
}

impl Inflate<'_> {
    /// Charts of the files only, as the newest Helm renders them, at the beginning of time.
    pub fn new() -> Self {
        Self {
            fetch: None,
            flavor: Flavor::default(),
            now: jiff::Timestamp::UNIX_EPOCH,
            seed: 0,
            api_versions: Vec::new(),
            kube_version: String::new(),
        }
    }
}

impl Default for Inflate<'_> {
    fn default() -> Self {
        Self::new()
    }
}

impl Charts for Inflate<'_> {
    fn inflate(
        &self,
        files: &dyn Files,
        root: &str,
        load: &dyn Fn(&str) -> Result<String, String>,
        globals: &ChartGlobals,
        chart: &kustomization::Chart,
    ) -> Result<String, String> {
        if chart.name.is_empty() {
            return Err("chart name cannot be empty".to_owned());
        }
        if !matches!(chart.values_merge.as_str(), "" | "merge" | "override" | "replace") {
            return Err("valuesMerge must be one of [merge override replace]".to_owned());
        }
        let home = if globals.chart_home.is_empty() { "charts" } else { &globals.chart_home };
        let mut directory = path::join(root, home);
        if !chart.version.is_empty() && !chart.repo.is_empty() {
            directory = path::join(&directory, &format!("{}-{}", chart.name, chart.version));
        }
        let directory = path::join(&directory, &chart.name);
        let warnings = Warnings::default();
        let found = self.find(files, &directory, chart, &warnings)?;
        let mut given = yaml::Map::new();
        for text in self.values(&directory, load, chart, &found)? {
            let read = chart::values::read(&text, self.flavor).map_err(|error| error.to_string())?;
            chart::values::over(&mut given, read);
        }
        self.render(chart, &found, &given, &warnings)
    }
}

impl Inflate<'_> {
    fn find(
        &self,
        files: &dyn Files,
        directory: &str,
        chart: &kustomization::Chart,
        warnings: &Warnings,
    ) -> Result<Chart, String> {
        if files.is_dir(directory) {
            let loader = Loader { flavor: self.flavor, ..Loader::default() };
            return loader.tree(&ChartDirectory::new(files, directory), warnings).map_err(|error| error.to_string());
        }
        if chart.repo.is_empty() {
            return Err(format!("no repo specified for pull, no chart found at '{directory}'"));
        }
        let Some(fetch) = self.fetch else {
            return Err(format!(
                "the chart {:?} is in {}, and nothing is fetched unless it is allowed: allow it (`--allow-remote`), or keep a copy in '{directory}'",
                chart.name, chart.repo
            ));
        };
        fetch.fetch(&chart.name, &chart.repo, &chart.version, chart.devel)
    }

    /// The files of values, in order: the chart's own or the one named, with those in the kustomization, then more files.
    fn values(
        &self,
        directory: &str,
        load: &dyn Fn(&str) -> Result<String, String>,
        chart: &kustomization::Chart,
        found: &Chart,
    ) -> Result<Vec<String>, String> {
        let own = found.raw.iter().find(|file| file.name == "values.yaml");
        let base = match (chart.values_file.as_str(), own) {
            ("", Some(own)) => String::from_utf8_lossy(&own.data).into_owned(),
            ("", None) => load(&path::join(directory, "values.yaml"))?,
            (named, _) => load(named)?,
        };
        let inline = Value::from(chart.values_inline.clone());
        let bare = inline.is_null() || inline.as_map().is_some_and(|map| map.is_empty());
        let mut texts = vec![match chart.values_merge.as_str() {
            _ if bare => base,
            "replace" => yaml::to_go(&inline),
            order => {
                let node = |value: Value| crate::tree::from_value(&value);
                // Read as kyaml reads: `y` is a text.
                let decode = yaml::Decode { dialect: yaml::Dialect::V3, ..yaml::Decode::default() };
                let base = decode
                    .value(&base)
                    .map_err(|error| format!("could not parse values file into rnode: {}", error.v3()))?;
                let (dest, patch) = if order == "merge" { (inline, base) } else { (base, inline) };
                let dest = if dest.is_null() { Value::Map(yaml::Map::new()) } else { dest };
                let merged = merge::merge(&Schema::default(), None, node(dest), node(patch));
                match merged.map_err(|error| format!("could not merge values: {error}"))? {
                    Some(merged) => yaml::to_go(&crate::tree::to_value(merged).map_err(|error| error.to_string())?),
                    None => String::new(),
                }
            }
        }];
        for file in &chart.additional_values_files {
            texts.push(load(file).map_err(|error| format!("could not load additionalValuesFile: {error}"))?);
        }
        Ok(texts)
    }

    fn render(
        &self,
        chart: &kustomization::Chart,
        found: &Chart,
        given: &yaml::Map,
        warnings: &Warnings,
    ) -> Result<String, String> {
        let wrong = |error: chart::Error| error.to_string();
        found.installable().and_then(|()| found.check_dependencies(self.flavor)).map_err(wrong)?;
        let name = match (chart.release_name.as_str(), chart.name_template.as_str()) {
            ("", "") => "release-name".to_owned(),
            ("", template) => self.name(template)?,
            (name, "") => name.to_owned(),
            // In helm's words: `helm template NAME --name-template` is refused.
            _ => {
                return Err(format!(
                    "cannot set --name-template and also specify a name: the chart {} has both `releaseName` and `nameTemplate`",
                    chart.name
                ));
            }
        };
        let namespace = if chart.namespace.is_empty() { "default" } else { &chart.namespace };
        let mut render = Render::offline(self.flavor, &name, namespace);
        render.options.now = self.now;
        render.options.seed = self.seed;
        render.include_crds = chart.include_crds;
        let kube = if self.kube_version.is_empty() { &chart.kube_version } else { &self.kube_version };
        if !kube.is_empty() {
            render.capabilities.kube = KubeVersion::parse(kube, self.flavor)
                .map_err(|error| format!("invalid kube version '{kube}': {error}"))?;
        }
        let versions = if self.api_versions.is_empty() { &chart.api_versions } else { &self.api_versions };
        render.capabilities.api_versions.extend(versions.iter().cloned());
        let rendered = render.run(found, given, warnings).map_err(wrong)?;
        let shown = Shown { no_hooks: chart.skip_hooks, skip_tests: chart.skip_tests, ..Shown::default() };
        rendered.print(&shown, self.flavor).map_err(wrong)
    }

    /// The name that a template makes.
    fn name(&self, text: &str) -> Result<String, String> {
        let mut set = template::Set::new(template::Family::Helm4);
        set.parse("name-template", text).map_err(|error| error.to_string())?;
        let options = template::Options { now: self.now, seed: self.seed, ..template::Options::default() };
        let done = template::Renderer::new(&set, options).render("name-template", template::Value::default());
        done.map(|done| done.to_str().into_owned()).map_err(|error| error.to_string())
    }
}

/// A directory of the files as a chart; nothing in it leads out.
pub struct ChartDirectory<'a> {
    files: &'a dyn Files,
    root: String,
}

impl<'a> ChartDirectory<'a> {
    pub fn new(files: &'a dyn Files, directory: &str) -> Self {
        Self { files, root: files.canonical(directory).unwrap_or_else(|| directory.to_owned()) }
    }

    fn at(&self, name: &str) -> std::io::Result<String> {
        let wanted = path::join(&self.root, name);
        let real = self.files.canonical(&wanted).ok_or(std::io::ErrorKind::NotFound)?;
        if path::within(&real, &self.root) {
            return Ok(real);
        }
        Err(std::io::Error::other(format!("{wanted} leads out of the chart")))
    }
}

impl chart::Tree for ChartDirectory<'_> {
    fn list(&self, directory: &str) -> std::io::Result<Vec<(String, Kind)>> {
        let names = self.files.list(&self.at(directory)?).map_err(|error| std::io::Error::other(error.to_string()))?;
        Ok(names.into_iter().map(|(name, size)| (name, size.map_or(Kind::Directory, Kind::File))).collect())
    }

    fn read(&self, file: &str) -> std::io::Result<Vec<u8>> {
        self.files.read(&self.at(file)?).map_err(|error| match error {
            FileError::NotFound(_) => std::io::ErrorKind::NotFound.into(),
            other => std::io::Error::other(other.to_string()),
        })
    }
}

/// The arguments of a generator object, as an entry of `helmCharts`.
pub(crate) fn from_object(value: Value) -> Result<(ChartGlobals, kustomization::Chart), String> {
    let Value::Map(mut map) = value else { return Err("a generator must be a map".to_owned()) };
    for key in ["apiVersion", "kind", "metadata"] {
        map.remove(key);
    }
    let globals = ["chartHome", "configHome"]
        .into_iter()
        .filter_map(|key| Some((key.to_owned(), map.remove(key)?)))
        .collect::<yaml::Map>();
    let globals = serde_json::from_value(without_nulls(Value::Map(globals))).map_err(|error| error.to_string())?;
    let chart = serde_json::from_value(without_nulls(Value::Map(map))).map_err(|error| error.to_string())?;
    Ok((globals, chart))
}
