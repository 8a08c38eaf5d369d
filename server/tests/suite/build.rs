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

/// The layers of a Docker archive: how each begins.
fn beginnings(archive: &Path) -> Vec<Vec<u8>> {
    use std::io::Read;
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut manifest = serde_json::Value::Null;
    for entry in tar::Archive::new(std::fs::File::open(archive).unwrap()).entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().display().to_string();
        let mut content = Vec::new();
        let most = if path == "manifest.json" { 1 << 20 } else { 4 };
        (&mut entry).take(most).read_to_end(&mut content).unwrap();
        if path == "manifest.json" {
            manifest = serde_json::from_slice(&content).unwrap();
        }
        files.insert(path, content);
    }
    let layers = manifest[0]["Layers"].as_array().unwrap();
    layers.iter().map(|layer| files[layer.as_str().unwrap()].clone()).collect()
}

#[test]
fn what_older_readers_take_has_no_zstd() {
    let Some(bench) = Bench::new() else { return };
    bench.write("Dockerfile", "FROM debian\nCOPY a.txt /\n");
    bench.write("a.txt", "a");
    let (tar, gzip) = (bench.at("x.tar"), [0x1f, 0x8b]);
    let build = |name: &str, output: &str| {
        bench.run(&["build", "-q", "-t", name, "-o", &output.replace("TAR", &tar.display().to_string()), "."]).ok();
        json(&bench.run(&["image", "inspect", name]).ok())[0].clone()
    };
    let types = |image: &serde_json::Value| {
        let layers = image["Layers"].as_array().unwrap();
        let last =
            |layer: &serde_json::Value| layer["mediaType"].as_str().unwrap().rsplit('.').next().unwrap().to_owned();
        layers.iter().map(last).collect::<Vec<_>>()
    };
    // The base's layers are the store's own, in zstd, until somebody says otherwise.
    let usual = build("usual:1", "type=oci,dest=TAR");
    assert_eq!(types(&usual), ["tar+zstd", "tar+gzip"]);
    for (output, wanted) in [
        ("type=docker,dest=TAR", "tar+gzip"),
        ("type=oci,dest=TAR,compression=gzip", "tar+gzip"),
        ("type=docker,dest=TAR,oci-mediatypes=false", "gzip"),
        ("type=oci,dest=TAR,compression=zstd", "tar+zstd"),
        ("type=docker,dest=TAR,compression=uncompressed", "tar"),
    ] {
        let image = build("other:1", output);
        assert!(types(&image).iter().all(|one| one == wanted), "{output}: {image}");
        // The files are the same; only what they are packed in is not.
        assert_eq!(image["RootFS"], usual["RootFS"], "{output}");
        let begun = beginnings(&tar).iter().all(|begin| begin.starts_with(&gzip));
        assert_eq!(begun, wanted.ends_with("gzip"), "{output}");
    }
    // The same for what is there already; the store keeps what it had.
    let saved = bench.at("saved.tar");
    let save = |more: &[&str]| {
        let to = saved.display().to_string();
        bench.run(&[&["image", "save", "usual:1", "-o", &to], more].concat()).ok();
        beginnings(&saved).iter().filter(|begin| begin.starts_with(&gzip)).count()
    };
    assert_eq!(save(&[]), 1);
    let listed = bench.run(&["image", "ls"]).ok();
    assert_eq!(save(&["--compression", "gzip"]), 2);
    assert_eq!(bench.run(&["image", "ls"]).ok().lines().count(), listed.lines().count());
    assert_eq!(json(&bench.run(&["image", "inspect", "usual:1"]).ok())[0]["Id"], usual["Id"]);
    assert!(
        bench.run(&["image", "save", "usual:1", "--compression", "lzma"]).failed().contains("zstd and uncompressed")
    );
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
    let mut header = tar::Header::new_gnu();
    header.set_path("file").unwrap();
    header.set_size(5000);
    header.set_cksum();
    std::fs::write(bench.at("context/cut.tar"), [&header.as_bytes()[..], &[7; 3000]].concat()).unwrap();
    assert!(bench.run(&["build", "."]).failed().contains("did you mean `package.json`?"));
    bench.write("Dockerfile", "FROM debian\nRUN apt-get install -y curl\n");
    let checked = bench.run(&["build", "--check", "."]).failed();
    for rule in ["UnpinnedPackages", "PackageCacheLeft", "RunsAsRoot"] {
        assert!(checked.contains(rule), "{checked}");
    }
    bench.write("Dockerfile", "# check=skip=all\nFROM debian\nRUN apt-get install -y curl\n");
    bench.run(&["build", "--check", "."]).ok();
    // Whatever a line names and is not to be had is shown with the line.
    for (text, wanted) in [
        ("FROM scratch AS first\nFROM localhost:1/none:1\n", &["Dockerfile:2:6: ", "cannot be pulled"][..]),
        (
            "FROM scratch AS build\nFROM localhost:1/biuld:1 AS x\nFROM scratch\nCOPY --from=x / /\n",
            &["Dockerfile:2:6: "],
        ),
        ("FROM scratch\nCOPY --from=localhost:1/none:1 /a /\n", &["Dockerfile:2:13: "]),
        ("FROM scratch\nADD http://127.0.0.1:1/file /\n", &["Dockerfile:2:5: cannot fetch http://127.0.0.1:1/file"]),
        ("FROM debian\nUSER nobody2\nRUN true\n", &["Dockerfile:2:6: there is no user `nobody2`", "2 | USER nobody2"]),
        ("FROM debian\nUSER nobody2\nWORKDIR /x\n", &["Dockerfile:2:6: there is no user `nobody2`"]),
        ("FROM scratch\nADD cut.tar /\n", &["Dockerfile:2:1: ", "ends in the middle"]),
    ] {
        bench.write("Dockerfile", text);
        let failed = bench.run(&["build", "--progress", "plain", "."]).failed();
        assert!(wanted.iter().all(|wanted| failed.contains(wanted)), "{text}: {failed}");
        assert!(!failed.contains("WARN") && !failed.contains("container `"), "{failed}");
    }
    // And where it cannot be written, before anything is done.
    bench.write("Dockerfile", "FROM debian\nRUN exit 1\n");
    for arguments in [["--iidfile", "no/such/id"], ["-o", "type=oci,dest=no/such/x.tar"], ["-o", "Dockerfile/x"]] {
        let refused = bench.run(&[&["build"][..], &arguments, &["."]].concat()).failed();
        assert!(refused.contains("cannot write") && !refused.contains("#1"), "{refused}");
    }
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
        if matches!(arguments[0], "build" | "push") {
            command.arg("--data").arg(bench.data()).arg("--package-cache").arg(package_cache());
        }
        command.env_remove("COMPOSE_PROJECT_NAME").env_remove("DOCKER_DEFAULT_PLATFORM");
        said(&mut command, b"")
    };
    let model = json(&compose(&["config", "--json"]).ok());
    assert_eq!(model["services"]["web"]["build"]["target"], "run");
    assert_eq!(compose(&["config", "--images"]).ok().trim(), "shop/web:7");
    compose(&["build"]).ok();
    let found = json(&bench.run(&["image", "inspect", "shop/web:7"]).ok());
    assert_eq!(found[0]["Config"]["Labels"]["who"], "you");
    // Several at once, each behind what it takes from; and what has no name is not pushed.
    bench.write(
        "several/compose.yaml",
        "services:\n  a:\n    build: {context: ., dockerfile_inline: \"FROM b\\nCOPY compose.yaml /a\\n\", additional_contexts: {b: 'service:b'}}\n  \
         b:\n    image: several-b:1\n    build: {context: ., dockerfile: D, platforms: [linux/amd64, linux/arm64], extra_hosts: ['h:host-gateway']}\n  \
         c:\n    build: {context: ., dockerfile: D, cache_to: ['type=local,dest=cache']}\n",
    );
    bench.write("several/D", "FROM scratch\nCOPY compose.yaml /b\n");
    let file = ["-f", "several/compose.yaml"];
    let built = compose(&[&["build", "--progress", "plain"][..], &file].concat());
    for line in [
        "[linux/arm64 2/2] COPY compose.yaml /b",
        "b has no effect on a build here: extra_hosts h=host-gateway",
        "several-b:1 sha256:",
        "a several-a:local sha256:",
    ] {
        assert!(built.err.contains(line), "{line}: {}", built.err);
    }
    let (a, b) = (built.err.find("a several-a:local").unwrap(), built.err.find("several-b:1 sha256").unwrap());
    assert!(b < a, "{}", built.err);
    built.ok();
    assert!(bench.at("context/cache/index.json").exists());
    let pushed = compose(&[&["push"][..], &file, &["a", "c"]].concat());
    assert!(pushed.err.contains("service a is left out: it has no `image:`") && pushed.out.is_empty(), "{pushed:?}");
    pushed.ok();
    bench.write("several/D", "FROM scratch\nCOPY nothing /b\n");
    let failed = compose(&[&["build"][..], &file].concat()).failed();
    assert!(failed.contains("service b: several/D:2") || failed.contains("service c: several/D:2"), "{failed}");
    // What commands find around them.
    bench.write(
        "around/compose.yaml",
        "services:\n  a:\n    image: around:1\n    build:\n      dockerfile_inline: |\n        FROM debian\n        \
         RUN ulimit -n >/n; ulimit -Hn >>/n; ulimit -c >>/n; df -k /dev/shm | tail -1 | awk '{print $2}' >/m; grep db. /etc/hosts >/h\n      \
         extra_hosts: ['db1:10.9.8.7', 'db2=[fd00::7]']\n      shm_size: 3mb\n      ulimits: {nofile: {soft: 77, hard: 99}, core: 0}\n",
    );
    compose(&["build", "-f", "around/compose.yaml"]).ok();
    bench.write("around/Dockerfile", "FROM scratch\nCOPY --from=around:1 /n /m /h /\n");
    bench.run(&["build", "-o", "around/out", "around"]).ok();
    let out = |name: &str| std::fs::read_to_string(bench.at("context/around/out").join(name)).unwrap();
    assert_eq!((out("n").as_str(), out("m").as_str()), ("77\n99\n0\n", "3072\n"));
    let found: Vec<String> =
        out("h").lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(found, ["10.9.8.7 db1", "fd00::7 db2"]);
    for (wrong, why) in [
        ("ulimits: {nofile: {soft: 9}}", "has no `hard`"),
        ("ulimits: {nofiles: 9}", "mean `nofile`"),
        ("extra_hosts: [a]", "`a` has no name"),
        ("extra_hosts: 'a:1.2.3.4'", "`extra_hosts` is to be a list"),
        ("args: text", "`args` is to have names and values"),
    ] {
        bench.write("around/wrong.yaml", &format!("services:\n  a:\n    build: {{context: ., {wrong}}}\n"));
        let refused = compose(&["build", "-f", "around/wrong.yaml"]).failed();
        assert!(refused.contains(why), "{wrong}: {refused}");
    }
    bench.write("several/wrong.yaml", "services:\n  a: {imge: x}\n");
    let refused = compose(&["config", "-f", "several/wrong.yaml"]).failed();
    assert!(refused.contains("wrong.yaml:2:7: `services.a` has no key `imge`: did you mean `image`?"), "{refused}");
    assert_eq!(leftovers(&bench.data()), [] as [String; 0]);
}

