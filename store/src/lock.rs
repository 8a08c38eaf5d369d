//! One process at a time: an advisory lock (`flock`) on a file, which the kernel releases however the process ends.

use std::{
    fs::{File, TryLockError},
    io::{Read, Seek, Write},
    path::Path,
    time::Duration,
};

use crate::{Error, Kind, Result};

/// How long a process that is on its way out is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// Opens `path` and locks it for this process alone; the lock lasts as long as the file. `Locked` when another process has it.
pub(crate) async fn exclusive(path: &Path, what: &Path) -> Result<File> {
    let io = |e| Error::new(Kind::Io, format!("cannot lock {}", path.display())).caused(e);
    let mut file = File::options().create(true).truncate(false).read(true).write(true).open(path).map_err(io)?;
    let mut waited = Duration::ZERO;
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::Error(e)) => return Err(io(e)),
            Err(TryLockError::WouldBlock) if waited < PATIENCE => {
                let pause = Duration::from_millis(20);
                tokio::time::sleep(pause).await;
                waited += pause;
            }
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = (&mut file).take(20).read_to_string(&mut holder);
                let holder = match holder.trim() {
                    "" => String::new(),
                    pid => format!(" (process {pid})"),
                };
                return Err(Error::new(
                    Kind::Locked,
                    format!(
                        "{} is in use by another shipway{holder}: stop that one, or give this one another data directory",
                        what.display()
                    ),
                ));
            }
        }
    }
    // For people and for the message above; the lock holds without it.
    let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
    Ok(file)
}
