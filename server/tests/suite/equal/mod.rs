//! The same Dockerfiles, built by `shipway build` and by BuildKit, come to the same configuration and the same files.
//!
//! BuildKit is the one inside Debian's `docker.io` (`dockerfiles.txt`); where `buildkitd` and `buildctl` are installed, what newer
//! versions of the language have (`newer.txt`) is compared with them, too. Each peer runs in namespaces of its own for the network and
//! the mounts, on directories of its own, and reaches nothing.
//!
//! A case is a line `### name` or `### name | arguments of build`, and the Dockerfile below it; `<CR>` stands for a carriage return.

mod peers;
mod tree;

use std::{
    collections::BTreeMap,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use peers::{BuildKit, Docker};
use serde_json::Value;
use testbed::{Said, json, leftovers, need_mirror, need_root, need_tool, package_cache, said, skip};
use tree::{Image, Reader};

use crate::shipway;

/// Times before this one were set by somebody; later ones are of the day.
const FIXED: u64 = 1_700_000_000;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Peer {
    Docker,
    BuildKit,
}

/// A difference that is known, and why it is there.
struct Known {
    /// With whom; `None` for every version, and then it must be there.
    peer: Option<Peer>,
    case: &'static str,
    /// What the line about the difference begins with.
    what: &'static str,
    #[allow(dead_code, reason = "for who reads the list")]
    why: &'static str,
}

const fn known(peer: Option<Peer>, case: &'static str, what: &'static str, why: &'static str) -> Known {
    Known { peer, case, what, why }
}

const KNOWN: &[Known] = &[
    known(None, "workdir", "WorkingDir: ", "a path without the slash at its end that was written"),
    known(None, "onbuild", "OnBuild: ", "the name of a trigger's instruction is in capitals"),
    known(None, "what a command sees", "capabilities: ", "commands make no device nodes (CAP_MKNOD)"),
    known(Some(Peer::Docker), "copy with modes", "b/b.txt: ", "older versions lose set-user-id bits of --chmod"),
    known(Some(Peer::Docker), "copy from a stage", "t/p: ", "older versions leave pipes out"),
    known(Some(Peer::Docker), "copy from a stage", "w/p: ", "likewise"),
    known(Some(Peer::Docker), "copy from a stage", "x/p: ", "likewise"),
    known(
        Some(Peer::Docker),
        "add an archive with an owner",
        "gz/",
        "older versions do not give it to what is unpacked",
    ),
    known(
        Some(Peer::BuildKit),
        "copy with modes",
        "b: ",
        "--chmod is for what is copied, not for directories made on the way",
    ),
    known(Some(Peer::BuildKit), "copy with modes", "d: ", "likewise"),
    known(Some(Peer::BuildKit), "copy with parents", "p8: ", "likewise"),
    known(Some(Peer::BuildKit), "modes with special bits", "e: ", "likewise"),
    known(
        Some(Peer::BuildKit),
        "copy from a stage",
        "v: time ",
        "the time of a directory made on the way is that of the copy",
    ),
    known(Some(Peer::BuildKit), "heredocs in copy", "history: ", "files and texts in one COPY are two layers"),
    known(
        Some(Peer::BuildKit),
        "copy with exclusions",
        "e4/b.txt: ",
        "the reference leaves out files that a wildcard found, too",
    ),
];

/// One Dockerfile.
struct Case {
    name: &'static str,
    arguments: Vec<&'static str>,
    text: String,
}

fn cases(of: &'static str) -> Vec<Case> {
    let read = |case: &'static str| {
        let (head, text) = case.split_once('\n').unwrap();
        let (name, arguments) = head.split_once(" | ").unwrap_or((head, ""));
        let text = format!("{}\n", text.trim_end_matches('\n')).replace("<CR>", "\r");
        Case { name, arguments: arguments.split_whitespace().collect(), text }
    };
    of.trim_start_matches("### ").split("\n### ").map(read).collect()
}

/// A context, a store of ours, and room for the peer.
struct Ground {
    directory: tempfile::TempDir,
}

impl Ground {
    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn path(&self, name: &str) -> String {
        self.at(name).display().to_string()
    }

