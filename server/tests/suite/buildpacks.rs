//! `shipway build --buildpack` and `shipway rebase`, with small buildpacks that stand here, on a builder that is built for the test.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use testbed::{Said, json, leftovers, need_mirror, need_root, need_tool, package_cache, said};

use crate::shipway;

/// Who runs the buildpacks.
const USER: u32 = 1234;
const GROUP: u32 = 1235;

/// A context, a builder, and a local store of its own.
struct Bench {
    directory: tempfile::TempDir,
}

const DETECT_A: &str = r#"echo detecting a
printf '[[provides]]\nname = "other"\n[[or]]\n[[or.provides]]\nname = "lang"\n' > "$CNB_BUILD_PLAN_PATH"
"#;

/// Leaves a layer of each kind; says what it found.
const BUILD_A: &str = r#"cd "$CNB_LAYERS_DIR"
echo "I am $(id -u):$(id -g) in $(pwd), home $HOME, word $WORD"
for name in deps launched building; do
  if test -e $name.toml; then echo "found $name.toml"; fi
  if test -e $name/count; then echo "found $name/count $(cat $name/count)"; fi
done
if test -e store.toml; then echo "found $(cat store.toml | tail -n 1)"; fi
mkdir -p deps/bin deps/env building/env.build
echo $(($(cat deps/count 2>/dev/null || echo 0) + 1)) > deps/count
printf '#!/bin/sh\necho "tool says $*"\n' > deps/bin/tool; chmod 755 deps/bin/tool
printf 'from deps' > deps/env/DEPS.default
printf 'while building' > building/env.build/ONLY
touch building/count
printf '[types]\nlaunch = true\nbuild = true\ncache = true\n' > deps.toml
printf '[types]\nbuild = true\ncache = true\n' > building.toml
if test -e launched.toml; then
  echo "reusing launched"
else
  mkdir launched; echo here > launched/file; mkdir -p launched/env.launch; printf 'set' > launched/env.launch/LAUNCHED
fi
printf '[types]\nlaunch = true\n[metadata]\nversion = "7"\n' > launched.toml
printf '[metadata]\nseen = "yes"\n' > store.toml
printf '{"bomFormat": "CycloneDX"}' > deps.sbom.cdx.json
cp "$CNB_BP_PLAN_PATH" launched-plan.txt
cat launched-plan.txt
"#;

const DETECT_B: &str = r#"test -e app.txt || { echo "there is no app.txt"; exit 100; }
printf '[[requires]]\nname = "lang"\n[requires.metadata]\nversion = "3"\n' > "$CNB_BUILD_PLAN_PATH"
"#;

const BUILD_B: &str = r#"tool from b
echo "DEPS=$DEPS ONLY=$ONLY"
find . | sort | tr '\n' ' '; echo
echo made > made.txt
printf '[[processes]]\ntype = "web"\ncommand = ["sh", "-c", "tool web; echo $DEPS $LAUNCHED; cat app.txt; id -u"]\ndefault = true\n' > "$CNB_LAYERS_DIR/launch.toml"
printf '[[processes]]\ntype = "worker"\ncommand = ["cat"]\nargs = ["made.txt"]\n[[labels]]\nkey = "from.b"\nvalue = "1"\n' >> "$CNB_LAYERS_DIR/launch.toml"
"#;

fn put(path: &Path, content: &str, mode: u32) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Writes a buildpack into a directory.
fn buildpack(at: &Path, id: &str, more: &str, detect: &str, build: &str) {
    let toml = format!("api = \"0.10\"\n[buildpack]\nid = \"{id}\"\nversion = \"1.0.0\"\n{more}");
    put(&at.join("buildpack.toml"), &toml, 0o644);
    put(&at.join("bin/detect"), &format!("#!/bin/sh\nset -e\n{detect}"), 0o755);
    put(&at.join("bin/build"), &format!("#!/bin/sh\nset -e\n{build}"), 0o755);
}

const ORDER: &str = "[[order]]\n[[order.group]]\nid = \"never\"\nversion = \"1.0.0\"\n[[order]]\n[[order.group]]\nid = \"team/a\"\n\
                     version = \"1.0.0\"\n[[order.group]]\nid = \"b\"\nversion = \"1.0.0\"\n";

