//! `kill -9` loses nothing that was acknowledged, and leaves nothing half done.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use store::{Blobs, Change, DirectoryBlobs, Expect, Log, SqliteLog};

const ROUNDS: u64 = 8;

/// The child: writes until it is killed, and says what it was told is stored.
#[test]
fn writes_until_killed() {
    let Some(dir) = std::env::var_os("STORE_TEST_CRASH") else { return };
    let round = std::env::var("STORE_TEST_ROUND").unwrap();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let dir = Path::new(&dir);
        let log = Arc::new(SqliteLog::open(dir.join("records.db")).await.unwrap());
        let blobs = DirectoryBlobs::open(dir.join("blobs")).await.unwrap();
        let tasks = (0..6).map(|task| {
            let (log, blobs, round) = (log.clone(), blobs.clone(), round.clone());
            tokio::spawn(async move {
                for i in 0.. {
                    let text = format!("{round}/{task}/{i}");
                    let change = |half: &str| Change {
                        kind: "pair".into(),
                        key: format!("{text}/{half}"),
                        expect: Expect::Absent,
                        value: text.clone().into(),
                        delete: false,
                    };
                    let seq = log.append(vec![change("a"), change("b")]).await.unwrap();
                    let content = text.repeat(if i % 7 == 0 { 60_000 } else { 1 });
                    let digest = store::blobs::put(&blobs, content).await.unwrap();
                    // One write call a line, so that no line is cut by the kill.
                    std::io::stdout().write_all(format!("stored {text} {seq} {digest}\n").as_bytes()).unwrap();
                }
            })
        });
        futures::future::join_all(tasks.collect::<Vec<_>>()).await;
    });
}

#[tokio::test]
async fn what_was_acknowledged_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = HashMap::new();
    // On a machine that is busy with other things the child may need longer to get to work.
    for round in 0..10 * ROUNDS {
        if round >= ROUNDS && acknowledged.len() > 20 {
            break;
        }
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "writes_until_killed", "--nocapture"])
            .env("STORE_TEST_CRASH", dir.path())
            .env("STORE_TEST_ROUND", round.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let reader = std::thread::spawn(move || {
            let words = |line: String| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
            let stored = lines.map_while(Result::ok).filter(|line| line.starts_with("stored ")).map(words);
            stored
                .map(|words| (words[1].clone(), (words[2].parse::<u64>().unwrap(), words[3].clone())))
                .collect::<Vec<_>>()
        });
        // Different instants of its work, from the opening on.
        std::thread::sleep(Duration::from_millis(30 + round * 67));
        child.kill().unwrap();
        child.wait().unwrap();
        acknowledged.extend(reader.join().unwrap());

        let log = SqliteLog::open(dir.path().join("records.db")).await.unwrap();
        let blobs = DirectoryBlobs::open(dir.path().join("blobs")).await.unwrap();
        for (text, (seq, digest)) in &acknowledged {
            let entry = log.get("pair", &format!("{text}/b")).await.unwrap().expect("an acknowledged append");
            assert_eq!((entry.seq, &entry.value[..]), (*seq, text.as_bytes()));
            assert!(blobs.size(&digest.parse().unwrap()).await.unwrap().is_some(), "an acknowledged blob");
        }
        let all = log.list("pair", "", None, 1_000_000).await.unwrap();
        assert!(all.entries.len() % 2 == 0, "no half of a batch");
        assert_eq!(all.at, all.entries.len() as u64, "no gap and no ghost");
        for digest in blobs.list().await.unwrap() {
            let content = store::blobs::get(&blobs, &digest, 10 << 20).await.unwrap();
            let sum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &content);
            assert_eq!(records::Digest::sha256(sum.as_ref().try_into().unwrap()), digest, "every blob is whole");
        }
        assert_eq!(std::fs::read_dir(dir.path().join("blobs/tmp")).unwrap().count(), 0, "strays are swept");
        log.close().await.unwrap();
    }
    assert!(acknowledged.len() > 20, "the child got to work: {}", acknowledged.len());
}
