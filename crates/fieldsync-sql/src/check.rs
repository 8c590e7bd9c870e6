//! Checks what exists: every way in which a table may not fit its collection is here.

use std::sync::Arc;

use fieldsync::Collection;
use fieldsync::backend::{Field, IdsGivenBy, SchemaMismatch, SetBy};

use crate::capture::has_capture;
use crate::catalog::{ColumnInfo, TableInfo, TableKind};
use crate::ddl::is_nullable;
use crate::dialect::Dialect;
use crate::layout::{Column, TableLayout};
use crate::mismatch::{did_you_mean, mismatch};
use crate::table::Table;

/// Checks that a table fits its collection, and learns how to use it. `is_ours`: whether fieldsync created the table.
/// `statements` builds the driver's own statements. The error is everything that does not fit, except columns that the
/// collection wants added.
pub(crate) fn check<D: Dialect>(
    collection: &Arc<Collection>,
    table: TableInfo,
    is_ours: bool,
    statements: impl FnOnce(&TableLayout<D>) -> D::TableStatements,
) -> Result<Table<D>, Vec<SchemaMismatch>> {
    check_kind(collection, &table).map_err(|wrong| vec![wrong])?;
    let mut wrong = Vec::new();
    let key = check_key::<D>(collection, &table).map_err(|one| wrong.push(one));
    let mut columns = Vec::new();
    for field in collection.fields() {
        match check_field::<D>(collection, &table, field) {
            Ok(format) => columns.push(Column {
                field: field.name.clone(),
                name: field.column.clone(),
                format,
                is_written: field.set_by != SetBy::Database,
                has_default: table
                    .column(&field.column, D::is_same_name)
                    .is_some_and(|column| column.has_default),
            }),
            // It is about to be added.
            Err(_) if is_added::<D>(collection, &table, field) => {}
            Err(one) => wrong.push(one),
        }
    }
    wrong.extend(unfilled_columns::<D>(collection, &table));
    let has_capture = has_capture(collection, &table, is_ours).map_err(|one| wrong.push(one));
    let (Ok(key), Ok(has_capture), []) = (key, has_capture, &*wrong) else {
        return Err(wrong);
    };
    let layout = TableLayout {
        collection: Arc::clone(collection.name()),
        definition: Arc::clone(collection),
        ids: collection.ids(),
        log: table.log.into(),
        has_capture: D::CAPTURES && has_capture,
        sql_name: table.sql_name,
        key,
        columns,
        foreign_keys: table.foreign_keys,
        name: table.name,
        constraints: table.constraints,
        id_source: table.id_source,
        next_id: table.next_id,
    };
    let own = statements(&layout);
    Ok(Table::new(layout, own))
}

fn is_added<D: Dialect>(collection: &Collection, table: &TableInfo, field: &Field) -> bool {
    collection.adds_missing_columns() && table.column(&field.column, D::is_same_name).is_none()
}

fn check_kind(collection: &Collection, table: &TableInfo) -> Result<(), SchemaMismatch> {
    let expected = match table.kind {
        TableKind::Table => return Ok(()),
        TableKind::View(_) if !collection.is_writable() => return Ok(()),
        TableKind::View(_) => {
            "an ordinary table, or .read_only() for the collection; name another with .table(\"…\")"
        }
        TableKind::Other(_) => "an ordinary table; name another with .table(\"…\")",
    };
    let (TableKind::Other(kind) | TableKind::View(kind)) = table.kind else {
        return Ok(());
    };
    let found = format!("{kind} of this name");
    Err(mismatch(collection, None, found, expected))
}

