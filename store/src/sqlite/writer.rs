//! The task that writes.

use std::{fs::File, sync::Arc};

use sqlx::{AssertSqlSafe, Connection, SqliteConnection};
use tokio::sync::{mpsc, oneshot};

use super::{
    Shared,
    batch::{self, Plan},
    failed, schema,
};
use crate::{Change, Entry, Error, Kind, Result, Seq};

/// What the writer is asked for.
pub(super) enum Job {
    Append {
        changes: Vec<Change>,
        reply: oneshot::Sender<Result<Seq>>,
    },
    /// Looks at some versions of `kind` after `from` and up to `upto`, and forgets those that are not live. Answers where to go on.
    Compact {
        kind: String,
        from: Seq,
        upto: Seq,
        reply: oneshot::Sender<Result<Option<Seq>>>,
    },
    /// The last one.
    Close {
        reply: oneshot::Sender<Result<()>>,
    },
}

/// Appends that share a transaction at most; also bounds how long the first of them waits for the others.
const GROUP: usize = 256;
/// Bytes after which a group takes no more appends.
const GROUP_BYTES: usize = 4 << 20;
/// Versions that one piece of a compaction looks at.
const PIECE: i64 = 1000;

pub(super) struct Writer {
    connection: SqliteConnection,
    shared: Arc<Shared>,
    head: Seq,
    /// Held until the last write is done.
    _lock: File,
}

type Appends = Vec<(Vec<Change>, oneshot::Sender<Result<Seq>>)>;

impl Writer {
    pub(super) fn new(connection: SqliteConnection, shared: Arc<Shared>, head: Seq, lock: File) -> Self {
        Self { connection, shared, head, _lock: lock }
    }

