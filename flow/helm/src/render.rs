//! A chart and values in, a release's documents out, with what the cluster is like.

use std::sync::Arc;

use chart::{Capabilities, Chart, Flavor, KubeVersion, Release, Render, Rendered, Warnings};

use crate::{Cluster, Error, action::Deploy, lookup::Asking};

/// A program or function that changes the documents on their way.
pub type Filter = Arc<dyn Fn(&str) -> Result<String, String> + Send + Sync>;

/// What a release is made from.
#[derive(Clone)]
pub struct Source {
    pub chart: Chart,
    /// The values that the user gives.
    pub values: yaml::Map,
    pub filter: Option<Filter>,
    /// What everything random is made from.
    pub seed: u64,
    /// Whose reading of templates it is.
    pub flavor: Flavor,
}

/// What templates are told of this cluster.
pub(crate) async fn capabilities(cluster: &Cluster, flavor: Flavor) -> Result<Capabilities, Error> {
    let version = cluster.version().await?;
    let text = |field: &str| version[field].as_str().unwrap_or_default().to_owned();
    let mut capabilities = Capabilities::offline(flavor);
    let git = text("gitVersion");
    capabilities.kube = KubeVersion::parse(&git, Flavor::Helm4)
        .map_err(|error| Error::Unreachable(format!("its version {git:?} cannot be read: {error}")))?;
    capabilities.kube.version = git;
    capabilities.kube.major = text("major");
    capabilities.kube.minor = text("minor");
    capabilities.api_versions = cluster.kinds().await?.api_versions();
    Ok(capabilities)
}

/// Renders on a thread of its own; gives what Helm would log, too.
pub(crate) async fn render(
    source: &Source,
    release: Release,
    capabilities: Capabilities,
    cluster: Option<Cluster>,
    options: &Deploy,
    now: jiff::Timestamp,
) -> Result<(Rendered, Vec<String>), Error> {
    let source = source.clone();
    let options = options.clone();
    let runtime = tokio::runtime::Handle::current();
    let work = tokio::task::spawn_blocking(move || {
        let asking = Asking { cluster, dns: options.dns, runtime };
        let mut render = Render::offline(source.flavor, &release.name, &release.namespace);
        render.release = release;
        render.capabilities = capabilities;
        render.hooks = &asking;
        render.options.now = now;
        render.options.seed = source.seed;
        render.cache = Some(Arc::default());
        render.skip_schema = options.skip_schema;
        render.include_crds = options.include_crds;
        render.sub_notes = options.sub_notes;
        render.hide_secrets = options.hide_secrets;
        render.store_chart = true;
        let filter = source.filter.clone();
        let filter = filter.as_ref().map(|filter| move |text: &str| filter(text));
        if let Some(filter) = &filter {
            render.post_renderer = Some(filter);
        }
        let warnings = Warnings::default();
        let rendered = render.run(&source.chart, &source.values, &warnings)?;
        Ok::<_, Error>((rendered, warnings.take()))
    });
    work.await.map_err(|error| Error::Several(format!("rendering was cut short: {error}")))?
}
