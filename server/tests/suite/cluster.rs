//! `kubectl` against a running server, as somebody uses it who was given its kubeconfig.

use std::process::Command;

use testbed::{Options, Said, Shared, Shipway, json, need_mirror, need_root, need_tool, said};

use crate::shipway;

const APP: &str = "\
apiVersion: v1
kind: ConfigMap
metadata: { name: words }
data: { greeting: hello }
---
apiVersion: v1
kind: Secret
metadata: { name: hidden }
stringData: { word: swordfish }
---
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
        image: IMAGE
        command: [/bin/sh, -c, 'echo \"$GREETING from $VERSION\"; touch /tmp/ready; exec sleep 3600']
        env:
        - { name: VERSION, value: one }
        - { name: GREETING, valueFrom: { configMapKeyRef: { name: words, key: greeting } } }
        - { name: WORD, valueFrom: { secretKeyRef: { name: hidden, key: word } } }
        readinessProbe: { exec: { command: [test, -e, /tmp/ready] }, periodSeconds: 1 }
---
apiVersion: v1
kind: Service
metadata: { name: app }
spec: { selector: { app: app }, ports: [{ port: 80 }] }
---
apiVersion: batch/v1
kind: Job
metadata: { name: once }
spec:
  template:
    spec:
      restartPolicy: Never
      containers: [{ name: once, image: IMAGE, command: [/bin/sh, -c, 'echo done'] }]
";

fn server() -> Option<&'static Shipway> {
    static SERVER: Shared = Shared::new();
    let able = need_root() && need_tool("git") && need_tool("kubectl") && need_mirror();
    able.then(|| SERVER.get(|| Options::new(shipway()).start()))
}

/// In the namespace `play`.
fn run(server: &Shipway, arguments: &[&str], input: &str) -> Said {
    let mut kubectl = Command::new("kubectl");
    kubectl.args(["--namespace", "play"]).args(arguments);
    said(kubectl.env("KUBECONFIG", server.data().join("kubeconfig")), input.as_bytes())
}

#[test]
fn kubectl_is_at_home() {
    let Some(server) = server() else { return };
    // Whatever a pod runs needs its evidence, so an image from a run it is.
    let project = server.project("play");
    let pipeline = "images: [{ name: play/app, context: . }]\n";
    project.push(&[(".shipway.yaml", pipeline), ("Dockerfile", "FROM debian\nUSER 65532:65532\n")]);
    project.passed(1);
    let tag = project.json("/images")[0]["tag"].as_str().unwrap().to_owned();
    let app = APP.replace("IMAGE", &format!("play/app:{tag}"));
    let kubectl = |arguments: &[&str]| run(server, arguments, "").ok();

    kubectl(&["create", "namespace", "play"]);
    let applied = run(server, &["apply", "--filename", "-"], &app).ok();
    for what in
        ["configmap/words created", "deployment.apps/app created", "service/app created", "job.batch/once created"]
    {
        assert!(applied.contains(what), "{applied}");
    }
    let status = run(server, &["rollout", "status", "deployment/app", "--timeout=60s"], "");
    assert!(status.success(), "{status:?}\n{}", kubectl(&["describe", "pods"]));
    kubectl(&["wait", "--for=condition=complete", "job/once", "--timeout=60s"]);
    assert_eq!(kubectl(&["logs", "job/once"]), "done\n");
    assert!(run(server, &["apply", "--filename", "-"], &app).ok().contains("deployment.apps/app unchanged"));

    let table = kubectl(&["get", "deployments"]);
    assert!(
        table.starts_with("NAME   READY   UP-TO-DATE   AVAILABLE   AGE\napp    2/2     2            2 "),
        "{table}"
    );
    let wide = kubectl(&["get", "pods", "--selector", "app=app", "--output", "wide"]);
    assert_eq!(wide.matches("Running").count(), 2, "{wide}");
    let endpoints = json(&kubectl(&["get", "endpoints", "app", "--output", "json"]));
    assert_eq!(endpoints["subsets"][0]["addresses"].as_array().map(Vec::len), Some(2), "{endpoints:#}");
    let described = kubectl(&["describe", "deployment", "app"]);
    assert!(described.contains("2 desired | 2 updated | 2 total | 2 available | 0 unavailable"), "{described}");
    assert_eq!(kubectl(&["logs", "deployment/app"]), "hello from one\n");
    let word = kubectl(&["exec", "deployment/app", "--", "sh", "-c", "printf %s \"$WORD\""]);
    assert_eq!(word, "swordfish");
    let failed = run(server, &["exec", "deployment/app", "--", "sh", "-c", "exit 7"], "");
    assert_eq!(failed.code, Some(7), "the program's own exit code: {failed:?}");
    let piped = run(server, &["exec", "--stdin", "deployment/app", "--", "tr", "a-z", "A-Z"], "what is written\n").ok();
    assert_eq!(piped, "WHAT IS WRITTEN\n");

    kubectl(&["scale", "deployment/app", "--replicas=3"]);
    kubectl(&["rollout", "status", "deployment/app", "--timeout=60s"]);
    assert_eq!(kubectl(&["get", "pods", "--selector", "app=app", "--output", "name"]).lines().count(), 3);

    kubectl(&["set", "env", "deployment/app", "VERSION=two"]);
    kubectl(&["rollout", "status", "deployment/app", "--timeout=60s"]);
    assert_eq!(kubectl(&["logs", "deployment/app"]), "hello from two\n");
    let history = kubectl(&["rollout", "history", "deployment/app"]);
    assert!(history.contains("\n1 ") && history.contains("\n2 "), "{history}");
    kubectl(&["rollout", "undo", "deployment/app"]);
    kubectl(&["rollout", "status", "deployment/app", "--timeout=60s"]);
    assert_eq!(kubectl(&["logs", "deployment/app"]), "hello from one\n");

    // A pod that is deleted is replaced. Those of the revision before may still be on their way out.
    server.wait_for("only the pods of this revision are left", || {
        let names = kubectl(&["get", "pods", "--selector", "app=app", "--output", "name"]);
        if names.lines().count() == 3 { Ok(()) } else { Err(names) }
    });
    let pod = kubectl(&["get", "pods", "--selector", "app=app", "--output", "name"]);
    let pod = pod.lines().next().unwrap().to_owned();
    kubectl(&["delete", &pod]);
    server.wait_for("three pods are there, and not the one that was deleted", || {
        let names = kubectl(&["get", "pods", "--selector", "app=app", "--output", "name"]);
        if names.lines().count() == 3 && !names.contains(&pod) { Ok(()) } else { Err(names) }
    });
    kubectl(&["rollout", "status", "deployment/app", "--timeout=60s"]);

    let wrong = run(server, &["apply", "--filename", "-"], &app.replace("replicas: 2", "replicas: many")).failed();
    assert!(wrong.contains("replicas"), "{wrong}");
    assert!(run(server, &["get", "pod", "nobody"], "").failed().contains("pods \"nobody\" not found"));
    kubectl(&["delete", "namespace", "play", "--timeout=60s"]);
    assert!(!kubectl(&["get", "namespaces", "--output", "name"]).contains("play"));
}