/// Two stages with commands that say that they ran.
const LOUD: &str = "FROM debian AS a\nCOPY a.txt /a\nRUN echo loud-one && cat /a > /out\nFROM debian\nCOPY dir/ /dir/\n\
                    RUN --mount=type=cache,target=/cache echo loud-two && ls /dir > /two && echo kept > /cache/kept\nCOPY --from=a /out /out\n";

/// Whether a command said this, in plain progress.
fn spoke(said: &Said, text: &str) -> bool {
    said.err.lines().any(|line| line.starts_with('#') && line.split_once(' ').is_some_and(|(_, rest)| rest == text))
}

#[test]
fn another_machine_takes_results_from_a_cache_and_runs_nothing() {
    let Some(bench) = Bench::new() else { return };
    filled(&bench);
    bench.write("Dockerfile", LOUD);
    let (cache, trace) = (bench.at("cache").display().to_string(), bench.at("trace.json").display().to_string());
    let epoch = ["--build-arg", "SOURCE_DATE_EPOCH=1700000000"];
    let to = format!("type=local,dest={cache},mode=max,mounts=true");
    let first = bench.run(&[&["build", "--cache-to", &to, "--trace", &trace][..], &epoch, &["."]].concat());
    assert!(spoke(&first, "loud-one") && spoke(&first, "loud-two"), "{first:?}");
    let digest = first.ok().trim().to_owned();

    // Where the time went: a track for each vertex, with what was done for it.
    let events = json(&std::fs::read_to_string(&trace).unwrap());
    let events = events["traceEvents"].as_array().unwrap();
    for name in ["scan", "hash", "vertex", "queue", "run", "snapshot", "container", "compress", "export cache"] {
        assert!(events.iter().any(|event| event["name"] == name && event["dur"].as_f64() > Some(0.0)), "{name}");
    }
    assert!(events.iter().any(|event| event["args"]["name"].as_str().is_some_and(|title| title.contains("loud-two"))));

    let elsewhere = |data: &str, more: &[&str]| {
        let mut command = Command::new(shipway());
        command.args(["build", "--progress", "plain"]).args(epoch).args(more).arg(".");
        command.arg("--data").arg(bench.at(data)).arg("--package-cache").arg(package_cache());
        command.env_remove("SOURCE_DATE_EPOCH").current_dir(bench.at("context"));
        said(&mut command, b"")
    };
    let from = format!("type=local,src={cache}");
    let second = elsewhere("data2", &["--cache-from", &from]);
    assert!(!spoke(&second, "loud-one") && !spoke(&second, "loud-two"), "{second:?}");
    assert_eq!(second.ok().trim(), digest);
    let kept = Command::new("find").arg(bench.at("data2/caches")).args(["-name", "kept"]).output().unwrap();
    assert!(!kept.stdout.is_empty(), "the cache directory came along");

    // What was changed on its way is not taken, and costs the time to make it again.
    let blobs = bench.at("cache/blobs/sha256");
    for blob in std::fs::read_dir(&blobs).unwrap().map(|entry| entry.unwrap().path()) {
        let mut content = std::fs::read(&blob).unwrap();
        if content.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
            *content.last_mut().unwrap() ^= 1;
            std::fs::write(&blob, content).unwrap();
        }
    }
    let third = elsewhere("data3", &["--cache-from", &from]);
    assert!(spoke(&third, "loud-one") && spoke(&third, "loud-two"), "{third:?}");
    assert_eq!(third.ok().trim(), digest);
    let none = elsewhere("data3", &["--cache-from", "type=local,src=/nowhere/at/all", "--no-cache"]);
    assert!(none.err.contains("there is no cache at /nowhere/at/all yet"), "{none:?}");
    none.ok();
    for data in ["data", "data2", "data3"] {
        assert_eq!(leftovers(&bench.at(data)), [] as [String; 0]);
    }
}

