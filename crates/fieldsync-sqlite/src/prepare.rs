//! Makes what is missing, and checks what is there: every way in which a table may not fit is here.

use std::sync::Arc;

use fieldsync::{Collection, Field, Ids, SchemaMismatch};
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};

use crate::columns::{
    Form, declaration, default_literal, fit, fit_key, is_nullable, is_same_name, quoted,
};
use crate::error::Failure;
use crate::table::{Column, Shape, Table, Tables};

/// Makes or checks everything in one transaction, which two nodes may begin at once.
pub(crate) fn prepare(
    connection: &mut Connection,
    collections: &[Arc<Collection>],
) -> Result<Tables, Failure> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(include_str!("schema.sql"))?;
    for collection in collections {
        match Found::read(&transaction, collection.table_name())? {
            None => create(&transaction, collection)?,
            Some(found) => add_columns(&transaction, collection, &found)?,
        }
    }
    let mut tables = Tables::default();
    // Again from the start: collections may share a table.
    for collection in collections {
        let found = Found::read(&transaction, collection.table_name())?;
        let table = check(&transaction, collection, found.as_ref())?;
        let epoch = fastrand::u64(1..).cast_signed();
        let sql = "insert into fieldsync_heads (collection, epoch) values (?1, ?2) on conflict do nothing";
        transaction.execute(sql, (collection.name(), epoch))?;
        tables
            .0
            .insert(Arc::clone(collection.name()), Arc::new(table));
    }
    transaction.commit()?;
    Ok(tables)
}

fn create(transaction: &Transaction<'_>, collection: &Collection) -> Result<(), Failure> {
    let key = quoted(collection.key_column());
    let mut columns = vec![match collection.ids() {
        // Without autoincrement SQLite gives the id of a deleted record again.
        Ids::Integer => format!("{key} integer primary key autoincrement not null"),
        _ => format!("{key} text primary key not null"),
    }];
    for field in collection.fields() {
        let null = if is_nullable(field) { "" } else { " not null" };
        columns.push(format!("{}{null}{}", column(field), default_clause(field)));
    }
    let table = quoted(collection.table_name());
    let sql = format!("create table {table} (\n  {}\n)", columns.join(",\n  "));
    tracing::info!(table = collection.table_name(), "making a table");
    Ok(transaction.execute_batch(&sql)?)
}

fn column(field: &Field) -> String {
    format!(
        "{} {}",
        quoted(&field.name),
        declaration(&field.schema.kind)
    )
}

fn default_clause(field: &Field) -> String {
    default_literal(field).map_or_else(String::new, |literal| format!(" default {literal}"))
}

/// Adds the columns of fields that are new.
fn add_columns(
    transaction: &Transaction<'_>,
    collection: &Collection,
    found: &Found,
) -> Result<(), Failure> {
    found.check_kind(collection)?;
    for field in collection.fields() {
        if found.column(&field.name).is_some() {
            continue;
        }
        let default = default_clause(field);
        // Of rows that are there the times are not known: null says so, any other default would be a lie.
        let null = if is_nullable(field) || field.set_by_server {
            ""
        } else if default.is_empty() {
            let expected = "a default of the field, for the records that are there: #[serde(default)]; or a field \
                            that may be null";
            return Err(mismatch(collection, &field.name, "no such column", expected).into());
        } else {
            " not null"
        };
        let sql = format!(
            "alter table {} add column {}{null}{default}",
            quoted(collection.table_name()),
            column(field)
        );
        tracing::info!(
            table = collection.table_name(),
            column = field.name,
            "adding a column"
        );
        transaction.execute_batch(&sql)?;
    }
    Ok(())
}

