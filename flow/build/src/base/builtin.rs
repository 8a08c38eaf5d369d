//! The base images that come with Shipway.

use std::collections::BTreeMap;

use super::definition::{DEFAULT_SUITE, Definition, ExtraFile, User};

/// Needed only by maintainer scripts, which are never run: package configuration, accounts, services and their languages.
pub(super) const SCRIPTS_ONLY: [&str; 12] = [
    "adduser",
    "cdebconf",
    "debconf",
    "debconf-2.0",
    "dpkg",
    "init-system-helpers",
    "install-info",
    "lsb-base",
    "passwd",
    "perl-base",
    "sysvinit-utils",
    "ucf",
];

/// Names of the built-in base images.
pub const NAMES: [&str; 5] = ["debian", "node", "node-runtime", "redis", "runtime"];

/// A built-in base image.
pub fn builtin(name: &str) -> Option<Definition> {
    match name {
        "debian" => Some(debian()),
        "node" => Some(node()),
        "node-runtime" => Some(node_runtime()),
        "redis" => Some(redis()),
        "runtime" => Some(runtime()),
        _ => None,
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// A definition without packages: what all have in common.
pub(super) fn bare(name: &str, description: &str) -> Definition {
    Definition {
        name: name.into(),
        suite: DEFAULT_SUITE.into(),
        description: description.into(),
        packages: Vec::new(),
        exclude: words(&SCRIPTS_ONLY),
        users: vec![User {
            name: "nonroot".into(),
            uid: 65532,
            home: "/home/nonroot".into(),
            shell: "/usr/sbin/nologin".into(),
        }],
        user: String::new(),
        working_dir: String::new(),
        env: BTreeMap::from([("SSL_CERT_FILE".into(), super::assemble::CERTIFICATES.into())]),
        entrypoint: Vec::new(),
        cmd: Vec::new(),
        labels: BTreeMap::new(),
        expose: Vec::new(),
        stop_signal: None,
        shell: false,
        files: Vec::new(),
        drop: Vec::new(),
        architecture: None,
        snapshot: None,
        package_manager: false,
        timezone: None,
        certificates: Vec::new(),
        copied: Vec::new(),
    }
}

/// What a compiled program needs, and no shell.
fn runtime() -> Definition {
    let mut definition = bare("runtime", "What a compiled program needs: libc, certificates, time zones. No shell.");
    definition.packages =
        words(&["base-files", "ca-certificates", "libc6", "libgcc-s1", "libstdc++6", "netbase", "tzdata"]);
    // Its maintainer script needs awk; its certificates do not need the tool.
    definition.exclude.extend(words(&["awk", "openssl"]));
    definition.user = "65532:65532".into();
    definition.working_dir = "/home/nonroot".into();
    definition
}

fn node_runtime() -> Definition {
    let mut definition = runtime();
    definition.name = "node-runtime".into();
    definition.description = "Node.js and what it needs. No shell, no package manager.".into();
    definition.packages.push("nodejs".into());
    // The installer of package managers and the types for compilers are not needed to run.
    definition.exclude.push("node-corepack".into());
    definition.drop = words(&["usr/share/nodejs/@types", "usr/share/systemtap"]);
    definition.env.insert("NODE_ENV".into(), "production".into());
    definition.entrypoint = words(&["/usr/bin/node"]);
    definition
}

/// A shell and the tools that commands in pipelines take for granted.
fn debian() -> Definition {
    let mut definition = bare("debian", "Debian with a shell and the usual tools, to run commands in.");
    definition.packages = words(&[
        "base-files",
        "bash",
        "ca-certificates",
        "coreutils",
        "curl",
        "dash",
        "debianutils",
        "diffutils",
        "findutils",
        "grep",
        "gzip",
        "hostname",
        "libstdc++6",
        "mawk",
        "netbase",
        "procps",
        "sed",
        "tar",
        "tzdata",
        "util-linux",
    ]);
    definition.shell = true;
    definition.cmd = words(&["/bin/sh"]);
    let link = |path: &str, target: &str| ExtraFile {
        path: path.into(),
        content: None,
        link: Some(target.into()),
        mode: None,
        owner: 0,
    };
    // What `update-alternatives` would set.
    definition.files = vec![link("/usr/bin/awk", "mawk"), link("/usr/bin/which", "which.debianutils")];
    definition
}

fn node() -> Definition {
    let mut definition = debian();
    definition.name = "node".into();
    definition.description = "Node.js with a shell and the usual tools, to test and build with.".into();
    definition.packages.extend(words(&["git", "nodejs"]));
    // Git's mail and interactive commands are in Perl, and are not needed to read a repository.
    definition.exclude.extend(words(&["git-man", "liberror-perl", "node-corepack", "perl"]));
    definition
}

fn redis() -> Definition {
    let mut definition = bare("redis", "The Redis server. No shell.");
    definition.packages = words(&["base-files", "ca-certificates", "netbase", "redis-server", "tzdata"]);
    definition.exclude.extend(words(&["awk", "openssl"]));
    definition.users =
        vec![User { name: "redis".into(), uid: 999, home: "/var/lib/redis".into(), shell: "/usr/sbin/nologin".into() }];
    definition.user = "999:999".into();
    definition.working_dir = "/var/lib/redis".into();
    definition.expose = words(&["6379/tcp"]);
    definition.stop_signal = Some("SIGTERM".into());
    definition.entrypoint = words(&["/usr/bin/redis-server"]);
    // Reachable from other containers, as an image is for; data stays in the working directory.
    definition.cmd = words(&["--bind", "*", "-::*", "--protected-mode", "no", "--dir", "/var/lib/redis"]);
    // Services of init systems and log rotation have no place in a container.
    definition.drop = words(&["etc/init.d", "etc/logrotate.d", "usr/lib/systemd"]);
    definition
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_a_valid_definition() {
        for name in NAMES {
            let definition = builtin(name).unwrap();
            definition.check().unwrap();
            assert_eq!(definition.name, name);
            assert_eq!(definition.shell, definition.packages.contains(&"dash".to_owned()), "{name}");
        }
        assert!(builtin("none").is_none());
    }
}
