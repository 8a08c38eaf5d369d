//! Mounts without mounting: what is to be seen at a place of a root directory is moved there, and moved back afterwards.
//!
//! A journal beside the root tells what was moved, so that whoever comes after a crash puts it back: the directory of a cache is not lost
//! with the step that used it.

use std::{
    ffi::OsStr,
    fs, io,
    os::fd::{AsRawFd, OwnedFd},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use super::{files, record, wire::BindOrTmpfs};

const JOURNAL: &str = "placed.json";
const UNTOUCHED: &str = "untouched.json";

/// One thing that was moved.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Moved {
    /// Where it stands.
    at: PathBuf,
    /// Where it came from, and goes back to; what has no such place is removed.
    from: Option<PathBuf>,
    /// Where what stood there before lies meanwhile.
    aside: Option<PathBuf>,
}

/// What was moved into a root directory.
pub(crate) struct Placed {
    beside: PathBuf,
    root: PathBuf,
    moved: Vec<Moved>,
    /// Directories that things were moved in and out of, and their times after that.
    around: Vec<(PathBuf, Changed)>,
}

type Changed = (i64, i64);

fn changed(path: &Path) -> io::Result<Changed> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.ctime(), metadata.ctime_nsec()))
}

impl Placed {
    pub(super) fn new(rootfs: &Path) -> io::Result<Self> {
        let beside = rootfs.parent().ok_or_else(|| io::Error::other("a root directory has no parent"))?.to_owned();
        Ok(Self { beside, root: fs::canonicalize(rootfs)?, moved: Vec::new(), around: Vec::new() })
    }

    /// Puts a mount in its place. `scratch` is a directory for what has no source, on the same file system.
    pub(super) fn put(&mut self, root: &OwnedFd, mount: &BindOrTmpfs, scratch: &Path) -> io::Result<()> {
        let made = scratch.join(format!("mount-{}", self.moved.len()));
        let source = match &mount.source {
            Some(source) => source.clone(),
            None => {
                use std::os::unix::fs::PermissionsExt;
                fs::create_dir(&made)?;
                fs::set_permissions(&made, fs::Permissions::from_mode(mount.mode.unwrap_or(0o1777)))?;
                made.clone()
            }
        };
        let (at, there) = self.find(root, &mount.target)?;
        let aside = there.then(|| self.beside.join(format!("aside-{}", self.moved.len())));
        let entry = Moved { at: at.clone(), from: mount.source.clone(), aside: aside.clone() };
        self.moved.push(entry);
        self.save()?;
        if let Some(aside) = aside {
            fs::rename(&at, aside)?;
        }
        match fs::rename(&source, &at) {
            Err(error) if error.raw_os_error() == Some(libc::EXDEV) && source.is_file() => {
                let metadata = fs::metadata(&source)?;
                fs::copy(&source, &at)?;
                std::os::unix::fs::chown(&at, Some(metadata.uid()), Some(metadata.gid()))?;
                fs::set_permissions(&at, metadata.permissions())?;
                if let Some(last) = self.moved.last_mut() {
                    last.from = None;
                }
                self.save()
            }
            moved => moved,
        }
    }