    fn new() -> Self {
        let ground = Self { directory: testbed::directory() };
        let write = |file: &str, content: &str, mode: u32| {
            let path = ground.at("context").join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, content).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        };
        for (file, content, mode) in [
            ("a.txt", "a", 0o644),
            ("b.txt", "b", 0o600),
            ("a b.txt", "spaces", 0o644),
            ("dir/1", "1", 0o644),
            ("dir/sub/2", "2", 0o755),
            ("dir/sub/deep/3", "3", 0o644),
            ("links/f", "f", 0o644),
            ("modes/setuid", "s", 0o4755),
            ("modes/none", "n", 0),
            ("modes/all", "a", 0o777),
            ("modes/dir/x", "x", 0o640),
            (".hidden", "h", 0o644),
            ("-dash", "d", 0o644),
            ("odd/ü", "u", 0o644),
            ("odd/[x]", "x", 0o644),
            ("odd/q?", "q", 0o644),
            ("odd/b\\s", "b", 0o644),
            ("empty/gone", "", 0o644),
            ("ignored/keep.md", "1", 0o644),
            ("ignored/drop.log", "2", 0o644),
            ("ignored/sub/drop.log", "3", 0o644),
            ("ignored/sub/keep", "4", 0o644),
            ("ignored/only/x.log", "5", 0o644),
            ("ignored/no/a", "6", 0o644),
            ("ignored/no/yes", "7", 0o644),
            ("no.tar.gz", "this is none", 0o644),
            (".dockerignore", "# logs\n**/*.log\nignored/no\n!ignored/no/yes\n", 0o644),
        ] {
            write(file, content, mode);
        }
        let context = ground.at("context");
        std::fs::remove_file(context.join("empty/gone")).unwrap();
        std::fs::set_permissions(context.join("empty"), PermissionsExt::from_mode(0o750)).unwrap();
        std::fs::set_permissions(context.join("modes/dir"), PermissionsExt::from_mode(0o1777)).unwrap();
        for (link, to) in [
            ("dir/l", "1"),
            ("dir/ldir", "sub"),
            ("links/one", "f"),
            ("links/two", "/etc/passwd"),
            ("links/up", "../a.txt"),
            ("links/dangling", "nowhere"),
        ] {
            symlink(to, context.join(link)).unwrap();
        }
        let like = ["--owner=3", "--group=4", "--numeric-owner", "--mtime=@1000000000", "--sort=name"];
        for (how, name, what) in [
            ("-cf", "ar.tar", "dir"),
            ("-czf", "ar.tar.gz", "dir"),
            ("-cJf", "ar.tar.xz", "dir"),
            ("-cjf", "ar.tar.bz2", "dir"),
            ("-cf", "dir/sub.tar", "links"),
        ] {
            let mut tar = Command::new("tar");
            said(tar.args(like).args([how, name, what]).current_dir(&context), b"").ok();
        }
        ground
    }

    fn shipway(&self, arguments: &[&str]) -> Said {
        let mut command = Command::new(shipway());
        command.args(arguments).arg("--data").arg(self.at("data"));
        if arguments[0] == "build" {
            command.arg("--package-cache").arg(package_cache());
        }
        said(command.env_remove("SOURCE_DATE_EPOCH").current_dir(self.at("context")), b"")
    }

    /// Where the Dockerfile of a case is; beside the context, not in it.
    fn file(&self, number: usize, case: &Case) -> String {
        let path = self.at(&format!("files/{number}"));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &case.text).unwrap();
        path.display().to_string()
    }

    /// Builds all of them, and gives the images by number.
    fn ours(&self, cases: &[Case]) -> Vec<Result<Image, String>> {
        let build = |(number, case): (usize, &Case)| {
            let (file, name) = (self.file(number, case), format!("case:{number}"));
            let fixed = ["build", "--progress", "plain", "-f", &file, "-t", &name];
            self.shipway(&[&fixed[..], &case.arguments, &["."]].concat())
        };
        let built: Vec<Said> = cases.iter().enumerate().map(build).collect();
        let names: Vec<String> = (0..cases.len()).map(|number| format!("case:{number}")).collect();
        let good = names.iter().zip(&built).filter(|(_, said)| said.success()).map(|(name, _)| name.as_str());
        let saved = self.path("ours.tar");
        self.shipway(&[&["image", "save", "-o", &saved], &good.collect::<Vec<_>>()[..]].concat()).ok();
        let archive = tree::archive(&self.at("ours.tar"), &self.at("ours"));
        let mut reader = Reader::default();
        let of = |(name, said): (&String, Said)| match said.success() {
            true => Ok(reader.archived(&self.at("ours"), &archive[name])),
            false => Err(said.err),
        };
        names.iter().zip(built).map(of).collect()
    }
}

