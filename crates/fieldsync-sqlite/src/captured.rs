//! Reads what the triggers noted, and takes it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fieldsync::backend::CapturedWrite;
use fieldsync::{Fields, RecordId, RecordKey};
use fieldsync_sql::{Dialect as _, Row as _, SqlValue};
use rusqlite::{Connection, Params, params_from_iter};

use crate::capture::{KnownCapture, KnownTable};
use crate::dialect::{Sqlite, Tables};
use crate::error::Failure;
use crate::values::{Parameter, SqliteRow};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Insert,
    Update,
    Delete,
    /// A write collides with the row. It is a delete if the write replaced the row.
    Collision,
}

/// A row of `fieldsync_captured`.
#[derive(Debug)]
pub(crate) struct Noted {
    seq: i64,
    operation: Operation,
    write: CapturedWrite,
}

/// What was noted of each record, in the order in which it was noted.
pub(crate) type NotedRecords = BTreeMap<RecordKey, Vec<Noted>>;

/// The log and the key of a record, as the triggers note them.
pub(crate) type NotedKey = (Arc<str>, SqlValue<'static>);

/// What one statement returned of `fieldsync_captured`.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) records: NotedRecords,
    /// The rows of tables that this app captures.
    pub(crate) count: usize,
    /// Whether there are rows of other tables.
    pub(crate) has_others: bool,
    /// The logs of tables in which a field changed that only another version of the app has.
    pub(crate) unknown_fields: BTreeSet<Arc<str>>,
}

impl Found {
    /// Reads with `select_after` or `select_of_record`. Of the records in `known_anyway` only the operations are read.
    fn read(
        &mut self,
        connection: &Connection,
        capture: &KnownCapture,
        sql: &str,
        parameters: impl Params,
        known_anyway: &BTreeSet<RecordKey>,
    ) -> Result<(), Failure> {
        let mut statement = connection.prepare_cached(sql)?;
        let mut rows = statement.query(parameters)?;
        while let Some(row) = rows.next()? {
            let Some(table) = capture.table(row.get_ref(1)?.as_str().unwrap_or_default()) else {
                self.has_others = true;
                continue;
            };
            self.count += 1;
            let row = Columns {
                row: SqliteRow(row),
                table,
                width: capture.width,
            };
            let Some(key) = row.key() else {
                // Nobody can subscribe to a row without a valid id.
                continue;
            };
            let operation = match row.row.0.get_ref(2)?.as_str().unwrap_or_default() {
                "I" => Operation::Insert,
                "U" => Operation::Update,
                "D" => Operation::Delete,
                _ => Operation::Collision,
            };
            let (old, new) = if known_anyway.contains(&key) {
                (None, None)
            } else {
                let (old, new, is_unknown) = row.values(operation);
                if is_unknown {
                    self.unknown_fields.insert(Arc::clone(&row.table.table.log));
                }
                (old, new)
            };
            let write = CapturedWrite {
                key: key.clone(),
                old,
                new,
            };
            let noted = Noted {
                seq: row.row.0.get(0)?,
                operation,
                write,
            };
            self.records.entry(key).or_default().push(noted);
        }
        Ok(())
    }

    /// Reads what was noted after a number.
    pub(crate) fn after(
        connection: &Connection,
        capture: &KnownCapture,
        last: i64,
        known_anyway: &BTreeSet<RecordKey>,
    ) -> Result<Self, Failure> {
        let mut found = Self::default();
        found.read(
            connection,
            capture,
            &capture.select_after,
            [last],
            known_anyway,
        )?;
        Ok(found)
    }

    /// Reads what was noted of some records up to a number.
    pub(crate) fn of_records(
        connection: &Connection,
        capture: &KnownCapture,
        keys: &[NotedKey],
        last: i64,
    ) -> Result<Self, Failure> {
        let mut found = Self::default();
        for (log, key) in keys {
            let parameters = [&SqlValue::text(&**log), key, &SqlValue::Integer(last)];
            let parameters = params_from_iter(parameters.map(Parameter));
            let sql = &capture.select_of_record;
            found.read(connection, capture, sql, parameters, &BTreeSet::new())?;
        }
        Ok(found)
    }

    /// Adds what another statement found.
    pub(crate) fn add(&mut self, other: Self) {
        for (key, noted) in other.records {
            self.records.entry(key).or_default().extend(noted);
        }
        self.unknown_fields.extend(other.unknown_fields);
    }

    /// Deletes what was noted after a number, and found.
    pub(crate) fn delete_after(&self, connection: &Connection, last: i64) -> Result<(), Failure> {
        if !self.has_others {
            let sql = "delete from fieldsync_captured where seq > ?1";
            connection.prepare_cached(sql)?.execute([last])?;
            return Ok(());
        }
        let mut delete =
            connection.prepare_cached("delete from fieldsync_captured where seq = ?1")?;
        for noted in self.records.values().flatten() {
            delete.execute([noted.seq])?;
        }
        Ok(())
    }
}

