//! Content of repositories: what is short is read in this process, what is long goes through one `git cat-file --batch` in pieces.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use records::{CommitId, Name};

use crate::{
    EntryKind, Error, Repositories, Result,
    objects::{Objects, object_id},
    read::clean,
};

/// A file that is to be written to disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportFile {
    /// The blob's object id.
    pub id: String,
    /// Where it goes, relative to the target.
    pub to: String,
    /// Unix permission bits; they mean nothing for a link.
    pub mode: u32,
    /// `File` or `Link`.
    pub kind: EntryKind,
}

impl Repositories {
    /// A file of a commit, links inside the repository followed; `None` when it is not there, `TooLarge` over `limit` bytes.
    pub async fn read_file(
        &self,
        project: &Name,
        commit: &CommitId,
        path: &str,
        limit: u64,
    ) -> Result<Option<Vec<u8>>> {
        let (path, commit) = (clean(path)?, object_id(commit.as_str())?);
        self.objects(project, move |_, objects| {
            let Some(found) = objects.followed(&commit, &path)? else { return Ok(None) };
            objects.blob(&found.id, limit, &path)
        })
        .await
    }

    /// Blobs by object id, in the order asked for; `TooLarge` when together they have more than `limit` bytes.
    pub async fn read_blobs(&self, project: &Name, ids: Vec<String>, limit: u64) -> Result<Vec<Vec<u8>>> {
        let name = project.clone();
        self.objects(project, move |_, objects| {
            let (mut all, mut left) = (Vec::with_capacity(ids.len()), limit);
            for id in &ids {
                let what = format!("content that was asked for at once ({} blobs)", ids.len());
                let read = objects.blob(&object_id(id)?, left, &what).map_err(|error| match error {
                    Error::TooLarge { what, .. } => Error::TooLarge { what, limit },
                    error => error,
                })?;
                let missing = || Error::NotFound { project: name.clone(), what: format!("blob {id}") };
                let read = read.ok_or_else(missing)?;
                left -= read.len() as u64;
                all.push(read);
            }
            Ok(all)
        })
        .await
    }

    /// Writes files of a repository below `target`, a directory that is there and that nobody else writes to. Directories are made with
    /// mode 0755. Files are written before links, so that no link leads a file elsewhere; what is there already is an error.
    pub async fn export(&self, project: &Name, files: Vec<ExportFile>, target: impl Into<PathBuf>) -> Result<()> {
        let mut command = self.git(project)?;
        command.args(["cat-file", "--batch", "--buffer"]);
        let (name, target) = (project.clone(), target.into());
        self.objects(project, move |_, objects| export(objects, command, &name, files, &target)).await
    }
}

/// Bytes from which on a file is not held in memory.
const LONG: u64 = 1 << 20;

fn export(
    objects: &Objects,
    command: std::process::Command,
    project: &Name,
    files: Vec<ExportFile>,
    target: &Path,
) -> Result<()> {
    let mut directories = BTreeSet::new();
    for file in &files {
        let cleaned = clean(&file.to)?;
        if cleaned != file.to || cleaned.is_empty() || file.kind == EntryKind::Submodule {
            return Err(Error::Invalid(format!("cannot write `{}`: it is no plain path of a file or a link", file.to)));
        }
        directories.extend(Path::new(&file.to).parent().filter(|parent| !parent.as_os_str().is_empty()));
    }
    for directory in directories {
        let path = target.join(directory);
        fs::create_dir_all(&path).map_err(Error::io(format!("cannot make {}", path.display())))?;
    }
    let missing = |id: &str| Error::NotFound { project: project.clone(), what: format!("blob {id}") };
    let (mut links, mut long) = (Vec::new(), Vec::new());
    for file in &files {
        let id = object_id(&file.id)?;
        if file.kind == EntryKind::Link {
            let what = format!("the target of the link {}", file.to);
            let link = objects.blob(&id, 4096, &what)?.ok_or_else(|| missing(&file.id))?;
            let bad = || Error::Invalid(format!("cannot write {}", file.to));
            links.push((target.join(&file.to), String::from_utf8(link).map_err(|_| bad())?));
        } else if objects.blob_size(&id)?.ok_or_else(|| missing(&file.id))? > LONG {
            long.push(file);
        } else {
            let content = objects.blob(&id, LONG, &file.to)?.ok_or_else(|| missing(&file.id))?;
            write(file, target, &mut &content[..])?;
        }
    }
    if !long.is_empty() {
        batch(command, long.iter().map(|file| file.id.clone()).collect(), |size, at, content| {
            let file = long[at];
            let size = size.ok_or_else(|| missing(&file.id))?;
            if write(file, target, &mut content.take(size))? == size {
                return Ok(());
            }
            let said = format!("it ended in the middle of {}", file.to);
            Err(Error::Git { doing: "cat-file".into(), said })
        })?;
    }
    for (path, to) in links {
        symlink(&to, &path).map_err(Error::io(format!("cannot make the link {}", path.display())))?;
    }
    Ok(())
}

