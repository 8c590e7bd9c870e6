//! Runs the conformance suite of `Store` on SQLite.

#![expect(clippy::unwrap_used, reason = "a test may fail by a panic")]

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use fieldsync::backend::Store;
use fieldsync::backend::conformance::{ColumnKind, Constraint, Constraints, Fixture, Table};
use fieldsync::{Fields, RecordId, Timestamp};
use fieldsync_sqlite::{SqliteStore, Synchronous};
use rusqlite::types::Value as Sql;
use rusqlite::{Connection, params_from_iter};
use serde_json::Value;

struct File(tempfile::TempDir);

impl File {
    fn connect(&self) -> Connection {
        let connection = Connection::open(self.0.path().join("test.db")).unwrap();
        connection.busy_timeout(Duration::from_secs(10)).unwrap();
        connection
    }
}

fn to_sql(value: &Value) -> Sql {
    match value {
        Value::Null => Sql::Null,
        Value::Bool(value) => Sql::Integer((*value).into()),
        Value::Number(number) => number
            .as_i64()
            .map_or_else(|| Sql::Real(number.as_f64().unwrap()), Sql::Integer),
        Value::String(text) => match text.parse::<Timestamp>() {
            Ok(time) => Sql::Text(time.to_sql_text()),
            Err(_) => Sql::Text(text.clone()),
        },
        json => Sql::Text(json.to_string()),
    }
}

fn id_to_sql(id: RecordId) -> Sql {
    match id {
        RecordId::Integer(number) => Sql::Integer(number),
        other => Sql::Text(other.to_string()),
    }
}

fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[async_trait]
impl Fixture for File {
    const CONSTRAINTS: Constraints = Constraints::Enforced;
    const CAPTURES: bool = true;
    const TRIM_STEP: usize = 1000;

    async fn fresh() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    async fn open(&self) -> Arc<dyn Store> {
        // Nothing here is about durability, and a busy disk must not fail the tests.
        let options = SqliteStore::options()
            .busy_timeout(Duration::from_secs(1))
            .synchronous(Synchronous::Normal);
        Arc::new(options.open(self.0.path().join("test.db")).await.unwrap())
    }

    async fn create_table(&self, table: Table) {
        let columns = table.columns.iter().map(|column| {
            let kind = match column.kind {
                ColumnKind::Text => "text",
                ColumnKind::Integer => "integer",
            };
            let null = if column.nullable { "" } else { " not null" };
            let default = column
                .default
                .as_ref()
                .map_or(String::new(), |default| match default {
                    Value::String(text) => format!(" default '{text}'"),
                    other => format!(" default {other}"),
                });
            let constraint = match &column.constraint {
                None => String::new(),
                Some(Constraint::Unique) => " unique".into(),
                Some(Constraint::AtLeast(least)) => {
                    format!(" check (\"{}\" >= {least})", column.name)
                }
                Some(Constraint::References(table)) => format!(" references \"{table}\" (id)"),
            };
            format!(
                ", {} {kind}{null}{default}{constraint}",
                quote(&column.name)
            )
        });
        let sql = format!(
            "create table {} ({} integer primary key autoincrement{})",
            quote(&table.name),
            quote(&table.key),
            columns.collect::<String>()
        );
        self.connect().execute_batch(&sql).unwrap();
    }

    async fn write_externally(&self, table: &str, id: RecordId, row: Option<Fields>) {
        let connection = self.connect();
        let Some(row) = row else {
            connection
                .execute(
                    &format!("delete from \"{table}\" where id = ?"),
                    [id_to_sql(id.clone())],
                )
                .unwrap();
            return;
        };
        let set: Vec<String> = row.keys().map(|name| format!("\"{name}\" = ?")).collect();
        let values = || row.values().map(to_sql);
        let update = format!("update \"{table}\" set {} where id = ?", set.join(", "));
        if connection
            .execute(
                &update,
                params_from_iter(values().chain([id_to_sql(id.clone())])),
            )
            .unwrap()
            == 0
        {
            let names: String = row.keys().map(|name| format!(", \"{name}\"")).collect();
            let places = ", ?".repeat(row.len());
            let insert = format!("insert into \"{table}\" (id{names}) values (?{places})");
            let values = std::iter::once(id_to_sql(id.clone())).chain(values());
            connection
                .execute(&insert, params_from_iter(values))
                .unwrap();
        }
    }

    async fn hold_write_lock(&self, _: &str, _: RecordId) -> Box<dyn Any + Send> {
        let connection = self.connect();
        connection.execute_batch("begin immediate").unwrap();
        Box::new(connection)
    }

    async fn grow_older(&self, by: Duration) {
        let connection = self.connect();
        let micros = i64::try_from(by.as_micros()).unwrap();
        connection
            .execute("update fieldsync_changes set at = at - ?", [micros])
            .unwrap();
        connection
            .execute("update fieldsync_keys set at = at - ?", [micros])
            .unwrap();
    }
}

fieldsync::backend::store_tests!(File);