/// Checks that the table fits the collection, and learns how to use it.
fn check(
    transaction: &Transaction<'_>,
    collection: &Collection,
    found: Option<&Found>,
) -> Result<Table, Failure> {
    let none = || mismatch(collection, collection.key_column(), "no table", "a table");
    let found = found.ok_or_else(none)?;
    found.check_kind(collection)?;
    let (key_form, key) = found.check_key(collection)?;
    let mut columns = Vec::new();
    for field in collection.fields() {
        columns.push(Column {
            form: found.check_field(collection, field)?,
            name: field.name.clone(),
        });
    }
    found.check_others(collection)?;
    let foreign_keys = found.foreign_keys.iter().filter_map(|from| {
        let field = collection
            .fields()
            .iter()
            .find(|field| is_same_name(&field.name, from))?;
        Some(field.name.clone())
    });
    let triggers = "select exists (select 1 from sqlite_schema where type = 'trigger' and tbl_name = ?1 collate nocase)";
    Ok(Table::new(Shape {
        foreign_keys: foreign_keys.collect(),
        has_triggers: transaction.query_row(triggers, [&found.name], |row| row.get(0))?,
        repeats_ids: collection.ids() == Ids::Integer && !found.is_autoincrement(),
        collection: Arc::clone(collection.name()),
        name: found.name.clone(),
        key: Column {
            name: key.to_owned(),
            form: key_form,
        },
        columns,
    }))
}

fn mismatch(
    collection: &Collection,
    column: &str,
    found: impl Into<String>,
    expected: impl Into<String>,
) -> SchemaMismatch {
    SchemaMismatch {
        table: collection.table_name().to_owned(),
        column: column.to_owned(),
        found: found.into(),
        expected: expected.into(),
    }
}

/// What is in the database under a table's name.
struct Found {
    name: String,
    /// `table`, `view`, `virtual`, `shadow`.
    kind: String,
    is_without_rowid: bool,
    sql: String,
    columns: Vec<FoundColumn>,
    /// The columns that refer to other tables.
    foreign_keys: Vec<String>,
}

struct FoundColumn {
    name: String,
    declared: String,
    is_not_null: bool,
    default: Option<String>,
    /// Its place in the primary key, from 1; 0 for other columns.
    in_key: i64,
    is_generated: bool,
}

impl Found {
    fn read(transaction: &Transaction<'_>, table: &str) -> Result<Option<Self>, Failure> {
        let sql = "select l.name, l.type, l.wr, coalesce(s.sql, '') from pragma_table_list l \
                   left join sqlite_schema s on s.name = l.name and s.type in ('table', 'view') \
                   where l.schema = 'main' and l.name = ?1 collate nocase";
        let found = transaction
            .query_row(sql, [table], |row| {
                Ok(Self {
                    name: row.get(0)?,
                    kind: row.get(1)?,
                    is_without_rowid: row.get(2)?,
                    sql: row.get(3)?,
                    columns: Vec::new(),
                    foreign_keys: Vec::new(),
                })
            })
            .optional()?;
        let Some(mut found) = found else {
            return Ok(None);
        };
        let sql =
            "select name, type, \"notnull\", dflt_value, pk, hidden from pragma_table_xinfo(?1)";
        let mut statement = transaction.prepare(sql)?;
        let columns = statement.query_map([&found.name], |row| {
            Ok(FoundColumn {
                name: row.get(0)?,
                declared: row.get(1)?,
                is_not_null: row.get(2)?,
                default: row.get(3)?,
                in_key: row.get(4)?,
                is_generated: row.get::<_, i64>(5)? != 0,
            })
        })?;
        found.columns = columns.collect::<Result<_, _>>()?;
        let mut statement =
            transaction.prepare("select \"from\" from pragma_foreign_key_list(?1)")?;
        let columns = statement.query_map([&found.name], |row| row.get(0))?;
        found.foreign_keys = columns.collect::<Result<_, _>>()?;
        Ok(Some(found))
    }

    fn column(&self, name: &str) -> Option<&FoundColumn> {
        self.columns
            .iter()
            .find(|column| is_same_name(&column.name, name))
    }

    fn is_autoincrement(&self) -> bool {
        // No pragma tells it. Elsewhere than after a key the word is only in comments and texts.
        self.sql.to_ascii_lowercase().contains("autoincrement")
    }