impl Bench {
    /// With a builder image `builder:1` and run images `run:1` and `run:2`.
    fn new() -> Option<Self> {
        if !need_root() || !need_mirror() {
            return None;
        }
        let bench = Self { directory: testbed::directory() };
        let builder = bench.at("builder");
        let sbom = "sbom-formats = [\"application/vnd.cyclonedx+json\"]\n";
        buildpack(&builder.join("buildpacks/team_a/1.0.0"), "team/a", sbom, DETECT_A, BUILD_A);
        buildpack(&builder.join("buildpacks/b/1.0.0"), "b", "", DETECT_B, BUILD_B);
        buildpack(&builder.join("buildpacks/never/1.0.0"), "never", "", "echo never; exit 100\n", "exit 1\n");
        put(&builder.join("order.toml"), ORDER, 0o644);
        put(&builder.join("run.toml"), "[[images]]\nimage = \"run:1\"\nmirrors = [\"run:2\"]\n", 0o644);
        let dockerfile = format!(
            "FROM debian\nRUN echo cnb:x:{USER}:{GROUP}::/home/cnb:/bin/sh >> /etc/passwd && mkdir -p /home/cnb\n\
             ENV CNB_USER_ID={USER} CNB_GROUP_ID={GROUP}\nCOPY buildpacks /cnb/buildpacks\nCOPY order.toml run.toml /cnb/\n"
        );
        put(&builder.join("Dockerfile"), &dockerfile, 0o644);
        for number in [1, 2] {
            let text = format!(
                "FROM debian\nLABEL io.buildpacks.base.id=run{number}\nRUN echo {number} > /run-image\nUSER {USER}:{GROUP}\n"
            );
            put(&bench.at(&format!("run{number}/Dockerfile")), &text, 0o644);
            bench.in_directory(&format!("run{number}"), &["build", "-q", "-t", &format!("run:{number}"), "."]).ok();
        }
        bench.in_directory("builder", &["build", "-q", "-t", "builder:1", "."]).ok();
        bench.write("app.txt", "the app\n");
        Some(bench)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, file: &str, content: &str) {
        put(&self.at("context").join(file), content, 0o644);
    }

    fn in_directory(&self, directory: &str, arguments: &[&str]) -> Said {
        let mut command = Command::new(shipway());
        command.args(arguments).arg("--data").arg(self.at("data")).arg("--package-cache").arg(package_cache());
        command.env_remove("SOURCE_DATE_EPOCH").env_remove("SHIPWAY_BUILDER").current_dir(self.at(directory));
        said(&mut command, b"")
    }

    fn run(&self, arguments: &[&str]) -> Said {
        self.in_directory("context", arguments)
    }

    fn build(&self, more: &[&str]) -> Said {
        self.run(&[&["build", "--progress", "plain"][..], more, &["."]].concat())
    }

    fn config(&self, name: &str) -> serde_json::Value {
        json(&self.run(&["image", "inspect", name]).ok())[0]["Config"].clone()
    }

    /// The files of an image.
    fn files(&self, more: &[&str]) -> PathBuf {
        let out = self.at(&format!("out{}", more.len()));
        let _ = std::fs::remove_dir_all(&out);
        let output = out.display().to_string();
        self.build(&[more, &["-o", &output]].concat()).ok();
        out
    }
}

#[test]
fn a_buildpack_can_be_an_image_and_layers_come_from_a_named_image() {
    let Some(bench) = Bench::new() else { return };
    let package = bench.at("package");
    buildpack(&package.join("cnb/buildpacks/packaged/1.0.0"), "packaged", "", "exit 0\n", "echo I came in an image\n");
    let label = r#"LABEL io.buildpacks.buildpackage.metadata="{\"id\":\"packaged\",\"version\":\"1.0.0\"}""#;
    put(&package.join("Dockerfile"), &format!("FROM scratch\nCOPY cnb /cnb\n{label}\n"), 0o644);
    let layout = bench.at("package.cnb").display().to_string();
    let out = format!("type=oci,dest={layout}");
    bench.in_directory("package", &["build", "-q", "-t", "packaged:1", "-o", &out, "."]).ok();
    for name in ["packaged:1", "docker://packaged:1", &layout] {
        let built = bench.build(&["--builder", "builder:1", "--buildpack", name, "--no-cache"]);
        assert!(spoke(&built, "I came in an image"), "{name} {}", built.err);
    }
    bench.build(&["-t", "one:1", "--builder", "builder:1"]).ok();
    bench.write("more.txt", "more");
    let other = bench.build(&["-t", "other:1", "--builder", "builder:1"]);
    assert!(!spoke(&other, "reusing launched"), "{}", other.err);
    bench.write("more.txt", "yet more");
    let named = bench.build(&["-t", "third:1", "--builder", "builder:1", "--previous-image", "one:1"]);
    assert!(spoke(&named, "reusing launched"), "{}", named.err);
    let refused = bench.build(&["-t", "third:1", "--builder", "builder:1", "--previous-image", "run:1", "-e", "X=1"]);
    assert!(refused.failed().contains("cannot be the image before"));
}

