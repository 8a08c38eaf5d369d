//! The life of a release.

use std::time::Duration;

use chart::release::Status;
use helm::{Driver, DryRun, Life, Reuse, Rollback, Strategy, Testing, Uninstall};
use serde_json::json;

use crate::harness::{World, deploy, source};

fn rollback(name: &str) -> Rollback {
    Rollback { name: name.to_owned(), timeout: Duration::from_secs(20), ..Rollback::default() }
}

fn uninstall(name: &str) -> Uninstall {
    Uninstall { name: name.to_owned(), timeout: Duration::from_secs(20), ..Uninstall::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn from_install_to_uninstall() {
    for server_side in [true, false] {
        let world = World::start().await;
        let helm = world.helm("me", Life::Unknown);
        let mut options = deploy("web");
        options.server_side = Some(server_side);
        options.wait = Strategy::Watcher;
        options.labels.insert("team".into(), "a".into());
        let record = helm.install(&source("1.0.0", &[]), &options).await.unwrap();
        assert_eq!((record.version, record.info.status), (1, Status::Deployed));
        assert_eq!(record.info.notes.trim(), "web 1.0.0 is up.");
        assert_eq!(record.apply_method(), if server_side { "ssa" } else { "csa" });
        let config = world.find("v1", "ConfigMap", "web-config").await.unwrap();
        assert_eq!(config["data"]["version"], "1.0.0");
        assert_eq!(config["metadata"]["annotations"]["meta.helm.sh/release-name"], "web");
        assert_eq!(config["metadata"]["labels"]["app.kubernetes.io/managed-by"], "Helm");
        // One hook was left, as its policy says; the other was deleted.
        assert_eq!(world.names("batch/v1", "Job").await, ["before"]);
        assert!(
            record.hooks.iter().filter(|hook| hook.name == "after").all(|hook| hook.last_run.completed_at.is_some())
        );

        let secret = world.find("v1", "Secret", "sh.helm.release.v1.web.v1").await.unwrap();
        assert_eq!(secret["type"], "helm.sh/release.v1");
        assert_eq!(secret["metadata"]["labels"]["status"], "deployed");
        assert_eq!(secret["metadata"]["labels"]["team"], "a");
        assert_eq!(secret["metadata"]["annotations"], json!(null), "nobody works on it any more");

        // Somebody scales and adds a label; an upgrade that says nothing about them leaves them alone.
        let others = json!({"metadata": {"labels": {"theirs": "x"}}});
        let patch = kube::api::Patch::Merge(others);
        world.api("apps/v1", "Deployment").patch("web", &kube::api::PatchParams::default(), &patch).await.unwrap();
        let mut options = deploy("web");
        options.labels.insert("team".into(), "null".into());
        let record = helm.upgrade(&source("1.1.0", &["more=true", "extra=side", "kept=true"]), &options).await.unwrap();
        assert_eq!((record.version, record.info.status), (2, Status::Deployed));
        assert!(record.labels.is_empty());
        let deployment = world.find("apps/v1", "Deployment", "web").await.unwrap();
        assert_eq!(deployment["metadata"]["labels"]["theirs"], "x");
        assert_eq!(deployment["spec"]["template"]["spec"]["containers"][0]["env"][1]["name"], "B");
        let history = helm.releases.history("web").await.unwrap();
        let states: Vec<Status> = history.records().iter().map(|record| record.info.status).collect();
        assert_eq!(states, [Status::Superseded, Status::Deployed]);

        let back = helm.rollback(&rollback("web")).await.unwrap();
        assert_eq!((back.version, back.rollback_revision()), (3, Some(1)));
        assert_eq!(back.info.description, "Rollback to 1");
        let deployment = world.find("apps/v1", "Deployment", "web").await.unwrap();
        let env = deployment["spec"]["template"]["spec"]["containers"][0]["env"].as_array().unwrap().clone();
        assert_eq!(env.len(), 1, "what only revision 2 had is gone: {env:?}");
        let config = world.find("v1", "ConfigMap", "web-config").await.unwrap();
        assert_eq!((&config["data"]["version"], &config["data"]["more"]), (&json!("1.0.0"), &json!(null)));
        assert_eq!(world.find("v1", "ConfigMap", "side").await, None);
        assert!(world.find("v1", "ConfigMap", "kept").await.is_some(), "its policy keeps it");

        let testing = Testing { name: "web".into(), timeout: Duration::from_secs(20), ..Testing::default() };
        let (record, result) = helm.test(&testing).await.unwrap();
        result.unwrap();
        let logs = helm::action::logs(&helm, &record, &testing).await.unwrap();
        assert_eq!(String::from_utf8(logs).unwrap(), "POD LOGS: web-test (c)\nweb-test says hello\n\n");

        let done = helm.uninstall(&uninstall("web")).await.unwrap().unwrap();
        assert_eq!(done.info, "");
        assert_eq!(world.find("apps/v1", "Deployment", "web").await, None);
        assert!(helm.releases.history("web").await.unwrap().last().is_none());
        assert!(!world.names("batch/v1", "Job").await.contains(&"gone".to_owned()), "the hook ran and went");
        let missing = helm.uninstall(&uninstall("web")).await.unwrap_err();
        assert_eq!(missing.to_string(), "uninstall: Release not loaded: web: release: not found");
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_goes_back() {
    let world = World::start().await;
    let helm = world.helm("me", Life::Unknown);
    let mut options = deploy("web");
    options.rollback_on_failure = true;
    options.timeout = Duration::from_secs(2);
    let failed = helm.install(&source("1.0.0", &["image=bad:1"]), &options).await.unwrap_err().to_string();
    assert!(failed.contains("has been uninstalled due to rollback-on-failure being set"), "{failed}");
    assert!(failed.contains("resource Deployment/default/web not ready. status: InProgress"), "{failed}");
    assert!(helm.releases.history("web").await.unwrap().last().is_none());
    assert_eq!(world.find("v1", "Service", "web").await, None);

    helm.install(&source("1.0.0", &[]), &deploy("web")).await.unwrap();
    options.cleanup_on_fail = true;
    let failed =
        helm.upgrade(&source("2.0.0", &["image=bad:2", "extra=side"]), &options).await.unwrap_err().to_string();
    assert!(failed.contains("has been rolled back due to rollback-on-failure being set"), "{failed}");
    let history = helm.releases.history("web").await.unwrap();
    let states: Vec<Status> = history.records().iter().map(|record| record.info.status).collect();
    assert_eq!(states, [Status::Superseded, Status::Failed, Status::Deployed]);
    let deployment = world.find("apps/v1", "Deployment", "web").await.unwrap();
    assert_eq!(deployment["spec"]["template"]["spec"]["containers"][0]["image"], "web:1");
    assert_eq!(world.find("v1", "ConfigMap", "side").await, None);

    // A hook that fails stops everything before anything is changed.
    let failed = helm.upgrade(&source("3.0.0", &["before=bad", "image=web:3"]), &deploy("web")).await.unwrap_err();
    assert!(
        failed.to_string().contains("pre-upgrade hooks failed: resource Job/default/bad not ready. status: Failed"),
        "{failed}"
    );
    let deployment = world.find("apps/v1", "Deployment", "web").await.unwrap();
    assert_eq!(deployment["spec"]["template"]["spec"]["containers"][0]["image"], "web:1");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_and_owners() {
    let world = World::start().await;
    let helm = world.helm_with("me", Life::Unknown, Driver::ConfigMap);
    helm.install(&source("1.0.0", &["hooks=false"]), &deploy("web")).await.unwrap();
    assert!(world.find("v1", "ConfigMap", "sh.helm.release.v1.web.v1").await.is_some());
    let again = helm.install(&source("1.0.0", &[]), &deploy("web")).await.unwrap_err().to_string();
    assert_eq!(again, "release name check failed: cannot reuse a name that is still in use");
    // Another release may not take what is this one's.
    let mut taking = source("1.0.0", &["hooks=false", "extra=web-config"]);
    let other = helm.install(&taking, &deploy("other")).await.unwrap_err().to_string();
    assert!(other.starts_with("unable to continue with install: ConfigMap \"web-config\" in namespace \"default\" exists and cannot be imported into the current release: invalid ownership metadata; annotation validation error: key \"meta.helm.sh/release-name\" must equal \"other\": current value is \"web\""), "{other}");
    assert_eq!(world.find("v1", "Service", "other").await, None);
    taking.values = chart::Given::default().merge(&mut |_| Err(String::new()), chart::Flavor::Helm4).unwrap();

    // Trying changes nothing; what the cluster says is seen only by the one that may ask it.
    let outside = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "outside"}, "data": {"k": "v"}});
    let outside = serde_json::from_value(outside).unwrap();
    world.api("v1", "ConfigMap").create(&kube::api::PostParams::default(), &outside).await.unwrap();
    for (dry_run, found) in [(DryRun::Client, "found: \"null\""), (DryRun::Server, "k\\\":\\\"v")] {
        let mut options = deploy("web");
        options.dry_run = dry_run;
        let record = helm.upgrade(&source("9.0.0", &[]), &options).await.unwrap();
        assert!(record.manifest.contains(found), "{}", record.manifest);
        assert_eq!(record.info.description, "Dry run complete");
    }
    assert_eq!(helm.releases.history("web").await.unwrap().records().len(), 1);

    // Values: given again, forgotten, kept; and no more revisions than asked for.
    let mut options = deploy("web");
    options.history_max = 3;
    let config = async |reuse, set: &[&str]| {
        let record = helm.upgrade(&source("1.1.0", set), &helm::Deploy { reuse, ..options.clone() }).await.unwrap();
        serde_json::to_string(&record.config).unwrap()
    };
    assert_eq!(config(Reuse::Unless, &[]).await, r#"{"hooks":false}"#);
    assert_eq!(config(Reuse::Given, &["replicas=1"]).await, r#"{"hooks":false,"replicas":1}"#);
    assert_eq!(config(Reuse::Whole, &["image=web:2"]).await, r#"{"hooks":false,"image":"web:2","replicas":1}"#);
    assert_eq!(config(Reuse::Never, &[]).await, "null");
    let versions: Vec<u64> =
        helm.releases.history("web").await.unwrap().records().iter().map(|record| record.version).collect();
    assert_eq!(versions, [3, 4, 5]);

    let keep = Uninstall { keep_history: true, ..uninstall("web") };
    helm.uninstall(&keep).await.unwrap();
    let history = helm.releases.history("web").await.unwrap();
    assert_eq!(history.last().unwrap().info.status, Status::Uninstalled);
    assert!(helm.installs("web").await.unwrap());
    let mut options = deploy("web");
    options.replace = true;
    assert_eq!(helm.install(&source("1.0.0", &[]), &options).await.unwrap().version, 6);
    world.end().await;
}
