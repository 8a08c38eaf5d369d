//! `shipway rebase`: another run image under an image, without running anything.

use std::{collections::HashMap, path::Path, sync::Arc};

use buildpack::{
    labels::{self, Lifecycle},
    rebase::{Image, Onto, rebase as decide},
};
use graph::Cancel;
use image::{Reference, media};

use super::{
    super::{Built, Home, Progress, Request, Work, names, output},
    broken,
    export::{self, documents},
};
use crate::{
    fault::{Fault, Result},
    wiring::local,
};

/// What is rebased, and onto what.
pub struct Rebase {
    pub image: String,
    /// The image's own run image where none is named.
    pub run_image: Option<String>,
    /// The image's own name where none is given.
    pub tags: Vec<Reference>,
    pub force: bool,
    pub pull: bool,
    pub push: bool,
}

/// Puts another run image under an image.
pub async fn rebase(home: &Home, wanted: &Rebase, progress: Arc<dyn Progress>) -> Result<Built> {
    let cancel = Cancel::new();
    let _signals = local::cancelled_by_signals(&cancel)?;
    let request = Request { pull: wanted.pull, ..Request::default() };
    let mut work = Work {
        home,
        request: &request,
        progress,
        cancel: cancel.clone(),
        shop: Arc::default(),
        alone: true,
        held: Vec::new(),
    };
    let done = work.rebase(wanted);
    Work::unless_cancelled(&cancel, done).await
}

impl Work<'_> {
    async fn rebase(&mut self, wanted: &Rebase) -> Result<Built> {
        let host = build::Platform::host();
        let (repository, digest) = match self.home.place_of(&wanted.image).await {
            Ok(found) if !wanted.pull => found,
            _ => {
                let base = self.base(&wanted.image, &host, Path::new("/")).await?;
                (base.repository, base.digest)
            }
        };
        let app = documents(self.home.shelf(), &repository, &digest).await?;
        let label = labels::read::<Lifecycle>(&app.config, labels::LIFECYCLE).map_err(broken)?;
        let own = label.and_then(|label| label.run_names().names().next().map(str::to_owned));
        let name = wanted.run_image.clone().or(own).ok_or_else(|| {
            Fault::usage(format!("{} does not say what its run image is", wanted.image))
                .hint("only images that buildpacks made can be rebased; name the run image with --run-image")
        })?;
        let run = self.base(&name, &host, Path::new("/")).await?;
        let under = documents(self.home.shelf(), &run.repository, &run.digest).await?;
        let by: HashMap<String, build::LayerInfo> =
            app.layers.iter().chain(&under.layers).map(|layer| (layer.digest.to_string(), layer.clone())).collect();
        let image = |documents: &export::Documents| Image {
            config: documents.config.clone(),
            layers: documents.layers.iter().map(|layer| layer.digest.to_string().into()).collect(),
        };
        let base = image(&under);
        let created = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|text| text.parse().ok());
        let created = created.and_then(|time| records::Timestamp::from_second(time).ok());
        let own = app.config["created"].as_str().unwrap_or(buildpack::export::CREATED).to_owned();
        let onto = Onto {
            image: &base,
            name: &name,
            reference: &format!("{}@{}", names::shown(&run.repository), run.digest),
            force: wanted.force,
            created: &created.map_or(own, |time| time.to_string()),
        };
        let done = decide(&image(&app), &onto).map_err(broken)?;
        let layers = done.layers.iter().filter_map(|layer| by.get(layer.as_str()?).cloned()).collect::<Vec<_>>();
        let docker = app.media_type == media::DOCKER_MANIFEST;
        let mut annotations = app.annotations.clone();
        if !docker {
            annotations.insert("org.opencontainers.image.base.name".into(), run.repository.clone());
            annotations.insert("org.opencontainers.image.base.digest".into(), run.digest.to_string());
        }
        let (repository, digest, config) =
            export::put(self.home.shelf(), names::UNTAGGED, &done.config, &layers, &annotations, docker).await?;
        let mut tags = wanted.tags.clone();
        if tags.is_empty()
            && let Ok(name) = wanted.image.parse::<Reference>()
            && name.digest.is_none()
            && !wanted.image.starts_with("sha256:")
        {
            tags.push(name);
        }
        let mut built = Built { digest: Some(digest.clone()), config: Some(config), repository, ..Built::default() };
        for tag in &tags {
            self.home.give(&built.repository, &digest, tag).await?;
            built.names.push(tag.to_string());
        }
        if wanted.push {
            output::push(self.home, &built.repository, &digest, &tags).await?;
        }
        Ok(built)
    }
}
