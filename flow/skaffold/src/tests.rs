use kustomize::Memory;

use super::*;

fn read(text: &str) -> Result<Loaded> {
    load(&Memory::default().with("/skaffold.yaml", text), "skaffold.yaml", &Options::new("/"))
}

fn with_profiles(text: &str, profiles: &[&str]) -> String {
    let profiles: Vec<String> = profiles.iter().map(|name| (*name).to_owned()).collect();
    let files = Memory::default().with("/skaffold.yaml", text);
    let options = Options { profiles: &profiles, ..Options::new("/") };
    load(&files, "/skaffold.yaml", &options).unwrap_or_else(|error| panic!("{error}")).text()
}

#[test]
fn every_version_reads_the_same_small_configuration() {
    for version in Version::all() {
        let image = if version < Version::named("v1alpha4").unwrap() { "imageName" } else { "image" };
        let text = format!(
            "apiVersion: skaffold/{}\nkind: Config\nbuild: {{artifacts: [{{{image}: app}}]}}\n",
            version.name()
        );
        let loaded = read(&text).unwrap_or_else(|error| panic!("{}: {error}", version.name()));
        let artifact = &loaded.entries[0].config.build.artifacts[0];
        assert_eq!(artifact.image, "app", "{}", version.name());
        assert!(matches!(artifact.builder(), Some(Builder::Docker(_))), "{}", version.name());
    }
}

/// The expectation is what `skaffold diagnose --yaml-only` prints.
#[test]
fn a_version_before_manifests_is_brought_to_the_newest() {
    let text = "apiVersion: skaffold/v2beta12\nkind: Config\nbuild:\n  artifacts:\n  - image: gcr.io/x/a-b.c\n    docker: {secret: {id: s, src: f}}\n  - image: ko\n    buildpacks: {}\ndeploy:\n  kubectl: {manifests: [k8s/*.yaml], defaultNamespace: n}\n  kustomize: {buildArgs: [--x]}\n  helm:\n    releases:\n    - {name: r, chartPath: stable/x, remote: true, artifactOverrides: {image: gcr.io/x/a-b.c}, imageStrategy: {helm: {explicitRegistry: true}}}\n    - {name: l, chartPath: c, artifactOverrides: {image: ko}, setValues: {a: {b: [1, yes]}}}\nprofiles:\n- name: p\n  patches:\n  - {op: add, path: /deploy/helm/releases/1/setValues/z, value: 2}\n";
    insta::assert_snapshot!(with_profiles(text, &["p"]));
}

/// The same, for the versions before profiles had pipelines.
#[test]
fn the_first_versions_are_brought_to_the_newest() {
    let text = "apiVersion: skaffold/v1beta6\nkind: Config\nbuild:\n  artifacts:\n  - image: app\n    sync: {'src/*.js': app/src, '**/x': y, 'a/***/b': c}\n  kaniko: {buildContext: {gcsBucket: b}, pullSecret: /k.json, cache: {repo: r}}\ndeploy: {kustomize: {path: dir}}\n";
    insta::assert_snapshot!(with_profiles(text, &[]));
    let text = "apiVersion: skaffold/v1alpha1\nkind: Config\nbuild:\n  tagPolicy: sha256\n  artifacts: [{imageName: app, workspace: w, dockerfilePath: D, buildArgs: {A: b, C: null}}]\n  local: {skipPush: true}\ndeploy: {kubectl: {manifests: [{paths: [a, b], parameters: {x: y}}]}}\n";
    insta::assert_snapshot!(with_profiles(text, &[]));
}

#[test]
fn profiles_go_over_fields_one_by_one() {
    let text = "apiVersion: skaffold/v4beta13\nkind: Config\nbuild:\n  artifacts: [{image: a}, {image: b, docker: {noCache: yes}}]\n  local: {push: false}\n  tagPolicy: {sha256: {}}\nmanifests: {rawYaml: [a.yaml], kustomize: {paths: [k]}}\ndeploy: {kubectl: {}, statusCheck: false, logs: {prefix: none}}\nprofiles:\n- name: p\n  build: {googleCloudBuild: {projectId: x}, tagPolicy: {dateTime: {format: f}}}\n  manifests: {rawYaml: [b.yaml]}\n  deploy: {statusCheckDeadlineSeconds: 5, docker: {images: [a]}}\n- name: q\n  patches:\n  - {path: /build/artifacts/image=b/docker/noCache, value: false}\n  - {op: remove, path: /manifests/kustomize}\n  - {op: add, path: /build/artifacts/-, value: {image: c, ko: {}}}\n";
    insta::assert_snapshot!(with_profiles(text, &["p", "q"]));
}

