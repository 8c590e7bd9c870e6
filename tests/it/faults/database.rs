//! The database, read without fieldsync, and what must be true of it at any moment.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use fieldsync::Timestamp;
use rusqlite::Connection;
use serde_json::{Map, Value};

/// Records by the JSON of their ids, like those of a `Mirror`.
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

/// The contents of a database, which were found consistent.
#[derive(Debug)]
pub(crate) struct Database {
    pub(crate) log: Vec<Logged>,
    by_key: HashMap<String, usize>,
    pub(crate) users: Records,
}

impl Database {
    /// Reads the file of a server that is dead or stopped. It reads a copy: the server itself must recover what it left.
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

    /// Reads a database in one transaction, and checks it: SQLite finds no corrupt page, offsets have no gap, no idempotency
    /// key was applied twice, and the table equals the fold of the log.
    pub(crate) fn of(connection: &Connection) -> Self {
        connection.execute_batch("begin").unwrap();
        let integrity: String = connection
            .query_row("pragma integrity_check", [], |row| row.get(0))
            .unwrap();
        assert_eq!(integrity, "ok");
        let head = connection
            .query_row(
                "select last from fieldsync_heads where log = 'users'",
                [],
                |row| row.get::<_, i64>(0),
            )
            .unwrap();
        let (log, keys, users) = (log(connection), keys(connection), users(connection));
        connection.execute_batch("rollback").unwrap();
        Self::checked(log, head.cast_unsigned(), keys, users)
    }

    /// Reads a PostgreSQL database while others write, and checks it likewise.
    #[cfg(feature = "services")]
    pub(crate) async fn read_postgres(url: &str) -> Self {
        let mut client = crate::cluster::connect(url).await;
        let reading = client.build_transaction().read_only(true);
        let reading = reading.isolation_level(tokio_postgres::IsolationLevel::RepeatableRead);
        let reading = reading.start().await.unwrap();
        let rows = async |sql| reading.query(sql, &[]).await.unwrap();
        let log = "select \"offset\", id, action, after::text, idempotency_key from fieldsync_changes \
                   where log = 'public.users' order by \"offset\"";
        let log = rows(log).await.into_iter().map(|row| Logged {
            offset: row.get::<_, i64>(0).cast_unsigned(),
            id: row.get::<_, String>(1).parse().unwrap(),
            action: row.get(2),
            after: serde_json::from_str(row.get(3)).unwrap(),
            key: row.get(4),
        });
        let head = rows("select last from fieldsync_heads where log = 'public.users'").await;
        let head = head[0].get::<_, i64>(0).cast_unsigned();
        let keys = rows("select key, \"offset\" from fieldsync_keys").await;
        let keys = keys
            .into_iter()
            .map(|row| (row.get(0), row.get::<_, i64>(1).cast_unsigned()));
        let users = "select id::text, to_jsonb(users)::text, \
                     (extract(epoch from created_at) * 1000000)::bigint, \
                     (extract(epoch from updated_at) * 1000000)::bigint from users";
        let users = rows(users).await.into_iter().map(|row| {
            let mut record: Map<String, Value> = serde_json::from_str(row.get(1)).unwrap();
            for (at, name) in [(2, "created_at"), (3, "updated_at")] {
                let time = Timestamp::from_micros(row.get(at)).unwrap();
                record.insert(name.into(), time.to_string().into());
            }
            (row.get(0), record)
        });
        Self::checked(log.collect(), head, keys.collect(), users.collect())
    }

    fn checked(log: Vec<Logged>, head: u64, keys: Vec<(String, u64)>, users: Records) -> Self {
        let offsets = log.iter().map(|change| change.offset);
        assert!(offsets.eq(1..=log.len() as u64), "the log has a gap");
        assert_eq!(head, log.len() as u64);
        let mut by_key = HashMap::new();
        for (at, change) in log.iter().enumerate() {
            if let Some(key) = &change.key {
                let twice = by_key.insert(key.clone(), at);
                assert_eq!(twice, None, "the edit with the key {key} was applied twice");
            }
        }
        assert_eq!(keys.len(), by_key.len());
        for (key, offset) in keys {
            assert_eq!(log[by_key[&key]].offset, offset, "{key}");
        }
        let read = Self { log, by_key, users };
        assert_eq!(
            read.at(head, &read.users),
            read.users,
            "the table is not the fold of the log"
        );
        read
    }

    /// The fold of the log up to an offset, as the version of the app that shows records like `shown` reads it: without fields
    /// that it does not know, and with the default of a field that another version did not write.
    pub(crate) fn at(&self, offset: u64, shown: &Records) -> Records {
        let mut records = Records::new();
        for change in self.log.iter().take_while(|change| change.offset <= offset) {
            match change.action.as_str() {
                "delete" => drop(records.remove(&change.id.to_string())),
                _ => drop(records.insert(change.id.to_string(), change.record())),
            }
        }
        let nick_names = shown.values().any(|user| user.contains_key("nick_name"));
        for record in records.values_mut() {
            if nick_names {
                record.entry("nick_name").or_insert_with(|| "".into());
            } else {
                record.remove("nick_name");
            }
        }
        records
    }

    /// The change that was made with an idempotency key.
    pub(crate) fn change_by(&self, key: &str) -> Option<&Logged> {
        self.by_key.get(key).map(|at| &self.log[*at])
    }
}

impl Logged {
    /// The record after the change, in the form of a reply.
    pub(crate) fn record(&self) -> Map<String, Value> {
        let mut record = self.after.clone();
        record.insert("id".into(), self.id.into());
        record
    }
}

fn log(connection: &Connection) -> Vec<Logged> {
    let sql = "select \"offset\", id, action, after, idempotency_key from fieldsync_changes \
               where log = 'users' order by \"offset\"";
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

fn keys(connection: &Connection) -> Vec<(String, u64)> {
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
