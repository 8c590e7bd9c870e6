//! No value changes by being read and written, whatever its type.

use std::collections::BTreeMap;

use fieldsync::backend::Store as _;
use fieldsync::{Collection, Engine, Fields};
use fieldsync_postgres::PostgresStore;

use crate::changes::{next_change, until_live};
use crate::cluster::{connect, fresh_database};

const TYPES: &str = "create type mood as enum ('sad', 'ok', 'it''s \"so\"');
    create type point3 as (x integer, y numeric, label text, tags text[]);
    create domain positive as integer check (value > 0);
    create domain small_positive as positive check (value < 1000);
    create extension if not exists hstore;
    create extension if not exists citext;
    create extension if not exists ltree";

/// Types, and literals of their values.
const VALUES: &[(&str, &[&str])] = &[
    ("smallint", &["-32768", "32767"]),
    ("integer", &["-2147483648", "0"]),
    (
        "bigint",
        &[
            "-9223372036854775808",
            "9223372036854775807",
            "9007199254740991",
            "9007199254740993",
            "115000000000000001",
        ],
    ),
    (
        "real",
        &[
            "0.1",
            "3.4028235e+38",
            "1e-45",
            "'NaN'",
            "'Infinity'",
            "'-Infinity'",
        ],
    ),
    (
        "double precision",
        &[
            "0.30000000000000004",
            "1.7976931348623157e308",
            "5e-324",
            "-0.0",
            "'NaN'",
            "'Infinity'",
            "'-Infinity'",
        ],
    ),
    (
        "numeric",
        &[
            "12345678901234567890123.4567890",
            "0.00000000000000000001",
            "'NaN'",
            "'Infinity'",
            "1e100",
        ],
    ),
    ("numeric(5,2)", &["4.99", "-999.99", "0", "'NaN'"]),
    ("numeric(30,10)", &["12345678901234567890.0123456789"]),
    ("money", &["'$1,234.56'", "'-$0.01'"]),
    ("text", &["''", "'a\"b\\c\n\t'", "'null'", "'日本 🎉'"]),
    ("varchar(20)", &["'abc'", "''"]),
    ("char(5)", &["'ab'", "'abcde'"]),
    ("citext", &["'AbC'"]),
    ("name", &["'a name'"]),
    ("\"char\"", &["'x'"]),
    ("boolean", &["true", "false"]),
    (
        "date",
        &[
            "'2026-01-13'",
            "'0001-01-01'",
            "'9999-12-31'",
            "'infinity'",
            "'-infinity'",
            "'0044-03-15 BC'",
            "'20000-01-01'",
        ],
    ),
    (
        "timestamptz",
        &[
            "'2026-01-13 10:00:00.123456+02'",
            "'9999-12-31 23:59:59.999999+00'",
            "'infinity'",
            "'-infinity'",
            "'0044-03-15 12:00:00+00 BC'",
            "'20000-01-01 00:00:00+00'",
        ],
    ),
    (
        "timestamp",
        &[
            "'2026-01-13 10:00:00.123456'",
            "'9999-12-31 23:59:59'",
            "'infinity'",
            "'0044-03-15 12:00:00 BC'",
        ],
    ),
    ("time", &["'10:00:00.123456'", "'24:00:00'"]),
    ("timetz", &["'10:00:00+05:30'"]),
    (
        "interval",
        &[
            "'1 year 2 mons 3 days 04:05:06.789'",
            "'-1 days +02:03:00'",
            "'0'",
        ],
    ),
    ("uuid", &["'67e55044-10b1-426f-9247-bb680e5fe0c8'"]),
    (
        "bytea",
        &["'\\x00ff61'", "''", "decode(repeat('ab', 200), 'hex')"],
    ),
    (
        "json",
        &[
            "'{\"a\": [1, null, \"x\"], \"b\": {}}'",
            "'[]'",
            "'\"text\"'",
            "'1.5'",
        ],
    ),
    (
        "jsonb",
        &[
            "'{\"a\": [1, null, \"x\"], \"b\": {}}'",
            "'[]'",
            "'\"text\"'",
            "'1.5'",
            "'false'",
        ],
    ),
    ("mood", &["'sad'", "'it''s \"so\"'"]),
    ("positive", &["7"]),
    ("small_positive", &["8"]),
    (
        "integer[]",
        &["'{1,2,3}'", "'{}'", "'{NULL,1}'", "'{{1,2},{3,4}}'"],
    ),
    ("bigint[]", &["'{9223372036854775807,1}'"]),
    ("numeric[]", &["'{12345678901234567890.12345,1}'"]),
    ("double precision[]", &["'{0.1,NaN,Infinity}'"]),
    (
        "text[]",
        &["'{a,\"b,c\",\"{}\",\"\\\"\",NULL,\"NULL\",\"\"}'"],
    ),
    ("timestamptz[]", &["'{\"2026-01-13 10:00:00+00\"}'"]),
    ("bytea[]", &["array['\\x00ff'::bytea]"]),
    ("jsonb[]", &["array['{\"a\": 1}'::jsonb, '[1, 2]'::jsonb]"]),
    ("mood[]", &["'{sad,ok}'"]),
    ("uuid[]", &["'{67e55044-10b1-426f-9247-bb680e5fe0c8}'"]),
    (
        "point3",
        &[
            "row(1, 2.5, 'a', array['x', 'y'])",
            "row(null, null, null, null)",
        ],
    ),
    ("inet", &["'192.168.0.1/24'", "'10.0.0.1'", "'::1'"]),
    ("cidr", &["'10.0.0.0/8'"]),
    ("macaddr", &["'08:00:2b:01:02:03'"]),
    ("bit(3)", &["B'101'"]),
    ("bit varying", &["B'10'"]),
    ("point", &["'(1.5,2)'"]),
    ("box", &["'((1,1),(0,0))'"]),
    ("polygon", &["'((0,0),(1,1),(1,0))'"]),
    ("int4range", &["'[1,5)'", "'empty'", "'(,)'"]),
    ("tstzrange", &["'[2026-01-13 10:00+00,)'"]),
    ("int4multirange", &["'{[1,3),[5,7)}'"]),
    ("tsvector", &["'a:1 b:2'"]),
    ("tsquery", &["'a & b'"]),
    ("xml", &["'<a b=\"c\">d</a>'"]),
    ("hstore", &["'a=>1, b=>NULL, \"c d\"=>\"\\\"\"'", "''"]),
    ("ltree", &["'Top.Science'"]),
    ("oid", &["12345"]),
    ("regclass", &["'pg_class'"]),
    ("pg_lsn", &["'16/B374D848'"]),
];