#[test]
fn profiles_activate_themselves() {
    let text = |activation: &str| {
        format!(
            "apiVersion: skaffold/v4beta13\nkind: Config\nprofiles:\n- name: p\n  {activation}\n  deploy: {{kubeContext: ctx}}\n"
        )
    };
    let env = |name: &str| (name == "STAGE").then(|| "prod-eu".to_owned());
    for (activation, active) in [
        ("activation: [{env: STAGE=prod}]", true),
        ("activation: [{env: STAGE=^eu}]", false),
        ("activation: [{env: 'STAGE=!prod'}]", false),
        ("activation: [{env: NONE=}]", true),
        ("activation: [{env: STAGE=}]", false),
        ("activation: [{command: diag}]", true),
        ("activation: [{command: '!dev'}]", true),
        ("activation: [{command: dev}]", false),
        ("activation: [{kubeContext: ctx}]", true),
        ("activation: [{kubeContext: '('}]", false),
        ("activation: [{command: dev}, {env: STAGE=prod}]", true),
        ("activation: [{command: dev}, {env: STAGE=prod}]\n  requiresAllActivations: true", false),
        ("activation: [{command: diag}, {env: STAGE=prod}]\n  requiresAllActivations: true", true),
        ("requiresAllActivations: true", false),
    ] {
        let files = Memory::default().with("/s.yaml", text(activation));
        let situation = Situation { env: &env, kube_context: "ctx", ..Situation::default() };
        let read = |profiles: &[String], auto_activation: bool| {
            let options =
                Options { profiles, situation: Situation { auto_activation, ..situation }, ..Options::new("/") };
            !load(&files, "s.yaml", &options).unwrap().entries[0].config.deploy.kube_context.is_empty()
        };
        assert_eq!(read(&[], true), active, "{activation}");
        assert!(!read(&[], false), "{activation}");
        assert!(!read(&["-p".to_owned()], true), "{activation}");
        assert!(read(&["p".to_owned()], false), "{activation}");
    }
}

