//! Images that buildpacks make: from a push over a builder of the registry to an image with evidence.

use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};
use testbed::{Project, Shipway};

use super::server;

const BUILDER: &str = "\
FROM debian
RUN echo cnb:x:1234:1235::/home/cnb:/bin/sh >> /etc/passwd && mkdir -p /home/cnb
ENV CNB_USER_ID=1234 CNB_GROUP_ID=1235
COPY --chmod=755 buildpacks /cnb/buildpacks
COPY order.toml run.toml /cnb/
";

const BUILDPACK: &str = "\
api = \"0.10\"
[buildpack]
id = \"team/a\"
version = \"1.0.0\"
sbom-formats = [\"application/vnd.cyclonedx+json\"]
";

const ORDER: &str = "[[order]]\n[[order.group]]\nid = \"team/a\"\nversion = \"1.0.0\"\n";

/// The first name is of a registry that a pipeline does not ask; the mirror is a base of Shipway's own.
const RUN: &str = "[[images]]\nimage = \"registry.example.org/team/run:1\"\nmirrors = [\"runtime\"]\n";

const DETECT: &str = "#!/bin/sh\nset -e\ntest -e app.txt || { echo no app.txt; exit 100; }\n";

const BUILD: &str = r#"#!/bin/sh
set -e
cd "$CNB_LAYERS_DIR"
echo "the word is $WORD"
if test -e kept.toml; then echo "reusing kept"; else mkdir kept; cat /proc/sys/kernel/random/uuid > kept/once; fi
printf '[types]\nlaunch = true\ncache = true\n' > kept.toml
cat > kept.sbom.cdx.json <<'END'
{"bomFormat": "CycloneDX", "specVersion": "1.5", "components": [
  {"type": "library", "name": "tool", "version": "1.2.3", "purl": "pkg:golang/example.org/tool@1.2.3", "licenses": [{"license": {"id": "MIT"}}]}
]}
END
printf '[[processes]]\ntype = "web"\ncommand = ["/workspace/app.txt"]\ndefault = true\n[[processes]]\ntype = "worker"\ncommand = ["work"]\n' > launch.toml
"#;

const EXTRA: &str = "#!/bin/sh\nset -e\necho \"extra sees $(ls | tr '\\n' ' ')\"\nprintf '[[labels]]\\nkey = \"from.extra\"\\nvalue = \"yes\"\\n' > \"$CNB_LAYERS_DIR/launch.toml\"\n";

/// The newest image of a repository.
fn newest(project: &Project<'_>, repository: &str) -> Value {
    let images = project.json("/images");
    let found = images.as_array().unwrap().iter().find(|image| image["repository"] == repository);
    found.cloned().unwrap_or_else(|| panic!("there is no {repository} in {images:#}"))
}

fn config(server: &Shipway, image: &Value) -> Value {
    let (repository, digest) = (image["repository"].as_str().unwrap(), image["digest"].as_str().unwrap());
    let manifest = server.json(&format!("/v2/{repository}/manifests/{digest}"));
    server.json(&format!("/v2/{repository}/blobs/{}", manifest["config"]["digest"].as_str().unwrap()))["config"].clone()
}

/// The document of a kind that hangs on an image.
fn referrer(server: &Shipway, image: &Value, kind: &str) -> Value {
    let (repository, digest) = (image["repository"].as_str().unwrap(), image["digest"].as_str().unwrap());
    let all = server.json(&format!("/v2/{repository}/referrers/{digest}"));
    let found = all["manifests"].as_array().unwrap().iter().find(|one| one["artifactType"] == kind);
    let found = found.unwrap_or_else(|| panic!("no {kind} in {all:#}"));
    let manifest = server.json(&format!("/v2/{repository}/manifests/{}", found["digest"].as_str().unwrap()));
    server.json(&format!("/v2/{repository}/blobs/{}", manifest["layers"][0]["digest"].as_str().unwrap()))
}

#[test]
fn buildpacks_make_images_with_evidence() {
    let Some(server) = server() else { return };
    let project = server.project("packing");
    project.push(&[
        (".shipway.yaml", "images:\n- { name: packing/builder, context: builder }\n"),
        ("builder/Dockerfile", BUILDER),
        ("builder/order.toml", ORDER),
        ("builder/run.toml", RUN),
        ("builder/buildpacks/team_a/1.0.0/buildpack.toml", BUILDPACK),
        ("builder/buildpacks/team_a/1.0.0/bin/detect", DETECT),
        ("builder/buildpacks/team_a/1.0.0/bin/build", BUILD),
    ]);
    project.passed(1);
    let builder = format!("packing/builder:{}", newest(&project, "packing/builder")["tag"].as_str().unwrap());

    // One says what it wants, with a buildpack of the repository; the other has no Dockerfile, and its project.toml says how.
    let pipeline = format!(
        "steps:\n- {{ name: test, image: debian, network: none, run: 'true' }}\nimages:\n- name: packing/app\n  context: app\n  \
         builder: {builder}\n  buildpacks: [from=builder, ./packs/extra]\n  env: {{ WORD: a word }}\n  default-process: worker\n\
         - {{ name: packing/auto, context: auto }}\n"
    );
    let described = format!(
        "[_]\nschema-version = \"0.2\"\nid = \"auto\"\n[io.buildpacks]\nbuilder = \"{builder}\"\nexclude = [\"*.md\"]\n\
         [[io.buildpacks.build.env]]\nname = \"WORD\"\nvalue = \"of the project\"\n"
    );
    for name in ["detect", "build"] {
        let path = format!("packs/extra/bin/{name}");
        project.tree.write(&path, if name == "build" { EXTRA } else { "#!/bin/sh\nexit 0\n" });
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(project.tree.path().join(&path), open).unwrap();
    }
    let commit = project.push(&[
        (".shipway.yaml", &pipeline),
        ("packs/extra/buildpack.toml", "api = \"0.10\"\n[buildpack]\nid = \"extra\"\nversion = \"2.0.0\"\n"),
        ("app/app.txt", "the app\n"),
        ("auto/app.txt", "the other\n"),
        ("auto/notes.md", "not for the image\n"),
        ("auto/project.toml", &described),
    ]);
    project.passed(2);
    let said = project.logs(2);
    for line in ["the word is a word", "extra sees app.txt ", "the word is of the project", "buildpacks: team/a@1.0.0"]
    {
        assert!(said.contains(line), "{line}\n{said}");
    }

    let image = newest(&project, "packing/app");
    assert_eq!(image["tag"], format!("{}-2", &commit[..12]));
    let bases: Vec<&str> = image["bases"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(
        matches!(bases[..], [one, two] if one.starts_with("packing/builder@") && two.starts_with("base/runtime@")),
        "{bases:?}"
    );
    let of = config(server, &image);
    assert_eq!(of["Entrypoint"], json!(["/cnb/process/worker"]), "{of:#}");
    assert_eq!(of["Labels"]["from.extra"], "yes");
    let metadata = testbed::json(of["Labels"]["io.buildpacks.build.metadata"].as_str().unwrap());
    assert_eq!(
        metadata["buildpacks"],
        json!([{ "id": "team/a", "version": "1.0.0" }, { "id": "extra", "version": "2.0.0" }])
    );

    // Evidence: what the buildpack says that it brought stands in the list of the image's packages beside those of the run image.
    let bom = referrer(server, &image, "application/vnd.cyclonedx+json");
    let component = |name: &str| bom["components"].as_array().unwrap().iter().find(|one| one["name"] == name).cloned();
    let tool = component("tool").unwrap_or_else(|| panic!("{bom:#}"));
    assert_eq!(
        (&tool["purl"], &tool["licenses"][0]["license"]["id"]),
        (&json!("pkg:golang/example.org/tool@1.2.3"), &json!("MIT"))
    );
    assert_eq!(tool["evidence"]["occurrences"][0]["location"], "/layers/sbom/launch/team_a/kept/sbom.cdx.json");
    assert!(component("libc6").is_some(), "{bom:#}");
    let digest = image["digest"].as_str().unwrap();
    let evidence = server.json(&format!("/api/v1/evidence/{digest}"));
    let mut kinds: Vec<&str> =
        evidence.as_array().unwrap().iter().filter_map(|piece| piece["detail"]["kind"].as_str()).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, ["provenance", "sbom", "signature", "vulnerabilities"]);
    assert!(server.cli(&["trace", &format!("packing/app@{digest}")]).ok().contains('✓'));

    // A commit that changes nothing of it gives the very same image; one that does finds its layers.
    project.push(&[("README.md", "read me\n")]);
    project.passed(3);
    assert_eq!(newest(&project, "packing/app")["digest"], digest);
    assert!(!project.logs(3).contains("the word is"), "{}", project.logs(3));
    project.push(&[("app/app.txt", "changed\n")]);
    project.passed(4);
    assert!(project.logs(4).contains("reusing kept"), "{}", project.logs(4));
    assert_ne!(newest(&project, "packing/app")["digest"], digest);

    // What is wrong is said with its place, before anything runs.
    let wrong = |line: &str| {
        pipeline.replace(&format!("  builder: {builder}\n"), line).replace("packing/auto", "packing/other")
    };
    for (build, (line, at, why)) in (5..).zip([
        ("  builder: packing/nothing:1\n", ".shipway.yaml:6:12", "packing/nothing"),
        ("  builder: packing/builder:latest\n", ".shipway.yaml:6:12", "`latest` is refused"),
        (
            &format!("  builder: {builder}\n  target: x\n")[..],
            ".shipway.yaml:7:3",
            "`target` is for images that a Dockerfile makes",
        ),
        ("", ".shipway.yaml:4:9", "nothing says which builder"),
        (&format!("  builder: {builder}\n  run-image: nobody/run:1\n")[..], ".shipway.yaml:7:14", "nobody/run:1"),
        (&format!("  builder: {builder}\n  descriptor: other.toml\n")[..], "app/other.toml", "`descriptor`"),
    ]) {
        project.push(&[(".shipway.yaml", &wrong(line))]);
        let reason = project.failed(build);
        assert!(reason.contains(at) && reason.contains(why), "{line}{reason}");
        assert!(!project.logs(build).contains("the word is"), "{reason}");
    }
    let unknown = pipeline.replace("./packs/extra", "./packs/none");
    project.push(&[(".shipway.yaml", &unknown)]);
    let reason = project.failed(11);
    assert!(reason.contains(".shipway.yaml:7:30") && reason.contains("is no buildpack"), "{reason}");
    // A buildpack that says no, and one that fails, fail the image with what was said.
    project.tree.git(&["rm", "--quiet", "app/app.txt"]).ok();
    project.push(&[(".shipway.yaml", &pipeline), ("app/other.txt", "x\n")]);
    let reason = project.failed(12);
    assert!(reason.contains("team/a@1.0.0 says no") && reason.contains("no app.txt"), "{reason}");
}
