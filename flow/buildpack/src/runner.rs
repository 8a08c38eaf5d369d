//! What runs the programs of buildpacks, and where they see things.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use crate::{Result, target::Target};

/// A program of a buildpack. All paths are those that it sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    pub buildpack: String,
    pub argv: Vec<String>,
    pub directory: String,
    pub env: BTreeMap<String, String>,
    /// `bin/build`: what it says is shown at once. `bin/detect` is only shown when it matters.
    pub shown: bool,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    pub code: i32,
    /// What it said, as far as it was kept.
    pub output: String,
}

/// Runs programs on the builder image.
#[async_trait::async_trait]
pub trait Runner: Send + Sync {
    async fn run(&self, program: Program) -> Result<Ended>;
}

/// A directory that is seen here and by buildpacks.
#[derive(Debug, Clone)]
pub struct Place {
    pub host: PathBuf,
    pub inside: String,
}

impl Place {
    /// The same directory below both.
    pub fn join(&self, name: &str) -> Self {
        Self { host: self.host.join(name), inside: format!("{}/{name}", self.inside.trim_end_matches('/')) }
    }

    /// Seen by both under the same path.
    pub fn same(path: &Path) -> Self {
        Self { host: path.to_owned(), inside: path.display().to_string() }
    }
}

/// Where a build happens.
#[derive(Debug, Clone)]
pub struct Ground {
    /// `/workspace`
    pub app: Place,
    /// `/layers`
    pub layers: Place,
    /// `/platform`, with the user's variables in `env/`.
    pub platform: Place,
    /// `/cnb/build-config`, with the operator's variables in `env/`.
    pub build_config: Option<Place>,
    /// For plans; nothing in it outlives the build.
    pub plans: Place,
    /// The environment of the builder image, of which buildpacks see a part.
    pub env: Vec<(String, String)>,
    /// What the image will run on.
    pub target: Target,
    /// `production` unless said otherwise.
    pub exec_env: String,
    /// Who runs the buildpacks: `CNB_USER_ID` and `CNB_GROUP_ID`.
    pub owner: Option<(u32, u32)>,
}
