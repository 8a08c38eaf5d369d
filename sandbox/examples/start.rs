//! How long a container takes from "start" to the first byte that its program writes, and to its end: medians of many.
//!
//! `cargo run --release -p sandbox --example start -- <path of the sandbox-helper binary> [runs]`, as root. The root file system
//! is this machine's `/bin/echo` with its libraries.

use std::{path::Path, process::Command, time::Duration};

use sandbox::{Config, ContainerSpec, ExecSpec, Lifetime, NetworkConfig, NetworkMode, Sandbox};
use tokio::{io::AsyncReadExt, time::Instant};

type Failure = Box<dyn std::error::Error>;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let helper = arguments.next().ok_or("give the path of the sandbox-helper binary")?;
    let runs: usize = arguments.next().map_or(Ok(50), |n| n.parse())?;
    let directory = tempfile::tempdir()?;
    let root = directory.path().join("root");
    let open = Instant::now();
    let config =
        Config { root, helper: vec![helper.into()], instance: "bench".into(), network: NetworkConfig::default() };
    let sandbox = Sandbox::open(config).await?;
    report("open", &mut [open.elapsed()]);
    let result = measure(&sandbox, runs).await;
    let shut = Instant::now();
    sandbox.shutdown().await?;
    report("shutdown", &mut [shut.elapsed()]);
    result
}

async fn measure(sandbox: &Sandbox, runs: usize) -> Result<(), Failure> {
    sandbox.snapshots().import::<Failure>("base", None, fill).map_err(|e| e.to_string())?;
    for network in [false, true] {
        let (mut views, mut networks, mut first, mut whole, mut end) = (vec![], vec![], vec![], vec![], vec![]);
        for n in 0..runs {
            let begin = Instant::now();
            let view = sandbox.snapshots().view(&format!("v{n}"), "base", true)?;
            views.push(begin.elapsed());
            let mut spec = ContainerSpec::new(format!("c{n}"), view.path(), ["/bin/echo", "hello"]);
            let before = Instant::now();
            if network {
                spec.network =
                    NetworkMode::Join(sandbox.network().await?.create(&format!("n{n}"), Lifetime::Server).await?);
            }
            networks.push(before.elapsed());
            let start = Instant::now();
            let container = sandbox.start(spec).await?;
            let mut stdout = container.take_stdout().ok_or("no output")?;
            stdout.read_u8().await?;
            first.push(start.elapsed());
            whole.push(begin.elapsed());
            container.wait().await;
            end.push(start.elapsed());
            container.remove().await?;
            // Steps of a pipeline come one after the other, not in one heap.
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        println!("{}", if network { "with a network namespace" } else { "without a network" });
        report("  view of a snapshot", &mut views);
        report("  network namespace", &mut networks);
        report("  start to first byte", &mut first);
        report("  all of these", &mut whole);
        report("  start to end", &mut end);
    }
    let view = sandbox.snapshots().view("host", "base", true)?;
    let container = sandbox.start(ContainerSpec::new("host", view.path(), ["/bin/sleep", "1000"])).await?;
    let mut times = vec![];
    for _ in 0..runs {
        let start = Instant::now();
        let spec = ExecSpec { argv: vec!["/bin/echo".into(), "hello".into()], ..ExecSpec::default() };
        let mut exec = container.exec(spec).await?;
        exec.take_stdout().ok_or("no output")?.read_u8().await?;
        times.push(start.elapsed());
        exec.wait().await;
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    report("exec to first byte", &mut times);
    container.remove().await?;
    Ok(())
}

fn fill(root: &Path) -> Result<(), Failure> {
    for directory in ["bin", "etc", "dev", "proc", "sys"] {
        std::fs::create_dir_all(root.join(directory))?;
    }
    for program in ["/bin/echo", "/bin/sleep"] {
        std::fs::copy(program, root.join(&program[1..]))?;
        let libraries = Command::new("ldd").arg(program).output()?;
        for library in String::from_utf8(libraries.stdout)?.split_whitespace().filter(|word| word.starts_with('/')) {
            let target = root.join(&library[1..]);
            std::fs::create_dir_all(target.parent().ok_or("no parent")?)?;
            std::fs::copy(library, target)?;
        }
    }
    Ok(())
}

fn report(what: &str, times: &mut [Duration]) {
    times.sort();
    let at = |part: usize| times[(times.len() - 1) * part / 100].as_secs_f64() * 1000.0;
    println!("{what:24} median {:7.2} ms   best {:7.2}   p90 {:7.2}", at(50), at(0), at(90));
}
