//! Steps: their order, what they see, what they leave, how they end.

use serde_json::{Value, json};
use testbed::{need_mirror, need_root, state};

use super::server;
use crate::shipway;

#[test]
fn a_log_is_live_and_a_run_can_be_cancelled() {
    let Some(server) = server() else { return };
    let project = server.project("live");
    project.push(&[(
        ".shipway.yaml",
        "steps:\n  - { name: long, image: debian, network: none, run: \"echo begun; sleep 3600 & wait\" }\n\
         \x20 - { name: never, image: debian, network: none, run: \"true\" }\n",
    )]);
    project.wait_for_step(1, "long", "running");
    // The line arrives while the program that wrote it still runs.
    let mut log = project.follow(1, "long").filter(|line| line.stream == "stdout");
    assert_eq!(log.next().expect("a first line").text, "begun");
    assert_eq!(state(&project.run(1)), "running");

    let cancelled = server.cli(&["runs", "cancel", "live/1"]);
    assert_eq!(cancelled.ok(), "run live/1 is cancelled\n");
    assert_eq!(log.next(), None, "the log ends with the step");
    let run = project.ended(1);
    assert_eq!((state(&run), run["state"]["by"].as_str()), ("cancelled", Some("admin")), "{run:#}");
    server.wait_for("the program is gone", || {
        let left = testbed::leftovers(server.data()).into_iter().find(|what| what.contains("sleep 3600"));
        left.map_or(Ok(()), Err)
    });
    let run = server.wait_for("the steps of the run say how they ended", || {
        let run = project.run(1);
        let states = ["long", "never"].map(|name| state(&project.step(&run, name)).to_owned());
        if states == ["cancelled", "skipped"] { Ok(run) } else { Err(run.to_string()) }
    });
    assert_eq!(server.cli(&["runs", "cancel", "live/1"]).code, Some(5), "a run ends once");
    assert_eq!(project.run(1), run);
}

#[test]
fn a_step_that_fails_stops_everything_after_it() {
    let Some(server) = server() else { return };
    let project = server.project("fails");
    project.push(&[
        (
            ".shipway.yaml",
            "steps:\n\
             - { name: first, image: debian, network: none, run: echo fine }\n\
             - { name: second, image: debian, network: none, run: \"echo out; echo err >&2; exit 3\" }\n\
             - { name: third, image: debian, network: none, run: echo never }\n\
             - { name: beside, image: debian, network: none, needs: [first], run: sleep 3600 }\n\
             images:\n- { name: fails/app, context: app }\n",
        ),
        ("app/Dockerfile", "FROM debian\nCOPY Dockerfile /\n"),
    ]);
    let reason = project.failed(1);
    assert!(reason.starts_with("second ") && reason.contains("exited with status 3"), "{reason}");
    let run = project.run(1);
    let step = |name: &str| project.step(&run, name);
    assert_eq!(state(&step("first")), "passed");
    assert_eq!((state(&step("second")), &step("second")["state"]["exit_code"]), ("failed", &json!(3)));
    for after in ["third", "fails/app", "evidence"] {
        let skipped = step(after);
        assert_eq!(state(&skipped), "skipped", "{skipped}");
        assert!(skipped["state"]["because"].as_str().unwrap().contains("second"), "it says because of what: {skipped}");
        // What prepares it, such as its base image, may be noted before; a program of it never ran.
        let log = project.log(1, after);
        assert!(log.iter().all(|line| line.stream == "note"), "{after} never began: {log:?}");
    }
    assert!(["cancelled", "skipped"].contains(&state(&step("beside"))), "{run:#}");
    let streams: Vec<_> = project.log(1, "second").into_iter().map(|line| (line.stream, line.text)).collect();
    for expected in [("stdout", "out"), ("stderr", "err")] {
        assert!(streams.contains(&(expected.0.into(), expected.1.into())), "{streams:?}");
    }
    assert_eq!(project.json("/images"), json!([]));

    let shown = server.cli(&["runs", "show", "fails/1"]).ok();
    assert!(shown.contains("reason  second ") && shown.contains("state   failed"), "{shown}");
}

