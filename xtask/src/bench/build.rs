//! Builds, side by side with what else is installed: `buildah`, and `docker` with a daemon that answers.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context, Result, ensure};

/// Files of the context.
const FILES: usize = 2_000;
/// Packages of the project that `npm ci` installs, and megabytes of the large layer.
const PACKAGES: usize = 60;
const LARGE: usize = 1024;

/// A base image with npm.
const NPM: &str =
    "packages: [base-files, bash, ca-certificates, coreutils, dash, nodejs, npm]\nshell: true\nuser: root\n";

/// What builds: the arguments behind it are those of `build`.
struct Builder {
    name: &'static str,
    /// What `BASE` and `NODE` stand for.
    base: &'static str,
    node: &'static str,
    program: PathBuf,
    before: Vec<String>,
    after: Vec<String>,
}

impl Builder {
    fn command(&self, more: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.before).args(more).args(&self.after).stdin(Stdio::null()).stdout(Stdio::piped());
        // Docker before 23 takes its old builder otherwise.
        command.stderr(Stdio::piped()).env("DOCKER_BUILDKIT", "1");
        command
    }

    fn done(&self, more: &[&str]) -> Result<String> {
        let output = self.command(more).output().with_context(|| format!("cannot run {}", self.name))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{} failed: {}", self.name, said.trim());
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    fn file(&self, context: &Path, dockerfile: &str) -> Result<String> {
        let file = context.with_extension(format!("{}.Dockerfile", self.name));
        fs::write(&file, dockerfile.replace("BASE", self.base).replace("NODE", self.node))?;
        Ok(file.display().to_string())
    }

    /// Seconds of a build.
    #[allow(clippy::disallowed_methods, reason = "a bench measures time")]
    fn build(&self, context: &Path, dockerfile: &str) -> Result<f64> {
        let (file, context) = (self.file(context, dockerfile)?, context.display().to_string());
        let mut arguments = vec!["build", "-q", "-f", &file];
        if self.name == "buildah" {
            arguments.extend(["--isolation", "chroot", "--layers"]);
        }
        arguments.extend(["-t", "bench:1", &context]);
        let begun = Instant::now();
        self.done(&arguments)?;
        Ok(begun.elapsed().as_secs_f64())
    }

    /// Seconds that it takes to write the image that was built last into an archive.
    #[allow(clippy::disallowed_methods, reason = "a bench measures time")]
    fn save(&self, home: &Path) -> Result<f64> {
        let to = home.join("saved.tar").display().to_string();
        let _ = fs::remove_file(&to);
        let begun = Instant::now();
        match self.name {
            "shipway" => self.done(&["image", "save", "bench:1", "-o", &to])?,
            "buildah" => self.done(&["push", "-q", "bench:1", &format!("oci-archive:{to}")])?,
            _ => self.done(&["save", "bench:1", "-o", &to])?,
        };
        let took = begun.elapsed().as_secs_f64();
        fs::remove_file(&to)?;
        Ok(took)
    }

    /// The most memory of its own process during a build, in MiB.
    fn memory(&self, context: &Path, dockerfile: &str) -> Result<f64> {
        let (file, context) = (self.file(context, dockerfile)?, context.display().to_string());
        let mut child = self.command(&["build", "-q", "-f", &file, "-t", "bench:1", &context]).spawn()?;
        let status = format!("/proc/{}/status", child.id());
        let mut most = 0.0_f64;
        while child.try_wait()?.is_none() {
            let text = fs::read_to_string(&status).unwrap_or_default();
            let peak = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let peak = peak.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<f64>().ok());
            most = most.max(peak.unwrap_or_default() / 1024.0);
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        ensure!(child.wait()?.success(), "{} failed", self.name);
        Ok(most)
    }
}