    fn check_kind(&self, collection: &Collection) -> Result<(), SchemaMismatch> {
        if self.kind == "table" {
            return Ok(());
        }
        let found = format!(
            "a {} of this name",
            if self.kind == "view" {
                "view"
            } else {
                "virtual table"
            }
        );
        let expected = "an ordinary table; name another with .table(\"…\")";
        Err(mismatch(
            collection,
            collection.key_column(),
            found,
            expected,
        ))
    }

    fn check_key(&self, collection: &Collection) -> Result<(Form, &str), SchemaMismatch> {
        let keys: Vec<&FoundColumn> = self
            .columns
            .iter()
            .filter(|column| column.in_key > 0)
            .collect();
        let wrong = |found: String, expected: String| {
            Err(mismatch(
                collection,
                collection.key_column(),
                found,
                expected,
            ))
        };
        let wanted = match collection.ids() {
            Ids::Integer => "integer primary key",
            _ => "text primary key",
        };
        let key = match (self.column(collection.key_column()), keys.as_slice()) {
            (Some(column), [key]) if is_same_name(&column.name, &key.name) => key,
            (Some(column), _) => {
                let found = format!(
                    "{} that is not the whole primary key",
                    said(&column.declared)
                );
                return wrong(found, format!("{wanted}, of this column alone"));
            }
            (None, [key]) => {
                let expected = format!("{wanted}; name the column with .key({:?})", key.name);
                return wrong("no such column".into(), expected);
            }
            (None, _) => return wrong("no such column".into(), wanted.into()),
        };
        let gives_ids = collection.is_creatable();
        if gives_ids && collection.ids() == Ids::Integer && self.is_without_rowid {
            let expected = "a table with rowids, to which SQLite gives ids; or .no_create() for the collection";
            return wrong("a table without rowid".into(), expected.into());
        }
        match fit_key(collection.ids(), &key.declared, gives_ids) {
            Ok(form) => Ok((form, &key.name)),
            Err(expected) => wrong(format!("{} primary key", said(&key.declared)), expected),
        }
    }

    fn check_field(&self, collection: &Collection, field: &Field) -> Result<Form, SchemaMismatch> {
        let wrong =
            |found: String, expected: &str| Err(mismatch(collection, &field.name, found, expected));
        let Some(column) = self.column(&field.name) else {
            return wrong("no such column".into(), "a column for the field");
        };
        if column.is_generated {
            return wrong(
                "a generated column".into(),
                "an ordinary column; leave the field out of the type, it can't be written",
            );
        }
        if column.in_key > 0 {
            return wrong(
                "the primary key".into(),
                "another column; leave the field out of the type",
            );
        }
        if is_nullable(field) && column.is_not_null {
            return wrong(
                format!("{} not null", said(&column.declared)),
                "a column that allows null, or a field that is no Option",
            );
        }
        fit(&field.schema.kind, &column.declared)
            .or_else(|expected| wrong(said(&column.declared), &expected))
    }

    /// A column that the collection does not name must do without it when a record is made.
    fn check_others(&self, collection: &Collection) -> Result<(), SchemaMismatch> {
        let is_known = |column: &FoundColumn| {
            column.in_key > 0
                || collection
                    .fields()
                    .iter()
                    .any(|field| is_same_name(&field.name, &column.name))
        };
        let has_default = |column: &FoundColumn| {
            column
                .default
                .as_deref()
                .is_some_and(|default| !is_same_name(default, "null"))
        };
        let needed = self.columns.iter().find(|column| {
            column.is_not_null && !column.is_generated && !has_default(column) && !is_known(column)
        });
        match needed {
            Some(column) if collection.is_creatable() => Err(mismatch(
                collection,
                &column.name,
                "not null without default, and no field",
                "a default in the table, a field of this name, or .no_create() for the collection",
            )),
            _ => Ok(()),
        }
    }
}

fn said(declared: &str) -> String {
    if declared.is_empty() {
        "a column without a type".to_owned()
    } else {
        declared.to_ascii_lowercase()
    }
}