#[test]
fn steps_follow_their_needs_and_hand_on_what_they_leave() {
    let Some(server) = server() else { return };
    let project = server.project("needs");
    project.push(&[
        (
            ".shipway.yaml",
            "steps:\n\
             - { name: last, image: debian, network: none, needs: [left, right], run: cat out/left sub/out/right }\n\
             - { name: left, image: debian, network: none, needs: [], run: \"mkdir out; echo left > out/left; echo no > out/no.tmp\", artifacts: [out/left] }\n\
             - { name: right, image: debian, network: none, needs: [left], workdir: sub, run: \"test ! -e ../out/no.tmp; mkdir out; cat ../out/left here > out/right\", artifacts: ['sub/out/*'] }\n",
        ),
        ("sub/here", "in the repository\n"),
    ]);
    let run = project.passed(1);
    assert_eq!(project.out(1, "last"), "left\nleft\nin the repository\n");
    let artifacts = &project.step(&run, "right")["artifacts"];
    let content = b"left\nin the repository\n";
    assert_eq!(
        artifacts,
        &json!([{ "path": "sub/out/right", "digest": testbed::sha256(content), "size": content.len() }])
    );
    let digest = artifacts[0]["digest"].as_str().unwrap();
    let fetched = server.get(&format!("/projects/needs/runs/1/artifacts/{digest}/sub/out/right"));
    assert_eq!((fetched.status, fetched.body.as_bytes()), (200, &content[..]), "{fetched:?}");
    let at = |name: &str, key: &str| project.step(&run, name)["state"][key].as_str().unwrap().to_owned();
    assert!(at("left", "at") <= at("right", "since") && at("right", "at") <= at("last", "since"), "{run:#}");
}