#[test]
fn errors_name_the_place_and_what_may_be_meant() {
    let v = "apiVersion: skaffold/v4beta13\nkind: Config\n";
    for (text, expected) in [
        (
            format!("{v}biuld: {{}}\n"),
            "/skaffold.yaml:3:1: unknown field \"biuld\" in a configuration of skaffold/v4beta13: did you mean \"build\"?",
        ),
        (
            format!("{v}build:\n  artifacts:\n  - image: a\n    docker:\n      dockerFile: x\n"),
            "/skaffold.yaml:7:7: unknown field \"dockerFile\" in build.artifacts[0].docker (skaffold/v4beta13): did you mean \"dockerfile\"?",
        ),
        (
            "apiVersion: skaffold/v2beta20\nkind: Config\nmanifests: {}\n".to_owned(),
            "/skaffold.yaml:3:1: unknown field \"manifests\" in a configuration of skaffold/v2beta20: it exists since skaffold/v3alpha1; change the apiVersion",
        ),
        (
            format!("{v}build: {{artifacts: [{{image: a, docker: {{secret: {{}}}}}}]}}\n"),
            "/skaffold.yaml:3:41: unknown field \"secret\" in build.artifacts[0].docker (skaffold/v4beta13): it was there until skaffold/v2beta22",
        ),
        (
            format!("{v}build: {{artifacts: {{}}}}\n"),
            "/skaffold.yaml:3:20: build.artifacts: expected a list, found a map",
        ),
        (
            format!("{v}deploy: {{statusCheck: maybe}}\n"),
            "/skaffold.yaml:3:23: deploy.statusCheck: expected true or false, found \"maybe\"",
        ),
        (
            "apiVersion: skaffold/v4beta31\nkind: Config\n".to_owned(),
            "/skaffold.yaml:1:13: unknown apiVersion \"skaffold/v4beta31\": known are skaffold/v1alpha1 to skaffold/v4beta14; did you mean \"skaffold/v4beta1\"?",
        ),
        (
            "kind: Config\n".to_owned(),
            "/skaffold.yaml:1:1: unknown apiVersion \"\": known are skaffold/v1alpha1 to skaffold/v4beta14; the document has none",
        ),
        (
            "apiVersion: skaffold/v2beta8\nkind: Config\ndeploy: {kpt: {dir: x}}\n".to_owned(),
            "/skaffold.yaml: cannot carry it on from skaffold/v2beta29 to skaffold/v3alpha1: deploy.kpt cannot be carried on: write it anew under manifests.kpt",
        ),
        (format!("{v}a: b: c\n"), "/skaffold.yaml: yaml: line 3: mapping values are not allowed in this context"),
        (
            format!("{v}portForward: [null]\n"),
            "failed to set default values for config \"\" defined in file \"/skaffold.yaml\": portForward[0] of config with name '' is empty, Please check if it has valid values",
        ),
        (
            format!("{v}requires: [{{path: ../x}}]\n"),
            "could not find skaffold config file \"/x\" that is referenced as a dependency in config file \"/skaffold.yaml\": name an existing file or directory in `requires`",
        ),
        (
            format!("{v}requires: [{{git: {{repo: https://example.com/x}}}}]\n"),
            "/skaffold.yaml: `requires` names the git repository https://example.com/x, and nothing is fetched unless it is allowed: allow it (`--allow-remote`), or keep a copy beside the file and name its path",
        ),
        (
            format!("{v}---\n{v}metadata: {{name: a}}\n---\n{v}metadata: {{name: a}}\n"),
            "multiple skaffold configs named \"a\" found in file \"/skaffold.yaml\"",
        ),
    ] {
        assert_eq!(read(&text).unwrap_err().to_string(), expected);
    }
}

#[test]
fn what_is_required_comes_first_and_once() {
    let head = "apiVersion: skaffold/v4beta13\nkind: Config\n";
    let files = Memory::default()
        .with("/app/skaffold.yaml", format!("{head}metadata: {{name: top}}\nrequires:\n- path: ../lib\n  activeProfiles: [{{name: fast, activatedBy: [p]}}]\n- configs: [side]\nprofiles: [{{name: p}}]\n---\n{head}metadata: {{name: side}}\nmanifests: {{rawYaml: [s.yaml]}}\n"))
        .with("/lib/skaffold.yaml", format!("{head}metadata: {{name: lib}}\nmanifests: {{rawYaml: [l.yaml]}}\nprofiles: [{{name: fast, deploy: {{kubeContext: quick}}}}]\n"));
    let names = |modules: &[&str], profiles: &[&str]| -> Vec<String> {
        let modules: Vec<String> = modules.iter().map(|name| (*name).to_owned()).collect();
        let profiles: Vec<String> = profiles.iter().map(|name| (*name).to_owned()).collect();
        let options = Options { modules: &modules, profiles: &profiles, ..Options::new("/app") };
        let loaded = load(&files, "skaffold.yaml", &options).unwrap();
        loaded
            .entries
            .iter()
            .map(|entry| format!("{} {}", entry.config.metadata.name, entry.config.deploy.kube_context))
            .collect()
    };
    assert_eq!(names(&[], &[]), ["lib ", "side ", "top "]);
    assert_eq!(names(&[], &["p"]), ["lib quick", "side ", "top "]);
    assert_eq!(names(&["side"], &[]), ["side "]);
    let loaded = load(&files, "skaffold.yaml", &Options::new("/app")).unwrap();
    // Paths of other files are absolute, those of the first are not.
    assert_eq!(loaded.entries[0].config.manifests.raw_yaml, ["/lib/l.yaml"]);
    assert_eq!(
        (loaded.entries[1].config.manifests.raw_yaml[0].as_str(), loaded.entries[1].base.as_str()),
        ("s.yaml", "/app")
    );
}