#[tokio::test(flavor = "multi_thread")]
async fn no_value_changes_by_being_read_and_written() {
    let url = fresh_database().await;
    let sql = connect(&url).await;
    sql.batch_execute(TYPES).await.unwrap();
    let mut names = BTreeMap::new();
    for (number, (kind, values)) in VALUES.iter().enumerate() {
        let table = format!("v{number}");
        let rows: Vec<_> = values
            .iter()
            .map(|value| format!("(cast({value} as {kind}))"))
            .collect();
        sql.batch_execute(&format!(
            "create table {table} (id bigint generated always as identity primary key, value {kind}, needed {kind} not null); \
             insert into {table} (value, needed) select v, v from (values {}) as v(v); insert into {table} (value, needed) \
             select null, needed from {table} where id = 1",
            rows.join(", ")
        ))
        .await
        .unwrap_or_else(|error| panic!("{kind}: {error:?}"));
        names.insert(table, (*kind, values.len() + 1));
    }
    let store = PostgresStore::connect(&url).await.unwrap();
    let mut builder = Engine::builder();
    for table in store.tables().await.unwrap() {
        let (collection, left_out) = Collection::from_description(&table).unwrap();
        assert_eq!(left_out, []);
        builder = builder.collection(collection.without_capture().open_to_everyone());
    }
    let engine = builder.store(store).start().await.unwrap();
    for (table, (kind, count)) in &names {
        let handle = engine.collection::<Fields>(&**table);
        let records = handle.list(None, 100).await.unwrap();
        assert_eq!(records.len(), *count, "{kind}");
        for record in records {
            let shown = format!("{kind}: {:?}", record.fields);
            let created = handle.create(record.fields.clone()).await;
            let created = created.unwrap_or_else(|error| panic!("{shown}: {error:?}"));
            assert_eq!(created.fields, record.fields, "{kind}");
            if *kind == "hstore" {
                // A merge patch deletes the members that are null in it.
                continue;
            }
            // What is already there is no change.
            let patched = handle.patch(record.id, record.fields.clone()).await;
            assert_eq!(patched.unwrap().fields, record.fields, "{kind}");
        }
        // SQL finds no two values of the type json equal.
        let text = if *kind == "json" {
            "jsonb::text"
        } else {
            "text"
        };
        let changed = format!(
            "select a.value::text, b.value::text from {table} a join {table} b on b.id = a.id + {count} \
             where (a.value::{text}, a.needed::{text}) is distinct from (b.value::{text}, b.needed::{text})"
        );
        let changed = sql.query(&changed, &[]).await.unwrap();
        let changed = changed.iter().map(|row| (row.get(0), row.get(1)));
        let changed: Vec<(Option<String>, Option<String>)> = changed.collect();
        assert_eq!(changed, [], "{kind}");
        let pairs = format!("select count(*) from {table}");
        let pairs: i64 = sql.query_one(&pairs, &[]).await.unwrap().get(0);
        assert_eq!(usize::try_from(pairs).unwrap(), 2 * count);
    }
}

