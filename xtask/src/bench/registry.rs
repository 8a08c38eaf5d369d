//! Pushes and pulls, side by side with the registries of others that are on this machine.

mod loads;
mod peers;

use std::path::PathBuf;

use anyhow::Result;

use loads::{Figure, Load, measure};

#[derive(clap::Args)]
pub struct Options {
    /// Our program: `shipway`, or with --alone the example `registry`; built in release mode when it is not named
    #[arg(long)]
    own: Option<PathBuf>,
    /// Measures our registry without the rest of the server
    #[arg(long)]
    alone: bool,
    /// Docker's registry (Debian's package `docker-registry`); left out when it is not there
    #[arg(long, default_value = "docker-registry")]
    docker_registry: PathBuf,
    /// zot; left out when it is not there
    #[arg(long, default_value = "zot")]
    zot: PathBuf,
    /// Sizes of blobs, in MB
    #[arg(long, value_delimiter = ',', default_values_t = [1, 10, 100])]
    sizes: Vec<usize>,
    /// Connections at the same time
    #[arg(long, value_delimiter = ',', default_values_t = [1, 10, 100])]
    connections: Vec<usize>,
    /// How many MB are pushed and pulled for a figure, at least
    #[arg(long, default_value_t = 400)]
    megabytes: usize,
    /// Figures that need more MB are left out: every connection has a blob at least
    #[arg(long, default_value_t = 1000)]
    most: usize,
    /// Manifests, and requests of the mix, for a figure
    #[arg(long, default_value_t = 1000)]
    requests: usize,
    /// How often each figure is measured; the median is told
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Where the registries keep what is pushed: at most `--most` MB at a time
    #[arg(long, default_value = "/var/tmp")]
    scratch: PathBuf,
}

fn loads(options: &Options) -> Vec<(Load, usize)> {
    let mut all = Vec::new();
    for &size in &options.sizes {
        for &connections in &options.connections {
            let count = (options.megabytes / size.max(1)).clamp(1, 400).max(connections);
            match size * count <= options.most {
                true => all.push((Load::Blobs { size, count }, connections)),
                false => println!("{size} MB at {connections}: left out, it needs more than {} MB", options.most),
            }
        }
    }
    for &connections in &options.connections {
        all.push((Load::Manifests { count: options.requests }, connections));
    }
    all.push((Load::Mixed { count: options.requests }, 10));
    all
}

pub fn run(options: &Options) -> Result<()> {
    let known = peers::known(options)?;
    let scratch = options.scratch.join(format!("shipway-bench-{}", std::process::id()));
    println!(
        "{:>10} {:>4} {:16} {:>9} {:>9} {:>8} {:>8}   ours against theirs: push, pull (more is better), cpu, memory (less is better)",
        "", "c", "", "push /s", "pull /s", "cpu s", "MiB"
    );
    let mut seed = 0;
    for (load, connections) in loads(options) {
        // One after the other and then all again, so that what disturbs the machine for a while disturbs all of them.
        let mut all: Vec<Vec<Figure>> = known.iter().map(|_| Vec::new()).collect();
        for _ in 0..options.rounds.max(1) {
            seed += 1;
            for (known, figures) in known.iter().zip(&mut all) {
                figures.push(measure(load, &known.start(&scratch)?, connections, seed)?);
            }
        }
        let mut own: Option<Figure> = None;
        for (known, figures) in known.iter().zip(&all) {
            let figure = median(figures);
            let against = own.map(|own| {
                let push =
                    own.push.zip(figure.push).map_or("    –".into(), |(own, other)| format!("{:5.2}", own / other));
                format!(
                    "{push}x {:5.2}x  {:5.2} {:5.2}",
                    own.pull / figure.pull,
                    own.cpu / figure.cpu,
                    own.peak / figure.peak
                )
            });
            println!(
                "{:>10} {connections:>4} {:16} {:>9} {:9.1} {:8.2} {:8.1}   {}",
                load.to_string(),
                known.kind.name(),
                figure.push.map_or("–".into(), |push| format!("{push:.1}")),
                figure.pull,
                figure.cpu,
                figure.peak,
                against.unwrap_or_default()
            );
            own = own.or(Some(figure));
        }
    }
    Ok(())
}

/// The middle of each value by itself.
fn median(figures: &[Figure]) -> Figure {
    let of = |value: &dyn Fn(&Figure) -> f64| {
        let mut all: Vec<f64> = figures.iter().map(value).collect();
        all.sort_by(f64::total_cmp);
        all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
    };
    let pushed = figures.iter().all(|figure| figure.push.is_some());
    Figure {
        push: pushed.then(|| of(&|figure| figure.push.unwrap_or(f64::NAN))),
        pull: of(&|figure| figure.pull),
        cpu: of(&|figure| figure.cpu),
        peak: of(&|figure| figure.peak),
    }
}
