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

/// How programs of the platform begin, as far as it tells them from others: ELF's class, byte order and machine, in hexadecimal.
fn elf(platform: &Platform) -> Option<(&'static str, &'static str, &'static str)> {
    Some(match platform.architecture.as_str() {
        "amd64" => ("02", "01", "3e00"),
        "386" => ("01", "01", "0300"),
        "arm64" => ("02", "01", "b700"),
        "arm" => ("01", "01", "2800"),
        "riscv64" => ("02", "01", "f300"),
        "ppc64le" => ("02", "01", "1500"),
        "s390x" => ("02", "02", "0016"),
        "mips64le" => ("02", "01", "0800"),
        "loong64" => ("02", "01", "0201"),
        _ => return None,
    })
}

/// Whether a handler takes programs that begin so. Interpreters are called differently from one distribution to the next; what they are
/// for is not.
fn takes(text: &str, (class, order, machine): (&str, &str, &str)) -> bool {
    let line = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let magic = line("magic ").unwrap_or_default();
    line("offset ") == Some("0")
        && magic.starts_with("7f454c46")
        && magic.get(8..10) == Some(class)
        && magic.get(10..12) == Some(order)
        && magic.get(36..40) == Some(machine)
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
        let Some(path) = interpreter(&text) else { return false };
        let name = Path::new(path).file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let named = name == wanted || name.strip_prefix(&wanted).is_some_and(|rest| rest.starts_with('-'));
        named || elf(platform).is_some_and(|elf| takes(&text, elf))
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
        // As Debian registers them.
        let debian = handler("enabled", "/usr/libexec/qemu-binfmt/ppc64le-binfmt-P", "PF");
        write("qemu-ppc64le", &format!("{debian}magic 7f454c4602010100000000000000000002001500\nmask ff\n"));
        let runs = |text: &str| runs(&Platform::parse(text).unwrap(), directory.path());
        assert!(runs("linux/arm64") && runs("linux/arm/v7") && runs("linux/ppc64le"));
        assert!(!runs("linux/ppc64") && !runs("linux/mips64le"));
        assert!(!runs("linux/riscv64") && !runs("linux/s390x") && !runs("linux/armeb"));
    }
}
