//! A working tree as a developer has it: the example, changed, committed and pushed with the real git.

use std::{path::Path, process::Stdio};

use tokio::process::Command;

use crate::{
    fault::{Class, Fault, Result},
    token::Token,
};

/// The example project, as it is in the repository of Shipway.
#[derive(rust_embed::RustEmbed)]
#[folder = "../examples/journal"]
#[exclude = "node_modules/*"]
struct Example;

/// A small vulnerability database in the OSV schema, enough to show that findings are looked for.
#[derive(rust_embed::RustEmbed)]
#[folder = "../examples/osv"]
#[include = "**/*.json"]
struct Osv;

/// Writes the database that comes with the demo.
pub fn write_osv(directory: &Path) -> std::io::Result<()> {
    for name in Osv::iter() {
        let path = directory.join(name.as_ref());
        if let (Some(parent), Some(file)) = (path.parent(), Osv::get(&name)) {
            std::fs::create_dir_all(parent)?;
            std::fs::write(path, file.data)?;
        }
    }
    Ok(())
}

/// A clone that pushes to a project.
pub struct Workspace {
    directory: tempfile::TempDir,
    token: Token,
}

impl Workspace {
    /// Writes the example and makes a repository of it that pushes to `remote`.
    pub async fn create(remote: &str, token: Token) -> Result<Self> {
        let io = |e: std::io::Error| Fault::new(Class::Unavailable, format!("cannot write the example: {e}"));
        let directory = tempfile::Builder::new().prefix("shipway-journal-").tempdir().map_err(io)?;
        for name in Example::iter() {
            let path = directory.path().join(name.as_ref());
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent).map_err(io)?;
            }
            let file =
                Example::get(&name).ok_or_else(|| Fault::new(Class::Internal, format!("{name} is not embedded")))?;
            std::fs::write(path, file.data).map_err(io)?;
        }
        let workspace = Self { directory, token };
        workspace.git(&["init", "--quiet", "--initial-branch=main"]).await?;
        workspace.git(&["remote", "add", "origin", remote]).await?;
        Ok(workspace)
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Replaces `old` in a file; an error when it is not there.
    pub fn edit(&self, file: &str, old: &str, new: &str) -> Result<()> {
        let path = self.path().join(file);
        let io = |e: std::io::Error| Fault::new(Class::Unavailable, format!("cannot edit {file}: {e}"));
        let text = std::fs::read_to_string(&path).map_err(io)?;
        if !text.contains(old) {
            return Err(Fault::new(Class::Internal, format!("the example's {file} does not contain `{old}`")));
        }
        std::fs::write(&path, text.replacen(old, new, 1)).map_err(io)
    }

    /// Commits everything and returns the commit's id.
    pub async fn commit(&self, subject: &str) -> Result<String> {
        self.git(&["add", "--all"]).await?;
        self.git(&["commit", "--quiet", "--message", subject]).await?;
        Ok(self.git(&["rev-parse", "HEAD"]).await?.trim().to_owned())
    }

    pub async fn push(&self) -> Result<()> {
        self.git(&["push", "--quiet", "origin", "main"]).await.map(drop)
    }

    /// Runs git with an identity of its own, apart from the configuration of this machine. The token is never an argument.
    async fn git(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new("git");
        command.args(arguments).current_dir(self.path()).stdin(Stdio::null());
        command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_TERMINAL_PROMPT", "0");
        command.env("GIT_AUTHOR_NAME", "Ada Example").env("GIT_AUTHOR_EMAIL", "ada@example.com");
        command.env("GIT_COMMITTER_NAME", "Ada Example").env("GIT_COMMITTER_EMAIL", "ada@example.com");
        command.env("GIT_CONFIG_COUNT", "1").env("GIT_CONFIG_KEY_0", "http.extraHeader");
        command.env("GIT_CONFIG_VALUE_0", format!("Authorization: Bearer {}", self.token.reveal()));
        for proxy in ["http_proxy", "https_proxy", "all_proxy", "HTTPS_PROXY", "ALL_PROXY"] {
            command.env_remove(proxy);
        }
        let output = command.output().await.map_err(|e| {
            Fault::new(Class::Unavailable, format!("cannot run git: {e}"))
                .hint("install git, which the journey pushes with")
        })?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(Fault::new(Class::Failed, format!("git {} failed: {said}", arguments.join(" "))))
    }
}
