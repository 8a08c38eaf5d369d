//! Committed layers on disk: `layers/<hash of the key>/{fs, meta.json, durable}`.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use super::{DEEPEST, not_found};
use crate::{Error, Result};

#[derive(Debug, Clone)]
pub(super) struct Layer {
    pub directory: PathBuf,
    pub parent: Option<String>,
    pub committed: SystemTime,
    pub durable: bool,
    /// Mounts that stand on it directly.
    pub users: usize,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Meta {
    pub key: String,
    pub parent: Option<String>,
    pub boot: String,
}

/// Keys are free text; directory names are short, so that many lower directories fit one mount.
pub(super) fn directory_name(key: &str) -> String {
    HEXLOWER.encode(&aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, key.as_bytes()).as_ref()[..12])
}

/// Reads all layers. Second: directories that are not to be trusted, with all that stood on them.
pub(super) fn load(directory: &Path, boot: &str) -> Result<(HashMap<String, Layer>, Vec<PathBuf>)> {
    let (mut layers, mut broken) = (HashMap::new(), Vec::new());
    for path in super::read_dir(directory)? {
        match load_one(&path, boot) {
            Some((key, layer)) => {
                layers.insert(key, layer);
            }
            None => broken.push(path),
        }
    }
    loop {
        let orphans: Vec<String> = layers
            .iter()
            .filter(|(_, layer)| layer.parent.as_ref().is_some_and(|parent| !layers.contains_key(parent)))
            .map(|(key, _)| key.clone())
            .collect();
        if orphans.is_empty() {
            return Ok((layers, broken));
        }
        broken.extend(orphans.iter().filter_map(|key| layers.remove(key)).map(|layer| layer.directory));
    }
}

fn load_one(path: &Path, boot: &str) -> Option<(String, Layer)> {
    let meta: Meta = serde_json::from_slice(&fs::read(path.join("meta.json")).ok()?).ok()?;
    let durable = path.join("durable").exists();
    let trusted = durable || meta.boot == boot;
    let named = path.file_name().is_some_and(|name| name.as_encoded_bytes() == directory_name(&meta.key).as_bytes());
    let committed = fs::metadata(path.join("meta.json")).and_then(|m| m.modified()).ok()?;
    let layer = Layer { directory: path.to_path_buf(), parent: meta.parent, committed, durable, users: 0 };
    (trusted && named).then_some((meta.key, layer))
}

/// Keys and directories from `key` down to its base.
pub(super) fn chain(layers: &HashMap<String, Layer>, key: &str) -> Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    let mut at = Some(key.to_owned());
    while let Some(key) = at {
        let layer = layers.get(&key).ok_or_else(|| not_found(&key))?;
        if found.len() == DEEPEST {
            return Err(Error::Invalid(format!("snapshot `{key}` has more than {DEEPEST} layers above it")));
        }
        at = layer.parent.clone();
        found.push((key, layer.directory.clone()));
    }
    Ok(found)
}
