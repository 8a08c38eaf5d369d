//! `shipway up`: what it offers, how it ends, what it refuses to start on.

use std::{net::TcpListener, os::unix::fs::PermissionsExt, path::Path};

use testbed::{Options, Shared, Shipway, need_root};

use crate::{golden, shipway};

fn server() -> Option<&'static Shipway> {
    static SERVER: Shared = Shared::new();
    need_root().then(|| SERVER.get(|| Shipway::start(shipway())))
}

#[test]
fn it_says_what_it_offers() {
    let Some(server) = server() else { return };
    let health = server.get("/healthz");
    assert_eq!((health.status, health.body.as_str()), (200, "ok\n"));

    let document = server.json("/openapi.json");
    assert!(document["openapi"].as_str().unwrap().starts_with("3."), "{document}");
    let mut operations: Vec<String> = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        operations.extend(methods.as_object().unwrap().keys().map(|method| format!("{method:4} {path}\n")));
    }
    operations.sort();
    golden!(operations.concat());
}

#[test]
fn every_documented_read_answers() {
    let Some(server) = server() else { return };
    server.project("documented");
    let document = server.json("/openapi.json");
    let digest = testbed::sha256(b"nothing");
    for (path, methods) in document["paths"].as_object().unwrap() {
        let Some(get) = methods.get("get") else { continue };
        let kinds = get["responses"]["200"]["content"].as_object().unwrap();
        if kinds.contains_key("text/event-stream") {
            continue; // It never ends.
        }
        let mut path = path.replace("{project}", "documented").replace("{environment}", "prod").replace("{build}", "1");
        path = path.replace("{digest}", &digest).replace("{*what}", "pod/default/none").replace("{step}", "test");
        assert!(!path.contains('{'), "{path} has a part that this test does not know");
        let answer = server.get(&path);
        assert!([200, 404].contains(&answer.status), "{path}: {answer:?}");
        assert!(answer.json().is_array() || answer.json().is_object(), "{path}: {answer:?}");
    }
}

#[test]
fn its_metrics_are_in_the_format_of_openmetrics() {
    let Some(server) = server() else { return };
    let metrics = server.get("/metrics");
    assert_eq!(metrics.status, 200);
    assert!(
        metrics.headers.to_lowercase().contains("content-type: application/openmetrics-text"),
        "{}",
        metrics.headers
    );
    assert!(metrics.body.ends_with("# EOF\n"), "{}", metrics.body);
    for line in metrics.body.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(name.starts_with("shipway_") && value.parse::<f64>().is_ok(), "{line}");
    }
    assert!(metrics.body.contains("shipway_projects "), "{}", metrics.body);
}

#[test]
fn writing_needs_the_token_and_reading_does_not() {
    let Some(server) = server() else { return };
    let token = server.data().join("admin-token");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&token), mode(server.data())), (0o600, 0o700));

    let url = server.url("/api/v1/projects");
    let json = ["--header", "Content-Type: application/json", "--data", r#"{"name":"written"}"#];
    let create = |more: &[&str]| testbed::Answer::fetch(&[more, &json, &[&url]].concat(), b"");
    for wrong in [
        &[][..],
        &["--user", "admin:wrong"],
        &["--user", &format!("root:{}", server.token())],
        &["--oauth2-bearer", "x"],
    ] {
        let refused = create(wrong);
        assert_eq!(refused.status, 401, "{wrong:?}: {refused:?}");
        assert!(refused.headers.to_lowercase().contains("www-authenticate: basic"), "{refused:?}");
        assert!(refused.json()["hint"].as_str().unwrap().contains("admin-token"), "{refused:?}");
    }
    assert_eq!(server.get("/api/v1/projects/written").status, 404, "nothing was written");
    let by_password = create(&["--user", &format!("admin:{}", server.token())]);
    assert_eq!(by_password.status, 201, "{by_password:?}");
    assert_eq!(create(&["--oauth2-bearer", &server.token()]).status, 409, "the other way to say it is known too");
    assert_eq!(server.json("/api/v1/projects/written")["name"], "written");
}

