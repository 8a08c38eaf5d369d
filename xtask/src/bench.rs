//! Figures of the whole product, measured from outside, with their spread.

mod build;
mod http;
mod manifest;
mod registry;

use std::{path::Path, process::Command};

use anyhow::{Context, Result, ensure};

#[derive(clap::Subcommand)]
pub enum Bench {
    /// The journey of `shipway demo`, several times
    Journey {
        /// How many journeys
        #[arg(long, default_value_t = 3)]
        runs: usize,
        /// Where packages stay between the journeys, so that a mirror is asked once
        #[arg(long, default_value = "/var/tmp/shipway-bench-packages")]
        package_cache: String,
    },
    /// Charts and kustomizations, beside the real helm and kustomize
    Manifest(manifest::Options),
    /// Pushes and pulls of blobs, beside other registries
    Registry(registry::Options),
    /// `shipway build` beside buildah and docker, where they are installed; as root
    Build {
        /// How often each build is measured
        #[arg(long, default_value_t = 5)]
        runs: usize,
        /// Where packages stay between the runs, so that a mirror is asked once
        #[arg(long, default_value = "/var/tmp/shipway-bench-packages")]
        package_cache: String,
    },
}

/// The figures of a journey and what each is to stay under.
const FIGURES: [(&str, &str, f64); 6] = [
    ("ready_s", "server ready, s", 0.3),
    ("first_pod_ready_s", "applied → first pod ready, s", 1.0),
    ("push_to_first_log_s", "push → first log line, s", 0.15),
    ("push_to_image_s", "push → image, s", f64::INFINITY),
    ("push_to_serving_s", "push → serving on 3 replicas, s", 5.0),
    ("rss_mib", "memory of the server, MiB", f64::INFINITY),
];

pub fn run(bench: &Bench) -> Result<()> {
    if let Bench::Registry(options) = bench {
        return registry::run(options);
    }
    if let Bench::Manifest(options) = bench
        && let Some(program) = options.program()
    {
        return manifest::run(options, program);
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the workspace has a root")?;
    let built = Command::new(&cargo).args(["build", "--release", "--package", "server"]).current_dir(root).status()?;
    ensure!(built.success(), "cargo build --release failed");
    let binary = cargo_target(root).join("release/shipway");
    match bench {
        Bench::Journey { runs, package_cache } => journey(&binary, *runs, package_cache),
        Bench::Build { runs, package_cache } => build::run(&binary, package_cache, (*runs).max(1)),
        Bench::Manifest(options) => manifest::run(options, &binary),
        Bench::Registry(options) => registry::run(options),
    }
}

fn journey(binary: &Path, runs: usize, package_cache: &str) -> Result<()> {
    let mut reports = Vec::new();
    for number in 1..=runs {
        eprintln!("journey {number} of {runs}");
        let output = Command::new(binary)
            .args(["demo", "--json", "--package-cache", package_cache])
            .output()
            .context("cannot run the demo")?;
        ensure!(output.status.success(), "the demo failed: {}", String::from_utf8_lossy(&output.stderr));
        reports.push(serde_json::from_slice::<serde_json::Value>(&output.stdout).context("the demo printed no JSON")?);
    }
    println!("{:34} {:>9} {:>9} {:>9} {:>9}", "", "min", "median", "max", "aim");
    for (key, title, aim) in FIGURES {
        let mut values: Vec<f64> = reports.iter().filter_map(|report| report[key].as_f64()).collect();
        ensure!(!values.is_empty(), "no journey has a figure `{key}`");
        values.sort_by(f64::total_cmp);
        let aim = if aim.is_finite() { format!("{aim:.3}") } else { "–".into() };
        let (min, max) = (values[0], values[values.len() - 1]);
        println!("{title:34} {min:9.3} {:9.3} {max:9.3} {aim:>9}", values[values.len() / 2]);
    }
    let failed: f64 = reports.iter().filter_map(|report| report["requests_failed"].as_f64()).sum();
    let sent: f64 = reports.iter().filter_map(|report| report["requests_sent"].as_f64()).sum();
    println!("requests: {sent} sent, {failed} failed");
    Ok(())
}

fn cargo_target(root: &Path) -> std::path::PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), Into::into)
}