/// Otherwise a change would name fields that have not changed.
#[tokio::test(flavor = "multi_thread")]
async fn a_captured_value_equals_the_one_that_a_read_gives() {
    let url = fresh_database().await;
    let sql = connect(&url).await;
    sql.batch_execute(TYPES).await.unwrap();
    let mut tables = Vec::new();
    for (number, (kind, values)) in VALUES.iter().enumerate() {
        let columns = values.iter().enumerate();
        let columns: Vec<_> = columns
            .map(|(at, value)| format!("v{at} {kind} default cast({value} as {kind})"))
            .collect();
        let table = format!("v{number}");
        let create = format!(
            "create table {table} (id bigint generated always as identity primary key, touched integer not null default 0, {}); \
             insert into {table} default values",
            columns.join(", ")
        );
        sql.batch_execute(&create)
            .await
            .unwrap_or_else(|error| panic!("{kind}: {error:?}"));
        tables.push((table, *kind));
    }
    let store = PostgresStore::connect(&url).await.unwrap();
    let mut builder = Engine::builder();
    for table in store.tables().await.unwrap() {
        let (collection, _) = Collection::from_description(&table).unwrap();
        builder = builder.collection(collection.capture().open_to_everyone());
    }
    let engine = builder.store(store).start().await.unwrap();
    for (table, kind) in tables {
        let mut updates = engine.subscribe(&*table, None).await.unwrap();
        until_live(&mut updates).await;
        let mut change = async |write: String| {
            sql.batch_execute(&write).await.unwrap();
            engine.wake();
            next_change(&mut updates).await.fields
        };
        let updated = change(format!("update {table} set touched = 1")).await;
        let names: Vec<_> = updated.keys().collect();
        assert_eq!(names, ["touched"], "{kind}: {updated:?}");
        let created = change(format!("insert into {table} default values")).await;
        let read = engine.collection::<Fields>(&*table).get(2).await;
        assert_eq!(created, read.unwrap().unwrap().fields, "{kind}");
    }
}
