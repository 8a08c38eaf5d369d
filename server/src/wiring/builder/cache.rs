//! The results of builds on their way to other machines: `--cache-to` and `--cache-from`.
//!
//! A cache is an ordinary OCI artifact, so that any registry and any OCI layout holds it: an empty configuration, an index of vertices as
//! first layer, and the files of each as a layer of its own. What a vertex made is found by the vertex's address, which covers all that it
//! was made from; and everything is checked against its digest. A result is fetched when the scheduler asks for it, and not before.
//! Results that were made with a secret stay where they are.
//!
//! A cache that goes with its image is the same artifact, attached to the image as a referrer: the image itself is what it would be without.

mod export;
mod import;

use std::path::PathBuf;

use build::csv;
use image::Reference;
use records::Digest;
use serde::{Deserialize, Serialize};

use super::names;
use crate::fault::{Fault, Result};

pub use export::export;
pub use import::Imports;

/// What the artifact is.
const ARTIFACT: &str = "application/vnd.shipway.build-cache.v1";
/// Its first layer.
const INDEX: &str = "application/vnd.shipway.build-cache.index.v1+json";
/// The longest index that is read.
const MOST_INDEX: u64 = 32 << 20;
/// The version of the index.
const VERSION: u32 = 1;

/// Where a cache lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Where {
    Registry(Reference),
    Directory(PathBuf),
}

/// One `--cache-to`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct To {
    /// `None` goes with the image.
    pub place: Option<Where>,
    /// Every vertex, not only what the image is made of.
    pub all: bool,
    /// The directories of `RUN --mount=type=cache` as well.
    pub mounts: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct Index {
    version: u32,
    vertices: Vec<Entry>,
    #[serde(default)]
    mounts: Vec<MountEntry>,
}

/// The result of one vertex.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Entry {
    id: String,
    /// The vertex whose result it lies on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parent: Option<String>,
    what: What,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum What {
    /// A base image, which a build has anyhow.
    Image {
        repository: String,
        digest: Digest,
    },
    Layer(Layer),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Layer {
    digest: Digest,
    size: u64,
    diff_id: Digest,
}

/// A cache directory.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct MountEntry {
    id: String,
    mode: u32,
    uid: u32,
    gid: u32,
    layer: Layer,
}

fn fields(text: &str) -> Vec<(String, String)> {
    // `--cache-from NAME` is short for a registry.
    if !text.contains('=') {
        return vec![("type".into(), "registry".into()), ("ref".into(), text.to_owned())];
    }
    csv(text)
        .into_iter()
        .map(|field| match field.split_once('=') {
            Some((name, value)) => (name.trim().to_owned(), value.to_owned()),
            None => (field.trim().to_owned(), "true".to_owned()),
        })
        .collect()
}

fn place(kind: Option<&str>, reference: Option<String>, directory: Option<String>, option: &str) -> Result<Where> {
    let hint = |key: &str| {
        let inline = if option == "--cache-to" { ", or type=inline" } else { "" };
        format!("write {option} type=registry,ref=REGISTRY/NAME:TAG or {option} type=local,{key}=DIRECTORY{inline}")
    };
    let key = if option == "--cache-to" { "dest" } else { "src" };
    match kind {
        Some("registry") => {
            let text = reference.ok_or_else(|| Fault::usage(format!("{option} needs a ref")).hint(hint(key)))?;
            let reference: Reference =
                text.parse().map_err(|e| Fault::usage(format!("{option}: `{text}` is no name at a registry: {e}")))?;
            Ok(Where::Registry(names::outside(&reference)))
        }
        Some("local") => {
            let directory = directory.ok_or_else(|| Fault::usage(format!("{option} needs {key}=DIRECTORY")))?;
            Ok(Where::Directory(directory.into()))
        }
        other => Err(Fault::usage(format!("{option} knows no type `{}`", other.unwrap_or_default())).hint(hint(key))),
    }
}

/// Reads `--cache-to type=registry,ref=…[,mode=max][,mounts=true]`, `type=local,dest=…` or `type=inline`.
pub fn to(text: &str) -> Result<To> {
    let (mut kind, mut reference, mut directory, mut all, mut mounts) = (None, None, None, false, false);
    for (name, value) in fields(text) {
        let yes = matches!(value.as_str(), "true" | "1");
        match name.as_str() {
            "type" => kind = Some(value),
            "ref" => reference = Some(value),
            "dest" => directory = Some(value),
            "mode" if matches!(value.as_str(), "min" | "max") => all = value == "max",
            "mounts" => mounts = yes,
            // So it is anyhow: an OCI artifact, compressed with zstd.
            "oci-mediatypes" | "image-manifest" if yes => {}
            _ => {
                return Err(Fault::usage(format!("--cache-to knows no `{name}={value}`"))
                    .hint("there are type, ref, dest, mode=min|max and mounts"));
            }
        }
    }
    if kind.as_deref() == Some("inline") {
        return match (reference, directory) {
            (None, None) => Ok(To { place: None, all, mounts }),
            _ => Err(Fault::usage("--cache-to type=inline goes with the image, and has no place of its own")
                .hint("leave ref and dest out, or use type=registry or type=local")),
        };
    }
    Ok(To { place: Some(place(kind.as_deref(), reference, directory, "--cache-to")?), all, mounts })
}

/// Reads `--cache-from type=registry,ref=…`, `type=local,src=…`, or a name at a registry.
pub fn from(text: &str) -> Result<Where> {
    let (mut kind, mut reference, mut directory) = (None, None, None);
    for (name, value) in fields(text) {
        match name.as_str() {
            "type" => kind = Some(value),
            "ref" => reference = Some(value),
            "src" => directory = Some(value),
            _ => {
                return Err(
                    Fault::usage(format!("--cache-from knows no `{name}={value}`")).hint("there are type, ref and src")
                );
            }
        }
    }
    place(kind.as_deref(), reference, directory, "--cache-from")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_as_docker_writes_them() {
        let registry = |text: &str| Where::Registry(names::outside(&text.parse().unwrap()));
        assert_eq!(from("r.example.org/a:cache").unwrap(), registry("r.example.org/a:cache"));
        assert_eq!(from("type=registry,ref=r.example.org/a:cache").unwrap(), registry("r.example.org/a:cache"));
        assert_eq!(from("type=local,src=x").unwrap(), Where::Directory("x".into()));
        let given = to("type=local,dest=x,mode=max,mounts=true").unwrap();
        assert_eq!(given, To { place: Some(Where::Directory("x".into())), all: true, mounts: true });
        assert_eq!(to("type=inline").unwrap(), To { place: None, all: false, mounts: false });
        assert!(!to("type=registry,ref=localhost:5000/a").unwrap().all);
        for wrong in [
            "type=gha",
            "type=local",
            "type=registry",
            "type=local,dest=x,mode=some",
            "type=inline,ref=r.example.org/a",
        ] {
            assert!(to(wrong).is_err(), "{wrong}");
        }
        assert!(from("type=local,dest=x").is_err() && from("type=inline").is_err());
    }
}
