//! Limits of processes (`setrlimit`): what a name means, and what this machine would refuse.

use std::fs;

use nix::sys::resource::{Resource, getrlimit};

use crate::{rootless, spec::Rlimit};

/// The capability to go beyond one's own hard limits.
const SYS_RESOURCE: u64 = 1 << 24;

/// The kernel's limit of a name, with or without `RLIMIT_`.
pub fn resource(name: &str) -> Option<Resource> {
    let name = name.to_ascii_uppercase();
    Some(match name.strip_prefix("RLIMIT_").unwrap_or(&name) {
        "AS" => Resource::RLIMIT_AS,
        "CORE" => Resource::RLIMIT_CORE,
        "CPU" => Resource::RLIMIT_CPU,
        "DATA" => Resource::RLIMIT_DATA,
        "FSIZE" => Resource::RLIMIT_FSIZE,
        "LOCKS" => Resource::RLIMIT_LOCKS,
        "MEMLOCK" => Resource::RLIMIT_MEMLOCK,
        "MSGQUEUE" => Resource::RLIMIT_MSGQUEUE,
        "NICE" => Resource::RLIMIT_NICE,
        "NOFILE" => Resource::RLIMIT_NOFILE,
        "NPROC" => Resource::RLIMIT_NPROC,
        "RSS" => Resource::RLIMIT_RSS,
        "RTPRIO" => Resource::RLIMIT_RTPRIO,
        "RTTIME" => Resource::RLIMIT_RTTIME,
        "SIGPENDING" => Resource::RLIMIT_SIGPENDING,
        "STACK" => Resource::RLIMIT_STACK,
        _ => return None,
    })
}

fn shown(value: u64) -> String {
    if value == u64::MAX { "unlimited".into() } else { value.to_string() }
}

/// The reason why one of these cannot be set, which the kernel says with `EPERM` alone.
pub fn refused(limits: &[Rlimit]) -> Option<String> {
    limits.iter().find_map(|limit| {
        let Rlimit { name, hard, .. } = limit;
        let Some(resource) = resource(name) else { return Some(format!("there is no limit `{name}`")) };
        let most = fs::read_to_string("/proc/sys/fs/nr_open").ok().and_then(|text| text.trim().parse().ok());
        if let (Resource::RLIMIT_NOFILE, Some(most)) = (resource, most)
            && *hard > most
        {
            let hard = shown(*hard);
            return Some(format!(
                "the limit `{name}` is {hard}, and this machine allows no more than {most} (fs.nr_open)"
            ));
        }
        let own = getrlimit(resource).map_or(u64::MAX, |(_, own)| own);
        (*hard > own && !may_raise()).then(|| {
            let (hard, own) = (shown(*hard), shown(own));
            format!("the limit `{name}` is {hard}, and this process, which may not go beyond its own, has {own}")
        })
    })
}

/// Whether this process may go beyond its own hard limits; in a user namespace nobody may.
fn may_raise() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("CapEff:")?.trim(), 16).ok());
    !rootless::in_user_namespace() && effective.is_some_and(|bits| bits & SYS_RESOURCE != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_would_refuse_is_named() {
        let limit = |name: &str, hard| Rlimit { name: name.into(), soft: 1, hard };
        let (_, own) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        assert_eq!(refused(&[limit("nofile", own), limit("RLIMIT_CORE", 0)]), None);
        let said = refused(&[limit("core", 0), limit("nofile", u64::MAX)]).unwrap();
        assert!(said.contains("`nofile` is unlimited") && said.contains("fs.nr_open"), "{said}");
        assert!(refused(&[limit("files", 1)]).unwrap().contains("`files`"));
    }
}
