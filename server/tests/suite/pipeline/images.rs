//! Images: built, cached, pushed, with evidence, and traced back.

use std::process::Command;

use serde_json::{Value, json};
use testbed::{Project, Shipway, need_tool, said};

use super::server;
use crate::registry::copy;

const PIPELINE: &str = "\
steps:
- { name: test, image: debian, network: none, run: 'true' }
images:
- { name: built/app, context: app, args: { WHO: people } }
";

const DOCKERFILE: &str = "\
FROM debian AS build
ARG WHO=nobody
WORKDIR /src
COPY . .
RUN echo \"compiled for $WHO\" > compiled; cat /proc/sys/kernel/random/uuid > once; find . -type f | sort > seen

FROM runtime
LABEL org.example.title=\"An app\"
ENV MODE=production
WORKDIR /app
COPY --from=build --chown=65532:65532 /src/compiled /src/once /src/seen ./
COPY version.txt ./
USER 65532:65532
EXPOSE 8080
ENTRYPOINT [\"/app/run\"]
CMD [\"--serve\"]
";

/// A file of the newest image of a project, as somebody gets it who pulls.
fn file(server: &Shipway, image: &Value, path: &str) -> Option<String> {
    let home = testbed::directory();
    let to = home.path().join("image");
    let from = format!("docker://{}:{}", image["repository"].as_str()?, image["tag"].as_str()?);
    copy(server, home.path(), &from, &format!("dir:{}", to.display()), None).ok();
    let manifest = testbed::json(&std::fs::read_to_string(to.join("manifest.json")).ok()?);
    let layers = manifest["layers"].as_array()?.iter().rev();
    layers.filter_map(|layer| layer["digest"].as_str()?.strip_prefix("sha256:")).find_map(|layer| {
        let mut tar = Command::new("tar");
        tar.args(["--extract", "--to-stdout", "--file"]).arg(to.join(layer)).arg(path);
        let said = said(&mut tar, b"");
        said.success().then_some(said.out)
    })
}

fn newest(project: &Project<'_>) -> Value {
    project.json("/images")[0].clone()
}

#[test]
fn a_push_becomes_an_image_with_evidence() {
    let Some(server) = server() else { return };
    if !need_tool("skopeo") {
        return;
    }
    let project = server.project("built");
    let commit = project.push(&[
        (".shipway.yaml", PIPELINE),
        ("app/Dockerfile", DOCKERFILE),
        ("app/.dockerignore", "*.secret\nignored/\n!kept.secret\n"),
        ("app/version.txt", "1\n"),
        ("app/a.secret", "no\n"),
        ("app/kept.secret", "yes\n"),
        ("app/ignored/file", "no\n"),
    ]);
    project.passed(1);
    let image = newest(&project);
    let tag = format!("{}-1", &commit[..12]);
    assert_eq!((&image["repository"], &image["tag"]), (&json!("built/app"), &json!(tag)), "{image:#}");
    assert_eq!(image["commit"], commit.as_str());
    assert_eq!(file(server, &image, "app/compiled").unwrap(), "compiled for people\n");
    let seen = file(server, &image, "app/seen").unwrap();
    for (path, there) in
        [("./kept.secret", true), ("./version.txt", true), ("./a.secret", false), ("./ignored/file", false)]
    {
        assert_eq!(seen.contains(path), there, "{path}: {seen}");
    }

    // What the registry has is what the record says.
    let digest = image["digest"].as_str().unwrap();
    let manifest = server.get(&format!("/v2/built/app/manifests/{tag}"));
    assert_eq!(testbed::sha256(manifest.body.as_bytes()), digest);
    let manifest = manifest.json();
    assert_eq!(manifest["annotations"]["org.opencontainers.image.revision"], commit.as_str(), "{manifest:#}");
    let config = server.json(&format!("/v2/built/app/blobs/{}", manifest["config"]["digest"].as_str().unwrap()));
    let config = &config["config"];
    assert_eq!(config["Labels"]["org.example.title"], "An app", "{config:#}");
    assert_eq!((&config["User"], &config["WorkingDir"]), (&json!("65532:65532"), &json!("/app")));
    assert_eq!((&config["Entrypoint"], &config["Cmd"]), (&json!(["/app/run"]), &json!(["--serve"])));
    assert!(config["Env"].as_array().unwrap().contains(&json!("MODE=production")), "{config:#}");
    assert_eq!(config["ExposedPorts"], json!({ "8080/tcp": {} }));

    // The evidence hangs on the image, where the field's tools look for it.
    let referrers = server.json(&format!("/v2/built/app/referrers/{digest}"));
    let kinds: Vec<&str> =
        referrers["manifests"].as_array().unwrap().iter().filter_map(|r| r["artifactType"].as_str()).collect();
    assert!(kinds.len() >= 4, "{referrers:#}");
    let evidence = server.json(&format!("/api/v1/evidence/{digest}"));
    let mut found: Vec<String> = evidence
        .as_array()
        .unwrap()
        .iter()
        .map(|piece| piece["detail"]["kind"].as_str().unwrap_or_else(|| panic!("{piece:#}")).to_owned())
        .collect();
    found.sort();
    assert_eq!(found, ["provenance", "sbom", "signature", "vulnerabilities"], "{evidence:#}");

    let name = format!("built/app@{digest}");
    let trace = server.cli(&["trace", &name, "--json"]);
    assert_eq!(trace.code, Some(0), "{trace:?}");
    let trace = testbed::json(&trace.out);
    let kinds: Vec<&str> = trace["links"].as_array().unwrap().iter().filter_map(|link| link["kind"].as_str()).collect();
    assert!(kinds.first() == Some(&"image") && kinds.last() == Some(&"commit") && kinds.contains(&"run"), "{trace:#}");
    assert_eq!(
        trace["links"].as_array().unwrap().last().unwrap()["name"].as_str().map(|name| name.contains(&commit[..12])),
        Some(true),
        "{trace:#}"
    );
    let shown = server.cli(&["trace", &name]).ok();
    assert!(shown.contains("✓") && !shown.contains("✗"), "{shown}");
    // What nobody built here does not hold.
    let base = project.run(1)["resolved"]["debian"].as_str().unwrap().to_owned();
    assert_eq!(server.cli(&["trace", &format!("base/debian@{base}")]).code, Some(1));
}

#[test]
fn what_has_not_changed_is_not_built_again() {
    let Some(server) = server() else { return };
    if !need_tool("skopeo") {
        return;
    }
    let project = server.project("cached");
    let pipeline = PIPELINE.replace("built/app", "cached/app");
    // The first stage does not see the file that changes.
    let dockerfile = DOCKERFILE.replace("COPY . .\n", "COPY Dockerfile ./\n");
    project.push(&[(".shipway.yaml", &pipeline), ("app/Dockerfile", &dockerfile), ("app/version.txt", "1\n")]);
    project.passed(1);
    let first = newest(&project);
    project.push(&[("app/version.txt", "2\n")]);
    project.passed(2);
    let second = newest(&project);
    assert_ne!(first["digest"], second["digest"]);
    assert_eq!(
        (file(server, &first, "app/version.txt").unwrap(), file(server, &second, "app/version.txt").unwrap()),
        ("1\n".into(), "2\n".into())
    );
    // The random number in it says that the program did not run a second time.
    assert_eq!(file(server, &first, "app/once"), file(server, &second, "app/once"));
    let log: Vec<String> = project.log(2, "cached/app").into_iter().map(|line| line.text).collect();
    // Nobody looks at the first stage: what was copied from it is there.
    assert!(log.iter().any(|line| line.contains("COPY --from=build") && line.ends_with("(cached)")), "{log:#?}");
    assert!(!log.iter().any(|line| line.contains("RUN")), "{log:#?}");
    assert!(log.iter().any(|line| line.contains("COPY version.txt") && !line.ends_with("(cached)")), "{log:#?}");

    // A commit that touches nothing of the image: the very same one, under a tag of its own.
    let third = project.push(&[("README.md", "no part of the image\n")]);
    project.passed(3);
    let image = newest(&project);
    assert_eq!(image["tag"], format!("{}-3", &third[..12]).as_str());
    assert_eq!(image["digest"], second["digest"]);
}
