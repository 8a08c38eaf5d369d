//! What a server has left on this machine.

use std::path::Path;

/// Mounts, processes, links, packet filter tables, cgroups and directories of a server that has ended. Empty when it was tidy.
pub fn leftovers(data: &Path) -> Vec<String> {
    let data = data.canonicalize().unwrap_or_else(|_| data.to_path_buf());
    let name = data.display().to_string();
    // What has the server's tag in its name instead of its directory is found by the sandbox's own check.
    let mut found = sandbox::leftovers(&data.join("sandbox"), "shipway");
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    found.extend(mounts.lines().filter(|line| line.contains(&format!("{name}/"))).map(|line| format!("mount: {line}")));
    for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let path = process.path();
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        if pid == std::process::id() {
            continue;
        }
        let read =
            |file: &str| String::from_utf8_lossy(&std::fs::read(path.join(file)).unwrap_or_default()).into_owned();
        let link = |file: &str| std::fs::read_link(path.join(file)).unwrap_or_default();
        let (command, mounts) = (read("cmdline").replace('\0', " "), read("mountinfo"));
        let inside = ["cwd", "root", "exe"].into_iter().any(|file| link(file).starts_with(&data));
        // A container has its own mounts: its root is a file system below the data directory.
        if command.contains(&name) || inside || mounts.contains(&format!("{name}/")) {
            found.push(format!("process {pid}: {command}"));
        }
    }
    found
}