#[test]
fn a_step_sees_what_it_is_given() {
    let Some(server) = server() else { return };
    let project = server.project("given");
    let commit = project.push(&[
        (
            ".shipway.yaml",
            "steps:\n\
             - name: env\n  image: debian\n  network: none\n  workdir: sub\n  env: { GREETING: \"hello  there\", EMPTY: \"\" }\n  run: |\n\
             \x20   pwd; printf '%s|%s|%s\\n' \"$GREETING\" \"${EMPTY-unset}\" \"$SHIPWAY_STEP\"\n\
             \x20   echo \"$SHIPWAY_PROJECT/$SHIPWAY_BUILD $SHIPWAY_COMMIT $SHIPWAY_BRANCH $CI\"\n\
             \x20   cat file; readlink link; test -x tool; ./tool\n\
             \x20   ip link 2>/dev/null || ls /sys/class/net\n\
             - { name: program, image: debian, network: none, run: [/bin/echo, \"$HOME\", \"two words\"] }\n\
             - { name: network, image: debian, run: \"ls /sys/class/net; cat /etc/resolv.conf\" }\n",
        ),
        ("sub/file", "content\n"),
    ]);
    // Git keeps links and who may run a file; so does the checkout. The first run is without them.
    project.ended(1);
    project.tree.write("sub/tool", "#!/bin/sh\necho I run\n");
    std::fs::set_permissions(project.tree.path().join("sub/tool"), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .unwrap();
    std::os::unix::fs::symlink("file", project.tree.path().join("sub/link")).unwrap();
    let second = project.push(&[]);
    assert_ne!(commit, second);
    project.passed(2);
    let out = project.out(2, "env");
    let expected = format!("/workspace/sub\nhello  there||env\ngiven/2 {second} main true\ncontent\nfile\nI run\n");
    assert!(out.starts_with(&expected), "{out}");
    let links = out.trim_start_matches(&expected);
    assert!(links.contains("lo") && !links.contains("eth0"), "without a network: {links}");
    assert_eq!(project.out(2, "program"), "$HOME two words\n", "no shell takes part");
    let network = project.out(2, "network");
    assert!(network.contains("eth0") && network.contains("nameserver"), "{network}");
}

#[test]
fn a_step_that_takes_too_long_is_ended() {
    let Some(server) = server() else { return };
    let project = server.project("slow");
    project.push(&[(
        ".shipway.yaml",
        "steps:\n- { name: slow, image: debian, network: none, timeout: 4s, run: \"trap '' TERM; echo begun; sleep 3601\" }\n",
    )]);
    let reason = project.failed(1);
    assert!(reason.starts_with("slow ") && reason.contains("took longer than 4s"), "{reason}");
    assert_eq!(project.out(1, "slow"), "begun\n");
    let left = testbed::leftovers(server.data()).into_iter().find(|what| what.contains("sleep 3601"));
    assert_eq!(left, None);
}

#[test]
fn secrets_reach_the_step_that_names_them_and_nothing_else() {
    let Some(server) = server() else { return };
    let project = server.project("secret");
    let secret = "hush-7c1e\"9d";
    server.cli_with(&["secret", "set", "secret", "TOKEN"], format!("{secret}\n").as_bytes()).ok();
    project.push(&[
        (
            ".shipway.yaml",
            "steps:\n\
             - { name: with, image: debian, network: none, secrets: [TOKEN, { name: TOKEN, env: ALSO }], run: \"echo plain $TOKEN; printf %s $ALSO | base64; printf %s hush-; sleep 0.2; echo '7c1e\\\"9d'; test ${#TOKEN} = 12; echo $TOKEN >&2\" }\n\
             - { name: without, image: debian, network: none, run: 'echo \"${TOKEN-none}\"; env' }\n\
             - { name: missing, image: debian, network: none, secrets: [OTHER], run: 'true' }\n",
        ),
    ]);
    let ended = project.ended(1);
    assert_eq!(project.out(1, "with"), "plain ***\n***\n***\n", "{ended:#}");
    let errors: Vec<_> = project.log(1, "with").into_iter().filter(|line| line.stream == "stderr").collect();
    assert_eq!(errors.iter().map(|line| line.text.as_str()).collect::<Vec<_>>(), ["***"]);
    assert!(project.out(1, "without").starts_with("none\n"));
    // A secret that nobody has set is said by its name.
    let reason = project.failed(1);
    assert!(reason.contains("missing") && reason.contains("OTHER"), "{reason}");

    // It is nowhere but in the place where secrets are kept.
    let mut grep = std::process::Command::new("grep");
    grep.args(["--recursive", "--files-with-matches", "--binary-files=text", "--fixed-strings", "hush-7c1e"]);
    let found = testbed::said(grep.arg("--exclude-dir=secrets").arg(server.data()), b"");
    assert_eq!((found.code, found.out.as_str()), (Some(1), ""), "{found:?}");
    assert!(!server.output().contains("hush-7c1e"));
    let file = server.data().join("secrets/secret/TOKEN");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn test_reports_are_read_also_of_a_step_that_fails() {
    let Some(server) = server() else { return };
    let project = server.project("reports");
    let report = r#"<testsuites><testsuite name="s"><testcase name="one"/><testcase name="two"/><testcase name="three"><skipped/></testcase>
<testcase name="adds"><failure message="1 + 1 is 3">at sum.js:4</failure></testcase></testsuite></testsuites>"#;
    project.push(&[
        (".shipway.yaml", "steps:\n- { name: test, image: debian, network: none, run: \"cp report.xml out.xml; exit 1\", reports: { junit: out.xml } }\n"),
        ("report.xml", report),
    ]);
    project.failed(1);
    let tests = project.step(&project.run(1), "test")["tests"].clone();
    assert_eq!((&tests["passed"], &tests["failed"], &tests["skipped"]), (&json!(2), &json!(1), &json!(1)), "{tests}");
    let failure: Vec<&str> = tests["failures"][0].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(failure[0].contains("adds") && failure[1].contains("1 + 1 is 3"), "{tests}");
    assert!(server.cli(&["runs", "show", "reports/1"]).ok().contains("2 passed, 1 failed"));
}

#[test]
fn a_server_that_is_stopped_in_a_run_goes_on_with_it() {
    if !(need_root() && need_mirror()) {
        return;
    }
    let server = testbed::Shipway::start(shipway());
    let project = server.project("resumed");
    project.push(&[(
        ".shipway.yaml",
        "steps:\n\
         - { name: once, image: debian, network: none, run: cat /proc/sys/kernel/random/uuid }\n\
         - { name: long, image: debian, run: \"echo begun; sleep 2; echo done\" }\n",
    )]);
    project.wait_for_step(1, "long", "running");
    let once = project.out(1, "once");
    server.terminate();
    server.restart();
    let run = project.passed(1);
    assert_eq!(project.out(1, "once"), once, "a step that had passed ran again: {run:#}");
    assert!(project.out(1, "long").ends_with("begun\ndone\n"));
    assert_eq!(project.json("/runs").as_array().unwrap().len(), 1);
    server.stop();
}
