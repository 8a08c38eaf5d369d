//! `helm template` with a cluster: what it can do, what it has, and whether it knows the objects.

use chart::{Capabilities, Rendered};

use super::{Deploy, install::told};
use crate::{
    Cluster, Error, Source, apply,
    build::build,
    render::{capabilities, render},
};

/// What a cluster is asked for while a chart is rendered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Templates are told its version and kinds.
    pub told: bool,
    /// `lookup` finds its objects.
    pub lookup: bool,
    /// The objects must be of kinds that it has, and not be there already, unless they are this release's.
    pub objects: bool,
}

impl Asked {
    /// Whether a cluster is needed at all.
    pub fn cluster(self) -> bool {
        self.told || self.lookup || self.objects
    }
}

/// Renders for show, and gives what Helm would log. `offline` is what templates are told without a cluster; nothing is written.
pub async fn template(
    cluster: Option<&Cluster>,
    source: &Source,
    options: &Deploy,
    asked: Asked,
    offline: Capabilities,
    now: jiff::Timestamp,
) -> Result<(Rendered, Vec<String>), Error> {
    let Some(cluster) = cluster else { return render(source, told(options, 1), offline, None, options, now).await };
    if asked.told || asked.objects {
        cluster.version().await.map_err(|error| error.context("cluster reachability check failed"))?;
    }
    let capabilities = if asked.told { capabilities(cluster, source.flavor).await? } else { offline };
    let lookup = asked.lookup.then(|| cluster.clone());
    let (rendered, mut warnings) = render(source, told(options, 1), capabilities, lookup, options, now).await?;
    if !asked.objects {
        return Ok((rendered, warnings));
    }
    if !rendered.crds.is_empty() && !options.skip_crds {
        let doubt = "This chart or one of its subcharts contains CRDs. Rendering may fail or contain inaccuracies.";
        warnings.push(format!("WARNING: {doubt}"));
    }
    let built = build(cluster, &rendered.manifest, &options.namespace).await;
    let mut objects =
        built.map_err(|error| error.context("unable to build kubernetes objects from release manifest"))?;
    if !options.is_upgrade {
        for object in &mut objects {
            crate::ownership::stamp(&mut object.value, &options.name, &options.namespace);
        }
        let found = apply::adopted(cluster, &objects, &options.name, &options.namespace, options.take_ownership).await;
        found.map_err(|error| error.context("unable to continue with install"))?;
    }
    Ok((rendered, warnings))
}
