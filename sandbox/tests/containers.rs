//! What runs in a container, and what it can and cannot do.

mod support;

use std::{fs, time::Duration};

use sandbox::{Error, Limits, Mount, MountKind, Seccomp, Status, Stdio};
use support::with;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

#[tokio::test]
async fn output_and_exit_codes_come_back() {
    with(false, |f| async move {
        let said = f.run(f.shell("a", "echo out; echo err >&2; exit 7")).await;
        assert_eq!((said.out.as_str(), said.err.as_str()), ("out\n", "err\n"));
        assert_eq!((said.exit.status, said.exit.code()), (Status::Code(7), 7));
        assert!(f.run(f.spec("b", &["true"])).await.exit.success());
        let said = f.run(f.shell("c", "kill -TERM $$; sleep 0.1; kill -KILL $$; echo here")).await;
        // The first process of a container has no default handlers: only the host could kill it.
        assert_eq!(said.out, "here\n");
    })
    .await;
}

#[tokio::test]
async fn the_environment_is_what_was_asked_for_and_nothing_of_ours() {
    with(false, |f| async move {
        let mut spec = f.shell("a", "pwd; hostname; cat /etc/hostname; env | grep -v ^_= ; cat /proc/1/comm");
        spec.env = vec![("GREETING".into(), "hello world".into())];
        spec.cwd = "/made/for/this".into();
        spec.hostname = Some("box".into());
        let said = f.run(spec).await;
        let lines: Vec<&str> = said.out.lines().collect();
        assert_eq!(&lines[..3], ["/made/for/this", "box", "box"]);
        let env: std::collections::BTreeSet<&str> = lines[3..].iter().copied().collect();
        for line in ["GREETING=hello world", "HOME=/root", "HOSTNAME=box", "sh"] {
            assert!(env.contains(line), "{line} in {env:?}");
        }
        assert!(!said.out.contains("CARGO"), "{}", said.out);
        assert_eq!(env.iter().filter(|l| l.contains('=')).count(), 5, "{env:?}");
    })
    .await;
}

