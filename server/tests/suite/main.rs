//! The product from outside: the built `shipway`, driven by the programs that people use. What a test lacks on a machine it says with a
//! line that starts with `SKIPPED`.

mod browser;
mod build;
mod buildpacks;
mod charts;
mod chroot;
mod cli;
mod cluster;
mod crash;
mod disk;
mod environments;
mod equal;
mod git;
mod helm;
mod helm_words;
mod local;
mod pipeline;
mod registry;
mod registry_care;
mod registry_clients;
mod registry_s3;
mod render;
mod rootless;
mod server;

use std::path::Path;

/// The program under test.
fn shipway() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_shipway"))
}

/// A golden text.
macro_rules! golden {
    ($text:expr) => {
        insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, { insta::assert_snapshot!($text) })
    };
}
pub(crate) use golden;
