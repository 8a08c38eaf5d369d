//! An image that nobody scanned or signed: a copy of a good one with another command, pushed by hand.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    cli::Client,
    fault::{Class, Fault, Result},
};

/// Pushes a changed copy of `repository@digest` with the tag `rogue`, and returns the name by which a pod asks for it.
pub async fn push(client: &Client, repository: &str, digest: &str) -> Result<String> {
    let mut manifest: Value = client.get(&format!("/v2/{repository}/manifests/{digest}")).await?;
    let config_digest = manifest["config"]["digest"].as_str().unwrap_or_default().to_owned();
    let mut config: Value = client.get(&format!("/v2/{repository}/blobs/{config_digest}")).await?;
    config["config"]["Cmd"] = json!(["--tampered"]);
    let content = config.to_string().into_bytes();
    let sum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &content);
    let mut bytes = [0; 32];
    bytes.copy_from_slice(sum.as_ref());
    let new = records::Digest::sha256(&bytes);
    manifest["config"]["digest"] = json!(new);
    manifest["config"]["size"] = json!(content.len());
    let begun = client.send(Method::POST, &format!("/v2/{repository}/blobs/uploads/"), None).await?;
    let location = begun.headers().get(http::header::LOCATION).and_then(|value| value.to_str().ok());
    let location = location.ok_or_else(|| Fault::new(Class::Failed, "the registry names no place to upload to"))?;
    let separator = if location.contains('?') { '&' } else { '?' };
    let path = location.find("/v2/").map_or(location, |at| &location[at..]);
    client.put(&format!("{path}{separator}digest={new}"), "application/octet-stream", content).await?;
    let kind = manifest["mediaType"].as_str().unwrap_or("application/vnd.oci.image.manifest.v1+json").to_owned();
    client.put(&format!("/v2/{repository}/manifests/rogue"), &kind, manifest.to_string().into_bytes()).await?;
    Ok(format!("{repository}:rogue"))
}
