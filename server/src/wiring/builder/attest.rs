//! What is said of an image: its packages (CycloneDX), and how it was built (SLSA v1 provenance in an in-toto statement). Both are attached
//! to the image as referrers, and go where it is pushed.

use std::collections::BTreeMap;

use evidence::{
    artifact,
    sbom::{Catalogue, LayerCache, cyclonedx},
    statement::{PAYLOAD_TYPE, Statement},
};
use image::registry::{Document, ManifestRef};
use records::{Digest, Timestamp};
use serde_json::{Value, json};

use super::{Home, Request, names};
use crate::fault::{Class, Fault, Result};

/// What the parameters of the provenance mean.
pub const DOCKERFILE: &str = "https://shipway.dev/build-types/dockerfile/v1";
pub const BUILDPACKS: &str = "https://shipway.dev/build-types/buildpacks/v1";
const BUILDER: &str = "https://shipway.dev/builder/local";
const PROVENANCE: &str = "https://slsa.dev/provenance/v1";

/// What is to be said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attest {
    pub sbom: bool,
    pub provenance: Option<Detail>,
}

/// How much provenance tells. Values of arguments may be what nobody else should read, so they are only told when that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    Min,
    Max,
}

impl Attest {
    /// Reads `--attest type=sbom|provenance[,mode=min|max][,disabled=true]`.
    pub fn parse(&mut self, text: &str) -> Result<()> {
        let (mut kind, mut rest) = (None, Vec::new());
        for field in build::csv(text) {
            match field.split_once('=') {
                Some(("type", value)) => kind = Some(value.to_owned()),
                _ => rest.push(field),
            }
        }
        let off = rest.iter().any(|field| matches!(field.as_str(), "disabled" | "disabled=true"));
        match kind.as_deref() {
            Some("sbom") => self.sbom = !off,
            Some("provenance") if off => self.provenance = None,
            Some("provenance") => self.provenance(rest.first().map_or("true", String::as_str))?,
            _ => {
                return Err(Fault::usage(format!("--attest knows no `{text}`"))
                    .hint("write type=sbom or type=provenance,mode=max"));
            }
        }
        Ok(())
    }

    /// Reads `--provenance true|false|mode=min|mode=max`.
    pub fn provenance(&mut self, text: &str) -> Result<()> {
        self.provenance = match text {
            "true" | "mode=min" => Some(Detail::Min),
            "mode=max" => Some(Detail::Max),
            "false" => None,
            other => {
                return Err(Fault::usage(format!("--provenance knows no `{other}`"))
                    .hint("there are true, false, mode=min and mode=max"));
            }
        };
        Ok(())
    }
}

/// An image that something is said of.
pub struct About<'a> {
    pub digest: &'a Digest,
    pub platform: &'a build::Platform,
    /// What the parameters of the provenance mean: [`DOCKERFILE`] or [`BUILDPACKS`].
    pub build_type: &'static str,
    /// Of the image, so that the list of its packages is the same every time.
    pub epoch: i64,
    /// `name@digest`
    pub bases: Vec<String>,
    pub remotes: Vec<String>,
    /// The Dockerfile.
    pub text: &'a str,
    pub started: Timestamp,
    pub finished: Timestamp,
}