#[test]
fn a_registry_is_a_cache_for_a_machine_that_has_nothing() {
    let Some(bench) = Bench::new() else { return };
    let server = testbed::Options::new(shipway()).start();
    filled(&bench);
    bench.write("Dockerfile", LOUD);
    let auth = base64::Engine::encode(
        &base64::engine::general_purpose::STANDARD,
        format!("admin:{}", server.token()).as_bytes(),
    );
    let login = serde_json::json!({ "auths": { server.host(): { "auth": auth } } }).to_string();
    bench.write("../docker/config.json", &login);
    let build = |data: &str, more: &[&str]| {
        let mut command = Command::new(shipway());
        command.args(["build", "--progress", "plain"]).args(more).arg(".").env("DOCKER_CONFIG", bench.at("docker"));
        command.arg("--data").arg(bench.at(data)).arg("--package-cache").arg(package_cache());
        command.env("SOURCE_DATE_EPOCH", "1700000000").current_dir(bench.at("context"));
        said(&mut command, b"")
    };
    let place = format!("type=registry,ref={}/cache/app:main", server.host());
    let first = build("data", &["--cache-to", &format!("{place},mode=max")]);
    assert!(spoke(&first, "loud-one") && spoke(&first, "loud-two"), "{first:?}");
    let digest = first.ok();
    let second = build("fresh", &["--cache-from", &place]);
    assert!(!spoke(&second, "loud-one") && !spoke(&second, "loud-two"), "{second:?}");
    // The steps that the image is made of, and no other is looked at; none of them was done.
    let (done, cached) = (second.err.matches(" DONE").count(), second.err.matches(" CACHED").count());
    assert_eq!((done, cached), (0, 3), "{second:?}");
    assert_eq!(second.ok(), digest);

    // A cache that goes with its image, which is the same image with and without it.
    let image = format!("{}/cache/inline:1", server.host());
    let built = build("data", &["-t", &image, "--cache-to", "type=inline", "--push", "--quiet"]).ok();
    assert_eq!(built.trim(), digest.trim());
    let third = build("third", &["--cache-from", &image]);
    assert!(!spoke(&third, "loud-one") && !spoke(&third, "loud-two"), "{third:?}");
    let (done, cached) = (third.err.matches(" DONE").count(), third.err.matches(" CACHED").count());
    assert_eq!((done, cached), (0, 3), "{third:?}");
    assert_eq!(third.ok().trim(), digest.trim());
    // Pushed later by hand it goes along, too.
    let later = format!("{}/cache/later:1", server.host());
    let mut push = Command::new(shipway());
    push.args(["image", "push", &image, &later]).env("DOCKER_CONFIG", bench.at("docker"));
    said(push.arg("--data").arg(bench.data()), b"").ok();
    let fourth = build("third", &["--no-cache", "--cache-from", &later]);
    assert!(fourth.err.contains(&format!("cache {later} has ")), "{fourth:?}");
    // An image that has none, and files that no cache can go with.
    let bare = format!("{}/cache/bare:1", server.host());
    build("other", &["-t", &bare, "--push", "--label", "other=1", "--cache-from", &image]).ok();
    let none = build("third", &["--no-cache", "--cache-from", &bare]);
    assert!(none.err.contains("no build cache of shipway goes with it"), "{none:?}");
    let files = build("third", &["--cache-to", "type=inline", "-o", "out"]).failed();
    assert!(files.contains("goes with an image"), "{files}");
    server.stop();
}

