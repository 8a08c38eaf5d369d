//! From a push to evidence, in real containers on real base images.

mod images;
mod mistakes;
mod packs;
mod remote;
mod steps;

use testbed::{Options, Shared, Shipway, need_mirror, need_root, need_tool};

use crate::shipway;

/// One server for all of it: a base image is assembled once.
fn server() -> Option<&'static Shipway> {
    static SERVER: Shared = Shared::new();
    let able = need_root() && need_tool("git") && need_tool("curl") && need_mirror();
    able.then(|| SERVER.get(|| Options::new(shipway()).argument("--parallel-runs=4").start()))
}
