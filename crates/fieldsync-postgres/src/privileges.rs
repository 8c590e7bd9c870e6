//! What the role may do, and the GRANTs that it lacks. A role that only reads needs no more than to read.

use deadpool_postgres::Transaction;
use fieldsync::Collection;
use fieldsync::backend::IdsGivenBy;
use fieldsync_sql::{Dialect as _, FoundSideTable, MissingTable, SqlValue, TableInfo};

use crate::catalog::rows;
use crate::dialect::Postgres;
use crate::error::Failure;
use crate::oids::with_oids;

/// The privileges that the role lacks.
#[derive(Debug)]
pub(crate) struct Privileges {
    /// The role, quoted.
    role: String,
    /// The statements that grant what is missing.
    pub(crate) grants: Vec<String>,
    /// The first schema or table that the role must be able to read, and can't.
    pub(crate) unreadable: Option<String>,
    /// Whether side tables that are missing will belong to the role.
    may_create_side_tables: bool,
}

/// The side tables, and what an edit or the capture does with them.
const SIDE_TABLES: [(&str, &str); 5] = [
    ("fieldsync_heads", READ_AND_WRITE),
    ("fieldsync_tables", READ_AND_WRITE),
    ("fieldsync_changes", READ_AND_WRITE),
    ("fieldsync_keys", READ_AND_WRITE),
    ("fieldsync_secrets", "select"),
];

/// Those of capture. The triggers' function inserts with rights of its own.
const CAPTURE_TABLES: [(&str, &str); 2] = [
    ("fieldsync_captured", "select, delete"),
    ("fieldsync_doorbell", "select, update"),
];

const READ_AND_WRITE: &str = "select, insert, update, delete";

/// The privileges on the side tables.
pub(crate) async fn of_side_tables(
    transaction: &Transaction<'_>,
    schema: &str,
    found: &[FoundSideTable],
) -> Result<Privileges, Failure> {
    let sql = "select current_user::text, coalesce(has_schema_privilege(n.oid, 'usage'), false), \
                 coalesce(has_schema_privilege(n.oid, 'create'), false), \
                 n.oid is null and has_database_privilege(current_database(), 'create'), n.oid is not null \
               from (select 1) one left join pg_namespace n on n.nspname = $1";
    let row = transaction.query_one(sql, &[&schema]).await?;
    let (may_use, may_create): (bool, bool) = (row.try_get(1)?, row.try_get(2)?);
    let (may_create_schema, exists): (bool, bool) = (row.try_get(3)?, row.try_get(4)?);
    let mut privileges = Privileges {
        role: Postgres::quote(row.try_get(0)?),
        grants: Vec::new(),
        unreadable: None,
        may_create_side_tables: false,
    };
    let quoted = Postgres::quote(schema);
    if !may_use && !may_create_schema {
        privileges.grant("usage", &format!("schema {quoted}"));
        if exists {
            privileges.unreadable = Some(format!("schema {schema}"));
        }
    }
    privileges.may_create_side_tables = may_create || may_create_schema;
    privileges
        .add_side_tables(transaction, schema, found, &SIDE_TABLES)
        .await?;
    Ok(privileges)
}

impl Privileges {
    fn grant(&mut self, what: &str, on: &str) {
        self.grants
            .push(format!("grant {what} on {on} to {}", self.role));
    }

    /// Adds the side tables of capture.
    pub(crate) async fn add_capture_tables(
        &mut self,
        transaction: &Transaction<'_>,
        schema: &str,
        found: &[FoundSideTable],
    ) -> Result<(), Failure> {
        self.add_side_tables(transaction, schema, found, &CAPTURE_TABLES)
            .await
    }

    async fn add_side_tables(
        &mut self,
        transaction: &Transaction<'_>,
        schema: &str,
        found: &[FoundSideTable],
        tables: &[(&str, &str)],
    ) -> Result<(), Failure> {
        for (table, wanted) in tables {
            if found.iter().any(|found| found.name == *table) {
                self.add_existing(transaction, schema, table, wanted)
                    .await?;
            } else if !self.may_create_side_tables {
                self.grant(wanted, &format!("{}.{table}", Postgres::quote(schema)));
            }
        }
        Ok(())
    }

    /// Adds the schema that a collection's table names.
    pub(crate) async fn add_schema(
        &mut self,
        transaction: &Transaction<'_>,
        collection: &Collection,
    ) -> Result<(), Failure> {
        let Some((schema, _)) = collection.table_name().split_once('.') else {
            return Ok(());
        };
        let sql = "select from pg_namespace where nspname = $1 and not has_schema_privilege(oid, 'usage')";
        if !rows(transaction, sql, &[&schema]).await?.is_empty() {
            self.grant("usage", &format!("schema {}", Postgres::quote(schema)));
            self.unreadable
                .get_or_insert_with(|| format!("schema {schema}"));
        }
        Ok(())
    }

