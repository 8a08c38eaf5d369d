//! Files from outside the graph, put into a directory: from git, from a directory of this machine, or from blobs.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, PermissionsExt, symlink},
    path::{Component, Path, PathBuf},
};

use data_encoding::HEXLOWER;
use graph::{Error, FileSource, Origin, Selected, SelectedKind};
use records::{Artifact, Digest};
use source::{EntryKind, ExportFile, Repositories};
use store::Blobs;
use tokio::io::AsyncReadExt;

use super::machine;

/// Writes the files of a source below `target`, which is new and empty.
pub async fn write(
    source: &FileSource,
    target: &Path,
    repositories: &Repositories,
    blobs: &dyn Blobs,
) -> Result<(), Error> {
    for file in &source.files {
        inside(&file.to)?;
        if file.kind == SelectedKind::Directory {
            make(&target.join(&file.to)).map_err(|e| machine(format!("cannot make {}", file.to), e))?;
        }
    }
    match &source.origin {
        Origin::Git { project, .. } => {
            let plain = source.files.iter().filter(|file| file.kind == SelectedKind::File);
            let files = plain.map(|file| ExportFile {
                id: file.content.clone(),
                to: file.to.clone(),
                mode: file.mode,
                kind: EntryKind::File,
            });
            repositories
                .export(project, files.collect(), target)
                .await
                .map_err(|e| machine(format!("cannot take the files of {project} out of git"), e))?;
            // Links after files, so that no link leads a file elsewhere.
            for link in source.files.iter().filter(|file| file.kind == SelectedKind::Link) {
                let path = target.join(&link.to);
                let made = path.parent().map_or(Ok(()), make).and_then(|()| symlink(&link.content, &path));
                made.map_err(|e| machine(format!("cannot make the link {}", link.to), e))?;
            }
        }
        Origin::Directory(from) => {
            let (from, files, target) = (from.clone(), source.files.clone(), target.to_owned());
            tokio::task::spawn_blocking(move || copy_all(&from, &files, &target))
                .await
                .map_err(|e| machine("copying the files ended", e))??;
        }
        Origin::Blobs => {
            for file in source.files.iter().filter(|file| file.kind == SelectedKind::File) {
                let digest: Digest =
                    file.content.parse().map_err(|_| Error::Invalid(format!("{} has no digest", file.from)))?;
                blob(blobs, &digest, &target.join(&file.to), file.mode).await?;
            }
        }
    }
    // Modes of directories last: one without write permission must not hinder what goes into it.
    for file in source.files.iter().filter(|file| file.kind == SelectedKind::Directory) {
        let mode = fs::Permissions::from_mode(file.mode & 0o7777);
        fs::set_permissions(target.join(&file.to), mode)
            .map_err(|e| machine(format!("cannot set the mode of {}", file.to), e))?;
    }
    Ok(())
}

/// Puts collected artifacts, one over the other, below `target`.
pub async fn artifacts<'a>(
    all: impl Iterator<Item = &'a Artifact>,
    target: &Path,
    blobs: &dyn Blobs,
) -> Result<(), Error> {
    for artifact in all {
        inside(&artifact.path)?;
        let path = target.join(&artifact.path);
        let _ = fs::remove_file(&path);
        blob(blobs, &artifact.digest, &path, 0o644).await?;
    }
    Ok(())
}

async fn blob(blobs: &dyn Blobs, digest: &Digest, path: &Path, mode: u32) -> Result<(), Error> {
    let said = |e: io::Error| machine(format!("cannot write {}", path.display()), e);
    if let Some(parent) = path.parent() {
        make(parent).map_err(said)?;
    }
    let mut reader = blobs.read(digest, 0, None).await.map_err(|e| machine(format!("cannot read blob {digest}"), e))?;
    let mut file = tokio::fs::File::create_new(path).await.map_err(said)?;
    tokio::io::copy(&mut reader, &mut file).await.map_err(said)?;
    file.set_permissions(fs::Permissions::from_mode(mode & 0o7777)).await.map_err(said)?;
    file.into_std().await.sync_data().ok();
    Ok(())
}

/// Files of a working tree. What changed since it was listed is an error, not a surprise.
fn copy_all(from: &Path, files: &[Selected], target: &Path) -> Result<(), Error> {
    for file in files {
        let (source, to) = (from.join(&file.from), target.join(&file.to));
        let said = |e: io::Error| machine(format!("cannot copy {}", source.display()), e);
        if let Some(parent) = to.parent() {
            make(parent).map_err(said)?;
        }
        match file.kind {
            SelectedKind::Directory => {}
            SelectedKind::Link => symlink(&file.content, &to).map_err(said)?,
            SelectedKind::File => {
                let metadata = fs::symlink_metadata(&source).map_err(said)?;
                if !metadata.is_file() {
                    return Err(Error::Invalid(format!("{} changed while it was read", source.display())));
                }
                if copy(&source, &to).map_err(said)? != file.content {
                    return Err(Error::Invalid(format!("{} changed while it was read", source.display())));
                }
                fs::set_permissions(&to, fs::Permissions::from_mode(file.mode & 0o7777)).map_err(said)?;
            }
        }
    }
    Ok(())
}

