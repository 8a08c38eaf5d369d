//! What people do with `kubectl`.

use node::objects::{Scope, meta, resource};
use serde_json::{Value, json};

use crate::harness::{Kubectl, Node, WEB, kubectls};

/// Runs a test with each `kubectl` against a node of its own.
macro_rules! with_each {
    ($name:ident, $node:ident, $kubectl:ident, $body:block) => {
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            for program in kubectls() {
                let $node = Node::start().await;
                let $kubectl: Kubectl = $node.client(&program);
                $body
                $node.server.shutdown().await;
            }
        }
    };
}

with_each!(apply_get_describe_delete, node, kubectl, {
    assert_eq!(kubectl.ok_with("apply -f -", WEB).await, "deployment.apps/web created\nservice/web created\n");
    assert_eq!(kubectl.ok_with("apply -f -", WEB).await, "deployment.apps/web unchanged\nservice/web unchanged\n");
    let changed =
        WEB.replace("web:1", "web:2").replace("        - containerPort: 8080\n", "        - containerPort: 9090\n");
    assert_eq!(
        kubectl.ok_with("apply -f -", &changed).await,
        "deployment.apps/web configured\nservice/web unchanged\n"
    );
    let web = node.objects.get(&resource::DEPLOYMENTS, "default", "web").unwrap();
    let container = &web["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["image"], "web:2");
    assert_eq!(container["ports"], json!([{"containerPort": 9090, "protocol": "TCP"}]));
    assert_eq!(meta::generation(&web), 2);
    let table = kubectl.ok("get deploy,svc -o wide").await;
    assert!(table.contains("CONTAINERS") && table.contains("web:2") && table.contains("80/TCP"), "{table}");
    let described = kubectl.ok("describe deploy web").await;
    assert!(described.contains("StrategyType:") && described.contains("25% max unavailable"), "{described}");
    assert_eq!(kubectl.ok("get deploy -l app=web -o name").await, "deployment.apps/web\n");
    assert_eq!(kubectl.ok("get deploy -l app!=web -o name").await, "");
    assert_eq!(kubectl.ok("get svc --field-selector metadata.name=web -o name").await, "service/web\n");
    let said = kubectl.run("get deploy nope", "").await;
    assert_eq!(said.err, "Error from server (NotFound): deployments.apps \"nope\" not found\n");
    kubectl.ok_with("delete -f -", WEB).await;
    assert!(node.objects.list(&resource::DEPLOYMENTS, &Scope::all()).0.is_empty());
});

with_each!(labels_annotations_patches_and_scale, node, kubectl, {
    kubectl.ok_with("apply -f -", WEB).await;
    kubectl.ok("label deploy web tier=front").await;
    kubectl.ok("annotate deploy web note=hello").await;
    let strategic =
        r#"{"spec":{"template":{"spec":{"containers":[{"name":"web","env":[{"name":"A","value":"1"}]}]}}}}"#;
    kubectl.ok(&format!("patch deploy web -p {strategic}")).await;
    kubectl.ok(r#"patch deploy web --type merge -p {"spec":{"minReadySeconds":5}}"#).await;
    kubectl.ok(r#"patch deploy web --type json -p [{"op":"add","path":"/metadata/labels/j","value":"k"}]"#).await;
    kubectl.ok("scale deploy web --replicas=7 --current-replicas=3").await;
    kubectl.ok("set image deploy/web web=web:9").await;
    kubectl.ok("set env deploy/web B=2").await;
    let web = node.objects.get(&resource::DEPLOYMENTS, "default", "web").unwrap();
    assert_eq!(web["metadata"]["labels"], json!({"app": "web", "tier": "front", "j": "k"}));
    assert_eq!((&web["spec"]["replicas"], &web["spec"]["minReadySeconds"]), (&json!(7), &json!(5)));
    let container = &web["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["image"], "web:9");
    assert_eq!(container["env"], json!([{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]));
    // What others set stays when the file is applied again; what the file says comes back.
    kubectl.ok_with("apply -f -", WEB).await;
    let web = node.objects.get(&resource::DEPLOYMENTS, "default", "web").unwrap();
    assert_eq!(web["metadata"]["labels"]["tier"], "front");
    assert_eq!(web["spec"]["replicas"], 3);
    let refused = kubectl.run("scale deploy web --replicas=2 --current-replicas=9", "").await;
    assert!(refused.err.contains("Expected replicas to be 9, was 3"), "{refused:?}");
});

with_each!(kinds_made_from_the_command_line, node, kubectl, {
    kubectl.ok("create configmap c --from-literal=a=b").await;
    kubectl.ok("create secret generic s --from-literal=a=b").await;
    kubectl.ok("create job j --image=busybox -- echo hi").await;
    kubectl.ok("create deployment d --image=nginx").await;
    kubectl.ok("create service clusterip cs --tcp=80:8080").await;
    kubectl.ok("create service nodeport ns --tcp=80").await;
    kubectl.ok("create serviceaccount robot").await;
    kubectl.ok("run p --image=web:1 --restart=Never").await;
    kubectl.ok("expose deployment d --port 81").await;
    let get = |resource, name: &str| node.objects.get(resource, "default", name).unwrap();
    assert_eq!(get(&resource::CONFIG_MAPS, "c")["data"], json!({"a": "b"}));
    assert_eq!(get(&resource::SECRETS, "s")["data"], json!({"a": "Yg=="}));
    let job = get(&resource::JOBS, "j");
    assert_eq!(job["spec"]["template"]["metadata"]["labels"]["job-name"], "j");
    assert_eq!(job["spec"]["template"]["spec"]["containers"][0]["command"], json!(["echo", "hi"]));
    assert_eq!(get(&resource::SERVICES, "cs")["spec"]["ports"][0]["targetPort"], 8080);
    assert_eq!(get(&resource::SERVICES, "ns")["spec"]["ports"][0]["nodePort"], 30000);
    assert_eq!(get(&resource::PODS, "p")["status"]["phase"], "Pending");
    let all = kubectl.ok("get all").await;
    for line in ["pod/p", "deployment.apps/d", "job.batch/j", "service/cs"] {
        assert!(all.contains(line), "{all}");
    }
    assert_eq!(kubectl.ok("auth can-i create pods").await, "yes\n");
    kubectl.ok("delete pod/p cm/c secret/s job/j deploy/d svc/cs svc/ns svc/d sa/robot").await;
});

with_each!(server_side_apply, node, kubectl, {
    let apply = "apply --server-side -f -";
    assert!(kubectl.ok_with(apply, WEB).await.contains("deployment.apps/web serverside-applied"));
    kubectl.ok("scale deploy web --replicas=7").await;
    let conflict = kubectl.run(apply, WEB).await;
    assert_ne!(conflict.code, 0);
    assert!(conflict.err.contains("Apply failed with 1 conflict: conflict with \"kubectl\""), "{conflict:?}");
    assert!(conflict.err.contains(".spec.replicas"), "{conflict:?}");
    kubectl.ok_with("apply --server-side --force-conflicts -f -", WEB).await;
    let web = node.objects.get(&resource::DEPLOYMENTS, "default", "web").unwrap();
    assert_eq!(web["spec"]["replicas"], 3);
    let managers: Vec<&Value> = web["metadata"]["managedFields"].as_array().unwrap().iter().collect();
    assert!(managers.iter().any(|m| m["manager"] == "kubectl" && m["operation"] == "Apply"), "{managers:?}");
    // Another manager adds a label; leaving a field out takes it away.
    let other = "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web\n  labels: {team: red}\n";
    kubectl.ok_with("apply --server-side --field-manager=team -f -", other).await;
    let less = WEB.replace("        readinessProbe:\n          httpGet: {path: /, port: 8080}\n", "");
    kubectl.ok_with(apply, &less).await;
    let web = node.objects.get(&resource::DEPLOYMENTS, "default", "web").unwrap();
    assert_eq!(web["metadata"]["labels"], json!({"app": "web", "team": "red"}));
    assert!(web["spec"]["template"]["spec"]["containers"][0].get("readinessProbe").is_none());
});

with_each!(dry_runs_and_diffs_write_nothing, node, kubectl, {
    kubectl.ok_with("apply --dry-run=server -f -", WEB).await;
    assert!(node.objects.find(&resource::DEPLOYMENTS, "default", "web").is_none());
    kubectl.ok_with("apply -f -", WEB).await;
    let before = node.objects.version();
    let diff = kubectl.run("diff -f -", &WEB.replace("web:1", "web:2")).await;
    assert_eq!(diff.code, 1, "{diff:?}");
    assert!(diff.out.contains("image: web:2"), "{diff:?}");
    kubectl.ok("delete deploy web --dry-run=server").await;
    kubectl.ok("label deploy web a=b --dry-run=server").await;
    assert_eq!(node.objects.version(), before);
});

with_each!(mistakes_are_named, node, kubectl, {
    let unknown = WEB.replace("image: web:1", "imagee: web:1");
    let said = kubectl.run("apply -f -", &unknown).await;
    assert!(said.err.contains("unknown field") && said.err.contains("imagee"), "{said:?}");
    let wrong = WEB.replace("replicas: 3", "replicas: many");
    let said = kubectl.run("apply --validate=false -f -", &wrong).await;
    assert!(said.err.contains("cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas"), "{said:?}");
    let missing = WEB.replace("        image: web:1\n", "");
    let said = kubectl.run("apply -f -", &missing).await;
    let sentence = "The Deployment \"web\" is invalid: spec.template.spec.containers[0].image: Required value";
    assert!(said.err.contains(sentence), "{said:?}");
    let nowhere = kubectl.run("apply -n nowhere -f -", WEB).await;
    assert!(nowhere.err.contains("namespaces \"nowhere\" not found"), "{nowhere:?}");
    kubectl.ok_with("apply -f -", WEB).await;
    let moved = WEB.replace("{app: web}", "{app: other}");
    let said = kubectl.run("apply -f -", &moved).await;
    assert!(said.err.contains("field is immutable"), "{said:?}");
    assert!(node.objects.find(&resource::DEPLOYMENTS, "default", "web").is_some());
});

with_each!(what_the_api_says_of_itself, node, kubectl, {
    let resources = kubectl.ok("api-resources").await;
    for line in ["deployments", "endpointslices", "events.k8s.io/v1", "po "] {
        assert!(resources.contains(line), "{resources}");
    }
    let explained = kubectl.ok("explain deployment.spec.strategy").await;
    assert!(explained.contains("RollingUpdate") && explained.contains("rollingUpdate"), "{explained}");
    assert!(kubectl.ok("explain pods --recursive").await.contains("livenessProbe"));
    assert!(kubectl.ok("version").await.contains("shipway"));
    assert!(kubectl.ok("api-versions").await.contains("apps/v1"));
});

with_each!(namespaces_take_their_contents_along, node, kubectl, {
    kubectl.ok("create namespace x").await;
    kubectl.ok("-n x create configmap c --from-literal=a=b").await;
    kubectl.ok_with("-n x apply -f -", WEB).await;
    kubectl.ok("delete namespace x").await;
    assert!(node.objects.find(&resource::NAMESPACES, "", "x").is_none());
    assert!(node.objects.list(&resource::CONFIG_MAPS, &Scope::namespace("x")).0.is_empty());
    let said = kubectl.run("delete namespace default", "").await;
    assert!(said.err.contains("this namespace may not be deleted"), "{said:?}");
});

with_each!(watching_and_waiting, node, kubectl, {
    use tokio::io::AsyncReadExt as _;
    kubectl.ok_with("apply -f -", crate::harness::POD).await;
    let mut watching = kubectl.command(&["get", "pods", "-w"]).spawn().unwrap();
    let mut out = watching.stdout.take().unwrap();
    let mut seen = String::new();
    let mut more = async |seen: &mut String, wanted: &str| {
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
        while !seen.contains(wanted) {
            let mut buffer = [0; 4096];
            let n = tokio::time::timeout_at(deadline, out.read(&mut buffer)).await.expect(wanted).unwrap();
            assert_ne!(n, 0, "{seen}");
            seen.push_str(&String::from_utf8_lossy(&buffer[..n]));
        }
    };
    more(&mut seen, "Pending").await;
    let run = |pod: &mut Value| {
        pod["status"] = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{"name": "main", "ready": true, "restartCount": 0, "state": {"running": {}}}]});
    };
    node.objects.modify(&resource::PODS, "default", "p", run).await.unwrap();
    more(&mut seen, "Running").await;
    assert!(seen.contains("1/2"), "{seen}");
    kubectl.ok("wait --for=condition=Ready pod/p --timeout=10s").await;
    let waiting = tokio::spawn(kubectl.ok("wait --for=delete pod/p --timeout=20s"));
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    kubectl.ok("delete pod p --wait=false").await;
    let marked = node.objects.get(&resource::PODS, "default", "p").unwrap();
    assert!(meta::is_deleting(&marked), "a pod that runs has its grace period");
    more(&mut seen, "Terminating").await;
    node.objects.delete(&resource::PODS, "default", "p", &node::objects::DeleteOptions::grace(0)).await.unwrap();
    waiting.await.unwrap();
});
