//! The programs that people use, run apart from the configuration of this machine.

use std::{
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
};

use tempfile::TempDir;

/// What a program said, and how it ended.
#[derive(Debug, Clone)]
pub struct Said {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Said {
    pub fn success(&self) -> bool {
        self.code == Some(0)
    }

    /// What it wrote, or a panic with what went wrong.
    #[track_caller]
    pub fn ok(self) -> String {
        assert!(self.success(), "it failed: {self:?}");
        self.out
    }

    /// What it complained of, or a panic because it did not.
    #[track_caller]
    pub fn failed(self) -> String {
        assert!(!self.success(), "it should have failed: {self:?}");
        self.err
    }
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }
}

/// Runs a program to its end. It finds no proxy, no configuration and nothing on its standard input but `input`.
pub fn said(command: &mut Command, input: &[u8]) -> Said {
    for name in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        command.env_remove(name);
    }
    command
        .env_remove("COLUMNS")
        .env("LC_ALL", "C")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null");
    command.env("GIT_TERMINAL_PROMPT", "0").env_remove("GIT_DIR").env_remove("GIT_WORK_TREE");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|e| panic!("cannot run {command:?}: {e}"));
    let stdin = child.stdin.take();
    let output = std::thread::scope(|scope| {
        // A program that ends without reading its input is no trouble.
        scope.spawn(move || stdin.map(|mut stdin| stdin.write_all(input)));
        child.wait_with_output()
    });
    output.unwrap_or_else(|e| panic!("cannot wait for {command:?}: {e}")).into()
}

/// An answer over HTTP, fetched with curl.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: String,
    pub body: String,
}

impl Answer {
    /// Sends a request; `arguments` are curl's.
    #[track_caller]
    pub fn fetch(arguments: &[&str], input: &[u8]) -> Self {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--noproxy", "*", "--max-time", "120", "--dump-header", "/dev/stderr"]);
        curl.args(["--write-out", "\n%{http_code}"]).args(arguments);
        let said = said(&mut curl, input);
        assert!(said.success(), "curl {arguments:?}: {said:?}");
        let (body, status) = said.out.rsplit_once('\n').unwrap_or_default();
        let status = status.parse().unwrap_or_else(|_| panic!("curl {arguments:?} has no status: {said:?}"));
        Self { status, headers: said.err.clone(), body: body.to_owned() }
    }

    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("this is no JSON ({e}): {self:?}"))
    }

    /// The JSON of a success.
    #[track_caller]
    pub fn ok(&self) -> serde_json::Value {
        assert!((200..300).contains(&self.status), "it failed: {self:?}");
        self.json()
    }
}

/// A repository as a developer has it.
pub struct WorkTree {
    directory: TempDir,
    token: Option<String>,
}

impl WorkTree {
    /// An empty one. With a token it is sent with every request, and is in no argument and no file.
    pub fn new(token: Option<&str>) -> Self {
        let tree = Self { directory: crate::directory(), token: token.map(str::to_owned) };
        tree.git(&["init", "--quiet", "--initial-branch=main"]).ok();
        tree
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Writes a file, with the directories that it stands in.
    pub fn write(&self, file: &str, content: impl AsRef<[u8]>) {
        let path = self.path().join(file);
        let written =
            path.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(&path, content));
        written.unwrap_or_else(|e| panic!("cannot write {}: {e}", path.display()));
    }

    /// Commits everything and gives the commit's id.
    pub fn commit(&self, subject: &str) -> String {
        self.git(&["add", "--all"]).ok();
        self.git(&["commit", "--quiet", "--allow-empty", "--message", subject]).ok();
        self.git(&["rev-parse", "HEAD"]).ok().trim().to_owned()
    }

    pub fn git(&self, arguments: &[&str]) -> Said {
        let mut git = Command::new("git");
        git.args(arguments).current_dir(self.path());
        for who in ["AUTHOR", "COMMITTER"] {
            git.env(format!("GIT_{who}_NAME"), "Ada Example").env(format!("GIT_{who}_EMAIL"), "ada@example.com");
        }
        if let Some(token) = &self.token {
            git.env("GIT_CONFIG_COUNT", "1").env("GIT_CONFIG_KEY_0", "http.extraHeader");
            git.env("GIT_CONFIG_VALUE_0", format!("Authorization: Bearer {token}"));
        }
        said(&mut git, b"")
    }
}
