//! The SQLite backend passes the contract, refuses what it must, and finds everything again.

use std::sync::Arc;

use bytes::Bytes;
use sqlx::{ConnectOptions, Connection, sqlite::SqliteConnectOptions};
use store::{Change, Expect, Kind, Log, SqliteLog};

fn put(key: &str, value: impl Into<Bytes>) -> Change {
    Change { kind: "run".into(), key: key.into(), expect: Expect::Any, value: value.into(), delete: false }
}

async fn kind_of_refusal(path: &std::path::Path) -> (Kind, String) {
    match SqliteLog::open(path).await {
        Ok(_) => panic!("{} must not open", path.display()),
        Err(error) => (error.kind, error.message),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn contract() {
    let dir = tempfile::tempdir().unwrap();
    store::contract::log(Arc::new(SqliteLog::open(dir.path().join("records.db")).await.unwrap())).await;
}

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("records.db");
    let log = SqliteLog::open(&path).await.unwrap();
    log.append(vec![put("a", "1"), put("b", "1")]).await.unwrap();
    log.append(vec![put("a", "2"), Change { delete: true, ..put("b", "gone") }]).await.unwrap();
    log.compact("run", 1).await.unwrap();
    log.close().await.unwrap();

    let log = SqliteLog::open(&path).await.unwrap();
    assert_eq!(*log.head().borrow(), 4);
    assert_eq!(log.get("run", "a").await.unwrap().unwrap().value, "2");
    assert_eq!(log.get("run", "b").await.unwrap(), None);
    assert_eq!(log.changes("run", 0, 9).await.unwrap_err().kind, Kind::Compacted, "what was forgotten stays forgotten");
    let seqs: Vec<_> = log.changes("run", 1, 9).await.unwrap().iter().map(|e| e.seq).collect();
    assert_eq!(seqs, [2, 3, 4]);
    log.compact("", u64::MAX).await.unwrap();
    log.close().await.unwrap();

    let log = SqliteLog::open(&path).await.unwrap();
    assert_eq!(log.append(vec![put("c", "")]).await.unwrap(), 5, "versions are not used again");
}

#[tokio::test]
async fn a_second_process_is_refused_and_told_who_has_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("records.db");
    let log = SqliteLog::open(&path).await.unwrap();
    let (kind, message) = kind_of_refusal(&path).await;
    assert_eq!(kind, Kind::Locked);
    assert!(message.contains(&format!("process {}", std::process::id())), "{message}");
    // One that is on its way out is waited for.
    let (opened, ()) = tokio::join!(SqliteLog::open(&path), async { drop(log) });
    opened.unwrap();
}

#[tokio::test]
async fn a_newer_file_is_refused_untouched() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("records.db");
    SqliteLog::open(&path).await.unwrap().close().await.unwrap();
    let mut raw = SqliteConnectOptions::new().filename(&path).connect().await.unwrap();
    sqlx::raw_sql("PRAGMA user_version = 2").execute(&mut raw).await.unwrap();
    raw.close().await.unwrap();
    let before = std::fs::read(&path).unwrap();
    let (kind, message) = kind_of_refusal(&path).await;
    assert_eq!(kind, Kind::Newer);
    assert!(message.contains("newer version of shipway") && message.contains("another data directory"), "{message}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn what_is_not_ours_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let noise = dir.path().join("noise.db");
    std::fs::write(&noise, "this is no database, and long enough to be sure of it".repeat(100)).unwrap();
    assert_eq!(kind_of_refusal(&noise).await.0, Kind::Corrupt);

    let foreign = dir.path().join("foreign.db");
    let mut raw = SqliteConnectOptions::new().filename(&foreign).create_if_missing(true).connect().await.unwrap();
    sqlx::raw_sql("CREATE TABLE theirs (x)").execute(&mut raw).await.unwrap();
    raw.close().await.unwrap();
    assert_eq!(kind_of_refusal(&foreign).await.0, Kind::Corrupt);

    assert_eq!(kind_of_refusal(&dir.path().join("absent/records.db")).await.0, Kind::Io);
}

/// Appends and blobs on a file system of 2 MiB. Runs itself again in a mount namespace of its own.
#[test]
fn a_full_disk_says_so_and_what_is_there_stays() {
    const NAME: &str = "a_full_disk_says_so_and_what_is_there_stays";
    let Some(dir) = std::env::var_os("STORE_TEST_SMALL_DISK") else {
        let dir = tempfile::tempdir().unwrap();
        let command = "mount -t tmpfs -o size=2m none \"$STORE_TEST_SMALL_DISK\" || exit 77; exec \"$0\" --exact \"$1\" --nocapture";
        let mut child = std::process::Command::new("unshare");
        child.args(["--mount", "sh", "-c", command]).arg(std::env::current_exe().unwrap()).arg(NAME);
        match child.env("STORE_TEST_SMALL_DISK", dir.path()).output() {
            Ok(output) if output.status.success() => {}
            Ok(output)
                if output.status.code() == Some(77) || String::from_utf8_lossy(&output.stderr).contains("unshare") =>
            {
                eprintln!("SKIPPED: mounting a small file system needs root");
            }
            Ok(output) => {
                panic!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
            }
            Err(error) => eprintln!("SKIPPED: cannot run unshare: {error}"),
        }
        return;
    };
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let dir = std::path::Path::new(&dir);
        let log = SqliteLog::open(dir.join("records.db")).await.unwrap();
        let blobs = store::DirectoryBlobs::open(dir.join("blobs")).await.unwrap();
        let small = store::blobs::put(&blobs, "small").await.unwrap();

        let error = store::blobs::put(&blobs, vec![1; 3 << 20]).await.unwrap_err();
        assert_eq!(error.kind, Kind::Full, "{error}");
        assert_eq!(std::fs::read_dir(dir.join("blobs/tmp")).unwrap().count(), 0, "nothing half-written is left");

        let mut stored = 0;
        let error = loop {
            match log.append(vec![put(&stored.to_string(), vec![b'x'; 50_000])]).await {
                Ok(_) => stored += 1,
                Err(error) => break error,
            }
            assert!(stored < 100, "2 MiB hold less");
        };
        assert_eq!(error.kind, Kind::Full, "{error} {:?}", error.source);
        assert!(error.message.contains("free some space"), "{error}");
        assert!(stored > 5);
        let page = log.list("run", "", None, 1000).await.unwrap();
        assert_eq!((page.entries.len(), page.at), (stored, stored as u64), "what was acknowledged, and no more");
        assert_eq!(store::blobs::get(&blobs, &small, 9).await.unwrap(), "small");

        // It goes on once there is space again.
        blobs_space(&log, dir, stored as u64).await;
        log.close().await.unwrap();
    });
}

async fn blobs_space(log: &SqliteLog, dir: &std::path::Path, stored: u64) {
    let status = std::process::Command::new("mount").args(["-o", "remount,size=8m"]).arg(dir).status().unwrap();
    assert!(status.success());
    assert_eq!(log.append(vec![put("later", "fits")]).await.unwrap(), stored + 1);
}
