//! The pages, in a real browser: what a person sees while a commit travels.

mod cdp;

use std::{path::Path, time::Duration};

use cdp::Browser;
use serde_json::json;
use testbed::{Project, Shipway, need_mirror, need_root, need_tool};

use crate::shipway;

const DOCKERFILE: &str = "\
FROM node-runtime
COPY server.js /
USER 65532:65532
ENTRYPOINT [\"/usr/bin/node\", \"/server.js\"]
";

const SERVER: &str = "require('node:http').createServer((_, response) => response.end('hello\\n')).listen(8080)\n";

const DEPLOYMENT: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata: { name: app }
spec:
  selector: { matchLabels: { app: app } }
  template:
    metadata: { labels: { app: app } }
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{ name: app, image: web/app }]
";

/// A pipeline whose first step says a line, in colour, every so often, until it is [let go](let_go).
const PIPELINE: &str = "\
steps:
  - name: first
    image: node
    network: none
    run: |
      i=0
      until test -e go; do i=$((i + 1)); printf '\\033[1;32mtick\\033[0m %s\\n' $i; sleep 0.2; done
      printf '<testsuite><testcase name=\"a\"/></testsuite>' > junit.xml
    reports: { junit: junit.xml }
  - name: second
    image: node
    network: none
    needs: [first]
    run: 'true'
images:
  - name: web/app
    context: app
deploy:
  from: deploy/
  environments: [{ name: prod, namespace: web }]
";

fn push(project: &Project<'_>, number: u32) -> String {
    project.push(&[
        (".shipway.yaml", PIPELINE),
        ("app/Dockerfile", DOCKERFILE),
        ("app/server.js", SERVER),
        ("deploy/app.yaml", DEPLOYMENT),
        ("number", &number.to_string()),
    ])
}

/// Ends the first step of a commit's run: makes the file that it waits for, where one of its processes is.
fn let_go(commit: &str) {
    let of_step = |process: &Path| {
        let variables = std::fs::read(process.join("environ")).unwrap_or_default();
        let has = |wanted: String| variables.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes());
        has(format!("SHIPWAY_COMMIT={commit}"))
            && has("SHIPWAY_STEP=first".into())
            && std::fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd == Path::new("/workspace"))
    };
    testbed::wait_for("the step is let go", Duration::from_secs(60), || {
        let mut processes = std::fs::read_dir("/proc").unwrap().flatten().map(|process| process.path());
        let gone = processes.any(|process| of_step(&process) && std::fs::write(process.join("cwd/go"), "").is_ok());
        gone.then_some(()).ok_or("there is no process of it".into())
    });
}

/// On a narrow screen a page is as wide as the screen: what is wider scrolls in itself.
#[track_caller]
fn fits(browser: &mut Browser) {
    browser.resize(400, 800);
    let wide = browser.eval("document.documentElement.scrollWidth - document.documentElement.clientWidth");
    let address = browser.eval("location.href");
    assert_eq!(wide, 0, "{address} is too wide for a narrow screen");
    browser.resize(1200, 900);
}

#[test]
fn a_commit_on_its_way_as_a_person_sees_it() {
    let able = need_root() && need_tool("git") && need_tool("curl") && need_tool("chromium") && need_mirror();
    if !able {
        return;
    }
    let server = Shipway::start(shipway());
    let mut browser = Browser::start();

    // The first page says what to do, and what is made elsewhere comes by itself.
    // Also what is made before the page listens: its stream of events is held back until then.
    let events = json!({ "patterns": [{ "urlPattern": "*/api/v1/events*" }] });
    browser.call("Fetch.enable", events);
    browser.open(&server.url("/"));
    assert!(browser.text("main").contains("There is no project yet"));
    assert!(browser.text(".empty pre").contains(&format!("--server {}", server.url(""))));
    let project = server.project("web");
    browser.call("Fetch.disable", json!({}));
    browser.wait("!!document.querySelector('a[href=\"/projects/web\"]')");
    browser.follow("a[href='/projects/web']");
    assert!(browser.text("main").contains("Nothing was released yet"));
    assert!(browser.text("main").contains("No run yet"));
    fits(&mut browser);

    run_and_its_logs(&mut browser, &project);
    image_and_trace(&mut browser);
    environment(&mut browser);
    signing_in_to_cancel(&mut browser, &server, &project);

    browser.open(&server.url("/projects/nowhere"));
    assert_eq!(browser.text("h1"), "Not here");
    browser.forgive("404");

    // With the keyboard alone the content is one step away.
    browser.open(&server.url("/"));
    browser.press("Tab", 9);
    assert_eq!(browser.eval("document.activeElement.className"), "skip");

    let own = server.url("/");
    let elsewhere: Vec<&String> =
        browser.asked.iter().filter(|url| !url.starts_with(&own) && *url != "about:blank").collect();
    assert!(elsewhere.is_empty(), "{elsewhere:?}");
    assert!(browser.complaints.is_empty(), "{:#?}", browser.complaints);
    drop(browser);
    server.stop();
}

