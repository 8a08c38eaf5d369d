//! Who is who in a user namespace: the ids that this user may give away.

use std::{fs, path::Path, process::Command};

use nix::unistd::{Pid, getegid, geteuid};

use crate::Missing;

/// Ids inside, outside, and how many.
type Range = (u32, u32, u32);

/// How the ids of the namespace come about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ids {
    /// This process is root, only not allowed to mount: all ids that it knows stay what they are.
    All { users: Vec<Range>, groups: Vec<Range> },
    /// The user is root inside, and has ranges of `/etc/subuid` and `/etc/subgid`, which `newuidmap` and `newgidmap` hand out.
    Ranges { users: Vec<Range>, groups: Vec<Range> },
    /// The user is root inside, and there is nobody else.
    One,
}

/// As many ids as there are: one less than all, which the kernel's own map has.
const MOST: u32 = u32::MAX - 1;

impl Ids {
    pub(super) fn find() -> Self {
        if geteuid().is_root() {
            let own = |name: &str| {
                let map = fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default();
                map.lines()
                    .filter_map(|line| {
                        let mut numbers = line.split_whitespace().map(|number| number.parse::<u32>().ok());
                        let (inside, _, count) = (numbers.next()??, numbers.next()??, numbers.next()??);
                        Some((inside, inside, count.min(MOST)))
                    })
                    .collect::<Vec<_>>()
            };
            let (users, groups) = (own("uid_map"), own("gid_map"));
            if users != [(0, 0, 1)] && may_set_ids() {
                return Self::All { users, groups };
            }
            return Self::One;
        }
        let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
        let user = nix::unistd::User::from_uid(geteuid()).ok().flatten().map(|user| user.name);
        let ranges = |path: &str, own: u32| {
            let text = fs::read_to_string(path).unwrap_or_default();
            ranges(&text, user.as_deref(), uid, own)
        };
        let tools = ["newuidmap", "newgidmap"].iter().all(|tool| in_path(tool));
        match (tools, ranges("/etc/subuid", uid), ranges("/etc/subgid", gid)) {
            (true, Some(users), Some(groups)) => Self::Ranges { users, groups },
            _ => Self::One,
        }
    }

    /// For the process inside.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::All { .. } => "all",
            Self::Ranges { .. } => "ranges",
            Self::One => "one",
        }
    }

    /// Writes the maps of a process that has just made its namespace.
    pub(super) fn write(&self, child: Pid) -> Result<(), Vec<Missing>> {
        let refused = |what: &str, why: String, fix: &str| vec![Missing { what: what.into(), why, fix: fix.into() }];
        match self {
            Self::All { users, groups } => {
                for (name, ranges) in [("uid_map", users), ("gid_map", groups)] {
                    let lines: String =
                        ranges.iter().map(|(inside, outside, count)| format!("{inside} {outside} {count}\n")).collect();
                    fs::write(format!("/proc/{child}/{name}"), lines).map_err(|e| {
                        let fix =
                            "give the container the capabilities SETUID, SETGID and SETFCAP, or run it privileged";
                        refused("a map of ids", e.to_string(), fix)
                    })?;
                }
                Ok(())
            }
            Self::Ranges { users, groups } => {
                for (tool, ranges) in [("newuidmap", users), ("newgidmap", groups)] {
                    let numbers = ranges.iter().flat_map(|(inside, outside, count)| [inside, outside, count]);
                    let output = Command::new(tool).arg(child.to_string()).args(numbers.map(u32::to_string)).output();
                    let why = match output {
                        Ok(output) if output.status.success() => continue,
                        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
                        Err(error) => error.to_string(),
                    };
                    let fix =
                        "make it set-user-id root (Debian: apt install uidmap), and check /etc/subuid and /etc/subgid";
                    return Err(refused(tool, why, fix));
                }
                Ok(())
            }
            Self::One => {
                let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
                let write = |name: &str, text: String| {
                    fs::write(format!("/proc/{child}/{name}"), text)
                        .map_err(|e| refused("a map of ids", format!("{name}: {e}"), &fix()))
                };
                write("uid_map", format!("0 {uid} 1\n"))?;
                write("setgroups", "deny".into())?;
                write("gid_map", format!("0 {gid} 1\n"))
            }
        }
    }
}

/// The name of this user.
pub(super) fn who() -> String {
    nix::unistd::User::from_uid(geteuid()).ok().flatten().map_or_else(|| "USER".to_owned(), |user| user.name)
}

/// How a user gets more ids than one.
pub(super) fn fix() -> String {
    // Inside everybody is called root.
    let user = std::env::var(super::WHO).unwrap_or_else(|_| who());
    format!(
        "install newuidmap and newgidmap (Debian: uidmap), and as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}"
    )
}

/// The ranges of a user in a file of lines `user:first:count`, behind the user's own id; `None` without any.
fn ranges(text: &str, user: Option<&str>, uid: u32, own: u32) -> Option<Vec<Range>> {
    let mut found = vec![(0, own, 1)];
    let mut next = 1u32;
    for line in text.lines() {
        let mut fields = line.split(':');
        let name = fields.next().unwrap_or_default().trim();
        if Some(name) != user && name.parse() != Ok(uid) {
            continue;
        }
        let mut number = || fields.next().and_then(|field| field.trim().parse::<u32>().ok());
        let (Some(first), Some(count)) = (number(), number()) else { continue };
        let count = count.min(MOST - next);
        if count > 0 {
            found.push((next, first, count));
            next += count;
        }
    }
    (found.len() > 1).then_some(found)
}

fn in_path(tool: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| Path::new(&directory).join(tool).is_file())
}

/// Whether root is allowed to give ids away: SETUID and SETGID, and SETFCAP since its own id is among them.
fn may_set_ids() -> bool {
    const NEEDED: u64 = 1 << 6 | 1 << 7 | 1 << 31;
    crate::isolation::status("CapEff").is_some_and(|bits| bits & NEEDED == NEEDED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_follow_the_own_id_without_a_gap() {
        let text = "other:1:2\nada:100000:65536\n1000:300000:10\nbroken\nada:x:1\nada:7:0\n";
        let found = ranges(text, Some("ada"), 1000, 1000).unwrap();
        assert_eq!(found, [(0, 1000, 1), (1, 100_000, 65_536), (65_537, 300_000, 10)]);
        assert_eq!(ranges(text, Some("eve"), 1001, 1001), None);
        // A range that would run over the end is cut.
        let most = ranges("ada:5:4294967295\nada:9:4294967295\n", Some("ada"), 1, 1).unwrap();
        assert_eq!(most, [(0, 1, 1), (1, 5, u32::MAX - 2)]);
    }
}
