//! `skaffold.yaml` of every published version, read into one model, and the manifests that it names.
//!
//! [`load`] reads a file and all that it `requires`, brings each configuration to the newest version of the schema, applies
//! the active profiles and fills in the defaults: what comes out ([`Entry::config`]) is what skaffold itself works on, and
//! [`Loaded::text`] is what `skaffold diagnose --yaml-only` prints. [`render`] makes the Kubernetes objects of raw YAML,
//! kustomizations and charts. Nothing here builds, deploys, fetches or runs anything: files, environment and what is remote
//! come from the caller.
//!
//! ```no_run
//! # fn files() -> kustomize::Memory { unimplemented!() }
//! let loaded = skaffold::load(&files(), "skaffold.yaml", &skaffold::Options::new("/work"))?;
//! for entry in &loaded.entries {
//!     for artifact in &entry.config.build.artifacts {
//!         println!("{} from {}", artifact.image, artifact.context);
//!     }
//! }
//! # Ok::<(), skaffold::Error>(())
//! ```

mod decode;
mod defaults;
mod encode;
mod error;
mod expand;
mod image;
mod load;
mod model;
mod patch;
mod profile;
mod prune;
mod render;
mod schema;
mod tree;
mod upgrade;
mod walk;

pub use error::{Error, Place, Result};
pub use image::name as image_name;
pub use load::Source;
pub use model::*;
pub use render::{Charts, Made, Object, RenderOptions, Rendered, render};
pub use schema::Version;

use kustomize::Files;
use yaml::Value;

/// The names of the file that are looked for.
pub const NAMES: [&str; 2] = ["skaffold.yaml", "skaffold.yml"];

/// Brings configurations from elsewhere.
pub trait Remote {
    /// The files at a source, and the configuration file (or its directory) in them, as an absolute path. Nothing above `/`
    /// of these files can be reached.
    fn fetch(&self, source: &Source) -> std::result::Result<(Box<dyn Files>, String), String>;
}

/// What profiles ask about, and what stands in defaults.
#[derive(Clone, Copy)]
pub struct Situation<'a> {
    /// The command that is carried out, as skaffold names it (`diagnose`, `render`, `build`, …).
    pub command: &'a str,
    /// The environment.
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// The Kubernetes context in use; empty for none.
    pub kube_context: &'a str,
    /// Whether the user named it.
    pub kube_context_given: bool,
    /// The namespace of the context; empty for `default`.
    pub kube_namespace: &'a str,
    /// What `~` stands for.
    pub home: &'a str,
    /// Stands in names that must be new each time.
    pub random: &'a str,
    /// Whether profiles may activate themselves.
    pub auto_activation: bool,
}

impl Default for Situation<'_> {
    /// `diagnose`, with an empty environment and no context.
    fn default() -> Self {
        Self {
            command: "diagnose",
            env: &|_| None,
            kube_context: "",
            kube_context_given: false,
            kube_namespace: "",
            home: "",
            random: "",
            auto_activation: true,
        }
    }
}

/// How a file is read.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// The working directory, absolute: paths of the first file's configurations start there.
    pub directory: &'a str,
    /// Profiles asked for; `-NAME` turns one off that activates itself.
    pub profiles: &'a [String],
    /// Configurations asked for by their `metadata.name`, with what they require; empty for all.
    pub modules: &'a [String],
    /// Profiles asked for hold in required configurations too.
    pub propagate_profiles: bool,
    /// Whether paths are made absolute; without it, only those of configurations in other files.
    pub absolute: Option<bool>,
    pub situation: Situation<'a>,
    /// Brings what is remote; without it, that is an error.
    pub remote: Option<&'a dyn Remote>,
}

impl<'a> Options<'a> {
    /// No profiles, every configuration, nothing remote.
    pub fn new(directory: &'a str) -> Self {
        Self {
            directory,
            profiles: &[],
            modules: &[],
            propagate_profiles: true,
            absolute: None,
            situation: Situation::default(),
            remote: None,
        }
    }
}

/// One configuration, ready to be worked on.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub config: Config,
    /// The same as plain values, by the names of the schema.
    pub tree: Value,
    /// The file it is from.
    pub file: String,
    /// What its paths are relative to; empty when they are absolute.
    pub base: String,
    /// Which document of its file it is, from 0.
    pub index: usize,
    /// Whether it is from another file than the first.
    pub dependency: bool,
    /// Where it was fetched from.
    pub remote: Option<String>,
}

/// A file and what it requires: what is required stands before what requires it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Loaded {
    pub entries: Vec<Entry>,
    pub warnings: Vec<String>,
}

impl Loaded {
    /// The text that `skaffold diagnose --yaml-only` prints.
    pub fn text(&self) -> String {
        self.entries.iter().map(|entry| encode::text(&entry.tree)).collect::<Vec<_>>().join("---\n")
    }
}

/// Reads a configuration file (absolute, or relative to the directory of the options) and what it requires.
pub fn load(files: &dyn Files, file: &str, options: &Options<'_>) -> Result<Loaded> {
    load::load(files, file, options)
}

#[cfg(test)]
mod tests;
