//! What is built from: the context, the Dockerfile, what it names besides, and the images that it stands on.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use build::{ContextTree, Fresh, Ignore, Named, ResolvedBase, StatCache, dockerfile::Dockerfile};
use data_encoding::HEXLOWER;
use records::Digest;

use super::{Work, at, load, packed, remotes};
use crate::fault::{Class, Fault, Result};

/// Where the context is.
pub(super) struct Root {
    pub(super) path: PathBuf,
    /// What errors call it where it is no directory of the person's own.
    pub(super) name: String,
    /// The Dockerfile, where that was all there is.
    pub(super) text: Option<String>,
}

/// The files to build from.
pub(super) struct Ground {
    pub(super) root: PathBuf,
    pub(super) text: String,
    /// What errors call the Dockerfile.
    pub(super) name: String,
    pub(super) tree: ContextTree,
}

/// A base of which only the name is known.
fn unknown(name: &str) -> ResolvedBase {
    let mut config = build::ImageConfig::default();
    "?".clone_into(&mut config.config.user);
    let digest = Digest::sha256(&[0; 32]);
    ResolvedBase { name: name.to_owned(), repository: String::new(), digest, config, layers: Vec::new() }
}

impl Work<'_> {
    /// Where the context is.
    pub(super) async fn root(&mut self) -> Result<Root> {
        let (home, context) = (self.home, self.request.context.as_str());
        let git = build::is_git(context) || context.contains('#');
        Ok(if context == "-" {
            if self.request.file.as_deref() == Some(Path::new("-")) {
                let fault = Fault::usage("the context and the Dockerfile cannot both be read from standard input");
                return Err(fault.hint("put the Dockerfile into the archive, and name it there with -f"));
            }
            let name = "standard input";
            let packed = tokio::task::block_in_place(|| packed::read(home, std::io::stdin().lock(), name))?;
            self.unpacked(packed, name)?
        } else if build::is_remote(context) && !git {
            self.progress.note(&format!("fetching {}", build::shown(context)));
            let packed = Self::unless_cancelled(&self.cancel, packed::fetch(home, context)).await?;
            self.unpacked(packed, &build::shown(context.split('?').next().unwrap_or(context)))?
        } else if build::is_remote(context) {
            self.progress.note(&format!("fetching {}", build::shown(context)));
            let checkout =
                Self::unless_cancelled(&self.cancel, remotes::git(&home.fetcher(), context, None, false)).await?;
            let path = checkout.root.join(&checkout.directory);
            let address = build::shown(context.split(['#', '?']).next().unwrap_or(context));
            let name = format!("{address} at {}", &checkout.commit[..12]);
            Root { path, name, text: None }
        } else {
            let root = std::fs::canonicalize(context)
                .map_err(|e| Fault::usage(format!("cannot open the build context {context}: {e}")))?;
            Root { path: root, name: String::new(), text: None }
        })
    }

    /// A context that came as one file. Beside a Dockerfile alone there are no files.
    fn unpacked(&mut self, packed: packed::Packed, name: &str) -> Result<Root> {
        let name = name.to_owned();
        match packed {
            packed::Packed::Files(directory) => {
                let path = directory.path().to_owned();
                self.held.push(directory);
                Ok(Root { path, name, text: None })
            }
            packed::Packed::Text(text) => {
                let path = self.home.data.join("empty");
                std::fs::create_dir_all(&path).map_err(|e| Fault::from_error(Class::Unavailable, &e))?;
                Ok(Root { path, name, text: Some(text) })
            }
        }
    }

    /// The Dockerfile and the files that it may copy.
    pub(super) async fn ground(&self, root: PathBuf, name: String, sole: Option<String>) -> Result<Ground> {
        let request = self.request;
        let context = request.context.as_str();
        let stdin = request.file.as_deref() == Some(Path::new("-"));
        let path = match &request.file {
            Some(file) if build::is_remote(context) || context == "-" => root.join(file),
            Some(file) => file.clone(),
            None => ["Dockerfile", "Containerfile"]
                .map(|name| root.join(name))
                .into_iter()
                .find(|p| p.exists())
                .unwrap_or_else(|| root.join("Dockerfile")),
        };
        let (text, shown) = if let Some((name, text)) = &request.inline {
            (text.clone(), name.clone())
        } else if let Some(text) = sole {
            (text, name)
        } else if stdin {
            (read_bounded(std::io::stdin().lock(), "standard input")?, "standard input".to_owned())
        } else {
            let file = std::fs::File::open(&path).map_err(|e| {
                let shown = match (name.is_empty(), path.strip_prefix(&root)) {
                    (false, Ok(inside)) => format!("{} of {name}", inside.display()),
                    _ => path.display().to_string(),
                };
                Fault::usage(format!("cannot open {shown}: {e}")).hint("name the Dockerfile with -f")
            })?;
            let here = std::env::current_dir().unwrap_or_default();
            let relative = path.strip_prefix(&here).unwrap_or(&path).display().to_string();
            let relative = if name.is_empty() { relative } else { format!("{name}: Dockerfile") };
            (read_bounded(file, &relative)?, relative)
        };
        // An ignore file of the Dockerfile's own stands beside it, wherever that is.
        let mut own = path.clone().into_os_string();
        own.push(".dockerignore");
        let mut ignore = Ignore::default();
        for candidate in [PathBuf::from(own), root.join(".dockerignore")] {
            match std::fs::read_to_string(&candidate) {
                Ok(text) => {
                    let name = candidate.strip_prefix(&root).unwrap_or(&candidate).display().to_string();
                    ignore = Ignore::parse(&name, &text).map_err(|e| Fault::usage(e.to_string()))?;
                    break;
                }
                Err(error)
                    if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {}
                Err(error) => return Err(Fault::usage(format!("cannot read {}: {error}", candidate.display()))),
            }
        }
        let tree = self.scan(&root, ignore).await?;
        Ok(Ground { root, text, name: shown, tree })
    }

    pub(super) async fn scan(&self, root: &Path, ignore: Ignore) -> Result<ContextTree> {
        let sum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, root.as_os_str().as_encoded_bytes());
        let name: String = HEXLOWER.encode(&sum.as_ref()[..12]);
        let now = i64::try_from((self.home.clock)().as_nanosecond()).unwrap_or_default();
        let cache = match packed::holds(self.home, root) {
            true => StatCache::default(),
            false => StatCache::new(self.home.data.join("contexts").join(name), now),
        };
        let root = root.to_owned();
        let _span = tracing::info_span!("scan");
        let scanned = tokio::task::spawn_blocking(move || ContextTree::scan(&root, ignore, cache)).await;
        scanned.map_err(|e| Fault::from_error(Class::Internal, &e))?.map_err(|e| Fault::usage(e.to_string()))
    }

    pub(super) async fn options(&mut self, epoch: Option<i64>, platform: &build::Platform) -> Result<build::Options> {
        let request = self.request;
        let mut options = build::Options {
            target: request.target.clone(),
            build_args: request.build_args.clone(),
            labels: request.labels.clone(),
            source_date_epoch: epoch,
            several_platforms: request.platforms.len() > 1,
            secrets: Some(request.secrets.ids()),
            agents: Some(request.secrets.agents()),
            network: request.network,
            hosts: request.hosts.clone(),
            ulimits: request.ulimits.clone(),
            shm_size: request.shm_size,
            platform: platform.clone(),
            fresh: request.fresh.clone().map(|stages| Fresh { stages, nonce: (self.home.clock)().to_string() }),
            ..build::Options::default()
        };
        for (name, place) in &request.contexts {
            let named = if let Some(image) = place.strip_prefix("docker-image://") {
                Named::Image(image.to_owned())
            } else if let Some(layout) = place.strip_prefix("oci-layout://") {
                Named::Image(load::layout(self.home, name, layout).await?)
            } else if build::is_remote(place) && !build::is_git(place) && !place.contains('#') {
                let packed = Self::unless_cancelled(&self.cancel, packed::fetch(self.home, place)).await?;
                let packed::Packed::Files(directory) = packed else {
                    return Err(Fault::usage(format!("the context {name}={} is no archive", build::shown(place))));
                };
                let tree = self.scan(directory.path(), Ignore::default()).await?;
                self.held.push(directory);
                Named::Tree(Box::new(tree))
            } else if build::is_remote(place) {
                let checkout =
                    Self::unless_cancelled(&self.cancel, remotes::git(&self.home.fetcher(), place, None, false))
                        .await?;
                Named::Tree(Box::new(self.scan(&checkout.root.join(&checkout.directory), Ignore::default()).await?))
            } else {
                let root = std::fs::canonicalize(place)
                    .map_err(|e| Fault::usage(format!("cannot open the context {name}={place}: {e}")))?;
                Named::Tree(Box::new(self.scan(&root, Ignore::default()).await?))
            };
            options.contexts.insert(name.clone(), named);
        }
        Ok(options)
    }

    /// Every image that the build stands on, by digest.
    pub(super) async fn bases(
        &mut self,
        file: &Dockerfile,
        options: &build::Options,
        root: &Path,
    ) -> Result<HashMap<String, ResolvedBase>> {
        let mut bases = HashMap::new();
        for build::BaseName { name, platform, place } in
            build::base_names(file, options).map_err(|e| Fault::usage(e.to_string()))?
        {
            let cancel = self.cancel.clone();
            let span = tracing::info_span!("base", name);
            let found = Self::unless_cancelled(&cancel, self.base(&name, &platform, root)).await;
            drop(span);
            let found = match found {
                // What is unwise in a file can be told without its base; what runs as whom there, nobody knows.
                Err(fault) if self.request.check && fault.class == Class::Unavailable => {
                    self.progress
                        .note(&format!("{name} is not to be had, so nothing is said about it: {}", fault.message));
                    Ok(unknown(&name))
                }
                found => found,
            };
            drop(bases.insert(build::base_key(&name, &platform), found.map_err(|fault| at(place, fault))?));
        }
        Ok(bases)
    }
}

pub(super) fn read_bounded(from: impl std::io::Read, name: &str) -> Result<String> {
    use std::io::Read;
    let mut bytes = Vec::new();
    let most = build::dockerfile::MAX_SIZE as u64;
    from.take(most + 1).read_to_end(&mut bytes).map_err(|e| Fault::usage(format!("cannot read {name}: {e}")))?;
    if bytes.len() as u64 > most {
        return Err(Fault::new(Class::TooLarge, format!("{name} has more than {most} bytes: it is no Dockerfile")));
    }
    String::from_utf8(bytes).map_err(|_| Fault::usage(format!("{name} is not UTF-8 text")))
}
