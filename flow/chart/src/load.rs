//! Reading charts: from a directory, from an archive, from files in memory.

mod archive;
mod ignore;
mod tree;

pub use archive::unpack;
pub(crate) use archive::without_mark;
pub use ignore::Ignore;
pub(crate) use template::clean_path as clean;
pub use tree::{Kind, Tree, walk};

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use crate::{Chart, Error, File, Flavor, Warnings, chart::Later, metadata::Lock, values};

/// How much a chart may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of all files together, unpacked.
    pub chart: u64,
    /// Bytes of one file.
    pub file: u64,
    /// Number of files.
    pub files: usize,
    /// Directories in directories, and charts in charts.
    pub depth: usize,
}

impl Default for Limits {
    /// Helm's own: 100 MiB a chart, 5 MiB a file.
    fn default() -> Self {
        Self { chart: 100 << 20, file: 5 << 20, files: 20_000, depth: 40 }
    }
}

/// Loads charts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Loader {
    pub limits: Limits,
    pub flavor: Flavor,
    /// Take charts of an API version that Helm knows by name only, as lint does.
    pub future: bool,
}

impl Loader {
    /// Loads an unpacked chart.
    pub fn tree(&self, tree: &dyn Tree, warnings: &Warnings) -> Result<Chart, Error> {
        self.files(walk(tree, &self.limits)?, warnings)
    }

    /// Loads an unpacked chart to be rendered, and nothing else: files that templates are not seen to ask for stay where they are until
    /// one does.
    pub fn tree_to_render(&self, tree: Arc<dyn Tree + Send + Sync>, warnings: &Warnings) -> Result<Chart, Error> {
        let (files, spared) = tree::walk_spared(&*tree, &self.limits)?;
        self.chart(files, warnings, 0, &Spared { tree: Some(tree), paths: Arc::new(spared), place: String::new() })
    }

    /// Loads a packed chart.
    pub fn archive(&self, archive: &[u8], warnings: &Warnings) -> Result<Chart, Error> {
        self.files(unpack(archive, &self.limits)?, warnings)
    }

    /// Makes a chart of its files.
    pub fn files(&self, files: Vec<File>, warnings: &Warnings) -> Result<Chart, Error> {
        self.chart(files, warnings, 0, &Spared::default())
    }

