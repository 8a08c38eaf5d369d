//! How releases reach environments: one after the other, by approval, and back again.

use serde_json::Value;
use testbed::{Options, Project, Shared, Shipway, json, need_mirror, need_root, need_tool, state};

use crate::shipway;

const PIPELINE: &str = "\
images:
- { name: people/app, context: app }
deploy:
  environments:
  - { name: dev, namespace: people-dev, progress-deadline: 30s }
  - { name: prod, namespace: people, after: dev, approve: [release-managers], progress-deadline: 30s }
";

/// A pod that is ready when the file `/good` is in its image.
const DEPLOYMENT: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata: { name: app }
spec:
  replicas: 2
  selector: { matchLabels: { app: app } }
  template:
    metadata: { labels: { app: app } }
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: app
        image: people/app
        readinessProbe: { exec: { command: [test, -e, /good] }, periodSeconds: 1 }
";

fn dockerfile(version: &str, good: bool) -> String {
    let good = if good { "touch /good" } else { "touch /bad" };
    format!(
        "FROM debian\nRUN {good}\nENV VERSION={version}\nUSER 65532:65532\n\
         ENTRYPOINT [\"/bin/sh\", \"-c\", \"echo version $VERSION; exec sleep 3600\"]\n"
    )
}

fn server() -> Option<&'static Shipway> {
    static SERVER: Shared = Shared::new();
    let able = need_root() && need_tool("git") && need_tool("curl") && need_tool("kubectl") && need_mirror();
    able.then(|| SERVER.get(|| Options::new(shipway()).start()))
}

fn releases(project: &Project<'_>, environment: &str) -> Vec<Value> {
    project.json(&format!("/environments/{environment}/releases")).as_array().cloned().unwrap_or_default()
}

/// Waits until the newest release of an environment is number `number` and in the state `wanted`.
fn reached(project: &Project<'_>, environment: &str, number: usize, wanted: &str) -> Value {
    project.server.wait_for(&format!("release {environment}/{number} is {wanted}"), || {
        let all = releases(project, environment);
        let newest = all.first().cloned().unwrap_or_default();
        let there = all.len() == number && state(&newest["rollout"]) == wanted;
        if there { Ok(newest) } else { Err(format!("{all:#?}")) }
    })
}

/// What the pods of a namespace say, once both are ready and no other is there.
fn versions(server: &Shipway, namespace: &str) -> Vec<String> {
    server.wait_for("two pods are ready and no other is there", || {
        let pods = json(&server.kubectl(&["get", "pods", "--namespace", namespace, "--output", "json"]));
        let pods = pods["items"].as_array().unwrap();
        let ready = |pod: &&Value| pod["status"]["containerStatuses"][0]["ready"] == true;
        match (pods.iter().filter(ready).count(), pods.len()) {
            (2, 2) => {
                let names = pods.iter().map(|pod| pod["metadata"]["name"].as_str().unwrap());
                let log = |name| server.kubectl(&["logs", "--namespace", namespace, name]).trim().to_owned();
                Ok(names.map(log).collect())
            }
            counts => Err(format!("{counts:?}")),
        }
    })
}