    pub(super) async fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        let mut next = queue.recv().await;
        let mut closed = None;
        while let Some(job) = next.take() {
            match job {
                Job::Compact { kind, from, upto, reply } => {
                    // The caller may have gone away; the work is done all the same.
                    let _ = reply.send(self.compact(&kind, from, upto).await);
                }
                Job::Append { changes, reply } => {
                    let mut bytes = weight(&changes);
                    let mut group = vec![(changes, reply)];
                    while group.len() < GROUP && bytes < GROUP_BYTES {
                        match queue.try_recv() {
                            Ok(Job::Append { changes, reply }) => {
                                bytes += weight(&changes);
                                group.push((changes, reply));
                            }
                            Ok(other) => {
                                next = Some(other);
                                break;
                            }
                            Err(_) => break,
                        }
                    }
                    self.append(group).await;
                }
                Job::Close { reply } => {
                    closed = Some(reply);
                    break;
                }
            }
            if next.is_none() {
                next = queue.recv().await;
            }
        }
        // Takes the write-ahead log into the file, whoever still reads; if that fails, the next opening does it.
        let taken = self.execute("PRAGMA wal_checkpoint(TRUNCATE)").await;
        let ended = self.connection.close().await.map_err(|e| failed(e, "cannot close the log"));
        let ended = taken.and(ended);
        if let Err(error) = &ended {
            tracing::warn!(%error, "the log was not closed cleanly; nothing is lost");
        }
        drop(self._lock);
        if let Some(closed) = closed {
            let _ = closed.send(ended);
        }
    }

    /// Writes a group of appends in one transaction. Each is all or nothing by itself, unless the disk fails.
    async fn append(&mut self, group: Appends) {
        let several = group.len() > 1;
        let error = match self.commit(&group).await {
            Ok((outcomes, written)) => {
                self.publish(written);
                for ((_, reply), outcome) in group.into_iter().zip(outcomes) {
                    let _ = reply.send(outcome);
                }
                return;
            }
            Err(error) => error,
        };
        if let Err(error) = self.recover().await {
            tracing::error!(%error, "cannot roll back");
        }
        if several {
            // One of them may be what does not fit; the others should not suffer for it.
            for append in group {
                Box::pin(self.append(vec![append])).await;
            }
        } else {
            tracing::error!(%error, cause = ?error.source, "cannot append to the log");
            for (_, reply) in group {
                let _ = reply.send(Err(error.clone()));
            }
        }
    }

    /// The outer result is the disk's, the inner ones are the appends' own. Each call of the connection is a way to its thread and back, so
    /// there are few of them, however large the group.
    async fn commit(&mut self, group: &Appends) -> Result<(Vec<Result<Seq>>, Vec<Entry>)> {
        let mut plan = Plan::new(self.head, group.iter().map(|(changes, _)| &changes[..]));
        plan.found = self.begin(&plan.places).await?;
        let outcomes = group.iter().map(|(changes, _)| plan.add(changes)).collect();
        let Plan { head, written, .. } = plan;
        let mut rest = &written[..];
        while !rest.is_empty() {
            let (some, others) = rest.split_at(batch::of_one_kind(rest));
            self.insert(some).await?;
            rest = others;
        }
        self.execute("COMMIT").await?;
        self.head = head;
        Ok((outcomes, written))
    }

    /// Begins a transaction and looks up what is live in these places.
    async fn begin(&mut self, places: &[(&str, &str)]) -> Result<Vec<Option<batch::Live>>> {
        let mut found = vec![None; places.len()];
        let mut begin = true;
        for (number, some) in places.chunks(batch::MOST).enumerate() {
            let mut query = sqlx::query_as::<_, (i64, i64, i64)>(AssertSqlSafe(batch::looking_up(some.len(), begin)));
            begin = false;
            for (kind, key) in some {
                query = query.bind(kind).bind(key);
            }
            let rows = query.fetch_all(&mut self.connection).await;
            for (place, seq, created) in rows.map_err(|e| failed(e, "cannot read the log"))? {
                let place = usize::try_from(place).unwrap_or(usize::MAX).saturating_add(number * batch::MOST);
                if let Some(slot) = found.get_mut(place) {
                    *slot = Some((seq as Seq, created as Seq));
                }
            }
        }
        if begin {
            self.execute("BEGIN IMMEDIATE").await?;
        }
        Ok(found)
    }

    /// Writes entries that are all alive or all deleted; of the latter one.
    async fn insert(&mut self, entries: &[Entry]) -> Result<()> {
        let Some(first) = entries.first() else { return Ok(()) };
        let query = if first.deleted { batch::DELETION.to_owned() } else { batch::insertion(entries.len()) };
        let mut query = sqlx::query(AssertSqlSafe(query));
        for entry in entries {
            query = query.bind(entry.seq as i64).bind(&entry.kind).bind(&entry.key).bind(entry.created as i64);
        }
        for entry in entries {
            query = query.bind(entry.value.to_vec());
        }
        let done = query.execute(&mut self.connection).await;
        done.map(|_| ()).map_err(|e| failed(e, format!("cannot write {} {}", first.kind, first.key)))
    }

    /// Shows what is durable to readers and wakes the watchers.
    fn publish(&mut self, written: Vec<Entry>) {
        if written.is_empty() {
            return;
        }
        let mut tail = self.shared.tail_mut();
        for entry in written {
            tail.push(entry);
        }
        drop(tail);
        self.shared.head.send_replace(self.head);
    }

    async fn compact(&mut self, kind: &str, from: Seq, upto: Seq) -> Result<Option<Seq>> {
        let doing = || format!("cannot compact {kind}");
        // A piece is so many versions of the kind, live or not.
        let query = "SELECT max(seq), count(*) FROM (SELECT seq FROM log WHERE kind = ?1 AND seq > ?2 AND seq <= ?3 ORDER BY seq LIMIT ?4)";
        let upto = i64::try_from(upto).unwrap_or(i64::MAX);
        let query = sqlx::query_as::<_, (Option<i64>, i64)>(query).bind(kind).bind(from as i64).bind(upto).bind(PIECE);
        let (last, count) = query.fetch_one(&mut self.connection).await.map_err(|e| failed(e, doing()))?;
        let Some(last) = last else { return Ok(None) };

        const DEAD: &str = "FROM log WHERE log.kind = ?1 AND log.seq > ?2 AND log.seq <= ?3
            AND NOT EXISTS (SELECT 1 FROM live WHERE live.kind = log.kind AND live.key = log.key AND live.seq = log.seq)";
        let query = AssertSqlSafe(format!("SELECT max(log.seq) {DEAD}"));
        let query = sqlx::query_scalar::<_, Option<i64>>(query).bind(kind).bind(from as i64).bind(last);
        if let Some(newest) = query.fetch_one(&mut self.connection).await.map_err(|e| failed(e, doing()))? {
            // Before it happens: a reader that misses something must find out afterwards.
            self.shared.tail_mut().forget(kind, newest as Seq);
            let forget = format!(
                "BEGIN IMMEDIATE; DELETE {DEAD};
                 INSERT INTO forgotten (kind, seq) VALUES (?1, ?4) ON CONFLICT (kind) DO UPDATE SET seq = max(seq, ?4); COMMIT"
            );
            let query = sqlx::query(AssertSqlSafe(forget)).bind(kind).bind(from as i64).bind(last).bind(newest);
            if let Err(error) = query.execute(&mut self.connection).await {
                self.recover().await?;
                return Err(failed(error, doing()));
            }
        }
        Ok((count == PIECE).then_some(last as Seq))
    }

    async fn execute(&mut self, statement: &'static str) -> Result<()> {
        let done = sqlx::query(statement).execute(&mut self.connection).await;
        done.map(|_| ()).map_err(|e| failed(e, "cannot write to the log"))
    }

    /// After a failure: out of the transaction, and on from what is really there.
    async fn recover(&mut self) -> Result<()> {
        // SQLite may have rolled back by itself already, and then says that there is no transaction.
        let _ = self.execute("ROLLBACK").await;
        let head = schema::head(&mut self.connection).await;
        self.head = head.map_err(|e| Error::new(Kind::Io, "cannot find the end of the log").caused(e))?;
        Ok(())
    }
}

fn weight(changes: &[Change]) -> usize {
    changes.iter().map(|change| change.value.len() + change.key.len() + change.kind.len()).sum()
}
