//! What becomes of owned objects when their owner goes.

use std::time::Duration;

use node::objects::{DeleteOptions, Deleted, Objects, Propagation, meta, resource};
use serde_json::{Value, json};

use crate::harness::Node;

async fn config(objects: &Objects, name: &str, owners: &[&Value]) -> Value {
    let references: Vec<Value> =
        owners.iter().map(|owner| meta::controller_reference(&resource::CONFIG_MAPS, owner)).collect();
    let mut object = json!({"metadata": {"name": name, "ownerReferences": references}});
    for reference in object["metadata"]["ownerReferences"].as_array_mut().unwrap().iter_mut().skip(1) {
        reference["controller"] = false.into();
    }
    Value::clone(&*objects.create(&resource::CONFIG_MAPS, object).await.unwrap())
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..2400 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("in a minute it did not come to: {what}");
}

fn there(objects: &Objects, name: &str) -> bool {
    objects.find(&resource::CONFIG_MAPS, "default", name).is_some()
}

async fn delete(objects: &Objects, name: &str, propagation: Propagation) -> Deleted {
    let options = DeleteOptions::propagation(propagation);
    objects.delete(&resource::CONFIG_MAPS, "default", name, &options).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn background_foreground_and_orphan() {
    let node = Node::start().await;
    let objects = &node.objects;
    let a = config(objects, "a", &[]).await;
    let b = config(objects, "b", &[&a]).await;
    config(objects, "c", &[&b]).await;
    assert!(matches!(delete(objects, "a", Propagation::Background).await, Deleted::Gone(_)));
    until("all of a chain is gone", || !there(objects, "b") && !there(objects, "c")).await;

    let a = config(objects, "a", &[]).await;
    config(objects, "b", &[&a]).await;
    let hold = |b: &mut Value| b["metadata"]["finalizers"] = json!(["example.com/hold"]);
    objects.modify(&resource::CONFIG_MAPS, "default", "b", hold).await.unwrap();
    assert!(matches!(delete(objects, "a", Propagation::Foreground).await, Deleted::Marked(_)));
    let marked = || objects.find(&resource::CONFIG_MAPS, "default", "b").is_some_and(|b| meta::is_deleting(&b));
    until("the owned one is being deleted", marked).await;
    assert!(there(objects, "a"), "the owner waits");
    let free = |b: &mut Value| b["metadata"]["finalizers"] = json!([]);
    // The collector has a finalizer of its own on it until it saw that it owns nothing.
    objects.modify(&resource::CONFIG_MAPS, "default", "b", free).await.unwrap();
    until("both are gone", || !there(objects, "a") && !there(objects, "b")).await;

    let a = config(objects, "a", &[]).await;
    config(objects, "b", &[&a]).await;
    delete(objects, "a", Propagation::Orphan).await;
    until("the owner is gone", || !there(objects, "a")).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let b = objects.get(&resource::CONFIG_MAPS, "default", "b").unwrap();
    assert!(meta::owner_references(&b).next().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_owner_is_enough_to_stay() {
    let node = Node::start().await;
    let objects = &node.objects;
    let (a, b) = (config(objects, "a", &[]).await, config(objects, "b", &[]).await);
    config(objects, "c", &[&a, &b]).await;
    delete(objects, "a", Propagation::Background).await;
    let owners = || {
        let c = objects.get(&resource::CONFIG_MAPS, "default", "c").unwrap();
        meta::owner_references(&c).count()
    };
    until("one owner is left", || owners() == 1).await;
    delete(objects, "b", Propagation::Background).await;
    until("it is gone", || !there(objects, "c")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_made_for_an_owner_that_is_gone_goes() {
    let node = Node::start().await;
    let a = config(&node.objects, "a", &[]).await;
    delete(&node.objects, "a", Propagation::Background).await;
    config(&node.objects, "b", &[&a]).await;
    until("it is gone", || !there(&node.objects, "b")).await;
}
