//! Files that are wrong: the run says where, what, and the way out.

use serde_json::json;
use testbed::{need_tool, sha256};

use super::server;
use crate::{
    golden,
    registry::{copy, layout},
};

const GOOD: &str = "steps:\n- { name: ok, image: debian, network: none, run: 'true' }\n";

#[test]
fn a_run_says_where_a_file_is_wrong() {
    let Some(server) = server() else { return };
    let project = server.project("mistakes");
    let mut all = String::new();
    let mut build = 0;
    let mut tell = |what: &str, files: &[(&str, &str)]| {
        build += 1;
        let commit = project.push(files);
        let reason = project.failed(build).replace(&commit[..12], "COMMIT");
        all.push_str(&format!("# {what}\n{}\n\n", reason.trim_end()));
    };
    let image = |pipeline: &str, dockerfile: &str| {
        [(".shipway.yaml", pipeline.to_owned()), ("app/Dockerfile", dockerfile.to_owned())]
    };
    tell("no file", &[("README.md", "nothing\n")]);
    tell("no YAML", &[(".shipway.yaml", "steps:\n  - name: [\n")]);
    tell("an unknown key", &[(".shipway.yaml", "steps:\n- { name: ok, image: debian, runs: 'true' }\n")]);
    tell(
        "a circle",
        &[(
            ".shipway.yaml",
            "steps:\n- { name: a, image: debian, needs: [b], run: 'true' }\n- { name: b, image: debian, needs: [a], run: 'true' }\n",
        )],
    );
    tell("an image that is not there", &[(".shipway.yaml", "steps:\n- { name: ok, image: debain, run: 'true' }\n")]);
    tell(
        "an image of another registry",
        &[(".shipway.yaml", "steps:\n- { name: ok, image: docker.io/library/debian:13, run: 'true' }\n")],
    );
    tell("latest", &[(".shipway.yaml", "steps:\n- { name: ok, image: team/app:latest, run: 'true' }\n")]);
    let built = format!("{GOOD}images:\n- {{ name: mistakes/app, context: app }}\n");
    tell("no Dockerfile", &[(".shipway.yaml", &built)]);
    for (what, dockerfile) in [
        ("an unknown instruction", "FROM debian\nRUM true\n"),
        ("an instruction without its argument", "FROM debian\nCOPY one\n"),
        ("a base that is not there", "FROM debain\n"),
        ("a file that is not in the context", "FROM runtime\nCOPY missing.txt /\n"),
        ("a stage that is not there", "FROM runtime\nCOPY --from=build /x /\n"),
        (
            "a build that fails in the middle",
            "FROM debian\nRUN echo one > /one\nRUN echo going; echo to fail >&2; exit 7\nRUN echo never\n",
        ),
        ("a program that is not there", "FROM runtime\nRUN [\"/bin/nothing\"]\n"),
    ] {
        let files = image(&built, dockerfile);
        let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
        tell(what, &files);
    }
    tell(
        "manifests that are none",
        &[
            (".shipway.yaml", &format!("{GOOD}deploy:\n  from: deploy\n  environments:\n  - name: prod\n")),
            ("deploy/app.yaml", "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: [\n"),
        ],
    );
    golden!(all);
    assert_eq!(project.json("/images"), json!([]), "nothing was half-made");

    // After all that the project is as good as new.
    project.push(&[(".shipway.yaml", GOOD)]);
    project.passed(build + 1);
}

#[test]
fn a_layer_that_reaches_out_of_its_root_is_refused() {
    let Some(server) = server() else { return };
    if !need_tool("skopeo") {
        return;
    }
    let project = server.project("hostile");
    // On this machine, outside of every container.
    let outside = testbed::directory();
    let target = outside.path().join("written");
    let absolute = format!("--transform=s,^etc/greeting$,{},", target.display());
    let up =
        format!("--transform=s,^etc/greeting$,{}{},", "../".repeat(20), target.strip_prefix("/").unwrap().display());
    for (build, (name, transform)) in (1..).zip([("absolute", absolute), ("up", up)]) {
        let home = testbed::directory();
        layout(home.path(), &["--absolute-names", &transform, "etc/greeting"]);
        let from = format!("oci:{}:v1", home.path().join("layout").display());
        let to = format!("docker://hostile/{name}:v1");
        copy(server, home.path(), &from, &to, Some(&server.token())).ok();
        let pipeline =
            format!("steps:\n- {{ name: ok, image: 'hostile/{name}:v1', network: none, run: [/bin/true] }}\n");
        project.push(&[(".shipway.yaml", &pipeline)]);
        let reason = project.failed(build);
        assert!(!target.exists(), "{name}: a layer wrote outside of its root; {reason}");
        if name == "up" {
            assert!(reason.contains("..") && reason.contains("layer"), "{name}: {reason}");
        }
    }
}

#[test]
fn an_image_that_people_pushed_is_a_place_for_steps() {
    let Some(server) = server() else { return };
    if !need_tool("skopeo") {
        return;
    }
    let project = server.project("pushed");
    project.push(&[(".shipway.yaml", GOOD)]);
    let run = project.passed(1);
    let digest = run["resolved"]["debian"].as_str().unwrap();
    let home = testbed::directory();
    let from = format!("docker://base/debian@{digest}");
    copy(server, home.path(), &from, "docker://team/tools:1.4", Some(&server.token())).ok();
    let named = format!("{}/team/tools:1.4", server.host());
    let pipeline = format!(
        "steps:\n- {{ name: by-tag, image: 'team/tools:1.4', network: none, run: echo by tag }}\n\
         - {{ name: by-digest, image: 'team/tools@{digest}', network: none, run: echo by digest }}\n\
         - {{ name: by-host, image: '{named}', network: none, run: echo by host }}\n"
    );
    project.push(&[(".shipway.yaml", &pipeline)]);
    let run = project.passed(2);
    assert_eq!(run["resolved"]["team/tools:1.4"], digest, "resolved once, recorded by digest");
    assert_eq!(run["resolved"][&named], digest);
    assert_eq!(project.out(2, "by-tag"), "by tag\n");
    // The image is the same thing, whoever it was uploaded by.
    let manifest = server.get("/v2/team/tools/manifests/1.4").body;
    assert_eq!(sha256(manifest.as_bytes()), digest);
}
