//! Detection and build of small buildpacks (shell scripts), run as real programs on this machine. What is expected of plans, variables
//! and files was produced by the lifecycle of the field (0.21.11, Platform API 0.15) on the very same buildpacks.

use std::{
    collections::BTreeMap,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use buildpack::{
    Ended, Error, Ground, Place, Program, Runner,
    build::build,
    descriptor::{Descriptor, parse_order},
    detect::{Available, Catalog, detect},
    export::{self, EPOCH, What, plan, write_tar},
    target::{Distro, Target},
};

/// A program that another thread is just forking with open for writing cannot be started: one test at a time.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

struct Host;

#[async_trait::async_trait]
impl Runner for Host {
    async fn run(&self, program: Program) -> buildpack::Result<Ended> {
        let output = Command::new(&program.argv[0])
            .args(&program.argv[1..])
            .current_dir(&program.directory)
            .env_clear()
            .envs(&program.env)
            .output()
            .map_err(|e| Error::Runner(e.to_string()))?;
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        Ok(Ended { code: output.status.code().unwrap_or(-1), output: text })
    }
}

struct Field {
    root: tempfile::TempDir,
    catalog: Catalog,
}

impl Field {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        for directory in ["app", "layers", "platform/env", "plans"] {
            std::fs::create_dir_all(root.path().join(directory)).unwrap();
        }
        Self { root, catalog: Catalog::default() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    fn buildpack(&mut self, name: &str, descriptor: &str, programs: &[(&str, &str)]) {
        let root = self.path("buildpacks").join(name);
        std::fs::create_dir_all(root.join("bin")).unwrap();
        for (program, text) in programs {
            let path = root.join("bin").join(program);
            std::fs::write(&path, format!("#!/bin/sh\nset -e\n{text}")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let descriptor = Descriptor::parse(name, descriptor).unwrap();
        self.catalog.all.push(Available { descriptor, root: Place::same(&root) });
    }

    fn ground(&self) -> Ground {
        let place = |name: &str| Place::same(&self.path(name));
        Ground {
            app: place("app"),
            layers: place("layers"),
            platform: place("platform"),
            build_config: None,
            plans: place("plans"),
            env: [("PATH", "/usr/bin:/bin"), ("HOME", "/root"), ("SECRET", "1")]
                .map(|(n, v)| (n.into(), v.into()))
                .to_vec(),
            target: Target {
                os: "linux".into(),
                arch: "amd64".into(),
                variant: String::new(),
                distros: vec![Distro { name: "debian".into(), version: "13".into() }],
            },
            exec_env: "production".into(),
            owner: None,
        }
    }
}

const SEEN: &str = r#"env | grep -v -e ^_= -e ^PWD= -e ^SHLVL= -e ^OLDPWD= | sort | sed "s|$CNB_BP_PLAN_PATH|PLAN|""#;

fn field() -> Field {
    let mut field = Field::new();
    let descriptor = |api: &str, id: &str, version: &str, rest: &str| {
        format!("api = \"{api}\"\n[buildpack]\nid = \"{id}\"\nversion = \"{version}\"\n{rest}")
    };
    field.buildpack(
        "a",
        &descriptor("0.10", "a/x", "1.0.0", "sbom-formats = [\"application/vnd.cyclonedx+json\"]\n"),
        &[
            (
                "detect",
                "printf '[[provides]]\\nname = \"lang\"\\n[[or]]\\n[[or.provides]]\\nname = \"other\"\\n' > \"$CNB_BUILD_PLAN_PATH\"\n",
            ),
            (
                "build",
                &format!(
                    r#"cd "$CNB_LAYERS_DIR"; {SEEN} > ../../env.a; cp "$CNB_BP_PLAN_PATH" ../../plan.a
mkdir -p dep/bin dep/env dep/env.build tmp
printf 1 > dep/env/V; printf 2 > dep/env.build/V.append; printf : > dep/env.build/V.delim
printf '[types]\nbuild = true\nlaunch = true\ncache = true\n[metadata]\nk = "v"\n' > dep.toml
echo '{{}}' > dep.sbom.cdx.json; echo '{{}}' > launch.sbom.cdx.json
printf '[metadata]\nmine = 1\n' > tmp.toml
printf '[[processes]]\ntype = "web"\ncommand = ["run", "it"]\nargs = ["a"]\ndefault = true\n[[labels]]\nkey = "l"\nvalue = "1"\n[[slices]]\npaths = ["*.txt"]\n' > launch.toml
printf '[[unmet]]\nname = "lang"\n' > build.toml
printf '[metadata]\nseen = 1\n' > store.toml
"#
                ),
            ),
        ],
    );
    field.buildpack(
        "b",
        &descriptor("0.8", "b", "2.0.0", "[[stacks]]\nid = \"*\"\n"),
        &[
            (
                "detect",
                "printf '[[provides]]\\nname = \"lang\"\\n[[requires]]\\nname = \"lang\"\\n[requires.metadata]\\nversion = \"3\"\\n' > \"$2\"\n",
            ),
            (
                "build",
                &format!(
                    r#"cd "$1"; {SEEN} > ../../env.b; cp "$3" ../../plan.b
printf '[[processes]]\ntype = "web"\ncommand = "sh -c x"\n[[processes]]\ntype = "worker"\ncommand = "w"\nargs = ["1"]\ndirect = true\nworking-dir = "/w"\n' > launch.toml
"#
                ),
            ),
        ],
    );
    field.buildpack("no", &descriptor("0.10", "no", "1.0.0", ""), &[("detect", "exit 100\n"), ("build", "exit 1\n")]);
    let no = "[[order.group]]\nid = \"no\"\nversion = \"1.0.0\"\n";
    let order =
        format!("[[order]]\n{no}[[order]]\n{no}optional = true\n[[order.group]]\nid = \"a/x\"\nversion = \"1.0.0\"\n");
    field.buildpack("comp", &descriptor("0.10", "comp", "1.0.0", &order), &[]);
    std::fs::write(field.path("app/a.txt"), "t\n").unwrap();
    std::fs::write(field.path("app/b.md"), "t\n").unwrap();
    std::fs::write(field.path("platform/env/USERVAR"), "u").unwrap();
    std::fs::write(field.path("platform/env/PATH"), "/up").unwrap();
    field
}

const ORDER: &str = "[[order]]\n[[order.group]]\nid = \"comp\"\nversion = \"1.0.0\"\n[[order.group]]\nid = \"b\"\nversion = \"2.0.0\"\n";

fn variables(text: &str) -> BTreeMap<&str, &str> {
    text.lines().filter_map(|line| line.split_once('=')).collect()
}

fn files(root: &Path, below: &str, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(root.join(below)).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{below}/{}", entry.file_name().display());
        match entry.file_type().unwrap().is_dir() {
            true => files(root, &name, found),
            false => found.push(name),
        }
    }
    found.sort();
}

#[tokio::test]
async fn a_build_is_what_the_lifecycle_of_the_field_makes_of_it() {
    let _alone = ALONE.lock().await;
    let field = field();
    let ground = field.ground();
    let order = parse_order("order.toml", ORDER).unwrap();
    let detected = detect(&order, &field.catalog, &ground, &Host).await.unwrap();
    let group: Vec<String> = detected.group.iter().map(|member| format!("{} {}", member.shown(), member.api)).collect();
    assert_eq!(group, ["a/x@1.0.0 0.10", "b@2.0.0 0.8"]);
    let entry = &detected.plan.entries[0];
    assert_eq!(entry.providers.iter().map(|provider| provider.id.as_str()).collect::<Vec<_>>(), ["a/x", "b"]);
    assert_eq!((detected.plan.entries.len(), entry.requires[0].metadata["version"].as_str()), (1, Some("3")));

    let built = build(&detected, &field.catalog, &ground, &Host).await.unwrap();
    assert_eq!(built.warnings.len(), 1);
    let at = field.root.path().display().to_string();
    let expected = format!(
        "CNB_BP_PLAN_PATH=PLAN\nCNB_BUILDPACK_DIR={at}/buildpacks/a\nCNB_LAYERS_DIR={at}/layers/a_x\nCNB_PLATFORM_DIR={at}/platform\n\
         CNB_TARGET_ARCH=amd64\nCNB_TARGET_DISTRO_NAME=debian\nCNB_TARGET_DISTRO_VERSION=13\nCNB_TARGET_OS=linux\nHOME=/root\n\
         PATH=/up:/usr/bin:/bin\nUSERVAR=u\n"
    );
    assert_eq!(variables(&field.text("env.a")), variables(&expected));
    let expected = format!(
        "CNB_BP_PLAN_PATH=PLAN\nCNB_BUILDPACK_DIR={at}/buildpacks/b\nCNB_LAYERS_DIR={at}/layers/b\nCNB_PLATFORM_DIR={at}/platform\n\
         HOME=/root\nPATH=/up:{at}/layers/a_x/dep/bin:/usr/bin:/bin\nUSERVAR=u\nV=1:2\n"
    );
    assert_eq!(variables(&field.text("env.b")), variables(&expected));
    for plan in ["plan.a", "plan.b"] {
        assert_eq!(field.text(plan), "[[entries]]\nname = \"lang\"\n\n[entries.metadata]\nversion = \"3\"\n");
    }
    let mut left = Vec::new();
    files(&field.path("layers"), "sbom", &mut left);
    assert_eq!(
        left,
        ["sbom/cache/a_x/dep/sbom.cdx.json", "sbom/launch/a_x/dep/sbom.cdx.json", "sbom/launch/a_x/sbom.cdx.json"]
    );
    assert!(field.path("layers/a_x/tmp.ignore").is_dir());
    assert_eq!(
        field.text("layers/config/metadata.toml"),
        "[[buildpacks]]\nid = \"a/x\"\nversion = \"1.0.0\"\napi = \"0.10\"\n\n[[buildpacks]]\nid = \"b\"\nversion = \"2.0.0\"\napi = \"0.8\"\n\n\
         [[labels]]\nkey = \"l\"\nvalue = \"1\"\n\n[[processes]]\ntype = \"web\"\ncommand = [\"sh -c x\"]\ndirect = false\n\
         buildpack-id = \"b\"\n\n[[processes]]\ntype = \"worker\"\ncommand = [\"w\"]\nargs = [\"1\"]\ndirect = true\nbuildpack-id = \"b\"\n\
         working-dir = \"/w\"\n\n[[slices]]\npaths = [\"*.txt\"]\n"
    );

    let planned = plan(&ground, &built.metadata, None).unwrap();
    let whats: Vec<&What> = planned.iter().map(|planned| &planned.what).collect();
    let dep = What::Buildpack { id: "a/x".into(), layer: "dep".into() };
    assert_eq!(whats, [&dep, &What::Sbom, &What::App, &What::App, &What::Launcher, &What::Config, &What::ProcessTypes]);
    for planned in &planned {
        let mut tars = [Vec::new(), Vec::new()];
        for tar in &mut tars {
            write_tar(&planned.source, (1000, 1000), EPOCH, tar).unwrap();
        }
        assert!(tars[0] == tars[1] && tars[0].len() >= 1024, "{planned:?}");
    }
    let digests: Vec<String> = (0..planned.len()).map(|n| format!("sha256:{n}")).collect();
    let run =
        export::Run { config: serde_json::json!({"rootfs": {"diff_ids": ["sha256:base"]}}), ..export::Run::default() };
    let label = export::lifecycle_label(&ground, &built.metadata, &planned, &digests, &run).unwrap();
    let of = label.of("a/x").unwrap();
    assert_eq!(
        (of.layers["dep"].sha.as_str(), of.store.as_ref().unwrap().metadata["seen"].as_integer()),
        ("sha256:0", Some(1))
    );
    let text = serde_json::to_string(&label).unwrap();
    assert_eq!(serde_json::from_str::<buildpack::labels::Lifecycle>(&text).unwrap(), label);
    assert_eq!((label.run_image.top_layer.as_str(), label.app.len()), ("sha256:base", 2));
}

#[tokio::test]
async fn who_refuses_and_who_fails_is_named() {
    let _alone = ALONE.lock().await;
    let mut field = field();
    field.buildpack(
        "bad",
        "api = \"0.10\"\n[buildpack]\nid = \"bad\"\nversion = \"1.0.0\"\n",
        &[("detect", "echo why; exit 3\n"), ("build", "exit 7\n")],
    );
    field.buildpack(
        "fails",
        "api = \"0.10\"\n[buildpack]\nid = \"fails\"\nversion = \"1.0.0\"\n",
        &[("detect", "exit 0\n"), ("build", "exit 7\n")],
    );
    let ground = field.ground();
    let order = |ids: &[&str]| {
        let text: String = ids.iter().map(|id| format!("[[order]]\n[[order.group]]\nid = \"{id}\"\n")).collect();
        parse_order("order.toml", &text).unwrap()
    };
    let error = detect(&order(&["no", "bad"]), &field.catalog, &ground, &Host).await.unwrap_err();
    assert!(matches!(error, Error::Undetected { failed: true, .. }));
    let text = error.to_string();
    assert!(text.contains("no@1.0.0 says no") && text.contains("exit code 3") && text.contains("why"), "{text}");
    let error = detect(&order(&["absent"]), &field.catalog, &ground, &Host).await.unwrap_err();
    assert!(error.to_string().contains("there is no buildpack absent"), "{error}");
    let detected = detect(&order(&["fails"]), &field.catalog, &ground, &Host).await.unwrap();
    let error = build(&detected, &field.catalog, &ground, &Host).await.unwrap_err();
    assert!(matches!(error, Error::BuildFailed { code: 7, .. }), "{error}");
}
