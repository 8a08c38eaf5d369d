//! A run's manifests as an environment gets them.

use std::collections::BTreeMap;

use manifest::{Pinned, Placement};
use records::{Digest, Environment, Image, ReleasedImage, Run, Strategy, labels};
use serde_json::{Value, json};

/// Objects that are ready to be applied, and the images that they run.
#[derive(Debug, Clone, PartialEq)]
pub struct Rendered {
    pub objects: Vec<Value>,
    pub images: Vec<ReleasedImage>,
}

/// Where a base image lies in the registry, by the name that people use.
fn repository(name: &str) -> String {
    if name.contains('/') { name.to_owned() } else { format!("base/{name}") }
}

/// Puts the run's images, by digest, in place of their names (`registry` is the host that the cluster pulls from), puts every object into
/// the environment's namespace, labels it, and sorts what has to be there first to the front. The same input gives the same bytes.
pub fn render(
    run: &Run,
    images: &[Image],
    mut objects: Vec<Value>,
    environment: &Environment,
    registry: &str,
) -> Result<Rendered, manifest::Error> {
    let base = run.resolved.iter().map(|(name, digest)| {
        let name = manifest::name_of(name);
        (name.to_owned(), Pinned { repository: repository(name), digest: digest.to_string() })
    });
    let built = images.iter().map(|image| {
        (image.repository.clone(), Pinned { repository: image.repository.clone(), digest: image.digest.to_string() })
    });
    let found = run.found.iter().map(|(written, image)| {
        (written.clone(), Pinned { repository: image.repository.clone(), digest: image.digest.to_string() })
    });
    // What the run built comes last, and so counts.
    let names: BTreeMap<String, Pinned> = base.chain(found).chain(built).collect();
    let pinned = manifest::pin(&mut objects, registry, &names)?;
    let placement = Placement {
        namespace: environment.namespace.to_string(),
        labels: BTreeMap::from([
            (labels::PROJECT.to_owned(), run.id.project.to_string()),
            (labels::ENVIRONMENT.to_owned(), environment.name.to_string()),
        ]),
        annotations: BTreeMap::new(),
    };
    manifest::place(&mut objects, &placement);
    if environment.strategy == Strategy::Recreate {
        for object in objects.iter_mut().filter(|object| object["kind"] == "Deployment") {
            if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
                spec.insert("strategy".into(), json!({ "type": "Recreate" }));
            }
        }
    }
    manifest::apply_order(&mut objects);
    let image = |pinned: Pinned| {
        // `pin` lets only digests through.
        let digest: Digest = pinned.digest.parse().ok()?;
        Some(ReleasedImage { repository: pinned.repository, digest })
    };
    Ok(Rendered { objects, images: pinned.into_iter().filter_map(image).collect() })
}
