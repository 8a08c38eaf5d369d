//! Post-renderers that are installed as plugins of Helm 4. No other plugins are run.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::places;
use crate::fault::{Class, Fault, Result};

/// Bytes of a `plugin.yaml` at most.
const LARGEST: u64 = 1 << 20;
const KIND: &str = "postrenderer/v1";

/// A post-renderer of this machine.
#[derive(Debug)]
pub struct Plugin {
    pub name: String,
    pub directory: PathBuf,
    described: Value,
}

/// The post-renderer of this name in the directories of plugins, if there is one.
pub fn find(name: &str) -> Result<Option<Plugin>> {
    let directories = places::plugins();
    for directory in std::env::split_paths(&directories) {
        let mut found: Vec<PathBuf> = std::fs::read_dir(&directory)
            .map(|entries| entries.flatten().map(|entry| entry.path().join("plugin.yaml")).collect())
            .unwrap_or_default();
        found.sort();
        for file in found.iter().filter(|file| file.is_file()) {
            let described = match read(file) {
                Ok(described) => described,
                // As with helm: one that cannot be read takes nothing from the others.
                Err(why) => {
                    super::warned(format!("WARNING: {} cannot be read: {why}", file.display()));
                    continue;
                }
            };
            if described["name"] == name && described["type"] == KIND {
                let directory = file.parent().unwrap_or(Path::new(".")).to_owned();
                return Plugin { name: name.to_owned(), directory, described }.checked().map(Some);
            }
        }
    }
    Ok(None)
}

fn read(file: &Path) -> std::result::Result<Value, String> {
    let length = std::fs::metadata(file).map_err(|e| e.to_string())?.len();
    if length > LARGEST {
        return Err(format!("it has {length} bytes, {LARGEST} are allowed"));
    }
    let text = std::fs::read_to_string(file).map_err(|e| e.to_string())?;
    let value = yaml::from_str(&text).map_err(|e| e.to_string())?;
    serde_json::to_value(&value).map_err(|e| e.to_string())
}

impl Plugin {
    fn checked(self) -> Result<Self> {
        let name = &self.name;
        match self.described["runtime"].as_str() {
            Some("subprocess") => self.command(&[]).map(|_| self),
            other => Err(Fault::usage(format!(
                "post-renderer plugin {name:?} runs in `{}`, which is not there; only `subprocess` is",
                other.unwrap_or_default()
            ))
            .hint("give --post-renderer the path of a program that reads standard input and writes standard output")),
        }
    }

    /// Its program for this machine and the arguments: its own, then those given.
    pub fn command(&self, given: &[String]) -> Result<(String, Vec<String>)> {
        let commands = self.described.pointer("/runtimeConfig/platformCommand").and_then(Value::as_array);
        let chosen = commands.and_then(|commands| chosen(commands, system(), architecture()));
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let words = chosen.map(|chosen| text(&chosen["command"])).unwrap_or_default();
        let mut words = words.split(' ').map(|word| self.expand(word));
        let Some(program) = words.next().filter(|program| !program.is_empty()) else {
            return Err(Fault::new(
                Class::Failed,
                format!(
                    "failed to prepare plugin command: no plugin command is applicable: {} has none for {}/{}",
                    self.directory.join("plugin.yaml").display(),
                    system(),
                    architecture()
                ),
            ));
        };
        let mut arguments: Vec<String> = words.collect();
        let own = chosen.and_then(|chosen| chosen["args"].as_array()).into_iter().flatten();
        arguments.extend(own.map(|argument| self.expand(&text(argument))));
        arguments.extend_from_slice(given);
        Ok((program, arguments))
    }

    /// What a plugin is told of itself.
    pub fn environment(&self) -> [(&'static str, String); 2] {
        [("HELM_PLUGIN_NAME", self.name.clone()), ("HELM_PLUGIN_DIR", self.directory.display().to_string())]
    }

    fn expand(&self, text: &str) -> String {
        let own = self.environment();
        expand(text, |name| match own.iter().find(|(known, _)| *known == name) {
            Some((_, value)) => value.clone(),
            None => std::env::var(name).unwrap_or_default(),
        })
    }
}

/// The command for a system and a processor: the one that names both, else the first that names the system alone, else the first that
/// names neither.
fn chosen<'a>(commands: &'a [Value], system: &str, architecture: &str) -> Option<&'a Value> {
    let says = |command: &Value, field: &str| command[field].as_str().unwrap_or_default().to_ascii_lowercase();
    let first = |wanted: (&str, &str)| {
        commands.iter().find(|command| (says(command, "os").as_str(), says(command, "arch").as_str()) == wanted)
    };
    first((system, architecture)).or_else(|| first((system, ""))).or_else(|| first(("", "")))
}

/// `$NAME` and `${NAME}`, as Go's `os.Expand` reads them.
fn expand(text: &str, value: impl Fn(&str) -> String) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(braced) = rest.strip_prefix('{') {
            if let Some((name, behind)) = braced.split_once('}') {
                out.push_str(&value(name));
                rest = behind;
            }
            continue;
        }
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        if end == 0 {
            out.push('$');
            continue;
        }
        out.push_str(&value(&rest[..end]));
        rest = &rest[end..];
    }
    out.push_str(rest);
    out
}

/// As Go names them.
fn system() -> &'static str {
    match std::env::consts::OS {
        "macos" => "darwin",
        other => other,
    }
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "x86" => "386",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_of_this_machine() {
        let commands = serde_json::json!([
            { "command": "any" }, { "os": "linux", "command": "system" }, { "arch": "amd64", "command": "no" },
            { "os": "Linux", "arch": "amd64", "command": "both" }, { "os": "windows", "command": "other" },
        ]);
        let commands = commands.as_array().unwrap();
        let of = |system, architecture| {
            chosen(commands, system, architecture).map(|found| found["command"].as_str().unwrap().to_owned())
        };
        assert_eq!(of("linux", "amd64").as_deref(), Some("both"));
        assert_eq!(of("linux", "arm64").as_deref(), Some("system"));
        assert_eq!(of("darwin", "amd64").as_deref(), Some("any"));
        assert_eq!(chosen(&commands[4..], "linux", "amd64"), None);
    }

    #[test]
    fn variables() {
        let value = |name: &str| format!("<{name}>");
        for (text, expected) in [("${A}/x", "<A>/x"), ("$A_1-$B", "<A_1>-<B>"), ("a$", "a$"), ("plain", "plain")] {
            assert_eq!(expand(text, value), expected);
        }
    }
}
