//! Cgroups of containers: where they are, what they count, how they go. Limits themselves are set by the runtime.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

/// The hierarchies of this host that containers get a cgroup in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hierarchies {
    /// Mount points with the controllers of each; version 2 has the controllers that its root offers.
    mounts: Vec<(PathBuf, Vec<String>)>,
    v2_only: bool,
}

impl Hierarchies {
    pub(crate) fn find() -> io::Result<Self> {
        Ok(Self::parse(&fs::read_to_string("/proc/self/mountinfo")?, |root| {
            fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default()
        }))
    }

    fn parse(mountinfo: &str, v2_controllers: impl Fn(&Path) -> String) -> Self {
        let (mut v1, mut v2) = (Vec::new(), Vec::new());
        for line in mountinfo.lines() {
            let Some((before, after)) = line.split_once(" - ") else { continue };
            let Some(point) = before.split(' ').nth(4).map(PathBuf::from) else { continue };
            let mut fields = after.split(' ');
            match fields.next() {
                Some("cgroup") => {
                    let options = fields.nth(1).unwrap_or_default();
                    if !options.split(',').any(|o| o.starts_with("name=")) {
                        let known =
                            options.split(',').filter(|o| !matches!(*o, "rw" | "ro" | "xattr" | "clone_children"));
                        v1.push((point, known.map(str::to_owned).collect()));
                    }
                }
                Some("cgroup2") => {
                    let controllers = v2_controllers(&point).split_whitespace().map(str::to_owned).collect();
                    v2.push((point, controllers));
                }
                _ => {}
            }
        }
        // Like the runtime: where any version 1 hierarchy is mounted, version 2 has no say.
        let v2_only = v1.is_empty();
        Self { mounts: if v2_only { v2.into_iter().take(1).collect() } else { v1 }, v2_only }
    }

    pub(crate) fn is_v2(&self) -> bool {
        self.v2_only
    }

    pub(crate) fn has(&self, controller: &str) -> bool {
        self.of(controller).is_some()
    }

    /// Whether version 1 counts swap together with memory.
    pub(crate) fn counts_swap(&self) -> bool {
        self.of("memory").is_some_and(|point| point.join("memory.memsw.limit_in_bytes").exists())
    }

    fn of(&self, controller: &str) -> Option<&Path> {
        self.mounts.iter().find(|(_, have)| have.iter().any(|c| c == controller)).map(|(point, _)| point.as_path())
    }

    /// Directories of a cgroup, one a hierarchy, whether they exist or not.
    pub(crate) fn directories(&self, group: &str) -> Vec<PathBuf> {
        self.mounts.iter().map(|(point, _)| point.join(group)).collect()
    }

    fn read(&self, group: &str, controller: &str, file: &str) -> Option<String> {
        fs::read_to_string(self.of(controller)?.join(group).join(file)).ok()
    }

    /// Whether the kernel killed something in the group because its memory ran out.
    pub(crate) fn out_of_memory(&self, group: &str) -> bool {
        let file = if self.v2_only { "memory.events" } else { "memory.oom_control" };
        self.read(group, "memory", file).is_some_and(|text| value(&text, "oom_kill").unwrap_or(0) > 0)
    }

    /// Bytes of memory in use, less page cache that can be dropped at once.
    pub(crate) fn memory(&self, group: &str) -> Option<u64> {
        let (total, inactive) = if self.v2_only {
            ("memory.current", "inactive_file")
        } else {
            ("memory.usage_in_bytes", "total_inactive_file")
        };
        let total: u64 = self.read(group, "memory", total)?.trim().parse().ok()?;
        let cache = self.read(group, "memory", "memory.stat").and_then(|text| value(&text, inactive)).unwrap_or(0);
        Some(total.saturating_sub(cache))
    }

    pub(crate) fn cpu(&self, group: &str) -> Option<Duration> {
        if self.v2_only {
            value(&self.read(group, "cpu", "cpu.stat")?, "usage_usec").map(Duration::from_micros)
        } else {
            self.read(group, "cpuacct", "cpuacct.usage")?.trim().parse().ok().map(Duration::from_nanos)
        }
    }

    pub(crate) fn processes(&self, group: &str) -> Option<u64> {
        self.read(group, "pids", "pids.current")?.trim().parse().ok()
    }

    /// Kills what is in a group and below it, and removes it everywhere. Blocks for at most two seconds.
    pub(crate) fn remove(&self, group: &str) -> io::Result<()> {
        for directory in self.directories(group) {
            let mut tries = 0;
            while let Err(error) = remove_tree(&directory) {
                tries += 1;
                if tries == 200 {
                    return Err(error);
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        Ok(())
    }
}

fn remove_tree(directory: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    match fs::remove_dir(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            for line in fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default().lines() {
                if let Ok(pid) = line.parse() {
                    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
                }
            }
            Err(error)
        }
        _ => Ok(()),
    }
}

/// The number after a word at the start of a line.
fn value(text: &str, word: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(word)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
30 20 0:26 / /sys/fs/cgroup/memory rw,relatime shared:5 - cgroup cgroup rw,memory
31 20 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
32 20 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
33 20 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
";

    #[test]
    fn a_hybrid_host_is_used_as_version_1() {
        let found = Hierarchies::parse(HYBRID, |_| String::new());
        assert!(!found.is_v2() && found.has("memory") && found.has("cpuacct") && !found.has("pids"));
        assert_eq!(
            found.directories("a/b"),
            [PathBuf::from("/sys/fs/cgroup/memory/a/b"), PathBuf::from("/sys/fs/cgroup/cpu,cpuacct/a/b")]
        );
    }

    #[test]
    fn a_host_of_version_2_alone_offers_what_its_root_offers() {
        let found =
            Hierarchies::parse("30 20 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", |_| "cpu memory pids".into());
        assert!(found.is_v2() && found.has("memory") && found.has("pids") && !found.has("cpuset"));
    }

    #[test]
    fn counters_are_found_by_their_whole_word() {
        assert_eq!(value("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n", "oom_kill"), Some(3));
        assert_eq!(value("oom_group_kill 1\n", "oom_kill"), None);
    }
}
