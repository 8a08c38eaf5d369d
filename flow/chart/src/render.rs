//! A chart and values in, documents out.

mod combined;
mod output;
mod scope;
mod stored;
mod traces;

use std::{collections::BTreeMap, sync::Arc};

use template::{Cause, Family, Hooks, Offline, Options, Renderer, Set};

pub use output::Shown;
pub use traces::{Behind, Traces};

use crate::{
    Capabilities, Chart, Error, Flavor, Warnings,
    manifest::{self, Hook, Manifest, Order},
    part::Part,
    values::{self, Schemas, table},
    version::compatible,
};

/// The release that templates are told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    pub name: String,
    pub namespace: String,
    /// From 1.
    pub revision: u64,
    pub is_upgrade: bool,
}

/// A program or function between rendering and use: the documents in, the documents out. As with Helm, version 3 gives it what is to be
/// installed without the hooks, version 4 everything, each document with the name of its template in an annotation.
pub type PostRenderer<'a> = &'a dyn Fn(&str) -> Result<String, String>;

/// How a chart is rendered.
pub struct Render<'a> {
    pub flavor: Flavor,
    pub release: Release,
    pub capabilities: Capabilities,
    /// Time, seed, bounds and whether the lines behind the output are noted.
    pub options: Options,
    /// What templates may ask of a cluster and of DNS.
    pub hooks: &'a dyn Hooks,
    /// Parsed templates, shared between renderings.
    pub cache: Option<Arc<template::Cache>>,
    pub skip_schema: bool,
    /// Where schemas come from that a chart's schema names by address.
    pub schemas: Option<Arc<dyn Schemas>>,
    /// `crds/` of the chart and its subcharts before everything else.
    pub include_crds: bool,
    /// The notes of subcharts too.
    pub sub_notes: bool,
    /// Secrets are named, not shown.
    pub hide_secrets: bool,
    /// Whether [`Rendered::chart`] is wanted, as it is for a release.
    pub store_chart: bool,
    pub post_renderer: Option<PostRenderer<'a>>,
    /// The process ends in a moment: values and templates are left as they are instead of being taken apart piece by piece.
    pub last: bool,
}

/// What a chart gave.
#[derive(Clone, Debug, Default)]
pub struct Rendered {
    /// Path of template → text, partials and notes left out.
    pub files: BTreeMap<String, String>,
    /// What is neither a hook nor a note, in the order of installing.
    pub manifests: Vec<Manifest>,
    pub hooks: Vec<Hook>,
    /// The definitions of custom resources: path and text.
    pub crds: Vec<(String, String)>,
    pub notes: String,
    /// All documents but the hooks, as they are stored with a release.
    pub manifest: String,
    /// The chart as it is stored with a release, if [`Render::store_chart`] was on.
    pub chart: serde_json::Value,
}

