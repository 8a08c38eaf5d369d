//! `kill -9` of the server at random instants of a small journey. Nothing is lost, nothing is done twice, and in the end all is well.
//!
//! `SHIPWAY_CRASH_SEED` repeats the instants of a run, `SHIPWAY_CRASH_KILLS` says how many there are.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;
use testbed::{Project, Random, Shipway, WorkTree, need_mirror, need_root, need_tool, say, state};

use crate::shipway;

const PIPELINE: &str = "\
steps:
- { name: first, image: debian, network: none, run: 'cat /proc/sys/kernel/random/uuid | tee once; sleep 0.1', artifacts: [once] }
- { name: second, image: debian, run: 'sleep 0.1; cat once' }
images:
- { name: crash/app, context: app }
deploy:
  environments:
  - { name: prod, namespace: crash, progress-deadline: 30s }
";

const DOCKERFILE: &str = "FROM debian AS build\nCOPY number /\nRUN sleep 0.1; cat /proc/sys/kernel/random/uuid > /once\n\
    FROM debian\nCOPY --from=build /once /number /\nUSER 65532:65532\nENTRYPOINT [\"/bin/sleep\", \"3600\"]\n";

const DEPLOYMENT: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata: { name: app }
spec:
  replicas: 2
  selector: { matchLabels: { app: app } }
  template:
    metadata: { labels: { app: app } }
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{ name: app, image: crash/app }]
";

/// What was seen of the records, and must be seen of them ever after.
#[derive(Default)]
struct Seen {
    /// Commit → its record.
    commits: BTreeMap<String, Value>,
    /// Runs that have ended, by build.
    ended: BTreeMap<u64, Value>,
    /// Steps that have passed, by build and name: with artifacts, test results and times.
    passed: BTreeMap<(u64, String), Value>,
    /// Images, by tag.
    images: BTreeMap<String, Value>,
    /// The commit of each run, by build.
    runs: BTreeMap<u64, String>,
    /// Releases, by number.
    releases: BTreeMap<u64, Value>,
    /// Rollouts that have ended, by the number of their release.
    rolled_out: BTreeMap<u64, Value>,
}

fn hold<K: Ord + std::fmt::Debug>(what: &str, seen: &mut BTreeMap<K, Value>, key: K, now: &Value) {
    let before = seen.entry(key).or_insert_with(|| now.clone());
    assert_eq!(before, now, "{what} was written down otherwise before");
}

impl Seen {
    /// Looks at everything. What was there must still be there, unchanged.
    fn look(&mut self, project: &Project<'_>) {
        let records = |below: &str| project.json(below).as_array().cloned().unwrap_or_default();
        let (commits, runs, images) = (records("/commits"), records("/runs"), records("/images"));
        let ids: Vec<&str> = commits.iter().filter_map(|commit| commit["id"].as_str()).collect();
        for id in self.commits.keys() {
            assert_eq!(ids.iter().filter(|known| *known == id).count(), 1, "commit {id} is recorded once: {ids:?}");
        }
        for commit in &commits {
            hold("a commit", &mut self.commits, commit["id"].as_str().unwrap().to_owned(), commit);
        }
        let builds: Vec<u64> = runs.iter().map(build).collect();
        for known in self.runs.keys() {
            assert!(builds.contains(known), "run {known} is lost: {builds:?}");
        }
        for run in &runs {
            let number = build(run);
            let commit = run["commit"].as_str().unwrap();
            let before = self.runs.entry(number).or_insert_with(|| commit.to_owned());
            assert_eq!(before, commit, "run {number} has changed its commit");
            if ["passed", "failed", "cancelled"].contains(&state(run)) {
                hold("a run that has ended", &mut self.ended, number, run);
            }
            for step in run["steps"].as_array().into_iter().flatten().filter(|step| state(step) == "passed") {
                let name = step["name"].as_str().unwrap().to_owned();
                // What a step leaves is written down at the end of all steps; until then it is not there.
                let mut known = step.clone();
                if !["passed", "failed"].contains(&state(run)) {
                    known["artifacts"] = Value::Null;
                }
                let key = (number, name.clone());
                if let Some(before) = self.passed.get(&key) {
                    assert_eq!(
                        before["state"], known["state"],
                        "step {name} of run {number} had passed, and was done again"
                    );
                }
                self.passed.insert(key, known);
            }
        }
        let mut of_commit: BTreeMap<&str, u64> = BTreeMap::new();
        for run in &runs {
            let before = of_commit.insert(run["commit"].as_str().unwrap(), build(run));
            assert_eq!(before, None, "two runs of one commit: {run:#}");
        }
        for image in &images {
            hold("an image", &mut self.images, image["tag"].as_str().unwrap().to_owned(), image);
        }
        let mut of_run: BTreeMap<String, u64> = BTreeMap::new();
        for shipment in records("/environments/prod/releases") {
            let (release, rollout) = (&shipment["release"], &shipment["rollout"]);
            let number = release_number(release);
            hold("a release", &mut self.releases, number, release);
            if ["complete", "failed", "superseded"].contains(&state(rollout)) {
                hold("a rollout that has ended", &mut self.rolled_out, number, rollout);
            }
            let before = of_run.insert(release["run"].to_string(), number);
            assert_eq!(before, None, "two releases of one run: {release:#}");
        }
        assert_eq!(of_run.len(), self.releases.len(), "a release is lost");
    }
}

