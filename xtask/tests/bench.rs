//! The benches that need nothing but the product run, in the small.

use std::{path::Path, process::Command};

#[test]
fn the_registry_is_measured() {
    let xtask = Path::new(env!("CARGO_BIN_EXE_xtask"));
    let shipway = xtask.with_file_name("shipway");
    if !shipway.exists() {
        return eprintln!("SKIPPED: shipway is not built");
    }
    if !Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout == b"0\n") {
        return eprintln!("SKIPPED: the server needs root");
    }
    let scratch = tempfile::tempdir_in("/var/tmp").unwrap();
    let mut bench = Command::new(xtask);
    bench.args(["bench", "registry", "--rounds=1", "--sizes=1,3", "--connections=2", "--megabytes=6", "--most=6"]);
    bench.args(["--requests=8", "--zot=/nonexistent", "--own"]).arg(&shipway).arg("--scratch").arg(scratch.path());
    let done = bench.output().unwrap();
    let (said, complained) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{said}\n{complained}");
    for load in ["1 MB", "3 MB", "manifests", "mixed 1 MB"] {
        let line = said.lines().find(|line| line.trim_start().starts_with(load) && line.contains("shipway"));
        let line = line.unwrap_or_else(|| panic!("no line for {load}: {said}"));
        assert!(!line.contains("NaN"), "{line}");
    }
    assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0, "nothing is left");
}
