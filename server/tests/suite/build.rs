//! `shipway build` and `shipway image`, driven as people drive `docker build`; and the same Dockerfile built by `buildah`.

use std::{
    collections::BTreeMap,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::Command,
};

use image::layer::{ApplyOptions, Whiteouts, apply};
use testbed::{Said, json, leftovers, need_mirror, need_root, need_tool, package_cache, said, sha256};

use crate::shipway;

/// A context and a local store of its own.
struct Bench {
    directory: tempfile::TempDir,
}

impl Bench {
    fn new() -> Option<Self> {
        (need_root() && need_mirror()).then(|| Self { directory: testbed::directory() })
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn data(&self) -> PathBuf {
        self.at("data")
    }

    fn write(&self, file: &str, content: &str) {
        let path = self.at("context").join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    fn run(&self, arguments: &[&str]) -> Said {
        let mut command = Command::new(shipway());
        command.args(arguments).arg("--data").arg(self.data()).arg("--package-cache").arg(package_cache());
        command.env_remove("SOURCE_DATE_EPOCH").current_dir(self.at("context"));
        said(&mut command, b"")
    }
}

const DOCKERFILE: &str = r#"FROM debian AS build
WORKDIR /src
COPY dir/ ./dir/
COPY --chown=1000:1000 --chmod=750 a.txt /owned/
RUN echo run > /src/out && ln -s out /src/link && ln /src/out /src/hard && chmod 4755 /src/hard && mkdir -p /src/empty && rm /etc/issue
FROM debian
ENV A=1 B="two words"
LABEL x=y
COPY --from=build /src /app
COPY *.txt /texts/
ADD ar.tar.gz /ar/
COPY <<one <<"two" /here/
$A
one
$A
two
WORKDIR /app/work
USER 1000:1000
EXPOSE 80 53/udp
VOLUME /data
STOPSIGNAL SIGINT
ENTRYPOINT ["cat"]
CMD ["/app/out"]
"#;

fn filled(bench: &Bench) {
    bench.write("Dockerfile", DOCKERFILE);
    bench.write("dir/1", "1");
    bench.write("dir/sub/2", "2");
    bench.write("a.txt", "a");
    bench.write("b.txt", "b");
    std::os::unix::fs::symlink("1", bench.at("context/dir/l")).unwrap();
    std::fs::set_permissions(bench.at("context/b.txt"), std::fs::Permissions::from_mode(0o600)).unwrap();
    let packed = Command::new("tar").args(["czf", "ar.tar.gz", "dir"]).current_dir(bench.at("context")).status();
    assert!(packed.unwrap().success());
}

/// What an entry of a tree is: kind, mode, owner, and content.
type Tree = BTreeMap<String, String>;

/// The configuration and the files of the one image of an OCI layout.
fn unpacked(layout: &Path, into: &Path) -> (serde_json::Value, Tree) {
    let blob = |digest: &serde_json::Value| layout.join("blobs").join(digest.as_str().unwrap().replacen(':', "/", 1));
    let read = |path: &Path| json(&std::fs::read_to_string(path).unwrap());
    let index = read(&layout.join("index.json"));
    let manifest = read(&blob(&index["manifests"][0]["digest"]));
    std::fs::create_dir(into).unwrap();
    for layer in manifest["layers"].as_array().unwrap() {
        let options = ApplyOptions { whiteouts: Whiteouts::Delete, absolute_links: true, ..ApplyOptions::default() };
        apply(std::fs::File::open(blob(&layer["digest"])).unwrap(), into, &options).unwrap();
    }
    let mut tree = Tree::new();
    for entry in walkdir::WalkDir::new(into).min_depth(1) {
        let entry = entry.unwrap();
        let metadata = entry.path().symlink_metadata().unwrap();
        let content = match metadata.file_type() {
            kind if kind.is_file() => {
                let content = sha256(&std::fs::read(entry.path()).unwrap());
                format!("{content} {}", metadata.nlink())
            }
            kind if kind.is_symlink() => std::fs::read_link(entry.path()).unwrap().display().to_string(),
            _ => String::new(),
        };
        let path = entry.path().strip_prefix(into).unwrap().display().to_string();
        let mode = if metadata.is_symlink() { 0 } else { metadata.mode() };
        tree.insert(path, format!("{mode:o} {}:{} {content}", metadata.uid(), metadata.gid()));
    }
    (read(&blob(&manifest["config"]["digest"])), tree)
}

#[test]
fn buildah_builds_the_same() {
    let Some(bench) = Bench::new() else { return };
    if !need_tool("buildah") {
        return;
    }
    filled(&bench);
    let layout = bench.at("layout");
    bench.run(&["build", "-t", "eq:1", "-o", &format!("type=oci,tar=false,dest={}", layout.display()), "."]).ok();
    let (ours, our_tree) = unpacked(&layout, &bench.at("ours"));

    let base = bench.at("base.tar");
    bench.run(&["image", "save", "base/debian:trixie", "-o", &base.display().to_string()]).ok();
    let buildah = |arguments: &[&str]| -> Option<Said> {
        let mut command = Command::new("buildah");
        command.arg("--root").arg(bench.at("root")).arg("--runroot").arg(bench.at("runroot"));
        command.args(["--storage-driver", "vfs"]).args(arguments).current_dir(bench.at("context"));
        let said = said(&mut command, b"");
        if said.success() {
            return Some(said);
        }
        testbed::skip(&format!("buildah {} does not work here: {}", arguments[0], said.err));
        None
    };
    let Some(pulled) = buildah(&["pull", "-q", &format!("oci-archive:{}", base.display())]) else { return };
    let id = pulled.ok().trim().to_owned();
    if buildah(&["tag", &id, "localhost/debian"]).is_none() {
        return;
    }
    // It has one heredoc more than older versions read; the rest is the same file.
    let theirs = bench.at("theirs");
    let text = DOCKERFILE.replace("FROM debian", "FROM localhost/debian");
    let without: String = text.replace("COPY <<one <<\"two\" /here/\n$A\none\n$A\ntwo\n", "COPY here /here\n");
    bench.write("Dockerfile.buildah", &without);
    bench.write("here/one", "1\n");
    bench.write("here/two", "$A\n");
    let built =
        buildah(&["build", "--isolation", "chroot", "--layers", "-q", "-t", "eq", "-f", "Dockerfile.buildah", "."]);
    if built.is_none() || buildah(&["push", "-q", "eq", &format!("oci:{}", theirs.display())]).is_none() {
        return;
    }
    let (other, other_tree) = unpacked(&theirs, &bench.at("other"));
    for key in ["User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Volumes", "WorkingDir", "StopSignal"] {
        assert_eq!(ours["config"][key], other["config"][key], "{key}");
    }
    assert_eq!(ours["config"]["Labels"]["x"], other["config"]["Labels"]["x"]);
    let mut differ: Vec<String> = Vec::new();
    for path in our_tree.keys().chain(other_tree.keys()) {
        let (our, other) = (our_tree.get(path), other_tree.get(path));
        // What buildah mounts while it runs a command stays behind as an empty place.
        // The directory of a last WORKDIR it makes only when something runs there.
        let litter = ["app/work", "run", "proc", "sys", "dev", "etc/hosts", "etc/resolv.conf", "etc/hostname"];
        let is_litter = litter.iter().any(|place| path == place || path.starts_with(&format!("{place}/")));
        if our != other && !is_litter {
            differ.push(format!("{path}: {our:?} {other:?}"));
        }
    }
    differ.dedup();
    assert!(differ.is_empty(), "{}", differ.join("\n"));
}

#[test]
fn the_same_files_give_the_same_digest_and_nothing_is_done_twice() {
    let Some(bench) = Bench::new() else { return };
    filled(&bench);
    let digest = |more: &[&str]| {
        let all: Vec<&str> =
            ["build", "-q", "--build-arg", "SOURCE_DATE_EPOCH=1700000000"].iter().chain(more).copied().collect();
        bench.run(&[&all[..], &["."]].concat()).ok().trim().to_owned()
    };
    let first = digest(&[]);
    assert_eq!(digest(&[]), first);
    assert_eq!(digest(&["--no-cache"]), first, "built anew, at another time");
    let shown = bench.run(&["build", "--progress", "plain", "--build-arg", "SOURCE_DATE_EPOCH=1700000000", "."]);
    assert!(shown.success() && shown.err.contains("CACHED"), "{shown:?}");
    bench.write("a.txt", "other");
    assert_ne!(digest(&[]), first);

    // The verbs of the local store.
    bench.run(&["image", "tag", &first, "a:1"]).ok();
    bench.run(&["image", "tag", "a:1", "r.example.org:5000/b/c:2"]).ok();
    let listed = bench.run(&["image", "ls"]).ok();
    assert!(listed.contains("r.example.org:5000/b/c") && listed.contains("<none>"), "{listed}");
    assert_eq!(json(&bench.run(&["image", "inspect", "a:1"]).ok())[0]["Config"]["User"], "1000:1000");
    assert!(bench.run(&["image", "history", "a:1"]).ok().contains("COPY --from=build /src /app"));
    let saved = bench.at("saved.tar").display().to_string();
    bench.run(&["image", "save", "a:1", "-o", &saved]).ok();
    bench.run(&["image", "rm", "r.example.org:5000/b/c:2", "a:1"]).ok();
    bench.run(&["image", "prune"]).ok();
    bench.run(&["image", "inspect", "a:1"]).failed();
    assert!(bench.run(&["image", "load", "-i", &saved]).ok().contains("a:1"));
    assert_eq!(json(&bench.run(&["image", "inspect", "a:1"]).ok())[0]["Id"], first);
    assert!(bench.run(&["image", "tag", "a:1", "b"]).failed().contains("latest"));
    assert_eq!(leftovers(&bench.data()), [] as [String; 0]);
}

#[test]
fn what_is_wrong_is_shown_with_its_line_and_leaves_nothing() {
    let Some(bench) = Bench::new() else { return };
    bench.write(
        "Dockerfile",
        "FROM debian\nRUN --mount=type=secret,id=t cat /run/secrets/t && echo oh no >&2 && exit 3\n",
    );
    bench.write("secret", "hunter2hunter2");
    let failed = bench.run(&["build", "--secret", "id=t,src=secret", "."]).failed();
    assert!(failed.contains("Dockerfile:2:1: the command exited with status 3"), "{failed}");
    assert!(failed.contains("2 | RUN --mount") && failed.contains("oh no"), "{failed}");
    assert!(!failed.contains("hunter2") && failed.contains("***"), "{failed}");
    bench.write("Dockerfile", "FROM debian\nCOPY pakage.json /\n");
    bench.write("package.json", "{}");
    assert!(bench.run(&["build", "."]).failed().contains("did you mean `package.json`?"));
    bench.write("Dockerfile", "FROM debian\nRUN apt-get install -y curl\n");
    let checked = bench.run(&["build", "--check", "."]).failed();
    for rule in ["UnpinnedPackages", "PackageCacheLeft", "RunsAsRoot"] {
        assert!(checked.contains(rule), "{checked}");
    }
    bench.write("Dockerfile", "# check=skip=all\nFROM debian\nRUN apt-get install -y curl\n");
    bench.run(&["build", "--check", "."]).ok();
    assert_eq!(leftovers(&bench.data()), [] as [String; 0]);
}

#[test]
fn compose_builds_what_services_say() {
    let Some(bench) = Bench::new() else { return };
    bench.write(
        "compose.yaml",
        "services:\n  web:\n    image: shop/web:${TAG}\n    build:\n      context: web\n      args: {WHO: you}\n",
    );
    bench.write("compose.override.yaml", "services:\n  web:\n    build: {target: run}\n");
    bench.write(".env", "TAG=7\n");
    bench.write(
        "web/Dockerfile",
        "FROM scratch AS run\nARG WHO\nLABEL who=$WHO\nCOPY Dockerfile /\nFROM nothing-like-it\n",
    );
    let compose = |arguments: &[&str]| {
        let mut command = Command::new(shipway());
        command.arg("compose").args(arguments).current_dir(bench.at("context"));
        if arguments[0] == "build" {
            command.arg("--data").arg(bench.data()).arg("--package-cache").arg(package_cache());
        }
        said(&mut command, b"")
    };
    let model = json(&compose(&["config", "--json"]).ok());
    assert_eq!(model["services"]["web"]["build"]["target"], "run");
    assert_eq!(compose(&["config", "--images"]).ok().trim(), "shop/web:7");
    compose(&["build"]).ok();
    let found = json(&bench.run(&["image", "inspect", "shop/web:7"]).ok());
    assert_eq!(found[0]["Config"]["Labels"]["who"], "you");
}
