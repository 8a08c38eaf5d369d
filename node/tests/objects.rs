//! The store of Kubernetes objects on the log in memory.

use std::sync::Arc;

use node::objects::{
    Cidr, DeleteOptions, Deleted, Happened, LabelSelector, Objects, Propagation, Scope, meta, resource,
};
use serde_json::{Value, json};
use store::{Log, MemoryLog};

fn clock() -> node::objects::Clock {
    Arc::new(|| jiff::Timestamp::from_second(1_790_000_000).unwrap())
}

async fn objects() -> Objects {
    let objects = Objects::open(Arc::new(MemoryLog::default()), clock()).await.unwrap();
    objects.create(&resource::NAMESPACES, json!({"metadata": {"name": "default"}})).await.unwrap();
    objects
}

fn config(name: &str, value: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"v": value}}, "data": {"k": value}})
}

#[tokio::test]
async fn what_is_written_is_read_at_once() {
    let objects = objects().await;
    let made = objects.create(&resource::CONFIG_MAPS, config("a", "1")).await.unwrap();
    assert_eq!(made["apiVersion"], "v1");
    assert_eq!(made["metadata"]["namespace"], "default");
    assert_eq!(meta::uid(&made).len(), 36);
    assert!(meta::resource_version(&made) > 0);
    let read = objects.get(&resource::CONFIG_MAPS, "default", "a").unwrap();
    assert_eq!(read, made);
    let again = objects.create(&resource::CONFIG_MAPS, config("a", "2")).await.unwrap_err();
    assert!(again.is_already_exists(), "{again}");
    assert_eq!(again.to_string(), "configmaps \"a\" already exists");
}

#[tokio::test]
async fn only_one_of_two_writers_of_a_version_wins() {
    let objects = objects().await;
    let made = objects.create(&resource::CONFIG_MAPS, config("a", "1")).await.unwrap();
    let mut first = Value::clone(&made);
    first["data"]["k"] = "2".into();
    let mut second = Value::clone(&made);
    second["data"]["k"] = "3".into();
    let first = objects.update(&resource::CONFIG_MAPS, first).await.unwrap();
    assert!(meta::resource_version(&first) > meta::resource_version(&made));
    assert!(objects.update(&resource::CONFIG_MAPS, second.clone()).await.unwrap_err().is_conflict());
    second["metadata"].as_object_mut().unwrap().shift_remove("resourceVersion");
    assert_eq!(objects.update(&resource::CONFIG_MAPS, second).await.unwrap()["data"]["k"], "3");
}

#[tokio::test]
async fn many_writers_lose_nothing() {
    let objects = objects().await;
    objects.create(&resource::CONFIG_MAPS, json!({"metadata": {"name": "n"}, "data": {"k": "0"}})).await.unwrap();
    let add = |objects: Objects| async move {
        let add = |o: &mut Value| {
            let n: u32 = o["data"]["k"].as_str().unwrap().parse().unwrap();
            o["data"]["k"] = (n + 1).to_string().into();
        };
        objects.modify(&resource::CONFIG_MAPS, "default", "n", add).await.unwrap();
    };
    futures::future::join_all((0..50).map(|_| add(objects.clone()))).await;
    assert_eq!(objects.get(&resource::CONFIG_MAPS, "default", "n").unwrap()["data"]["k"], "50");
}