fn run_and_its_logs(browser: &mut Browser, project: &Project<'_>) {
    let commit = push(project, 1);
    browser.wait("!!document.querySelector('a[href=\"/projects/web/runs/1\"]')");
    browser.follow("a[href='/projects/web/runs/1']");
    // Lines arrive while the step runs, on the page that was opened before they were written.
    browser.eval("window.same = true");
    browser.wait("document.querySelector('#log-first pre')?.innerText.includes('tick 1')");
    assert_eq!(browser.text("#sum-first .state"), "first");
    assert_eq!(browser.eval("document.querySelector('#sum-first').dataset.state"), "running");
    assert_eq!(browser.eval("document.querySelector('#log-first').open"), true, "what runs is shown");
    browser.wait("document.querySelector('#log-first pre').innerText.includes('tick 3')");
    assert_eq!(browser.text("#log-first pre .bold.c2"), "tick", "codes of terminals are colours");
    assert!(!browser.text("#log-first pre").contains('\u{1b}'));
    let boxes = "[...document.querySelectorAll('.graph .box b')].map((box) => box.innerText).join(' ')";
    assert_eq!(browser.eval(boxes), "first second web/app evidence");
    assert_eq!(browser.eval("document.querySelectorAll('.graph path').length"), 3);
    let_go(&commit);
    browser.wait("document.querySelector('.title .state').innerText === 'passed'");
    assert_eq!(browser.eval("window.same"), true, "the page was not loaded again");
    let ticks = project.out(1, "first").lines().count();
    assert_eq!(browser.text("#log-first pre").matches("tick").count(), ticks, "every line is there once");
    assert!(browser.eval("document.title").as_str().unwrap().starts_with("passed"));
    assert!(browser.text("#rest").contains("1 passed, 0 failed"));
    // Without what came live it is the same.
    let address = browser.address();
    browser.open(&address);
    assert_eq!(browser.eval("document.querySelector('#log-first').open"), false);
    browser.eval("document.querySelector('.graph a').click()");
    browser.wait(&format!("document.querySelectorAll('#log-first pre .stdout').length === {ticks}"));
    fits(browser);
}

fn image_and_trace(browser: &mut Browser) {
    browser.follow("#rest a[href^='/images/web/app@']");
    assert_eq!(browser.text("h1"), "web/app");
    let cells = |heading: &str, column: u32| {
        format!(
            "[...[...document.querySelectorAll('h2')].find((h) => h.innerText === '{heading}').nextElementSibling
                .querySelectorAll('tbody td:nth-child({column})')].map((cell) => cell.innerText).join('\\n')"
        )
    };
    let layers = browser.eval(&cells("Layers", 3));
    assert!(layers.as_str().unwrap().contains("COPY server.js /"), "{layers}");
    assert_eq!(browser.eval(&cells("Evidence", 1)), "SBOM\nvulnerability scan\nprovenance\nsignature");
    fits(browser);

    browser.follow("a[href^='/trace/web/app@']");
    assert_eq!(browser.text(".title .state"), "every link is verified");
    let kinds = "[...document.querySelectorAll('.chain li.held > .state')].map((link) => link.innerText)";
    let kinds = browser.eval(kinds);
    for kind in ["image", "SBOM", "provenance", "run", "commit"] {
        assert!(kinds.as_array().unwrap().iter().any(|found| found == kind), "{kinds}");
    }
    fits(browser);
    browser.follow(".chain a[href='/projects/web/runs/1']");
    assert_eq!(browser.text("h1"), "Run 1");
}

fn environment(browser: &mut Browser) {
    browser.wait("!!document.querySelector('a[href=\"/projects/web/environments/prod\"]')");
    browser.follow("a[href='/projects/web/environments/prod']");
    browser.wait("document.querySelector('.title .state').innerText === 'complete'");
    assert!(browser.text("main").contains("a run that passed"));
    browser.wait("document.querySelectorAll('a[href^=\"/trace/pod/web/app-\"]').length === 1");
    fits(browser);
    browser.follow("a[href^='/trace/pod/web/app-']");
    assert_eq!(browser.text(".title .state"), "every link is verified");
    browser.follow(".chain a[href='/projects/web/environments/prod']");
    browser.follow("nav a[href='/projects/web']");
}

fn signing_in_to_cancel(browser: &mut Browser, server: &Shipway, project: &Project<'_>) {
    push(project, 2);
    browser.wait("!!document.querySelector('a[href=\"/projects/web/runs/2\"]')");
    browser.follow("a[href='/projects/web/runs/2']");
    browser.wait("document.querySelector('#log-first pre')?.innerText.includes('tick 1')");
    // Who has not given the token is asked for it, and nothing is done.
    browser.follow(".title form button");
    assert!(browser.text("[role=alert]").contains("Nothing was changed"));
    browser.forgive("401");
    let give = |token: &str| format!("document.querySelector('#token').value = {token:?}");
    browser.eval(&give("wrong"));
    browser.follow("form.row button");
    assert_eq!(browser.text("[role=alert]"), "That is not the token.");
    browser.forgive("401");
    browser.eval(&give(&server.token()));
    browser.follow("form.row button");
    // Back where the person came from, and now it works.
    assert_eq!(browser.address(), server.url("/projects/web/runs/2"));
    assert_eq!(browser.text("header button"), "Sign out");
    assert_eq!(browser.eval("document.cookie"), "", "scripts do not see the token");
    browser.follow(".title form button");
    browser.wait("document.querySelector('.title .state').innerText === 'cancelled'");
    assert!(browser.text("#head .reason").contains("cancelled by admin"));
    browser.follow("header button");
    assert_eq!(browser.text("header .end a[href='/login']"), "Sign in");
}
