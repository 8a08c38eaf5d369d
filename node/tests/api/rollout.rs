//! `kubectl rollout`, with the effects of a controller made by hand.

use node::objects::{Objects, meta, resource};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::harness::{Node, WEB, kubectls};

/// What the controller of Deployments leaves behind for a revision.
async fn revision(objects: &Objects, number: u32) {
    let web = objects.get(&resource::DEPLOYMENTS, "default", "web").unwrap();
    let mut template = web["spec"]["template"].clone();
    let hash = format!("hash{number}");
    template["metadata"]["labels"]["pod-template-hash"] = hash.as_str().into();
    let set = json!({
        "metadata": {"name": format!("web-{hash}"), "labels": {"app": "web", "pod-template-hash": hash},
            "annotations": {"deployment.kubernetes.io/revision": number.to_string()},
            "ownerReferences": [meta::controller_reference(&resource::DEPLOYMENTS, &web)]},
        "spec": {"replicas": 3, "template": template,
            "selector": {"matchLabels": {"app": "web", "pod-template-hash": hash}}},
    });
    objects.create(&resource::REPLICA_SETS, set).await.unwrap();
    let mark = |web: &mut Value| {
        web["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = number.to_string().into();
    };
    objects.modify(&resource::DEPLOYMENTS, "default", "web", mark).await.unwrap();
}

async fn available(objects: &Objects, updated: u32) {
    let change = |web: &mut Value| {
        web["status"] = json!({"observedGeneration": meta::generation(web), "replicas": 3, "updatedReplicas": updated,
            "readyReplicas": 3, "availableReplicas": 3,
            "conditions": [{"type": "Progressing", "status": "True", "reason": "ReplicaSetUpdated"}]});
    };
    objects.modify(&resource::DEPLOYMENTS, "default", "web", change).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn status_history_undo_and_restart() {
    for program in kubectls() {
        let node = Node::start().await;
        let kubectl = node.client(&program);
        kubectl.ok_with("apply -f -", WEB).await;
        revision(&node.objects, 1).await;
        available(&node.objects, 1).await;
        let mut waiting = kubectl.command(&["rollout", "status", "deploy/web", "--timeout=60s"]).spawn().unwrap();
        let mut said = BufReader::new(waiting.stdout.take().unwrap()).lines();
        let first = said.next_line().await.unwrap().unwrap();
        assert!(first.contains("1 out of 3 new replicas have been updated"), "{first}");
        available(&node.objects, 3).await;
        let last = said.next_line().await.unwrap().unwrap();
        assert!(last.contains("deployment \"web\" successfully rolled out"), "{last}");
        assert!(waiting.wait().await.unwrap().success());
        kubectl.ok("set image deploy/web web=web:2").await;
        revision(&node.objects, 2).await;
        let history = kubectl.ok("rollout history deploy/web").await;
        assert!(
            history.lines().any(|l| l.starts_with('1')) && history.lines().any(|l| l.starts_with('2')),
            "{history}"
        );
        let second = kubectl.ok("rollout history deploy/web --revision=2").await;
        assert!(second.contains("web:2"), "{second}");
        kubectl.ok("rollout undo deploy/web").await;
        let web = node.objects.get(&resource::DEPLOYMENTS, "default", "web").unwrap();
        let template = &web["spec"]["template"];
        assert_eq!(template["spec"]["containers"][0]["image"], "web:1");
        assert!(template["metadata"]["labels"].get("pod-template-hash").is_none());
        kubectl.ok("rollout pause deploy/web").await;
        assert_eq!(node.objects.get(&resource::DEPLOYMENTS, "default", "web").unwrap()["spec"]["paused"], true);
        kubectl.ok("rollout resume deploy/web").await;
        kubectl.ok("rollout restart deploy/web").await;
        let web = node.objects.get(&resource::DEPLOYMENTS, "default", "web").unwrap();
        let annotations = &web["spec"]["template"]["metadata"]["annotations"];
        assert!(annotations["kubectl.kubernetes.io/restartedAt"].is_string(), "{annotations}");
        node.server.shutdown().await;
    }
}
