//! The real `git` clones from and pushes to repositories that this crate serves, and its commits are found and read.

mod host;

use std::{sync::Arc, sync::atomic::Ordering, time::Duration};

use host::{Host, name, now};
use records::{Commit, Project};
use source::{EntryKind, Error, ExportFile, Limits, Service, Sources};
use store::{Expect, MemoryLog, Records};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn records() -> Records {
    Records::new(Arc::new(MemoryLog::new()))
}

async fn project(records: &Records, project: &str) {
    let project = Project { name: name(project), default_branch: "main".into(), created_at: now() };
    records.put(&project, Expect::Absent).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_becomes_a_commit_record() {
    let host = Host::start(Limits::default()).await;
    let records = records();
    let sources = Sources::new(host.repositories.clone(), records.clone());
    project(&records, "journal").await;
    assert!(sources.activate(now()).await.unwrap().recorded.is_empty());
    assert!(host.repositories.exists(&name("journal")), "the record makes the repository");

    let work = host.work("journal").await;
    host.git(&work, &["push", "-q", "origin", "main"]).await;
    assert_eq!(host.ended.load(Ordering::SeqCst), 1, "the end of a push is told");
    let recorded = sources.activate_project(&name("journal"), now()).await.unwrap();
    assert_eq!(recorded.len(), 1);
    let first = &recorded[0];
    assert_eq!((first.branch.as_str(), first.subject.as_str(), &first.parent), ("main", "First", &None));
    assert_eq!((first.author.name.as_str(), first.author.email.as_str()), ("Ada Lovelace", "ada@example.org"));
    assert_eq!(first.received_at, now());
    assert!(first.committed_at.as_second() > 1_700_000_000);
    assert!(sources.activate(now()).await.unwrap().recorded.is_empty(), "once");

    // Two commits in one push: the tip is what counts. Another branch has its own.
    host.commit(&work, &[("README", "second")], "Second").await;
    let third = host.commit(&work, &[("README", "third")], "Third: a \"quoted\" ünïcode\nsubject\n\nBody").await;
    host.git(&work, &["push", "-q", "origin", "main", "main~1:refs/heads/feature/x"]).await;
    let mut recorded = sources.activate(now()).await.unwrap().recorded;
    recorded.sort_by(|a, b| a.branch.cmp(&b.branch));
    let branches: Vec<_> = recorded.iter().map(|commit| (commit.branch.as_str(), commit.subject.as_str())).collect();
    assert_eq!(branches, [("feature/x", "Second"), ("main", "Third: a \"quoted\" ünïcode subject")]);
    assert_eq!(recorded[1].id, third);
    assert_eq!(records.list::<Commit>("journal/").await.unwrap().len(), 3);

    let journal = name("journal");
    let info = host.repositories.commit_info(&journal, &third).await.unwrap();
    assert_eq!(info.parent.as_ref(), Some(&recorded[0].id));

    let clone = host.path("clone");
    host.git(host.dir.path(), &["clone", "-q", &format!("{}/journal.git", host.url), "clone"]).await;
    assert_eq!(std::fs::read_to_string(clone.join("README")).unwrap(), "third");
    host.repositories.maintain(&journal).await.unwrap();
    for protocol in ["0", "1", "2"] {
        host.git(&clone, &["-c", &format!("protocol.version={protocol}"), "fetch", "-q", "origin"]).await;
    }
    host.repositories.remove(&journal).await.unwrap();
    assert!(host.repositories.list().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_at_a_commit() {
    let host = Host::start(Limits { tree_entries: 8, ..Limits::default() }).await;
    let journal = name("journal");
    host.repositories.create(&journal, "main").await.unwrap();
    let work = host.work("journal").await;
    std::os::unix::fs::symlink("real.yaml", work.join("link.yaml")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", work.join("passwd")).unwrap();
    std::fs::write(work.join("run.sh"), "#!/bin/sh\n").unwrap();
    std::os::unix::fs::symlink("../run.sh", work.join("outside")).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(work.join("run.sh"), mode).unwrap();
    let files = [("real.yaml", "steps: []\n"), ("deploy/a b.yaml", "a\n"), ("deploy/sub/ä.yaml", "")];
    let commit = host.commit(&work, &files, "Files").await;
    host.git(&work, &["push", "-q", "origin", "main"]).await;
    let repositories = &host.repositories;

    let read = async |path: &str| repositories.read_file(&journal, &commit, path, 100).await;
    assert_eq!(read("real.yaml").await.unwrap().unwrap(), b"steps: []\n");
    assert_eq!(read("./link.yaml").await.unwrap().unwrap(), b"steps: []\n", "links inside are followed");
    assert_eq!(read("deploy/sub/ä.yaml").await.unwrap().unwrap(), b"");
    for absent in ["absent", "deploy", "passwd", "outside", "deploy/a"] {
        assert_eq!(read(absent).await.unwrap(), None, "{absent}");
    }
    assert!(matches!(read("../x").await, Err(Error::Invalid(_))));
    assert!(matches!(repositories.read_file(&journal, &commit, "real.yaml", 9).await, Err(Error::TooLarge { .. })));

    let tree = repositories.tree(&journal, &commit, "").await.unwrap();
    let shown: Vec<_> = tree.iter().map(|e| (e.path.as_str(), e.mode, e.kind, e.size.unwrap())).collect();
    assert_eq!(shown[1], ("deploy/a b.yaml", 0o100644, EntryKind::File, 2));
    assert_eq!(shown[3], ("link.yaml", 0o120000, EntryKind::Link, 9));
    assert_eq!(shown.last().unwrap(), &("run.sh", 0o100755, EntryKind::File, 10));
    assert_eq!(tree.len(), 8);
    let below = repositories.tree(&journal, &commit, "deploy/").await.unwrap();
    assert_eq!(below.iter().map(|e| e.path.as_str()).collect::<Vec<_>>(), ["a b.yaml", "sub/ä.yaml"]);
    let blobs = repositories.read_blobs(&journal, below.iter().map(|e| e.id.clone()).collect(), 2).await.unwrap();
    assert_eq!(blobs, [b"a\n".to_vec(), vec![]]);
    let too_much = repositories.read_blobs(&journal, vec![below[0].id.clone(); 2], 3).await;
    assert!(matches!(too_much, Err(Error::TooLarge { limit: 3, .. })));
    assert!(matches!(repositories.tree(&journal, &commit, "absent").await, Err(Error::NotFound { .. })));
    let unknown = "0".repeat(40).parse().unwrap();
    for found in [
        repositories.tree(&journal, &unknown, "").await.err(),
        repositories.commit_info(&journal, &unknown).await.err(),
    ] {
        assert!(matches!(found, Some(Error::NotFound { .. })), "{found:?}");
    }
    assert!(matches!(repositories.tree(&name("none"), &commit, "").await, Err(Error::NoProject(_))));

    // Written to disk.
    let target = host.path("target");
    std::fs::create_dir(&target).unwrap();
    let export = |to: &str, i: usize| ExportFile {
        id: tree[i].id.clone(),
        to: to.into(),
        mode: tree[i].mode & 0o777,
        kind: tree[i].kind,
    };
    let all = tree.iter().enumerate().map(|(i, entry)| export(&entry.path, i)).collect();
    repositories.export(&journal, all, &target).await.unwrap();
    assert_eq!(std::fs::read_to_string(target.join("deploy/a b.yaml")).unwrap(), "a\n");
    assert_eq!(std::fs::read_link(target.join("passwd")).unwrap().to_str(), Some("/etc/passwd"));
    let mode = |path: &str| {
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(target.join(path)).unwrap().permissions())
    };
    assert_eq!((mode("run.sh") & 0o777, mode("real.yaml") & 0o777), (0o755, 0o644));

    // What would lead elsewhere.
    let clean = host.path("clean");
    std::fs::create_dir(&clean).unwrap();
    for to in ["../escaped", "/tmp/escaped", "a/../b", "", "a/", "./a"] {
        let refused = repositories.export(&journal, vec![export(to, 1)], &clean).await;
        assert!(matches!(refused, Err(Error::Invalid(_))), "{to}");
    }
    let through_link = vec![export("up", 4), export("up/escaped", 1)];
    assert!(repositories.export(&journal, through_link, &clean).await.is_err(), "a link is not in the way of a file");
    assert!(!clean.parent().unwrap().join("escaped").exists());
    assert!(std::fs::symlink_metadata(clean.join("up")).unwrap().is_dir());

    host.commit(&work, &[("one-more", "")], "Too many").await;
    host.git(&work, &["push", "-q", "origin", "main"]).await;
    let tip = &repositories.branches(&journal).await.unwrap()[0].commit.id;
    let error = repositories.tree(&journal, tip, "").await.unwrap_err().to_string();
    assert!(error.contains("more than 8 files"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_changes_nothing() {
    let host = Host::start(Limits { pack_bytes: 200_000, ..Limits::default() }).await;
    let journal = name("journal");
    host.repositories.create(&journal, "main").await.unwrap();
    assert!(matches!(host.repositories.create(&journal, "main").await, Err(Error::Exists(_))));
    let work = host.work("journal").await;

    let output = host.try_git(&work, &["push", &format!("{}/none.git", host.url), "main"]).await;
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("not found"));

    let noise: String = (0..60_000_u64).map(|i| format!("{:x}", i.wrapping_mul(0x9E37_79B9_7F4A_7C15))).collect();
    host.commit(&work, &[("large", &noise)], "Large").await;
    let output = host.try_git(&work, &["push", "origin", "main"]).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("exceeds maximum allowed size"), "{said}");
    assert!(host.repositories.branches(&journal).await.unwrap().is_empty());
    let chunked = ["-c", "http.postBuffer=65536", "push", "origin", "main"];
    let output = host.try_git(&work, &chunked).await;
    assert!(!output.status.success());
    assert!(host.repositories.branches(&journal).await.unwrap().is_empty());

    // A hook in the repository is never run.
    let hooks = host.path("git/journal.git/hooks");
    std::fs::create_dir_all(&hooks).unwrap();
    let ran = host.path("hook-ran");
    std::fs::write(hooks.join("post-receive"), format!("#!/bin/sh\ntouch {}\n", ran.display())).unwrap();
    std::fs::set_permissions(hooks.join("post-receive"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    host.git(&work, &["reset", "-q", "--hard", "HEAD~1"]).await;
    host.git(&work, &["push", "-q", "origin", "main"]).await;
    assert_eq!(host.repositories.branches(&journal).await.unwrap().len(), 1);
    assert!(!ran.exists());

    // An object that is not well-formed (a tree that names `.git`).
    let blob = host.git(&work, &["rev-parse", "HEAD:README"]).await;
    let id = (0..20).map(|i| u8::from_str_radix(&blob[2 * i..2 * i + 2], 16).unwrap());
    let tree: Vec<u8> = b"100644 .git\0".iter().copied().chain(id).collect();
    std::fs::write(host.path("tree"), tree).unwrap();
    let path = host.path("tree").display().to_string();
    let tree = host.git(&work, &["hash-object", "-t", "tree", "-w", "--literally", &path]).await;
    let commit = host.git(&work, &["commit-tree", "-m", "evil", tree.trim()]).await;
    let output = host.try_git(&work, &["push", "origin", &format!("{}:refs/heads/evil", commit.trim())]).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("hasDotgit"), "{said}");
    assert_eq!(host.repositories.branches(&journal).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn git_ends_when_the_client_goes_away() {
    let host = Host::start(Limits::default()).await;
    let journal = name("journal");
    host.repositories.create(&journal, "main").await.unwrap();
    let (mut client, body) = tokio::io::duplex(4096);
    let mut exchange = host.repositories.serve(&journal, Service::ReceivePack, body, None).await.unwrap();
    // A command without its pack.
    let line = format!("{} {} refs/heads/main\0report-status\n", "0".repeat(40), "1".repeat(40));
    client.write_all(format!("{:04x}{line}0000PACK", line.len() + 4).as_bytes()).await.unwrap();
    let waiting = tokio::time::timeout(Duration::from_millis(300), exchange.read_u8()).await;
    assert!(waiting.is_err(), "it waits for the rest");
    let running = || {
        let needle = host.path("git").display().to_string();
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        processes
            .filter(|p| std::fs::read_to_string(p.path().join("cmdline")).is_ok_and(|c| c.contains(&needle)))
            .count()
    };
    assert!(running() > 0);
    drop(exchange);
    for _ in 0..3000 {
        if running() == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(running(), 0);
    assert!(host.repositories.branches(&journal).await.unwrap().is_empty());
    let objects = std::fs::read_dir(host.path("git/journal.git/objects")).unwrap().flatten();
    let left = objects.filter(|entry| entry.file_name().to_string_lossy().starts_with("tmp")).count();
    assert_eq!(left, 0, "nothing half-written is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exchange_that_takes_too_long_is_ended() {
    let host =
        Host::start(Limits { exchange_time: Duration::from_millis(100), exchanges: 1, ..Limits::default() }).await;
    let journal = name("journal");
    host.repositories.create(&journal, "main").await.unwrap();
    let (_client, body) = tokio::io::duplex(4096);
    let mut exchange = host.repositories.serve(&journal, Service::ReceivePack, body, None).await.unwrap();
    let error = exchange.read_to_end(&mut Vec::new()).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    drop(exchange);
    let mut advertised = Vec::new();
    let mut exchange = host.repositories.advertise(&journal, Service::UploadPack, None).await.unwrap();
    exchange.read_to_end(&mut advertised).await.unwrap();
    assert!(advertised.starts_with(b"001e# service=git-upload-pack\n0000"));
}

/// A history with merges, as `git fast-import` takes it; `state` makes it random, and the same for the same seed.
fn history(commits: usize, mut state: u64) -> String {
    let mut next = |below: usize| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as usize % below
    };
    let mut stream = String::new();
    for mark in 1..=commits {
        let message = format!("Commit {mark}\nsecond line\n\nbody");
        let time = 1_700_000_000 + mark * 60;
        stream += &format!("commit refs/heads/main\nmark :{mark}\nauthor Ada  <a@b> {time} +0000\n");
        stream += &format!("committer C <c@d> {time} +0100\ndata {}\n{message}\n", message.len());
        if mark > 1 {
            let from = mark - 1 - next(3.min(mark - 1));
            stream += &format!("from :{from}\n");
            let other = 1 + next(mark - 1);
            if next(3) == 0 && other != from {
                stream += &format!("merge :{other}\n");
            }
        }
        for _ in 0..next(3) {
            let path = ["a/x", "b/x", "c/d/x", "top"][next(4)];
            let content = next(3).to_string();
            stream += &format!("M 100644 inline {path}\ndata {}\n{content}\n", content.len());
        }
        stream += "\n";
    }
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_read_here_is_what_git_says() {
    let host = Host::start(Limits::default()).await;
    let journal = name("journal");
    for seed in 0..4 {
        host.repositories.create(&journal, "main").await.unwrap();
        let repository = host.path("git/journal.git");
        let stream = host.path("stream");
        std::fs::write(&stream, history(60, seed)).unwrap();
        let git = |args: &[&str]| {
            let mut command = std::process::Command::new("git");
            command.args(args).env("GIT_DIR", &repository).stdin(std::fs::File::open(&stream).unwrap());
            let output = command.output().unwrap();
            assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        };
        // Loose objects half of the time, a pack the other half.
        git(&["-c", &format!("fastimport.unpackLimit={}", seed % 2 * 1000), "fast-import", "--quiet", "--force"]);
        let mut compared = 0;
        // From the oldest on, what was found for a parent helps; from the newest on, it does not.
        let order = if seed < 2 { "--reverse" } else { "--topo-order" };
        for id in git(&["rev-list", order, "main"]).lines() {
            let commit = id.parse().unwrap();
            let shown = git(&["log", "-1", "--format=%H%x00%an%x00%ae%x00%ct%x00%s", id]);
            let info = host.repositories.commit_info(&journal, &commit).await.unwrap();
            let said = [
                info.id.to_string(),
                info.author.name,
                info.author.email,
                info.committed_at.as_second().to_string(),
                info.subject,
            ];
            assert_eq!(said.join("\0"), shown.trim_end());
            for path in ["", "a", "c/d", "top"] {
                let changed = git(&["log", "-1", "--format=%H", id, "--", if path.is_empty() { "." } else { path }]);
                let found = host.repositories.last_change(&journal, &commit, path).await;
                match changed.trim() {
                    "" => assert!(matches!(found, Err(Error::NotFound { .. })), "seed {seed}, {id} {path}: {found:?}"),
                    changed => assert_eq!(found.unwrap().id.as_str(), changed, "seed {seed}, {id} {path}"),
                }
                compared += 1;
            }
            let entries = host.repositories.tree(&journal, &commit, "").await.unwrap();
            let listed: String = entries
                .iter()
                .map(|e| format!("{:06o} blob {} {:>7}\t{}\n", e.mode, e.id, e.size.unwrap(), e.path))
                .collect();
            assert_eq!(listed, git(&["ls-tree", "-r", "-l", id]));
        }
        assert!(compared > 40, "the history is too short to say anything");
        host.repositories.remove(&journal).await.unwrap();
    }
}