fn build(run: &Value) -> u64 {
    run["id"]
        .as_str()
        .and_then(|id| id.rsplit_once('/'))
        .and_then(|(_, build)| build.parse().ok())
        .expect("a run has a number")
}

fn release_number(release: &Value) -> u64 {
    let id = &release["id"];
    let text = id.as_str().and_then(|id| id.rsplit_once('/')).map(|(_, number)| number.parse().ok());
    text.flatten().or_else(|| id["number"].as_u64()).unwrap_or_else(|| panic!("a release has a number: {release:#}"))
}

/// Kills the server `after` some time, whatever it does, and starts it again.
fn kill_after(server: &Shipway, after: Duration) {
    std::thread::sleep(after);
    server.kill();
    server.restart();
}

/// Waits until no run is under way; gives the newest one.
fn settled(project: &Project<'_>) -> Value {
    project.server.wait_for("every run ends", || {
        let runs = project.json("/runs");
        let under_way = runs.as_array().into_iter().flatten().find(|run| ["queued", "running"].contains(&state(run)));
        match under_way {
            Some(run) => Err(run.to_string()),
            None => runs.as_array().and_then(|runs| runs.first().cloned()).ok_or("there is no run".into()),
        }
    })
}

/// The newest run's image, and nothing else, runs in as many pods as there should be.
fn deployed(server: &Shipway, project: &Project<'_>, seen: &mut Seen, last: &Value) {
    let newest = server.wait_for("the last release is rolled out", || {
        let shipments = project.json("/environments/prod/releases");
        let newest = &shipments[0];
        let of_last = newest["release"]["run"] == last["id"];
        if of_last && state(&newest["rollout"]) == "complete" { Ok(newest.clone()) } else { Err(newest.to_string()) }
    });
    seen.look(project);
    let digest = newest["release"]["images"][0]["digest"].as_str().unwrap().to_owned();
    assert!(
        seen.images.values().any(|image| image["run"] == last["id"] && image["digest"] == digest.as_str()),
        "{newest:#}"
    );
    if !need_tool("kubectl") {
        return;
    }
    server.wait_for("two pods run the newest image, and no other pod is there", || {
        let mut kubectl = std::process::Command::new("kubectl");
        kubectl.args(["get", "pods", "--namespace", "crash", "--output", "json"]);
        let said = testbed::said(kubectl.env("KUBECONFIG", server.data().join("kubeconfig")), b"");
        if !said.success() {
            return Err(said.err);
        }
        let pods = testbed::json(&said.out);
        let pods = pods["items"].as_array().unwrap();
        let good = |pod: &&Value| {
            let container = &pod["status"]["containerStatuses"][0];
            container["ready"] == true && container["imageID"].as_str().is_some_and(|image| image.ends_with(&digest))
        };
        match (pods.iter().filter(good).count(), pods.len()) {
            (2, 2) => Ok(()),
            _ => Err(said.out),
        }
    });
}

