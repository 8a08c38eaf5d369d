//! Content of repositories, through one `git cat-file --batch` for however many objects.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use records::{CommitId, Name};

use crate::{EntryKind, Error, Repositories, Result, read::clean};

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
        let path = clean(path)?;
        let mut command = self.git(project)?;
        command.args(["cat-file", "--batch", "--follow-symlinks"]);
        let wanted = vec![format!("{commit}:{path}")];
        blocking(move || {
            let mut found = None;
            batch(command, wanted, |object, _, content| {
                if let Some(Object { kind, size }) = object
                    && kind == "blob"
                {
                    found = Some(bounded(content, size, limit, &path)?);
                }
                Ok(())
            })?;
            Ok(found)
        })
        .await
    }

    /// Blobs by object id, in the order asked for; `TooLarge` when together they have more than `limit` bytes.
    pub async fn read_blobs(&self, project: &Name, ids: Vec<String>, limit: u64) -> Result<Vec<Vec<u8>>> {
        let mut command = self.git(project)?;
        command.args(["cat-file", "--batch", "--buffer"]);
        let project = project.clone();
        blocking(move || {
            ids.iter().try_for_each(|id| valid_id(id))?;
            let (mut all, mut left) = (Vec::with_capacity(ids.len()), limit);
            batch(command, ids.clone(), |object, at, content| {
                let size = blob(object, &project, &ids[at])?;
                let what = format!("content that was asked for at once ({} blobs)", ids.len());
                let read = bounded(content, size, left, &what).map_err(|error| match error {
                    Error::TooLarge { what, .. } => Error::TooLarge { what, limit },
                    error => error,
                })?;
                left -= size;
                all.push(read);
                Ok(())
            })?;
            Ok(all)
        })
        .await
    }

    /// Writes files of a repository below `target`, a directory that is there and that nobody else writes to. Directories are made with
    /// mode 0755. Files are written before links, so that no link leads a file elsewhere; what is there already is an error.
    pub async fn export(&self, project: &Name, files: Vec<ExportFile>, target: impl Into<PathBuf>) -> Result<()> {
        let mut command = self.git(project)?;
        command.args(["cat-file", "--batch", "--buffer"]);
        let (project, target) = (project.clone(), target.into());
        blocking(move || export(command, &project, files, &target)).await
    }
}

fn export(command: std::process::Command, project: &Name, files: Vec<ExportFile>, target: &Path) -> Result<()> {
    let mut directories = BTreeSet::new();
    for file in &files {
        valid_id(&file.id)?;
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
    let (ids, mut links) = (files.iter().map(|file| file.id.clone()).collect(), Vec::new());
    batch(command, ids, |object, at, content| {
        let file = &files[at];
        let size = blob(object, project, &file.id)?;
        let path = target.join(&file.to);
        let failed = || format!("cannot write {}", file.to);
        if file.kind == EntryKind::Link {
            let link = bounded(content, size, 4096, &format!("the target of the link {}", file.to))?;
            links.push((path, String::from_utf8(link).map_err(|_| Error::Invalid(failed()))?));
            return Ok(());
        }
        let mut options = fs::OpenOptions::new();
        let mut out = options.write(true).create_new(true).mode(0o600).open(&path).map_err(Error::io(failed()))?;
        let copied = io::copy(&mut content.take(size), &mut out).map_err(Error::io(failed()))?;
        if copied != size {
            return Err(Error::Git {
                doing: "cat-file".into(),
                said: format!("it ended in the middle of {}", file.to),
            });
        }
        // Not at creation, where the umask would take part.
        out.set_permissions(fs::Permissions::from_mode(file.mode & 0o777)).map_err(Error::io(failed()))
    })?;
    for (path, to) in links {
        symlink(&to, &path).map_err(Error::io(format!("cannot make the link {}", path.display())))?;
    }
    Ok(())
}

struct Object {
    kind: String,
    size: u64,
}

/// Asks for `wanted`, one a line, and hands each answer (none when it is not there) with its index and content to `take`, which may
/// leave some of the content unread.
fn batch(
    mut command: std::process::Command,
    wanted: Vec<String>,
    mut take: impl FnMut(Option<Object>, usize, &mut dyn BufRead) -> Result<()>,
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
                    [_, kind @ ("blob" | "tree" | "commit" | "tag"), size] => {
                        let size: u64 = size.parse().map_err(|_| broken())?;
                        let object = Object { kind: kind.to_owned(), size };
                        let mut content = (&mut out).take(size);
                        take(Some(object), at, &mut content)?;
                        io::copy(&mut content, &mut io::sink()).map_err(reading())?;
                        if content.limit() > 0 {
                            return Err(broken());
                        }
                        out.read_exact(&mut [0]).map_err(reading())?;
                    }
                    [""] => return Err(broken()),
                    // A link that leads out of the repository or nowhere: where it got to follows, so many bytes.
                    ["symlink" | "dangling" | "loop" | "notdir", length] => {
                        let length: u64 = length.parse().map_err(|_| broken())?;
                        io::copy(&mut (&mut out).take(length + 1), &mut io::sink()).map_err(reading())?;
                        take(None, at, &mut io::empty())?;
                    }
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

fn blob(object: Option<Object>, project: &Name, id: &str) -> Result<u64> {
    match object {
        Some(Object { kind, size }) if kind == "blob" => Ok(size),
        _ => Err(Error::NotFound { project: project.clone(), what: format!("blob {id}") }),
    }
}

fn bounded(content: &mut dyn BufRead, size: u64, limit: u64, what: &str) -> Result<Vec<u8>> {
    if size > limit {
        return Err(Error::TooLarge { what: what.to_owned(), limit });
    }
    let mut read = Vec::with_capacity(size as usize);
    content.take(size).read_to_end(&mut read).map_err(Error::io("cannot read from git cat-file"))?;
    Ok(read)
}

/// Ids go into lines that git reads.
fn valid_id(id: &str) -> Result<()> {
    id.parse::<CommitId>().map(|_| ()).map_err(|_| Error::Invalid(format!("`{}` is no object id", id.escape_debug())))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(_) => Err(Error::Invalid("the server is stopping".into())),
    }
}
