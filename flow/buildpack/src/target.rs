//! What an image runs on, and what a buildpack says it can make images for.

use serde::{Deserialize, Serialize};

/// A target of `buildpack.toml`, or of a run image (which has one distribution at most). Empty means any.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub os: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub arch: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub distros: Vec<Distro>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Distro {
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub version: String,
}

/// A field that says nothing matches anything.
fn fits(one: &str, other: &str) -> bool {
    one.is_empty() || other.is_empty() || one == other
}

impl Target {
    /// The target of an image: its configuration and labels, as `docker inspect` shows them, lower case.
    pub fn of_config(config: &serde_json::Value) -> Self {
        let text = |name: &str| config[name].as_str().unwrap_or_default().to_owned();
        let labels = &config["config"]["Labels"];
        let label = |name: &str| labels[name].as_str().unwrap_or_default().to_owned();
        let (name, version) = (label("io.buildpacks.base.distro.name"), label("io.buildpacks.base.distro.version"));
        // Images of before there were targets.
        let bionic = label("io.buildpacks.stack.id") == "io.buildpacks.stacks.bionic" && name.is_empty();
        let distros = match (bionic, name.is_empty() && version.is_empty()) {
            (true, _) => vec![Distro { name: "ubuntu".into(), version: "18.04".into() }],
            (_, true) => Vec::new(),
            _ => vec![Distro { name, version }],
        };
        Self { os: text("os"), arch: text("architecture"), variant: text("variant"), distros }
    }

    /// Whether a buildpack for `self` makes what runs on the image `base`.
    pub fn satisfies(&self, base: &Self) -> bool {
        fits(&self.os, &base.os)
            && fits(&self.arch, &base.arch)
            && fits(&self.variant, &base.variant)
            && (self.distros.is_empty()
                || base.distros.is_empty()
                || self.distros.iter().any(|mine| {
                    base.distros.iter().any(|its| fits(&mine.name, &its.name) && fits(&mine.version, &its.version))
                }))
    }

    /// The variables that tell buildpacks.
    pub fn variables(&self) -> Vec<(String, String)> {
        let distro = self.distros.first().cloned().unwrap_or_default();
        [
            ("CNB_TARGET_OS", &self.os),
            ("CNB_TARGET_ARCH", &self.arch),
            ("CNB_TARGET_ARCH_VARIANT", &self.variant),
            ("CNB_TARGET_DISTRO_NAME", &distro.name),
            ("CNB_TARGET_DISTRO_VERSION", &distro.version),
        ]
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| (name.to_owned(), value.clone()))
        .collect()
    }
}

/// Name and version of the distribution that an `/etc/os-release` describes.
pub fn os_release(text: &str) -> Option<Distro> {
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix('='))?;
        Some(line.trim_matches(['"', '\'']).to_owned())
    };
    Some(Distro { name: value("ID")?, version: value("VERSION_ID").unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(os: &str, arch: &str, distro: Option<(&str, &str)>) -> Target {
        let distros = distro.into_iter().map(|(n, v)| Distro { name: n.into(), version: v.into() }).collect();
        Target { os: os.into(), arch: arch.into(), variant: String::new(), distros }
    }

    #[test]
    fn what_is_not_said_fits_everything() {
        let base = target("linux", "amd64", Some(("debian", "13")));
        for (mine, fits) in [
            (target("", "", None), true),
            (target("linux", "", None), true),
            (target("linux", "arm64", None), false),
            (target("windows", "", None), false),
            (target("linux", "amd64", Some(("debian", ""))), true),
            (target("linux", "amd64", Some(("ubuntu", "24.04"))), false),
            (target("linux", "amd64", Some(("debian", "12"))), false),
        ] {
            assert_eq!(mine.satisfies(&base), fits, "{mine:?}");
        }
    }

    #[test]
    fn a_bionic_stack_and_os_release_name_a_distribution() {
        let config = serde_json::json!({"os": "linux", "architecture": "amd64",
            "config": {"Labels": {"io.buildpacks.stack.id": "io.buildpacks.stacks.bionic"}}});
        assert_eq!(Target::of_config(&config), target("linux", "amd64", Some(("ubuntu", "18.04"))));
        let found = os_release("PRETTY_NAME=\"Debian\"\nID=debian\nVERSION_ID=\"13\"\n").unwrap();
        assert_eq!((found.name.as_str(), found.version.as_str()), ("debian", "13"));
        assert_eq!(target("linux", "amd64", None).variables().len(), 2);
    }
}