#[test]
fn a_release_waits_for_the_environment_before_and_for_people_and_can_be_taken_back() {
    let Some(server) = server() else { return };
    let project = server.project("people");
    project.tree.write("deploy/app.yaml", DEPLOYMENT);
    project.push(&[(".shipway.yaml", PIPELINE), ("app/Dockerfile", &dockerfile("1", true))]);
    project.passed(1);
    reached(&project, "dev", 1, "complete");
    assert_eq!(releases(&project, "prod").len(), 0, "nobody let it go to prod");

    let approve = |build: &str, environment: &str, group: &str| {
        server.cli(&["rollout", "approve", &format!("people/{build}"), environment, "--group", group])
    };
    let refused = approve("1", "prod", "everybody").failed();
    assert!(refused.contains("release-managers"), "{refused}");
    let refused = approve("1", "nowhere", "release-managers").failed();
    assert!(refused.contains("nowhere"), "{refused}");
    assert!(approve("99", "prod", "release-managers").failed().contains("people/99"));
    assert_eq!(releases(&project, "prod").len(), 0, "who may not approve has not");
    approve("1", "prod", "release-managers").ok();
    let first = reached(&project, "prod", 1, "complete");
    assert_eq!(versions(server, "people"), ["version 1", "version 1"]);

    // The second version is let in after it is in the environment before: and only there until somebody says so.
    project.push(&[("app/Dockerfile", &dockerfile("2", true))]);
    project.passed(2);
    reached(&project, "dev", 2, "complete");
    assert_eq!(versions(server, "people-dev"), ["version 2", "version 2"]);
    assert_eq!((releases(&project, "prod").len(), versions(server, "people")[0].as_str()), (1, "version 1"));
    approve("2", "prod", "release-managers").ok();
    let status = server.cli(&["rollout", "status", "people", "prod", "--watch"]);
    assert_eq!(status.code, Some(0), "{status:?}");
    reached(&project, "prod", 2, "complete");
    assert_eq!(versions(server, "people"), ["version 2", "version 2"]);

    // Back: one more release, of the very images of the first.
    let said = server.cli(&["rollout", "undo", "people", "prod"]).ok();
    assert!(said.contains("people/prod/3"), "{said}");
    let third = reached(&project, "prod", 3, "complete");
    assert_eq!(third["release"]["images"], first["release"]["images"]);
    assert_eq!(versions(server, "people"), ["version 1", "version 1"]);
    let refused = server.cli(&["rollout", "undo", "people", "prod", "--to", "99"]).failed();
    assert!(refused.contains("99"), "{refused}");
    let history = server.cli(&["rollout", "history", "people", "prod"]).ok();
    let causes: Vec<&str> = history.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(causes, ["3", "2", "1"], "{history}");
    assert!(history.contains("undo to 1 by admin"), "{history}");
}

#[test]
fn what_never_becomes_ready_is_taken_back_and_says_why() {
    let Some(server) = server() else { return };
    let project = server.project("falls");
    let pipeline = "images:\n- { name: falls/app, context: app }\ndeploy:\n  environments:\n  - { name: prod, namespace: falls, progress-deadline: 4s }\n";
    project.tree.write("deploy/app.yaml", DEPLOYMENT.replace("people/app", "falls/app"));
    project.push(&[(".shipway.yaml", pipeline), ("app/Dockerfile", &dockerfile("1", true))]);
    let first = reached(&project, "prod", 1, "complete");
    project.push(&[("app/Dockerfile", &dockerfile("2", false))]);
    let third = reached(&project, "prod", 3, "complete");
    assert_eq!(third["release"]["images"], first["release"]["images"]);
    let second = &releases(&project, "prod")[1];
    let reason = second["rollout"]["state"]["reason"].as_str().unwrap();
    assert!(reason.contains("readiness probe") && reason.contains("within 4 s"), "{reason}");
    assert_eq!(versions(server, "falls"), ["version 1", "version 1"]);
    let history = server.cli(&["rollout", "history", "falls", "prod"]).ok();
    assert!(history.contains("rollback of 2"), "{history}");
}

#[test]
fn a_kustomization_is_rendered() {
    let Some(server) = server() else { return };
    let project = server.project("layers");
    let pipeline = "images:\n- { name: layers/app, context: app }\ndeploy:\n  from: deploy/prod\n  environments:\n  - { name: prod, namespace: layers, progress-deadline: 30s }\n";
    project.tree.write("deploy/base/app.yaml", DEPLOYMENT.replace("people/app", "layers/app"));
    project.tree.write("deploy/base/kustomization.yaml", "resources: [app.yaml]\n");
    let overlay =
        "resources: [../base]\nnameSuffix: -prod\nconfigMapGenerator:\n- { name: words, files: [greeting.txt] }\n";
    project.tree.write("deploy/prod/kustomization.yaml", overlay);
    project.tree.write("deploy/prod/greeting.txt", "hello\n");
    project.push(&[(".shipway.yaml", pipeline), ("app/Dockerfile", &dockerfile("1", true))]);
    reached(&project, "prod", 1, "complete");
    assert_eq!(versions(server, "layers"), ["version 1", "version 1"]);
    let made = server.kubectl(&["get", "deployments,configmaps", "--namespace", "layers", "--output", "name"]);
    assert!(made.contains("deployment.apps/app-prod"), "{made}");
    assert!(made.contains("configmap/words-prod-"), "{made}");

    project.push(&[("deploy/prod/kustomization.yaml", "resources: [../../../outside]\n")]);
    let reason = project.failed(2);
    assert!(reason.starts_with("deploy/prod: ") && reason.contains("outside"), "{reason}");
}
