//! The files of one snapshot as the layer of another, without a copy: a layer is never written to, so two may share their files.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink},
    path::Path,
};

use super::machine;

/// What can fail.
#[derive(Debug, thiserror::Error)]
pub enum Merging {
    #[error("cannot link files of a layer: {0}")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Snapshot(#[from] sandbox::Error),
}

pub fn said(error: Merging) -> graph::Error {
    machine("cannot merge", error)
}

/// Makes the tree `from` again in the empty directory `to`: directories and links anew, files as further names of the same.
pub fn link(from: &Path, to: &Path) -> Result<(), Merging> {
    let mut names: Vec<_> = fs::read_dir(from)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<_>>()?;
    names.sort();
    for name in names {
        let (source, target) = (from.join(&name), to.join(&name));
        let metadata = fs::symlink_metadata(&source)?;
        if metadata.is_dir() {
            fs::create_dir(&target)?;
            lchown(&target, Some(metadata.uid()), Some(metadata.gid()))?;
            link(&source, &target)?;
            fs::set_permissions(&target, fs::Permissions::from_mode(metadata.mode() & 0o7777))?;
            fs::File::open(&target)?.set_modified(metadata.modified()?)?;
        } else if metadata.is_symlink() {
            symlink(fs::read_link(&source)?, &target)?;
            lchown(&target, Some(metadata.uid()), Some(metadata.gid()))?;
            super::copy::dated(&target, &metadata)?;
        } else {
            fs::hard_link(&source, &target)?;
        }
    }
    Ok(())
}
