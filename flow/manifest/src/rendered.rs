//! Objects that have to be rendered first.

use kustomize::{Files, NAMES, Options};

use crate::{
    Error, MAX_OBJECTS, Object, Position, Result,
    parse::{flatten, unique},
};

/// What a directory of manifests is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Files with objects in them.
    Plain,
    /// A directory that `kustomize build` takes.
    Kustomization,
    /// A directory that `helm template` takes.
    Chart,
}

/// Says by the names of the files in a directory (not below it) what it is.
pub fn recognise<'a>(names: impl IntoIterator<Item = &'a str>) -> Kind {
    let mut kind = Kind::Plain;
    for name in names {
        match name {
            "Chart.yaml" => return Kind::Chart,
            name if NAMES.contains(&name) => kind = Kind::Kustomization,
            _ => {}
        }
    }
    kind
}

/// All objects of the kustomization in the directory `from` (relative to the root of the repository), in the order of `kustomize build`.
/// What is outside the repository is an error, and so are charts.
pub fn kustomization(files: &dyn Files, from: &str) -> Result<Vec<Object>> {
    let built = kustomize::build(files, &format!("/{from}"), &Options::default());
    let built = built.map_err(|source| Error::Kustomization { from: from.into(), source: Box::new(source) })?;
    let at = Position { file: from.into(), line: 1, column: 1 };
    let mut objects = Vec::with_capacity(built.objects.len());
    for object in built.objects {
        flatten(object.value.into(), &at, "", &mut objects)?;
    }
    unique(&objects, &[])?;
    match objects.len() {
        0 => Err(Error::Empty(from.into())),
        count if count > MAX_OBJECTS => Err(Error::TooMany { from: from.into(), limit: MAX_OBJECTS }),
        _ => Ok(objects),
    }
}

#[cfg(test)]
mod tests {
    use kustomize::Memory;

    use super::*;

    const DEPLOYMENT: &str = "apiVersion: apps/v1\nkind: Deployment\nmetadata: { name: app }\nspec: { replicas: 1 }\n";

    #[test]
    fn an_overlay_is_rendered_on_its_base() {
        let files = Memory::default()
            .with("/deploy/base/kustomization.yaml", "resources: [app.yaml]\n")
            .with("/deploy/base/app.yaml", DEPLOYMENT)
            .with(
                "/deploy/prod/kustomization.yaml",
                "resources: [../base]\nnamePrefix: prod-\nreplicas: [{ name: app, count: 3 }]\n",
            );
        let objects = kustomization(&files, "deploy/prod").unwrap();
        let values: Vec<_> = objects.iter().map(|object| &object.value).collect();
        assert_eq!(values.len(), 1);
        assert_eq!((&values[0]["metadata"]["name"], &values[0]["spec"]["replicas"]), (&"prod-app".into(), &3.into()));
    }

    #[test]
    fn what_is_wrong_names_the_place() {
        let files = Memory::default().with("/deploy/kustomization.yaml", "resources: [absent.yaml]\n");
        let said = kustomization(&files, "deploy").unwrap_err().to_string();
        assert!(said.starts_with("deploy: ") && said.contains("absent.yaml"), "{said}");
        let files = Memory::default().with("/deploy/kustomization.yaml", "namePrefix: x-\n");
        assert!(kustomization(&files, "deploy").is_err());
    }

    #[test]
    fn a_directory_is_known_by_its_files() {
        assert_eq!(recognise(["app.yaml", "kustomization.yml"]), Kind::Kustomization);
        assert_eq!(recognise(["app.yaml", "README.md"]), Kind::Plain);
        assert_eq!(recognise(["values.yaml", "Chart.yaml"]), Kind::Chart);
    }
}
