//! What a killed server leaves, and what the next one finds.

mod support;

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use sandbox::{ContainerSpec, Error, ExecSpec, Lifetime, LogFile, NetworkMode, Sandbox, Status};
use support::{BASE, config, fill, unable};

/// Starts this test program again as a server on `root`, waits until it is ready.
fn server(root: &Path) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_server_that_is_killed", "--ignored", "--nocapture"])
        .env("SANDBOX_TEST_ROOT", root)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line.ends_with("READY")), "the server did not come up");
    child
}

/// Not a test: the other process of the tests below.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore]
async fn the_server_that_is_killed() {
    let Some(root) = std::env::var_os("SANDBOX_TEST_ROOT") else { return };
    let root = std::path::PathBuf::from(root);
    let sandbox = Sandbox::open(config(&root, true)).await.unwrap();
    fill(&sandbox);
    let network = sandbox.network().await.unwrap();
    let mut held = Vec::new();
    for (id, lifetime) in [("pod", Lifetime::Kept), ("step", Lifetime::Server), ("ends", Lifetime::Kept)] {
        let mut view = sandbox.snapshots().view(id, BASE, true).unwrap();
        view.keep();
        let script =
            if id == "ends" { "sleep 1; exit 9" } else { "n=0; while :; do echo $n; n=$((n+1)); sleep 0.05; done" };
        let mut spec = ContainerSpec::new(id, view.path(), ["sh", "-c", script]);
        spec.network = NetworkMode::Join(network.create(id, lifetime).await.unwrap());
        spec.lifetime = lifetime;
        spec.labels.insert("pod".into(), id.into());
        spec.stdio = sandbox::Stdio::Log(LogFile { path: root.join(format!("{id}.log")), max_bytes: 1 << 20 });
        held.push(sandbox.start(spec).await.unwrap());
    }
    let active = sandbox.snapshots().prepare("unfinished", Some(BASE)).unwrap();
    fs::write(active.path().join("half"), "").unwrap();
    sandbox.snapshots().prepare("finished", Some(BASE)).unwrap().commit().unwrap();
    println!("\nREADY");
    std::future::pending::<()>().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kept_containers_outlive_a_killed_server_and_nothing_else_does() {
    if unable(true) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("root");
    let mut child = server(&root);
    assert!(matches!(Sandbox::open(config(&root, true)).await, Err(Error::InUse { .. })), "one process at a time");
    child.kill().unwrap();
    child.wait().unwrap();
    let log = root.join("pod.log");
    let lines = || fs::read_to_string(&log).unwrap().lines().count();
    let before = lines();
    let ended = root.join("containers/ends/exit.json");
    for _ in 0..6000 {
        if lines() > before && ended.exists() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(lines() > before, "its log goes on without a server");
    assert!(ended.exists(), "how one ended is written down without a server");

    let sandbox = Sandbox::open(config(&root, true)).await.unwrap();
    let network = sandbox.network().await.unwrap().clone();
    let found = sandbox.list().unwrap();
    let ids: Vec<(&str, bool)> = found.iter().map(|c| (c.id.as_str(), c.exit.is_none())).collect();
    assert_eq!(ids, [("ends", false), ("pod", true)], "the step is gone");
    assert_eq!(found[1].labels["pod"], "pod");
    assert_eq!(found[0].exit.unwrap().status, Status::Code(9));
    assert_eq!(network.list(), ["ends", "pod"]);
    let netns = network.adopt("pod").unwrap();
    assert!(network.pods().contains(netns.ip()));
    let s = sandbox.snapshots();
    assert!(s.has("finished") && !s.has("unfinished"));
    assert!(s.adopt("step").is_none() && s.adopt("ends").is_none(), "views without a running container are gone");
    assert!(s.adopt("pod").is_some_and(|mut view| {
        view.keep();
        view.path().join("etc/passwd").exists()
    }));

    let pod = sandbox.adopt("pod").await.unwrap().unwrap();
    assert!(pod.exit().is_none() && pod.usage().unwrap().memory.is_some());
    let argv = ["sh", "-c", "hostname; ls /sys/class/net"].map(Into::into).to_vec();
    let mut exec = pod.exec(ExecSpec { argv, ..ExecSpec::default() }).await.unwrap();
    let mut text = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut exec.take_stdout().unwrap(), &mut text).await.unwrap();
    assert_eq!(text, "pod\neth0\nlo\n");
    let waiting = tokio::spawn({
        let pod = pod.clone();
        async move { pod.wait().await }
    });
    pod.signal(libc::SIGKILL).unwrap();
    let exit = tokio::time::timeout(Duration::from_secs(10), waiting).await.unwrap().unwrap();
    assert_eq!(exit.status, Status::Signal(9));
    let count = lines();
    let text = fs::read_to_string(&log).unwrap();
    let numbers: Vec<usize> = text.lines().map(|l| l.rsplit(' ').next().unwrap().parse().unwrap()).collect();
    assert_eq!(numbers, (0..count).collect::<Vec<_>>(), "no line is lost or doubled");
    pod.remove().await.unwrap();
    assert_eq!(sandbox.list().unwrap().len(), 1);
    sandbox.shutdown().await.unwrap();
    assert_eq!(sandbox::leftovers(&root, "test"), Vec::<String>::new());
    assert!(matches!(sandbox.list(), Err(Error::Closed)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_the_instant_the_next_start_is_clean() {
    if unable(true) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("root");
    for round in 0..6u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_server_that_is_killed", "--ignored", "--nocapture"])
            .env("SANDBOX_TEST_ROOT", &root)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        tokio::time::sleep(Duration::from_millis(20 + round * 35)).await;
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let sandbox = Sandbox::open(config(&root, true)).await.unwrap();
    for found in sandbox.list().unwrap() {
        sandbox.adopt(&found.id).await.unwrap().unwrap().remove().await.unwrap();
    }
    fill(&sandbox);
    let view = sandbox.snapshots().view("after", BASE, true).unwrap();
    let container = sandbox.start(ContainerSpec::new("after", view.path(), ["echo", "alive"])).await.unwrap();
    assert_eq!(support::said(&container).await.out, "alive\n");
    drop(container);
    drop(view);
    sandbox.shutdown().await.unwrap();
    assert_eq!(sandbox::leftovers(&root, "test"), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_monitor_takes_its_container_along() {
    support::with(false, |f| async move {
        let mut spec = f.shell("orphan", "sleep 1000");
        spec.lifetime = Lifetime::Kept;
        let container = f.sandbox.start(spec).await.unwrap();
        let status = fs::read_to_string(format!("/proc/{}/status", container.pid())).unwrap();
        let monitor: i32 = status.lines().find_map(|l| l.strip_prefix("PPid:")).unwrap().trim().parse().unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(monitor), nix::sys::signal::Signal::SIGKILL).unwrap();
        let exit = tokio::time::timeout(Duration::from_secs(60), container.wait()).await.unwrap();
        assert_eq!((exit.status, exit.code()), (Status::Lost, 137));
        for _ in 0..6000 {
            if !fs::exists(format!("/proc/{}", container.pid())).unwrap() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(!fs::exists(format!("/proc/{}", container.pid())).unwrap());
        assert_eq!(f.sandbox.list().unwrap()[0].exit.unwrap().status, Status::Lost);
        container.remove().await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_live_side_by_side() {
    if unable(true) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let roots = ["a", "b", "c"].map(|name| directory.path().join(name));
    let opened = futures::future::join_all(roots.iter().map(|root| Sandbox::open(config(root, true)))).await;
    let sandboxes: Vec<Sandbox> = opened.into_iter().map(Result::unwrap).collect();
    for (n, one) in sandboxes.iter().enumerate() {
        for two in &sandboxes[n + 1..] {
            let (one, two) = (one.network().await.unwrap(), two.network().await.unwrap());
            assert!(!one.pods().overlaps(&two.pods()) && !one.services().overlaps(&two.services()));
            assert_ne!(one.bridge(), two.bridge());
        }
    }
    sandboxes[0].shutdown().await.unwrap();
    fill(&sandboxes[1]);
    let view = sandboxes[1].snapshots().view("v", BASE, true).unwrap();
    let container = sandboxes[1].start(ContainerSpec::new("v", view.path(), ["echo", "still here"])).await.unwrap();
    assert_eq!(support::said(&container).await.out, "still here\n");
    container.remove().await.unwrap();
    drop(view);
    for sandbox in &sandboxes[1..] {
        sandbox.shutdown().await.unwrap();
    }
    for root in &roots {
        assert_eq!(sandbox::leftovers(root, "test"), Vec::<String>::new());
    }
}

/// Not a test: runs in a mount namespace where cgroups are version 2 alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore]
async fn on_a_host_with_cgroups_of_version_2_alone() {
    if std::env::var_os("SANDBOX_TEST_V2").is_none() {
        return;
    }
    support::with(false, |f| async move {
        let said = f.run(f.shell("v2", "cat /proc/self/cgroup; grep -c cgroup2 /proc/self/mounts")).await;
        assert!(said.out.ends_with("0::/\n1\n"), "a namespace of its own, and its file system: {said:?}");
        let container = f.sandbox.start(f.shell("exec", "sleep 100")).await.unwrap();
        let groups = fs::read_to_string(format!("/proc/{}/cgroup", container.pid())).unwrap();
        assert!(groups.lines().any(|l| l.starts_with("0::/shipway-") && l.ends_with("/exec")), "{groups}");
        let argv = ["cat", "/proc/self/cgroup"].map(Into::into).to_vec();
        let exec = container.exec(ExecSpec { argv, ..ExecSpec::default() }).await.unwrap();
        assert_eq!(exec.wait().await.code(), 0);
        container.remove().await.unwrap();
    })
    .await;
    println!("\nDONE");
}

#[test]
fn cgroups_of_version_2_alone_will_do() {
    let script = "set -e; mount --make-rprivate /; umount -l /sys/fs/cgroup/* 2>/dev/null || true; umount -l /sys/fs/cgroup; \
                  mount -t cgroup2 none /sys/fs/cgroup; \
                  exec \"$0\" --exact on_a_host_with_cgroups_of_version_2_alone --ignored --nocapture";
    if unable(false) || Command::new("unshare").arg("--version").output().is_err() {
        eprintln!("SKIPPED: needs unshare(1)");
        return;
    }
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c", script])
        .arg(std::env::current_exe().unwrap())
        .env("SANDBOX_TEST_V2", "1")
        .output()
        .unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("DONE"), "{text}");
}
