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

/// What builds: the arguments behind it are those of `build`.
struct Builder {
    name: &'static str,
    base: &'static str,
    program: PathBuf,
    before: Vec<String>,
    after: Vec<String>,
}

impl Builder {
    fn command(&self, more: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.before).args(more).args(&self.after).stdin(Stdio::null()).stdout(Stdio::piped());
        command.stderr(Stdio::piped());
        command
    }

    fn done(&self, more: &[&str]) -> Result<String> {
        let output = self.command(more).output().with_context(|| format!("cannot run {}", self.name))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{} failed: {}", self.name, said.trim());
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Seconds of a build.
    #[allow(clippy::disallowed_methods, reason = "a bench measures time")]
    fn build(&self, context: &Path, dockerfile: &str) -> Result<f64> {
        let file = context.with_extension(format!("{}.Dockerfile", self.name));
        fs::write(&file, dockerfile.replace("BASE", self.base))?;
        let (file, context) = (file.display().to_string(), context.display().to_string());
        let mut arguments = vec!["build", "-q", "-f", &file];
        if self.name == "buildah" {
            arguments.extend(["--isolation", "chroot", "--layers"]);
        }
        arguments.extend(["-t", "bench:1", &context]);
        let begun = Instant::now();
        self.done(&arguments)?;
        Ok(begun.elapsed().as_secs_f64())
    }
}

pub fn run(shipway: &Path, package_cache: &str, runs: usize) -> Result<()> {
    let home = tempfile::tempdir_in("/var/tmp").context("a directory for the bench")?;
    let context = home.path().join("context");
    for number in 0..FILES {
        let path = context.join(format!("src/{}/{number}.txt", number % 20));
        fs::create_dir_all(path.parent().context("it has one")?)?;
        fs::write(path, format!("{number}\n").repeat(50))?;
    }
    let ours = Builder {
        name: "shipway",
        base: "debian",
        program: shipway.to_owned(),
        before: Vec::new(),
        after: vec![
            "--data".into(),
            home.path().join("data").display().to_string(),
            "--package-cache".into(),
            package_cache.into(),
        ],
    };
    // The base is there before anything is measured, for everybody.
    ours.build(&context, "FROM BASE\n")?;
    let base = home.path().join("base.tar").display().to_string();
    ours.done(&["image", "save", "base/debian:trixie", "-o", &base])?;
    let mut builders = vec![ours];
    for found in [buildah(home.path(), &base), docker(&base)] {
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
            times.sort_by(f64::total_cmp);
            medians.push(times[times.len() / 2]);
        }
        let shown: String = medians.iter().map(|median| format!("{median:12.3}")).collect();
        let ratios: String = medians.iter().skip(1).map(|other| format!("{:14.3}", medians[0] / other)).collect();
        println!("{case:36}{shown}{ratios}");
    }
    Ok(())
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

fn buildah(home: &Path, base: &str) -> Result<Builder> {
    let storage = |name: &str| home.join(name).display().to_string();
    let driver = if Command::new("fuse-overlayfs").arg("--version").output().is_ok() { "overlay" } else { "vfs" };
    let before = ["--root", &storage("root"), "--runroot", &storage("runroot"), "--storage-driver", driver];
    let builder = Builder {
        name: "buildah",
        base: "localhost/bench-base",
        program: "buildah".into(),
        before: before.map(str::to_owned).into(),
        after: Vec::new(),
    };
    let id = builder.done(&["pull", "-q", &format!("oci-archive:{base}")])?;
    builder.done(&["tag", &id, builder.base])?;
    Ok(builder)
}

fn docker(base: &str) -> Result<Builder> {
    let builder = Builder {
        name: "docker",
        base: "base/debian:trixie",
        program: "docker".into(),
        before: Vec::new(),
        after: Vec::new(),
    };
    builder.done(&["load", "-q", "-i", base]).context("docker has no daemon here")?;
    Ok(builder)
}