#[test]
fn what_opens_a_repository_is_in_nothing_that_is_made_of_it() {
    let Some(bench) = Bench::new() else { return };
    if !need_tool("git") {
        return;
    }
    let server = testbed::Options::new(shipway()).start();
    server.project("opened").push(&[("Dockerfile", "FROM scratch\nCOPY a.txt /\n"), ("a.txt", "a\n")]);
    let token = server.token();
    let token = token.as_str();
    let open = server.git_url("opened").replacen("://", &format!("://admin:{token}@"), 1);
    bench.write("Dockerfile", "FROM scratch\nARG OPEN\nADD --keep-git-dir=true ${OPEN} /r/\n");
    let (given, plain) = (format!("OPEN={open}"), ["--progress", "plain", "--provenance"]);
    for more in [&["-t", "context:1", &open][..], &["-t", "add:1", "--build-arg", &given, "."]] {
        let built = bench.run(&[&["build"], &plain[..], more].concat());
        assert!(built.err.contains("fetching http://***@"), "{}", built.err);
        assert!(!built.err.contains(token), "{}", built.err);
        built.ok();
    }
    bench.run(&["build", "-o", "out", "--build-arg", &given, "."]).ok();
    let config = std::fs::read_to_string(bench.at("context/out/r/.git/config")).unwrap();
    assert!(config.contains("***@") && !config.contains(token), "{config}");
    let failed = bench.run(&["build", &open.replace("opened", "closed")]).failed();
    assert!(!failed.contains(token), "{failed}");
    // Neither in what is said of the images, nor in what is remembered.
    let found = Command::new("grep").args(["-rlaF", token]).arg(bench.data()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
    server.stop();
}

#[test]
fn several_platforms_become_an_index_without_emulation() {
    let Some(bench) = Bench::new() else { return };
    bench.write("run", "");
    bench.write(
        "Dockerfile",
        "FROM --platform=$BUILDPLATFORM debian AS b\nARG TARGETPLATFORM\nRUN echo for $TARGETPLATFORM > /out\n\
         FROM scratch\nCOPY --from=b /out /out\n",
    );
    let layout = bench.at("layout");
    let dest = format!("type=oci,tar=false,dest={}", layout.display());
    let platforms = ["--platform", "linux/amd64,linux/arm64"];
    let notes = ["--annotation", "manifest[linux/arm64]:own=1", "--annotation", "manifest-descriptor:said=2"];
    bench
        .run(
            &[
                &["build", "-q", "-t", "multi:1", "-o", &dest, "--annotation", "index:a=b"][..],
                &notes,
                &platforms,
                &["."],
            ]
            .concat(),
        )
        .ok();
    let blob = |digest: &serde_json::Value| {
        json(
            &std::fs::read_to_string(layout.join("blobs").join(digest.as_str().unwrap().replacen(':', "/", 1)))
                .unwrap(),
        )
    };
    let top = json(&std::fs::read_to_string(layout.join("index.json")).unwrap());
    let index = blob(&top["manifests"][0]["digest"]);
    assert_eq!(index["annotations"]["a"], "b");
    for (number, own) in [serde_json::Value::Null, "1".into()].into_iter().enumerate() {
        let entry = &index["manifests"][number];
        assert_eq!((&entry["annotations"]["said"], &blob(&entry["digest"])["annotations"]["own"]), (&"2".into(), &own));
    }
    let found: Vec<(String, String)> = index["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|manifest| {
            let config = blob(&blob(&manifest["digest"])["config"]["digest"]);
            let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
            (text(&manifest["platform"]["architecture"]), text(&config["architecture"]))
        })
        .collect();
    assert_eq!(found, [("amd64".into(), "amd64".into()), ("arm64".into(), "arm64".into())]);
    let out = bench.at("files");
    bench.run(&[&["build", "-o", &out.display().to_string()][..], &platforms, &["."]].concat()).ok();
    assert_eq!(std::fs::read_to_string(out.join("linux_arm64/out")).unwrap(), "for linux/arm64\n");
    assert_eq!(std::fs::read_to_string(out.join("linux_amd64/out")).unwrap(), "for linux/amd64\n");

    // A base for another platform that is there as an index; and a command that nothing here runs.
    bench.write("Dockerfile.on", "FROM base\nCOPY run /run\n");
    let context = format!("base=oci-layout://{}:1", layout.display());
    bench
        .run(&["build", "-q", "-f", "Dockerfile.on", "--build-context", &context, "--platform", "linux/arm64", "."])
        .ok();
    bench.write("Dockerfile.run", "FROM scratch\nCOPY run /run\nRUN [\"/run\"]\n");
    let refused = bench.run(&["build", "-f", "Dockerfile.run", "--platform", "linux/mips64le", "."]).failed();
    assert!(refused.contains("Dockerfile.run:3") && refused.contains("linux/mips64le"), "{refused}");
    assert_eq!(leftovers(&bench.data()), [] as [String; 0]);
}

