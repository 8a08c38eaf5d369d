//! `shipway image …`: the images of the local store, with the verbs that people know.

use std::{
    io::{Read, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use serde_json::json;

use super::output;
use crate::{
    clock,
    fault::{Class, Fault, Result},
    wiring::{Below, Home, Packing, Place, Saved, archive, load, push, recompress, to_file, to_give},
};

#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(subcommand)]
    command: Command,

    #[command(flatten)]
    place: Place,
}

impl Options {
    /// Whether snapshots are taken away, which lie on mounts as those of builds do.
    pub fn isolation(&self) -> crate::wiring::Isolation {
        self.place.isolation
    }

    pub fn prunes(&self) -> bool {
        matches!(self.command, Command::Prune)
    }
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List images, newest first
    #[command(visible_alias = "list")]
    Ls {
        /// Print digests alone
        #[arg(long, short)]
        quiet: bool,
        #[arg(long)]
        json: bool,
    },
    /// Print what is known of images, as JSON
    Inspect {
        #[arg(required = true)]
        images: Vec<String>,
    },
    /// List the layers and settings of an image, newest first
    History {
        image: String,
        #[arg(long)]
        json: bool,
    },
    /// Give an image one more name
    Tag {
        image: String,
        name: String,
        /// Let the tag be `latest`
        #[arg(long)]
        allow_latest: bool,
    },
    /// Take a name from an image; with its last name it is gone
    #[command(visible_alias = "remove")]
    Rm {
        #[arg(required = true)]
        images: Vec<String>,
    },
    /// Load images from an archive or a directory: OCI layouts, and what docker and podman save
    Load {
        /// The archive or directory [default: standard input]
        #[arg(long, short)]
        input: Option<PathBuf>,
    },
    /// Save images as an archive that docker, podman and skopeo load
    Save {
        #[arg(required = true)]
        images: Vec<String>,
        /// The archive [default: standard output]
        #[arg(long, short)]
        output: Option<PathBuf>,
        /// Compress layers anew that are compressed otherwise: gzip, which Docker 20.10 needs, zstd or uncompressed [default: as they are]
        #[arg(long)]
        compression: Option<String>,
    },
    /// Make an image of an archive of a file system
    Import {
        /// The archive, or - for standard input
        archive: PathBuf,
        name: Option<String>,
        #[arg(long, short, default_value = "")]
        message: String,
        /// Let the tag be `latest`
        #[arg(long)]
        allow_latest: bool,
    },
    /// Fetch an image from a registry
    Pull { image: String },
    /// Send an image to a registry
    Push {
        image: String,
        /// The name at the registry [default: its own]
        to: Option<String>,
        /// Compress layers anew that are compressed otherwise: gzip, zstd or uncompressed [default: as they are]
        #[arg(long)]
        compression: Option<String>,
    },
    /// Remove images without a name, content that no image has, and results of builds that no image came from
    Prune,
}

pub async fn main(options: Options) -> Result<ExitCode> {
    super::trace_to_stderr("error");
    let home = Home::open(&options.place, &|text| eprintln!("{text}")).await?;
    let done = run(&home, options.command).await;
    let closed = home.close().await;
    done?;
    closed?;
    Ok(ExitCode::SUCCESS)
}

async fn run(home: &Home, command: Command) -> Result<()> {
    match command {
        Command::Ls { quiet, json } => ls(home, quiet, json).await,
        Command::Inspect { images } => {
            let mut all = Vec::new();
            for image in &images {
                all.push(inspect(home, image).await?);
            }
            output::json(&all)
        }
        Command::History { image, json } => history(home, &image, json).await,
        Command::Tag { image, name, allow_latest } => {
            let (repository, digest) = home.place_of(&image).await?;
            home.give(&repository, &digest, &to_give(&name, allow_latest)?).await
        }
        Command::Rm { images } => {
            for image in &images {
                remove(home, image).await?;
            }
            Ok(())
        }
        Command::Load { input } => {
            let spooled;
            let path = match &input {
                Some(path) => path.as_path(),
                None => {
                    spooled = spool(home)?;
                    spooled.path()
                }
            };
            for loaded in load::load(home, path).await? {
                let names: Vec<String> = loaded.names.iter().map(ToString::to_string).collect();
                println!("{} {}", loaded.digest, names.join(" "));
            }
            Ok(())
        }
        Command::Save { images, output, compression } => {
            let packing = packing(compression.as_deref())?;
            let mut saved: Vec<Saved> = Vec::new();
            for text in &images {
                let (repository, digest) = home.place_of(text).await?;
                let name = text.parse::<image::Reference>().ok().filter(|name| name.digest.is_none());
                let name = name.filter(|_| !digest.hex().starts_with(text.trim_start_matches("sha256:")));
                match saved.iter_mut().find(|known| known.digest == digest) {
                    Some(known) => known.names.extend(name),
                    None => saved.push(Saved { repository, digest, names: name.into_iter().collect() }),
                }
            }
            let written = async {
                for one in &mut saved {
                    if let Some(packing) = &packing {
                        let made = recompress::image(home, &one.repository, &one.digest, packing).await?;
                        (one.repository, one.digest) = (recompress::PASSING.to_owned(), made);
                    }
                }
                to_file(output.as_deref(), async |out| archive(home, &saved, out).await).await
            };
            let written = written.await;
            recompress::forget(home).await?;
            written
        }
        Command::Import { archive, name, message, allow_latest } => {
            let name = name.map(|name| to_give(&name, allow_latest)).transpose()?;
            let spooled;
            let path = if archive == Path::new("-") {
                spooled = spool(home)?;
                spooled.path()
            } else {
                &archive
            };
            let digest = load::import(home, path, &message).await?;
            if let Some(name) = &name {
                home.give("untagged", &digest, name).await?;
            }
            println!("{digest}");
            Ok(())
        }
        Command::Pull { image } => {
            let (name, digest) = home.pull(&image).await?;
            println!("{name} {digest}");
            Ok(())
        }
        Command::Push { image, to, compression } => {
            let packing = packing(compression.as_deref())?;
            let (repository, digest) = home.place_of(&image).await?;
            let to = to.as_deref().unwrap_or(&image);
            let to: image::Reference =
                to.parse().map_err(|e: image::Error| Fault::usage(format!("`{to}` is no name at a registry: {e}")))?;
            let Some(packing) = packing else {
                push(home, &repository, &digest, std::slice::from_ref(&to)).await?;
                println!("{to} {digest}");
                return Ok(());
            };
            let pushed = async {
                let made = recompress::image(home, &repository, &digest, &packing).await?;
                push(home, recompress::PASSING, &made, std::slice::from_ref(&to)).await?;
                Ok::<_, Fault>(made)
            };
            let pushed = pushed.await;
            recompress::forget(home).await?;
            println!("{to} {}", pushed?);
            Ok(())
        }
        Command::Prune => {
            let (images, bytes) = home.prune().await?;
            let mut results = 0;
            if home.has_results() {
                let shop = home.workshop().await?;
                let pruned = home.prune_results(shop.sandbox.snapshots()).await;
                shop.close(std::time::Duration::from_secs(30)).await;
                results = pruned?;
            }
            let mebibytes = bytes as f64 / 1_048_576.0;
            println!("removed {images} images, {mebibytes:.1} MiB of content, {results} results of builds");
            Ok(())
        }
    }
}

fn packing(compression: Option<&str>) -> Result<Option<Packing>> {
    let Some(text) = compression else { return Ok(None) };
    Ok(Some(Packing { compression: Packing::compression(text)?, below: Below::All, ..Packing::default() }))
}

async fn ls(home: &Home, quiet: bool, json: bool) -> Result<()> {
    let rows = home.rows().await?;
    if json {
        return output::json(&rows);
    }
    let mut out = std::io::stdout().lock();
    if quiet {
        for row in &rows {
            let _ = writeln!(out, "{}", row.digest);
        }
        return Ok(());
    }
    let now = clock::now();
    let cells = rows.iter().map(|row| {
        let tag = row.tag.clone().unwrap_or_else(|| "<none>".into());
        let digest = row.digest.hex().chars().take(12).collect();
        [row.name.clone(), tag, digest, output::ago(row.stored, now), size(row.size)]
    });
    let _ = out.write_all(output::table(["REPOSITORY", "TAG", "DIGEST", "STORED", "SIZE"], cells).as_bytes());
    Ok(())
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
        _ => format!("{:.2} GiB", bytes as f64 / 1_073_741_824.0),
    }
}