/// Whether a step said this line, in plain progress.
fn spoke(said: &Said, text: &str) -> bool {
    said.err.lines().any(|line| line.starts_with('#') && line.split_once(' ').is_some_and(|(_, rest)| rest == text))
}

fn digest(said: &Said) -> String {
    assert!(said.success(), "{}", said.err);
    said.out.trim().rsplit(' ').next().unwrap_or_default().to_owned()
}

#[test]
fn buildpacks_build_what_has_no_dockerfile_and_keep_their_layers() {
    let Some(bench) = Bench::new() else { return };
    // Nothing says how.
    let failed = bench.build(&["-t", "app:1"]);
    assert_eq!(failed.code, Some(2));
    for word in ["has no Dockerfile", "--builder", "project.toml", "SHIPWAY_BUILDER"] {
        assert!(failed.err.contains(word), "{}", failed.err);
    }
    let arguments = ["-t", "app:1", "--builder", "builder:1", "-e", "WORD=a word"];
    let first = bench.build(&arguments);
    let made = digest(&first);
    for line in [
        &format!("I am {USER}:{GROUP} in /layers/team_a, home /home/cnb, word a word")[..],
        "tool says from b",
        "DEPS=from deps ONLY=while building",
        "version = \"3\"",
        ". ./app.txt ",
    ] {
        assert!(spoke(&first, line), "{line}\n{}", first.err);
    }
    assert!(!first.err.contains("found ") && !first.err.contains("detecting a"), "{}", first.err);

    // The same again is the same, and nothing runs; and runs when it must, with the same digest where the buildpacks do the same.
    let again = bench.build(&arguments);
    assert_eq!(digest(&again), made);
    assert!(!again.err.contains("tool says"), "{}", again.err);
    let fresh = bench.build(&[&arguments[..], &["--no-cache"]].concat());
    assert_eq!(digest(&fresh), made);
    assert!(spoke(&fresh, "tool says from b") && !fresh.err.contains("found deps"), "{}", fresh.err);

    // Another file: layers are there again.
    bench.write("more.txt", "more\n");
    let changed = bench.build(&["-t", "app:2", "--builder", "builder:1", "-e", "WORD=a word"]);
    assert_ne!(digest(&changed), made);
    for line in
        ["found deps/count 1", "found building.toml", "found launched.toml", "reusing launched", "found seen = \"yes\""]
    {
        assert!(spoke(&changed, line), "{line}\n{}", changed.err);
    }
    assert!(!spoke(&changed, "found building/count 1"), "{}", changed.err);
    assert!(spoke(&changed, "found building/count "), "{}", changed.err);

    let config = bench.config("app:2");
    assert_eq!(config["Entrypoint"], serde_json::json!(["/cnb/process/web"]));
    assert_eq!((config["WorkingDir"].as_str(), config["User"].as_str()), (Some("/workspace"), Some("1234:1235")));
    let labels = &config["Labels"];
    assert_eq!((labels["from.b"].as_str(), labels["io.buildpacks.base.id"].as_str()), (Some("1"), Some("run1")));
    let metadata = json(labels["io.buildpacks.lifecycle.metadata"].as_str().unwrap());
    assert_eq!(metadata["runImage"]["image"], "run:1");
    assert_eq!(metadata["buildpacks"][0]["layers"]["launched"]["data"]["version"], "7");
    assert!(metadata["buildpacks"][0]["layers"]["building"].is_null());
    let build = json(labels["io.buildpacks.build.metadata"].as_str().unwrap());
    assert_eq!(build["processes"][1]["type"], "worker");
    // As the lifecycle of the field writes them.
    assert_eq!(build["buildpacks"][0], serde_json::json!({ "id": "team/a", "version": "1.0.0" }));
    assert!(metadata["process-types"]["sha"].is_string() && metadata["processTypes"].is_null(), "{metadata}");

    let files = bench.files(&["--builder", "builder:1"]);
    let text = |name: &str| std::fs::read_to_string(files.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert_eq!(text("workspace/made.txt"), "made\n");
    assert_eq!(text("layers/team_a/launched/file"), "here\n");
    assert_eq!(text("layers/sbom/launch/team_a/deps/sbom.cdx.json"), "{\"bomFormat\": \"CycloneDX\"}");
    assert!(!files.join("layers/team_a/building").exists());
    let owner = std::fs::metadata(files.join("workspace/app.txt")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&owner), USER);

    // Pruning takes nothing that a named image's next build would want.
    bench.run(&["image", "prune"]).ok();
    bench.write("more.txt", "more still\n");
    let pruned = bench.build(&["-t", "app:3", "--builder", "builder:1"]);
    assert!(spoke(&pruned, "found building/count ") && spoke(&pruned, "reusing launched"), "{}", pruned.err);
    assert_eq!(leftovers(&bench.at("data")), [] as [String; 0]);
}

