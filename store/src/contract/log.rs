use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use crate::{Change, Expect, Kind, Log, Seq};

/// The whole suite, on an empty log.
pub async fn log(log: Arc<dyn Log>) {
    let log = &log;
    empty(log).await;
    versions(log).await;
    expectations(log).await;
    batches(log).await;
    deletion(log).await;
    listing(log).await;
    kinds(log).await;
    watching(log).await;
    concurrent(log).await;
    compaction(log).await;
    many(log).await;
    let kinds = log.kinds("").await.expect("kinds");
    assert!(kinds.is_sorted() && kinds.contains(&"v".to_owned()) && kinds.contains(&"many".to_owned()), "{kinds:?}");
    assert_eq!(log.kinds("man").await.expect("kinds"), ["many"]);
    assert!(log.kinds("none").await.expect("kinds").is_empty());
}

fn put(kind: &str, key: &str, value: impl Into<Bytes>, expect: Expect) -> Change {
    Change { kind: kind.into(), key: key.into(), expect, value: value.into(), delete: false }
}

fn delete(kind: &str, key: &str, expect: Expect) -> Change {
    Change { kind: kind.into(), key: key.into(), expect, value: Bytes::from_static(b"last"), delete: true }
}

async fn append(log: &Arc<dyn Log>, change: Change) -> Seq {
    log.append(vec![change]).await.expect("an append that nothing stands against")
}

fn head(log: &Arc<dyn Log>) -> Seq {
    *log.head().borrow()
}

async fn refused(log: &Arc<dyn Log>, changes: Vec<Change>) {
    let before = head(log);
    let error = log.append(changes).await.expect_err("a conflict");
    assert_eq!(error.kind, Kind::Conflict, "{error}");
    assert_eq!(head(log), before, "a conflict changes nothing");
}

async fn empty(log: &Arc<dyn Log>) {
    assert_eq!(head(log), 0);
    assert_eq!(log.append(vec![]).await.unwrap(), 0);
    assert_eq!(log.get("none", "none").await.unwrap(), None);
    let page = log.list("none", "", None, 10).await.unwrap();
    assert!(page.entries.is_empty() && page.at == 0 && !page.more);
    assert!(log.changes("", 0, 10).await.unwrap().is_empty());
}

async fn versions(log: &Arc<dyn Log>) {
    let first = append(log, put("v", "a", "1", Expect::Absent)).await;
    let second = append(log, put("v", "a", vec![0, 255, 10], Expect::Version(first))).await;
    assert!(second > first, "versions grow");
    let entry = log.get("v", "a").await.unwrap().unwrap();
    assert_eq!((entry.seq, entry.created, entry.deleted), (second, first, false));
    assert_eq!((entry.kind.as_str(), entry.key.as_str(), &entry.value[..]), ("v", "a", &[0, 255, 10][..]));
    let empty = append(log, put("v", "", "", Expect::Any)).await;
    assert_eq!(log.get("v", "").await.unwrap().unwrap().seq, empty, "an empty key is a key");
    let changes = log.changes("v", 0, 10).await.unwrap();
    assert_eq!(changes.iter().map(|e| e.seq).collect::<Vec<_>>(), [first, second, empty], "all versions, oldest first");
    assert_eq!(changes[0].value, "1");
}

async fn expectations(log: &Arc<dyn Log>) {
    let seq = append(log, put("e", "a", "1", Expect::Absent)).await;
    refused(log, vec![put("e", "a", "2", Expect::Absent)]).await;
    refused(log, vec![put("e", "a", "2", Expect::Version(seq + 1))]).await;
    refused(log, vec![put("e", "b", "2", Expect::Present)]).await;
    refused(log, vec![put("e", "b", "2", Expect::Version(seq))]).await;
    refused(log, vec![delete("e", "b", Expect::Present)]).await;
    append(log, put("e", "a", "2", Expect::Present)).await;
    refused(log, vec![delete("e", "a", Expect::Version(seq))]).await;
    append(log, put("e", "a", "3", Expect::Any)).await;
    let error = log.append(vec![put("e", "a", "x", Expect::Version(seq))]).await.unwrap_err();
    assert!(error.message.contains("e a"), "the message names the entry: {error}");
}

