//! `launch.toml`, processes, and `metadata.toml`, which the launcher reads.

use serde::{Deserialize, Serialize};

use crate::{Error, Result, api::Api, error::parse, plan::Member};

/// How the image can be started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Process {
    #[serde(rename = "type")]
    pub kind: String,
    pub command: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Without a shell.
    #[serde(default)]
    pub direct: bool,
    #[serde(default, skip_serializing)]
    pub default: bool,
    #[serde(default, rename(serialize = "buildpack-id", deserialize = "buildpack-id"))]
    pub buildpack: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exec_env: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    pub key: String,
    pub value: String,
}

/// Files of the application that become a layer of their own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slice {
    #[serde(default)]
    pub paths: Vec<String>,
}

/// `launch.toml` of one buildpack.
#[derive(Debug, Clone, Default)]
pub struct Launch {
    pub labels: Vec<Label>,
    pub processes: Vec<Process>,
    pub slices: Vec<Slice>,
}

impl Launch {
    /// Reads it as a buildpack of this API writes it: a command was one text for a shell before 0.9, and is a list since.
    pub fn parse(file: &str, text: &str, api: Api, buildpack: &str) -> Result<Self> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Command {
            One(String),
            Many(Vec<String>),
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "kebab-case")]
        struct Raw {
            #[serde(rename = "type")]
            kind: String,
            command: Command,
            #[serde(default)]
            args: Vec<String>,
            direct: Option<bool>,
            #[serde(default)]
            default: bool,
            #[serde(default)]
            working_dir: String,
            #[serde(default)]
            exec_env: Vec<String>,
        }
        #[derive(Deserialize)]
        struct File {
            #[serde(default)]
            labels: Vec<Label>,
            #[serde(default)]
            processes: Vec<Raw>,
            #[serde(default)]
            slices: Vec<Slice>,
        }
        let read: File = parse(file, text)?;
        let wrong = |message: String| Error::document(file, message);
        let mut processes: Vec<Process> = Vec::new();
        for raw in read.processes {
            check_type(&raw.kind).map_err(wrong)?;
            let old = api < Api::new(0, 9);
            let (command, direct) = match (raw.command, raw.direct) {
                (Command::One(command), direct) if old => (vec![command], direct.unwrap_or(false)),
                (Command::Many(_), _) if old => {
                    return Err(wrong(format!(
                        "process {}: before API 0.9 a command is one text, not a list",
                        raw.kind
                    )));
                }
                (_, Some(_)) => {
                    return Err(wrong(format!("process {}: `direct` is gone since API 0.9", raw.kind)));
                }
                (Command::One(_), None) => {
                    return Err(wrong(format!("process {}: since API 0.9 a command is a list", raw.kind)));
                }
                (Command::Many(command), None) => (command, true),
            };
            if command.is_empty() {
                return Err(wrong(format!("process {} has no command", raw.kind)));
            }
            if raw.default && processes.iter().any(|other| other.default) {
                return Err(wrong("two processes are the default".into()));
            }
            // Working directories came with 0.8.
            let working_dir = if api < Api::new(0, 8) { String::new() } else { raw.working_dir };
            processes.push(Process {
                kind: raw.kind,
                command,
                args: raw.args,
                direct,
                default: raw.default,
                buildpack: buildpack.to_owned(),
                working_dir,
                exec_env: raw.exec_env,
            });
        }
        Ok(Self { labels: read.labels, processes, slices: read.slices })
    }
}

fn check_type(kind: &str) -> Result<(), String> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    match !kind.is_empty() && kind.chars().all(good) && kind != "." && kind != ".." {
        true => Ok(()),
        false => Err(format!("`{kind}` is no type of a process: letters, digits, `.`, `_` and `-`")),
    }
}

/// Processes of all buildpacks: later ones replace earlier ones of the same type.
#[derive(Debug, Clone, Default)]
pub struct Processes {
    all: std::collections::BTreeMap<String, Process>,
    pub default: Option<String>,
}

impl Processes {
    /// Adds those of the next buildpack. Says so when the default is replaced by one that is none.
    pub fn add(&mut self, more: Vec<Process>) -> Option<String> {
        let mut warning = None;
        for process in more {
            if process.default {
                self.default = Some(process.kind.clone());
                warning = None;
            } else if self.default.as_ref() == Some(&process.kind) {
                self.default = None;
                warning = Some(format!(
                    "buildpack {} defines the default process {} anew, and not as default: the image has no default",
                    process.buildpack, process.kind
                ));
            }
            self.all.insert(process.kind.clone(), process);
        }
        warning
    }

