//! A dialect for tests that differs from standard SQL wherever the trait allows it, much like MySQL's; and a driver that
//! writes down what it is told.

use std::collections::BTreeSet;

use fieldsync::RecordKey;
use fieldsync::backend::{CapturedWrite, FieldType, IdempotencyKey, Ids, StoreError, Write};
use serde_json::Value;

use crate::{
    ColumnInfo, DeclaredType, Dialect, KeyMismatch, ReadRow, Rejection, SideTableTypes, SqlValue,
    Table, Tables, Transaction,
};

#[derive(Debug)]
pub(crate) enum TestDialect {}

impl Dialect for TestDialect {
    type Format = ();
    type TableStatements = ();
    type SideStatements = ();

    const MAX_NAME_BYTES: Option<usize> = Some(20);
    const LAST_INSERT_ID: Option<&'static str> = Some("select last_insert_id()");
    const NULL_IS_LARGEST: bool = false;
    const FOR_UPDATE: &'static str = " for update";
    const EMPTY_INSERT: &'static str = "() values ()";
    const CAPTURES: bool = false;
    const SIDE_TABLE_TYPES: SideTableTypes = SideTableTypes {
        integer: "bigint",
        text: "longtext",
        key: "varchar(255)",
        id: "varchar(255)",
        heads: "",
        options: " engine=innodb",
        has_index_if_not_exists: false,
    };

    const RANDOM_INTEGER: &'static str = "uuid_short()";
    const RANDOM_SECRET: &'static str = "lower(hex(random_bytes(32)))";

    fn side_statements(_: &dyn Fn(&str) -> String) {}

    fn quote(name: &str) -> String {
        format!("`{name}`")
    }

    fn parameter(_: usize) -> String {
        "?".to_owned()
    }

    fn key_type(_: Ids) -> &'static str {
        "bigint"
    }

    fn reserve_ids(next_id: &str) -> String {
        format!("select {next_id}")
    }

    fn key_declaration(_: Ids) -> &'static str {
        "bigint auto_increment primary key"
    }

    fn column_type(_: &FieldType, _: bool) -> (String, ()) {
        ("longtext".to_owned(), ())
    }

    fn format(_: &FieldType, declared: &DeclaredType) -> Result<(), String> {
        match &*declared.name {
            "longtext" => Ok(()),
            _ => Err("longtext".to_owned()),
        }
    }

    fn key_format(_: Ids, _: &ColumnInfo, _: bool) -> Result<(), KeyMismatch> {
        Ok(())
    }

    fn encode<'a>((): &(), value: &'a Value) -> SqlValue<'a> {
        SqlValue::text(value.to_string())
    }

    fn decode((): &(), value: SqlValue<'_>) -> Value {
        match value {
            SqlValue::Text(text) => serde_json::from_str(&text).unwrap_or_default(),
            _ => Value::Null,
        }
    }

    fn replace_on_conflict(_: &[String], others: &[String]) -> String {
        let sets = others.iter().map(|name| format!("{name} = values({name})"));
        format!(
            "on duplicate key update {}",
            sets.collect::<Vec<_>>().join(", ")
        )
    }
}

/// A driver whose results are empty and whose futures wait once.
#[derive(Default)]
pub(crate) struct Recorder(pub(crate) Vec<String>);

impl Transaction for Recorder {
    type Dialect = TestDialect;
    type Error = StoreError;

    async fn query(
        &mut self,
        sql: &str,
        _: &[SqlValue<'_>],
        _: &mut ReadRow<'_>,
    ) -> Result<(), StoreError> {
        tokio::task::yield_now().await;
        self.0.push(sql.to_owned());
        Ok(())
    }

    async fn execute(&mut self, sql: &str, _: &[SqlValue<'_>]) -> Result<usize, StoreError> {
        tokio::task::yield_now().await;
        self.0.push(sql.to_owned());
        Ok(0)
    }

    async fn lock_keys(&mut self, _: &BTreeSet<IdempotencyKey>) -> Result<(), StoreError> {
        Ok(())
    }

    async fn captured_by_others(
        &mut self,
        _: &Tables<TestDialect>,
        _: &BTreeSet<RecordKey>,
    ) -> Result<Vec<CapturedWrite>, StoreError> {
        Ok(Vec::new())
    }

    async fn take_captured(
        &mut self,
        _: &Tables<TestDialect>,
        _: &BTreeSet<RecordKey>,
    ) -> Result<(Vec<CapturedWrite>, Vec<CapturedWrite>), StoreError> {
        Ok((Vec::new(), Vec::new()))
    }

    async fn rejection(
        &mut self,
        _: &Table<TestDialect>,
        _: &Write,
        error: StoreError,
    ) -> Result<Rejection, StoreError> {
        Err(error)
    }
}
