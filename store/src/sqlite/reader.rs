//! Reading: a few connections, each used by one query at a time.

use std::path::{Path, PathBuf};

use sqlx::{AssertSqlSafe, Row, SqliteConnection, sqlite::SqliteRow};
use tokio::sync::{MappedMutexGuard, Mutex, MutexGuard, Semaphore, SemaphorePermit};

use super::{connect, failed, schema::HEAD};
use crate::{Entry, Error, Kind, Page, Result, Seq, expect::after_prefix};

/// Not sqlx's own pool: that one waits with a time limit, which a paused test clock lets pass at once.
pub(super) struct Readers {
    path: PathBuf,
    free: Semaphore,
    /// Opened when they are first needed: whoever reads one thing after the other needs one.
    connections: Vec<Mutex<Option<SqliteConnection>>>,
}

/// A connection, and the right to it.
struct Held<'a> {
    connection: MappedMutexGuard<'a, SqliteConnection>,
    _permit: SemaphorePermit<'a>,
}

const COLUMNS: &str = "log.seq, log.created, log.kind, log.key, log.value, log.deleted";

impl Readers {
    pub(super) fn new(path: &Path, count: usize) -> Self {
        let connections = (0..count).map(|_| Mutex::new(None)).collect();
        Self { path: path.to_owned(), free: Semaphore::new(count), connections }
    }

    async fn acquire(&self) -> Result<Held<'_>> {
        let stopped = || Error::new(Kind::Io, "the log is closed");
        let permit = self.free.acquire().await.map_err(|_| stopped())?;
        // A permit means that at least one is free, and those at the front are opened first; waiting for the first covers the instant
        // in which another gives its own back.
        let mut connection = match self.connections.iter().find_map(|connection| connection.try_lock().ok()) {
            Some(connection) => connection,
            None => self.connections.first().ok_or_else(stopped)?.lock().await,
        };
        if connection.is_none() {
            *connection = Some(connect(&self.path, None).await?);
        }
        let connection = MutexGuard::try_map(connection, Option::as_mut).map_err(|_| stopped())?;
        Ok(Held { connection, _permit: permit })
    }

    pub(super) async fn get(&self, kind: &str, key: &str) -> Result<Option<Entry>> {
        let query = "SELECT log.seq, log.created, log.kind, log.key, log.value, log.deleted
            FROM live JOIN log ON log.seq = live.seq WHERE live.kind = ?1 AND live.key = ?2";
        let mut held = self.acquire().await?;
        let row = sqlx::query(query).bind(kind).bind(key).fetch_optional(&mut *held.connection).await;
        drop(held);
        row.and_then(|row| row.map(|row| entry(&row)).transpose())
            .map_err(|e| failed(e, format!("cannot read {kind} {key}")))
    }

    pub(super) async fn list(&self, kind: &str, prefix: &str, after: Option<&str>, limit: usize) -> Result<Page> {
        let until = after_prefix(prefix);
        let query = listing(until.is_some());
        // The lower bound is one value, so that the index finds the start of a later page at once.
        let from = after.unwrap_or_default().max(prefix);
        let limit = limit.min(i64::MAX as usize - 1);
        let doing = || format!("cannot list {kind} {prefix}");
        let query = sqlx::query(AssertSqlSafe(query)).bind(kind).bind(from).bind(until).bind(after);
        let mut held = self.acquire().await?;
        let rows = query.bind(limit as i64 + 1).fetch_all(&mut *held.connection).await;
        drop(held);
        let rows = rows.map_err(|e| failed(e, doing()))?;
        let mut page = Page { entries: Vec::with_capacity(rows.len()), at: 0, more: rows.len() > limit };
        for row in &rows {
            let (at, found) = at_and_entry(row).map_err(|e| failed(e, doing()))?;
            page.at = at;
            page.entries.extend(found);
        }
        page.entries.truncate(limit);
        Ok(page)
    }

    /// Changes of exactly these kinds.
    pub(super) async fn changes(&self, kinds: &[String], after: Seq, limit: usize) -> Result<Vec<Entry>> {
        let limit = limit.min(i64::MAX as usize) as i64;
        let doing = "cannot read the changes of the log";
        if kinds.is_empty() {
            return Ok(Vec::new());
        }
        // Each kind's first changes by the index, then the first of those: the work is bounded by the limit, not by the log.
        let each = (0..kinds.len()).map(|i| {
            let kind = i + 3;
            format!("SELECT seq FROM (SELECT seq FROM log WHERE kind = ?{kind} AND seq > ?1 ORDER BY seq LIMIT ?2)")
        });
        let each = each.collect::<Vec<_>>().join(" UNION ALL ");
        let query = format!(
            "SELECT {COLUMNS} FROM (SELECT seq FROM ({each}) ORDER BY seq LIMIT ?2) AS found JOIN log ON log.seq = found.seq
             ORDER BY log.seq"
        );
        let mut query = sqlx::query(AssertSqlSafe(query)).bind(after as i64).bind(limit).persistent(false);
        for kind in kinds {
            query = query.bind(kind);
        }
        let mut held = self.acquire().await?;
        let rows = query.fetch_all(&mut *held.connection).await;
        drop(held);
        let rows = rows.map_err(|e| failed(e, doing))?;
        rows.iter().map(entry).collect::<sqlx::Result<_>>().map_err(|e| failed(e, doing))
    }
}

