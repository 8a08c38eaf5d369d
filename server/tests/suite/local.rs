//! `shipway run --local`: the pipeline of a working tree without a server.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use testbed::{Said, json, leftovers, need_mirror, need_root, need_tool, package_cache, said};

use crate::shipway;

const PIPELINE: &str = "\
steps:
  - name: make
    image: node
    network: none
    secrets: [TOKEN]
    artifacts: out.txt
    run: |
      echo \"token: $TOKEN\"; ls; echo made > out.txt
  - name: check
    image: node
    network: none
    needs: [make]
    run: |
      grep made out.txt
      test ! -e broken || printf '<testsuite><testcase name=\"whole\"><failure message=\"it is broken\"/></testcase></testsuite>' > junit.xml
      test ! -e broken
      printf '<testsuite><testcase name=\"whole\"/></testsuite>' > junit.xml
    reports: { junit: junit.xml }
  - name: slow
    image: node
    network: none
    needs: []
    run: 'test ! -e wait || { echo waiting; sleep 600; }'
images:
  - name: local/app
    context: app
";

/// A working tree and a data directory of its own.
struct Local {
    tree: tempfile::TempDir,
    data: PathBuf,
}

impl Local {
    fn new() -> Option<Self> {
        let able = need_root() && need_tool("git") && need_mirror();
        if !able {
            return None;
        }
        let tree = testbed::directory();
        let data = tree.path().join("data");
        let local = Self { tree, data };
        local.write(".shipway.yaml", PIPELINE);
        local.write(".gitignore", "ignored\n");
        local.write("ignored", "");
        local.write("app/Dockerfile", "FROM node-runtime\nCOPY main.js /\nENTRYPOINT [\"node\", \"/main.js\"]\n");
        local.write("app/main.js", "console.log(1)\n");
        for arguments in [&["init", "-q", "-b", "main"][..], &["add", "-A"]] {
            assert!(said(Command::new("git").args(arguments).current_dir(local.path()), b"").success());
        }
        Some(local)
    }

    fn path(&self) -> PathBuf {
        self.tree.path().join("My Tree")
    }

    fn write(&self, file: &str, content: &str) {
        let path = self.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    fn command(&self, more: &[&str]) -> Command {
        let mut command = Command::new(shipway());
        command.args(["run", "--local", "--data"]).arg(&self.data).args(more).current_dir(self.path());
        command.env("SHIPWAY_PACKAGE_CACHE", package_cache()).env("TOKEN", "hush-hush");
        command
    }

    #[track_caller]
    fn run(&self, more: &[&str]) -> Said {
        let said = said(&mut self.command(more), b"");
        let left = leftovers(&self.data);
        assert!(left.is_empty(), "{left:?}\n{said:?}");
        said
    }
}

#[test]
fn a_pipeline_runs_on_the_working_tree() {
    let Some(local) = Local::new() else { return };
    let passed = local.run(&[]);
    assert_eq!((passed.code, passed.err.as_str()), (Some(0), ""), "{}", passed.out);
    for line in ["make      │ token: ***", "check     │ made", "local/app · pushed local/app:", "passed in "] {
        assert!(passed.out.contains(line), "{line}: {}", passed.out);
    }
    assert!(!passed.out.contains("│ ignored") && !passed.out.contains("hush"), "{}", passed.out);
    assert!(!passed.out.contains('\u{1b}'), "no colours where nobody sees them: {}", passed.out);
    let digest = passed.out.split("sha256:").last().unwrap();
    assert!(digest.len() > 64 && passed.out.contains("1 passed, 0 failed"), "{}", passed.out);
    assert!(!local.path().join("out.txt").exists(), "the working tree is as it was");

    // One step that fails fails all, and says which test did.
    local.write("broken", "");
    let failed = local.run(&[]);
    assert_eq!(failed.code, Some(1), "{}", failed.out);
    assert!(failed.out.contains("✗ whole\n    it is broken"), "{}", failed.out);
    assert!(failed.out.contains("failed: check exited with status 1"), "{}", failed.out);
    assert!(!failed.out.contains("pushed"), "{}", failed.out);

    // Only what is named, and what that needs; the record alone on standard output.
    let one = local.run(&["--step", "make", "--json"]);
    assert_eq!(one.code, Some(0), "{one:?}");
    let run = json(&one.out);
    assert_eq!((run["id"].as_str(), run["state"]["type"].as_str()), (Some("my-tree/3"), Some("passed")), "{run}");
    assert_eq!(run["steps"].as_array().unwrap().len(), 1, "{run}");
    assert!(one.err.contains("make │ token: ***"), "{}", one.err);
    let without = said(local.command(&["--step", "make"]).env_remove("TOKEN"), b"");
    assert_eq!(without.code, Some(1), "{without:?}");
    assert!(without.out.contains("there is no secret `TOKEN`"), "{}", without.out);
    let nothing = local.run(&["--step", "nothing"]);
    assert_eq!(nothing.code, Some(2), "{nothing:?}");
    assert!(nothing.err.contains("it has make, check, slow, local/app"), "{}", nothing.err);
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&local.data).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o700);
    interrupted(&local);
}

/// Ctrl-C ends everything and leaves nothing; meanwhile the directory is nobody else's.
fn interrupted(local: &Local) {
    local.write("wait", "");
    let mut child = local.command(&["--step", "slow"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.by_ref().any(|line| line.unwrap().ends_with("│ waiting")));
    let second = said(&mut local.command(&[]), b"");
    assert_eq!(second.code, Some(6), "{second:?}");
    assert!(second.err.contains("is in use by another shipway"), "{}", second.err);
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(rest.last().map(String::as_str), Some("cancelled by Ctrl-C"), "{rest:?}");
    let left = leftovers(&local.data);
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_directory_without_a_pipeline() {
    if !need_tool("git") {
        return;
    }
    let directory = testbed::directory();
    let run = |more: &[&Path]| said(Command::new(shipway()).args(["run", "--local"]).args(more), b"");
    let empty = run(&[directory.path()]);
    assert_eq!(empty.code, Some(2), "{empty:?}");
    assert!(empty.err.contains("has no .shipway.yaml") && empty.err.contains("hint: "), "{}", empty.err);
    let missing = run(&[&directory.path().join("nowhere")]);
    assert_eq!(missing.code, Some(2), "{missing:?}");
    assert!(missing.err.contains("cannot open the working tree"), "{}", missing.err);
}
