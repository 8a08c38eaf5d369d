//! Programs of other platforms: whether this machine can run them, through handlers that were registered with `binfmt_misc`.

use std::{fs, path::Path};

use build::{Platform, diagnostic::Diagnostic};

use crate::fault::{Class, Fault, Result};

const HANDLERS: &str = "/proc/sys/fs/binfmt_misc";

/// The machine's name in the names of interpreters: `qemu-aarch64`.
fn machine(platform: &Platform) -> &str {
    match platform.architecture.as_str() {
        "arm64" => "aarch64",
        "amd64" => "x86_64",
        "386" => "i386",
        other => other,
    }
}

/// What can be said of one handler: its interpreter, when it is enabled and stays open in containers.
fn interpreter(text: &str) -> Option<&str> {
    let mut lines = text.lines();
    if lines.next() != Some("enabled") {
        return None;
    }
    let (mut interpreter, mut fixed) = (None, false);
    for line in lines {
        match line.split_once(' ') {
            Some(("interpreter", path)) => interpreter = Some(path),
            Some(("flags:", flags)) => fixed = flags.contains('F'),
            _ => {}
        }
    }
    interpreter.filter(|_| fixed)
}

/// Whether programs of the platform run here.
fn runs(platform: &Platform, handlers: &Path) -> bool {
    let host = Platform::host();
    // Every amd64 machine runs the older programs.
    if host.architecture == "amd64" && platform.architecture == "386" {
        return true;
    }
    let wanted = format!("qemu-{}", machine(platform));
    let entries =
        fs::read_dir(handlers).into_iter().flatten().filter_map(|entry| fs::read_to_string(entry.ok()?.path()).ok());
    entries.into_iter().any(|text| {
        let name = interpreter(&text).and_then(|path| Path::new(path).file_name()?.to_str().map(str::to_owned));
        name.is_some_and(|name| name == wanted || name.strip_prefix(&wanted).is_some_and(|rest| rest.starts_with('-')))
    })
}

/// Refuses commands of platforms that nothing here runs, before anything begins.
pub fn check<'a>(foreign: impl IntoIterator<Item = &'a (Platform, Diagnostic)>) -> Result<()> {
    for (platform, place) in foreign {
        if runs(platform, Path::new(HANDLERS)) {
            continue;
        }
        let reason = format!("this command is for {platform}, and this machine runs {} only", Platform::host());
        let shown = Diagnostic { reason, ..place.clone() };
        return Err(Fault::new(Class::Unavailable, shown.to_string()).hint(format!(
            "compile for it instead: FROM --platform=$BUILDPLATFORM for the stage that runs commands; or register qemu-{} with \
             binfmt_misc and the flag F (Debian: apt install qemu-user-static binfmt-support)",
            machine(platform)
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handlers_are_found_that_are_enabled_and_fixed() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
        let handler =
            |state: &str, path: &str, flags: &str| format!("{state}\ninterpreter {path}\nflags: {flags}\noffset 0\n");
        write("register", "");
        write("status", "enabled\n");
        write("qemu-aarch64", &handler("enabled", "/usr/bin/qemu-aarch64-static", "POCF"));
        write("qemu-riscv64", &handler("disabled", "/usr/bin/qemu-riscv64-static", "POCF"));
        write("qemu-s390x", &handler("enabled", "/usr/bin/qemu-s390x-static", "POC"));
        write("qemu-arm", &handler("enabled", "/usr/bin/qemu-arm", "F"));
        let runs = |text: &str| runs(&Platform::parse(text).unwrap(), directory.path());
        assert!(runs("linux/arm64") && runs("linux/arm/v7"));
        assert!(!runs("linux/riscv64") && !runs("linux/s390x") && !runs("linux/armeb"));
    }
}