    /// By type.
    pub fn list(&self) -> Vec<Process> {
        self.all.values().cloned().collect()
    }
}

/// What the build phase leaves for export and launch.
#[derive(Debug, Clone, Default)]
pub struct Metadata {
    pub buildpacks: Vec<Member>,
    pub processes: Vec<Process>,
    pub default: Option<String>,
    pub labels: Vec<Label>,
    pub slices: Vec<Slice>,
}

impl Metadata {
    /// `config/metadata.toml`.
    pub fn document(&self) -> String {
        #[derive(Serialize)]
        #[serde(rename_all = "kebab-case")]
        struct File<'a> {
            #[serde(skip_serializing_if = "Option::is_none")]
            buildpack_default_process_type: Option<&'a String>,
            buildpacks: &'a [Member],
            #[serde(skip_serializing_if = "<[Label]>::is_empty")]
            labels: &'a [Label],
            #[serde(skip_serializing_if = "<[Process]>::is_empty")]
            processes: &'a [Process],
            #[serde(skip_serializing_if = "<[Slice]>::is_empty")]
            slices: &'a [Slice],
        }
        crate::write::document(&File {
            buildpack_default_process_type: self.default.as_ref(),
            buildpacks: &self.buildpacks,
            labels: &self.labels,
            processes: &self.processes,
            slices: &self.slices,
        })
    }

    /// The entry point: what was asked for, the buildpacks' default, or the launcher alone.
    pub fn entrypoint(&self, asked: Option<&str>) -> Result<String> {
        let at = |kind: &str| format!("/cnb/process/{kind}");
        match (asked, &self.default) {
            (Some(kind), _) if self.processes.iter().any(|process| process.kind == kind) => Ok(at(kind)),
            (Some(kind), _) => {
                let known: Vec<&str> = self.processes.iter().map(|process| process.kind.as_str()).collect();
                Err(Error::Image(format!("no buildpack defines the process {kind}; there are: {}", known.join(", "))))
            }
            (None, Some(kind)) => Ok(at(kind)),
            (None, None) => Ok("/cnb/lifecycle/launcher".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn processes(api: Api, text: &str) -> Result<Vec<Process>> {
        Launch::parse("launch.toml", text, api, "b").map(|launch| launch.processes)
    }

    #[test]
    fn commands_are_lists_since_0_9() {
        let list = "[[processes]]\ntype = \"web\"\ncommand = [\"a\", \"b\"]\nworking-dir = \"/x\"\n";
        let text = "[[processes]]\ntype = \"web\"\ncommand = \"a b\"\nworking-dir = \"/x\"\n";
        assert!(processes(Api::new(0, 9), list).unwrap()[0].direct);
        let old = processes(Api::new(0, 7), text).unwrap();
        assert!(!old[0].direct && old[0].working_dir.is_empty());
        assert_eq!(processes(Api::new(0, 8), text).unwrap()[0].working_dir, "/x");
        for (api, text, why) in [
            (Api::new(0, 9), text.to_owned(), "is a list"),
            (Api::new(0, 8), list.to_owned(), "one text"),
            (Api::new(0, 9), format!("{list}direct = true\n"), "`direct` is gone"),
            (Api::new(0, 9), list.replace("web", "a/b"), "no type"),
            (Api::new(0, 9), list.replace("[\"a\", \"b\"]", "[]"), "no command"),
            (
                Api::new(0, 9),
                format!("{list}default = true\n{}default = true\n", list.replace("web", "x")),
                "two processes",
            ),
        ] {
            let error = processes(api, &text).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn later_buildpacks_replace_processes_and_the_default() {
        let process = |kind: &str, default| Process {
            kind: kind.into(),
            default,
            command: vec!["x".into()],
            ..Process::default()
        };
        let mut all = Processes::default();
        assert!(all.add(vec![process("web", true), process("a", false)]).is_none());
        assert_eq!(all.default.as_deref(), Some("web"));
        assert!(all.add(vec![process("web", false)]).unwrap().contains("no default"));
        assert_eq!(all.default, None);
        all.add(vec![process("a", true)]);
        assert_eq!((all.default.as_deref(), all.list().len()), (Some("a"), 2));
        let metadata = Metadata { processes: all.list(), default: all.default, ..Metadata::default() };
        assert_eq!(metadata.entrypoint(None).unwrap(), "/cnb/process/a");
        assert_eq!(metadata.entrypoint(Some("web")).unwrap(), "/cnb/process/web");
        assert!(metadata.entrypoint(Some("x")).unwrap_err().to_string().contains("a, web"));
        assert_eq!(Metadata::default().entrypoint(None).unwrap(), "/cnb/lifecycle/launcher");
    }
}