/// What `FROM` and other instructions of the history do with it: their names, and whether they made a layer.
fn history(image: &Image) -> Vec<(String, bool)> {
    let steps = image.config["history"].as_array().into_iter().flatten();
    let step = |step: &Value| {
        let text = step["created_by"].as_str().unwrap_or_default();
        let word = text.split_whitespace().next().unwrap_or_default().to_owned();
        // A WORKDIR that is there already is a layer with nothing in it to BuildKit, and none here.
        let layer = word != "WORKDIR" && step["empty_layer"] != true;
        (word, layer)
    };
    // The base's own, which an import into Docker leaves without a text.
    steps.map(step).filter(|(word, _)| !word.is_empty() && word != "shipway").collect()
}

/// A line for each thing that is not the same.
fn differences(peer: Peer, case: &Case, ours: &Image, theirs: &Image) -> Vec<String> {
    let mut lines = Vec::new();
    // Nothing, null and an empty list are the same.
    let value = |image: &Image, key: &str| match &image.config["config"][key] {
        Value::Array(list) if list.is_empty() => Value::Null,
        Value::Object(map) if map.is_empty() => Value::Null,
        Value::String(text) if text.is_empty() => Value::Null,
        other => other.clone(),
    };
    for key in [
        "User",
        "Env",
        "Entrypoint",
        "Cmd",
        "Volumes",
        "WorkingDir",
        "StopSignal",
        "ExposedPorts",
        "Labels",
        "Healthcheck",
        "Shell",
        "OnBuild",
    ] {
        let (our, their) = (value(ours, key), value(theirs, key));
        if our != their {
            lines.push(format!("{key}: {our} here, {their} there"));
        }
    }
    for key in ["author", "os", "architecture"] {
        if ours.config[key] != theirs.config[key] {
            lines.push(format!("{key}: {} here, {} there", ours.config[key], theirs.config[key]));
        }
    }
    let (our, their) = (history(ours), history(theirs));
    if our != their {
        lines.push(format!("history: {our:?} here, {their:?} there"));
    }
    let (our, their) = (ours.tree.lines(), theirs.tree.lines());
    let paths: std::collections::BTreeSet<&String> = our.keys().chain(their.keys()).collect();
    for path in paths {
        match (our.get(path), their.get(path)) {
            (Some(ours), Some(theirs)) if ours.0 != theirs.0 => {
                lines.push(format!("{path}: {} here, {} there", ours.0, theirs.0));
            }
            (Some(ours), Some(theirs)) if ours.1 != theirs.1 && theirs.1 < FIXED => {
                lines.push(format!("{path}: time {} here, {} there", ours.1, theirs.1));
            }
            (Some(_), Some(_)) => {}
            // Older versions leave the places behind where they mounted something.
            (None, Some(theirs))
                if peer == Peer::Docker && case.text.contains("--mount") && theirs.0 == "directory 755 0:0" => {}
            (ours, theirs) => lines.push(format!("{path}: {ours:?} here, {theirs:?} there")),
        }
    }
    lines
}

