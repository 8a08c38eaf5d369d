//! A project whose manifests are a chart: rendered for each environment, with its values.

use serde_json::Value;
use testbed::{Options, Project, Shared, Shipway, json, need_mirror, need_root, need_tool, state};

use crate::shipway;

const PIPELINE: &str = "\
images:
- { name: charted/app, context: app }
deploy:
  from: chart
  values: [values/all.yaml]
  environments:
  - { name: dev, progress-deadline: 30s }
  - { name: prod, namespace: live, after: dev, values: values/prod.yaml, progress-deadline: 30s }
";

const TEMPLATE: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata: { name: {{ .Release.Name }} }
spec:
  replicas: {{ .Values.replicas }}
  selector: { matchLabels: { app: {{ .Release.Name }} } }
  template:
    metadata: { labels: { app: {{ .Release.Name }} } }
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: app
        image: charted/app
        env: [{ name: GREETING, value: \"{{ .Values.greeting }} to {{ .Release.Namespace }}\" }]
";

const TEST: &str = "\
apiVersion: v1
kind: Pod
metadata: { name: never, annotations: { helm.sh/hook: test } }
spec: { containers: [{ name: a, image: nowhere/at-all }] }
";

const DOCKERFILE: &str =
    "FROM debian\nUSER 65532:65532\nENTRYPOINT [\"/bin/sh\", \"-c\", \"echo $GREETING; exec sleep 3600\"]\n";

fn server() -> Option<&'static Shipway> {
    static SERVER: Shared = Shared::new();
    let able = need_root() && need_tool("git") && need_tool("curl") && need_tool("kubectl") && need_mirror();
    able.then(|| SERVER.get(|| Options::new(shipway()).start()))
}

fn complete(project: &Project<'_>, environment: &str, number: usize) -> Value {
    project.server.wait_for(&format!("release {environment}/{number} is complete"), || {
        let all = project.json(&format!("/environments/{environment}/releases"));
        let all = all.as_array().cloned().unwrap_or_default();
        let newest = all.first().cloned().unwrap_or_default();
        if all.len() == number && state(&newest["rollout"]) == "complete" {
            Ok(newest)
        } else {
            Err(format!("{all:#?}"))
        }
    })
}

fn logs(server: &Shipway, namespace: &str, count: usize) -> Vec<String> {
    server.wait_for("its pods are ready", || {
        let pods = json(&server.kubectl(&["get", "pods", "--namespace", namespace, "--output", "json"]));
        let pods = pods["items"].as_array().cloned().unwrap_or_default();
        let ready = |pod: &&Value| pod["status"]["containerStatuses"][0]["ready"] == true;
        if pods.len() != count || pods.iter().filter(ready).count() != count {
            return Err(format!("{pods:#?}"));
        }
        let names = pods.iter().filter_map(|pod| pod["metadata"]["name"].as_str());
        Ok(names.map(|name| server.kubectl(&["logs", "--namespace", namespace, name]).trim().to_owned()).collect())
    })
}

#[test]
fn a_chart_is_released_to_each_environment_with_its_values() {
    let Some(server) = server() else { return };
    let project = server.project("charted");
    project.push(&[
        (".shipway.yaml", PIPELINE),
        ("app/Dockerfile", DOCKERFILE),
        ("chart/Chart.yaml", "apiVersion: v2\nname: app\nversion: 0.1.0\n"),
        ("chart/values.yaml", "replicas: 1\ngreeting: nobody\n"),
        ("chart/templates/app.yaml", TEMPLATE),
        ("chart/templates/test.yaml", TEST),
        ("values/all.yaml", "greeting: hello\n"),
        ("values/prod.yaml", "replicas: 2\n"),
    ]);
    project.passed(1);
    complete(&project, "dev", 1);
    complete(&project, "prod", 1);
    assert_eq!(logs(server, "charted-dev", 1), ["hello to charted-dev"]);
    assert_eq!(logs(server, "live", 2), ["hello to live", "hello to live"]);
}

#[test]
fn a_chart_with_a_hook_that_has_to_run_is_refused_with_its_template() {
    let Some(server) = server() else { return };
    let project = server.project("hooked");
    let pipeline = "steps: [{ name: look, image: debian, run: \"true\" }]\ndeploy:\n  from: chart\n  environments: [{ name: dev }]\n";
    let job = "apiVersion: batch/v1\nkind: Job\nmetadata: { name: migrate, annotations: { helm.sh/hook: \"pre-install,pre-upgrade\" } }\nspec: { template: { spec: { restartPolicy: Never, containers: [{ name: a, image: debian }] } } }\n";
    project.push(&[
        (".shipway.yaml", pipeline),
        ("chart/Chart.yaml", "apiVersion: v2\nname: app\nversion: 0.1.0\n"),
        ("chart/templates/migrate.yaml", job),
    ]);
    let reason = project.failed(1);
    assert!(reason.contains("app/templates/migrate.yaml") && reason.contains("pre-install, pre-upgrade"), "{reason}");
}

/// What a repository without code has: a chart, and where it goes.
const ONLY: &str = "\
deploy:
  from: chart
  environments: [{ name: prod, namespace: borrowed, progress-deadline: 30s }]
";

#[test]
fn a_repository_that_holds_only_a_chart_runs_images_of_the_registry() {
    let Some(server) = server() else { return };
    let maker = server.project("shelf");
    maker.push(&[
        (".shipway.yaml", "images:\n- { name: shelf/app, context: app, tag: '1.0-{build}' }\n"),
        ("app/Dockerfile", DOCKERFILE),
    ]);
    maker.passed(1);

    let project = server.project("borrower");
    let chart = "apiVersion: v2\nname: app\nversion: 0.1.0\n";
    let template = |image: &str| TEMPLATE.replace("charted/app", image);
    project.push(&[
        (".shipway.yaml", ONLY),
        ("chart/Chart.yaml", chart),
        ("chart/values.yaml", "replicas: 1\ngreeting: hello\n"),
        ("chart/templates/app.yaml", &template("shelf/app:1.0-1")),
    ]);
    project.passed(1);
    complete(&project, "prod", 1);
    assert_eq!(logs(server, "borrowed", 1), ["hello to borrowed"]);
    // The chain leads to who made the image.
    let pods = json(&server.kubectl(&["get", "pods", "--namespace", "borrowed", "--output", "json"]));
    let pod = pods["items"][0]["metadata"]["name"].as_str().unwrap();
    let trace = server.cli(&["trace", &format!("pod/borrowed/{pod}")]).ok();
    assert!(trace.contains("release borrower/prod/1") || trace.contains("borrower/prod/1"), "{trace}");
    assert!(trace.contains("shelf/1") && trace.contains("shelf/app:1.0-1"), "{trace}");

    project.push(&[("chart/templates/app.yaml", &template("shelf/app:2.0-1"))]);
    let reason = project.failed(2);
    assert!(reason.contains("container app of Deployment borrower") && reason.contains("shelf/app:2.0-1"), "{reason}");
}