/// Copies a file and gives its SHA-256 in hex.
fn copy(from: &Path, to: &Path) -> io::Result<String> {
    let (mut source, target) = (fs::File::open(from)?, fs::File::create_new(to)?);
    let hasher = std::cell::RefCell::new(aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256));
    let zeros = [0; 64 << 10];
    let hole = |mut length: u64| {
        while length > 0 {
            let part = length.min(zeros.len() as u64);
            hasher.borrow_mut().update(&zeros[..part as usize]);
            length -= part;
        }
    };
    super::sparse::copy(&mut source, &target, |data| hasher.borrow_mut().update(data), hole)?;
    Ok(HEXLOWER.encode(hasher.into_inner().finish().as_ref()))
}

fn make(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o755).create(path)
}

/// Only paths that lead downwards.
fn inside(path: &str) -> Result<(), Error> {
    let path = Path::new(path);
    if path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
        return Ok(());
    }
    Err(Error::Invalid(format!("`{}` is not a path inside the source", path.display())))
}

/// Files below `root` that match one of the globs, as paths relative to it; links are not followed.
pub fn matching(root: &Path, glob: &str, limit: usize) -> Result<Vec<PathBuf>, Error> {
    let invalid = |e: globset::Error| Error::Invalid(format!("`{glob}` is not a pattern: {e}"));
    let matcher = globset::GlobBuilder::new(glob.trim_start_matches("./"))
        .literal_separator(true)
        .build()
        .map_err(invalid)?
        .compile_matcher();
    let mut found = Vec::new();
    for entry in walkdir::WalkDir::new(root).max_depth(64).sort_by_file_name() {
        // What cannot be listed is no artifact.
        let Ok(entry) = entry else { continue };
        let Ok(path) = entry.path().strip_prefix(root) else { continue };
        // A directory that matches stands for all that is in it.
        let whole = path.ancestors().skip(1).any(|parent| !parent.as_os_str().is_empty() && matcher.is_match(parent));
        if entry.file_type().is_file() && (whole || matcher.is_match(path)) {
            found.push(path.to_owned());
            if found.len() > limit {
                return Err(Error::Invalid(format!("`{glob}` matches more than {limit} files")));
            }
        }
    }
    Ok(found)
}

/// Stores a file as a blob.
pub async fn keep(blobs: &dyn Blobs, root: &Path, path: &Path, limit: u64) -> Result<Artifact, Error> {
    let said = |e: io::Error| machine(format!("cannot read {}", path.display()), e);
    let stored = |e: store::Error| machine(format!("cannot keep {}", path.display()), e);
    let mut file = tokio::fs::OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NOFOLLOW)
        .open(root.join(path))
        .await
        .map_err(said)?;
    let mut writer = blobs.writer().await.map_err(stored)?;
    let mut buffer = bytes::BytesMut::with_capacity(64 << 10);
    while file.read_buf(&mut buffer).await.map_err(said)? > 0 {
        writer.write(buffer.split().freeze()).await.map_err(stored)?;
        if writer.written() > limit {
            return Err(Error::Invalid(format!("{} has more than {limit} bytes", path.display())));
        }
        buffer.reserve(64 << 10);
    }
    let size = writer.written();
    let digest = writer.finish(None).await.map_err(stored)?;
    Ok(Artifact { path: path.to_string_lossy().into_owned(), digest, size })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_select_files_and_whole_directories() {
        let directory = tempfile::tempdir().unwrap();
        for file in ["reports/a.xml", "reports/deep/b.xml", "dist/x/y.js", "other.txt"] {
            let path = directory.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        symlink("/etc/passwd", directory.path().join("reports/link.xml")).unwrap();
        let found = |glob: &str| -> Vec<String> {
            matching(directory.path(), glob, 100).unwrap().iter().map(|p| p.display().to_string()).collect()
        };
        assert_eq!(found("reports/*.xml"), ["reports/a.xml"]);
        assert_eq!(found("reports/**/*.xml"), ["reports/a.xml", "reports/deep/b.xml"]);
        assert_eq!(found("dist"), ["dist/x/y.js"]);
        assert!(matching(directory.path(), "**", 2).is_err());
    }

    #[test]
    fn a_file_that_changed_since_it_was_listed_is_refused() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(from.path().join("a"), "hello\n").unwrap();
        let hello = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
        let file = |content: &str, to: &str| Selected {
            from: "a".into(),
            to: to.into(),
            mode: 0o640,
            content: content.into(),
            kind: SelectedKind::File,
        };
        copy_all(from.path(), &[file(hello, "same")], to.path()).unwrap();
        assert_eq!(fs::read(to.path().join("same")).unwrap(), b"hello\n");
        let error = copy_all(from.path(), &[file(&"0".repeat(64), "other")], to.path()).unwrap_err();
        assert!(error.to_string().contains("changed while it was read"), "{error}");
    }

    #[test]
    fn paths_that_lead_out_are_refused() {
        for bad in ["../x", "/etc/passwd", "a/../../b"] {
            assert!(inside(bad).is_err(), "{bad}");
        }
        assert!(inside("a/b/./c").is_ok());
    }
}