async fn inspect(home: &Home, text: &str) -> Result<serde_json::Value> {
    let found = home.find(text).await?;
    let rows = home.rows().await?;
    let names: Vec<String> = rows
        .iter()
        .filter(|row| row.digest == found.digest)
        .filter_map(|row| Some(format!("{}:{}", row.name, row.tag.as_ref()?)))
        .collect();
    Ok(json!({
        "Id": found.digest,
        "RepoTags": names,
        "MediaType": found.media_type,
        "Config": found.config.as_ref().map(|config| &config.config),
        "Architecture": found.config.as_ref().map(|config| &config.architecture),
        "Os": found.config.as_ref().map(|config| &config.os),
        "Author": found.config.as_ref().and_then(|config| config.author.as_ref()),
        "Created": found.config.as_ref().and_then(|config| config.created.as_ref()),
        "RootFS": found.config.as_ref().map(|config| &config.rootfs),
        "Layers": found.layers(),
        "Annotations": found.document.annotations,
        "Manifests": found.document.manifests,
        "Size": found.document.contents().map(|blob| blob.size).sum::<u64>(),
    }))
}

async fn history(home: &Home, text: &str, json: bool) -> Result<()> {
    let found = home.find(text).await?;
    let config = found.config.as_ref();
    let config =
        config.ok_or_else(|| Fault::usage(format!("`{text}` is an index of several images: name one of them")))?;
    let mut layers = found.layers().iter();
    let mut rows = Vec::new();
    for entry in &config.history {
        let layer = if entry.empty_layer { None } else { layers.next() };
        let what = entry.created_by.clone().or_else(|| entry.comment.clone()).unwrap_or_default();
        rows.push((entry.created.clone().unwrap_or_default(), what, layer));
    }
    rows.reverse();
    if json {
        let all: Vec<_> = rows
            .iter()
            .map(|(created, what, layer)| json!({ "created": created, "createdBy": what, "layer": layer }))
            .collect();
        return output::json(&all);
    }
    let cells = rows.into_iter().map(|(created, what, layer)| {
        let what: String = what.chars().take(80).map(|c| if c.is_control() { ' ' } else { c }).collect();
        [created, layer.map_or_else(String::new, |layer| size(layer.size)), what]
    });
    let _ = std::io::stdout().write_all(output::table(["CREATED", "SIZE", "CREATED BY"], cells).as_bytes());
    Ok(())
}