/// Middle values of all builders, and the ratio of ours to each of the others.
fn row(title: &str, medians: &[f64]) {
    let shown: String = medians.iter().map(|median| format!("{median:12.3}")).collect();
    let ratios: String = medians.iter().skip(1).map(|other| format!("{:14.3}", medians[0] / other)).collect();
    println!("{title:36}{shown}{ratios}");
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

pub fn run(shipway: &Path, package_cache: &str, runs: usize) -> Result<()> {
    let home = tempfile::tempdir_in("/var/tmp").context("a directory for the bench")?;
    let context = home.path().join("context");
    for number in 0..FILES {
        let path = context.join(format!("src/{}/{number}.txt", number % 20));
        fs::create_dir_all(path.parent().context("it has one")?)?;
        fs::write(path, format!("{number}\n").repeat(50))?;
    }
    // Node.js with npm: what is built in has Node.js alone.
    let project = home.path().join("project");
    packages(&project)?;
    for place in [&context, &project] {
        fs::write(place.join("npm.yaml"), NPM)?;
    }
    let data = home.path().join("data").display().to_string();
    let ours = Builder {
        name: "shipway",
        base: "debian",
        node: "./npm.yaml",
        program: shipway.to_owned(),
        before: Vec::new(),
        after: vec!["--data".into(), data, "--package-cache".into(), package_cache.into()],
    };
    // The bases are there before anything is measured, for everybody: as file systems, which every builder takes.
    let mut bases = Vec::new();
    for (name, text) in [("base", "FROM BASE\n"), ("node", "FROM NODE\n")] {
        ours.build(&context, text)?;
        let file = home.path().join(format!("{name}.tar")).display().to_string();
        let (dockerfile, output) = (ours.file(&context, text)?, format!("type=tar,dest={file}"));
        ours.done(&["build", "-q", "-f", &dockerfile, "-o", &output, &context.display().to_string()])?;
        bases.push(file);
    }
    let mut builders = vec![ours];
    for found in [buildah(home.path(), &bases), docker(&bases)] {
        match found {
            Ok(builder) => builders.push(builder),
            Err(error) => eprintln!("SKIPPED: {error:#}"),
        }
    }
    let names: String = builders.iter().map(|builder| format!("{:>12}", builder.name)).collect();
    let ratios: String =
        builders.iter().skip(1).map(|builder| format!("{:>14}", format!("/ {}", builder.name))).collect();
    println!("{:36}{names}{ratios}", "median, s");
    let changed = context.join("src/3/3.txt");
    for case in ["cold, three stages", "nothing changed", "one file of 2,000 changed", "ten independent stages"] {
        let mut medians = Vec::new();
        for builder in &builders {
            let mut times = Vec::new();
            for number in 0..runs {
                let nonce = format!("{}-{case}-{number}", std::process::id());
                let text = match case {
                    "cold, three stages" => three(&nonce),
                    "ten independent stages" => ten(&nonce),
                    _ => three("warm"),
                };
                if case == "nothing changed" && number == 0 {
                    builder.build(&context, &text)?;
                }
                if case == "one file of 2,000 changed" {
                    fs::write(&changed, &nonce)?;
                }
                times.push(builder.build(&context, &text)?);
            }
            medians.push(median(times));
        }
        row(case, &medians);
    }
    let mut medians = Vec::new();
    for builder in &builders {
        // The first fills the cache of the mount.
        builder.build(&project, &npm("first"))?;
        let times = (0..runs).map(|number| builder.build(&project, &npm(&number.to_string())));
        medians.push(median(times.collect::<Result<Vec<_>>>()?));
    }
    row("npm ci with a cache mount", &medians);
    large(home.path(), &builders, runs)
}

/// A layer of a gigabyte, half of which can be compressed: made and exported, written into an archive, and what it costs in memory.
fn large(home: &Path, builders: &[Builder], runs: usize) -> Result<()> {
    let context = home.join("large");
    fs::create_dir_all(&context)?;
    noise(&context.join("small"), LARGE / 10)?;
    noise(&context.join("large"), LARGE)?;
    let text = |file: &str, nonce: &str| format!("FROM BASE\nENV NONCE=\"{nonce}\"\nCOPY {file} /{file}\n");
    let (mut made, mut saved) = (Vec::new(), Vec::new());
    for builder in builders {
        let (mut makes, mut saves) = (Vec::new(), Vec::new());
        for number in 0..runs.min(3) {
            // Another byte, so that nobody has the layer already.
            let mut file = fs::OpenOptions::new().append(true).open(context.join("large"))?;
            std::io::Write::write_all(&mut file, builder.name.as_bytes())?;
            makes.push(builder.build(&context, &text("large", &number.to_string()))?);
            saves.push(builder.save(home)?);
        }
        made.push(median(makes));
        saved.push(median(saves));
    }
    row("1 GB layer: copy and export", &made);
    row("1 GB layer: write an archive", &saved);
    let ours = &builders[0];
    for (file, title) in [("small", "memory, MiB: layer of 0.1 GB"), ("large", "memory, MiB: layer of 1 GB")] {
        row(title, &[ours.memory(&context, &text(file, "memory"))?]);
    }
    Ok(())
}

/// Megabytes of which each second half kilobyte is noise, from a fixed seed.
fn noise(path: &Path, megabytes: usize) -> Result<()> {
    let mut out = std::io::BufWriter::new(fs::File::create(path)?);
    let mut state = 88_172_645_463_325_252_u64;
    for _ in 0..megabytes * 1024 {
        let mut kilobyte = [b'a'; 1024];
        for eight in kilobyte[..512].chunks_exact_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            eight.copy_from_slice(&state.to_le_bytes());
        }
        std::io::Write::write_all(&mut out, &kilobyte)?;
    }
    Ok(std::io::Write::flush(&mut out)?)
}