#[test]
fn circles_of_requirements_end() {
    let head = "apiVersion: skaffold/v4beta13\nkind: Config\n";
    let files = Memory::default()
        .with("/a/skaffold.yaml", format!("{head}requires: [{{path: ../b}}]\n"))
        .with("/b/skaffold.yaml", format!("{head}requires: [{{path: ../a}}]\n"));
    assert_eq!(load(&files, "skaffold.yaml", &Options::new("/a")).unwrap().entries.len(), 2);
}

fn rendered(files: &Memory, images: &[(&str, &str)]) -> Result<Rendered> {
    let images = images.iter().map(|(name, built)| ((*name).to_owned(), (*built).to_owned())).collect();
    let loaded = load(files, "skaffold.yaml", &Options::new("/")).unwrap();
    let env = |name: &str| (name == "USER_NAMESPACE").then(|| "mine".to_owned());
    render(
        files,
        &loaded.entries,
        &RenderOptions {
            images: &images,
            env: &env,
            namespace: "",
            kustomize: kustomize::Options::default(),
            charts: None,
            flavor: chart::Flavor::Helm4,
            now: jiff::Timestamp::UNIX_EPOCH,
            seed: 0,
        },
    )
}

#[test]
fn raw_files_kustomizations_and_charts_are_rendered() {
    let pod = |name: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{containers: [{{name: c, image: app}}]}}\n"
        )
    };
    let files = Memory::default()
        .with("/skaffold.yaml", "apiVersion: skaffold/v4beta13\nkind: Config\nbuild: {artifacts: [{image: app}]}\nmanifests:\n  rawYaml: ['k8s/*.yaml']\n  kustomize: {paths: [over]}\n  helm:\n    releases:\n    - {name: web, chartPath: chart, namespace: '{{.USER_NAMESPACE}}', valuesFiles: [v.yaml], setValues: {num: 2}, setValueTemplates: {image.tag: '{{.IMAGE_TAG_app}}@{{.IMAGE_DIGEST_app}}', image.repository: '{{.IMAGE_REPO}}'}, overrides: {deep: {er: true}}}\n")
        .with("/k8s/b.yaml", pod("b"))
        .with("/k8s/a.yaml", pod("a"))
        .with("/k8s/readme.md", "not this")
        .with("/over/kustomization.yaml", "namePrefix: x-\nresources: [p.yaml]\n")
        .with("/over/p.yaml", pod("k"))
        .with("/v.yaml", "from: file\nnum: 1\n")
        .with("/chart/Chart.yaml", "apiVersion: v2\nname: c\nversion: 1.0.0\n")
        .with("/chart/templates/x.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: {{ .Release.Name }}, namespace: {{ .Release.Namespace }}}\ndata: {{ .Values | toJson }}\n");
    let rendered = rendered(&files, &[("app", "registry.example/app:v1")]).unwrap();
    insta::assert_snapshot!(rendered.text());
    let sources: Vec<&str> = rendered.objects.iter().map(|object| object.source.as_str()).collect();
    assert_eq!(sources, ["/k8s/a.yaml", "/k8s/b.yaml", "/over", "/chart/templates/x.yaml"]);
}

#[test]
fn images_that_nothing_is_given_for_stay_as_they_are_written() {
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: a, image: 'app:old'}, {name: b, image: 'other:1'}]}\n";
    let files = Memory::default()
        .with("/skaffold.yaml", "apiVersion: skaffold/v4beta13\nkind: Config\nbuild: {artifacts: [{image: app}]}\nmanifests: {rawYaml: [a.yaml]}\n")
        .with("/a.yaml", pod);
    let plain = rendered(&files, &[]).unwrap();
    assert!(plain.text().contains("image: app:old\n") && plain.unused.is_empty(), "{}", plain.text());
    let given =
        rendered(&files, &[("app", "r.example/app:2"), ("other", "r.example/other:2"), ("bogus", "x:1")]).unwrap();
    assert!(given.text().contains("image: r.example/app:2\n"), "{}", given.text());
    assert!(given.text().contains("image: r.example/other:2\n"), "{}", given.text());
    assert_eq!(given.unused, ["bogus"]);
}