#[test]
fn the_api_says_what_is_wrong_with_a_request() {
    let Some(server) = server() else { return };
    let mut all = String::new();
    let mut tell = |method: &str, path: &str, body: Option<&str>| {
        let (token, url) = (format!("Authorization: Bearer {}", server.token()), server.url(path));
        let mut arguments = vec!["--request", method, "--header", &token];
        if body.is_some() {
            arguments.extend(["--header", "Content-Type: application/json", "--data-binary", "@-"]);
        }
        arguments.push(&url);
        let answer = testbed::Answer::fetch(&arguments, body.unwrap_or_default().as_bytes());
        let shown: String = body.unwrap_or_default().chars().take(60).collect();
        all.push_str(&format!("{method} {path} {shown}\n  {} {}\n", answer.status, server.plain(&answer.body)));
    };
    tell("POST", "/api/v1/projects", Some(r#"{"name":"Not A Name"}"#));
    tell("POST", "/api/v1/projects", Some(r#"{"name":"../x"}"#));
    tell("POST", "/api/v1/projects", Some(r#"{"name":"#));
    tell("POST", "/api/v1/projects", Some("{}"));
    tell("GET", "/api/v1/projects/nowhere", None);
    tell("GET", "/api/v1/projects/nowhere/runs", None);
    tell("GET", "/api/v1/projects/nowhere/runs/1", None);
    tell("GET", "/api/v1/projects/nowhere/runs/one", None);
    tell("POST", "/api/v1/projects/nowhere/runs/1/cancel", Some("{}"));
    tell("PUT", "/api/v1/projects/nowhere/secrets/TOKEN", Some(r#"{"value":"x"}"#));
    tell("GET", "/api/v1/evidence/sha256:12", None);
    tell("GET", "/api/v1/trace/nothing", None);
    tell("GET", "/api/v1/trace/pod/nothing", None);
    tell("GET", "/api/v1/nothing", None);
    tell("DELETE", "/api/v1/projects", None);
    golden!(all);
}

#[test]
fn a_second_start_goes_on_where_the_first_one_was() {
    if !need_root() {
        return;
    }
    let server = Shipway::start(shipway());
    let token = server.token();
    let project = server.project("kept");
    let commit = project.push(&[("README.md", "kept\n")]);
    // There is no pipeline in it, and that is said.
    assert!(project.failed(1).contains("has no .shipway.yaml"), "{}", project.failed(1));
    let before = (project.json("/commits"), project.json("/runs"));
    server.terminate();
    server.restart();
    assert_eq!(server.token(), token);
    assert_eq!((project.json("/commits"), project.json("/runs")), before);
    assert_eq!(project.json("/commits")[0]["id"], commit.as_str());
    server.stop();
}

#[test]
fn sigterm_ends_it_though_clients_hang_on() {
    if !need_root() {
        return;
    }
    let server = Shipway::start(shipway());
    // A follower of events never goes away by itself.
    let mut events = std::process::Command::new("curl");
    events.args(["--silent", "--no-buffer", "--noproxy", "*", &server.url("/api/v1/events")]);
    let mut events = events.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let idle = std::net::TcpStream::connect(server.host()).unwrap();
    server.project("ends");
    server.stop();
    drop(idle);
    let said = std::io::read_to_string(events.stdout.take().unwrap()).unwrap();
    events.wait().unwrap();
    assert!(said.contains("event: project") && said.contains(r#"data: {"key":"ends"}"#), "{said}");
}

#[test]
fn a_port_that_is_taken() {
    if !need_root() {
        return;
    }
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let directory = testbed::directory();
    let data = directory.path().join("data");
    // The last one of an option counts for the program only if it is given once: so it is started by hand.
    let mut up = std::process::Command::new(shipway());
    up.args(["up", "--listen", &address, "--data"]).arg(&data);
    let said = testbed::said(&mut up, b"");
    assert_eq!(said.code, Some(6), "{said:?}");
    assert!(said.err.contains(&format!("cannot listen on {address}")) && said.err.contains("--listen"), "{said:?}");
    let written: Vec<_> = std::fs::read_dir(&data).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    assert!(written.is_empty(), "{written:?}");
}

#[test]
fn a_start_that_fails_late_leaves_nothing() {
    if !need_root() {
        return;
    }
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let directory = testbed::directory();
    let data = directory.path().join("data");
    let said = Options::new(shipway()).data(&data).argument(format!("--node-listen={address}")).refused();
    assert_eq!(said.code, Some(6), "{said:?}");
    assert!(said.err.contains(&address), "{said:?}");
    let left = testbed::leftovers(&data);
    assert!(left.is_empty(), "{left:#?}");
    drop(taken);
    let server = Options::new(shipway()).data(&data).argument(format!("--node-listen={address}")).start();
    server.stop();
}

#[test]
fn a_data_directory_that_another_server_uses() {
    let Some(server) = server() else { return };
    let said = Options::new(shipway()).data(server.data()).refused();
    assert_eq!(said.code, Some(6), "{said:?}");
    let pid = server.pid();
    assert!(said.err.contains(&format!("is in use by another shipway (process {pid})")), "{said:?}");
    assert!(said.err.contains("hint: "), "{said:?}");
    assert!(server.healthy());
}

#[test]
fn a_data_directory_of_a_newer_version() {
    if !need_root() {
        return;
    }
    let directory = testbed::directory();
    let data = directory.path().join("data");
    let server = Options::new(shipway()).data(&data).start();
    server.project("old");
    server.terminate();
    // SQLite keeps the version of the tables at this place of its first page.
    let (path, version) = (data.join("records.db"), 60..64);
    let unfinished = std::fs::metadata(data.join("records.db-wal")).map_or(0, |log| log.len());
    assert_eq!(unfinished, 0, "the log was not put in order at the end");
    let mut bytes = std::fs::read(&path).unwrap();
    let of_now: [u8; 4] = bytes[version.clone()].try_into().unwrap();
    bytes[version.clone()].copy_from_slice(&(u32::from_be_bytes(of_now) + 1).to_be_bytes());
    std::fs::write(&path, &bytes).unwrap();
    let said = Options::new(shipway()).data(&data).refused();
    assert_eq!(said.code, Some(6), "{said:?}");
    assert!(said.err.contains("records.db was written by a newer version of shipway"), "{said:?}");
    assert!(said.err.contains("hint: use the newer shipway that wrote it, or another --data directory"), "{said:?}");
    assert_eq!(std::fs::read(&path).unwrap(), bytes, "a newer file was changed");
    bytes[version].copy_from_slice(&of_now);
    std::fs::write(&path, &bytes).unwrap();
    server.restart();
    assert_eq!(server.json("/api/v1/projects/old")["name"], "old");
    server.stop();
}
