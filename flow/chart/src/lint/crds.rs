//! What `helm lint` says about `crds/`, since version 4.

use super::{Findings, objects, text};
use crate::{Chart, Error, Flavor, load::Kind};

const PATH: &str = "crds/";

/// `directory` is what `crds` is, if it is there.
pub(super) fn check(directory: Option<Kind>, loaded: &Result<Chart, Error>, findings: &mut Findings) {
    match (directory, loaded) {
        (None, _) => {}
        (Some(Kind::Directory), Ok(chart)) => {
            of(chart, findings);
        }
        (Some(Kind::Directory), Err(error)) => findings.error(PATH, error.to_string()),
        (Some(_), _) => findings.error(PATH, "not a directory"),
    }
}

/// False when a file cannot be read, with which the whole check ends.
fn of(chart: &Chart, findings: &mut Findings) -> bool {
    let manifest = |name: &str| [".yaml", ".yml", ".json"].iter().any(|end| name.ends_with(end));
    for file in chart.files.iter().filter(|file| file.name.starts_with(PATH) && manifest(&file.name)) {
        let path = file.name.as_str();
        let mut fits = |object: objects::Object| {
            if !object.version.starts_with("apiextensions.k8s.io") {
                findings.error(path, "apiVersion is not in 'apiextensions.k8s.io'");
            }
            if object.kind != "CustomResourceDefinition" {
                findings.error(path, "object kind is not 'CustomResourceDefinition'");
            }
        };
        if let Err(fault) = objects::each(&text(file), Flavor::Helm4, &mut fits) {
            findings.error(path, format!("unable to parse YAML: {fault}"));
            return false;
        }
    }
    chart.dependencies.iter().all(|subchart| of(subchart, findings))
}