/// Lists a part of a kind: one statement, so that the entries and the head are of one moment. With an end the index is read as far as that
/// and no further, however much of the kind comes after it.
fn listing(ends: bool) -> String {
    let end = if ends { "key < ?3" } else { "?3 IS NULL" };
    format!(
        "SELECT head.seq AS at, {COLUMNS} FROM (SELECT {HEAD} AS seq) AS head LEFT JOIN (
            SELECT seq FROM live WHERE kind = ?1 AND key >= ?2 AND {end} AND (?4 IS NULL OR key > ?4) ORDER BY key LIMIT ?5
        ) AS found ON TRUE LEFT JOIN log ON log.seq = found.seq ORDER BY log.key"
    )
}

/// A row of a listing: the head, and an entry unless the listing is empty.
fn at_and_entry(row: &SqliteRow) -> sqlx::Result<(Seq, Option<Entry>)> {
    let found = row.try_get::<Option<i64>, _>(1)?.is_some();
    Ok((row.try_get::<i64, _>(0)? as Seq, found.then(|| entry_at(row, 1)).transpose()?))
}

fn entry(row: &SqliteRow) -> sqlx::Result<Entry> {
    entry_at(row, 0)
}

fn entry_at(row: &SqliteRow, first: usize) -> sqlx::Result<Entry> {
    Ok(Entry {
        seq: row.try_get::<i64, _>(first)? as Seq,
        created: row.try_get::<i64, _>(first + 1)? as Seq,
        kind: row.try_get(first + 2)?,
        key: row.try_get(first + 3)?,
        value: row.try_get::<Vec<u8>, _>(first + 4)?.into(),
        deleted: row.try_get::<i64, _>(first + 5)? != 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_listing_reads_no_more_of_the_index_than_its_part() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("records.db");
        let _log = super::super::SqliteLog::open(&path).await.unwrap();
        let mut connection = connect(&path, None).await.unwrap();
        for (ends, bounds) in [(true, "(kind=? AND key>? AND key<?)"), (false, "(kind=? AND key>?)")] {
            let query = AssertSqlSafe(format!("EXPLAIN QUERY PLAN {}", listing(ends)));
            let plan = sqlx::query(query).fetch_all(&mut connection).await.unwrap();
            let plan: Vec<String> = plan.iter().map(|row| row.try_get("detail").unwrap()).collect();
            assert!(plan.iter().any(|step| step.contains("live") && step.contains(bounds)), "{plan:?}");
        }
    }
}