#[test]
fn what_is_asked_of_the_image_is_what_comes_out() {
    let Some(bench) = Bench::new() else { return };
    bench.write("a.txt", "a");
    bench.write("Dockerfile", "FROM debian\nCOPY a.txt /a\nRUN --mount=type=ssh test -S \"$SSH_AUTH_SOCK\"\n");
    let key = bench.at("key");
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).status();
    if !made.is_ok_and(|status| status.success()) {
        testbed::skip("ssh-keygen is not installed");
        return;
    }
    let archive = bench.at("docker.tar").display().to_string();
    let ssh = format!("default={}", key.display());
    let out = format!("type=docker,dest={archive},oci-mediatypes=false,compression=gzip,compression-level=9");
    bench.run(&["build", "-t", "d:1", "--ssh", &ssh, "-o", &out, "--sbom", "--provenance=mode=max", "."]).ok();
    let found = json(&bench.run(&["image", "inspect", "d:1"]).ok());
    assert_eq!(found[0]["MediaType"], "application/vnd.docker.distribution.manifest.v2+json");
    if need_tool("skopeo") {
        let copied = Command::new("skopeo")
            .args(["inspect", "--config", &format!("docker-archive:{archive}")])
            .output()
            .unwrap();
        assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
    }
    // With its last name an image is gone, and with it what it was built from.
    bench.run(&["image", "rm", "d:1"]).ok();
    let pruned = bench.run(&["image", "prune"]).ok();
    assert!(!pruned.contains(" 0 results"), "{pruned}");
    let layers = std::fs::read_dir(bench.at("data/sandbox/snapshots/layers")).unwrap().count();
    assert_eq!(layers, 0, "{pruned}");
    bench.run(&["build", "-q", "--ssh", &ssh, "."]).ok();

    bench.write("Dockerfile.strict", "# check=error=true\nFROM debian\nRUN apt-get install -y curl\n");
    let refused = bench.run(&["build", "-f", "Dockerfile.strict", "."]).failed();
    assert!(refused.contains("check=error=true"), "{refused}");
    assert_eq!(leftovers(&bench.data()), [] as [String; 0]);
}

