//! Several appends as one batch: what each of them comes to, and the few statements that write all of them.

use std::collections::HashMap;

use crate::{Change, Entry, Result, Seq, expect};

/// The most rows of one statement. Statements come in sizes of powers of two, so that there are few of them to keep prepared.
pub(super) const MOST: usize = 32;

/// The live version of an entry, and the one with which it came into being.
pub(super) type Live = (Seq, Seq);

/// What a group of appends will write.
pub(super) struct Plan<'a> {
    pub head: Seq,
    /// Kind and key of everything that is changed, each once.
    pub places: Vec<(&'a str, &'a str)>,
    numbers: HashMap<(&'a str, &'a str), usize>,
    /// What is live in each place; to be filled in before anything is added.
    pub found: Vec<Option<Live>>,
    pub written: Vec<Entry>,
}

impl<'a> Plan<'a> {
    pub(super) fn new(head: Seq, appends: impl Iterator<Item = &'a [Change]>) -> Self {
        let (mut places, mut numbers) = (Vec::new(), HashMap::new());
        for change in appends.flatten() {
            let place = (change.kind.as_str(), change.key.as_str());
            numbers.entry(place).or_insert_with(|| {
                places.push(place);
                places.len() - 1
            });
        }
        Self { head, places, numbers, found: Vec::new(), written: Vec::new() }
    }

    /// Adds an append, which sees what those before it did: all of it, or with a conflict nothing.
    pub(super) fn add(&mut self, changes: &'a [Change]) -> Result<Seq> {
        let (head, length) = (self.head, self.written.len());
        let mut before = Vec::new();
        for change in changes {
            let number = self.numbers.get(&(change.kind.as_str(), change.key.as_str())).copied();
            let found = number.and_then(|number| self.found.get(number).copied()).flatten();
            if let Err(conflict) = expect::check(change, found.map(|(seq, _)| seq)) {
                for (number, found) in before.into_iter().rev() {
                    self.set(number, found);
                }
                self.head = head;
                self.written.truncate(length);
                return Err(conflict);
            }
            if change.delete && found.is_none() {
                continue;
            }
            self.head += 1;
            let created = found.map_or(self.head, |(_, created)| created);
            before.push((number, found));
            self.set(number, (!change.delete).then_some((self.head, created)));
            self.written.push(Entry {
                seq: self.head,
                created,
                kind: change.kind.clone(),
                key: change.key.clone(),
                value: change.value.clone(),
                deleted: change.delete,
            });
        }
        Ok(self.head)
    }

    fn set(&mut self, number: Option<usize>, live: Option<Live>) {
        if let Some(slot) = number.and_then(|number| self.found.get_mut(number)) {
            *slot = live;
        }
    }
}

/// How many of the first entries go into one statement.
pub(super) fn of_one_kind(entries: &[Entry]) -> usize {
    // A deletion is one statement: SQLite does not use the index for several at once.
    let alive = entries.iter().take(MOST).take_while(|entry| !entry.deleted).count();
    if alive == 0 { entries.len().min(1) } else { 1 << alive.ilog2() }
}

/// Asks what is live in so many places, of which the parameters are kind and key: rows of the place's number, the version and the one with
/// which it came into being. What is asked for is bound to a power of two of places; those that are not bound are nothing.
pub(super) fn looking_up(places: usize, begin: bool) -> String {
    let asked = (0..places.next_power_of_two()).map(|n| format!("({n}, ?{}, ?{})", 2 * n + 1, 2 * n + 2));
    let asked = asked.collect::<Vec<_>>().join(", ");
    // A cross join is done from left to right: by the index of `live`.
    let query = format!(
        "SELECT asked.column1, live.seq, live.created FROM (VALUES {asked}) AS asked
         CROSS JOIN live ON live.kind = asked.column2 AND live.key = asked.column3"
    );
    if begin { format!("BEGIN IMMEDIATE; {query}") } else { query }
}

