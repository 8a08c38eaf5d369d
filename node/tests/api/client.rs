//! The `kube` crate.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::watcher::{self, Event};
use kube::{Client, Config};
use serde_json::json;

use crate::harness::Node;

async fn client(node: &Node) -> Client {
    let kubeconfig = Kubeconfig::from_yaml(&node.server.kubeconfig()).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    Client::try_from(config).unwrap()
}

fn config_map(name: &str, value: &str) -> ConfigMap {
    ConfigMap {
        metadata: kube::core::ObjectMeta { name: Some(name.into()), ..Default::default() },
        data: Some(BTreeMap::from([("k".into(), value.into())])),
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_written_and_read() {
    let node = Node::start().await;
    let client = client(&node).await;
    assert!(client.apiserver_version().await.unwrap().git_version.contains("shipway"));
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let made = maps.create(&PostParams::default(), &config_map("a", "1")).await.unwrap();
    assert!(made.metadata.uid.is_some() && made.metadata.creation_timestamp.is_some());
    let mut changed = made.clone();
    changed.data.as_mut().unwrap().insert("k".into(), "2".into());
    let replaced = maps.replace("a", &PostParams::default(), &changed).await.unwrap();
    assert_ne!(replaced.metadata.resource_version, made.metadata.resource_version);
    let late = maps.replace("a", &PostParams::default(), &changed).await.unwrap_err();
    assert!(matches!(late, kube::Error::Api(ref status) if status.code == 409), "{late}");
    let patch = Patch::Merge(json!({"data": {"k": "3"}}));
    assert_eq!(maps.patch("a", &PatchParams::default(), &patch).await.unwrap().data.unwrap()["k"], "3");
    for n in 0..25 {
        maps.create(&PostParams::default(), &config_map(&format!("page-{n:02}"), "x")).await.unwrap();
    }
    let (mut names, mut next) = (Vec::new(), None);
    loop {
        let mut params = ListParams::default().limit(10);
        params.continue_token = next;
        let page = maps.list(&params).await.unwrap();
        names.extend(page.items.iter().map(|m| m.metadata.name.clone().unwrap()));
        next = page.metadata.continue_.clone();
        if next.is_none() {
            break;
        }
        assert!(page.items.len() == 10 && page.metadata.remaining_item_count.is_some());
    }
    assert_eq!(names.len(), 26);
    assert_eq!(maps.get_metadata("a").await.unwrap().metadata.name.as_deref(), Some("a"));
    maps.delete_collection(&DeleteParams::default(), &ListParams::default()).await.unwrap();
    assert!(maps.list(&ListParams::default()).await.unwrap().items.is_empty());
    assert!(maps.get_opt("a").await.unwrap().is_none());
    node.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn server_side_apply_status_and_scale() {
    let node = Node::start().await;
    let client = client(&node).await;
    let deployments: Api<Deployment> = Api::default_namespaced(client.clone());
    let wanted = |replicas: i32| {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {"replicas": replicas,
            "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}},
                "spec": {"containers": [{"name": "c", "image": "i:1"}]}}}})
    };
    let me = PatchParams::apply("me");
    let made = deployments.patch("web", &me, &Patch::Apply(wanted(2))).await.unwrap();
    assert_eq!(made.spec.unwrap().strategy.unwrap().type_.as_deref(), Some("RollingUpdate"));
    let again = deployments.patch("web", &me, &Patch::Apply(wanted(2))).await.unwrap();
    assert_eq!(again.metadata.resource_version, made.metadata.resource_version, "nothing changed, nothing was written");
    let more = Patch::Merge(json!({"spec": {"replicas": 4}}));
    let scaled = deployments.patch_scale("web", &PatchParams::default(), &more).await.unwrap();
    assert_eq!(scaled.spec.unwrap().replicas, Some(4));
    assert_eq!(deployments.get_scale("web").await.unwrap().status.unwrap().selector.as_deref(), Some("a=b"));
    let conflict = deployments.patch("web", &me, &Patch::Apply(wanted(2))).await.unwrap_err();
    assert!(matches!(conflict, kube::Error::Api(ref status) if status.code == 409), "{conflict}");
    deployments.patch("web", &me.clone().force(), &Patch::Apply(wanted(2))).await.unwrap();
    let status = json!({"apiVersion": "apps/v1", "kind": "Deployment", "status": {"replicas": 2, "readyReplicas": 1}});
    let patched =
        deployments.patch_status("web", &PatchParams::apply("controller"), &Patch::Apply(status)).await.unwrap();
    assert_eq!(patched.status.unwrap().ready_replicas, Some(1));
    assert_eq!(patched.spec.unwrap().replicas, Some(2));
    node.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn watchers_see_every_change() {
    let node = Node::start().await;
    let client = client(&node).await;
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    maps.create(&PostParams::default(), &config_map("before", "x")).await.unwrap();
    for config in [watcher::Config::default(), watcher::Config::default().streaming_lists()] {
        let mut events = watcher::watcher(maps.clone(), config).boxed();
        let next = async |events: &mut futures::stream::BoxStream<'_, Result<Event<ConfigMap>, watcher::Error>>| {
            tokio::time::timeout(Duration::from_secs(10), events.try_next()).await.unwrap().unwrap().unwrap()
        };
        assert!(matches!(next(&mut events).await, Event::Init));
        let Event::InitApply(first) = next(&mut events).await else { panic!("the one that was there comes first") };
        assert_eq!(first.metadata.name.as_deref(), Some("before"));
        assert!(matches!(next(&mut events).await, Event::InitDone));
        maps.create(&PostParams::default(), &config_map("new", "1")).await.unwrap();
        assert!(matches!(next(&mut events).await, Event::Apply(m) if m.metadata.name.as_deref() == Some("new")));
        maps.patch("new", &PatchParams::default(), &Patch::Merge(json!({"data": {"k": "2"}}))).await.unwrap();
        assert!(matches!(next(&mut events).await, Event::Apply(m) if m.data.as_ref().unwrap()["k"] == "2"));
        maps.delete("new", &DeleteParams::default()).await.unwrap();
        assert!(matches!(next(&mut events).await, Event::Delete(m) if m.metadata.name.as_deref() == Some("new")));
    }
    node.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_reads_as_its_type() {
    let node = Node::start().await;
    let client = client(&node).await;
    let services: Api<Service> = Api::default_namespaced(client.clone());
    let service = json!({"metadata": {"name": "s"}, "spec": {"selector": {"a": "b"}, "ports": [{"port": 80}]}});
    let made = services.create(&PostParams::default(), &serde_json::from_value(service).unwrap()).await.unwrap();
    let spec = made.spec.unwrap();
    assert!(spec.cluster_ip.unwrap().starts_with("10.96."));
    assert_eq!(spec.type_.as_deref(), Some("ClusterIP"));
    let pods: Api<Pod> = Api::default_namespaced(client);
    let pod = json!({"metadata": {"generateName": "p-"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let made = pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap();
    let name = made.metadata.name.unwrap();
    assert!(name.starts_with("p-") && name.len() == 7, "{name}");
    assert_eq!(made.status.unwrap().phase.as_deref(), Some("Pending"));
    let logs = pods.logs(&name, &kube::api::LogParams { tail_lines: Some(1), ..Default::default() }).await.unwrap();
    assert!(logs.ends_with("previous=false\n"), "{logs}");
    node.server.shutdown().await;
}
