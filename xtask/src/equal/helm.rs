//! `cargo xtask equal helm`: every chart under the given directories, with its own values and with those it is tested with.
//! Fetches nothing: charts whose dependencies are not there fail on both sides, which is compared too.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use anyhow::{Context, Result};
use clap::Args;

#[derive(Args)]
pub struct Options {
    /// The real `helm`
    #[arg(long, value_name = "BIN")]
    oracle: PathBuf,
    /// What renders as `helm template` does
    #[arg(long, value_name = "BIN", default_value = "target/release/shipway")]
    ours: PathBuf,
    /// Arguments before NAME and CHART for ours
    #[arg(long, value_name = "ARG", default_values = ["helm", "template"], allow_hyphen_values = true)]
    ours_args: Vec<String>,
    /// Compare what `helm lint` says of the charts instead
    #[arg(long)]
    lint: bool,
    /// The version of Kubernetes that both are told
    #[arg(long, default_value = "1.34.0")]
    kube_version: String,
    /// Where charts are
    #[arg(required = true)]
    directories: Vec<PathBuf>,
}

/// How two outputs compare.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Bytes,
    /// The same documents in another order, or with other blank lines.
    Meaning,
    /// Only in lines in which the original differs from itself: they are random, or of the time.
    Random,
    SameError,
    OtherError,
    OursFails,
    OracleFails,
    Differs,
}

pub fn run(options: &Options) -> Result<()> {
    let mut charts = Vec::new();
    for directory in &options.directories {
        find(directory, &mut charts)?;
    }
    charts.sort();
    let mut counts = [0usize; 8];
    let mut rest = Vec::new();
    for chart in &charts {
        for values in std::iter::once(None).chain(tested_with(chart).into_iter().map(Some)) {
            let arguments = |first: &[String]| {
                let mut all: Vec<String> = first.to_vec();
                if !options.lint {
                    all.push("rel".to_owned());
                }
                all.push(chart.display().to_string());
                all.extend(["--kube-version".to_owned(), options.kube_version.clone()]);
                if let Some(values) = &values {
                    all.extend(["-f".to_owned(), values.display().to_string()]);
                }
                all
            };
            let command = if options.lint { "lint" } else { "template" };
            let oracle = call(&options.oracle, &arguments(&[command.to_owned()]))?;
            let ours = call(&options.ours, &arguments(&options.ours_args))?;
            let mut verdict = if options.lint { compare_lint(&oracle, &ours) } else { compare(&oracle, &ours) };
            if matches!(verdict, Verdict::Differs | Verdict::Meaning) {
                let again = call(&options.oracle, &arguments(&[command.to_owned()]))?;
                verdict = if random(&oracle, &again, &ours) { Verdict::Random } else { verdict };
            }
            counts[verdict as usize] += 1;
            if !matches!(verdict, Verdict::Bytes | Verdict::Random | Verdict::SameError) {
                let values = values.map(|values| format!(" -f {}", values.display())).unwrap_or_default();
                rest.push(format!("{}{values}: {}", chart.display(), reason(verdict, &oracle, &ours)));
            }
        }
    }
    rest.iter().for_each(|line| println!("{line}"));
    let [bytes, meaning, random, same_error, other_error, ours_fails, oracle_fails, differs] = counts;
    println!(
        "{} charts, {} renderings: {bytes} equal byte for byte, {random} but for what is random, {meaning} in meaning, {same_error} fail with the same words, {other_error} with other words, {ours_fails} only here, {oracle_fails} only there, {differs} differ",
        charts.len(),
        counts.iter().sum::<usize>(),
    );
    Ok(())
}

/// Directories with a `Chart.yaml`, those within other charts left out.
fn find(directory: &Path, charts: &mut Vec<PathBuf>) -> Result<()> {
    if directory.join("Chart.yaml").is_file() {
        charts.push(directory.to_owned());
        return Ok(());
    }
    for entry in std::fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            find(&entry.path(), charts)?;
        }
    }
    Ok(())
}

/// `ci/*values*.yaml`, as chart-testing has it.
fn tested_with(chart: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(chart.join("ci")).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.ends_with(".yaml") && name.contains("values")
        })
        .collect();
    files.sort();
    files
}

fn call(program: &Path, arguments: &[String]) -> Result<Output> {
    Command::new(program)
        .args(arguments)
        .env("TZ", "UTC")
        .env("KUBECONFIG", "/nonexistent")
        .output()
        .with_context(|| format!("cannot run {}", program.display()))
}

fn compare(oracle: &Output, ours: &Output) -> Verdict {
    match (oracle.status.success(), ours.status.success()) {
        (true, true) if oracle.stdout == ours.stdout => Verdict::Bytes,
        (true, true) if documents(&oracle.stdout) == documents(&ours.stdout) => Verdict::Meaning,
        (true, true) => Verdict::Differs,
        (true, false) => Verdict::OursFails,
        (false, true) => Verdict::OracleFails,
        (false, false) if said(oracle) == said(ours) => Verdict::SameError,
        (false, false) => Verdict::OtherError,
    }
}

/// The same findings and the same outcome; only how the program reports its own failure may differ.
fn compare_lint(oracle: &Output, ours: &Output) -> Verdict {
    match (oracle.stdout == ours.stdout, oracle.status.success() == ours.status.success()) {
        (true, true) => Verdict::Bytes,
        (true, false) if oracle.status.success() => Verdict::OursFails,
        (true, false) => Verdict::OracleFails,
        (false, _) => Verdict::Differs,
    }
}

/// Whether ours differs from the original only in lines in which two runs of the original differ.
fn random(first: &Output, second: &Output, ours: &Output) -> bool {
    let lines =
        |output: &Output| String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect::<Vec<_>>();
    let (first, second, ours) = (lines(first), lines(second), lines(ours));
    first.len() == second.len()
        && first.len() == ours.len()
        && first.iter().zip(&second).zip(&ours).all(|((a, b), c)| a != b || a == c)
}

fn documents(output: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(output);
    let lines = |document: &str| {
        document.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
    };
    let mut documents: Vec<String> = text.split("\n---\n").map(lines).collect();
    documents.sort();
    documents
}

/// What a failed call says, without the marks that only one of the two puts around it.
fn said(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let from = text.find("Error: ").map(|at| at + 7).or_else(|| text.find("error: ").map(|at| at + 7)).unwrap_or(0);
    let text = text[from..].split("\n\nUse --debug flag").next().unwrap_or_default();
    text.trim().to_owned()
}

fn reason(verdict: Verdict, oracle: &Output, ours: &Output) -> String {
    let short = |text: String| text.replace('\n', " | ").chars().take(300).collect::<String>();
    match verdict {
        Verdict::Bytes | Verdict::Random | Verdict::SameError => String::new(),
        Verdict::Meaning => "order or blank lines differ".to_owned(),
        Verdict::OtherError => format!("helm says: {}; ours: {}", short(said(oracle)), short(said(ours))),
        Verdict::OursFails => format!("only ours fails: {}", short(said(ours))),
        Verdict::OracleFails => format!("only helm fails: {}", short(said(oracle))),
        Verdict::Differs => {
            let (a, b) = (String::from_utf8_lossy(&oracle.stdout), String::from_utf8_lossy(&ours.stdout));
            let first = a.lines().zip(b.lines()).enumerate().find(|(_, (a, b))| a != b);
            match first {
                Some((line, (a, b))) => format!("line {}: helm has {a:?}, ours {b:?}", line + 1),
                None => "one output is longer".to_owned(),
            }
        }
    }
}
