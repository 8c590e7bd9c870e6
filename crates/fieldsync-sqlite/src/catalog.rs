//! Reads SQLite's catalog.

use std::collections::{BTreeMap, HashMap};

use fieldsync::Collection;
use fieldsync::backend::{Ids, IdsGivenBy, SchemaMismatch};
use fieldsync_sql::{
    ColumnInfo, DeclaredType, Dialect as _, ForeignKeyInfo, FoundSideTable, IdSource, MissingTable,
    SqlValue, TableInfo, TableKind,
};
use rusqlite::{Connection, OptionalExtension as _};

use crate::bare_sql::without_quotes;
use crate::column_types::{BLOB, is_time, is_uuid};
use crate::dialect::Sqlite;
use crate::error::Failure;

/// What has the name of a collection's table.
pub(crate) fn find(
    connection: &Connection,
    collection: &Collection,
) -> Result<Result<TableInfo, MissingTable>, Failure> {
    if let Some(table) = read(connection, collection)? {
        return Ok(Ok(table));
    }
    let sql = "select name from pragma_table_list where schema = 'main' and type = 'table' \
               and name not like 'sqlite\\_%' escape '\\' and name not like 'fieldsync\\_%' escape '\\'";
    let mut statement = connection.prepare(sql)?;
    let others = statement.query_map([], |row| row.get(0))?;
    Ok(Err(MissingTable {
        log: collection.table_name().to_owned(),
        sql_name: Sqlite::quote(collection.table_name()),
        others: others.collect::<Result<_, _>>()?,
    }))
}

/// The side tables and their indexes.
pub(crate) fn side_tables(connection: &Connection) -> Result<Vec<FoundSideTable>, Failure> {
    let sql = "select s.name, c.name from sqlite_schema s left join pragma_table_info(s.name) c \
               where s.name glob 'fieldsync_*' order by s.name, c.cid";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    let mut tables: Vec<FoundSideTable> = Vec::new();
    while let Some(row) = rows.next()? {
        let (name, column): (String, Option<String>) = (row.get(0)?, row.get(1)?);
        match tables.last_mut() {
            Some(table) if table.name == name => table.columns.extend(column),
            _ => tables.push(FoundSideTable {
                name,
                columns: column.into_iter().collect(),
            }),
        }
    }
    Ok(tables)
}

fn read(connection: &Connection, collection: &Collection) -> Result<Option<TableInfo>, Failure> {
    let sql = "select l.name, l.type, l.wr, l.strict, coalesce(s.sql, '') from pragma_table_list l \
               left join sqlite_schema s on s.name = l.name and s.type in ('table', 'view') \
               where l.schema = 'main' and l.name = ?1 collate nocase";
    let found = connection
        .query_row(sql, [collection.table_name()], |row| {
            let (name, kind): (String, String) = (row.get(0)?, row.get(1)?);
            let (is_without_rowid, is_strict) = (row.get(2)?, row.get(3)?);
            Ok((name, kind, is_without_rowid, is_strict, row.get(4)?))
        })
        .optional()?;
    let Some((name, kind, is_without_rowid, is_strict, sql)): Option<(_, _, bool, _, String)> =
        found
    else {
        return Ok(None);
    };
    // No pragma tells it. The word occurs elsewhere only in comments, literals and quoted names.
    let is_autoincrement = without_quotes(&sql).contains("autoincrement");
    let has_integer_ids =
        collection.ids() == Ids::Integer && collection.ids_given_by() == IdsGivenBy::Database;
    let id_source = (has_integer_ids && !is_autoincrement).then(|| id_source(collection, &name));
    let next_id = match &id_source {
        Some(source) => Some(source.next.clone()),
        None => has_integer_ids.then(|| next_autoincrement(collection, &name)),
    };
    let (columns, primary_key) = columns(connection, &name, !is_without_rowid)?;
    Ok(Some(TableInfo {
        capture: Vec::new(),
        is_strict,
        kind: match &*kind {
            "table" => TableKind::Table,
            "view" => TableKind::View("a view"),
            _ => TableKind::Other("a virtual table"),
        },
        id_source,
        next_id,
        foreign_keys: foreign_keys(connection, &name)?,
        // Errors name columns, or a definition that `blame` reads.
        constraints: HashMap::new(),
        log: name.clone(),
        unique_keys: unique_keys(connection, &name)?,
        sql_name: Sqlite::quote(&name),
        name,
        columns,
        primary_key,
    }))
}

