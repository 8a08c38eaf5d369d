//! The real `helm`: what one of the two wrote, the other lists, upgrades, rolls back and uninstalls.

use std::{path::Path, process::Stdio, time::Duration};

use chart::release::Status;
use helm::{Driver, Life, Rollback, Uninstall};
use serde_json::Value;

use crate::harness::{World, deploy, helms, source, web};

struct Program<'a> {
    path: &'a Path,
    world: &'a World,
    driver: &'a str,
}

impl Program<'_> {
    async fn run(&self, line: &str) -> Result<String, String> {
        let home = self.world.directory.path();
        let run = tokio::process::Command::new(self.path)
            .args(line.split(' '))
            .current_dir(home)
            .env("KUBECONFIG", home.join("kubeconfig"))
            .env("HOME", home.join("home"))
            .env("HELM_DRIVER", self.driver)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(Duration::from_secs(120), run).await.expect("helm hangs").unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    async fn ok(&self, line: &str) -> String {
        self.run(line).await.unwrap_or_else(|said| panic!("{} {line}: {said}", self.path.display()))
    }

    async fn history(&self) -> Vec<(u64, String, String)> {
        let lines: Value = serde_json::from_str(&self.ok("history web -o json").await).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let line =
            |line: &Value| (line["revision"].as_u64().unwrap(), text(&line["status"]), text(&line["description"]));
        lines.as_array().unwrap().iter().map(line).collect()
    }
}

async fn env(world: &World) -> Vec<String> {
    let deployment = world.find("apps/v1", "Deployment", "web").await.unwrap();
    let env = deployment["spec"]["template"]["spec"]["containers"][0]["env"].as_array().unwrap().clone();
    env.iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_goes_on_from_the_other() {
    for path in helms() {
        for (word, driver) in [("secret", Driver::Secret), ("configmap", Driver::ConfigMap)] {
            let world = World::start().await;
            for version in ["1.0.0", "2.0.0", "3.0.0"] {
                web(version).write(&world.directory.path().join(version));
            }
            let real = Program { path: &path, world: &world, driver: word };
            let ours = world.helm_with("ours", Life::Unknown, driver);
            let back = Rollback { name: "web".into(), timeout: Duration::from_secs(20), ..Rollback::default() };

            // Theirs first.
            real.ok("install web 1.0.0 --set extra=side").await;
            let record = ours.upgrade(&source("2.0.0", &["more=true"]), &deploy("web")).await.unwrap();
            assert_eq!(record.version, 2);
            assert_eq!(env(&world).await, ["A", "B"]);
            assert_eq!(world.find("v1", "ConfigMap", "side").await, None);
            real.ok("rollback web 1").await;
            assert_eq!(env(&world).await, ["A"], "{word}: helm took back what we added");
            assert!(world.find("v1", "ConfigMap", "side").await.is_some());
            let history = ours.releases.history("web").await.unwrap();
            let states: Vec<Status> = history.records().iter().map(|record| record.info.status).collect();
            assert_eq!(states, [Status::Superseded, Status::Superseded, Status::Deployed]);
            ours.rollback(&Rollback { revision: Some(2), ..back.clone() }).await.unwrap();
            assert_eq!(env(&world).await, ["A", "B"]);
            real.ok("upgrade web 3.0.0 --reset-values").await;
            assert_eq!(env(&world).await, ["A"], "{word}: helm upgraded from our rollback");
            let said: Vec<String> =
                real.history().await.into_iter().map(|(_, status, text)| format!("{status}: {text}")).collect();
            assert_eq!(
                said,
                [
                    "superseded: Install complete",
                    "superseded: Upgrade complete",
                    "superseded: Rollback to 1",
                    "superseded: Rollback to 2",
                    "deployed: Upgrade complete",
                ]
            );
            let listed: Value = serde_json::from_str(&real.ok("list -o json").await).unwrap();
            assert_eq!(listed[0]["chart"], "web-3.0.0");
            let whole = Uninstall { name: "web".into(), timeout: Duration::from_secs(20), ..Uninstall::default() };
            ours.uninstall(&whole).await.unwrap().unwrap();
            assert!(real.run("status web").await.unwrap_err().contains("not found"));

            // Ours first, as each of the two writes objects.
            for server_side in [true, false] {
                let mut options = deploy("web");
                options.server_side = Some(server_side);
                options.labels.insert("team".into(), "a".into());
                ours.install(&source("1.0.0", &["more=true"]), &options).await.unwrap();
                let shown: Value = serde_json::from_str(&real.ok("status web -o json").await).unwrap();
                assert_eq!(shown["info"]["status"], "deployed");
                assert_eq!(real.ok("get values web -o json").await.trim(), r#"{"more":true}"#);
                let record = ours.releases.history("web").await.unwrap().last().unwrap().clone();
                assert_eq!(real.ok("get manifest web").await.trim(), record.manifest.trim());
                assert_eq!(real.ok("get notes web").await.trim(), "NOTES:\nweb 1.0.0 is up.");
                assert_eq!(
                    real.ok("get hooks web").await.matches("# Source: web/templates/").count(),
                    record.hooks.len()
                );
                real.ok("test web").await;
                real.ok("upgrade web 2.0.0 --reuse-values --set extra=side").await;
                assert_eq!(env(&world).await, ["A", "B"]);
                real.ok("upgrade web 3.0.0 --reset-values").await;
                assert_eq!(env(&world).await, ["A"], "{word}, server side: {server_side}");
                let history = ours.releases.history("web").await.unwrap();
                assert_eq!(history.last().unwrap().labels.get("team").map(String::as_str), Some("a"));
                ours.rollback(&Rollback { revision: Some(1), ..back.clone() }).await.unwrap();
                assert_eq!(env(&world).await, ["A", "B"]);
                real.ok("rollback web").await;
                assert_eq!(env(&world).await, ["A"]);
                assert_eq!(real.history().await.len(), 5);
                real.ok("uninstall web").await;
                assert!(ours.releases.history("web").await.unwrap().last().is_none());
                assert_eq!(world.find("apps/v1", "Deployment", "web").await, None);
            }
            world.end().await;
        }
    }
}