#[test]
fn a_server_that_is_killed_at_any_instant_finishes_what_it_began() {
    if !(need_root() && need_tool("git") && need_mirror()) {
        return;
    }
    let mut random = Random::seeded_by("SHIPWAY_CRASH_SEED");
    let kills: u64 = std::env::var("SHIPWAY_CRASH_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(50);
    let server = Shipway::start(shipway());
    let project = server.project("crash");
    project.tree.write(".shipway.yaml", PIPELINE);
    project.tree.write("app/Dockerfile", DOCKERFILE);
    project.tree.write("deploy/app.yaml", DEPLOYMENT);
    let mut seen = Seen::default();
    let mut pushed: Vec<String> = Vec::new();
    let mut killed = 0;
    while killed < kills {
        project.tree.write("app/number", format!("{}\n", pushed.len()));
        let commit = project.tree.commit(&format!("Number {}", pushed.len()));
        // Some deaths happen while the push is still under way: people push again until it went through.
        let while_pushing = random.within(0..3) == 0;
        if while_pushing {
            std::thread::scope(|scope| {
                let push = scope.spawn(|| project.tree.git(&["push", "--quiet", "origin", "main"]));
                kill_after(&server, Duration::from_millis(random.within(0..120)));
                killed += 1;
                push.join().expect("git ends")
            });
        }
        server.wait_for("the push goes through", || {
            let said = project.tree.git(&["push", "--quiet", "origin", "main"]);
            if said.success() { Ok(()) } else { Err(said.err) }
        });
        pushed.push(commit);
        for _ in 0..random.within(1..6) {
            // Mostly short, sometimes long enough for the journey to end.
            let longest = if random.within(0..4) == 0 { 3000 } else { 800 };
            kill_after(&server, Duration::from_millis(random.within(5..longest)));
            killed += 1;
            seen.look(&project);
        }
        // Sometimes the next commit comes while this one is still on its way.
        if random.within(0..3) > 0 {
            settled(&project);
            seen.look(&project);
        }
    }
    let last = settled(&project);
    seen.look(&project);

    // Nothing is lost: each commit that was pushed is recorded and has one run; the newest one has passed.
    for commit in &pushed {
        assert!(seen.commits.contains_key(commit), "commit {commit} was pushed and is not recorded");
        assert_eq!(seen.runs.values().filter(|known| *known == commit).count(), 1, "commit {commit} has one run");
    }
    assert_eq!(seen.runs.len(), pushed.len(), "no run came from nowhere");
    assert_eq!((state(&last), last["commit"].as_str()), ("passed", pushed.last().map(String::as_str)), "{last:#}");
    let mut passed = 0;
    for (number, run) in &seen.ended {
        match state(run) {
            "passed" => passed += 1,
            // A newer commit came while it waited.
            "cancelled" => {
                assert!(run["state"]["by"].as_str().unwrap().contains("newer commit"), "{run:#}");
                continue;
            }
            _ => panic!("a kill made a run fail: {run:#}\n{}", project.logs(*number)),
        }
        // The second step saw what the first one left, and that was made once after the last time it was interrupted.
        let (made, found) = (project.out(*number, "first"), project.out(*number, "second"));
        assert_eq!(made.lines().last(), found.lines().last(), "{run:#}");
        let image =
            seen.images.values().find(|image| image["run"] == run["id"]).unwrap_or_else(|| panic!("no image: {run:#}"));
        let digest = image["digest"].as_str().unwrap();
        let trace = server.cli(&["trace", &format!("crash/app@{digest}")]);
        assert_eq!(trace.code, Some(0), "{trace:?}");
        let evidence = server.json(&format!("/api/v1/evidence/{digest}"));
        assert_eq!(evidence.as_array().unwrap().len(), 4, "{evidence:#}");
        let referrers = server.json(&format!("/v2/crash/app/referrers/{digest}"));
        let mut pieces: Vec<[&str; 3]> = Vec::new();
        for piece in referrers["manifests"].as_array().unwrap() {
            let note = |name: &str| piece["annotations"][name].as_str().unwrap_or_default();
            let form = [piece["artifactType"].as_str().unwrap_or_default(), note("dev.sigstore.bundle.predicateType")];
            pieces.push([note("dev.shipway.evidence.kind"), form[0], form[1]]);
        }
        pieces.sort_unstable();
        let attached = pieces.len();
        pieces.dedup();
        assert_eq!(pieces.len(), attached, "a piece of evidence is attached twice: {referrers:#}");
        pieces.dedup_by_key(|piece| piece[0]);
        let kinds: Vec<&str> = pieces.iter().map(|piece| piece[0]).collect();
        assert_eq!(kinds, ["provenance", "sbom", "signature", "vulnerabilities"], "{referrers:#}");
    }
    deployed(&server, &project, &mut seen, &last);
    let clone = WorkTree::new(None);
    clone.git(&["clone", "--quiet", &server.git_url("crash"), "clone"]).ok();
    clone.git(&["-C", "clone", "fsck", "--strict"]).ok();
    assert_eq!(clone.git(&["-C", "clone", "rev-parse", "HEAD"]).ok().trim(), pushed.last().unwrap());
    say(&format!("{killed} kills, {} commits, {passed} runs passed", pushed.len()));
    server.stop();
}