impl Render<'_> {
    /// Like `helm template`: no cluster, the release installed for the first time, no randomness but from seed 0.
    pub fn offline(flavor: Flavor, name: &str, namespace: &str) -> Self {
        let release =
            Release { name: name.to_owned(), namespace: namespace.to_owned(), revision: 1, is_upgrade: false };
        Self {
            flavor,
            release,
            capabilities: Capabilities::offline(flavor),
            options: Options::default(),
            hooks: &Offline,
            cache: None,
            skip_schema: false,
            schemas: None,
            include_crds: false,
            sub_notes: false,
            hide_secrets: false,
            store_chart: false,
            post_renderer: None,
            last: false,
        }
    }

    /// Renders a chart with the values that the user gives.
    pub fn run(&self, chart: &Chart, given: &yaml::Map, warnings: &Warnings) -> Result<Rendered, Error> {
        self.render(chart, given, warnings, None)
    }

    /// The same, with the lines and values behind every byte of the rendered templates, if `options.trace` is on.
    pub fn run_traced(
        &self,
        chart: &Chart,
        given: &yaml::Map,
        warnings: &Warnings,
    ) -> Result<(Rendered, Traces), Error> {
        let mut traces = Traces::default();
        let rendered = self.render(chart, given, warnings, Some(&mut traces))?;
        Ok((rendered, traces))
    }

    fn render(
        &self,
        chart: &Chart,
        given: &yaml::Map,
        warnings: &Warnings,
        traces: Option<&mut Traces>,
    ) -> Result<Rendered, Error> {
        let (part, values) = self.prepare(chart, given, warnings)?;
        if !part.metadata.kube_version.is_empty()
            && !compatible(&part.metadata.kube_version, &self.capabilities.kube.plain)
        {
            return Err(Error::KubeVersion {
                wanted: part.metadata.kube_version.clone(),
                have: self.capabilities.kube.version.clone(),
            });
        }
        let mut files = match traces {
            Some(traces) => {
                let scopes = self.scopes(&part, &values);
                traces.tables = scope::tables(&scopes);
                let seen = |path: &str, rendered: &template::Rendered| {
                    traces.files.insert(path.to_owned(), rendered.clone());
                };
                self.carry_out(&scopes, seen)?
            }
            None => {
                let scopes = self.scopes(&part, &values);
                let files = self.carry_out(&scopes, |_, _| {})?;
                self.leave(scopes);
                files
            }
        };
        let notes = self.notes(&mut files, &part);
        if let (Flavor::Helm4, Some(post_renderer)) = (self.flavor, self.post_renderer) {
            files = combined::passed(&files, post_renderer)?;
        }
        let texts = files.iter().map(|(path, text)| (path.as_str(), text.as_str()));
        let sorted = manifest::sort(texts, Order::Install, self.flavor, warnings);
        let (hooks, manifests) = sorted.map_err(|error| match error {
            Error::Manifest { path, cause, .. } => Error::Manifest { path, cause, rendered: whole(&files) },
            other => other,
        })?;
        let crds = scope::crds(&part);
        let mut manifest = String::new();
        if self.include_crds {
            for (path, text) in &crds {
                output::document(&mut manifest, path, text);
            }
        }
        for document in &manifests {
            if self.hide_secrets && document.head.kind == "Secret" && document.head.version == "v1" {
                manifest.push_str(&format!(
                    "---\n# Source: {}\n# HIDDEN: The Secret output has been suppressed\n",
                    document.path
                ));
            } else {
                output::document(&mut manifest, &document.path, &document.content);
            }
        }
        if let (Flavor::Helm3, Some(post_renderer)) = (self.flavor, self.post_renderer) {
            manifest = post_renderer(&manifest)
                .map_err(|error| Error::PostRender(format!("error while running post render on files: {error}")))?;
        }
        let chart = if self.store_chart { stored::chart(&part) } else { serde_json::Value::Null };
        self.leave((part, values));
        Ok(Rendered { files, manifests, hooks, crds, notes, manifest, chart })
    }

    /// The definitions of custom resources alone (path and text), for whoever makes them before the rest is rendered.
    pub fn definitions(
        &self,
        chart: &Chart,
        given: &yaml::Map,
        warnings: &Warnings,
    ) -> Result<Vec<(String, String)>, Error> {
        let given = table(given);
        let mut part = Part::new(chart);
        part.settle(&given, self.flavor, warnings)?;
        Ok(scope::crds(&part))
    }

    /// The chart with what takes part of it, and the values that its templates see.
    pub(crate) fn prepare<'c>(
        &self,
        chart: &'c Chart,
        given: &yaml::Map,
        warnings: &Warnings,
    ) -> Result<(Part<'c>, template::Map), Error> {
        let given = table(given);
        let mut part = Part::new(chart);
        part.settle(&given, self.flavor, warnings).map_err(|error| match self.flavor {
            Flavor::Helm3 => error,
            Flavor::Helm4 => Error::Dependency(format!("chart dependencies processing failed: {error}")),
        })?;
        let values = values::coalesce(&part, &given, self.flavor, warnings)?;
        if !self.skip_schema
            && let Some(faults) = values::validate(&part, &values, self.schemas.as_ref())
        {
            return Err(Error::Schema(faults));
        }
        Ok((part, values))
    }

    /// Carries out every template; `seen` is given each one's whole result.
    pub(crate) fn templates(
        &self,
        part: &Part<'_>,
        values: &template::Map,
        seen: impl FnMut(&str, &template::Rendered),
    ) -> Result<BTreeMap<String, String>, Error> {
        self.carry_out(&self.scopes(part, values), seen)
    }

    fn scopes<'c>(&self, part: &Part<'c>, values: &template::Map) -> BTreeMap<String, scope::Scope<'c>> {
        scope::all(part, values, &self.release, &self.capabilities, self.flavor)
    }

    fn carry_out(
        &self,
        scopes: &BTreeMap<String, scope::Scope<'_>>,
        mut seen: impl FnMut(&str, &template::Rendered),
    ) -> Result<BTreeMap<String, String>, Error> {
        let family = match self.flavor {
            Flavor::Helm3 => Family::Helm3,
            Flavor::Helm4 => Family::Helm4,
        };
        let mut set = match &self.cache {
            Some(cache) => Set::with_cache(family, cache.clone()),
            None => Set::new(family),
        };
        let mut order: Vec<&String> = scopes.keys().collect();
        let depth = |path: &str| path.bytes().filter(|b| *b == b'/').count();
        order.sort_by_cached_key(|path| std::cmp::Reverse((depth(path), *path)));
        set.ahead(order.iter().map(|path| (path.as_str(), &*scopes[*path].text)));
        for path in &order {
            set.parse(path, &scopes[*path].text).map_err(|error| self.failed(error))?;
        }
        let mut renderer = Renderer::with_hooks(&set, self.options.clone(), self.hooks);
        let mut files = BTreeMap::new();
        for path in order {
            if path.rsplit('/').next().is_some_and(|name| name.starts_with('_')) {
                continue;
            }
            let data = scopes[path].data(path, self.flavor);
            let rendered = renderer.render(path, data).map_err(|error| self.failed(error))?;
            seen(path, &rendered);
            files.insert(path.clone(), rendered.into_string());
        }
        self.leave(renderer);
        self.leave(set);
        Ok(files)
    }

    fn leave<T>(&self, what: T) {
        if self.last {
            std::mem::forget(what);
        }
    }

    fn failed(&self, error: template::Error) -> Error {
        let text = match self.flavor {
            Flavor::Helm3 => error.helm3(),
            Flavor::Helm4 if unwraps_to_words(&error) => error.to_string(),
            Flavor::Helm4 => error.helm4(),
        };
        Error::Template { text, source: Box::new(error) }
    }

    /// Takes the notes out of the files.
    fn notes(&self, files: &mut BTreeMap<String, String>, part: &Part<'_>) -> String {
        let own = format!("{}/templates/NOTES.txt", part.name());
        let mut notes = String::new();
        files.retain(|path, text| {
            if !path.ends_with("NOTES.txt") {
                return true;
            }
            if self.sub_notes || *path == own {
                if !notes.is_empty() {
                    notes.push('\n');
                }
                notes.push_str(text);
            }
            false
        });
        notes
    }
}

/// Every file that has something in it, as it is.
fn whole(files: &BTreeMap<String, String>) -> String {
    let mut text = String::new();
    files
        .iter()
        .filter(|(_, file)| !file.trim().is_empty())
        .for_each(|(path, file)| output::document(&mut text, path, file));
    text
}

/// Helm 4 takes an error apart link by link, and leaves it as it is when it meets one that is not of the template engine:
/// the words of a function, or those that `tpl` puts around an error.
fn unwraps_to_words(error: &template::Error) -> bool {
    match error {
        template::Error::Exec { cause: Cause::Calling { prefix, error }, .. } => {
            prefix != "error calling include: " || unwraps_to_words(error)
        }
        template::Error::Exec { cause: Cause::Message(message), .. } => message.starts_with("error calling "),
        _ => false,
    }
}