async fn batches(log: &Arc<dyn Log>) {
    let before = head(log);
    refused(log, vec![put("b", "a", "1", Expect::Absent), put("b", "b", "1", Expect::Present)]).await;
    assert_eq!(log.get("b", "a").await.unwrap(), None, "all or none");

    let last = log.append(vec![put("b", "a", "1", Expect::Absent), put("b", "b", "1", Expect::Absent)]).await.unwrap();
    assert_eq!(head(log), last);
    let seqs: Vec<_> = log.changes("b", before, 10).await.unwrap().iter().map(|e| (e.key.clone(), e.seq)).collect();
    assert_eq!(seqs, [("a".to_owned(), last - 1), ("b".to_owned(), last)], "a version each, in order");

    // Later changes of a batch see earlier ones.
    refused(log, vec![put("b", "c", "1", Expect::Absent), put("b", "c", "2", Expect::Absent)]).await;
    let twice = vec![
        put("b", "c", "1", Expect::Absent),
        put("b", "c", "2", Expect::Present),
        delete("b", "a", Expect::Present),
    ];
    let last = log.append(twice).await.unwrap();
    let entry = log.get("b", "c").await.unwrap().unwrap();
    assert_eq!((entry.seq, entry.created, &entry.value[..]), (last - 1, last - 2, &b"2"[..]));
    assert_eq!(log.get("b", "a").await.unwrap(), None);
}

async fn deletion(log: &Arc<dyn Log>) {
    let before = head(log);
    assert_eq!(append(log, delete("d", "a", Expect::Any)).await, before, "deleting nothing changes nothing");
    assert!(log.changes("d", 0, 10).await.unwrap().is_empty());

    let made = append(log, put("d", "a", "1", Expect::Absent)).await;
    let gone = append(log, delete("d", "a", Expect::Version(made))).await;
    assert_eq!(log.get("d", "a").await.unwrap(), None);
    assert!(log.list("d", "", None, 10).await.unwrap().entries.is_empty());
    let changes = log.changes("d", made, 10).await.unwrap();
    assert_eq!(changes.len(), 1);
    let last = &changes[0];
    assert_eq!((last.seq, last.created, last.deleted, &last.value[..]), (gone, made, true, &b"last"[..]));

    let again = append(log, put("d", "a", "2", Expect::Absent)).await;
    assert_eq!(log.get("d", "a").await.unwrap().unwrap().created, again, "a new life");
    append(log, delete("d", "a", Expect::Any)).await;
}

async fn listing(log: &Arc<dyn Log>) {
    for key in ["a/1", "a/10", "a/2", "a", "b/1", "ä/1", "a\u{10FFFF}"] {
        append(log, put("l", key, key.to_owned(), Expect::Absent)).await;
    }
    append(log, put("l2", "a/3", "", Expect::Absent)).await;
    append(log, put("l", "a/2", "changed", Expect::Present)).await;
    let keys = async |prefix: &str, after: Option<&str>, limit| {
        let page = log.list("l", prefix, after, limit).await.unwrap();
        assert_eq!(page.at, head(log));
        (page.entries.iter().map(|e| e.key.clone()).collect::<Vec<_>>(), page.more)
    };
    let all = ["a", "a/1", "a/10", "a/2", "a\u{10FFFF}", "b/1", "ä/1"].map(str::to_owned);
    assert_eq!(keys("", None, 100).await, (all.to_vec(), false), "in the order of their bytes");
    assert_eq!(keys("", None, 7).await, (all.to_vec(), false), "exactly all");
    assert_eq!(keys("a/", None, 100).await, (all[1..4].to_vec(), false));
    assert_eq!(keys("a/", None, 2).await, (all[1..3].to_vec(), true));
    assert_eq!(keys("a/", Some("a/10"), 2).await, (all[3..4].to_vec(), false));
    assert_eq!(keys("a/", Some("a"), 1).await, (all[1..2].to_vec(), true), "an `after` in front of the prefix");
    assert_eq!(keys("a/", Some("b"), 9).await, (vec![], false), "an `after` behind the prefix");
    assert_eq!(keys("z", None, 9).await, (vec![], false));
    let page = log.list("l", "a/2", None, 9).await.unwrap();
    assert_eq!(page.entries[0].value, "changed");
}