fn broken(error: &(dyn std::error::Error + 'static)) -> Fault {
    Fault::from_error(Class::Unavailable, error)
}

/// Attaches what is asked for to an image of the local store.
pub async fn attach(home: &Home, request: &Request, about: &About<'_>) -> Result<()> {
    let name =
        request.tags.first().map_or_else(|| "image".to_owned(), |tag| names::outside(tag).repository.to_string());
    if request.attest.sbom {
        sbom(home, &name, about).await?;
    }
    if let Some(detail) = request.attest.provenance {
        let statement = Statement::about(&name, about.digest, PROVENANCE, provenance(request, about, detail));
        let text = serde_json::to_vec(&statement).map_err(|e| Fault::from_error(Class::Internal, &e))?;
        put(home, about, PAYLOAD_TYPE, text, [("in-toto.io/predicate-type", PROVENANCE)]).await?;
    }
    Ok(())
}

async fn put<const N: usize>(
    home: &Home,
    about: &About<'_>,
    media_type: &str,
    text: Vec<u8>,
    annotations: [(&str, &str); N],
) -> Result<()> {
    let annotations: BTreeMap<String, String> =
        annotations.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let mut layer = artifact::layer(media_type, text);
    layer.annotations = annotations.clone();
    let put = home.registry.attach(names::UNTAGGED, about.digest, media_type, vec![layer], annotations).await;
    put.map(drop).map_err(|e| broken(&e))
}

async fn sbom(home: &Home, name: &str, about: &About<'_>) -> Result<()> {
    let found = home.registry.find_manifest(names::UNTAGGED, &ManifestRef::Digest(about.digest.clone())).await;
    let (_, info, content) = found.map_err(|e| broken(&e))?;
    let (document, _) = Document::parse(&info.media_type, &content).map_err(|e| broken(&e))?;
    let layers: Vec<Digest> = document.layers.unwrap_or_default().into_iter().map(|layer| layer.digest).collect();
    let cache = LayerCache::new(Some(home.data.join("packages-of-layers")));
    let facts = cache.layers(&home.blobs, &layers).await.map_err(|e| broken(&e))?;
    let catalogue = Catalogue::of(facts.iter().map(|facts| &**facts));
    let at = Timestamp::from_second(about.epoch).map_err(|e| Fault::from_error(Class::Internal, &e))?;
    let bom = cyclonedx::document(name, about.digest, &catalogue, at);
    let text = serde_json::to_vec(&bom).map_err(|e| Fault::from_error(Class::Internal, &e))?;
    put(home, about, cyclonedx::MEDIA_TYPE, text, []).await
}

fn provenance(request: &Request, about: &About<'_>, detail: Detail) -> Value {
    let base = |base: &String| {
        let (name, digest) = base.rsplit_once('@').unwrap_or((base, ""));
        let hex = digest.split_once(':').map_or("", |(_, hex)| hex);
        let last = name.rsplit('/').next().unwrap_or(name);
        json!({ "uri": format!("pkg:oci/{last}@{digest}?repository_url={name}"), "digest": { "sha256": hex } })
    };
    let dependencies = about.bases.iter().map(base).chain(about.remotes.iter().map(|url| json!({ "uri": url })));
    let mut parameters = json!({
        "target": request.target,
        "platform": about.platform.to_string(),
        "labels": request.labels,
    });
    if build::is_remote(&request.context) {
        parameters["context"] = build::shown(&request.context).into();
    }
    let mut internal = json!({});
    let dockerfile = about.build_type == DOCKERFILE;
    if !dockerfile {
        parameters["buildpacks"] = json!(request.packs.buildpacks);
        parameters["builder"] = json!(request.packs.builder);
        parameters["runImage"] = json!(request.packs.run_image);
    }
    if detail == Detail::Max {
        parameters["buildArgs"] = json!(request.build_args);
        parameters["secrets"] = json!(request.secrets.ids());
        if !dockerfile {
            parameters["env"] = json!(request.packs.env);
        }
        internal[if dockerfile { "dockerfile" } else { "build" }] = about.text.into();
    }
    let begun = about.started.to_string();
    json!({
        "buildDefinition": {
            "buildType": about.build_type,
            "externalParameters": parameters,
            "internalParameters": internal,
            "resolvedDependencies": dependencies.collect::<Vec<_>>(),
        },
        "runDetails": {
            "builder": { "id": BUILDER, "version": { "shipway": env!("CARGO_PKG_VERSION") } },
            "metadata": {
                "invocationId": format!("{}@{begun}", about.digest),
                "startedOn": begun,
                "finishedOn": about.finished.to_string(),
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_read_as_docker_writes_it() {
        let read = |texts: &[&str]| {
            let mut attest = Attest::default();
            texts.iter().map(|text| attest.parse(text)).collect::<Result<Vec<()>>>().map(|_| attest)
        };
        let both = read(&["type=sbom", "type=provenance,mode=max"]).unwrap();
        assert_eq!(both, Attest { sbom: true, provenance: Some(Detail::Max) });
        assert_eq!(read(&["type=provenance", "type=provenance,disabled=true"]).unwrap(), Attest::default());
        assert!(read(&["type=other"]).is_err() && read(&["type=provenance,mode=some"]).is_err());
    }
}
