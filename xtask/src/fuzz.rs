//! Fuzzing on the stable toolchain: the `fuzz` package is built with LLVM's coverage counters, and each target runs from seeds that
//! the repository's own tests are made of.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;

/// What `-Zsanitizer` would add, said to LLVM itself: counters per edge, a table of them, and the operands of comparisons.
const COVERAGE: [&str; 5] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];

/// Target, the longest input in bytes, and where seeds lie: files, directories, or files of several cases behind `### ` lines.
const TARGETS: [(&str, u32, &[&str]); 14] = [
    ("dockerfile", 4096, &["flow/build/tests/corpus/dockerfiles.txt"]),
    ("dockerignore", 1024, &["fuzz/seeds/dockerignore"]),
    ("compose", 4096, &["fuzz/seeds/compose"]),
    ("pipeline", 4096, &["examples/journal/.shipway.yaml"]),
    ("layer", 8192, &[]),
    ("image-manifest", 4096, &["fuzz/seeds/image-manifest"]),
    ("reference", 256, &["fuzz/seeds/reference"]),
    ("yaml", 4096, &["examples/journal", "flow/chart/tests/charts"]),
    ("template", 4096, &["flow/chart/tests/charts"]),
    ("values", 2048, &["fuzz/seeds/values", "flow/chart/tests/charts"]),
    ("chart", 8192, &["flow/chart/tests/charts"]),
    ("kustomization", 4096, &["fuzz/seeds/kustomization"]),
    ("manifest", 4096, &["examples/journal"]),
    ("skaffold", 4096, &["fuzz/seeds/skaffold"]),
];

#[derive(Parser)]
pub struct Options {
    /// Only these targets
    targets: Vec<String>,
    /// How long each runs
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Where the random numbers begin: with the same one the same inputs are tried, as far as the time reaches; another each time if not given
    #[arg(long, default_value_t = 0)]
    seed: u32,
    /// Runs one input again, as found, and nothing else
    #[arg(long, value_name = "FILE")]
    again: Option<PathBuf>,
}

/// Builds the targets and runs them one after another; fails when one found something.
pub fn run(options: &Options) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the workspace has a root")?;
    for name in &options.targets {
        let names: Vec<&str> = TARGETS.iter().map(|(name, ..)| *name).collect();
        ensure!(names.contains(&name.as_str()), "there is no target {name}; there are {}", names.join(", "));
    }
    let program = build(root)?;
    let chosen: Vec<_> = TARGETS
        .iter()
        .filter(|(name, ..)| options.targets.is_empty() || options.targets.iter().any(|target| target == name))
        .collect();
    if let Some(input) = &options.again {
        let [(name, ..)] = chosen[..] else { bail!("name the one target that `--again` is for") };
        let status = Command::new(&program).env("FUZZ_TARGET", name).arg(input).status()?;
        ensure!(status.success(), "{name}: {} still fails", input.display());
        return Ok(());
    }
    let mut found = Vec::new();
    for (name, longest, seeds) in chosen {
        match target(root, &program, name, *longest, seeds, options)? {
            None => {}
            Some(artifact) => found.push(format!("cargo xtask fuzz {name} --again {}", artifact.display())),
        }
    }
    ensure!(
        found.is_empty(),
        "inputs were found that must not do what they do; see them again with\n  {}",
        found.join("\n  ")
    );
    Ok(())
}

/// The path of the program, built with coverage and with assertions, apart from all other builds.
fn build(root: &Path) -> Result<PathBuf> {
    let target = root.join("target/fuzz");
    let rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into())).arg("-vV").output()?;
    let about = String::from_utf8_lossy(&rustc.stdout);
    let host = about.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc -vV names no host")?;
    // With a target named, the flags are not for build scripts and procedural macros, which have no counters to report to.
    let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--locked", "--package", "fuzz", "--profile", "fuzz", "--target", host])
        .env("CARGO_TARGET_DIR", &target)
        .env("RUSTFLAGS", COVERAGE.join(" "))
        .current_dir(root)
        .status()
        .context("cannot run cargo build")?;
    ensure!(status.success(), "the fuzz package does not build");
    Ok(target.join(host).join("fuzz/fuzz"))
}

/// Runs one target; the file that holds what it found, if it found something.
fn target(
    root: &Path,
    program: &Path,
    name: &str,
    longest: u32,
    seeds: &[&str],
    options: &Options,
) -> Result<Option<PathBuf>> {
    let room = root.join("target/fuzz/inputs").join(name);
    let (corpus, artifacts) = (room.join("corpus"), room.join("found"));
    fs::create_dir_all(&corpus).and_then(|()| fs::create_dir_all(&artifacts)).context("cannot make the corpus")?;
    for (at, seed) in read_seeds(root, seeds)?.into_iter().enumerate() {
        fs::write(corpus.join(format!("seed-{at}")), seed).context("cannot write a seed")?;
    }
    let output = Command::new(program)
        .env("FUZZ_TARGET", name)
        .arg(format!("-max_total_time={}", options.seconds))
        .arg(format!("-seed={}", options.seed))
        .arg(format!("-max_len={longest}"))
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        // One input may take ten seconds on a busy machine, and all together a gigabyte.
        .args(["-timeout=10", "-rss_limit_mb=1024", "-print_final_stats=1", "-close_fd_mask=1"])
        .arg(&corpus)
        .output()
        .context("cannot run the fuzzer")?;
    let log = String::from_utf8_lossy(&output.stderr);
    let figure =
        |key: &str| log.lines().rev().find_map(|line| line.strip_prefix(key)).map_or("?", str::trim).to_owned();
    let covered = log.lines().rev().find_map(|line| Some(line.split_once("cov: ")?.1.split(' ').next()?.to_owned()));
    println!(
        "{name:16} {:>10} inputs  {:>6} edges  {:>5} MiB{}",
        figure("stat::number_of_executed_units:"),
        covered.unwrap_or_else(|| "?".into()),
        figure("stat::peak_rss_mb:"),
        if output.status.success() { "" } else { "  FOUND" },
    );
    if output.status.success() {
        return Ok(None);
    }
    let written =
        log.lines().rev().find_map(|line| Some(line.split_once("Test unit written to ")?.1.trim().to_owned()));
    let tail: Vec<&str> = log.lines().rev().take(40).collect();
    eprintln!("{}", tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
    match written {
        Some(path) => Ok(Some(path.into())),
        None => bail!("{name} ended with {} and wrote no input", output.status),
    }
}

/// The seeds of a target.
fn read_seeds(root: &Path, seeds: &[&str]) -> Result<Vec<Vec<u8>>> {
    let mut found = Vec::new();
    let mut waiting: Vec<PathBuf> = seeds.iter().map(|seed| root.join(seed)).collect();
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            for entry in fs::read_dir(&path).with_context(|| format!("cannot list {}", path.display()))? {
                waiting.push(entry?.path());
            }
            continue;
        }
        let content = fs::read(&path).with_context(|| format!("cannot read the seed {}", path.display()))?;
        let text = String::from_utf8_lossy(&content);
        if text.starts_with("### ") {
            found.extend(text.split("\n### ").filter_map(|case| Some(case.split_once('\n')?.1.as_bytes().to_vec())));
        } else if content.len() < 64 << 10 {
            found.push(content);
        }
    }
    Ok(found)
}