async fn kinds(log: &Arc<dyn Log>) {
    let before = head(log);
    for (kind, key) in [("k/a", "1"), ("k/b", "1"), ("kx", "1"), ("k/a", "2"), ("j", "1")] {
        append(log, put(kind, key, "", Expect::Absent)).await;
    }
    let kinds = async |prefix: &str, after: Seq, limit| {
        let changes = log.changes(prefix, after, limit).await.unwrap();
        changes.iter().map(|e| format!("{} {}", e.kind, e.key)).collect::<Vec<_>>()
    };
    assert_eq!(kinds("k/", before, 9).await, ["k/a 1", "k/b 1", "k/a 2"], "of all kinds with the prefix, in one order");
    assert_eq!(kinds("k/a", before, 9).await, ["k/a 1", "k/a 2"]);
    assert_eq!(kinds("", before, 2).await, ["k/a 1", "k/b 1"]);
    assert_eq!(kinds("k/", before + 1, 1).await, ["k/b 1"]);
    assert!(kinds("k", head(log), 9).await.is_empty() && kinds("k", head(log) + 9, 9).await.is_empty());
}

async fn watching(log: &Arc<dyn Log>) {
    let mut watch = log.head();
    let before = *watch.borrow_and_update();
    let waiting = tokio::spawn(async move {
        watch.changed().await.unwrap();
        *watch.borrow_and_update()
    });
    tokio::task::yield_now().await;
    let seq = append(log, put("w", "a", "1", Expect::Any)).await;
    assert_eq!(waiting.await.unwrap(), seq);
    assert_eq!(log.changes("w", before, 9).await.unwrap().len(), 1, "what a watcher is woken for can be read");

    let mut watch = log.head();
    watch.borrow_and_update();
    refused(log, vec![put("w", "a", "1", Expect::Absent)]).await;
    assert!(!watch.has_changed().unwrap(), "a conflict wakes nobody");
}