#[test]
fn processes_run_in_the_image_and_on_another_run_image() {
    let Some(bench) = Bench::new() else { return };
    let archive = bench.at("app.tar").display().to_string();
    let out = format!("type=docker,dest={archive}");
    bench
        .build(&["-t", "shipway-test-packs:1", "--builder", "builder:1", "-o", &out, "--sbom", "--provenance=mode=max"])
        .ok();
    let before = bench.config("shipway-test-packs:1");

    let refused = bench.run(&["rebase", "shipway-test-packs:1", "--run-image", "debian"]);
    assert_eq!(refused.code, Some(2));
    assert!(refused.err.contains("it knows run:1, run:2"), "{}", refused.err);
    assert!(bench.run(&["rebase", "run:1"]).failed().contains("does not say what its run image is"));
    bench.run(&["rebase", "shipway-test-packs:1", "--run-image", "run:2", "-t", "shipway-test-packs:2"]).ok();
    let after = bench.config("shipway-test-packs:2");
    assert_eq!(after["Labels"]["io.buildpacks.base.id"], "run2");
    assert_eq!(after["Entrypoint"], before["Entrypoint"]);
    assert_eq!(bench.config("shipway-test-packs:1"), before);
    // Its processes in our own sandbox.
    for tag in ["1", "2"] {
        let text = format!(
            "FROM shipway-test-packs:{tag}\nRUN [\"/cnb/process/web\"]\nRUN [\"/cnb/process/worker\"]\nRUN [\"launcher\", \"cat\", \"/run-image\"]\n"
        );
        put(&bench.at("runs/Dockerfile"), &text, 0o644);
        let ran = bench.in_directory("runs", &["build", "--progress", "plain", "."]);
        for line in ["tool says web", "from deps set", "the app", &USER.to_string(), "made", tag] {
            assert!(spoke(&ran, line), "{line}\n{}", ran.err);
        }
    }

    let rebased = bench.at("rebased.tar").display().to_string();
    bench.run(&["image", "save", "shipway-test-packs:2", "-o", &rebased]).ok();
    if !need_tool("podman") {
        return;
    }
    let podman = |arguments: &[&str]| {
        let mut command = Command::new("podman");
        command.arg("--root").arg(bench.at("podman")).arg("--runroot").arg(bench.at("podman-run"));
        command.args(["--cgroup-manager", "cgroupfs", "--events-backend", "none"]).args(arguments);
        said(&mut command, b"")
    };
    podman(&["load", "-q", "-i", &archive]).ok();
    podman(&["load", "-q", "-i", &rebased]).ok();
    let listed = podman(&["images", "--format", "{{.Repository}}:{{.Tag}}"]).ok();
    let run = |tag: &str, more: &[&str], arguments: &[&str]| {
        let name = listed.lines().find(|line| line.ends_with(&format!("shipway-test-packs:{tag}")));
        let name = name.unwrap_or_else(|| panic!("there is no {tag} in {listed}"));
        let before = [
            "run",
            "--rm",
            "--network",
            "none",
            "--cgroups",
            "disabled",
            "--ulimit",
            "nofile=1024:1024",
            "--ulimit",
            "nproc=1024:1024",
        ];
        podman(&[&before[..], more, &[name], arguments].concat())
    };
    let web = run("1", &[], &[]);
    if matches!(web.code, Some(125 | 126)) {
        podman(&["system", "reset", "--force"]).ok();
        testbed::skip(&format!("podman cannot start containers here: {}", web.err.trim()));
        return;
    }
    assert_eq!(web.ok(), format!("tool says web\nfrom deps set\nthe app\n{USER}\n"));
    assert_eq!(run("1", &["--entrypoint", "worker"], &[]).ok(), "made\n");
    for tag in ["1", "2"] {
        assert_eq!(run(tag, &["--entrypoint", "launcher"], &["cat", "/run-image"]).ok(), format!("{tag}\n"));
    }
    podman(&["system", "reset", "--force"]).ok();
}

