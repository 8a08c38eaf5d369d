//! A project on a server under test, with the working tree of somebody who works on it.

use std::{
    io::{BufRead, BufReader, Lines},
    process::{Child, ChildStdout, Command, Stdio},
};

use serde_json::{Value, json};

use crate::{Shipway, WorkTree};

/// A project and a clone of it that pushes to it.
pub struct Project<'s> {
    pub server: &'s Shipway,
    pub name: String,
    pub tree: WorkTree,
}

/// A line of a step's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// `stdout`, `stderr`, `note`
    pub stream: String,
    pub text: String,
}

impl Line {
    fn parse(line: &str) -> Self {
        let line: Value =
            serde_json::from_str(line).unwrap_or_else(|e| panic!("a line of a log is no JSON ({e}): {line}"));
        let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
        Self { stream: text("stream"), text: text("text") }
    }
}

/// A log that is followed; it is let go of when dropped.
pub struct Followed {
    curl: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Iterator for Followed {
    type Item = Line;

    fn next(&mut self) -> Option<Line> {
        self.lines.next().and_then(Result::ok).map(|line| Line::parse(&line))
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        let _ = self.curl.kill();
        let _ = self.curl.wait();
    }
}

/// The word for where a run or a step is.
pub fn state(record: &Value) -> &str {
    record["state"]["type"].as_str().unwrap_or("–")
}

impl Shipway {
    /// Makes a project and a working tree that pushes to it.
    #[track_caller]
    pub fn project(&self, name: &str) -> Project<'_> {
        let made = self.ask("POST", "/api/v1/projects", Some(&json!({ "name": name })));
        assert_eq!(made.status, 201, "{made:?}");
        let tree = WorkTree::new(Some(&self.token()));
        tree.git(&["remote", "add", "origin", &self.git_url(name)]).ok();
        Project { server: self, name: name.to_owned(), tree }
    }
}

impl Project<'_> {
    /// Commits these files on top of what is there and pushes; gives the commit's id.
    #[track_caller]
    pub fn push(&self, files: &[(&str, &str)]) -> String {
        for (path, content) in files {
            self.tree.write(path, content);
        }
        let commit = self.tree.commit(&format!("Change {} files", files.len()));
        self.tree.git(&["push", "--quiet", "origin", "main"]).ok();
        commit
    }

    fn path(&self, below: &str) -> String {
        format!("/api/v1/projects/{}{below}", self.name)
    }

    #[track_caller]
    pub fn json(&self, below: &str) -> Value {
        self.server.json(&self.path(below))
    }

    #[track_caller]
    pub fn run(&self, build: u64) -> Value {
        self.json(&format!("/runs/{build}"))
    }

    /// Waits until the run has ended.
    #[track_caller]
    pub fn ended(&self, build: u64) -> Value {
        self.server.wait_for(&format!("run {}/{build} ends", self.name), || {
            let run = self.server.get(&self.path(&format!("/runs/{build}")));
            match run.status {
                200 => {}
                _ => return Err(run.body),
            }
            let run = run.json();
            match state(&run) {
                "passed" | "failed" | "cancelled" => Ok(run),
                _ => Err(run.to_string()),
            }
        })
    }

    /// Waits until the run has passed; a panic with its logs when it has not.
    #[track_caller]
    pub fn passed(&self, build: u64) -> Value {
        let run = self.ended(build);
        assert_eq!(state(&run), "passed", "{run:#}\n{}", self.logs(build));
        run
    }

    /// Waits until the run has failed, and gives the reason.
    #[track_caller]
    pub fn failed(&self, build: u64) -> String {
        let run = self.ended(build);
        assert_eq!(state(&run), "failed", "{run:#}\n{}", self.logs(build));
        run["state"]["reason"].as_str().unwrap_or_default().to_owned()
    }

    /// Waits until a step is in a state.
    #[track_caller]
    pub fn wait_for_step(&self, build: u64, step: &str, wanted: &str) -> Value {
        self.server.wait_for(&format!("step {step} of run {}/{build} is {wanted}", self.name), || {
            let run = self.server.get(&self.path(&format!("/runs/{build}")));
            let found = (run.status == 200).then(|| self::step(&run.json(), step).cloned()).flatten();
            found.filter(|step| state(step) == wanted).ok_or(run.body)
        })
    }

    fn log_url(&self, build: u64, step: &str, follow: bool) -> String {
        let step = step.replace('/', "%2F");
        self.server.url(&self.path(&format!("/runs/{build}/logs/{step}?follow={follow}")))
    }

    #[track_caller]
    pub fn log(&self, build: u64, step: &str) -> Vec<Line> {
        let answer = crate::Answer::fetch(&[&self.log_url(build, step, false)], b"");
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body.lines().map(Line::parse).collect()
    }

    /// What the step wrote to its standard output, one string.
    #[track_caller]
    pub fn out(&self, build: u64, step: &str) -> String {
        let lines = self.log(build, step).into_iter().filter(|line| line.stream == "stdout");
        lines.map(|line| line.text + "\n").collect()
    }

    /// Follows a log while the step runs: one line after the other, as they come.
    pub fn follow(&self, build: u64, step: &str) -> Followed {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--no-buffer", "--noproxy", "*", "--max-time", "120"]);
        curl.arg(self.log_url(build, step, true)).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = curl.spawn().unwrap_or_else(|e| panic!("cannot run curl: {e}"));
        let stdout = child.stdout.take().expect("it is piped");
        Followed { curl: child, lines: BufReader::new(stdout).lines() }
    }

    /// All logs of a run, for a message.
    pub fn logs(&self, build: u64) -> String {
        let run = self.run(build);
        let names = run["steps"].as_array().into_iter().flatten().filter_map(|step| step["name"].as_str());
        let log = |name: &str| {
            let lines: String = self.log(build, name).into_iter().map(|line| format!("  {}\n", line.text)).collect();
            format!("{name}:\n{lines}")
        };
        names.map(log).collect()
    }
}

/// A step of a run.
fn step<'r>(run: &'r Value, name: &str) -> Option<&'r Value> {
    run["steps"].as_array()?.iter().find(|step| step["name"] == name)
}

impl Project<'_> {
    /// A step of a run that has it.
    #[track_caller]
    pub fn step(&self, run: &Value, name: &str) -> Value {
        step(run, name).cloned().unwrap_or_else(|| panic!("the run has no step {name}: {run:#}"))
    }
}
