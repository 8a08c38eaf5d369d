//! Documents of images: configuration and manifest, made from values. The same values give the same bytes.

use std::collections::BTreeMap;

use bytes::Bytes;
use oci_spec::image::{Arch, DescriptorBuilder, ImageConfiguration, ImageManifestBuilder, MediaType, Os, RootFs};
use records::Digest;
use serde::Serialize;

use crate::{
    Error, Kind, Result,
    hash::{self, Algorithm},
    layer::Written,
    media,
};

/// Longer configurations are not read.
pub const MAX_CONFIG: u64 = 8 << 20;

/// What a platform is called: operating system and architecture in Go's words, and for some architectures a variant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    pub os: String,
    pub architecture: String,
    pub variant: Option<String>,
}

impl Platform {
    /// The platform that this program runs on.
    pub fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "aarch64" => ("arm64", Some("v8")),
            "x86" => ("386", None),
            "powerpc64" => ("ppc64le", None),
            other => (other, None),
        };
        Self { os: "linux".into(), architecture: architecture.into(), variant: variant.map(Into::into) }
    }

    /// Whether an image for `os`, `architecture` and `variant` runs here. An image that names no variant is taken to run on all.
    pub fn runs(&self, os: &str, architecture: &str, variant: Option<&str>) -> bool {
        self.os == os
            && self.architecture == architecture
            && (variant.is_none() || self.variant.is_none() || variant == self.variant.as_deref())
    }
}

/// A layer as an image names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerRef {
    /// As stored.
    pub digest: Digest,
    pub size: u64,
    pub media_type: String,
    /// The digest of the uncompressed tar.
    pub diff_id: Digest,
}

impl From<&Written> for LayerRef {
    fn from(written: &Written) -> Self {
        Self {
            digest: written.digest.clone(),
            size: written.size,
            media_type: written.media_type.to_owned(),
            diff_id: written.diff_id.clone(),
        }
    }
}

/// The documents of an image, to be stored and pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Documents {
    pub config: Bytes,
    pub config_digest: Digest,
    pub manifest: Bytes,
    /// The image's digest.
    pub digest: Digest,
    /// The media type of the manifest.
    pub media_type: &'static str,
}

/// Makes configuration and manifest of an image with these layers, lowest first. `configuration`'s own list of layers is replaced;
/// `annotations` (such as `org.opencontainers.image.revision`) go into the manifest.
pub fn documents(
    mut configuration: ImageConfiguration,
    layers: &[LayerRef],
    annotations: &BTreeMap<String, String>,
) -> Result<Documents> {
    let mut rootfs = RootFs::default();
    rootfs.set_diff_ids(layers.iter().map(|layer| layer.diff_id.to_string()).collect());
    configuration.set_rootfs(rootfs);
    let config = canonical(&configuration)?;
    let config_digest = hash::digest(Algorithm::Sha256, &config);
    let mut described = Vec::with_capacity(layers.len());
    for layer in layers {
        described.push(descriptor(&layer.media_type, &layer.digest, layer.size)?);
    }
    let mut manifest = ImageManifestBuilder::default()
        .schema_version(2u32)
        .media_type(MediaType::ImageManifest)
        .config(descriptor(media::OCI_CONFIG, &config_digest, config.len() as u64)?)
        .layers(described);
    if !annotations.is_empty() {
        manifest = manifest.annotations(annotations.clone().into_iter().collect::<std::collections::HashMap<_, _>>());
    }
    let manifest = manifest.build().map_err(|e| Error::new(Kind::Malformed, "cannot make the manifest").caused(e))?;
    let manifest = canonical(&manifest)?;
    let digest = hash::digest(Algorithm::Sha256, &manifest);
    Ok(Documents { config, config_digest, manifest, digest, media_type: media::OCI_MANIFEST })
}

