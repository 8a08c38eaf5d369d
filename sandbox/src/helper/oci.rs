//! The runtime's configuration of a container (OCI runtime specification 1.x), as it stands in the bundle.

use serde_json::{Value, json};

use super::{executor, wire::Run};
use crate::{cgroup::Hierarchies, rootless};

/// What a container sees of the host's `/proc` and `/sys` as empty.
const MASKED: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

const READ_ONLY: &[&str] = &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Where the runtime itself mounts something.
pub(super) const TARGETS: &[&str] = &["/proc", "/dev", "/sys"];

/// `capabilities`: bits of what the program shall have.
pub(super) fn configuration(run: &Run, capabilities: u64, hierarchies: &Hierarchies) -> std::io::Result<Value> {
    let mut namespaces = vec![
        json!({ "type": "pid" }),
        json!({ "type": "ipc" }),
        json!({ "type": "uts" }),
        json!({ "type": "mount" }),
        json!({ "type": "cgroup" }),
    ];
    match &run.netns {
        Some(path) => namespaces.push(json!({ "type": "network", "path": path })),
        None if run.host_network => {}
        None => namespaces.push(json!({ "type": "network" })),
    }
    let mut linux = json!({
        "cgroupsPath": format!("/{}", run.cgroup),
        "namespaces": namespaces,
        "resources": resources(run, hierarchies),
        "maskedPaths": MASKED,
        "readonlyPaths": READ_ONLY,
    });
    if rootless::in_user_namespace()
        && let Some(linux) = linux.as_object_mut()
    {
        // Without cgroups there is nothing that could keep a limit.
        linux.remove("resources");
    }
    if !run.sysctls.is_empty() {
        linux["sysctl"] = json!(run.sysctls);
    }
    Ok(json!({
        "ociVersion": "1.2.0",
        "hostname": run.hostname,
        "root": { "path": run.rootfs, "readonly": run.readonly_rootfs },
        "process": process(&run.cwd, run.terminal, capabilities, run)?,
        "mounts": mounts(run, hierarchies),
        "linux": linux,
    }))
}

/// The program itself is not in it: the executor has it, and it may hold secrets.
fn process(cwd: &str, terminal: bool, capabilities: u64, run: &Run) -> std::io::Result<Value> {
    let names = executor::names_for_runtime(capabilities)?;
    let rlimits: Vec<Value> = run
        .rlimits
        .iter()
        .map(|limit| {
            let name = limit.name.to_ascii_uppercase();
            let name = if name.starts_with("RLIMIT_") { name } else { format!("RLIMIT_{name}") };
            json!({ "type": name, "soft": limit.soft, "hard": limit.hard })
        })
        .collect();
    let mut process = json!({
        "terminal": terminal,
        "user": { "uid": 0, "gid": 0 },
        "args": ["-"],
        "cwd": cwd,
        "capabilities": { "bounding": names, "effective": names, "permitted": names, "inheritable": [], "ambient": [] },
        "rlimits": rlimits,
    });
    if let Some(score) = run.oom_score_adj {
        process["oomScoreAdj"] = json!(score);
    }
    Ok(process)
}

fn resources(run: &Run, hierarchies: &Hierarchies) -> Value {
    const PERIOD: u64 = 100_000;
    let limits = &run.limits;
    let mut resources = json!({ "devices": [{ "allow": false, "access": "rwm" }] });
    if let Some(bytes) = limits.memory {
        // Where swap is counted (always in version 2, in version 1 if the kernel was told to) none is allowed beyond the limit.
        let counts_swap = hierarchies.is_v2() || hierarchies.counts_swap();
        resources["memory"] =
            if counts_swap { json!({ "limit": bytes, "swap": bytes }) } else { json!({ "limit": bytes }) };
    }
    let mut cpu = serde_json::Map::new();
    if let Some(millis) = limits.cpu_millis {
        // The kernel takes no less than a millisecond a period.
        cpu.insert("quota".into(), json!((millis * PERIOD / 1000).max(1000)));
        cpu.insert("period".into(), json!(PERIOD));
    }
    if let Some(millis) = limits.cpu_request_millis {
        cpu.insert("shares".into(), json!((millis * 1024 / 1000).clamp(2, 262_144)));
    }
    if !cpu.is_empty() {
        resources["cpu"] = Value::Object(cpu);
    }
    if let Some(count) = limits.pids {
        resources["pids"] = json!({ "limit": count });
    }
    resources
}

fn mounts(run: &Run, hierarchies: &Hierarchies) -> Vec<Value> {
    let mount = |target: &str, kind: &str, options: &[&str]| json!({ "destination": target, "type": kind, "source": kind, "options": options });
    let confined = rootless::in_user_namespace();
    let proc = match confined && rootless::proc_is_covered() {
        // The kernel lets nobody mount a whole /proc who sees only a part of one.
        true => {
            json!({ "destination": "/proc", "type": "bind", "source": "/proc", "options": ["rbind", "rprivate", "nosuid", "noexec", "nodev"] })
        }
        false => mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
    };
    let mut terminals = vec!["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"];
    if !rootless::single_user() {
        terminals.push("gid=5");
    }
    // That of the host needs its network and shows its cgroups.
    let sys = if confined { "tmpfs" } else { "sysfs" };
    let mut list = vec![
        proc,
        mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount("/dev/pts", "devpts", &terminals),
        mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
        mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/sys", sys, &["nosuid", "noexec", "nodev", "ro"]),
    ];
    if hierarchies.is_v2() && !confined {
        list.push(mount("/sys/fs/cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]));
    }
    for given in &run.mounts {
        let access = if given.readonly { "ro" } else { "rw" };
        list.push(match &given.source {
            Some(source) => json!({
                "destination": given.target, "type": "bind", "source": source,
                "options": ["rbind", "rprivate", "nosuid", "nodev", access],
            }),
            None => {
                let mut options = vec!["nosuid".to_owned(), "nodev".into(), access.into()];
                options.extend(given.size.map(|size| format!("size={size}")));
                options.push(format!("mode={:o}", given.mode.unwrap_or(0o1777)));
                json!({ "destination": given.target, "type": "tmpfs", "source": "tmpfs", "options": options })
            }
        });
    }
    list
}