#[test]
fn who_says_no_and_who_fails_is_named_with_what_was_said() {
    let Some(bench) = Bench::new() else { return };
    std::fs::remove_file(bench.at("context/app.txt")).unwrap();
    let no = bench.build(&["-t", "app:1", "--builder", "builder:1"]);
    assert_eq!(no.code, Some(1), "{}", no.err);
    for text in ["b@1.0.0 says no", "there is no app.txt", "never@1.0.0 says no"] {
        assert!(no.err.contains(text), "{text}\n{}", no.err);
    }
    bench.write("app.txt", "x");
    buildpack(&bench.at("bad"), "bad", "", "exit 0\n", "echo out of luck >&2; exit 7\n");
    let bad = bench.at("bad").display().to_string();
    let failed = bench.build(&["--builder", "builder:1", "--buildpack", &bad]);
    assert_eq!(failed.code, Some(1), "{}", failed.err);
    assert!(failed.err.contains("buildpack bad@1.0.0 failed with exit code 7"), "{}", failed.err);
    assert!(failed.err.contains("it said:\n  out of luck"), "{}", failed.err);
    // What is for Dockerfiles, what is not there, what is no builder.
    for (arguments, why) in [
        (&["--builder", "builder:1", "--target", "x"][..], "--target is for builds by Dockerfiles"),
        (&["--builder", "builder:1", "-f", "x"], "not by both"),
        (&["--builder", "run:1"], "CNB_USER_ID"),
        (&["--builder", "builder:1", "--buildpack", "nope"], "the builder has"),
        (&["--builder", "builder:1", "--buildpack", "./nope"], "no such file or directory"),
        (
            &["--builder", "builder:1", "--process", "cron"],
            "no buildpack defines the process cron; there are: web, worker",
        ),
        (&["--builder", "builder:1", "--buildpack", "urn:cnb:registry:a/b"], "no registry of buildpacks"),
        (&["--buildpack", &bad], "nothing says which builder"),
        (&["--builder", "builder:1", "-e", "a/b=1"], "no name of a variable"),
    ] {
        let said = bench.build(arguments);
        assert_eq!(said.code, Some(2), "{arguments:?} {}", said.err);
        assert!(said.err.contains(why), "{arguments:?} {}", said.err);
    }
    assert_eq!(leftovers(&bench.at("data")), [] as [String; 0]);
}