/// A project whose packages lie beside it as archives: `npm ci` needs no network.
fn packages(project: &Path) -> Result<()> {
    let mut dependencies = serde_json::Map::new();
    let mut locked = serde_json::Map::new();
    for number in 0..PACKAGES {
        let name = format!("package-{number}");
        let source = project.with_extension("package").join("package");
        let _ = fs::remove_dir_all(&source);
        fs::create_dir_all(&source)?;
        fs::write(source.join("package.json"), serde_json::json!({ "name": name, "version": "1.0.0" }).to_string())?;
        for file in 0..20 {
            fs::write(source.join(format!("{file}.js")), format!("module.exports = {file};\n").repeat(100))?;
        }
        fs::create_dir_all(project)?;
        let archive = project.join(format!("{name}.tgz"));
        let parent = source.parent().context("it has one")?;
        let made = Command::new("tar").arg("-czf").arg(&archive).arg("-C").arg(parent).arg("package").status()?;
        ensure!(made.success(), "tar failed");
        let place = format!("file:{name}.tgz");
        dependencies.insert(name.clone(), place.clone().into());
        locked.insert(format!("node_modules/{name}"), serde_json::json!({ "version": "1.0.0", "resolved": place }));
    }
    let root = serde_json::json!({ "name": "bench", "version": "1.0.0", "dependencies": dependencies });
    fs::write(project.join("package.json"), root.to_string())?;
    locked.insert(String::new(), root);
    let lock = serde_json::json!({ "name": "bench", "version": "1.0.0", "lockfileVersion": 3, "requires": true, "packages": locked });
    Ok(fs::write(project.join("package-lock.json"), lock.to_string())?)
}

fn npm(nonce: &str) -> String {
    format!(
        "FROM NODE\nENV NONCE=\"{nonce}\"\nWORKDIR /app\nCOPY . .\n\
         RUN --mount=type=cache,target=/npm npm ci --offline --no-audit --no-fund --cache /npm\n"
    )
}

/// Two stages that do something with a part of the context, and one with all of it.
fn three(nonce: &str) -> String {
    format!(
        "FROM BASE AS a\nENV NONCE=\"{nonce}\"\nCOPY src/0 /a\nRUN cat /a/* | sha256sum > /sum\n\
         FROM BASE AS b\nENV NONCE=\"{nonce}\"\nCOPY src/1 /b\nRUN cat /b/* | sha256sum > /sum\n\
         FROM BASE\nENV NONCE=\"{nonce}\"\nCOPY . /all\nCOPY --from=a /sum /a\nCOPY --from=b /sum /b\n\
         RUN ls /all/src | wc -l > /count\n"
    )
}

fn ten(nonce: &str) -> String {
    let stage = |n: usize| {
        format!("FROM BASE AS s{n}\nENV NONCE=\"{nonce}\"\nCOPY src/{n} /x\nRUN cat /x/* | sha256sum > /sum\n")
    };
    let copies = (0..10).map(|n| format!("COPY --from=s{n} /sum /sum{n}\n"));
    (0..10).map(stage).chain(["FROM BASE\n".to_owned()]).chain(copies).collect()
}

fn buildah(home: &Path, bases: &[String]) -> Result<Builder> {
    let storage = |name: &str| home.join(name).display().to_string();
    let driver = if Command::new("fuse-overlayfs").arg("--version").output().is_ok() { "overlay" } else { "vfs" };
    let before = ["--root", &storage("root"), "--runroot", &storage("runroot"), "--storage-driver", driver];
    let builder = Builder {
        name: "buildah",
        base: "localhost/bench-base",
        node: "localhost/bench-node",
        program: "buildah".into(),
        before: before.map(str::to_owned).into(),
        after: Vec::new(),
    };
    for (name, file) in [builder.base, builder.node].into_iter().zip(bases) {
        let container = builder.done(&["from", "scratch"])?;
        builder.done(&["add", "-q", &container, file, "/"])?;
        builder.done(&["commit", "-q", "--rm", &container, name])?;
    }
    Ok(builder)
}

fn docker(bases: &[String]) -> Result<Builder> {
    // Debian's own, whose BuildKit needs no plugin, before what else is called so.
    let debian = Path::new("/usr/bin/docker");
    let builder = Builder {
        name: "docker",
        base: "bench-base:1",
        node: "bench-node:1",
        program: if debian.exists() { debian.into() } else { "docker".into() },
        before: Vec::new(),
        after: Vec::new(),
    };
    for (name, file) in [builder.base, builder.node].into_iter().zip(bases) {
        builder.done(&["import", file, name]).context("docker has no daemon here")?;
    }
    Ok(builder)
}