#[tokio::test]
async fn generations_count_specs_and_not_status() {
    let objects = objects().await;
    let deployment = json!({"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}}}});
    let made = objects.create(&resource::DEPLOYMENTS, deployment).await.unwrap();
    assert_eq!((meta::generation(&made), &made["spec"]["replicas"]), (1, &json!(1)));
    assert_eq!(made["spec"]["strategy"]["rollingUpdate"]["maxSurge"], "25%");
    let mut object = Value::clone(&made);
    object["spec"]["replicas"] = 3.into();
    object["status"] = json!({"replicas": 9});
    let updated = objects.update(&resource::DEPLOYMENTS, object.clone()).await.unwrap();
    assert_eq!((meta::generation(&updated), &updated["status"]), (2, &json!({})));
    object["spec"]["replicas"] = 7.into();
    object["metadata"]["resourceVersion"] = updated["metadata"]["resourceVersion"].clone();
    let updated = objects.update_status(&resource::DEPLOYMENTS, object).await.unwrap();
    assert_eq!((meta::generation(&updated), &updated["spec"]["replicas"]), (2, &json!(3)));
    assert_eq!(updated["status"]["replicas"], 9);
}

#[tokio::test]
async fn watchers_see_what_their_selector_lets_through() {
    let objects = objects().await;
    let (_, from) = objects.list(&resource::CONFIG_MAPS, &Scope::all());
    let scope = Scope::namespace("default").labels(LabelSelector::parse("v=1").unwrap());
    let mut watcher = objects.watch(&resource::CONFIG_MAPS, scope, Some(from)).unwrap();
    objects.create(&resource::CONFIG_MAPS, config("a", "1")).await.unwrap();
    objects.create(&resource::CONFIG_MAPS, config("b", "2")).await.unwrap();
    for value in ["2", "1"] {
        let relabel = |o: &mut Value| o["metadata"]["labels"]["v"] = value.into();
        objects.modify(&resource::CONFIG_MAPS, "default", "a", relabel).await.unwrap();
    }
    objects.delete(&resource::CONFIG_MAPS, "default", "a", &DeleteOptions::default()).await.unwrap();
    let mut seen = Vec::new();
    for _ in 0..4 {
        let event = watcher.next().await.unwrap();
        assert_eq!(meta::name(&event.object), "a");
        seen.push(event.happened);
    }
    use Happened::{Added, Deleted};
    assert_eq!(seen, [Added, Deleted, Added, Deleted]);
    assert_eq!(watcher.caught_up().unwrap(), Some(objects.version()));
}

#[tokio::test]
async fn a_watcher_that_comes_too_late_is_told_to_list_again() {
    let objects = objects().await;
    objects.create(&resource::CONFIG_MAPS, config("a", "0")).await.unwrap();
    let from = objects.version();
    let write = |n: usize| {
        let objects = objects.clone();
        async move { objects.create(&resource::CONFIG_MAPS, config(&format!("c{n}"), "x")).await.unwrap() }
    };
    futures::future::join_all((0..2100).map(write)).await;
    let late = objects.watch(&resource::CONFIG_MAPS, Scope::all(), Some(from)).err().unwrap();
    assert!(late.is_expired(), "{late}");
    let early = objects.watch(&resource::CONFIG_MAPS, Scope::all(), Some(1_000_000)).err().unwrap();
    assert!(early.is_expired(), "{early}");
}

#[tokio::test]
async fn finalizers_hold_an_object_until_they_are_gone() {
    let objects = objects().await;
    let mut object = config("a", "1");
    object["metadata"]["finalizers"] = json!(["example.com/hold"]);
    objects.create(&resource::CONFIG_MAPS, object).await.unwrap();
    let done = objects.delete(&resource::CONFIG_MAPS, "default", "a", &DeleteOptions::default()).await.unwrap();
    assert!(matches!(done, Deleted::Marked(_)));
    let held = objects.get(&resource::CONFIG_MAPS, "default", "a").unwrap();
    assert!(meta::is_deleting(&held));
    let mut free = Value::clone(&held);
    free["metadata"]["finalizers"] = json!([]);
    objects.update(&resource::CONFIG_MAPS, free).await.unwrap();
    assert!(objects.find(&resource::CONFIG_MAPS, "default", "a").is_none());
}

#[tokio::test]
async fn pods_that_run_get_their_grace_period() {
    let objects = objects().await;
    let pod = |name: &str, node: &str| json!({"metadata": {"name": name}, "spec": {"nodeName": node, "containers": [{"name": "c", "image": "i"}]}});
    objects.create(&resource::PODS, pod("running", "here")).await.unwrap();
    objects.create(&resource::PODS, pod("waiting", "")).await.unwrap();
    let options = DeleteOptions::default();
    assert!(matches!(objects.delete(&resource::PODS, "default", "waiting", &options).await.unwrap(), Deleted::Gone(_)));
    let marked = objects.delete(&resource::PODS, "default", "running", &options).await.unwrap();
    assert_eq!(marked.object()["metadata"]["deletionGracePeriodSeconds"], 30);
    // The kubelet ends it.
    let end = objects.delete(&resource::PODS, "default", "running", &DeleteOptions::grace(0)).await.unwrap();
    assert!(matches!(end, Deleted::Gone(_)));
    assert!(objects.find(&resource::PODS, "default", "running").is_none());
}

#[tokio::test]
async fn services_get_addresses_of_their_own() {
    let objects = objects().await;
    let service = |name: &str| json!({"metadata": {"name": name}, "spec": {"ports": [{"port": 80}]}});
    let made = futures::future::join_all((0..30).map(|n| {
        let objects = objects.clone();
        let service = service(&format!("s{n}"));
        async move { objects.create(&resource::SERVICES, service).await.unwrap()["spec"]["clusterIP"].to_string() }
    }));
    let addresses: std::collections::HashSet<String> = made.await.into_iter().collect();
    assert_eq!(addresses.len(), 30);
    let updated = objects.update(&resource::SERVICES, service("s1")).await.unwrap();
    assert!(updated["spec"]["clusterIP"].as_str().unwrap().starts_with("10.96."));
    assert_eq!(updated["spec"]["ports"][0]["targetPort"], 80);
}

#[tokio::test]
async fn a_restart_finds_everything() {
    let log = Arc::new(MemoryLog::default());
    let first = Objects::open(log.clone(), clock()).await.unwrap();
    let made = first.create(&resource::NAMESPACES, json!({"metadata": {"name": "x"}})).await.unwrap();
    drop(first);
    let second = Objects::open(log, clock()).await.unwrap();
    assert_eq!(second.get(&resource::NAMESPACES, "", "x").unwrap(), made);
    let options = DeleteOptions::propagation(Propagation::Background);
    let gone = second.delete(&resource::NAMESPACES, "", "x", &options).await.unwrap();
    assert_eq!(gone.object()["status"]["phase"], "Terminating");
}

#[tokio::test]
async fn nothing_is_made_in_a_namespace_that_is_not_there() {
    let objects = objects().await;
    let mut object = config("a", "1");
    object["metadata"]["namespace"] = "nowhere".into();
    let error = objects.create(&resource::CONFIG_MAPS, object).await.unwrap_err();
    assert_eq!(error.to_string(), "namespaces \"nowhere\" not found");
}

#[tokio::test]
async fn services_follow_the_node_into_another_network() {
    let log: Arc<dyn Log> = Arc::new(MemoryLog::default());
    let network = |third: u8| Cidr { network: [10, 1, third, 0].into(), prefix: 24 };
    let objects = Objects::with_services(log.clone(), clock(), network(1)).await.unwrap();
    objects.create(&resource::NAMESPACES, json!({"metadata": {"name": "default"}})).await.unwrap();
    let service = |name: &str, spec: Value| json!({"metadata": {"name": name}, "spec": spec});
    let port = json!([{"port": 80}]);
    for (name, spec) in [
        ("api", json!({"ports": port, "clusterIP": "10.1.1.1"})),
        ("web", json!({"ports": port, "type": "NodePort"})),
        ("headless", json!({"ports": port, "clusterIP": "None"})),
    ] {
        objects.create(&resource::SERVICES, service(name, spec)).await.unwrap();
    }
    let get = |objects: &Objects, name: &str| objects.get(&resource::SERVICES, "default", name).unwrap();
    let (web, headless) = (get(&objects, "web"), get(&objects, "headless"));
    drop(objects);

    let objects = Objects::with_services(log, clock(), network(2)).await.unwrap();
    // The API's own Service asks for the address that it has by custom.
    let asked = |address: &'static str| {
        objects.modify(&resource::SERVICES, "default", "api", move |o| o["spec"]["clusterIP"] = address.into())
    };
    assert_eq!(asked("10.1.2.1").await.unwrap()["spec"]["clusterIPs"], json!(["10.1.2.1"]));
    assert!(asked("10.1.2.9").await.is_err(), "an address of this network is kept");
    objects.readdress().await.unwrap();
    let moved = get(&objects, "web");
    assert_eq!(moved["spec"]["clusterIPs"], json!([moved["spec"]["clusterIP"]]));
    assert!(moved["spec"]["clusterIP"].as_str().unwrap().starts_with("10.1.2."), "{moved}");
    assert_eq!(moved["spec"]["ports"], web["spec"]["ports"], "the node port stays");
    assert_eq!((meta::uid(&moved), &get(&objects, "headless")), (meta::uid(&web), &headless));
    objects.readdress().await.unwrap();
    assert_eq!(get(&objects, "web"), moved, "once is enough");
}
