//! Directories and files of this machine that buildpacks see: service bindings with what is secret, and caches of package managers.
//!
//! What lies below `/platform` (bindings are at `/platform/bindings`) is copied, so that whoever runs the buildpacks can read it; anything
//! else is mounted. None of it is in the image.

use std::path::{Component, Path, PathBuf};

use sandbox::{Mount, MountKind};

use super::{
    Engine,
    engine::PLATFORM,
    sources::Found,
    tree::{self, Tree},
};
use crate::fault::{Fault, Result};

/// Where service bindings are, and the variable that says so.
pub const BINDINGS: &str = "/platform/bindings";
pub const BINDING_ROOT: &str = "SERVICE_BINDING_ROOT";

/// Places that are not for volumes, with all that lies in them.
const OWN: [&str; 4] = ["/cnb", "/layers", "/proc", "/sys"];
/// Places that are not for volumes themselves.
const TOPS: [&str; 5] = ["/", "/workspace", PLATFORM, "/platform/env", BINDINGS];

/// The largest file.
const MOST: u64 = 16 << 20;

/// One of `--volume`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    pub host: PathBuf,
    pub target: String,
    pub writable: bool,
}

impl Volume {
    /// Reads `HOST:TARGET[:ro|rw]`.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |why: &str| {
            Fault::usage(format!("--volume {text}: {why}"))
                .hint("write HOST:TARGET or HOST:TARGET:rw, for example --volume ./maven:/platform/bindings/maven")
        };
        let parts: Vec<&str> = text.split(':').collect();
        let (host, target, how) = match parts[..] {
            [host, target] => (host, target, "ro"),
            [host, target, how] => (host, target, how),
            _ => return Err(wrong("this is no HOST:TARGET")),
        };
        let writable = match how {
            "ro" => false,
            "rw" => true,
            other => return Err(wrong(&format!("`{other}` is neither ro nor rw"))),
        };
        let whole = Path::new(target);
        let plain = whole.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
        if host.is_empty() || !whole.is_absolute() || !plain {
            return Err(wrong("the target is to be an absolute path without `..`"));
        }
        let target = whole.components().collect::<PathBuf>().to_string_lossy().into_owned();
        if TOPS.contains(&target.as_str()) || OWN.iter().any(|own| Path::new(&target).starts_with(own)) {
            return Err(wrong("buildpacks have their own files there"));
        }
        if writable && Path::new(&target).starts_with(PLATFORM) {
            return Err(wrong("what lies below /platform can only be read"));
        }
        Ok(Self { host: host.into(), target, writable })
    }
}

/// A volume that is at hand.
pub struct Ready {
    volume: Volume,
    content: Content,
}

enum Content {
    Tree(Tree),
    File(Vec<u8>),
}

impl Ready {
    /// What decides about the image; nothing does where buildpacks may write, since what they find is another thing each time.
    pub fn identity(&self) -> Option<String> {
        let content = match &self.content {
            _ if self.volume.writable => return None,
            Content::Tree(tree) => tree.identity.clone(),
            Content::File(content) => tree::sum(content),
        };
        Some(format!("{} {content}", self.volume.target))
    }
}

impl Engine<'_> {
    pub(super) async fn volumes(&self) -> Result<Vec<Ready>> {
        let mut ready = Vec::new();
        for volume in &self.wish.packs.volumes {
            let shown = volume.host.display();
            let content = match self.sources.find(&self.sources.here()?, &volume.host.to_string_lossy()).await? {
                Found::Directory(path) => {
                    Content::Tree(Tree::of(self.sources.directory(&path).await?, |_, _| true, true)?)
                }
                Found::File(path) => {
                    let size = std::fs::metadata(&path).map_err(tree::failed("open", &path))?.len();
                    if size > MOST {
                        return Err(Fault::usage(format!("--volume: {shown} has more than {MOST} bytes")));
                    }
                    Content::File(std::fs::read(&path).map_err(tree::failed("read", &path))?)
                }
                Found::Nothing => return Err(Fault::usage(format!("--volume: there is no file or directory {shown}"))),
            };
            ready.push(Ready { volume: volume.clone(), content });
        }
        Ok(ready)
    }

    /// Puts what belongs below `/platform` there, and gives the mounts for the rest.
    pub(super) async fn place_volumes(&self, ready: &[Ready], platform: &Path) -> Result<Vec<Mount>> {
        let mut mounts = Vec::new();
        for Ready { volume, content } in ready {
            let Ok(inside) = Path::new(&volume.target).strip_prefix(PLATFORM) else {
                let host = self.sources.here()?.join(&volume.host);
                let host = std::fs::canonicalize(&host).map_err(tree::failed("open", &host))?;
                let kind = MountKind::Bind(host);
                mounts.push(Mount { target: volume.target.clone(), kind, readonly: !volume.writable });
                continue;
            };
            let to = platform.join(inside);
            if let Some(parent) = to.parent() {
                tree::made(parent.to_owned())?;
            }
            match content {
                Content::Tree(tree) => tree.write(self.shop, &to).await?,
                Content::File(content) => std::fs::write(&to, content).map_err(tree::failed("write", &to))?,
            }
        }
        Ok(mounts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_read_as_pack_writes_them() {
        let volume = |text: &str| Volume::parse(text).map(|volume| (volume.target, volume.writable));
        assert_eq!(volume("a:/platform/bindings/a").unwrap(), ("/platform/bindings/a".to_owned(), false));
        assert_eq!(volume("./m2:/home/cnb/.m2/:rw").unwrap(), ("/home/cnb/.m2".to_owned(), true));
        for wrong in [
            "a",
            "a:b",
            "a:/x/../y",
            "a:/cnb/x",
            "a:/layers",
            "a:/",
            "a:/platform",
            "a:/x:z",
            ":/x",
            "a:/platform/x:rw",
        ] {
            assert!(volume(wrong).is_err(), "{wrong}");
        }
    }
}