/// Writes so many entries: first version, kind, key and the version with which it came into being of each, then the values.
pub(super) fn insertion(entries: usize) -> String {
    let of = |row: &dyn Fn(usize) -> String| (0..entries).map(row).collect::<Vec<_>>().join(", ");
    let log = of(&|n| {
        let first = 4 * n;
        let value = 4 * entries + n + 1;
        format!("(?{}, ?{}, ?{}, ?{}, 0, ?{value})", first + 1, first + 2, first + 3, first + 4)
    });
    let live = of(&|n| {
        let first = 4 * n;
        format!("(?{}, ?{}, ?{}, ?{})", first + 2, first + 3, first + 1, first + 4)
    });
    format!(
        "INSERT INTO log (seq, kind, key, created, deleted, value) VALUES {log};
         INSERT INTO live (kind, key, seq, created) VALUES {live}
         ON CONFLICT (kind, key) DO UPDATE SET seq = excluded.seq, created = excluded.created"
    )
}

/// Writes one deletion, with the same parameters.
pub(super) const DELETION: &str =
    "INSERT INTO log (seq, kind, key, created, deleted, value) VALUES (?1, ?2, ?3, ?4, 1, ?5);
     DELETE FROM live WHERE kind = ?2 AND key = ?3";

#[cfg(test)]
mod tests {
    use sqlx::{AssertSqlSafe, Row};

    use super::*;
    use crate::{Expect, SqliteLog};

    fn change(key: &str, expect: Expect, delete: bool) -> Change {
        Change { kind: "k".into(), key: key.into(), expect, value: "v".into(), delete }
    }

    #[test]
    fn an_append_with_a_conflict_leaves_nothing_of_itself() {
        let appends = [
            vec![change("a", Expect::Absent, false)],
            vec![
                change("b", Expect::Absent, false),
                change("a", Expect::Present, true),
                change("a", Expect::Present, false),
            ],
            vec![change("a", Expect::Version(1), false), change("b", Expect::Absent, false)],
        ];
        let mut plan = Plan::new(0, appends.iter().map(|changes| &changes[..]));
        assert_eq!(plan.places, [("k", "a"), ("k", "b")]);
        plan.found = vec![None; 2];
        let outcomes: Vec<_> = appends.iter().map(|changes| plan.add(changes).ok()).collect();
        assert_eq!(outcomes, [Some(1), None, Some(3)], "the second deletes what it expects afterwards");
        let written: Vec<_> = plan.written.iter().map(|entry| (entry.seq, entry.created, &entry.key[..])).collect();
        assert_eq!(written, [(1, 1, "a"), (2, 1, "a"), (3, 3, "b")]);
    }

    #[test]
    fn statements_have_few_sizes() {
        let entry = |deleted| Entry {
            seq: 1,
            created: 1,
            kind: String::new(),
            key: String::new(),
            value: Default::default(),
            deleted,
        };
        let sizes = |deleted: &[bool]| {
            let entries: Vec<_> = deleted.iter().map(|deleted| entry(*deleted)).collect();
            let (mut rest, mut sizes) = (&entries[..], Vec::new());
            while !rest.is_empty() {
                sizes.push(of_one_kind(rest));
                rest = &rest[of_one_kind(rest)..];
            }
            sizes
        };
        assert_eq!(sizes(&[false; 77]), [32, 32, 8, 4, 1]);
        assert_eq!(sizes(&[false, false, false, true, true, false]), [2, 1, 1, 1, 1]);
        assert_eq!(looking_up(3, false), looking_up(4, false));
    }

    #[tokio::test]
    async fn what_is_live_is_found_by_the_index() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("records.db");
        let _log = SqliteLog::open(&path).await.unwrap();
        let mut connection = super::super::connect(&path, None).await.unwrap();
        for query in [looking_up(4, false), DELETION.split_once(';').unwrap().1.to_owned()] {
            let query = AssertSqlSafe(format!("EXPLAIN QUERY PLAN {query}"));
            let plan = sqlx::query(query).fetch_all(&mut connection).await.unwrap();
            let plan: Vec<String> = plan.iter().map(|row| row.try_get("detail").unwrap()).collect();
            assert!(plan.iter().any(|step| step.contains("live USING PRIMARY KEY (kind=? AND key=?)")), "{plan:?}");
        }
    }
}