#[test]
fn buildpacks_see_bindings_and_volumes_and_programs_of_their_platform() {
    let Some(bench) = Bench::new() else { return };
    put(&bench.at("npm/type"), "npm", 0o600);
    put(&bench.at("npm/token"), "hidden", 0o600);
    std::fs::create_dir(bench.at("kept")).unwrap();
    std::fs::set_permissions(bench.at("kept"), std::fs::Permissions::from_mode(0o777)).unwrap();
    let reads = "echo \"$SERVICE_BINDING_ROOT has $(cat $CNB_PLATFORM_DIR/bindings/npm/type $SERVICE_BINDING_ROOT/npm/token | wc -c)\"\n\
                 test ! -d /kept || { echo \"kept $(ls /kept | wc -l)\"; touch /kept/$(date +%s%N); }\n";
    // As repositories of buildpacks have it whose programs are compiled for several platforms.
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let (all, own) = (bench.at("reads"), bench.at(&format!("reads/linux/{architecture}")));
    buildpack(&own, "reads", "", "exit 0\n", reads);
    std::fs::rename(own.join("buildpack.toml"), all.join("buildpack.toml")).unwrap();
    let (name, binding) = (all.display().to_string(), format!("{}:/platform/bindings/npm", bench.at("npm").display()));
    let arguments = ["-t", "bound:1", "--builder", "builder:1", "--buildpack", &name, "--volume", &binding];
    let built = bench.build(&arguments);
    let first = digest(&built);
    assert!(spoke(&built, "/platform/bindings has 9"), "{}", built.err);
    let image = bench.run(&["image", "inspect", "bound:1"]).ok();
    assert!(!image.contains("hidden") && !image.contains("BINDING"), "{image}");
    // The same is not built again; another secret is another build, and one that may write is always one.
    let again = bench.build(&arguments);
    assert!(digest(&again) == first && !again.err.contains("bindings has"), "{}", again.err);
    put(&bench.at("npm/token"), "hidden too", 0o600);
    assert!(spoke(&bench.build(&arguments), "/platform/bindings has 13"));
    let kept = format!("{}:/kept:rw", bench.at("kept").display());
    for count in ["kept 0", "kept 1"] {
        let built = bench.build(&[&arguments[..], &["--volume", &kept]].concat());
        assert!(spoke(&built, count), "{count} {}", built.err);
    }
    for (volume, why) in
        [("nothing:/x", "no file or directory"), ("../npm:/cnb/x", "their own files"), ("../npm:x", "absolute path")]
    {
        let said = bench.build(&["--builder", "builder:1", "--volume", volume]);
        assert!(said.code == Some(2) && said.err.contains(why), "{volume} {}", said.err);
    }
    // A secret is an entry of a binding: read, not shown, and in no image.
    let secret = bench.at("reads-secret");
    let reads = "cd $SERVICE_BINDING_ROOT/registry && echo \"$(cat type) says $(cat token), for $(wc -c <token)\"\n\
                 test ! -e fail || { echo \"so $(cat fail)\" >&2; exit 7; }\n";
    buildpack(&secret, "reads-secret", "", "exit 0\n", reads);
    put(&bench.at("token"), "hunter2-swordfish", 0o600);
    let (name, token) =
        (secret.display().to_string(), format!("id=registry/token,src={}", bench.at("token").display()));
    let arguments = ["-t", "secret:1", "--builder", "builder:1", "--buildpack", &name, "--secret", &token];
    let built = bench.build(&arguments);
    assert!(spoke(&built, "registry says ***, for 17") && !built.err.contains("hunter2"), "{}", built.err);
    digest(&built);
    assert!(!bench.run(&["image", "inspect", "secret:1"]).ok().contains("BINDING"));
    let fails = format!("id=registry/fail,src={}", bench.at("token").display());
    let failed = bench.build(&[&arguments[..], &["--secret", &fails]].concat());
    assert!(failed.code == Some(1) && failed.err.contains("so ***") && !failed.err.contains("hunter2"), "{failed:?}");
    let both = format!("{}:/platform/bindings/registry", bench.at("npm").display());
    let both = bench.build(&[&arguments[..], &["--volume", &both]].concat());
    assert!(both.code == Some(2) && both.err.contains("both give"), "{}", both.err);
    let wrong = bench.build(&["--builder", "builder:1", "--secret", "id=x,src=app.txt"]);
    assert!(wrong.code == Some(2) && wrong.err.contains("/platform/bindings/BINDING/ENTRY"), "{}", wrong.err);
    assert_eq!(leftovers(&bench.at("data")), [] as [String; 0]);
}

