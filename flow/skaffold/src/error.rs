//! What can be wrong with a `skaffold.yaml`.

use std::fmt;

/// The result of a step.
pub type Result<T> = std::result::Result<T, Error>;

/// A place in a file, from 1; line 0 when the value was not read from a text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Place {
    pub file: String,
    pub line: u32,
    pub column: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.file),
            line => write!(f, "{}:{line}:{}", self.file, self.column),
        }
    }
}

/// Why a `skaffold.yaml` cannot be used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file cannot be read.
    #[error("unable to find configuration file {file:?}: {source}")]
    Missing { file: String, source: kustomize::FileError },
    /// A `requires` that leads nowhere.
    #[error(
        "could not find skaffold config file {file:?} that is referenced as a dependency in config file {parent:?}: name an existing file or directory in `requires`"
    )]
    MissingDependency { file: String, parent: String },
    /// The text is not YAML.
    #[error("{file}: {source}")]
    Malformed { file: String, source: yaml::Error },
    /// The `apiVersion` is none of the known ones.
    #[error("{place}: unknown apiVersion {version:?}: known are skaffold/v1alpha1 to skaffold/{newest}{hint}")]
    Version { place: Place, version: String, newest: &'static str, hint: String },
    /// A field that this version of the schema does not have.
    #[error("{place}: unknown field {field:?} in {parent}{hint}")]
    UnknownField { place: Place, field: String, parent: String, hint: String },
    /// A value of the wrong type.
    #[error("{place}: {path}: expected {expected}, found {found}")]
    Type { place: Place, path: String, expected: &'static str, found: String },
    /// A file without any configuration, or a choice that leaves none.
    #[error("{0}")]
    Nothing(String),
    /// Profiles that were asked for and are nowhere.
    #[error("profile selection {0:?} did not match those defined in any configurations")]
    NoProfile(Vec<String>),
    /// A profile that cannot be applied.
    #[error("failed to apply profiles to config {config:?} defined in file {file:?}: {problem}")]
    Profile { config: String, file: String, problem: String },
    /// Configurations that contradict each other.
    #[error("{0}")]
    Conflict(String),
    /// A configuration that no newer version can say.
    #[error("{file}: {problem}")]
    Upgrade { file: String, problem: String },
    /// Something from elsewhere that is not allowed or cannot be had.
    #[error("{0}")]
    Remote(String),
    /// A template in a field that cannot be carried out.
    #[error("{field}: {problem}")]
    Template { field: String, problem: String },
    /// What is asked for cannot be done by this program.
    #[error("{0}")]
    Unsupported(String),
    /// Manifests that cannot be rendered.
    #[error("{what}: {problem}")]
    Render { what: String, problem: String },
    /// More than is allowed.
    #[error("{0}")]
    Limit(String),
}
