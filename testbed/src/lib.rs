//! Drives the `shipway` binary from outside, with the clients that people use: `git`, `curl`, `skopeo`, `podman`.
//!
//! Reads: what a user can see, which is the server's port, its data directory, and the machine that it runs on.
//! Writes: below `/var/tmp`; when a server was stopped, nothing of it is left, and that is checked.
//! Never: calls into the server. Everything here blocks and panics with a message, as tests want it.

mod clients;
mod leftovers;
mod needs;
mod project;
mod random;
mod shared;
mod shipway;
mod wait;

pub use clients::{Answer, Said, WorkTree, said};
pub use leftovers::leftovers;
pub use needs::{need_mirror, need_root, need_tool, say, skip};
pub use project::{Followed, Line, Project, state};
pub use random::Random;
pub use shared::Shared;
pub use shipway::{Options, Shipway, package_cache};
pub use wait::wait_for;

/// `sha256:…` of bytes.
pub fn sha256(bytes: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    digest.as_ref().iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

/// A directory for a test, on the disk and not in memory; gone at its end.
pub fn directory() -> tempfile::TempDir {
    let directory = tempfile::Builder::new().prefix("shipway-test-").tempdir_in("/var/tmp");
    directory.unwrap_or_else(|e| panic!("cannot make a directory in /var/tmp: {e}"))
}

/// A text that must be JSON.
#[track_caller]
pub fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("this is no JSON ({e}): {text}"))
}
