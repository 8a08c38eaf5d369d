//! The registry over time: robots, rules, clean-up, quarantine and webhooks, by the command line and the programs that people use.

use std::{
    io::{Read, Write},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    sync::mpsc,
    time::Duration,
};

use serde_json::{Value, json};
use testbed::{Said, Shared, Shipway, need_root, need_tool};

use crate::{
    registry::{at_home, copy, layout},
    shipway,
};

fn server() -> Option<&'static Shipway> {
    static SERVER: Shared = Shared::new();
    (need_root() && need_tool("skopeo")).then(|| SERVER.get(|| Shipway::start(shipway())))
}

/// Pushes a small image with one more file, so that each has another digest.
fn push(server: &Shipway, name: &str, file: &str) -> String {
    let home = testbed::directory();
    std::fs::create_dir_all(home.path().join("files/etc")).unwrap();
    std::fs::write(home.path().join("files/etc").join(file), file).unwrap();
    let digest = layout(home.path(), &["etc"]);
    let from = format!("oci:{}:v1", home.path().join("layout").display());
    copy(server, home.path(), &from, &format!("docker://{name}"), Some(&server.token())).ok();
    digest
}

fn as_robot(server: &Shipway, from: &str, to: &str, robot: &Value) -> Said {
    let home = testbed::directory();
    let credentials = format!("{}:{}", robot["user"].as_str().unwrap(), robot["secret"].as_str().unwrap());
    let full = |name: &str| name.replace("docker://", &format!("docker://{}/", server.host()));
    let (source, target) = (format!("--src-creds={credentials}"), format!("--dest-creds={credentials}"));
    let mut arguments = vec!["copy", "--insecure-policy", "--src-tls-verify=false", "--dest-tls-verify=false"];
    arguments.push(if from.starts_with("docker://") { &source } else { &target });
    let (from, to) = (full(from), full(to));
    arguments.extend([from.as_str(), to.as_str()]);
    at_home(home.path(), "skopeo", &arguments)
}

#[test]
fn a_robot_pushes_to_its_project_until_it_is_taken_away() {
    let Some(server) = server() else { return };
    let home = testbed::directory();
    layout(home.path(), &["etc"]);
    let from = format!("oci:{}:v1", home.path().join("layout").display());
    let made =
        server.cli(&["registry", "robot", "create", "robots", "ci", "--push", "--expires", "90d", "--json"]).ok();
    let robot = testbed::json(&made);
    assert_eq!(robot["user"], "robots+ci");
    as_robot(server, &from, "docker://robots/app:v1", &robot).ok();
    let refused = as_robot(server, &from, "docker://others/app:v1", &robot).failed();
    assert!(refused.contains("may not push to others/app") || refused.contains("denied"), "{refused}");
    let listed = server.cli(&["registry", "robot", "ls"]).ok();
    assert!(listed.contains("robots+ci") && !listed.contains(robot["secret"].as_str().unwrap()), "{listed}");
    server.cli(&["registry", "robot", "rm", "robots", "ci"]).ok();
    as_robot(server, &from, "docker://robots/app:v2", &robot).failed();
    let events = testbed::json(&server.cli(&["registry", "events", "robots/", "--json"]).ok());
    assert!(
        events.as_array().unwrap().iter().any(|event| event["who"] == "robots+ci" && event["action"] == "push"),
        "{events}"
    );
}

#[test]
fn a_rule_removes_old_tags_and_their_content_and_nothing_else() {
    let Some(server) = server() else { return };
    push(server, "care/app:v1", "one");
    let two = push(server, "care/app:v2", "two");
    push(server, "kept/app:v1", "three");
    server.cli(&["registry", "retention", "set", "care", "--keep-last", "1", "--untagged", "0s"]).ok();
    let gc = |more: &[&str]| {
        let all = [&["registry", "gc", "--grace", "0s", "--lease", "0s", "--json"][..], more].concat();
        testbed::json(&server.cli(&all).ok())
    };
    let would = gc(&["--dry-run"]);
    assert_eq!(
        (&would["dryRun"], &would["tags"], &would["manifests"]),
        (&json!(true), &json!(1), &json!(1)),
        "{would}"
    );
    let gone = would["gone"].as_array().unwrap();
    assert!(gone.iter().any(|gone| gone["repository"] == "care/app" && gone["name"] == "v1"), "{would}");
    assert_eq!(server.json("/v2/care/app/tags/list")["tags"], json!(["v1", "v2"]), "it only said so");
    let did = gc(&[]);
    assert_eq!((&did["tags"], &did["failed"]), (&json!(1), &json!(0)), "{did}");
    assert!(did["blobs"].as_u64().unwrap() >= 2, "manifest and layer: {did}");
    assert_eq!(server.json("/v2/care/app/tags/list")["tags"], json!(["v2"]));
    let home = testbed::directory();
    for name in [format!("docker://care/app@{two}"), "docker://kept/app:v1".into()] {
        let to = format!("dir:{}", home.path().join("back").display());
        copy(server, home.path(), &name, &to, None).ok();
    }
    let again = gc(&[]);
    assert_eq!((&again["tags"], &again["blobs"]), (&json!(0), &json!(0)), "{again}");
    server.cli(&["registry", "retention", "rm", "care"]).ok();
    let refused = server.cli(&["registry", "retention", "set", "care"]).failed();
    assert!(refused.contains("--keep-last"), "{refused}");
}