#[test]
fn a_context_may_come_as_one_file() {
    let Some(bench) = Bench::new() else { return };
    bench.write("Dockerfile", "FROM scratch\nCOPY a.txt dir /\n");
    bench.write("other/File", "FROM scratch\nCOPY --from=more 1 /\n");
    bench.write("a.txt", "a");
    bench.write("dir/1", "1");
    bench.write(".dockerignore", "dir/2\n");
    bench.write("dir/2", "2");
    let digest = bench.run(&["build", "-q", "."]).ok();
    let packed = |options: &[&str]| {
        let mut tar = Command::new("tar");
        let tar = tar.args(options).args(["--create", "--file=-", "."]).current_dir(bench.at("context"));
        tar.output().unwrap().stdout
    };
    let fed = |arguments: &[&str], input: &[u8]| {
        let mut command = Command::new(shipway());
        command.arg("build").args(arguments).arg("--data").arg(bench.data()).current_dir(bench.at("data"));
        said(command.env_remove("SOURCE_DATE_EPOCH"), input)
    };
    for options in [&[][..], &["--gzip"], &["--xz"]] {
        assert_eq!(fed(&["-q", "-"], &packed(options)).ok(), digest, "{options:?}");
    }
    // The Dockerfile is a path of the archive; or the only thing that there is.
    let named = format!("more={}", bench.at("context/dir").display());
    fed(&["-q", "-f", "other/File", "--build-context", &named, "-"], &packed(&[])).ok();
    fed(&["-q", "-"], b"FROM scratch\nLABEL a=b\n").ok();
    let missing = fed(&["-f", "none/File", "-"], &packed(&[])).failed();
    assert!(missing.contains("none/File"), "{missing}");
    let twice = fed(&["-f", "-", "-"], b"FROM scratch\n").failed();
    assert!(twice.contains("cannot both be read from standard input"), "{twice}");
    let whole = packed(&[]);
    let cut = fed(&["-"], &whole[..1500]).failed();
    assert!(cut.contains("standard input cannot be unpacked"), "{cut}");
    // Over HTTP, as the context or as one of its further ones.
    let Some(server) = Files::start(&packed(&["--gzip"])) else { return };
    assert_eq!(fed(&["-q", &server.url("context.tar.gz")], b"").ok(), digest);
    bench.write("File", "FROM scratch\nCOPY --from=more a.txt dir /\n");
    let named = format!("more={}", server.url("context.tar.gz"));
    let context = bench.at("context").display().to_string();
    fed(&["-q", "-f", &bench.at("context/File").display().to_string(), "--build-context", &named, &context], b"").ok();
    assert_eq!(std::fs::read_dir(bench.at("data/unpacked")).unwrap().count(), 0);
    assert_eq!(leftovers(&bench.data()), [] as [String; 0]);
}