    /// Adds a collection's table.
    pub(crate) async fn add_table(
        &mut self,
        transaction: &Transaction<'_>,
        collection: &Collection,
        table: &Result<TableInfo, MissingTable>,
    ) -> Result<(), Failure> {
        let wanted = match (collection.is_writable(), collection.is_creatable()) {
            (false, _) => "select",
            (true, false) => "select, update, delete",
            (true, true) => READ_AND_WRITE,
        };
        match table {
            Ok(table) => {
                let sql = "select n.nspname::text, c.relname::text from pg_class c \
                           join pg_namespace n on n.oid = c.relnamespace where c.oid = oid_of($1)";
                for row in rows(transaction, &with_oids(sql), &[&table.sql_name]).await? {
                    let (schema, name): (String, String) = (row.try_get(0)?, row.try_get(1)?);
                    self.add_existing(transaction, &schema, &name, wanted)
                        .await?;
                }
                self.add_sequences(transaction, collection, table).await
            }
            Err(missing) if collection.is_own() => {
                if !self.may_create_side_tables {
                    self.grant(wanted, &missing.sql_name);
                }
                Ok(())
            }
            Err(missing) => {
                let sql = "select has_schema_privilege(current_schema(), 'create')";
                if transaction.query_one(sql, &[]).await?.try_get(0)? {
                    return Ok(());
                }
                self.grant(wanted, &missing.sql_name);
                if collection.ids_given_by() == IdsGivenBy::Database && collection.is_creatable() {
                    self.grant_new_sequence(collection, missing);
                }
                Ok(())
            }
        }
    }

    async fn add_existing(
        &mut self,
        transaction: &Transaction<'_>,
        schema: &str,
        table: &str,
        wanted: &str,
    ) -> Result<(), Failure> {
        // A list of privileges asks for any of them.
        let sql = "select has_any_column_privilege(c.oid, 'select'), \
                     (select bool_and(has_table_privilege(c.oid, wanted)) from unnest(string_to_array($3, ', ')) wanted) \
                   from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = $1 and c.relname = $2";
        for row in rows(transaction, sql, &[&schema, &table, &wanted]).await? {
            if !row.try_get::<_, bool>(1)? {
                let name = format!("{}.{}", Postgres::quote(schema), Postgres::quote(table));
                self.grant(wanted, &name);
            }
            if !row.try_get::<_, bool>(0)? && self.unreadable.is_none() {
                self.unreadable = Some(format!("table {schema}.{table}"));
            }
        }
        Ok(())
    }

    /// The sequences that give values to columns: an id that is reserved before its record is inserted, and defaults.
    async fn add_sequences(
        &mut self,
        transaction: &Transaction<'_>,
        collection: &Collection,
        table: &TableInfo,
    ) -> Result<(), Failure> {
        let key = &collection.key_columns()[0];
        let has_key = table.columns.iter().any(|column| column.name == *key);
        if !has_key || !collection.is_creatable() {
            return Ok(());
        }
        let sql = "select format('%I.%I', n.nspname, c.relname) from \
                     (select d.refobjid from pg_attrdef a join pg_depend d on d.classid = 'pg_attrdef'::regclass \
                        and d.objid = a.oid and d.refclassid = 'pg_class'::regclass where a.adrelid = oid_of($1) \
                      union select o.objid from pg_depend o join pg_attribute k on k.attrelid = o.refobjid and k.attnum = o.refobjsubid \
                        where o.classid = 'pg_class'::regclass and o.refclassid = 'pg_class'::regclass and o.refobjid = oid_of($1) \
                          and o.deptype in ('a', 'i') and k.attname = $2) s (id) \
                   join pg_class c on c.oid = s.id join pg_namespace n on n.oid = c.relnamespace \
                   where case c.relkind when 'S' then not has_sequence_privilege(c.oid, 'usage') end order by 1";
        for row in rows(transaction, &with_oids(sql), &[&table.sql_name, &key]).await? {
            let sequence: String = row.try_get(0)?;
            self.grant("usage", &format!("sequence {sequence}"));
        }
        Ok(())
    }

    /// The sequence of a table that someone else creates has no name yet.
    fn grant_new_sequence(&mut self, collection: &Collection, table: &MissingTable) {
        let literal = |text: &str| Postgres::literal(&SqlValue::text(text));
        let (table, key) = (
            literal(&table.sql_name),
            literal(&collection.key_columns()[0]),
        );
        let grant = literal(&format!("grant usage on sequence %s to {}", self.role));
        self.grants.push(format!(
            "do $$ begin execute format({grant}, pg_get_serial_sequence({table}, {key})); end $$"
        ));
    }
}
