//! The database as it lies in the file, read past fieldsync: what must be true of it at any moment, whatever happened.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use fieldsync::Timestamp;
use rusqlite::Connection;
use serde_json::{Map, Value};

/// Records by the JSON of their ids, as a `Mirror` has them.
pub(crate) type Records = BTreeMap<String, Map<String, Value>>;

/// One row of the log.
#[derive(Debug, Clone)]
pub(crate) struct Logged {
    pub(crate) offset: u64,
    pub(crate) id: i64,
    pub(crate) action: String,
    pub(crate) after: Map<String, Value>,
    pub(crate) key: Option<String>,
}

/// What a file holds that was found to be whole.
#[derive(Debug)]
pub(crate) struct DatabaseFile {
    pub(crate) log: Vec<Logged>,
    by_key: HashMap<String, usize>,
    pub(crate) users: Records,
}

impl DatabaseFile {
    /// Reads a database that nobody writes now: its server is dead, or stopped. It is copied first, so that the server
    /// has to recover by itself what it left.
    pub(crate) fn read(path: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("copy.db");
        std::fs::copy(path, &copy).unwrap();
        let wal = |path: &Path| format!("{}-wal", path.display());
        if Path::new(&wal(path)).exists() {
            std::fs::copy(wal(path), wal(&copy)).unwrap();
        }
        Self::of(&Connection::open(&copy).unwrap())
    }

    /// Reads it in one transaction, and checks that it is whole: sound pages, offsets without a gap, no key twice, and
    /// the table equal to the fold of its log.
    pub(crate) fn of(connection: &Connection) -> Self {
        connection.execute_batch("begin").unwrap();
        let integrity: String = connection
            .query_row("pragma integrity_check", [], |row| row.get(0))
            .unwrap();
        assert_eq!(integrity, "ok");
        let log = log(connection);
        let offsets = log.iter().map(|change| change.offset);
        assert!(offsets.eq(1..=log.len() as u64), "the log has a gap");
        let head = connection
            .query_row(
                "select last from fieldsync_heads where collection = 'users'",
                [],
                |row| row.get::<_, i64>(0),
            )
            .unwrap()
            .cast_unsigned();
        assert_eq!(head, log.len() as u64);
        let mut by_key = HashMap::new();
        for (at, change) in log.iter().enumerate() {
            if let Some(key) = &change.key {
                let twice = by_key.insert(key.clone(), at);
                assert_eq!(twice, None, "{key} was applied twice");
            }
        }
        let remembered = remembered(connection);
        assert_eq!(remembered.len(), by_key.len());
        for (key, offset) in remembered {
            assert_eq!(log[by_key[&key]].offset, offset, "{key}");
        }
        let users = users(connection);
        connection.execute_batch("rollback").unwrap();
        let read = Self { log, by_key, users };
        assert_eq!(
            read.at(head),
            read.users,
            "the table is not what the log says"
        );
        read
    }

    /// The table as the log says that it was after the change with this offset.
    pub(crate) fn at(&self, offset: u64) -> Records {
        let mut records = Records::new();
        for change in self.log.iter().take_while(|change| change.offset <= offset) {
            match change.action.as_str() {
                "delete" => drop(records.remove(&change.id.to_string())),
                _ => drop(records.insert(change.id.to_string(), change.record())),
            }
        }
        records
    }

    /// The one change that was made with this idempotency key.
    pub(crate) fn change_by(&self, key: &str) -> Option<&Logged> {
        self.by_key.get(key).map(|at| &self.log[*at])
    }
}

impl Logged {
    /// The record after the change, as replies show it.
    pub(crate) fn record(&self) -> Map<String, Value> {
        let mut record = self.after.clone();
        record.insert("id".into(), self.id.into());
        record
    }
}

fn log(connection: &Connection) -> Vec<Logged> {
    let sql = "select \"offset\", id, action, after, idempotency_key from fieldsync_changes \
               where collection = 'users' order by \"offset\"";
    let mut statement = connection.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| {
        Ok(Logged {
            offset: row.get::<_, i64>(0)?.cast_unsigned(),
            id: row.get(1)?,
            action: row.get(2)?,
            after: serde_json::from_str(&row.get::<_, String>(3)?).unwrap(),
            key: row.get(4)?,
        })
    });
    rows.unwrap().map(Result::unwrap).collect()
}

fn remembered(connection: &Connection) -> Vec<(String, u64)> {
    let sql = "select key, \"offset\" from fieldsync_keys";
    let mut statement = connection.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| {
        Ok((row.get(0)?, row.get::<_, i64>(1)?.cast_unsigned()))
    });
    rows.unwrap().map(Result::unwrap).collect()
}

fn users(connection: &Connection) -> Records {
    let sql = "select id, first_name, last_name, created_at, updated_at from users";
    let mut statement = connection.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| {
        let id: i64 = row.get(0)?;
        let mut record = Map::from_iter([("id".to_owned(), Value::from(id))]);
        for (at, name) in [(1, "first_name"), (2, "last_name")] {
            record.insert(name.into(), row.get::<_, String>(at)?.into());
        }
        for (at, name) in [(3, "created_at"), (4, "updated_at")] {
            let time = Timestamp::from_sql_text(&row.get::<_, String>(at)?).unwrap();
            record.insert(name.into(), time.to_string().into());
        }
        Ok((id.to_string(), record))
    });
    rows.unwrap().map(Result::unwrap).collect()
}