/// Answers every request on a port of its own with the same bytes, until it is dropped.
struct Files(std::net::SocketAddr);

impl Files {
    fn start(content: &[u8]) -> Option<Self> {
        use std::io::{BufRead, BufReader, Write};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, content) = (listener.local_addr().unwrap(), content.to_vec());
        // Ends with the test program.
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let lines = BufReader::new(stream.try_clone().unwrap()).lines();
                let _ = lines.map_while(Result::ok).take_while(|line| !line.is_empty()).count();
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", content.len());
                let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&content));
            }
        });
        Some(Self(address))
    }

    fn url(&self, name: &str) -> String {
        format!("http://{}/{name}", self.0)
    }
}

#[test]
fn commands_get_the_hosts_limits_and_memory_that_were_asked_for() {
    let Some(bench) = Bench::new() else { return };
    bench.write(
        "Dockerfile",
        "FROM debian\nRUN grep -w peer /etc/hosts && ulimit -Sn && ulimit -Hn && df -k --output=size /dev/shm | tail -n 1\n",
    );
    let given = ["--add-host", "peer:10.9.8.7", "--ulimit", "nofile=77:99", "--shm-size", "3m"];
    let built = bench.run(&[&["build", "--progress", "plain"][..], &given, &["."]].concat());
    for text in ["10.9.8.7 peer", "77", "99", "3072"] {
        let squeezed = |line: &str| line.split_whitespace().skip(1).collect::<Vec<_>>().join(" ");
        assert!(built.err.lines().any(|line| squeezed(line) == text), "{text}: {}", built.err);
    }
    built.ok();
    // Something else is asked for: the result of before is not taken.
    let other = bench.run(&["build", "--add-host", "peer:10.9.8.6", "--progress", "plain", "."]);
    assert!(other.err.contains("10.9.8.6") && other.success(), "{other:?}");
    for (option, value, why) in [
        ("--add-host", "peer:host-gateway", "does not reach this machine"),
        ("--ulimit", "files=1", "there is no limit `files`"),
        ("--ulimit", "nofile=1:-1", "the limit `nofile` is unlimited, and this machine allows no more than"),
        ("--shm-size", "much", "is no size"),
    ] {
        let refused = bench.run(&["build", option, value, "."]).failed();
        assert!(refused.contains(why), "{refused}");
    }
    assert_eq!(leftovers(&bench.data()), [] as [String; 0]);
}

