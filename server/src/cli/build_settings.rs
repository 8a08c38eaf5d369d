//! Options of `shipway build` that have a small language of their own.

use std::{collections::BTreeMap, net::IpAddr};

use ::build::Platform;
use graph::Ulimit;

use super::build::pairs;
use crate::fault::{Fault, Result};

/// What `--annotation` said.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Annotations {
    pub manifests: BTreeMap<String, String>,
    pub index: BTreeMap<String, String>,
    /// Of the image for one platform.
    pub platforms: Vec<(Platform, String, String)>,
    /// Of what the index says of an image, for one platform or for all.
    pub descriptors: Vec<(Option<Platform>, String, String)>,
}

impl Annotations {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Reads `[KIND[PLATFORM],…:]NAME=VALUE`. `platforms` are those that are built for; none means this machine's.
pub fn annotations(given: &[String], platforms: &[Platform]) -> Result<Annotations> {
    let mut all = Annotations::default();
    for (name, value) in pairs(given, "--annotation", false)? {
        // A name may have a colon, too: only kinds count, all of them.
        let kinds = name.split_once(':').and_then(|(front, rest)| Some((kinds(front)?, rest)));
        let (kinds, name) = kinds.unwrap_or_else(|| (vec![("manifest", None)], name.as_str()));
        for (kind, platform) in kinds {
            let platform = platform.map(|text| built(text, platforms)).transpose()?;
            match (kind, platform) {
                ("manifest", None) => drop(all.manifests.insert(name.to_owned(), value.clone())),
                ("manifest", Some(platform)) => all.platforms.push((platform, name.to_owned(), value.clone())),
                ("index", None) => drop(all.index.insert(name.to_owned(), value.clone())),
                ("manifest-descriptor", platform) if platforms.len() > 1 => {
                    all.descriptors.push((platform, name.to_owned(), value.clone()));
                }
                ("manifest-descriptor", _) => {
                    let reason =
                        format!("--annotation {kind}:{name} needs an index, which only several platforms have");
                    return Err(Fault::usage(reason).hint("name them with --platform, or annotate the manifest itself"));
                }
                ("index", Some(_)) => {
                    return Err(Fault::usage(format!("--annotation index:{name}: an index is for no one platform")));
                }
                _ => {
                    let reason = format!("--annotation {kind}:{name} is not possible: nothing here points at an index");
                    return Err(Fault::usage(reason).hint("there are index, manifest and manifest-descriptor"));
                }
            }
        }
    }
    Ok(all)
}

/// `index,manifest[linux/amd64]` to what it names; `None` for something else.
fn kinds(text: &str) -> Option<Vec<(&str, Option<&str>)>> {
    fn kind(part: &str) -> Option<(&str, Option<&str>)> {
        let (kind, platform) = match part.split_once('[') {
            Some((kind, rest)) => (kind, Some(rest.strip_suffix(']')?)),
            None => (part, None),
        };
        matches!(kind, "manifest" | "index" | "manifest-descriptor" | "index-descriptor").then_some((kind, platform))
    }
    text.split(',').map(kind).collect()
}

fn built(text: &str, platforms: &[Platform]) -> Result<Platform> {
    let platform = Platform::parse(text).ok_or_else(|| Fault::usage(format!("`{text}` is no platform")))?;
    let host = [Platform::host()];
    let platforms = if platforms.is_empty() { &host } else { platforms };
    if !platforms.contains(&platform) {
        return Err(Fault::usage(format!("--annotation is for {platform}, which is not built")));
    }
    Ok(platform)
}

/// Reads `NAME:ADDRESS` and `NAME=ADDRESS`, of the command line and of Compose.
pub fn hosts(given: &[String]) -> Result<Vec<(String, IpAddr)>> {
    let read = |text: &String| {
        let wrong = |reason: String| Fault::usage(reason).hint("write NAME:ADDRESS, for example db:10.0.0.7");
        let split = text.split_once('=').or_else(|| text.split_once(':'));
        let Some((name, address)) = split.filter(|(name, _)| !name.is_empty()) else {
            return Err(wrong(format!("the host `{text}` has no name or no address")));
        };
        if name.chars().any(|c| c.is_whitespace() || c.is_control() || c == '#') {
            return Err(wrong(format!("`{}` is no name of a host", name.escape_debug())));
        }
        if address == "host-gateway" {
            let fault = Fault::usage(format!("the host `{text}` is not possible: a build does not reach this machine"));
            return Err(fault.hint("name the address of the machine that is meant"));
        }
        let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
        let address = bare.parse().map_err(|_| wrong(format!("`{address}` is no address of a host")))?;
        Ok((name.to_owned(), address))
    };
    given.iter().map(read).collect()
}

/// Reads `NAME=SOFT[:HARD]`; -1 is no limit.
pub fn ulimit(text: &str) -> Result<Ulimit> {
    const NAMES: [&str; 15] = [
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    ];
    let wrong =
        |reason: String| Fault::usage(reason).hint("write NAME=SOFT or NAME=SOFT:HARD, for example nofile=1024:4096");
    let (name, values) = text.split_once('=').ok_or_else(|| wrong(format!("the limit `{text}` has no value")))?;
    if !NAMES.contains(&name) {
        let near = ::build::diagnostic::did_you_mean(name, NAMES).map(|near| format!("did you mean `{near}`?"));
        let hint = near.unwrap_or_else(|| format!("there are {}", NAMES.join(", ")));
        return Err(Fault::usage(format!("there is no limit `{name}`")).hint(hint));
    }
    let number = |text: &str| match text {
        "-1" | "unlimited" => Ok(u64::MAX),
        text => text.parse::<u64>().map_err(|_| wrong(format!("the limit {name}: `{text}` is no number"))),
    };
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let (soft, hard) = (number(soft)?, number(hard)?);
    if soft > hard {
        return Err(wrong(format!("the limit {name}: the soft one is above the hard one")));
    }
    Ok(Ulimit { name: name.to_owned(), soft, hard })
}

/// Reads a size; 0 stands for the usual one.
pub fn shm_size(text: &str) -> Result<Option<u64>> {
    let size = ::build::size(text).ok_or_else(|| Fault::usage(format!("`{text}` is no size for /dev/shm")));
    Ok(Some(size.map_err(|fault| fault.hint("for example 128m"))?).filter(|size| *size > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_are_told_apart() {
        let given = |texts: &[&str], platforms: &[&str]| {
            let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
            let platforms: Vec<Platform> = platforms.iter().map(|text| Platform::parse(text).unwrap()).collect();
            annotations(&texts, &platforms)
        };
        let both = ["linux/amd64", "linux/arm64"];
        let all = given(
            &["a=1", "index,manifest:b=2", "manifest[linux/arm64]:c=3", "manifest-descriptor:d=4", "e:f=5"],
            &both,
        );
        let all = all.unwrap();
        let names = |map: &BTreeMap<String, String>| map.keys().cloned().collect::<Vec<_>>().join(" ");
        assert_eq!((names(&all.manifests), names(&all.index)), ("a b e:f".into(), "b".into()));
        assert_eq!(all.platforms, [(Platform::parse("linux/arm64").unwrap(), "c".into(), "3".into())]);
        assert_eq!(all.descriptors, [(None, "d".into(), "4".into())]);
        for (text, why) in [
            ("manifest-descriptor:a=1", "only several platforms"),
            ("manifest[linux/s390x]:a=1", "not built"),
            ("index-descriptor:a=1", "not possible"),
        ] {
            assert!(given(&[text], &[]).unwrap_err().message.contains(why), "{text}");
        }
    }

    #[test]
    fn hosts_limits_and_sizes_are_read() {
        let host = |text: &str| hosts(&[text.to_owned()]).map(|all| all[0].1.to_string());
        assert_eq!(host("a:10.0.0.1").unwrap(), "10.0.0.1");
        assert_eq!(host("a=[::1]").unwrap(), "::1");
        assert_eq!(host("a:::1").unwrap(), "::1");
        for wrong in ["a", ":1.2.3.4", "a:b", "a b:1.2.3.4", "a:host-gateway"] {
            assert!(host(wrong).is_err(), "{wrong}");
        }
        let limit = |text: &str| ulimit(text).map(|limit| (limit.soft, limit.hard));
        assert_eq!(limit("nofile=5").unwrap(), (5, 5));
        assert_eq!(limit("core=0:-1").unwrap(), (0, u64::MAX));
        for wrong in ["nofile", "nofiles=1", "nofile=x", "nofile=2:1"] {
            assert!(limit(wrong).is_err(), "{wrong}");
        }
        assert_eq!((shm_size("2m").unwrap(), shm_size("0").unwrap()), (Some(2 << 20), None));
        assert!(shm_size("much").is_err());
    }
}