fn check_key<D: Dialect>(
    collection: &Collection,
    table: &TableInfo,
) -> Result<Vec<Column<D>>, SchemaMismatch> {
    let names = collection.key_columns();
    let mut columns = Vec::with_capacity(names.len());
    for name in names {
        let Some(column) = table.column(name, D::is_same_name) else {
            let wanted = format!("{} primary key", D::key_type(collection.ids()));
            let expected = match table.primary_key.as_slice() {
                [key] => format!("{wanted}; name the column with .key({key:?})"),
                [] => wanted,
                key => format!("{wanted}; name the columns with .composite_key({key:?})"),
            };
            return Err(mismatch(collection, &**name, "no such column", expected));
        };
        columns.push(column);
    }
    let is_key = |key: &[String]| {
        let is_in_key = |column: &&ColumnInfo| {
            let mut key = key.iter();
            key.any(|name| D::is_same_name(name, &column.name))
        };
        key.len() == columns.len() && columns.iter().all(is_in_key)
    };
    let is_not_null = columns.iter().all(|column| column.is_not_null);
    let is_unique = is_key(&table.primary_key)
        || is_not_null && table.unique_keys.iter().any(|key| is_key(key));
    if !is_unique && !matches!(table.kind, TableKind::View(_)) {
        let [column, ..] = columns.as_slice() else {
            return Err(mismatch(collection, None, "no key column", "one or more"));
        };
        let found = format!(
            "{} that is not the whole primary key",
            column.declared.shown
        );
        let expected = match table.primary_key.as_slice() {
            [] => "a primary key, or a unique index on columns that are not null".to_owned(),
            [key] => format!("the primary key; name its column with .key({key:?})"),
            key => format!("the primary key; name its columns with .composite_key({key:?})"),
        };
        return Err(mismatch(collection, &*column.name, found, expected));
    }
    let columns = columns.iter();
    columns
        .map(|column| key_column(collection, table, column))
        .collect()
}

fn key_column<D: Dialect>(
    collection: &Collection,
    table: &TableInfo,
    column: &ColumnInfo,
) -> Result<Column<D>, SchemaMismatch> {
    let wrong =
        |found: String, expected: String| Err(mismatch(collection, &*column.name, found, expected));
    let is_given = collection.ids_given_by() == IdsGivenBy::Database;
    if column.is_generated && !is_given && collection.is_writable() {
        let wanted = format!("{} primary key", D::key_type(collection.ids()));
        return wrong("a generated column".into(), wanted);
    }
    let gives_ids = collection.is_creatable() && is_given;
    match D::key_format(collection.ids(), column, gives_ids) {
        Ok(format) => Ok(Column {
            field: "id".to_owned(),
            name: column.name.clone(),
            format,
            is_written: true,
            has_default: column.has_default,
        }),
        Err(unfit) => {
            let what = match table.kind {
                TableKind::View(_) => "",
                _ => " primary key",
            };
            let shown = || format!("{}{what}", column.declared.shown);
            wrong(unfit.found.unwrap_or_else(shown), unfit.expected)
        }
    }
}

fn check_field<D: Dialect>(
    collection: &Collection,
    table: &TableInfo,
    field: &Field,
) -> Result<D::Format, SchemaMismatch> {
    let wrong =
        |found: String, expected: &str| Err(mismatch(collection, &*field.name, found, expected));
    let Some(column) = table.column(&field.column, D::is_same_name) else {
        let columns = table.columns.iter().map(|column| &*column.name);
        let hint = did_you_mean(&field.name, columns);
        let expected = format!(
            "a column for the field; .add_missing_columns() on the collection adds it{hint}"
        );
        return wrong("no such column".into(), &expected);
    };
    let is_written = field.set_by != SetBy::Database && collection.is_writable();
    if column.is_generated && is_written {
        return wrong(
            "a generated column".into(),
            "an ordinary column, or .read_only_fields() for the collection with this field",
        );
    }
    if collection.key_columns().len() == 1
        && D::is_same_name(&collection.key_columns()[0], &column.name)
    {
        return wrong(
            "the primary key".into(),
            "another column; leave the field out of the type",
        );
    }
    if is_nullable(field) && column.is_not_null && is_written {
        return wrong(
            format!("{} not null", column.declared.shown),
            "a column that allows null, or a field that is not an Option",
        );
    }
    D::format(&field.schema.kind, &column.declared)
        .or_else(|expected| wrong(column.declared.shown.clone(), &expected))
}

