//! Compiles the launcher, which goes into every image that buildpacks make: one file, no dependencies, statically linked, so that it
//! runs on any run image.

use std::{env, path::PathBuf, process::Command};

fn main() {
    let source = "launcher/launcher.rs";
    println!("cargo::rerun-if-changed={source}");
    println!("cargo::rerun-if-changed=build.rs");
    let variable = |name: &str| env::var_os(name).unwrap_or_else(|| panic!("cargo sets {name}"));
    let out = PathBuf::from(variable("OUT_DIR")).join("launcher");
    let status = Command::new(variable("RUSTC"))
        .args(["--edition", "2024", "--crate-type", "bin", "--crate-name", "launcher", source, "--target"])
        .arg(variable("TARGET"))
        .args(["-C", "target-feature=+crt-static", "-C", "opt-level=z", "-C", "panic=abort"])
        .args(["-C", "strip=symbols", "-C", "relocation-model=static", "-o"])
        .arg(&out)
        // What a user sets for the workspace is not meant for this.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .status();
    match status {
        Ok(status) if status.success() => {}
        other => panic!("the launcher of buildpack images cannot be compiled: {other:?}"),
    }
}
