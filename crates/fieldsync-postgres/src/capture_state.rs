//! The state of a table's capture: whether its triggers are in place, and whether they were all the time.

use tokio_postgres::GenericClient;

use crate::column_types::Format;
use crate::dialect::Table;
use crate::error::Failure;
use crate::oids::with_oids;

/// What capture depends on, of each table: the side tables of capture, the table's storage, its partitions and inheritance
/// children, and the triggers of all; whether all that is captured has its triggers; and the inheritance children, which are
/// not captured. The parameters are the names of the tables as SQL, their logs, their key columns, the function, and the side
/// tables.
const STATES: &str = "select s.fingerprint, s.is_complete, s.children \
     from unnest($1::text[], $2::text[], $3::text[]) with ordinality as w (name, log, key, position) cross join lateral \
       (select format('%s/%s ', oid_of($5), oid_of($6)) || \
                 coalesce(string_agg(format('%s/%s/%s%s/%s%s', c.oid, c.relfilenode, r.xmin, r.tgenabled, t.xmin, t.tgenabled), \
                 ' ' order by c.oid), '') as fingerprint, \
               oid_of($5) is not null and oid_of($6) is not null and \
                 coalesce(bool_and(r.tgenabled = 'A' and r.tgfoid = function.oid and t.tgenabled = 'A' \
                 and t.tgfoid = function.oid and r.tgargs = args.expected and t.tgargs = args.expected) \
                 filter (where not tree.is_child), false) as is_complete, \
               string_agg(c.oid::regclass::text, ', ' order by c.oid) filter (where tree.is_child) as children \
        from (with recursive tree (oid, is_child) as \
                (select oid_of(w.name), false union \
                 select i.inhrelid, not c.relispartition from tree join pg_inherits i on i.inhparent = tree.oid \
                   join pg_class c on c.oid = i.inhrelid) \
              select * from tree) tree \
          join pg_class c on c.oid = tree.oid \
          left join lateral (select p.oid from pg_proc p join pg_namespace n on n.oid = p.pronamespace \
                 where n.nspname = (parse_ident($4))[1] and p.proname = (parse_ident($4))[2] and p.pronargs = 0) function on true \
          cross join (select string_agg(convert_to(a.argument, getdatabaseencoding()) || '\\x00', ''::bytea order by a.n) as expected \
                      from unnest(w.log || string_to_array(w.key, E'\\x01')) with ordinality a (argument, n)) args \
          left join pg_trigger r on r.tgrelid = c.oid and r.tgname = '!fieldsync_row' \
          left join pg_trigger t on t.tgrelid = c.oid and t.tgname = '!fieldsync_truncate') s \
     order by w.position";

/// The state of a table's capture.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct State {
    /// Differs whenever changes may have been missed.
    pub(crate) fingerprint: String,
    /// Whether the side tables and every trigger are in place and enabled.
    pub(crate) is_complete: bool,
    /// The inheritance children, whose changes are not captured.
    pub(crate) children: Option<String>,
}

/// A table with capture, which may not exist yet.
#[derive(Debug, Clone)]
pub(crate) struct CapturedTable {
    /// The name as SQL.
    pub(crate) sql_name: String,
    pub(crate) log: String,
    /// The key columns, as the arguments of the trigger name them.
    pub(crate) key: Vec<String>,
}

impl CapturedTable {
    pub(crate) fn of(table: &Table) -> Self {
        let key = table.key.iter();
        let key = key.map(|column| key_argument(&column.name, column.format == Format::KeyTime));
        Self {
            sql_name: table.sql_name.clone(),
            log: table.log.to_string(),
            key: key.collect(),
        }
    }
}

/// The argument that names a key column. A time is noted in UTC, whatever the time zone of the session.
pub(crate) fn key_argument(name: &str, is_time: bool) -> String {
    let prefix = if is_time { "utc:" } else { "" };
    format!("{prefix}{name}")
}

/// The name of the function.
pub(crate) fn function(schema: &str) -> String {
    format!("{}()", function_name(schema))
}

pub(crate) fn function_name(schema: &str) -> String {
    format!("{schema}.fieldsync_capture")
}

/// The names of the side tables that the function needs.
pub(crate) fn side_tables(schema: &str) -> [String; 2] {
    ["fieldsync_captured", "fieldsync_doorbell"].map(|name| format!("{schema}.{name}"))
}

/// The state of one table's capture.
pub(crate) async fn state_of(
    client: &impl GenericClient,
    schema: &str,
    table: &CapturedTable,
) -> Result<State, Failure> {
    let state = states(client, schema, std::slice::from_ref(table))
        .await?
        .pop();
    Ok(state.unwrap_or_default())
}

pub(crate) async fn states(
    client: &impl GenericClient,
    schema: &str,
    tables: &[CapturedTable],
) -> Result<Vec<State>, Failure> {
    let names: Vec<&str> = tables.iter().map(|table| &*table.sql_name).collect();
    let logs: Vec<&str> = tables.iter().map(|table| &*table.log).collect();
    let keys: Vec<String> = tables.iter().map(|table| table.key.join("\u{1}")).collect();
    let [captured, doorbell] = side_tables(schema);
    let rows = client
        .query(
            &with_oids(STATES),
            &[
                &names,
                &logs,
                &keys,
                &function_name(schema),
                &captured,
                &doorbell,
            ],
        )
        .await?;
    let states = rows.iter().map(|row| {
        Ok(State {
            fingerprint: row.try_get(0)?,
            is_complete: row.try_get(1)?,
            children: row.try_get(2)?,
        })
    });
    states.collect()
}