#[test]
fn a_clean_up_that_is_killed_leaves_everything_whole() {
    if !need_root() || !need_tool("skopeo") {
        return;
    }
    let server = Shipway::start(shipway());
    let kept = push(&server, "killed/app:kept", "kept");
    server
        .cli(&["registry", "retention", "set", "killed", "--keep-last", "1", "--always", "kept", "--untagged", "0s"])
        .ok();
    for round in 0..4 {
        for n in 0..3 {
            push(&server, &format!("killed/app:v{n}"), &format!("{round}-{n}"));
        }
        std::thread::scope(|scope| {
            let gc = scope.spawn(|| server.cli(&["registry", "gc", "--grace", "0s", "--lease", "0s"]));
            std::thread::sleep(Duration::from_millis(5 + 13 * round));
            server.kill();
            drop(gc.join());
        });
        server.restart();
        let home = testbed::directory();
        for tag in server.json("/v2/killed/app/tags/list")["tags"].as_array().unwrap() {
            let to = format!("dir:{}", home.path().join(format!("back-{}", tag.as_str().unwrap())).display());
            copy(&server, home.path(), &format!("docker://killed/app:{}", tag.as_str().unwrap()), &to, None).ok();
        }
        let to = format!("dir:{}", home.path().join("back").display());
        copy(&server, home.path(), &format!("docker://killed/app@{kept}"), &to, None).ok();
    }
    let report = testbed::json(&server.cli(&["registry", "gc", "--grace", "0s", "--lease", "0s", "--json"]).ok());
    assert_eq!(report["failed"], 0, "{report}");
    server.stop();
}

#[test]
fn quarantine_closes_and_says_where_to_read_more() {
    let Some(server) = server() else { return };
    let digest = push(server, "quarantine/app:v1", "q");
    let settings = json!({ "quarantine": { "policy": {
        "require": ["sbom", "provenance", "signature"], "fail_on": null, "deny_licences": [],
    }, "waitS": 0 } });
    server.cli_with(&["registry", "settings", "set", "quarantine"], settings.to_string().as_bytes()).ok();
    let refused = server.get("/v2/quarantine/app/manifests/v1");
    assert_eq!(refused.status, 403, "{refused:?}");
    let message = refused.json()["errors"][0]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("SBOM") && message.contains(&format!("/images/quarantine/app@{digest}")), "{message}");
    let home = testbed::directory();
    let to = format!("dir:{}", home.path().join("back").display());
    copy(server, home.path(), "docker://quarantine/app:v1", &to, None).failed();
    let scanner =
        testbed::json(&server.cli(&["registry", "robot", "create", "quarantine", "scan", "--scanner", "--json"]).ok());
    as_robot(server, "docker://quarantine/app:v1", &to, &scanner).ok();
    server.cli(&["registry", "settings", "rm", "quarantine"]).ok();
    assert_eq!(server.get("/v2/quarantine/app/manifests/v1").status, 200);
}

#[test]
fn webhooks_are_told_again_until_they_take_it() {
    if !need_root() || !need_tool("skopeo") {
        return;
    }
    let server = Shipway::start(shipway());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let (sender, told) = mpsc::channel();
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let Ok(mut stream) = stream else { return };
            let mut text = Vec::new();
            let mut buffer = [0; 4096];
            let whole = |text: &[u8]| {
                let text = String::from_utf8_lossy(text).to_lowercase();
                let (head, body) = text.split_once("\r\n\r\n")?;
                let length =
                    head.lines().find_map(|line| line.strip_prefix("content-length: "))?.parse::<usize>().ok()?;
                (body.len() >= length).then_some(())
            };
            while whole(&text).is_none() {
                match stream.read(&mut buffer) {
                    Ok(0) | Err(_) => break,
                    Ok(read) => text.extend_from_slice(&buffer[..read]),
                }
            }
            // The first time it fails.
            let status = if number == 0 { "503 Later" } else { "204 Taken" };
            let _ = stream
                .write_all(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").as_bytes());
            if number > 0 && sender.send(String::from_utf8_lossy(&text).into_owned()).is_err() {
                return;
            }
        }
    });
    let file = server.data().join("webhooks.json");
    let hooks = json!([{ "name": "test", "url": url, "secret": "hush", "repositories": "hooked/*" }]);
    std::fs::write(&file, hooks.to_string()).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    // A new one is told of what happens from when it is read.
    server.wait_for("the webhook is known", || {
        push(&server, "hooked/app:v1", "hook");
        told.recv_timeout(Duration::from_secs(3))
            .map(|text| {
                let (head, body) = text.split_once("\r\n\r\n").unwrap();
                let event: Value = serde_json::from_str(body).unwrap();
                assert_eq!(
                    (&event["specversion"], &event["type"]),
                    (&json!("1.0"), &json!("dev.shipway.registry.push"))
                );
                assert_eq!(event["data"]["repository"], "hooked/app");
                assert!(head.to_lowercase().contains("x-shipway-signature: sha256="), "{head}");
            })
            .map_err(|e| e.to_string())
    });
    server.stop();
}

#[test]
fn the_pages_show_what_is_there() {
    let Some(server) = server() else { return };
    let digest = push(server, "pages/app:v1", "page");
    let page = server.get("/repositories");
    assert!(page.status == 200 && page.body.contains("pages/app"), "{page:?}");
    let page = server.get("/repositories/pages/app");
    assert!(page.status == 200 && page.body.contains(&digest), "{page:?}");
    let page = server.get("/cleanup?now=true");
    assert!(page.status == 200 && page.body.contains("What a clean-up would remove"), "{page:?}");
    assert_eq!(server.get("/repositories/none").status, 404);
}