    /// To be called when all is in its place.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        let parents: Vec<PathBuf> = self.moved.iter().filter_map(|m| m.at.parent().map(Path::to_owned)).collect();
        // What is mounted where nothing is leaves a mark on the directory, there as here.
        let marked = |parent: &Path| self.moved.iter().any(|m| m.aside.is_none() && m.at.parent() == Some(parent));
        let parents: Vec<PathBuf> = parents.into_iter().filter(|parent| !marked(parent)).collect();
        for parent in parents {
            if !self.around.iter().any(|(known, _)| *known == parent) {
                let time = changed(&parent)?;
                self.around.push((parent, time));
            }
        }
        Ok(())
    }

    /// Where a path of the root lies on this machine, links followed inside the root, and whether it is there. The directories above it
    /// are made.
    fn find(&self, root: &OwnedFd, target: &str) -> io::Result<(PathBuf, bool)> {
        let real = |found: OwnedFd| -> io::Result<PathBuf> {
            let path = fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd()))?;
            match path.starts_with(&self.root) {
                true => Ok(path),
                false => Err(io::Error::other(format!("{target} leads out of the root directory"))),
            }
        };
        let path = Path::new(target);
        let name: &OsStr = path.file_name().ok_or_else(|| io::Error::other("nothing can be mounted on /"))?;
        match files::open_path(root, path) {
            Ok(found) => {
                let path = real(found)?;
                match path == self.root {
                    true => Err(io::Error::other(format!("{target} is the root directory itself"))),
                    false => Ok((path, true)),
                }
            }
            Err(Errno::ENOENT) => {
                let above = path.parent().unwrap_or(Path::new("/"));
                files::make_directory(root, &above.to_string_lossy())?;
                Ok((real(files::open_path(root, above)?)?.join(name), false))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn save(&self) -> io::Result<()> {
        record::write(&self.beside.join(JOURNAL), &self.moved)
    }

    /// Puts everything back, and writes down what only looks changed by that.
    pub(super) fn undo(self) -> io::Result<()> {
        let mut untouched: Vec<PathBuf> = Vec::new();
        let inside = |path: &Path| path.strip_prefix(&self.root).map(Path::to_owned).ok();
        for (directory, time) in &self.around {
            if changed(directory).is_ok_and(|now| now == *time) {
                untouched.extend(inside(directory));
            }
        }
        untouched.extend(self.moved.iter().filter(|m| m.aside.is_some()).filter_map(|m| inside(&m.at)));
        let file = self.beside.join(UNTOUCHED);
        if let Some(before) = record::read::<Vec<PathBuf>>(&file)? {
            untouched.extend(before);
        }
        let done = undo(&self.beside);
        record::write(&file, &untouched)?;
        done
    }
}

/// Puts back what the journal in a directory names.
pub(crate) fn undo(beside: &Path) -> io::Result<()> {
    let journal = beside.join(JOURNAL);
    let Some(moved) = record::read::<Vec<Moved>>(&journal)? else { return Ok(()) };
    let mut failed = Ok(());
    for Moved { at, from, aside } in moved.iter().rev() {
        let there = |path: &Path| fs::symlink_metadata(path).is_ok();
        // Before it was moved aside, what stands there is what stood there.
        let placed = there(at) && aside.as_ref().is_none_or(|aside| there(aside));
        let one = match from {
            Some(from) if placed && !there(from) => fs::rename(at, from),
            // The program removed it with all that was in it: its owner finds an empty one.
            Some(from) if !there(from) => fs::create_dir_all(from),
            Some(_) => Ok(()),
            None if placed => remove(at),
            None => Ok(()),
        };
        let one = one.and_then(|()| match aside {
            Some(aside) if there(aside) => fs::rename(aside, at),
            _ => Ok(()),
        });
        failed = failed.and(one);
    }
    fs::remove_file(&journal)?;
    failed
}

/// What was moved in and out of a root, and is not changed for that. It is told once.
pub(crate) fn take_untouched(beside: &Path) -> io::Result<Vec<PathBuf>> {
    let file = beside.join(UNTOUCHED);
    let Some(untouched) = record::read(&file)? else { return Ok(Vec::new()) };
    fs::remove_file(file)?;
    Ok(untouched)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path)?.is_dir() {
        true => fs::remove_dir_all(path),
        false => fs::remove_file(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_in_a_place_goes_back_and_what_stood_there_returns() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for name in ["rootfs/etc", "rootfs/old", "cache", "scratch"] {
            fs::create_dir_all(at(name)).unwrap();
        }
        fs::write(at("rootfs/etc/hosts"), "image").unwrap();
        fs::write(at("rootfs/old/kept"), "image").unwrap();
        fs::write(at("hosts"), "ours").unwrap();
        std::os::unix::fs::symlink("/old", at("rootfs/link")).unwrap();
        let root = files::open_root(&at("rootfs")).unwrap();
        let mount = |target: &str, source: Option<&str>| BindOrTmpfs {
            target: target.into(),
            source: source.map(at),
            readonly: false,
            size: None,
            mode: None,
        };
        let place = || {
            let mut placed = Placed::new(&at("rootfs")).unwrap();
            for mount in [
                mount("/etc/hosts", Some("hosts")),
                // A link of the image is followed inside of it.
                mount("/link", Some("cache")),
                mount("/new/deep", None),
            ] {
                placed.put(&root, &mount, &at("scratch")).unwrap();
            }
            placed.finish().unwrap();
            placed
        };
        let placed = place();
        assert_eq!(fs::read_to_string(at("rootfs/etc/hosts")).unwrap(), "ours");
        assert!(!at("rootfs/old/kept").exists() && at("rootfs/new/deep").is_dir());
        fs::write(at("rootfs/old/cached"), "1").unwrap();
        fs::write(at("rootfs/new/deep/gone"), "1").unwrap();
        placed.undo().unwrap();
        let whole = || {
            assert_eq!(fs::read_to_string(at("rootfs/etc/hosts")).unwrap(), "image");
            assert_eq!(fs::read_to_string(at("hosts")).unwrap(), "ours");
            assert_eq!(fs::read_to_string(at("rootfs/old/kept")).unwrap(), "image");
            assert_eq!(fs::read_to_string(at("cache/cached")).unwrap(), "1");
            assert!(!at("rootfs/new/deep").exists() && !at(JOURNAL).exists());
        };
        whole();
        let said = take_untouched(directory.path()).unwrap();
        for path in ["etc", "etc/hosts", "old"] {
            assert!(said.contains(&PathBuf::from(path)), "{path} is not in {said:?}");
        }
        // What a crash left is put back from the journal alone.
        drop(place());
        undo(directory.path()).unwrap();
        whole();
        // A program may remove what it was given.
        let placed = place();
        fs::remove_dir_all(at("rootfs/old")).unwrap();
        placed.undo().unwrap();
        assert!(at("cache").is_dir() && !at("cache/cached").exists());
        assert_eq!(fs::read_to_string(at("rootfs/old/kept")).unwrap(), "image");
    }

    #[test]
    fn nothing_is_put_outside_of_the_root() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::create_dir_all(at("rootfs")).unwrap();
        fs::create_dir_all(at("source")).unwrap();
        std::os::unix::fs::symlink("../../../../../../etc", at("rootfs/up")).unwrap();
        let root = files::open_root(&at("rootfs")).unwrap();
        let mut placed = Placed::new(&at("rootfs")).unwrap();
        for target in ["/", "/up/.."] {
            let mount = BindOrTmpfs {
                target: target.into(),
                source: Some(at("source")),
                readonly: false,
                size: None,
                mode: None,
            };
            assert!(placed.put(&root, &mount, directory.path()).is_err(), "{target}");
        }
        let mount = BindOrTmpfs {
            target: "/up/inside".into(),
            source: Some(at("source")),
            readonly: false,
            size: None,
            mode: None,
        };
        let put = placed.put(&root, &mount, directory.path());
        assert!(put.is_err() || at("rootfs/etc/inside").exists(), "a link leads to the root's own /etc or nowhere");
    }
}