#[test]
fn what_cannot_be_rendered_says_so() {
    let head = "apiVersion: skaffold/v4beta13\nkind: Config\n";
    for (text, expected) in [
        ("manifests: {kpt: [x]}", "/skaffold.yaml: manifests.kpt is not supported"),
        (
            "manifests: {rawYaml: ['https://example.com/x.yaml']}",
            "/skaffold.yaml: manifests.rawYaml names https://example.com/x.yaml, and nothing is fetched: keep a copy beside the file",
        ),
        (
            "manifests: {rawYaml: ['{{.NO_SUCH}}/x']}",
            "manifests.rawYaml: \"{{.NO_SUCH}}/x\" needs NO_SUCH, which is not set: set it in the environment",
        ),
        (
            "manifests: {helm: {releases: [{name: r, remoteChart: stable/x}]}}",
            "release \"r\" of /skaffold.yaml: the chart \"stable/x\" is remote, and nothing is fetched unless it is allowed: allow it (`--allow-remote`), or keep a copy and name it in `chartPath`",
        ),
        (
            "manifests: {helm: {releases: [{name: r, chartPath: c, useHelmSecrets: true}]}}",
            "release \"r\" of /skaffold.yaml: useHelmSecrets is not supported: decrypt the values first",
        ),
        ("manifests: {kustomize: {paths: [none]}}", "kustomization /none: '/none' doesn't exist or is no directory"),
    ] {
        let files = Memory::default().with("/skaffold.yaml", format!("{head}{text}\n"));
        assert_eq!(rendered(&files, &[]).unwrap_err().to_string(), expected);
    }
    let files = Memory::default().with("/skaffold.yaml", head);
    assert_eq!(rendered(&files, &[]).unwrap().warnings, ["k8s/*.yaml did not match any file"]);
}

#[test]
fn builders_that_are_missing_are_named() {
    let text = "apiVersion: skaffold/v4beta13\nkind: Config\nbuild: {artifacts: [{image: a}, {image: b, jib: {}}, {image: c, custom: {buildCommand: x}}]}\n";
    let loaded = read(text).unwrap();
    let said: Vec<Option<String>> =
        loaded.entries[0].config.build.artifacts.iter().map(Artifact::unsupported).collect();
    let jib = "artifact b: the builder `jib` is not supported: run Maven or Gradle in a `custom` build, or write a Dockerfile";
    assert_eq!(said, [None, Some(jib.to_owned()), None]);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 256, failure_persistence: None, ..Default::default() })]

    /// Whatever stands in the file, there is an answer.
    #[test]
    fn nothing_panics(version in 0usize..72, rest in "(build|deploy|profiles|test|requires|manifests): [-a-z:{}\\[\\], /=0-9\n]{0,120}", path in "[/a-z=0-9~-]{0,40}") {
        let version = Version::all().nth(version).unwrap();
        let text = format!("apiVersion: skaffold/{}\nkind: Config\n{rest}\n", version.name());
        let _ = read(&text);
        let text = format!("apiVersion: skaffold/v4beta13\nkind: Config\nprofiles: [{{name: p, activation: [{{command: d}}], patches: [{{op: add, path: '{path}', value: 1}}]}}]\n");
        let _ = read(&text);
    }

    /// What is printed reads back as what it was printed from.
    #[test]
    fn printed_configurations_read_back(image in "[a-z0-9./:-]{1,20}", value in "[ -~]{0,30}", n in proptest::prelude::any::<i32>(), flag: bool) {
        let value = serde_json::to_string(&value).unwrap();
        let text = format!("apiVersion: skaffold/v4beta13\nkind: Config\nbuild: {{artifacts: [{{image: \"{image}\", docker: {{buildArgs: {{A: {value}, B: null}}, noCache: {flag}}}}}], local: {{concurrency: {n}}}}}\n");
        let once = read(&text).unwrap().text();
        proptest::prop_assert_eq!(&read(&once).unwrap().text(), &once);
    }
}
