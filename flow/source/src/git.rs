//! Running git: with a configuration of ours alone, and without what a repository or a user's home could add to it.

use std::{path::Path, process::Stdio};

use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::{Child, Command},
};

use crate::{Error, Result};

/// Bytes of git's complaints that are kept.
pub(crate) const SAID: u64 = 8 << 10;

/// What git is told whatever it does.
fn settings(pack_bytes: u64) -> [(&'static str, String); 12] {
    [
        // The data directory may belong to another user than the one that the server runs as.
        ("safe.directory", "*".into()),
        ("core.hooksPath", "/dev/null".into()),
        ("transfer.fsckObjects", "true".into()),
        ("receive.maxInputSize", pack_bytes.to_string()),
        // Housekeeping is done on a period, never while somebody waits for a push.
        ("receive.autogc", "false".into()),
        ("gc.auto", "0".into()),
        ("maintenance.auto", "false".into()),
        // A commit that was recorded survives loss of power, at the price of one sync a push.
        ("core.fsync", "committed,loose-object".into()),
        ("core.fsyncMethod", "batch".into()),
        ("core.quotePath", "false".into()),
        ("log.showSignature", "false".into()),
        ("protocol.allow", "never".into()),
    ]
}

/// A git command that works in the repository at `repository`.
pub(crate) fn command(repository: &Path, pack_bytes: u64) -> std::process::Command {
    let mut command = std::process::Command::new("git");
    command.env_clear();
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    let settings = settings(pack_bytes);
    command
        .env("GIT_DIR", repository)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_ATTR_NOSYSTEM", "1")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_OPTIONAL_LOCKS", "0")
        .env("GIT_LITERAL_PATHSPECS", "1")
        .env("GIT_NO_REPLACE_OBJECTS", "1")
        .env("LC_ALL", "C")
        .env("GIT_CONFIG_COUNT", settings.len().to_string());
    for (i, (key, value)) in settings.into_iter().enumerate() {
        command.env(format!("GIT_CONFIG_KEY_{i}"), key).env(format!("GIT_CONFIG_VALUE_{i}"), value);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

pub(crate) fn spawn(mut command: Command) -> Result<Child> {
    command.spawn().map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => {
            Error::Invalid("cannot find the program `git`: install it (for example `apt install git`)".into())
        }
        _ => Error::Io { doing: "cannot start git".into(), source },
    })
}

/// Runs git to its end and returns what it printed, at most `limit` bytes.
pub(crate) async fn output(command: std::process::Command, doing: &str, limit: u64) -> Result<Vec<u8>> {
    let mut command = Command::from(command);
    command.kill_on_drop(true);
    let mut child = spawn(command)?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (printed, said) = tokio::join!(bounded(stdout, limit + 1), bounded(stderr, SAID));
    let failed = || format!("cannot read what git {doing} printed");
    let printed = printed.map_err(Error::io(failed()))?;
    if printed.len() as u64 > limit {
        return Err(Error::TooLarge { what: format!("what git {doing} printed"), limit });
    }
    let status = child.wait().await.map_err(Error::io(failed()))?;
    if status.success() { Ok(printed) } else { Err(complaint(doing, &said.unwrap_or_default(), status)) }
}

pub(crate) fn complaint(doing: &str, said: &[u8], status: std::process::ExitStatus) -> Error {
    let said = String::from_utf8_lossy(said);
    let said = match said.trim() {
        "" => status.to_string(),
        said => said.to_owned(),
    };
    Error::Git { doing: doing.into(), said }
}

async fn bounded(stream: Option<impl AsyncRead + Unpin>, limit: u64) -> std::io::Result<Vec<u8>> {
    let mut read = Vec::new();
    if let Some(stream) = stream {
        stream.take(limit).read_to_end(&mut read).await?;
    }
    Ok(read)
}
