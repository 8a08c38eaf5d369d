//! Charts that kustomizations and configurations name and that are elsewhere: in repositories and registries, as Helm's user
//! has them. Only used when it is allowed.

use chart::{Chart, Flavor, Warnings};
use tokio::runtime::Handle;

use crate::cli::helm::reference::{Origin, chart};

/// Pulls charts.
pub struct Pulled {
    runtime: Handle,
    flavor: Flavor,
}

impl Pulled {
    pub fn new(runtime: Handle, flavor: Flavor) -> Self {
        Self { runtime, flavor }
    }

    fn pull(&self, name: &str, repository: &str, version: &str, devel: bool) -> Result<Chart, String> {
        let (reference, repo) = match repository {
            "" => (name.to_owned(), None),
            registry if registry.starts_with("oci://") => (format!("{}/{name}", registry.trim_end_matches('/')), None),
            repository => (name.to_owned(), Some(repository.to_owned())),
        };
        let version = (!version.is_empty()).then(|| version.to_owned());
        let origin = Origin { version, repo, devel, ..Origin::default() };
        self.runtime
            .block_on(chart(&reference, &origin, self.flavor, &Warnings::default()))
            .map_err(|fault| format!("cannot pull the chart {name:?}: {}", fault.message))
    }
}

impl kustomize::Fetch for Pulled {
    fn fetch(&self, name: &str, repository: &str, version: &str, devel: bool) -> Result<Chart, String> {
        self.pull(name, repository, version, devel)
    }
}

impl skaffold::Charts for Pulled {
    fn fetch(&self, name: &str, repository: &str, version: &str) -> Result<Chart, String> {
        self.pull(name, repository, version, false)
    }
}