/// Writers that race for one entry, and writers that do not, with a watcher that must see everything in order.
async fn concurrent(log: &Arc<dyn Log>) {
    const WRITERS: u64 = 8;
    const EACH: u64 = 25;
    let start = append(log, put("c", "counter", "0", Expect::Absent)).await;
    let watcher = tokio::spawn({
        let log = log.clone();
        async move {
            let (mut head, mut at, mut seen) = (log.head(), start, Vec::new());
            while seen.len() < (2 * WRITERS * EACH) as usize {
                head.wait_for(|head| *head > at).await.unwrap();
                for entry in log.changes("c", at, 7).await.unwrap() {
                    assert!(entry.seq > at, "in order, none twice");
                    at = entry.seq;
                    seen.push((entry.key, entry.value));
                }
            }
            seen
        }
    });
    let writers = (0..WRITERS).map(|writer| {
        let log = log.clone();
        tokio::spawn(async move {
            for i in 0..EACH {
                loop {
                    let found = log.get("c", "counter").await.unwrap().unwrap();
                    let count: u64 = std::str::from_utf8(&found.value).unwrap().parse().unwrap();
                    let own = put("c", &format!("{writer}/{i}"), "", Expect::Absent);
                    let next = put("c", "counter", (count + 1).to_string(), Expect::Version(found.seq));
                    match log.append(vec![own, next]).await {
                        Ok(_) => break,
                        Err(error) => assert_eq!(error.kind, Kind::Conflict, "{error}"),
                    }
                }
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let counter = log.get("c", "counter").await.unwrap().unwrap();
    assert_eq!(counter.value, (WRITERS * EACH).to_string(), "no update is lost, none is made twice");
    let seen = tokio::time::timeout(Duration::from_secs(60), watcher).await.expect("the watcher is woken").unwrap();
    let counts = seen.iter().filter(|(key, _)| key == "counter").map(|(_, value)| value.clone());
    assert!(counts.eq((1..=WRITERS * EACH).map(|n| Bytes::from(n.to_string()))), "every version, in order");
}

async fn compaction(log: &Arc<dyn Log>) {
    let start = head(log);
    let stays = append(log, put("gc/a", "stays", "1", Expect::Absent)).await;
    append(log, put("gc/a", "changes", "1", Expect::Absent)).await;
    append(log, put("gc/b", "goes", "1", Expect::Absent)).await;
    append(log, put("other", "x", "1", Expect::Absent)).await;
    let changed = append(log, put("gc/a", "changes", "2", Expect::Present)).await;
    let gone = append(log, delete("gc/b", "goes", Expect::Present)).await;
    append(log, put("other", "x", "2", Expect::Present)).await;
    let later = append(log, put("gc/a", "changes", "3", Expect::Present)).await;

    log.compact("gc/", gone).await.unwrap();
    for prefix in ["gc/", "gc/a", "gc/b", "g", ""] {
        let error = log.changes(prefix, start, 99).await.expect_err("some are no longer kept");
        assert_eq!(error.kind, Kind::Compacted, "{error}");
    }
    let seqs = async |prefix: &str, after| {
        log.changes(prefix, after, 99).await.unwrap().iter().map(|e| e.seq).collect::<Vec<_>>()
    };
    assert_eq!(seqs("gc/", gone).await, [later], "what is after it is still there");
    assert_eq!(seqs("other", start).await.len(), 2, "other kinds are untouched");
    for (key, seq) in [("stays", stays), ("changes", later)] {
        assert_eq!(log.get("gc/a", key).await.unwrap().unwrap().seq, seq, "live entries stay");
    }
    let page = log.list("gc/a", "", None, 9).await.unwrap();
    assert_eq!(page.entries.iter().map(|e| e.seq).collect::<Vec<_>>(), [later, stays]);

    log.compact("gc/", Seq::MAX).await.unwrap();
    assert_eq!(head(log), later, "compaction is no change");
    assert_eq!(seqs("gc/a", later - 1).await, [later]);
    assert!(log.changes("gc/a", changed - 1, 9).await.is_err(), "a superseded version between");
    let next = append(log, put("gc/b", "goes", "again", Expect::Absent)).await;
    assert_eq!(log.get("gc/b", "goes").await.unwrap().unwrap().created, next, "versions are never used again");

    // Deleting the newest entry and forgetting it must not set the head back.
    let last = append(log, delete("gc/b", "goes", Expect::Any)).await;
    log.compact("", Seq::MAX).await.unwrap();
    assert_eq!(log.list("gc/b", "", None, 9).await.unwrap().at, last);
    assert_eq!(append(log, put("gc/b", "goes", "", Expect::Absent)).await, last + 1);
}

/// More than is kept in memory.
async fn many(log: &Arc<dyn Log>) {
    let start = head(log);
    for batch in 0..60 {
        let changes = (0..100).map(|i| put("many", &format!("{batch:03}/{i:03}"), vec![b'x'; 1000], Expect::Absent));
        log.append(changes.collect()).await.unwrap();
    }
    let (mut at, mut count) = (start, 0);
    loop {
        let changes = log.changes("many", at, 997).await.unwrap();
        let Some(last) = changes.last() else { break };
        assert!(changes.is_sorted_by_key(|e| e.seq) && changes[0].seq > at);
        at = last.seq;
        count += changes.len();
    }
    assert_eq!(count, 6000);
    assert_eq!(log.changes("", start, 9).await.unwrap().len(), 9);
    let (mut after, mut count) = (None::<String>, 0);
    loop {
        let page = log.list("many", "", after.as_deref(), 997).await.unwrap();
        count += page.entries.len();
        after = page.entries.last().map(|e| e.key.clone());
        if !page.more {
            break;
        }
    }
    assert_eq!(count, 6000);
}
