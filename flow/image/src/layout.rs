//! OCI image layouts: images as a directory, or as a tar of one (`oci-archive`), to be saved and loaded without a registry.

mod load;
mod save;

use serde::{Deserialize, Serialize};

use crate::registry::Descriptor;

pub use load::{LoadLimits, Loaded, load_archive, load_directory};
pub use save::{save_archive, save_directory};

const LAYOUT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;
/// The name of an image within a layout.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The longest `index.json` that is taken.
const MAX_INDEX: u64 = 4 << 20;

/// `index.json`
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    schema_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    media_type: Option<String>,
    manifests: Vec<Descriptor>,
}

fn blob_path(digest: &records::Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm(), digest.hex())
}