/// An empty configuration for the platform.
pub fn configuration(platform: &Platform) -> ImageConfiguration {
    let mut configuration = ImageConfiguration::default();
    configuration.set_os(Os::from(platform.os.as_str()));
    configuration.set_architecture(Arch::from(platform.architecture.as_str()));
    configuration.set_variant(platform.variant.clone());
    configuration
}

/// Reads the configuration of an image, OCI's or Docker's.
pub fn parse_configuration(content: &[u8]) -> Result<ImageConfiguration> {
    serde_json::from_slice(content)
        .map_err(|e| Error::new(Kind::Malformed, format!("the image's configuration is malformed: {e}")).caused(e))
}

/// JSON with the keys of every object in order: maps of the types in `oci-spec` have none.
pub fn canonical(value: &impl Serialize) -> Result<Bytes> {
    let mut value = serde_json::to_value(value)
        .map_err(|e| Error::new(Kind::Malformed, "cannot write a document as JSON").caused(e))?;
    value.sort_all_objects();
    Ok(value.to_string().into())
}

fn descriptor(media_type: &str, digest: &Digest, size: u64) -> Result<oci_spec::image::Descriptor> {
    let malformed =
        |e: oci_spec::OciSpecError| Error::new(Kind::Malformed, format!("cannot describe {digest}")).caused(e);
    let digest = digest.as_str().parse::<oci_spec::image::Digest>().map_err(malformed)?;
    DescriptorBuilder::default()
        .media_type(MediaType::from(media_type))
        .digest(digest)
        .size(size)
        .build()
        .map_err(malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::image::ConfigBuilder;

    fn sample() -> Documents {
        let mut configuration = configuration(&Platform::host());
        let labels =
            (0..20).map(|n| (format!("label-{n}"), n.to_string())).collect::<std::collections::HashMap<_, _>>();
        let ports: Vec<String> = (0..20).map(|n| format!("{n}/tcp")).collect();
        let config = ConfigBuilder::default().labels(labels).exposed_ports(ports).user("node").build().unwrap();
        configuration.set_config(Some(config));
        let digest = hash::digest(Algorithm::Sha256, b"layer");
        let layer = LayerRef {
            digest: digest.clone(),
            size: 5,
            media_type: media::OCI_LAYER_ZSTD.into(),
            diff_id: hash::digest(Algorithm::Sha256, b"tar"),
        };
        let annotations = [("org.opencontainers.image.revision".to_owned(), "abc".to_owned())].into();
        documents(configuration, &[layer], &annotations).unwrap()
    }

    #[test]
    fn the_same_values_give_the_same_bytes() {
        let first = sample();
        for _ in 0..10 {
            assert_eq!(sample(), first);
        }
    }

    #[test]
    fn documents_say_what_the_specification_wants() {
        let documents = sample();
        let manifest: serde_json::Value = serde_json::from_slice(&documents.manifest).unwrap();
        assert_eq!(manifest["mediaType"], media::OCI_MANIFEST);
        assert_eq!(manifest["schemaVersion"], 2);
        assert_eq!(manifest["config"]["digest"], documents.config_digest.as_str());
        assert_eq!(manifest["layers"][0]["mediaType"], media::OCI_LAYER_ZSTD);
        assert_eq!(manifest["annotations"]["org.opencontainers.image.revision"], "abc");
        let config = parse_configuration(&documents.config).unwrap();
        assert_eq!(config.rootfs().diff_ids().len(), 1);
        assert_eq!(config.config().as_ref().unwrap().user().as_deref(), Some("node"));
        let raw: serde_json::Value = serde_json::from_slice(&documents.config).unwrap();
        assert_eq!(raw["rootfs"]["type"], "layers");
    }

    #[test]
    fn platforms_match_with_and_without_variants() {
        let arm = Platform { os: "linux".into(), architecture: "arm64".into(), variant: Some("v8".into()) };
        assert!(arm.runs("linux", "arm64", None) && arm.runs("linux", "arm64", Some("v8")));
        assert!(!arm.runs("linux", "arm64", Some("v9")) && !arm.runs("linux", "amd64", None));
    }
}
