//! Kustomizations, built as `kustomize build` builds them.
//!
//! Reads a kustomization and all it names through [`Files`], writes nothing, and makes [`Object`]s that print byte for
//! byte as `kustomize build` prints them. No disk, no network, no clock: charts and remote bases come through [`Charts`]
//! and [`Remote`], which the caller implements or leaves out.

mod address;
mod config;
mod convert;
mod customize;
mod edit;
mod error;
mod field;
mod files;
mod generate;
mod id;
mod image;
mod inflate;
mod json_patch;
mod kustomization;
mod localize;
mod merge;
mod namespace;
mod order;
mod origin;
mod patch;
pub mod path;
mod plugin;
mod read;
mod reference;
mod replacement;
mod resource;
mod resources;
mod schema;
mod select;
mod target;
mod tree;
mod variable;

use target::refused;

pub use address::Address;
pub use edit::Edit;
pub use error::{Error, Result};
pub use files::{Charts, FileError, Files, Memory, Remote};
pub use id::{Gvk, Id};
pub use inflate::{ChartDirectory, Fetch, Inflate};
pub use kustomization::{
    Chart, ChartGlobals, FieldSpec, GeneratorArgs, GeneratorOptions, Image, Kustomization, Label, NAMES, Patch,
    Replica, Selector,
};
pub use localize::{Localize, Localized, localize};

/// Which files a kustomization may read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LoadRestrictor {
    /// Only those in or below its own directory.
    #[default]
    RootOnly,
    /// Any.
    None,
}

/// How a kustomization is built.
#[derive(Clone, Copy, Default)]
pub struct Options<'a> {
    pub load_restrictor: LoadRestrictor,
    /// Inflates `helmCharts`; without it they are an error.
    pub charts: Option<&'a dyn Charts>,
    /// Brings what is not in the files; without it remote resources are an error.
    pub remote: Option<&'a dyn Remote>,
    /// Keeps the objects in the order in which they are named, as the flag `--reorder none` does. Without it, and where
    /// the kustomization does not say otherwise, they come in the legacy order: namespaces and other things first that
    /// others need.
    pub keep_order: bool,
    /// Adds the label `app.kubernetes.io/managed-by`.
    pub managed_by: bool,
    /// Is told what every step made of the objects.
    pub observer: Option<&'a dyn Observer>,
}

/// Follows a build, so that it can be said who made or changed what.
pub trait Observer {
    /// A step of the kustomization `file` is done. `kind` is its name in kustomize (`PatchTransformer`), or `Resource` when
    /// objects were read, `what` the file or the name it is about, empty where there is none. Each object comes with the id it
    /// had first; its nodes know their lines in the files that they were read from.
    fn step(&self, file: &str, kind: &str, what: &str, objects: &[(Id, &yaml::Node)]);
}

/// One object that a kustomization makes.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    pub id: Id,
    pub value: yaml::Value,
}

/// What a kustomization makes, in order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Built {
    pub objects: Vec<Object>,
    /// What `kustomize build` would print to standard error.
    pub warnings: Vec<String>,
}

impl Built {
    /// The text that `kustomize build` prints.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (i, object) in self.objects.iter().enumerate() {
            if i > 0 {
                text.push_str("---\n");
            }
            text.push_str(&yaml::to_go(&object.value));
        }
        text
    }
}

/// Builds the kustomization in the directory `root`.
pub fn build(files: &dyn Files, root: &str, options: &Options<'_>) -> Result<Built> {
    target::build(files, root, options)
}

#[cfg(test)]
mod tests;
