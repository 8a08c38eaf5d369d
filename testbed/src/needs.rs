//! What a test needs of the machine, and how it says that something is missing.

use std::{path::Path, process::Stdio, sync::OnceLock};

use crate::package_cache;

/// Writes a line to standard error itself: the test program keeps what `eprintln!` writes to itself while a test passes.
pub fn say(text: &str) {
    let line = format!("{text}\n");
    let mut rest = line.as_bytes();
    while let Ok(written @ 1..) = nix::unistd::write(std::io::stderr(), rest) {
        rest = &rest[written..];
    }
}

/// Says so that it is seen that a test did not test anything.
pub fn skip(why: &str) {
    let thread = std::thread::current();
    say(&format!("SKIPPED: {}: {why}", thread.name().unwrap_or("a test")));
}

/// Whether the test may make containers. Says so when not.
pub fn need_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        skip("it needs root, to make containers");
    }
    root
}

/// Whether a program is installed. Says so when not.
pub fn need_tool(program: &str) -> bool {
    let mut version = std::process::Command::new(program);
    version.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // Not all programs know the option, but those that are there start.
    let there = version.status().is_ok();
    if !there {
        skip(&format!("{program} is not installed"));
    }
    there
}

/// Whether base images can be assembled: the Debian mirror answers, or it has answered before. Says so when not.
pub fn need_mirror() -> bool {
    static ANSWERS: OnceLock<bool> = OnceLock::new();
    let mirror = std::env::var("SHIPWAY_DEBIAN_MIRROR").unwrap_or_else(|_| "http://deb.debian.org/debian".into());
    let there = *ANSWERS.get_or_init(|| {
        let known = |path: &Path| path.read_dir().is_ok_and(|mut entries| entries.next().is_some());
        let head = ["--silent", "--fail", "--head", "--max-time", "20", "--output", "/dev/null"];
        let url = format!("{mirror}/dists/trixie/InRelease");
        let mut curl = std::process::Command::new("curl");
        known(&package_cache().join("current")) || curl.args(head).arg(url).status().is_ok_and(|s| s.success())
    });
    if !there {
        skip(&format!("the Debian mirror {mirror} does not answer"));
    }
    there
}