async fn remove(home: &Home, text: &str) -> Result<()> {
    let (repository, digest) = home.place_of(text).await?;
    let unavailable = |e: image::Error| Fault::from_error(Class::Unavailable, &e);
    let tags: Vec<_> = home.rows().await?.into_iter().filter(|row| row.digest == digest).collect();
    let by_digest = digest.hex().starts_with(text.trim_start_matches("sha256:"));
    let named = text.parse::<image::Reference>().ok().filter(|_| !by_digest);
    match named {
        Some(reference) if reference.digest.is_none() => {
            let tag = reference.tag.as_deref().unwrap_or("latest");
            home.registry.delete_tag(&repository, tag).await.map_err(unavailable)?;
            println!("untagged {text}");
            if tags.iter().filter(|row| row.tag.is_some()).count() > 1 {
                return Ok(());
            }
        }
        _ if tags.iter().filter(|row| row.tag.is_some()).count() > 1 => {
            return Err(Fault::new(Class::Conflict, format!("{digest} has several names")).hint("remove them by name"));
        }
        _ => {}
    }
    for repository in home.repositories().await? {
        if home.manifests(&repository).await?.contains(&digest) {
            home.registry.delete_manifest(&repository, &digest).await.map_err(unavailable)?;
        }
    }
    println!("deleted {digest}");
    Ok(())
}

/// Standard input as a file of the store's own file system.
fn spool(home: &Home) -> Result<tempfile::NamedTempFile> {
    let failed = |e: std::io::Error| Fault::new(Class::Unavailable, format!("cannot read standard input: {e}"));
    let mut file = tempfile::NamedTempFile::new_in(&home.data).map_err(failed)?;
    let mut input = std::io::stdin().lock().take(64 << 30);
    std::io::copy(&mut input, &mut file).map_err(failed)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    #[test]
    fn sizes_are_told_in_the_unit_that_fits() {
        let told = [0, 1024, 1_500_000, 3 << 30].map(super::size);
        assert_eq!(told, ["0 B", "1.0 KiB", "1.4 MiB", "3.00 GiB"]);
    }
}
