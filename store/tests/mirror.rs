//! A mirror has what the log has, whatever happened in between.

use std::sync::Arc;

use records::{Project, Timestamp};
use store::{Change, Expect, Log, MemoryLog, Mirror, Records};

fn project(name: &str, branch: &str) -> Project {
    Project { name: name.parse().unwrap(), default_branch: branch.into(), created_at: Timestamp::UNIX_EPOCH }
}

fn shown(mirror: &Mirror<Project>) -> Vec<String> {
    mirror.all().map(|found| format!("{}:{}", found.record.name, found.record.default_branch)).collect()
}

#[tokio::test]
async fn it_follows_the_log() {
    let log = Arc::new(MemoryLog::new());
    let records = Records::new(log.clone());
    let mut mirror = Mirror::<Project>::new(records.clone());
    mirror.sync().await.unwrap();
    assert!(shown(&mirror).is_empty());

    records.put(&project("a", "main"), Expect::Absent).await.unwrap();
    records.put(&project("b", "main"), Expect::Absent).await.unwrap();
    // Kinds that only begin with the same letters are others.
    let other =
        Change { kind: "projects".into(), key: "c".into(), expect: Expect::Any, value: "?".into(), delete: false };
    log.append(vec![other]).await.unwrap();
    mirror.sync().await.unwrap();
    assert_eq!(shown(&mirror), ["a:main", "b:main"]);

    records.put(&project("a", "trunk"), Expect::Present).await.unwrap();
    let gone = Change { delete: true, ..Records::change(&project("b", "main"), Expect::Present).unwrap() };
    log.append(vec![gone]).await.unwrap();
    mirror.sync().await.unwrap();
    assert_eq!(shown(&mirror), ["a:trunk"]);
    assert_eq!(mirror.get("a").unwrap().seq, 4);

    // More than is read at a time, and a compaction in between.
    for i in 0..2500 {
        records.put(&project(&format!("p{i:04}"), "main"), Expect::Absent).await.unwrap();
    }
    records.put(&project("a", "main"), Expect::Present).await.unwrap();
    log.compact("", u64::MAX).await.unwrap();
    mirror.sync().await.unwrap();
    assert_eq!(mirror.all().count(), 2501);
    assert_eq!(mirror.get("a").unwrap().record.default_branch, "main");
    assert_eq!(mirror.starting_with("p00").count(), 100);
    assert_eq!(mirror.starting_with("p00").next_back().unwrap().record.name.as_str(), "p0099");

    let mut late = Mirror::<Project>::new(records);
    late.sync().await.unwrap();
    assert_eq!(shown(&late), shown(&mirror));
}