    fn chart(&self, mut files: Vec<File>, warnings: &Warnings, depth: usize, spared: &Spared) -> Result<Chart, Error> {
        if depth > self.limits.depth {
            return Err(Error::Chart(format!("charts are nested more than {} deep", self.limits.depth)));
        }
        let mut chart = Chart::default();
        let mut described = false;
        if let Some(tree) = spared.tree.as_ref().filter(|_| !spared.paths.is_empty()) {
            let path = |file: &File| format!("{}{}", spared.place, file.name);
            let own =
                files.iter().filter(|file| !file.name.starts_with("charts/") && spared.paths.contains(&path(file)));
            chart.later =
                Later { tree: Some(tree.clone()), paths: own.map(|file| (file.name.clone(), path(file))).collect() };
            files.retain(|file| !chart.later.paths.contains_key(&file.name));
        }
        fn text(file: &File) -> std::borrow::Cow<'_, str> {
            template::lossy(&file.data)
        }
        let cannot = |name: &str| {
            let name = name.to_owned();
            move |error: String| Error::Chart(format!("cannot load {name}: {error}"))
        };
        for file in files.iter().filter(|file| file.name == "Chart.yaml") {
            described = true;
            chart.metadata.read(&text(file)).map_err(|error| match error.strip_prefix("validation") {
                Some(_) => Error::Chart(error),
                None => cannot("Chart.yaml")(error),
            })?;
            if chart.metadata.api_version.is_empty() {
                chart.metadata.api_version = "v1".to_owned();
            }
        }
        let mut subcharts: BTreeMap<String, Vec<File>> = BTreeMap::new();
        for file in &files {
            match file.name.as_str() {
                "Chart.yaml" => {}
                "Chart.lock" => chart.lock = Some(Lock::read(&text(file)).map_err(cannot("Chart.lock"))?),
                "values.yaml" => {
                    let values = values::read(&text(file), self.flavor);
                    chart.values = values.map_err(|error| cannot("values.yaml")(error.to_string()))?;
                }
                "values.schema.json" => chart.schema = Some(file.data.clone()),
                "requirements.yaml" => {
                    described = true;
                    if chart.metadata.api_version != "v1" {
                        warnings.add("Warning: Dependencies are handled in Chart.yaml since apiVersion \"v2\". We recommend migrating dependencies to Chart.yaml.");
                    } else {
                        chart.files.push(file.clone());
                    }
                    chart.metadata.read(&text(file)).map_err(cannot("requirements.yaml"))?;
                }
                "requirements.lock" => {
                    chart.lock = Some(Lock::read(&text(file)).map_err(cannot("requirements.lock"))?);
                    if chart.metadata.api_version != "v1" {
                        warnings.add("Warning: Dependency locking is handled in Chart.lock since apiVersion \"v2\". We recommend migrating to Chart.lock.");
                    } else {
                        chart.files.push(file.clone());
                    }
                }
                name if name.starts_with("templates/") => chart.templates.push(file.clone()),
                name => match name.strip_prefix("charts/") {
                    Some(_) if name.ends_with(".prov") => chart.files.push(file.clone()),
                    Some(inner) => {
                        let subchart = inner.split('/').next().unwrap_or(inner);
                        let file = File { name: inner.to_owned(), data: file.data.clone() };
                        subcharts.entry(subchart.to_owned()).or_default().push(file);
                    }
                    None => chart.files.push(file.clone()),
                },
            }
        }
        chart.raw = files;
        if !described {
            return Err(Error::Chart("Chart.yaml file is missing".to_owned()));
        }
        if chart.metadata.api_version == "v3" && self.flavor == Flavor::Helm4 && !self.future {
            // Helm 4 knows this version by name and cannot use it yet.
            return Err(Error::Chart("invalid chart apiVersion".to_owned()));
        }
        chart.metadata.validate().map_err(Error::Chart)?;
        for (name, files) in subcharts {
            if name.starts_with(['_', '.']) {
                continue;
            }
            let subchart = self.subchart(&name, files, &chart, warnings, (depth, spared)).map_err(|error| {
                Error::Chart(format!("error unpacking subchart {name} in {}: {error}", chart.name()))
            })?;
            chart.dependencies.push(subchart);
        }
        Ok(chart)
    }

    fn subchart(
        &self,
        name: &str,
        files: Vec<File>,
        parent: &Chart,
        warnings: &Warnings,
        (depth, spared): (usize, &Spared),
    ) -> Result<Chart, Error> {
        if name.ends_with(".tgz") {
            let Some(file) = files.first().filter(|file| file.name == name) else {
                let found = files.first().map(|file| file.name.as_str()).unwrap_or_default();
                return Err(Error::Chart(format!(
                    "error unpacking subchart tar in {}: expected {name}, got {found}",
                    parent.name()
                )));
            };
            return self.chart(unpack(&file.data, &self.limits)?, warnings, depth + 1, &Spared::default());
        }
        let inside = files.into_iter().filter_map(|file| {
            let (_, name) = file.name.split_once('/')?;
            Some(File { name: name.to_owned(), data: file.data })
        });
        let place = format!("{}charts/{name}/", spared.place);
        let spared = Spared { tree: spared.tree.clone(), paths: spared.paths.clone(), place };
        self.chart(inside.collect(), warnings, depth + 1, &spared)
    }
}

/// The files that were not read, by their paths in the tree, and where the chart that is loaded lies in it.
#[derive(Default)]
struct Spared {
    tree: Option<Arc<dyn Tree + Send + Sync>>,
    paths: Arc<HashSet<String>>,
    place: String,
}