#[test]
fn a_build_that_is_killed_leaves_a_store_that_works() {
    let Some(bench) = Bench::new() else { return };
    bench.write("Dockerfile", "FROM debian\nCOPY . /all\nRUN echo begun && sleep 60\n");
    for number in 0..300 {
        bench.write(&format!("many/{}/{number}", number % 7), &"x".repeat(number * 50));
    }
    let noise: String = (0..300_000u32).map(|n| sha256(&n.to_le_bytes())).collect();
    bench.write("noise", &noise);
    bench.write("Dockerfile.large", "FROM scratch\nCOPY noise /\n");
    let start = |file: &str| {
        let mut command = Command::new(shipway());
        command.args(["build", "--progress", "plain", "-f", file, "."]).arg("--data").arg(bench.data());
        command.arg("--package-cache").arg(package_cache()).current_dir(bench.at("context"));
        command.stderr(std::process::Stdio::piped()).stdout(std::process::Stdio::null()).spawn().unwrap()
    };
    // What it says later has to be read, too: without a reader it would end for that.
    let until = |child: &mut std::process::Child, text: &str| {
        use std::io::BufRead;
        let mut lines = std::io::BufReader::new(child.stderr.take().unwrap()).lines();
        lines.by_ref().map(Result::unwrap).find(|line| line.contains(text)).expect("it said so");
        lines
    };
    for (signal, text) in [
        (nix::sys::signal::Signal::SIGKILL, "begun"),
        (nix::sys::signal::Signal::SIGINT, "begun"),
        (nix::sys::signal::Signal::SIGTERM, "begun"),
        (nix::sys::signal::Signal::SIGKILL, "COPY . /all"),
        (nix::sys::signal::Signal::SIGKILL, "exporting layers"),
    ] {
        let mut child = start(if text == "exporting layers" { "Dockerfile.large" } else { "Dockerfile" });
        let _lines = until(&mut child, text);
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id() as i32), signal).unwrap();
        let code = child.wait().unwrap().code();
        if signal != nix::sys::signal::Signal::SIGKILL {
            assert_eq!(code, Some(128 + signal as i32));
            assert_eq!(leftovers(&bench.data()), [] as [String; 0]);
        }
    }
    // The next one finds a store that is whole, takes away what was left, and waits for who is in it.
    bench.write("Dockerfile.ok", "FROM debian\nCOPY . /all\nRUN echo begun && sleep 8\n");
    let mut one = start("Dockerfile.ok");
    let _lines = until(&mut one, "begun");
    let two = bench.run(&["build", "--progress", "plain", "-f", "Dockerfile.ok", "."]);
    assert!(two.err.contains("waiting for it") && two.err.contains("CACHED"), "{two:?}");
    two.ok();
    assert!(one.wait().unwrap().success());
    // A layer that was half written is nowhere: the image is the one of a store that nothing happened to.
    let large = ["build", "-q", "-f", "Dockerfile.large", "."];
    let digest = bench.run(&large).ok();
    let mut elsewhere = Command::new(shipway());
    elsewhere.args(large).arg("--data").arg(bench.at("other")).current_dir(bench.at("context"));
    assert_eq!(said(&mut elsewhere, b"").ok(), digest);
    let layout = format!("type=oci,dest={}", bench.at("large.tar").display());
    bench.run(&["build", "-q", "-f", "Dockerfile.large", "-o", &layout, "."]).ok();
    assert_eq!(leftovers(&bench.data()), [] as [String; 0]);
}