fn write(file: &ExportFile, target: &Path, content: &mut dyn Read) -> Result<u64> {
    let failed = || format!("cannot write {}", file.to);
    let mut options = fs::OpenOptions::new();
    let out = options.write(true).create_new(true).mode(0o600).open(target.join(&file.to));
    let mut out = out.map_err(Error::io(failed()))?;
    let copied = io::copy(content, &mut out).map_err(Error::io(failed()))?;
    // Not at creation, where the umask would take part.
    out.set_permissions(fs::Permissions::from_mode(file.mode & 0o777)).map_err(Error::io(failed()))?;
    Ok(copied)
}

/// Asks for blobs by id and hands the size of each (none when it is not there) with its index and content to `take`, which may leave
/// some of the content unread.
fn batch(
    mut command: std::process::Command,
    wanted: Vec<String>,
    mut take: impl FnMut(Option<u64>, usize, &mut dyn BufRead) -> Result<()>,
) -> Result<()> {
    let broken = || Error::Git { doing: "cat-file".into(), said: "its output ended early".into() };
    let reading = || Error::io("cannot read from git cat-file");
    command.stdin(std::process::Stdio::piped()).stderr(std::process::Stdio::null());
    let mut child = Running(command.spawn().map_err(Error::io("cannot start git"))?);
    let (Some(mut stdin), Some(stdout)) = (child.0.stdin.take(), child.0.stdout.take()) else { return Err(broken()) };
    let count = wanted.len();
    std::thread::scope(|scope| {
        // Beside, since git stops reading while nobody reads what it says. It ends when git does.
        scope.spawn(move || {
            let mut lines = io::BufWriter::new(&mut stdin);
            let _ = wanted.iter().try_for_each(|line| writeln!(lines, "{line}")).and_then(|()| lines.flush());
        });
        let mut out = BufReader::with_capacity(64 << 10, stdout);
        let mut read = || {
            for at in 0..count {
                let mut header = Vec::new();
                (&mut out).take(8192).read_until(b'\n', &mut header).map_err(reading())?;
                let header = String::from_utf8_lossy(&header).trim_end().to_owned();
                let words: Vec<&str> = header.split(' ').collect();
                match words[..] {
                    // `<id> <type> <size>`, the content, and a line feed.
                    [_, "blob", size] => {
                        let size: u64 = size.parse().map_err(|_| broken())?;
                        let mut content = (&mut out).take(size);
                        take(Some(size), at, &mut content)?;
                        io::copy(&mut content, &mut io::sink()).map_err(reading())?;
                        if content.limit() > 0 {
                            return Err(broken());
                        }
                        out.read_exact(&mut [0]).map_err(reading())?;
                    }
                    [""] => return Err(broken()),
                    // `<what was asked for> missing`, or `ambiguous`.
                    _ => take(None, at, &mut io::empty())?,
                }
            }
            Ok(())
        };
        let done = read();
        drop(out);
        // Ends the thread that may still be writing to it.
        drop(child);
        done
    })
}

/// A process that does not outlive its use.
struct Running(std::process::Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
