//! `cargo xtask equal kustomize`: every kustomization below the given directories, built by both. Fetches nothing: no
//! proxy leads anywhere, so remote bases fail on both sides.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};

#[derive(clap::Args)]
pub struct Options {
    /// The original program
    #[arg(long)]
    oracle: PathBuf,
    /// Our program (`shipway`)
    #[arg(long, default_value = "target/release/shipway")]
    ours: PathBuf,
    /// Arguments before the directory for ours
    #[arg(long, value_name = "ARG", default_values = ["kustomize", "build"], allow_hyphen_values = true)]
    ours_args: Vec<String>,
    /// How many of the rest to show
    #[arg(long, default_value_t = 40)]
    show: usize,
    /// Searched for inputs; nothing is fetched
    #[arg(required = true)]
    directories: Vec<PathBuf>,
}

/// What came out for one input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Bytes,
    Meaning,
    Different,
    OnlyOriginal,
    OnlyOurs,
    Neither,
}

impl Outcome {
    fn words(self) -> &'static str {
        match self {
            Self::Bytes => "equal byte for byte",
            Self::Meaning => "equal in meaning",
            Self::Different => "different",
            Self::OnlyOriginal => "only the original succeeds",
            Self::OnlyOurs => "only ours succeeds",
            Self::Neither => "both refuse",
        }
    }
}

pub fn run(options: &Options) -> Result<()> {
    let mut inputs = Vec::new();
    for directory in &options.directories {
        find(directory, &mut inputs)?;
    }
    compare(options, &inputs)
}

const NAMES: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];

/// Directories with a kustomization.
fn find(directory: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    let entries = std::fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?;
    let mut below = Vec::new();
    let mut here = false;
    for entry in entries {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() && entry.file_name() != ".git" {
            below.push(entry.path());
        }
        here |= !kind.is_dir() && NAMES.iter().any(|name| entry.file_name() == *name);
    }
    if here {
        found.push(directory.to_owned());
    }
    below.sort();
    below.iter().try_for_each(|directory| find(directory, found))
}

/// Runs both programs on every input.
fn compare(options: &Options, inputs: &[PathBuf]) -> Result<()> {
    ensure!(!inputs.is_empty(), "there is nothing to compare below the directories");
    let mut counts: BTreeMap<Outcome, usize> = BTreeMap::new();
    let mut rest = Vec::new();
    for input in inputs {
        let original = answer(Command::new(&options.oracle).arg("build").arg(input))?;
        let ours = answer(Command::new(&options.ours).args(&options.ours_args).arg(input))?;
        let (outcome, reason) = judge(&original, &ours);
        *counts.entry(outcome).or_default() += 1;
        if !matches!(outcome, Outcome::Bytes | Outcome::Neither) {
            rest.push((outcome, input, reason));
        }
    }
    rest.sort();
    for (outcome, input, reason) in rest.iter().take(options.show) {
        println!("{}: {}\n  {reason}", outcome.words(), input.display());
    }
    for (outcome, count) in &counts {
        println!("{count:6} {}", outcome.words());
    }
    let wrong = rest.iter().filter(|(outcome, ..)| *outcome != Outcome::Meaning).count();
    if wrong > 0 {
        bail!("{wrong} of {} are not equal", inputs.len());
    }
    Ok(())
}

struct Answer {
    good: bool,
    text: String,
    problem: String,
}

/// No proxy leads anywhere: nothing is fetched.
fn answer(command: &mut Command) -> Result<Answer> {
    let nowhere = "http://127.0.0.1:9";
    let output = command
        .envs([("HTTP_PROXY", nowhere), ("HTTPS_PROXY", nowhere), ("http_proxy", nowhere), ("https_proxy", nowhere)])
        .env("GIT_TERMINAL_PROMPT", "0")
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {}", command.get_program().to_string_lossy()))?;
    Ok(Answer {
        good: output.status.success(),
        text: String::from_utf8_lossy(&output.stdout).into_owned(),
        problem: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}

fn judge(original: &Answer, ours: &Answer) -> (Outcome, String) {
    match (original.good, ours.good) {
        (false, false) => (Outcome::Neither, String::new()),
        (false, true) => (Outcome::OnlyOurs, original.problem.clone()),
        (true, false) => (Outcome::OnlyOriginal, ours.problem.clone()),
        (true, true) if original.text == ours.text => (Outcome::Bytes, String::new()),
        (true, true) => {
            let same = documents(&original.text) == documents(&ours.text);
            let outcome = if same { Outcome::Meaning } else { Outcome::Different };
            (outcome, first_difference(&original.text, &ours.text))
        }
    }
}

/// The documents, sorted, without blank lines: the same objects in another order mean the same.
fn documents(text: &str) -> Vec<String> {
    let bare = |document: &str| {
        document
            .lines()
            .map(str::trim_end)
            .filter(|line| !line.is_empty() && *line != "---")
            .collect::<Vec<_>>()
            .join("\n")
    };
    let mut documents: Vec<String> = text.split("\n---\n").map(bare).collect();
    documents.sort();
    documents
}

fn first_difference(a: &str, b: &str) -> String {
    let (mut left, mut right) = (a.lines(), b.lines());
    for number in 1.. {
        match (left.next(), right.next()) {
            (None, None) => break,
            (x, y) if x == y => {}
            (x, y) => return format!("line {number}: {:?} ≠ {:?}", x.unwrap_or("(end)"), y.unwrap_or("(end)")),
        }
    }
    "only the last line break differs".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(good: bool, text: &str) -> Answer {
        Answer { good, text: text.to_owned(), problem: "because".to_owned() }
    }

    #[test]
    fn outcomes_are_told_apart() {
        for (a, b, expected) in [
            (answer(true, "a: 1\n"), answer(true, "a: 1\n"), Outcome::Bytes),
            (answer(true, "a: 1\n---\nb: 2\n"), answer(true, "b: 2\n---\na: 1\n"), Outcome::Meaning),
            (answer(true, "a: 1\n"), answer(true, "a: 2\n"), Outcome::Different),
            (answer(true, ""), answer(false, ""), Outcome::OnlyOriginal),
            (answer(false, ""), answer(true, ""), Outcome::OnlyOurs),
            (answer(false, ""), answer(false, ""), Outcome::Neither),
        ] {
            assert_eq!(judge(&a, &b).0, expected);
        }
    }
}
