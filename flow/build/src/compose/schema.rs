//! The keys that a Compose file may have, as the Compose Specification lists them: one that is written wrong would be without effect, and
//! nobody would know.

use serde_json::{Map, Value};

use super::marks;
use crate::diagnostic::did_you_mean;

const TOP: &[&str] =
    &["version", "name", "include", "services", "models", "networks", "volumes", "secrets", "configs", "jobs"];

const SERVICE: &[&str] = &[
    "annotations",
    "attach",
    "blkio_config",
    "build",
    "cap_add",
    "cap_drop",
    "cgroup",
    "cgroup_parent",
    "command",
    "configs",
    "container_name",
    "cpu_count",
    "cpu_percent",
    "cpu_period",
    "cpu_quota",
    "cpu_rt_period",
    "cpu_rt_runtime",
    "cpu_shares",
    "cpus",
    "cpuset",
    "credential_spec",
    "depends_on",
    "deploy",
    "develop",
    "device_cgroup_rules",
    "devices",
    "dns",
    "dns_opt",
    "dns_search",
    "domainname",
    "entrypoint",
    "env_file",
    "environment",
    "expose",
    "extends",
    "external_links",
    "extra_hosts",
    "gpus",
    "group_add",
    "healthcheck",
    "hostname",
    "image",
    "init",
    "ipc",
    "isolation",
    "label_file",
    "labels",
    "links",
    "logging",
    "mac_address",
    "mem_limit",
    "mem_reservation",
    "mem_swappiness",
    "memswap_limit",
    "models",
    "network_mode",
    "networks",
    "oom_kill_disable",
    "oom_score_adj",
    "pid",
    "pids_limit",
    "platform",
    "ports",
    "post_start",
    "pre_start",
    "pre_stop",
    "privileged",
    "profiles",
    "provider",
    "pull_policy",
    "pull_refresh_after",
    "read_only",
    "restart",
    "runtime",
    "scale",
    "secrets",
    "security_opt",
    "shm_size",
    "stdin_open",
    "stop_grace_period",
    "stop_signal",
    "storage_opt",
    "sysctls",
    "tmpfs",
    "tty",
    "ulimits",
    "umask",
    "use_api_socket",
    "user",
    "userns_mode",
    "uts",
    "volumes",
    "volumes_from",
    "working_dir",
];

const BUILD: &[&str] = &[
    "additional_contexts",
    "args",
    "cache_from",
    "cache_to",
    "context",
    "dockerfile",
    "dockerfile_inline",
    "entitlements",
    "extra_hosts",
    "isolation",
    "labels",
    "network",
    "no_cache",
    "no_cache_filter",
    "platforms",
    "privileged",
    "provenance",
    "pull",
    "sbom",
    "secrets",
    "shm_size",
    "ssh",
    "tags",
    "target",
    "ulimits",
];

const HEALTHCHECK: &[&str] = &["disable", "interval", "retries", "start_interval", "start_period", "test", "timeout"];
const NETWORK: &[&str] = &[
    "attachable",
    "driver",
    "driver_opts",
    "enable_ipv4",
    "enable_ipv6",
    "external",
    "internal",
    "ipam",
    "labels",
    "name",
];
const VOLUME: &[&str] = &["driver", "driver_opts", "external", "labels", "name"];
const SECRET: &[&str] =
    &["driver", "driver_opts", "environment", "external", "file", "labels", "name", "template_driver"];
const CONFIG: &[&str] = &["content", "environment", "external", "file", "labels", "name", "template_driver"];

/// What is wrong with a file.
#[derive(Debug, PartialEq, Eq)]
pub struct Wrong {
    /// Line and column, from 1.
    pub place: Option<(usize, usize)>,
    pub reason: String,
}

/// Looks at one file as it was written, before anything is merged into it. `text` is its text, for the line.
///
/// # Errors
/// The first key that means nothing, and a service or part of one that is of the wrong kind.
pub fn check(file: &Value, text: &str) -> Result<(), Wrong> {
    let check = Check { text };
    let Some(root) = file.as_object() else { return Ok(()) };
    check.keys(root, TOP, &[])?;
    for (kind, known) in [("networks", NETWORK), ("volumes", VOLUME), ("secrets", SECRET), ("configs", CONFIG)] {
        for (name, one) in check.map(root, kind, &[])?.into_iter().flatten() {
            if let Value::Object(one) = one {
                check.keys(one, known, &[kind, name])?;
            } else if !one.is_null() {
                return Err(check.wrong(&[kind, name], "is to be a map"));
            }
        }
    }
    for (name, service) in check.map(root, "services", &[])?.into_iter().flatten() {
        let at = ["services", name.as_str()];
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)) {
            return Err(check.wrong(&at, "is no name of a service: letters, digits, `.`, `_` and `-` are"));
        }
        let service = match service {
            Value::Object(service) => service,
            Value::Null => continue,
            _ => return Err(check.wrong(&at, "is to be a map")),
        };
        check.keys(service, SERVICE, &at)?;
        for key in ["image", "container_name", "hostname", "network_mode", "platform", "restart", "user", "working_dir"]
        {
            if let Some(value) = service.get(key).filter(|value| !value.is_string() && !value.is_null()) {
                return Err(check.wrong(&[at[0], at[1], key], &format!("is to be a text, not {}", kind(value))));
            }
        }
        match service.get("build") {
            None | Some(Value::Null | Value::String(_)) => {}
            Some(Value::Object(build)) => {
                check.keys(build, BUILD, &[at[0], at[1], "build"])?;
                for key in ["context", "dockerfile", "dockerfile_inline", "network", "target"] {
                    if let Some(value) = build.get(key).filter(|value| !value.is_string() && !value.is_null()) {
                        let reason = format!("is to be a text, not {}", kind(value));
                        return Err(check.wrong(&[at[0], at[1], "build", key], &reason));
                    }
                }
            }
            Some(other) => {
                let reason = format!("is to be a directory or a map, not {}", kind(other));
                return Err(check.wrong(&[at[0], at[1], "build"], &reason));
            }
        }
        if let Some(Value::Object(health)) = service.get("healthcheck") {
            check.keys(health, HEALTHCHECK, &[at[0], at[1], "healthcheck"])?;
        }
    }
    Ok(())
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number (put it in quotes)",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}

struct Check<'a> {
    text: &'a str,
}

impl Check<'_> {
    fn map<'v>(
        &self,
        root: &'v Map<String, Value>,
        key: &str,
        at: &[&str],
    ) -> Result<Option<&'v Map<String, Value>>, Wrong> {
        match root.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(map)) => Ok(Some(map)),
            Some(other) => Err(self.wrong(&[at, &[key]].concat(), &format!("is to be a map, not {}", kind(other)))),
        }
    }

    fn keys(&self, map: &Map<String, Value>, known: &[&str], at: &[&str]) -> Result<(), Wrong> {
        let Some(unknown) = map.keys().find(|key| !key.starts_with("x-") && !known.contains(&key.as_str())) else {
            return Ok(());
        };
        let guess = match did_you_mean(unknown, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "keys of your own begin with `x-`".to_owned(),
        };
        let whose = if at.is_empty() { "a Compose file".to_owned() } else { format!("`{}`", at.join(".")) };
        let place = marks::place(self.text, &[at, &[unknown.as_str()]].concat());
        Err(Wrong { place, reason: format!("{whose} has no key `{unknown}`: {guess}") })
    }

    fn wrong(&self, at: &[&str], reason: &str) -> Wrong {
        Wrong { place: marks::place(self.text, at), reason: format!("`{}` {reason}", at.join(".")) }
    }
}
