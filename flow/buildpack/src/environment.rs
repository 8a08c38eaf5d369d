//! The environment of buildpacks, and how they change it for each other.

use std::collections::BTreeMap;

use crate::{
    Result, files,
    runner::{Ground, Place},
};

/// Of the builder's own environment, buildpacks see these and the variables of paths.
const KEPT: [&str; 9] = [
    "CNB_STACK_ID",
    "HOSTNAME",
    "HOME",
    "HTTPS_PROXY",
    "https_proxy",
    "HTTP_PROXY",
    "http_proxy",
    "NO_PROXY",
    "no_proxy",
];

/// Directories of a layer and the variables that list them, while building.
const ROOTS: [(&str, &[&str]); 4] = [
    ("bin", &["PATH"]),
    ("lib", &["LD_LIBRARY_PATH", "LIBRARY_PATH"]),
    ("include", &["CPATH"]),
    ("pkgconfig", &["PKG_CONFIG_PATH"]),
];

/// What a file without a suffix does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plain {
    Override,
    Default,
}

/// Variables, as far as buildpacks have changed them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    vars: BTreeMap<String, String>,
}

fn is_path(name: &str) -> bool {
    ROOTS.iter().any(|(_, names)| names.contains(&name))
}

impl Environment {
    /// The beginning, from the builder image's environment.
    pub fn for_build(env: &[(String, String)]) -> Self {
        let kept = env.iter().filter(|(name, _)| KEPT.contains(&name.as_str()) || is_path(name));
        Self { vars: kept.cloned().collect() }
    }

    pub fn vars(&self) -> &BTreeMap<String, String> {
        &self.vars
    }

    fn get(&self, name: &str) -> &str {
        self.vars.get(name).map_or("", String::as_str)
    }

    fn before(&mut self, name: &str, value: &str, delimiter: &str) {
        let old = self.get(name);
        let new = if old.is_empty() { value.to_owned() } else { format!("{value}{delimiter}{old}") };
        self.vars.insert(name.to_owned(), new);
    }

    /// The directories of a layer are put before the lists of paths.
    pub fn add_root(&mut self, layer: &Place) {
        for (directory, names) in ROOTS {
            let place = layer.join(directory);
            if files::exists(&place.host) {
                names.iter().for_each(|name| self.before(name, &place.inside, ":"));
            }
        }
    }

    /// Applies files: name with a suffix that says how, and content. A suffix that nobody knows is nothing.
    pub fn apply(&mut self, files: &[(String, String)], plain: Plain) {
        for (file, value) in files {
            let (name, how) = file.split_once('.').unwrap_or((file, ""));
            let delimiter = format!("{name}.delim");
            let delimiter = files.iter().find(|(file, _)| *file == delimiter).map_or("", |(_, value)| value.as_str());
            match (how, plain) {
                ("prepend", _) => self.before(name, value, delimiter),
                ("append", _) => {
                    let old = self.get(name);
                    let new = if old.is_empty() { value.clone() } else { format!("{old}{delimiter}{value}") };
                    self.vars.insert(name.to_owned(), new);
                }
                ("override", _) | ("", Plain::Override) => drop(self.vars.insert(name.to_owned(), value.clone())),
                ("default", _) | ("", Plain::Default) if self.get(name).is_empty() => {
                    self.vars.insert(name.to_owned(), value.clone());
                }
                _ => {}
            }
        }
    }

    /// What one program sees: the user's variables (unless it wants none) and then the operator's.
    pub fn with_overrides(&mut self, ground: &Ground, user: bool) -> Result<BTreeMap<String, String>> {
        let mut all = self.clone();
        if user {
            let directory = ground.platform.host.join("env");
            for (name, value) in files::variables(&ground.platform.host, &directory)? {
                match is_path(&name) {
                    true => all.before(&name, &value, ":"),
                    false => drop(all.vars.insert(name, value)),
                }
            }
        }
        if let Some(config) = &ground.build_config {
            all.apply(&files::variables(&config.host, &config.host.join("env"))?, Plain::Default);
        }
        Ok(all.vars)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(start: &[(&str, &str)], files: &[(&str, &str)]) -> BTreeMap<String, String> {
        let own =
            |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect::<Vec<_>>();
        let mut env = Environment { vars: own(start).into_iter().collect() };
        env.apply(&own(files), Plain::Override);
        env.vars
    }

    #[test]
    fn suffixes_say_how() {
        for (old, files, new) in [
            ("", &[("A", "1")][..], "1"),
            ("0", &[("A", "1")], "1"),
            ("0", &[("A.override", "1")], "1"),
            ("0", &[("A.default", "1")], "0"),
            ("", &[("A.default", "1")], "1"),
            ("0", &[("A.append", "1")], "01"),
            ("0", &[("A.append", "1"), ("A.delim", "-")], "0-1"),
            ("0", &[("A.delim", "-"), ("A.prepend", "1")], "1-0"),
            ("", &[("A.delim", "-"), ("A.prepend", "1")], "1"),
            ("0", &[("A.append", "2"), ("A.delim", ":"), ("A.prepend", "1")], "1:0:2"),
            ("0", &[("A.what", "1")], "0"),
        ] {
            assert_eq!(applied(&[("A", old)], files)["A"], new, "{old} {files:?}");
        }
    }

    #[test]
    fn buildpacks_see_a_part_of_the_builders_environment() {
        let env: Vec<(String, String)> =
            ["HOME", "PATH", "CPATH", "SECRET", "CNB_USER_ID"].map(|name| (name.to_owned(), "x".to_owned())).into();
        let kept = Environment::for_build(&env);
        assert_eq!(kept.vars().keys().map(String::as_str).collect::<Vec<_>>(), ["CPATH", "HOME", "PATH"]);
    }
}