/// A new record leaves out the columns that are not fields. Those that do not allow that.
fn unfilled_columns<D: Dialect>(collection: &Collection, table: &TableInfo) -> Vec<SchemaMismatch> {
    if !collection.is_creatable() {
        return Vec::new();
    }
    let is_field = |column: &ColumnInfo| {
        let mut fields = collection.fields().iter();
        fields.any(|field| D::is_same_name(&field.column, &column.name))
    };
    let needed = table.columns.iter().filter(|column| {
        let may_be_left_out = !column.is_not_null || column.is_generated || column.has_default;
        let mut key = collection.key_columns().iter();
        let is_in_key = key.any(|name| D::is_same_name(name, &column.name));
        !may_be_left_out && !is_in_key && !is_field(column)
    });
    let found = "not null without default, and no such field";
    let expected =
        "a default in the table, a field of this name, or .no_create() for the collection";
    needed
        .map(|column| mismatch(collection, &*column.name, found, expected))
        .collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::HashMap;

    use fieldsync::RecordId;
    use fieldsync::backend::{StoreError, Write};
    use serde_json::json;

    use super::*;
    use crate::catalog::DeclaredType;
    use crate::ddl::{create_table, missing_columns};
    use crate::test_dialect::TestDialect;

    fn notes(fields: &[&str]) -> Collection {
        let text = |name: &&str| ((*name).to_owned(), json!({"type": "string", "default": ""}));
        let properties: serde_json::Map<_, _> = fields.iter().map(text).collect();
        let schema = json!({"type": "object", "properties": properties});
        Collection::from_schema("notes", &schema)
    }

    fn column(name: &str) -> ColumnInfo {
        ColumnInfo {
            name: name.to_owned(),
            declared: DeclaredType::parse("LONGTEXT"),
            is_not_null: true,
            has_default: false,
            is_generated: false,
        }
    }

    fn table(columns: &[&str]) -> TableInfo {
        TableInfo {
            is_strict: false,
            name: "notes".to_owned(),
            log: "notes".to_owned(),
            sql_name: "`notes`".to_owned(),
            kind: TableKind::Table,
            columns: columns.iter().map(|name| column(name)).collect(),
            primary_key: vec!["id".to_owned()],
            unique_keys: Vec::new(),
            foreign_keys: Vec::new(),
            constraints: HashMap::new(),
            capture: Vec::new(),
            id_source: None,
            next_id: None,
        }
    }

    /// The table of notes with columns for these fields.
    pub(crate) fn notes_table(fields: &[&str]) -> Table<TestDialect> {
        let columns = [&["id"], fields].concat();
        check(&Arc::new(notes(fields)), table(&columns), true, |_| ()).unwrap()
    }

    #[test]
    fn what_is_missing_is_created() {
        assert_eq!(
            create_table::<TestDialect>(&notes(&["a"]), "`notes`").unwrap(),
            "create table `notes` (\n  `id` bigint auto_increment primary key,\n  `a` longtext not null default '\"\"'\n)"
        );
        assert_eq!(
            missing_columns::<TestDialect>(&notes(&["a", "b"]), &table(&["id", "a"])),
            [Ok(
                "alter table `notes` add column `b` longtext not null default '\"\"'".to_owned()
            )]
        );
    }

    #[test]
    fn what_does_not_fit_is_reported() {
        let check = |fields: &[&str], columns: &[&str]| {
            let checked =
                check::<TestDialect>(&Arc::new(notes(fields)), table(columns), true, |_| ());
            StoreError::Schema(checked.unwrap_err()).to_string()
        };
        assert_eq!(
            check(&["name", "other"], &["id", "nmae", "owner"]),
            "table notes, column name: found no such column, expected a column for the field; .add_missing_columns() on the \
             collection adds it; did you mean \"nmae\"?\n\
             table notes, column other: found no such column, expected a column for the field; .add_missing_columns() on the \
             collection adds it\n\
             table notes, column nmae: found not null without default, and no such field, expected a default in the table, \
             a field of this name, or .no_create() for the collection\n\
             table notes, column owner: found not null without default, and no such field, expected a default in the table, \
             a field of this name, or .no_create() for the collection"
        );
        let long = "a_name_of_21_letters_";
        let mismatch = create_table::<TestDialect>(&notes(&[long]), "`notes`").unwrap_err();
        assert!(mismatch.to_string().contains("at most 20 bytes"));
    }

    #[test]
    fn a_table_writes_in_the_dialect() {
        let table = notes_table(&["a", "b"]);
        let id = RecordId::Integer(7);
        let fields = || [("b".to_owned(), json!(1))].into_iter().collect();
        let check = |write: &Write, expected: &str, parameters: usize| {
            let statement = table.write(write);
            assert_eq!(statement.sql, expected);
            assert_eq!(statement.parameters.len(), parameters);
        };
        let insert = Write::Insert {
            id: None,
            fields: fields(),
        };
        check(&insert, "insert into `notes` (`a`, `b`) values (?, ?)", 2);
        let update = Write::Update {
            id: id.clone(),
            fields: fields(),
        };
        check(
            &update,
            "update `notes` set `b` = ? where `notes`.`id` = ?",
            2,
        );
        check(
            &Write::Delete { id },
            "delete from `notes` where `notes`.`id` = ?",
            1,
        );
    }
}