/// A reference without columns is to the primary key.
fn foreign_keys(connection: &Connection, table: &str) -> Result<Vec<ForeignKeyInfo>, Failure> {
    let sql = "select f.id, f.\"from\", coalesce(l.name, f.\"table\"), coalesce(f.\"to\", \
                 (select name from pragma_table_info(f.\"table\") where pk = f.seq + 1), '') \
               from pragma_foreign_key_list(?1) f left join pragma_table_list l \
                 on l.schema = 'main' and l.name = f.\"table\" collate nocase order by f.id, f.seq";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([table])?;
    let mut foreign_keys: BTreeMap<i64, ForeignKeyInfo> = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let target = row.get(2)?;
        let key = foreign_keys.entry(row.get(0)?).or_insert(ForeignKeyInfo {
            columns: Vec::new(),
            target,
            target_columns: Vec::new(),
        });
        key.columns.push(row.get(1)?);
        key.target_columns.push(row.get(3)?);
    }
    Ok(foreign_keys.into_values().collect())
}

/// Checks that what a table refers to exists, and has a unique key for it. SQLite itself finds out only when a row is written, and
/// then refuses every row.
pub(crate) fn check_foreign_keys(
    connection: &Connection,
    collection: &Collection,
) -> Result<Option<SchemaMismatch>, Failure> {
    let table = collection.table_name();
    let sql = "select f.\"from\", f.\"table\" from pragma_foreign_key_list(?1) f where not exists \
               (select 1 from pragma_table_list l where l.schema = 'main' and l.name = f.\"table\" collate nocase)";
    let missing = connection
        .query_row(sql, [table], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let mismatch = |column: String, found: String, expected: String| {
        Ok(Some(SchemaMismatch {
            table: table.to_owned(),
            column: Some(column),
            found,
            expected,
        }))
    };
    if let Some((column, parent)) = missing {
        let parent: String = parent;
        let found = format!("a reference to the table {parent}, which does not exist");
        let expected = format!("a table {parent}, or a column without the reference");
        return mismatch(column, found, expected);
    }
    // SQLite compares a reference with the keys of its table when it compiles a statement. A DELETE is about the references to
    // this table, an INSERT about those of this table.
    let name = Sqlite::quote(table);
    for sql in [
        format!("insert into {name} default values"),
        format!("delete from {name}"),
    ] {
        if let Err(error) = connection.prepare(&sql) {
            let found = error.to_string();
            if found.starts_with("foreign key mismatch") {
                let column = collection.key_columns()[0].clone();
                let expected = "references to the primary key, or to columns with a unique index";
                return mismatch(column, found, expected.to_owned());
            }
        }
    }
    Ok(None)
}

/// The columns of a table, and those of its primary key.
pub(crate) fn columns(
    connection: &Connection,
    table: &str,
    gives_ids: bool,
) -> Result<(Vec<ColumnInfo>, Vec<String>), Failure> {
    // A rowid that SQLite gives is of the type INTEGER, and the whole key.
    let sql = "select name, type, \"notnull\", dflt_value, pk, hidden, \
                 type = 'INTEGER' collate nocase and (select count(*) from pragma_table_info(?1) where pk > 0) = 1 \
               from pragma_table_xinfo(?1) where hidden <> 1";
    let mut statement = connection.prepare(sql)?;
    let mut primary_key = Vec::new();
    let columns = statement.query_map([table], |row| {
        let (name, declared): (String, String) = (row.get(0)?, row.get(1)?);
        let default: Option<String> = row.get(3)?;
        let place: i64 = row.get(4)?;
        let is_in_key = place > 0;
        if is_in_key {
            primary_key.push((place, name.clone()));
        }
        let gives_ids = gives_ids && row.get(6)?;
        let is_not_null_default = |default: String| !default.eq_ignore_ascii_case("null");
        Ok(ColumnInfo {
            name,
            declared: DeclaredType::parse(&declared),
            is_not_null: row.get(2)?,
            has_default: default.is_some_and(is_not_null_default) || is_in_key && gives_ids,
            is_generated: row.get::<_, i64>(5)? != 0,
        })
    })?;
    let mut columns: Vec<ColumnInfo> = columns.collect::<Result<_, _>>()?;
    for column in &mut columns {
        if is_time(&column.declared) || is_uuid(&column.declared) {
            column.declared.sample = sample(connection, table, &column.name)?;
        }
    }
    primary_key.sort();
    Ok((
        columns,
        primary_key.into_iter().map(|(_, name)| name).collect(),
    ))
}

/// A value of a column, as text. For a blob, what it is.
fn sample(connection: &Connection, table: &str, column: &str) -> Result<Option<String>, Failure> {
    let (table, column) = (Sqlite::quote(table), Sqlite::quote(column));
    let sql = format!(
        "select iif(typeof({table}.{column}) = '{BLOB}', '{BLOB}', cast({table}.{column} as text)) from {table} \
         where {table}.{column} is not null limit 1"
    );
    // A view may fail when it is read.
    Ok(connection.query_row(&sql, [], |row| row.get(0)).ok())
}

/// The columns of each unique index without an expression or a condition.
pub(crate) fn unique_keys(
    connection: &Connection,
    table: &str,
) -> Result<Vec<Vec<String>>, Failure> {
    let sql = "select i.name, c.name from pragma_index_list(?1) i join pragma_index_info(i.name) c \
               where i.\"unique\" and not i.partial order by i.seq, c.seqno";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([table])?;
    let mut keys: Vec<(String, Vec<Option<String>>)> = Vec::new();
    while let Some(row) = rows.next()? {
        let (index, column): (String, Option<String>) = (row.get(0)?, row.get(1)?);
        match keys.last_mut() {
            Some((name, columns)) if *name == index => columns.push(column),
            _ => keys.push((index, vec![column])),
        }
    }
    let keys = keys.into_iter();
    Ok(keys
        .filter_map(|(_, columns)| columns.into_iter().collect())
        .collect())
}

/// The id that AUTOINCREMENT will give next.
fn next_autoincrement(collection: &Collection, table: &str) -> String {
    let name = Sqlite::literal(&SqlValue::text(table));
    let highest_given = format!("select max(seq) from sqlite_sequence where name = {name}");
    next_id(collection, table, &highest_given)
}

/// Ids that no row has or had. Without autoincrement SQLite would give the id of the newest row again after its deletion.
fn id_source(collection: &Collection, table: &str) -> IdSource {
    let log = Sqlite::literal(&SqlValue::text(table));
    // What others deleted counts before it is logged.
    let highest_given = format!(
        "select max(last_id, coalesce((select max(key) from fieldsync_captured where tbl = {log}), 0)) \
         from fieldsync_heads where log = {log}"
    );
    IdSource {
        next: next_id(collection, table, &highest_given),
        keep: format!("update fieldsync_heads set last_id = max(last_id, ?1) where log = {log}"),
    }
}

/// An expression for the id after those of the table's rows and the highest one that was given.
fn next_id(collection: &Collection, table: &str, highest_given: &str) -> String {
    let key = Sqlite::quote(&collection.key_columns()[0]);
    let table = Sqlite::quote(table);
    format!(
        "(select 1 + max(coalesce((select max({table}.{key}) from {table}), 0), coalesce(({highest_given}), 0)))"
    )
}