#[tokio::test]
async fn users_are_looked_up_in_the_image() {
    with(false, |f| async move {
        for (n, (user, expected)) in [
            ("", "0 0 0 /root"),
            ("user", "1000 1001 1001 1002 /home/user"),
            ("user:extra", "1000 1002 1002 /home/user"),
            ("4242:17", "4242 17 17 /"),
        ]
        .into_iter()
        .enumerate()
        {
            let mut spec = f.shell(&format!("u{n}"), "echo $(id -u) $(id -g) $(id -G) $HOME");
            spec.user = user.into();
            let said = f.run(spec).await;
            assert_eq!(said.out.trim(), expected, "{said:?}");
        }
        let mut spec = f.shell("nobody", "true");
        spec.user = "nobody".into();
        let error = f.sandbox.start(spec).await.unwrap_err();
        assert!(matches!(&error, Error::Invalid(text) if text.contains("`nobody`")), "{error}");
        assert!(f.sandbox.list().unwrap().is_empty());
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_started_says_why() {
    with(false, |f| async move {
        for (n, (program, code, word)) in
            [("nonsense", 127, "PATH"), ("/bin/nonsense", 127, "no such file"), ("/etc/passwd", 126, "not executable")]
                .into_iter()
                .enumerate()
        {
            let error = f.sandbox.start(f.spec(&format!("p{n}"), &[program])).await.unwrap_err();
            match &error {
                Error::Program { code: c, reason, .. } => assert!(*c == code && reason.contains(word), "{error}"),
                _ => panic!("{error}"),
            }
        }
        fs::write(f.root.join("script"), "#!/bin/missing\n").unwrap();
        let mut spec = f.spec("script", &["/script"]);
        fs::copy(f.root.join("script"), spec.rootfs.join("script")).unwrap();
        std::os::unix::fs::chown(spec.rootfs.join("script"), Some(0), Some(0)).unwrap();
        fs::set_permissions(spec.rootfs.join("script"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        spec.cwd = "/".into();
        let error = f.sandbox.start(spec).await.unwrap_err();
        assert!(error.to_string().contains("interpreter"), "{error}");
        let mut spec = f.shell("mounts", "true");
        spec.mounts = vec![Mount { target: "/m".into(), kind: MountKind::Bind("/nowhere".into()), readonly: true }];
        let error = f.sandbox.start(spec).await.unwrap_err();
        assert!(error.to_string().contains("/nowhere"), "{error}");
        let container = f.sandbox.start(f.shell("twice", "sleep 100")).await.unwrap();
        let error = f.sandbox.start(sandbox::ContainerSpec::new("twice", "/", ["true"])).await.unwrap_err();
        assert!(matches!(error, Error::Exists { .. }), "{error}");
        container.remove().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn capabilities_are_few_and_gone_for_users() {
    with(false, |f| async move {
        let caps = |text: &str, key: &str| {
            text.lines().find_map(|l| u64::from_str_radix(l.strip_prefix(key)?.trim(), 16).ok()).unwrap()
        };
        let said = f.run(f.shell("root", "cat /proc/self/status")).await;
        assert_eq!(caps(&said.out, "CapEff:"), 0xa004_25fb & !(1 << 27), "{}", said.out);
        assert_eq!(caps(&said.out, "CapBnd:"), caps(&said.out, "CapEff:"));
        assert_eq!(caps(&said.out, "CapInh:"), 0);
        assert!(said.out.contains("Seccomp:\t2") && said.out.contains("NoNewPrivs:\t0"), "{}", said.out);
        let mut spec = f.shell("user", "cat /proc/self/status");
        spec.user = "user".into();
        spec.no_new_privs = true;
        let said = f.run(spec).await;
        assert_eq!((caps(&said.out, "CapEff:"), caps(&said.out, "CapPrm:")), (0, 0));
        assert!(said.out.contains("NoNewPrivs:\t1"));
        let mut spec = f.shell("none", "cat /proc/self/status; chown 5 /tmp");
        spec.capabilities = Vec::new();
        let said = f.run(spec).await;
        assert_eq!((caps(&said.out, "CapEff:"), caps(&said.out, "CapBnd:")), (0, 0));
        assert!(!said.exit.success() && said.err.contains("not permitted"));
        let mut spec = f.shell("wrong", "true");
        spec.capabilities = vec!["NONSENSE".into()];
        assert!(f.sandbox.start(spec).await.unwrap_err().to_string().contains("NONSENSE"));
    })
    .await;
}

#[tokio::test]
async fn seccomp_and_masks_keep_the_host_safe() {
    with(false, |f| async move {
        let script = "unshare -U true; unshare -m true; mount -t tmpfs x /tmp; cat /proc/kcore | head -c1 | wc -c; \
                      echo 1 > /proc/sys/kernel/panic; mknod /tmp/disk b 8 0; ls /sys/firmware | wc -l; echo $(cat /proc/keys | wc -c)";
        let said = f.run(f.shell("default", script)).await;
        assert_eq!(said.err.matches("unshare failed: Operation not permitted").count(), 2, "{said:?}");
        assert!(said.err.contains("mount") && said.err.contains("Read-only file system") && said.err.contains("mknod"), "{said:?}");
        assert_eq!(said.out.split_whitespace().collect::<Vec<_>>(), ["0", "0", "0"]);
        // Without the profile the same call reaches the kernel, which lets root of the machine make user namespaces.
        let mut spec = f.shell("open", "grep Seccomp: /proc/self/status; unshare -U true && echo made");
        spec.seccomp = Seccomp::Unconfined;
        let said = f.run(spec).await;
        assert!(said.out.contains("Seccomp:\t0") && said.out.contains("made"), "{said:?}");
    })
    .await;
}

#[tokio::test]
async fn memory_and_process_limits_hold() {
    with(false, |f| async move {
        let mut spec = f.shell("memory", "tail /dev/zero");
        spec.limits = Limits { memory: Some(32 << 20), ..Limits::default() };
        let said = f.run(spec).await;
        assert!(said.exit.out_of_memory, "{said:?}");
        assert_eq!(said.exit.code(), 137);
        let mut spec = f.shell("pids", "for i in 1 2 3 4 5 6 7 8; do sleep 5 & done; echo never");
        spec.limits = Limits { pids: Some(4), ..Limits::default() };
        let said = f.run(spec).await;
        assert!(said.err.to_lowercase().contains("fork"), "{said:?}");
        assert!(!said.exit.out_of_memory && !said.exit.success());
        let mut spec = f.shell("cpu", "sleep 100");
        spec.limits =
            Limits { cpu_millis: Some(500), cpu_request_millis: Some(250), memory: Some(64 << 20), pids: Some(9) };
        let container = f.sandbox.start(spec).await.unwrap();
        let usage = container.usage().unwrap();
        assert!(
            usage.memory.is_some_and(|m| m < 64 << 20) && usage.cpu.is_some() && usage.processes.is_some_and(|n| n > 0)
        );
        container.remove().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn killing_takes_the_whole_tree() {
    with(false, |f| async move {
        let container = f
            .sandbox
            .start(f.shell("tree", "setsid sleep 4242 & (sleep 4243 &) ; echo ready; sleep 4244"))
            .await
            .unwrap();
        let mut lines = BufReader::new(container.take_stdout().unwrap()).lines();
        assert_eq!(lines.next_line().await.unwrap().unwrap(), "ready");
        let alive = || {
            fs::read_dir("/proc")
                .unwrap()
                .filter_map(|e| fs::read(e.unwrap().path().join("cmdline")).ok())
                .filter(|c| c.starts_with(b"sleep\x00424"))
                .count()
        };
        while alive() < 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let exit = container.kill().await.unwrap();
        assert_eq!((exit.status, exit.code()), (Status::Signal(9), 137));
        assert_eq!(alive(), 0);
        assert_eq!(container.wait().await, exit);
        assert!(exit.time().unwrap() >= container.started());
        container.remove().await.unwrap();
        assert!(f.sandbox.adopt("tree").await.unwrap().is_none());
    })
    .await;
}

#[tokio::test]
async fn stopping_is_polite_first() {
    with(false, |f| async move {
        let polite = f
            .sandbox
            .start(f.shell("polite", "trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done"))
            .await
            .unwrap();
        let mut out = polite.take_stdout().unwrap();
        out.read_exact(&mut [0; 6]).await.unwrap();
        assert_eq!(polite.stop(libc::SIGTERM, Duration::from_secs(20)).await.unwrap().status, Status::Code(3));
        polite.remove().await.unwrap();
        let deaf = f.sandbox.start(f.shell("deaf", "trap '' TERM; sleep 100")).await.unwrap();
        let exit = deaf.stop(libc::SIGTERM, Duration::from_millis(100)).await.unwrap();
        assert_eq!(exit.status, Status::Signal(9));
        deaf.remove().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn dropping_the_last_handle_ends_it() {
    with(false, |f| async move {
        let container = f.sandbox.start(f.shell("dropped", "sleep 100")).await.unwrap();
        let pid = container.pid();
        let clone = container.clone();
        drop(container);
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(fs::exists(format!("/proc/{pid}")).unwrap());
        drop(clone);
        for _ in 0..6000 {
            if f.sandbox.list().unwrap().is_empty() && !f.root.join("containers/dropped").exists() {
                assert!(!fs::exists(format!("/proc/{pid}")).unwrap());
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it is still there");
    })
    .await;
}

#[tokio::test]
async fn standard_input_is_a_pipe_where_asked_for() {
    with(false, |f| async move {
        let mut spec = f.shell("in", "cat; echo end");
        spec.stdin = true;
        let container = f.sandbox.start(spec).await.unwrap();
        let mut stdin = container.take_stdin().unwrap();
        stdin.write_all(b"hello\n").await.unwrap();
        drop(stdin);
        assert_eq!(support::said(&container).await.out, "hello\nend\n");
        container.remove().await.unwrap();
        assert_eq!(f.run(f.shell("null", "cat; echo end")).await.out, "end\n");
    })
    .await;
}

#[tokio::test]
async fn mounts_are_seen_and_their_targets_unmade() {
    with(false, |f| async move {
        let host = f.root.join("host");
        fs::create_dir_all(host.join("sub")).unwrap();
        fs::write(host.join("file"), "from the host").unwrap();
        let mount = |target: &str, kind, readonly| Mount { target: target.into(), kind, readonly };
        let mut spec = f.shell(
            "mounts",
            "cat /data/file; echo; cat /one; echo; echo x > /data/new; echo y > /ro/new; echo z > /mem/f && cat /mem/f; stat -f -c %T /mem",
        );
        spec.mounts = vec![
            mount("/data", MountKind::Bind(host.clone()), false),
            mount("/ro", MountKind::Bind(host.join("sub")), true),
            mount("/one", MountKind::Bind(host.join("file")), true),
            mount("/mem", MountKind::Tmpfs { size: Some(1 << 20), mode: Some(0o755) }, false),
        ];
        let rootfs = spec.rootfs.clone();
        let said = f.run(spec).await;
        assert_eq!(said.out, "from the host\nfrom the host\nz\ntmpfs\n", "{said:?}");
        assert!(said.err.contains("Read-only"), "{said:?}");
        assert_eq!(fs::read_to_string(host.join("new")).unwrap(), "x\n");
        for stub in ["data", "ro", "one", "mem", "etc/hosts", "etc/resolv.conf", "etc/hostname"] {
            assert!(!rootfs.join(stub).exists(), "{stub}");
        }
        assert!(rootfs.join("etc/passwd").exists() && rootfs.join("proc").exists());
    })
    .await;
}

#[tokio::test]
async fn a_read_only_root_still_has_its_mounts() {
    with(false, |f| async move {
        let mut spec = f.shell("ro", "touch /x; touch /tmp/y && echo tmp; echo z > /etc/hosts && echo hosts");
        spec.readonly_rootfs = true;
        spec.mounts =
            vec![Mount { target: "/tmp".into(), kind: MountKind::Tmpfs { size: None, mode: None }, readonly: false }];
        let said = f.run(spec).await;
        assert!(said.err.contains("Read-only") && said.out == "tmp\nhosts\n", "{said:?}");
    })
    .await;
}

#[tokio::test]
async fn programs_are_run_in_a_running_container() {
    with(false, |f| async move {
        let mut spec = f.shell("host", "echo $$ > /tmp/pid; sleep 1000");
        spec.env = vec![("COLOUR".into(), "blue".into()), ("SECRET".into(), "s3cret".into())];
        spec.cwd = "/tmp".into();
        let container = f.sandbox.start(spec).await.unwrap();
        let exec = |argv: &[&str]| sandbox::ExecSpec {
            argv: argv.iter().map(|a| (*a).into()).collect(),
            ..Default::default()
        };
        let run = |spec| async {
            let mut exec = container.exec(spec).await.unwrap();
            let (mut out, mut err) = (String::new(), String::new());
            exec.take_stdout().unwrap().read_to_string(&mut out).await.unwrap();
            exec.take_stderr().unwrap().read_to_string(&mut err).await.unwrap();
            (out, err, exec.wait().await.code())
        };
        let script =
            "echo $COLOUR $SHAPE; pwd; id -u; hostname; cat /proc/1/comm; grep Seccomp: /proc/self/status; exit 4";
        let mut spec = exec(&["sh", "-c", script]);
        spec.env = vec![("SHAPE".into(), "round".into())];
        let (out, err, code) = run(spec).await;
        assert_eq!(out, "blue round\n/tmp\n0\nhost\nsh\nSeccomp:\t2\n", "{err}");
        assert_eq!(code, 4);
        let mut spec = exec(&["sh", "-c", "id -u; echo $HOME; pwd; unshare -U true"]);
        (spec.user, spec.cwd) = (Some("user".into()), Some("/home/user".into()));
        let (out, err, _) = run(spec).await;
        assert_eq!(out, "1000\n/home/user\n/home/user\n");
        assert!(err.contains("Operation not permitted"), "{err}");
        let mut spec = exec(&["cat"]);
        spec.stdin = true;
        let mut cat = container.exec(spec).await.unwrap();
        let mut stdin = cat.take_stdin().unwrap();
        stdin.write_all(b"through").await.unwrap();
        drop(stdin);
        let mut out = String::new();
        cat.take_stdout().unwrap().read_to_string(&mut out).await.unwrap();
        assert_eq!((out.as_str(), cat.wait().await.code()), ("through", 0));
        let error = container.exec(exec(&["nonsense"])).await.unwrap_err();
        assert!(matches!(error, Error::Program { code: 127, .. }), "{error}");
        // A dropped exec is killed; the container is not.
        let sleeping = container.exec(exec(&["sleep", "5151"])).await.unwrap();
        let pid = sleeping.pid();
        drop(sleeping);
        for _ in 0..6000 {
            if !fs::exists(format!("/proc/{pid}")).unwrap() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(!fs::exists(format!("/proc/{pid}")).unwrap());
        assert!(container.exit().is_none());
        // Nothing secret lies in the container's directory.
        for entry in
            walkdir::WalkDir::new(f.root.join("containers")).into_iter().flatten().filter(|e| e.file_type().is_file())
        {
            let text = fs::read(entry.path()).unwrap();
            assert!(!text.windows(6).any(|w| w == b"s3cret"), "{}", entry.path().display());
        }
        let beside: Vec<_> = fs::read_dir(f.root.join("containers/host/runtime")).unwrap().collect();
        assert!(beside.len() <= 3, "an exec leaves nothing: {beside:?}");
        container.kill().await.unwrap();
        assert!(container.exec(exec(&["true"])).await.unwrap_err().to_string().contains("has ended"));
        container.remove().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn terminals_work_for_containers_and_execs() {
    with(false, |f| async move {
        let mut spec = f.shell("tty", "tty; stty size; echo $TERM; read line; echo got $line");
        spec.terminal = true;
        let container = f.sandbox.start(spec).await.unwrap();
        let terminal = container.take_terminal().unwrap();
        terminal.resize(100, 40).unwrap();
        let (mut reader, mut writer) = (terminal.try_clone().unwrap(), terminal);
        writer.write_all(b"hello\n").await.unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).await.unwrap();
        assert!(text.contains("/dev/") && text.contains("xterm\r\n") && text.contains("got hello\r\n"), "{text}");
        assert_eq!(container.wait().await.code(), 0);
        container.remove().await.unwrap();

        let container = f.sandbox.start(f.shell("host", "sleep 1000")).await.unwrap();
        let spec = sandbox::ExecSpec {
            argv: ["sh", "-c", "test -t 0 && read go; stty size; exit 5"].map(Into::into).to_vec(),
            terminal: true,
            ..Default::default()
        };
        let mut exec = container.exec(spec).await.unwrap();
        let mut terminal = exec.take_terminal().unwrap();
        terminal.resize(120, 33).unwrap();
        terminal.write_all(b"go\n").await.unwrap();
        let mut text = String::new();
        terminal.read_to_string(&mut text).await.unwrap();
        assert!(text.contains("33 120"), "{text}");
        assert_eq!(exec.wait().await.code(), 5);
        container.remove().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn logs_are_written_by_the_monitor() {
    with(false, |f| async move {
        let path = f.root.join("c.log");
        let mut spec = f.shell("logged", "echo one; echo two >&2; printf three");
        spec.stdio = Stdio::Log(sandbox::LogFile { path: path.clone(), max_bytes: 1 << 20 });
        let container = f.sandbox.start(spec).await.unwrap();
        assert!(container.take_stdout().is_none());
        container.wait().await;
        let text = fs::read_to_string(&path).unwrap();
        let mut entries: Vec<(bool, &[u8])> =
            text.lines().map(|l| sandbox::log::parse(l.as_bytes()).unwrap()).map(|e| (e.stderr, e.text)).collect();
        entries.sort();
        assert_eq!(entries, [(false, &b"one"[..]), (false, b"three"), (true, b"two")]);
        container.remove().await.unwrap();

        let mut spec = f.shell("tty", "echo on a terminal");
        spec.terminal = true;
        spec.stdio = Stdio::Log(sandbox::LogFile { path: path.clone(), max_bytes: 1 << 20 });
        let container = f.sandbox.start(spec).await.unwrap();
        container.wait().await;
        assert!(fs::read_to_string(&path).unwrap().contains("stdout F on a terminal"));
        container.remove().await.unwrap();

        let (out, err) = (f.root.join("out"), f.root.join("err"));
        let mut spec = f.shell("files", "echo one; echo two >&2");
        spec.stdio = Stdio::Files { stdout: out.clone(), stderr: err.clone() };
        let container = f.sandbox.start(spec).await.unwrap();
        container.wait().await;
        assert_eq!(
            (fs::read_to_string(out).unwrap(), fs::read_to_string(err).unwrap()),
            ("one\n".into(), "two\n".into())
        );
        container.remove().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn rlimits_and_sysctls_are_set() {
    with(false, |f| async move {
        let mut spec = f.shell("limits", "ulimit -n; cat /proc/sys/net/ipv4/tcp_fin_timeout");
        spec.rlimits = vec![sandbox::Rlimit { name: "NOFILE".into(), soft: 77, hard: 88 }];
        spec.sysctls.insert("net.ipv4.tcp_fin_timeout".into(), "17".into());
        assert_eq!(f.run(spec).await.out, "77\n17\n");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_start_at_once() {
    with(false, |f| async move {
        let all = (0..12).map(|n| {
            let f = f.clone();
            tokio::spawn(async move { f.run(f.shell(&format!("n{n}"), &format!("echo {n}"))).await.out })
        });
        let said = futures::future::join_all(all).await;
        for (n, text) in said.into_iter().enumerate() {
            assert_eq!(text.unwrap(), format!("{n}\n"));
        }
    })
    .await;
}
