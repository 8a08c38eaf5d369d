//! Files that buildpacks left. They ran as somebody else, in a container: nothing of theirs is followed as a link, and all is bounded.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use crate::error::{Error, MOST_TEXT, Result};

/// The most entries of a directory that is read as a list.
const MOST_ENTRIES: usize = 10_000;

/// What stands at a path: `None` where there is nothing. A link anywhere below `root` is an error.
fn plain(root: &Path, path: &Path) -> Result<Option<fs::Metadata>> {
    let mut at = root.to_owned();
    let rest = path.strip_prefix(root).unwrap_or(path);
    let mut last = None;
    let parts = rest.components().map(|part| part.as_os_str().to_owned());
    // The root itself first: it may be a directory that a buildpack could have replaced.
    for part in std::iter::once(std::ffi::OsString::new()).chain(parts) {
        if !part.is_empty() {
            at.push(part);
        }
        match fs::symlink_metadata(&at) {
            Ok(metadata) if metadata.is_symlink() => {
                let link = std::io::Error::other("it is a link, and links are not followed here");
                return Err(Error::io("read", &at)(link));
            }
            Ok(metadata) => last = Some(metadata),
            Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(error) => return Err(Error::io("read", &at)(error)),
        }
    }
    Ok(last)
}

/// The text of a file below `root`, which is trusted; `None` where there is none.
pub(crate) fn text(root: &Path, path: &Path) -> Result<Option<String>> {
    let Some(metadata) = plain(root, path)? else { return Ok(None) };
    if !metadata.is_file() {
        return Err(Error::io("read", path)(std::io::Error::other("it is no file")));
    }
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(Error::io("read", path))?;
    file.take(MOST_TEXT + 1).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
    if bytes.len() as u64 > MOST_TEXT {
        return Err(Error::io("read", path)(std::io::Error::other(format!("it has more than {MOST_TEXT} bytes"))));
    }
    String::from_utf8(bytes)
        .map(Some)
        .map_err(|_| Error::io("read", path)(std::io::Error::other("it is no UTF-8 text")))
}

/// Names in a directory, sorted, and whether each is a directory; nothing where there is no directory.
pub(crate) fn names(root: &Path, directory: &Path) -> Result<Vec<(String, bool)>> {
    match plain(root, directory)? {
        Some(metadata) if metadata.is_dir() => {}
        _ => return Ok(Vec::new()),
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).map_err(Error::io("list", directory))? {
        let entry = entry.map_err(Error::io("list", directory))?;
        let kind = entry.file_type().map_err(Error::io("list", directory))?;
        // A name that is no text cannot be a variable, a layer or a process.
        let Ok(name) = entry.file_name().into_string() else { continue };
        found.push((name, kind.is_dir()));
        if found.len() > MOST_ENTRIES {
            let many = std::io::Error::other(format!("it has more than {MOST_ENTRIES} entries"));
            return Err(Error::io("list", directory)(many));
        }
    }
    found.sort();
    Ok(found)
}

/// Variables of a directory: name of the file and its text.
pub(crate) fn variables(root: &Path, directory: &Path) -> Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    for (name, is_directory) in names(root, directory)? {
        if is_directory {
            continue;
        }
        if let Some(value) = text(root, &directory.join(&name))? {
            found.push((name, value));
        }
    }
    Ok(found)
}

/// Whether something stands there; a link counts as what it is called.
pub(crate) fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

pub(crate) fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(Error::io("write", path))
}

/// Makes a directory that another user can write into.
pub(crate) fn shared_directory(path: &Path, owner: Option<(u32, u32)>) -> Result<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    fs::create_dir_all(path).map_err(Error::io("make", path))?;
    match owner {
        Some((user, group)) => std::os::unix::fs::chown(path, Some(user), Some(group)),
        None => fs::set_permissions(path, fs::Permissions::from_mode(0o755)),
    }
    .map_err(Error::io("hand over", path))?;
    Ok(path.to_owned())
}

pub(crate) fn hand_over(path: &Path, owner: Option<(u32, u32)>) -> Result<()> {
    match owner {
        Some((user, group)) => {
            std::os::unix::fs::lchown(path, Some(user), Some(group)).map_err(Error::io("hand over", path))
        }
        None => Ok(()),
    }
}
