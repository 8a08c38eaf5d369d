//! The tables, and what a file must be to be opened.

use std::{collections::BTreeMap, path::Path};

use sqlx::{Row, SqliteConnection};

use super::failed;
use crate::{Error, Kind, Result, Seq};

/// The version of the tables below, kept as `user_version`.
const VERSION: i64 = 1;
/// "Ship", kept as `application_id`.
const APPLICATION: i64 = 0x5368_6970;

/// `log` has every version that is kept; `live` says which of them is the present one of each entry; `forgotten` has the newest
/// version of each kind that was compacted away.
const TABLES: &str = "
    BEGIN IMMEDIATE;
    CREATE TABLE log (
        seq INTEGER PRIMARY KEY, kind TEXT NOT NULL, key TEXT NOT NULL, created INTEGER NOT NULL, deleted INTEGER NOT NULL,
        value BLOB NOT NULL
    ) STRICT;
    CREATE INDEX log_kind ON log (kind, seq);
    CREATE TABLE live (
        kind TEXT NOT NULL, key TEXT NOT NULL, seq INTEGER NOT NULL, created INTEGER NOT NULL, PRIMARY KEY (kind, key)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE forgotten (kind TEXT PRIMARY KEY, seq INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    PRAGMA application_id = 1399351664;
    PRAGMA user_version = 1;
    COMMIT;
";

/// Makes the tables in a new file; refuses a file that is not ours or newer than we are.
pub(super) async fn prepare(connection: &mut SqliteConnection, path: &Path) -> Result<()> {
    let shown = path.display();
    let query =
        "SELECT (SELECT user_version FROM pragma_user_version), (SELECT application_id FROM pragma_application_id),
        (SELECT count(*) FROM sqlite_schema)";
    let row = sqlx::query(query).fetch_one(&mut *connection).await;
    let row = row.map_err(|e| failed(e, format!("cannot read {shown}")))?;
    let number = |column: usize| row.try_get::<i64, _>(column).map_err(|e| failed(e, format!("cannot read {shown}")));
    let (version, application, tables) = (number(0)?, number(1)?, number(2)?);
    match (application, version) {
        (APPLICATION, VERSION) => Ok(()),
        (APPLICATION, newer) if newer > VERSION => Err(Error::new(
            Kind::Newer,
            format!(
                "{shown} was written by a newer version of shipway (its format is {newer}, this one reads up to {VERSION}): \
                 use that version, or another data directory"
            ),
        )),
        (0, 0) if tables == 0 => {
            let made = sqlx::raw_sql(TABLES).execute(&mut *connection).await;
            made.map(|_| ()).map_err(|e| failed(e, format!("cannot write {shown}")))
        }
        _ => Err(Error::new(
            Kind::Corrupt,
            format!("{shown} is a database, but not one of shipway: use another data directory, or move the file away"),
        )),
    }
}

/// The head, and every kind with what was forgotten of it.
pub(super) async fn read(connection: &mut SqliteConnection) -> Result<(Seq, BTreeMap<String, Seq>)> {
    // A recursive walk from kind to kind over the index: a plain DISTINCT would read all of it.
    let query = "
        WITH RECURSIVE kinds (kind) AS (
            SELECT min(kind) FROM log UNION ALL SELECT (SELECT min(kind) FROM log WHERE kind > kinds.kind) FROM kinds WHERE kind IS NOT NULL
        )
        SELECT kind, 0 FROM kinds WHERE kind IS NOT NULL UNION ALL SELECT kind, seq FROM forgotten";
    let rows = sqlx::query_as::<_, (String, i64)>(query).fetch_all(&mut *connection).await;
    let mut kinds = BTreeMap::new();
    for (kind, forgotten) in rows.map_err(|e| failed(e, "cannot read the log"))? {
        let known: &mut Seq = kinds.entry(kind).or_default();
        *known = (*known).max(forgotten as Seq);
    }
    Ok((head(connection).await?, kinds))
}

/// The newest version that was ever given out; also when it has been forgotten.
pub(super) const HEAD: &str = "max(ifnull((SELECT max(seq) FROM log), 0), ifnull((SELECT max(seq) FROM forgotten), 0))";

pub(super) async fn head(connection: &mut SqliteConnection) -> Result<Seq> {
    let query = sqlx::AssertSqlSafe(format!("SELECT {HEAD}"));
    let head = sqlx::query_scalar::<_, i64>(query).fetch_one(connection).await;
    head.map(|head| head as Seq).map_err(|e| failed(e, "cannot read the log"))
}
