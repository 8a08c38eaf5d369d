//! Links the program at a fixed address.
//!
//! One that may lie anywhere has a hundred thousand addresses to be filled in by the loader each time it is started: 450 pages are read,
//! copied and written before `main`, half of what a short command costs. See docs/decisions.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|found| found == value);
    if is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu") {
        println!("cargo::rustc-link-arg-bins=-no-pie");
    }
}