/// Fails with all that is not the same and not known.
fn compare(peer: Peer, cases: &[Case], ours: Vec<Result<Image, String>>, theirs: Vec<Result<Image, String>>) {
    let mut wrong = Vec::new();
    let mut seen: BTreeMap<usize, usize> = BTreeMap::new();
    for (case, (ours, theirs)) in cases.iter().zip(ours.iter().zip(&theirs)) {
        let (ours, theirs) = match (ours, theirs) {
            (Ok(ours), Ok(theirs)) => (ours, theirs),
            (ours, theirs) => {
                for (who, image) in [("shipway", ours), ("the peer", theirs)] {
                    if let Err(error) = image {
                        wrong.push(format!("{}: {who} does not build it: {error}", case.name));
                    }
                }
                continue;
            }
        };
        for line in differences(peer, case, ours, theirs) {
            let is_known = |known: &Known| {
                known.peer.is_none_or(|one| one == peer) && known.case == case.name && line.starts_with(known.what)
            };
            match KNOWN.iter().position(is_known) {
                Some(at) => *seen.entry(at).or_default() += 1,
                None => wrong.push(format!("{}: {line}", case.name)),
            }
        }
    }
    for (at, known) in KNOWN.iter().enumerate() {
        let here = known.peer.is_none() && cases.iter().any(|case| case.name == known.case);
        if here && !seen.contains_key(&at) {
            wrong.push(format!("{}: `{}` is the same by now: take it off the list", known.case, known.what));
        }
    }
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

fn possible(tools: &[&str]) -> bool {
    need_root() && need_mirror() && ["unshare", "ip", "tar"].iter().chain(tools).all(|tool| need_tool(tool))
}

#[test]
fn the_buildkit_of_docker_builds_the_same() {
    if !possible(&["dockerd", "docker"]) {
        return;
    }
    let ground = Ground::new();
    let Some(docker) = Docker::start(&ground) else { return };
    let cases = cases(include_str!("dockerfiles.txt"));
    let (ours, theirs) = std::thread::scope(|scope| {
        let theirs = scope.spawn(|| docker.build(&cases));
        (ground.ours(&cases), theirs.join())
    });
    let Ok(theirs) = theirs else { panic!("docker: {}", docker.log()) };
    drop(docker);
    compare(Peer::Docker, &cases, ours, theirs);
    assert_eq!(leftovers(&ground.at("data")), [] as [String; 0]);
}

#[test]
fn docker_loads_and_runs_what_is_written() {
    if !possible(&["dockerd", "docker"]) {
        return;
    }
    let ground = Ground::new();
    let Some(docker) = Docker::start_bare(&ground) else { return };
    let text = "### one\nFROM debian\nCOPY --chown=7:8 a.txt /a\nENV SAID=hello\nUSER 7\nENTRYPOINT [\"sh\", \"-c\"]\n";
    let file = ground.file(1, &cases(text)[0]);
    let archive = ground.path("load.tar");
    for (name, more) in [("a:1", ""), ("a:2", ",oci-mediatypes=false"), ("a:3", ",compression=uncompressed")] {
        let output = format!("type=docker,dest={archive}{more}");
        ground.shipway(&["build", "-q", "-f", &file, "-t", name, "-o", &output, "."]).ok();
        let loaded = docker.run(&["load", "--input", &archive]).ok();
        assert!(loaded.contains(&format!("Loaded image: {name}")), "{loaded}");
        let theirs = json(&docker.run(&["inspect", name]).ok())[0].clone();
        let ours = json(&ground.shipway(&["image", "inspect", name]).ok())[0].clone();
        assert_eq!(theirs["RootFS"]["Layers"], ours["RootFS"]["diff_ids"], "{name}");
        for key in ["User", "Entrypoint", "Env"] {
            assert_eq!(theirs["Config"][key], ours["Config"][key], "{name} {key}");
        }
    }
    // What was in the store in zstd, too.
    let usual = ground.shipway(&["build", "-q", "-f", &file, "-t", "b:1", "."]);
    usual.ok();
    ground.shipway(&["image", "save", "b:1", "-o", &archive, "--compression", "gzip"]).ok();
    docker.run(&["load", "--input", &archive]).ok();
    // Of an index, the image for this machine's platform.
    let file = ground.file(2, &cases("### index\nFROM scratch\nCOPY a.txt /\n")[0]);
    let platforms = ["--platform", "linux/amd64,linux/arm64"];
    ground.shipway(&[&["build", "-q", "-f", &file, "-t", "c:1"][..], &platforms, &["."]].concat()).ok();
    ground.shipway(&["image", "save", "c:1", "-o", &archive]).ok();
    docker.run(&["load", "--input", &archive]).ok();
    let own = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    assert_eq!(json(&docker.run(&["inspect", "c:1"]).ok())[0]["Architecture"], own);
    for name in ["a:1", "b:1"] {
        let ran =
            docker.run(&["run", "--rm", "--network=none", name, "cat /a; stat -c ' %u:%g' /a; echo $SAID; id -u"]);
        if ran.err.contains("cgroup") || ran.err.contains("OCI runtime") {
            skip(&format!("docker runs no containers here: {}", ran.err));
            return;
        }
        assert_eq!(ran.ok(), "a 7:8\nhello\n7\n", "{name}");
    }
}

#[test]
fn a_newer_buildkit_builds_the_same() {
    if !possible(&["buildkitd", "buildctl", "runc"]) {
        return;
    }
    let ground = Ground::new();
    let Some(buildkit) = BuildKit::start(&ground) else { return };
    let mut cases = cases(include_str!("dockerfiles.txt"));
    cases.extend(self::cases(include_str!("newer.txt")));
    let theirs = buildkit.build(&cases);
    let ours = ground.ours(&cases);
    drop(buildkit);
    compare(Peer::BuildKit, &cases, ours, theirs);
}

/// `path` below a directory, as an argument.
fn below(directory: &Path, path: &str) -> String {
    directory.join(path).display().to_string()
}