#[test]
fn the_projects_file_decides_what_is_taken_and_by_whom() {
    let Some(bench) = Bench::new() else { return };
    bench.write("notes.md", "not for the image");
    bench.write("spec/test.txt", "neither");
    bench.write(
        "project.toml",
        r#"[_]
schema-version = "0.2"
id = "shop"
version = "2.1"
source-url = "https://example.org/shop"
[io.buildpacks]
builder = "builder:1"
exclude = ["*.md", "spec/"]
[[io.buildpacks.group]]
id = "team/a"
[[io.buildpacks.group]]
id = "b"
version = "1.0.0"
[[io.buildpacks.pre.group]]
id = "me/first"
[io.buildpacks.pre.group.script]
api = "0.10"
inline = "echo first, $FROM_PROJECT, $FROM_COMMAND; ls"
[[io.buildpacks.post.group]]
uri = "own"
[[io.buildpacks.build.env]]
name = "FROM_PROJECT"
value = "p"
[[io.buildpacks.build.env]]
name = "FROM_COMMAND"
value = "p"
"#,
    );
    buildpack(&bench.at("context/own"), "own", "", "exit 0\n", "echo last; cat made.txt\n");
    let built = bench.build(&["-t", "app:1", "-e", "FROM_COMMAND=c"]);
    for line in ["first, p, c", "app.txt", "last", "made"] {
        assert!(spoke(&built, line), "{line}\n{}", built.err);
    }
    assert!(!spoke(&built, "notes.md") && !spoke(&built, "spec"), "{}", built.err);
    assert!(built.err.contains("buildpacks: me/first@0.0.0, team/a@1.0.0, b@1.0.0, own@1.0.0"), "{}", built.err);
    let labels = bench.config("app:1")["Labels"].clone();
    let project = json(labels["io.buildpacks.project.metadata"].as_str().unwrap());
    assert_eq!(project["source"]["version"]["declared"], "2.1");

    // A builder as a directory; a buildpack as an archive; the order of the builder in between.
    let directory = bench.at("directory");
    buildpack(&directory.join("own"), "dir", "", "exit 0\n", "echo I am dir, $OPERATOR\n");
    put(
        &directory.join("builder.toml"),
        "[[buildpacks]]\nuri = \"own\"\n[[order]]\n[[order.group]]\nid = \"dir\"\n[build]\nimage = \"builder:1\"\n\
         [[build.env]]\nname = \"OPERATOR\"\nvalue = \"o\"\n[[run.images]]\nimage = \"run:2\"\n",
        0o644,
    );
    let archive = bench.at("own.tgz").display().to_string();
    let own = bench.at("context/own");
    assert!(Command::new("tar").args(["czf", &archive, "."]).current_dir(&own).status().unwrap().success());
    std::fs::remove_file(bench.at("context/project.toml")).unwrap();
    let builder = directory.display().to_string();
    let packs = ["--buildpack", "b", "--buildpack", "from=builder", "--buildpack", &archive];
    let refused = bench.build(&[&["--builder", &builder][..], &packs].concat());
    assert!(!refused.success() && refused.err.contains("b@1.0.0 requires lang"), "{}", refused.err);
    let packs = ["--buildpack", "team/a@1.0.0,b", "--buildpack", "from=builder", "--buildpack", &archive];
    let built = bench.build(&[&["-t", "app:2", "--builder", &builder][..], &packs].concat());
    assert!(spoke(&built, "I am dir, o") && spoke(&built, "last"), "{}", built.err);
    assert_eq!(bench.config("app:2")["Labels"]["io.buildpacks.base.id"], "run2");
}

#[test]
fn a_build_that_is_stopped_leaves_nothing() {
    let Some(bench) = Bench::new() else { return };
    buildpack(&bench.at("slow"), "slow", "", "exit 0\n", "echo begun; sleep 60\n");
    let slow = bench.at("slow").display().to_string();
    for signal in [nix::sys::signal::Signal::SIGKILL, nix::sys::signal::Signal::SIGINT] {
        let mut command = Command::new(shipway());
        command.args(["build", "--progress", "plain", "--builder", "builder:1", "--buildpack", &slow, "."]);
        command.arg("--data").arg(bench.at("data")).arg("--package-cache").arg(package_cache());
        command.current_dir(bench.at("context"));
        command.stderr(std::process::Stdio::piped()).stdout(std::process::Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut lines =
            std::io::BufRead::lines(std::io::BufReader::new(child.stderr.take().unwrap())).map(Result::unwrap);
        lines.find(|line| line.ends_with(" begun")).expect("it said so");
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id() as i32), signal).unwrap();
        let rest: String = lines.collect();
        assert!(!child.wait().unwrap().success());
        if signal == nix::sys::signal::Signal::SIGINT {
            assert!(rest.contains("cancelled: Ctrl-C"), "{rest}");
        }
    }
    assert_eq!(std::fs::read_dir(bench.at("data/buildpacks")).unwrap().count(), 0);
    assert_eq!(leftovers(&bench.at("data")), [] as [String; 0]);
    bench.build(&["--builder", "builder:1"]).ok();
}