/// Deletes what was noted of some records up to a number.
pub(crate) fn delete_of_records(
    connection: &Connection,
    keys: &[NotedKey],
    last: i64,
) -> Result<(), Failure> {
    let sql = "delete from fieldsync_captured where tbl = ?1 and key is ?2 and seq <= ?3";
    let mut delete = connection.prepare_cached(sql)?;
    for (log, key) in keys {
        let parameters = [&SqlValue::text(&**log), key, &SqlValue::Integer(last)];
        delete.execute(params_from_iter(parameters.map(Parameter)))?;
    }
    Ok(())
}

/// A row of `fieldsync_captured`: number, log, operation, key, old values, new values.
struct Columns<'a> {
    row: SqliteRow<'a>,
    table: &'a KnownTable,
    width: usize,
}

impl Columns<'_> {
    fn key(&self) -> Option<RecordKey> {
        let key = self.row.value(3).ok()?;
        Some(RecordKey {
            collection: Arc::clone(&self.table.table.collection),
            id: self.table.table.id_of_noted(&key)?,
        })
    }

    /// The old and the new values, and whether only fields changed that this version of the app does not have. Nobody sees a row
    /// that can't be read.
    fn values(&self, operation: Operation) -> (Option<Fields>, Option<Fields>, bool) {
        let (mut old, mut new, mut is_unknown) = (Some(Fields::new()), Some(Fields::new()), false);
        for (number, column) in self.table.columns.iter().enumerate().take(self.width) {
            let before = self.row.value(4 + number).ok();
            let after = self.row.value(4 + self.width + number).ok();
            let is_null = |value: &Option<SqlValue<'_>>| *value == Some(SqlValue::Null);
            if operation == Operation::Update && is_null(&before) && is_null(&after) {
                continue;
            }
            let Some(column) = column else {
                is_unknown = true;
                continue;
            };
            let column = &self.table.table.columns[*column];
            for (fields, value) in [(&mut old, before), (&mut new, after)] {
                *fields = fields.take().zip(value).map(|(mut fields, value)| {
                    fields.insert(column.field.clone(), Sqlite::decode(&column.format, value));
                    fields
                });
            }
        }
        match operation {
            Operation::Insert => (None, new, false),
            Operation::Update => {
                let is_unknown = is_unknown && old.as_ref().is_some_and(Fields::is_empty);
                (old, new, is_unknown)
            }
            Operation::Delete | Operation::Collision => (old, None, false),
        }
    }
}

/// The writes of others and of this transaction.
#[derive(Debug, Default)]
pub(crate) struct Writes {
    pub(crate) others: Vec<CapturedWrite>,
    pub(crate) own: Vec<CapturedWrite>,
    /// The ids that were deleted.
    pub(crate) deleted: Vec<RecordKey>,
}

/// Decides which collisions were deletes. `last`: the number of the last row that others noted. `exists` says whether a row
/// exists.
pub(crate) fn resolve(
    records: NotedRecords,
    last: i64,
    mut exists: impl FnMut(&RecordKey) -> Result<bool, Failure>,
) -> Result<Writes, Failure> {
    let mut writes = Writes::default();
    for (key, mut noted) in records {
        noted.sort_by_key(|noted| noted.seq);
        let (mut collision, mut deletes) = (None, BTreeSet::new());
        for Noted { seq, operation, .. } in &noted {
            match operation {
                // A later collision is with the same row, or with one that was inserted meanwhile.
                Operation::Collision => collision = Some(*seq),
                Operation::Insert => deletes.extend(collision.take()),
                Operation::Delete => collision = None,
                Operation::Update => {}
            }
        }
        if let Some(seq) = collision
            && !exists(&key)?
        {
            deletes.insert(seq);
        }
        noted.retain(|noted| {
            noted.operation != Operation::Collision || deletes.contains(&noted.seq)
        });
        let is_delete =
            |noted: &Noted| matches!(noted.operation, Operation::Delete | Operation::Collision);
        if noted.iter().any(is_delete) {
            writes.deleted.push(key);
        }
        for noted in noted {
            if noted.seq <= last {
                writes.others.push(noted.write);
            } else {
                writes.own.push(noted.write);
            }
        }
    }
    Ok(writes)
}

/// Keeps the database from giving the ids of deleted records again.
pub(crate) fn keep_ids(
    connection: &Connection,
    tables: &Tables,
    deleted: &[RecordKey],
) -> Result<(), Failure> {
    for key in deleted {
        let source = &tables.of(&key.collection)?.id_source;
        if let (Some(source), RecordId::Integer(id)) = (source, &key.id) {
            connection.prepare_cached(&source.keep)?.execute([id])?;
        }
    }
    Ok(())
}
