//! Lists of the records that match a query: every database and fieldsync agree on what matches.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::future::Ready;

use bytes::Bytes;
use fastrand::Rng;
use fieldsync::adapter::handle;
use fieldsync::backend::Store;
use fieldsync::{Collection, Edit, Engine, MemoryStore, Principal, Topic, asc};
use fieldsync_sqlite::SqliteStore;
use futures_util::StreamExt as _;
use http_body_util::{BodyExt as _, Empty};
use serde_json::{Value, json};

use crate::random;
use crate::tasks::within_limit;

/// How many records there are.
const RECORDS: usize = 300;

/// How many queries are asked of each database.
const QUERIES: usize = 150;

/// The fields: their names, their types in JSON Schema, and some values, which repeat.
fn fields() -> Vec<(&'static str, Value, Vec<Value>)> {
    vec![
        (
            "number",
            json!({"type": ["integer", "null"]}),
            vec![json!(null), json!(-5), json!(0), json!(7), json!(42)],
        ),
        (
            "large",
            json!({"type": ["integer", "null"], "format": "int64"}),
            vec![
                json!(null),
                json!("9007199254740993"),
                json!("-9223372036854775808"),
                json!(1),
            ],
        ),
        (
            "ratio",
            json!({"type": ["number", "null"]}),
            vec![
                json!(null),
                json!(-0.1),
                json!(0),
                json!(0.1),
                json!(2.5),
                json!(1e20),
                json!(1e39),
                json!(1e-50),
            ],
        ),
        (
            "price",
            json!({"type": ["string", "number", "null"], "pattern": r"^-?\d+(\.\d+)?$"}),
            vec![
                json!(null),
                json!("9.95"),
                json!("9.950"),
                json!("-0.01"),
                json!("12345678901234567890.5"),
            ],
        ),
        (
            "title",
            json!({"type": ["string", "null"]}),
            vec![
                json!(null),
                json!(""),
                json!("a"),
                json!("A"),
                json!("é"),
                json!("x,y)\"z"),
            ],
        ),
        (
            "status",
            json!({"type": "string", "enum": ["open", "late", "done"]}),
            vec![json!("open"), json!("late"), json!("done")],
        ),
        (
            "flag",
            json!({"type": ["boolean", "null"]}),
            vec![json!(null), json!(true), json!(false)],
        ),
        (
            "due",
            json!({"type": ["string", "null"], "format": "date-time"}),
            vec![
                json!(null),
                json!("2026-01-13T10:00:00.000001Z"),
                json!("2026-01-13T10:00:00Z"),
                json!("1969-12-31T23:59:59Z"),
            ],
        ),
        (
            "day",
            json!({"type": ["string", "null"], "format": "date"}),
            vec![
                json!(null),
                json!("2026-01-13"),
                json!("2026-02-01"),
                json!("0999-12-31"),
            ],
        ),
        (
            "owner",
            json!({"type": ["string", "null"], "format": "uuid"}),
            vec![
                json!(null),
                json!("0190a3b1-0000-7000-8000-000000000001"),
                json!("f190a3b1-0000-7000-8000-000000000001"),
            ],
        ),
        (
            "tags",
            json!({"type": ["array", "null"]}),
            vec![json!(null), json!([]), json!(["a"])],
        ),
    ]
}

fn things() -> Collection {
    let properties: serde_json::Map<String, Value> = fields()
        .into_iter()
        .map(|(name, schema, _)| (name.to_owned(), schema))
        .collect();
    let schema = json!({"type": "object", "properties": properties});
    Collection::from_schema("things", &schema)
        .orderable(["title"])
        .without_capture()
        .open_to_everyone()
}

async fn start(store: impl Store, records: &[Value]) -> Engine {
    let engine = Engine::builder()
        .collection(things())
        .store(store)
        .start()
        .await
        .unwrap();
    let create = |record: &Value| Edit::create("things", record.clone());
    engine
        .transaction(records.iter().map(create).collect())
        .await
        .unwrap();
    engine
}

fn records(random: &mut Rng) -> Vec<Value> {
    let fields = fields();
    let record = |random: &mut Rng| {
        let values = fields.iter().map(|(name, _, values)| {
            let value = values[random.usize(..values.len())].clone();
            ((*name).to_owned(), value)
        });
        Value::Object(values.collect())
    };
    (0..RECORDS).map(|_| record(random)).collect()
}

/// A condition as an expression of the grammar, and as SQL.
struct Condition {
    expression: String,
    sql: String,
}

/// A condition on one field, or on several.
fn condition(random: &mut Rng, depth: usize) -> Condition {
    if depth > 0 && random.u8(..3) == 0 {
        let (word, not) =
            [("and", ""), ("or", ""), ("and", "not"), ("or", "not")][random.usize(..4)];
        let parts: Vec<_> = (0..1 + random.usize(..3))
            .map(|_| condition(random, depth - 1))
            .collect();
        let expressions: Vec<_> = parts.iter().map(|part| &*part.expression).collect();
        let sql: Vec<_> = parts.iter().map(|part| &*part.sql).collect();
        let dot = if not.is_empty() { "" } else { "." };
        return Condition {
            expression: format!("{not}{dot}{word}({})", expressions.join(",")),
            sql: format!("({not} ({}))", sql.join(&format!(" {word} "))),
        };
    }
    let fields = fields();
    let (name, schema, values) = &fields[random.usize(..fields.len())];
    let value = |random: &mut Rng| loop {
        match &values[random.usize(..values.len())] {
            Value::Null => {}
            Value::String(text) => {
                let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
                return (
                    format!("\"{escaped}\""),
                    format!("'{}'", text.replace('\'', "''")),
                );
            }
            value => return (value.to_string(), format!("'{value}'")),
        }
    };
    let not = if random.u8(..4) == 0 { "not" } else { "" };
    let is_array = schema["type"] == json!(["array", "null"]);
    let has_order = !matches!(*name, "title" | "status" | "flag");
    let (expression, sql) = match random.u8(..5) {
        0 => ("is.null".to_owned(), format!("{name} is null")),
        _ if is_array => ("is.null".to_owned(), format!("{name} is null")),
        1 if *name == "flag" => {
            let wanted = random.bool();
            (format!("is.{wanted}"), format!("{name} is {wanted}"))
        }
        1 | 2 => {
            let list: Vec<_> = (0..random.usize(..4)).map(|_| value(random)).collect();
            let (expressions, sql): (Vec<_>, Vec<_>) = list.into_iter().unzip();
            let sql = if sql.is_empty() {
                "false".to_owned()
            } else {
                format!("{name} in ({})", sql.join(", "))
            };
            (format!("in.({})", expressions.join(",")), sql)
        }
        _ => {
            let operators = [
                ("eq", "="),
                ("neq", "<>"),
                ("lt", "<"),
                ("lte", "<="),
                ("gt", ">"),
                ("gte", ">="),
            ];
            let (operator, in_sql) = operators[random.usize(..if has_order { 6 } else { 2 })];
            let (value, literal) = value(random);
            (
                format!("{operator}.{value}"),
                format!("{name} {in_sql} {literal}"),
            )
        }
    };
    let dot = if not.is_empty() { "" } else { "." };
    Condition {
        expression: format!("{name}.{not}{dot}{expression}"),
        sql: format!("({not} ({sql}))"),
    }
}

fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        write!(encoded, "%{byte:02X}").unwrap();
        encoded
    })
}

/// The ids of the records that a list of these has, page by page.
async fn listed(engine: &Engine, query: &str, limit: usize) -> BTreeSet<i64> {
    let (mut ids, mut path) = (BTreeSet::new(), format!("/things/?{query}&limit={limit}"));
    loop {
        let (status, body, link) = get(engine, &path).await;
        assert_eq!(status, 200, "{path}: {body}");
        for record in body.as_array().unwrap() {
            assert!(ids.insert(record["id"].as_i64().unwrap()), "{path}: twice");
        }
        let Some(link) = link else { return ids };
        path = link
            .split_once('>')
            .unwrap()
            .0
            .trim_start_matches('<')
            .to_owned();
    }
}

async fn get(engine: &Engine, path: &str) -> (u16, Value, Option<String>) {
    let request = http::Request::get(path).body(()).unwrap();
    let (parts, ()) = request.into_parts();
    let reply = handle(engine, Principal::anonymous(), parts, Empty::<Bytes>::new()).await;
    let link = reply
        .headers()
        .get("link")
        .map(|link| link.to_str().unwrap().to_owned());
    let status = reply.status().as_u16();
    let body = reply.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap(), link)
}

/// The ids in the order of the list, page by page; or the status if it is refused.
async fn ordered(engine: &Engine, order: &str, limit: usize) -> Result<Vec<i64>, u16> {
    let (mut ids, mut path) = (Vec::new(), format!("/things/?order={order}&limit={limit}"));
    loop {
        let (status, body, link) = get(engine, &path).await;
        if status != 200 {
            assert!(body["errors"]["order"].is_array(), "{path}: {body}");
            return Err(status);
        }
        let page = body.as_array().unwrap().iter();
        ids.extend(page.map(|record| record["id"].as_i64().unwrap()));
        let Some(link) = link else { return Ok(ids) };
        let (link, _) = link.split_once('>').unwrap();
        path = link.trim_start_matches('<').to_owned();
    }
}

/// The fields that have an order.
const ORDERED: [&str; 8] = [
    "number", "large", "ratio", "price", "title", "due", "day", "owner",
];

/// Orders by every field, which the database may refuse for some.
async fn check_orders(memory: &Engine, engine: &Engine, may_be_refused: &[&str]) {
    let mut random = random::generator();
    for field in ORDERED {
        for order in ["", ".desc", ".nullsfirst", ".desc.nullslast,number"] {
            let order = format!("{field}{order}");
            let order = order.replace("number.desc.nullslast,number", "number,title.desc");
            let expected = ordered(memory, &order, 1000).await.unwrap();
            let listed = ordered(engine, &order, 5 + random.usize(..300)).await;
            if listed == Err(400) && may_be_refused.contains(&field) {
                continue;
            }
            assert_eq!(listed, Ok(expected), "{order}");
        }
    }
}

/// Asks the database itself.
type InSql = fn(&str) -> Ready<BTreeSet<i64>>;

/// Asks a store and the one in memory the same, and the database itself in SQL where it compares values as fieldsync does.
async fn check(
    store: impl Store,
    in_sql: Option<impl AsyncFn(&str) -> BTreeSet<i64>>,
    may_be_refused: &[&str],
) -> (Engine, Engine) {
    let mut random = random::generator();
    let records = records(&mut random);
    let memory = start(MemoryStore::new(), &records).await;
    let engine = start(store, &records).await;
    check_orders(&memory, &engine, may_be_refused).await;
    check_queries(&memory, &engine, in_sql).await;
    (memory, engine)
}

async fn check_queries(
    memory: &Engine,
    engine: &Engine,
    in_sql: Option<impl AsyncFn(&str) -> BTreeSet<i64>>,
) {
    let mut random = random::generator();
    let mut matched = 0;
    for _ in 0..QUERIES {
        let Condition { expression, sql } = condition(&mut random, 2);
        let query = format!("and={}", encoded(&format!("({expression})")));
        let limit = 1 + random.usize(..400);
        let expected = listed(memory, &query, 1000).await;
        assert_eq!(
            listed(engine, &query, limit).await,
            expected,
            "{expression}"
        );
        if let Some(in_sql) = &in_sql {
            assert_eq!(in_sql(&sql).await, expected, "{expression}: {sql}");
        }
        matched += usize::from(!expected.is_empty() && expected.len() < RECORDS);
    }
    assert!(
        matched > QUERIES / 3,
        "{matched} queries tell records apart"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_and_fieldsync_agree_on_every_query() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let store = SqliteStore::open(&path).await;
    // SQLite itself compares times and decimals as the text that they are stored as.
    let in_sql: Option<InSql> = None;
    let (memory, engine) = check(store.unwrap(), in_sql, &["price"]).await;
    assert_eq!(ordered(&engine, "price", 1000).await, Err(400));
    // Other programs store times in other forms.
    let sql = "update things set due = replace(due, ' ', 'T') || 'Z' where id % 4 = 1; \
               update things set due = '1970-01-01T01:59:59+02:00' where id % 4 = 2 and due = '1969-12-31 23:59:59.000000'; \
               update things set due = '2026-01-12 16:00:00-18:00' where id % 4 = 3 and due = '2026-01-13 10:00:00.000000'";
    let program = rusqlite::Connection::open(&path).unwrap();
    program.execute_batch(sql).unwrap();
    check_queries(&memory, &engine, in_sql).await;
    check_orders(&memory, &engine, &["price", "due"]).await;
    assert_eq!(ordered(&engine, "due", 1000).await, Err(400));
}

#[cfg(feature = "services")]
#[tokio::test(flavor = "multi_thread")]
async fn postgresql_and_fieldsync_agree_on_every_query() {
    let url = crate::cluster::fresh_database().await;
    let store = fieldsync_postgres::PostgresStore::connect(&url)
        .await
        .unwrap();
    let client = crate::cluster::connect(&url).await;
    let in_sql = async |condition: &str| {
        let sql = format!("select id from things where {condition}");
        let rows = client.query(&sql, &[]).await.unwrap();
        rows.iter().map(|row| row.get::<_, i64>(0)).collect()
    };
    check(store, Some(in_sql), &[]).await;
}

/// The table, as an app may have it, with this title.
fn table(key: &str, title: &str) -> String {
    format!(
        "create table things ({key}, number integer, large bigint, ratio double precision, price text, title {title}, \
         status text not null, flag boolean, due timestamp, day date, owner varchar(36), tags text)"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collation_of_sqlite_changes_no_answer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let key = "id integer primary key autoincrement";
    let program = rusqlite::Connection::open(&path).unwrap();
    program
        .execute_batch(&table(key, "text collate nocase"))
        .unwrap();
    let store = SqliteStore::open(&path).await;
    let in_sql: Option<InSql> = None;
    check(store.unwrap(), in_sql, &["price"]).await;
}

#[cfg(feature = "services")]
#[tokio::test(flavor = "multi_thread")]
async fn collations_of_postgresql_change_no_answer() {
    let key = "id bigint generated by default as identity primary key";
    for title in ["text collate \"und-x-icu\"", "citext"] {
        let url = crate::cluster::fresh_database().await;
        let client = crate::cluster::connect(&url).await;
        let table = table(key, title)
            .replace("price text", "price numeric")
            .replace("due timestamp", "due timestamptz")
            .replace("number integer", "number bigint")
            .replace("owner varchar(36)", "owner uuid")
            .replace("tags text", "tags jsonb");
        let sql = format!("create extension if not exists citext; {table}");
        client.batch_execute(&sql).await.unwrap();
        let store = fieldsync_postgres::PostgresStore::connect(&url).await;
        let in_sql: Option<InSql> = None;
        check(store.unwrap(), in_sql, &[]).await;
    }
}

/// Times without a fraction, as SQLite itself writes them: many records have the same one.
#[tokio::test(flavor = "multi_thread")]
async fn times_without_a_fraction_are_in_order_across_pages() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let program = rusqlite::Connection::open(&path).unwrap();
    let sql = "create table notes (id integer primary key, at datetime not null);
               insert into notes (id, at) values (1, '2026-01-13 10:00:00'), (2, '2026-01-13 10:00:00'),
                   (3, '2026-01-13 10:00:00'), (4, '2026-01-13 10:00:01'), (5, '2026-01-13 10:00:00'),
                   (6, '2026-01-13 09:59:59'), (7, '2026-01-13 10:00:00.5'), (8, '2026-01-13 10:00:00.250000');";
    program.execute_batch(sql).unwrap();
    let schema =
        json!({"type": "object", "properties": {"at": {"type": "string", "format": "date-time"}}});
    let notes = Collection::from_schema("notes", &schema).table("notes");
    let engine = Engine::builder()
        .collection(notes.without_capture().open_to_everyone())
        .store(SqliteStore::open(&path).await.unwrap())
        .start()
        .await
        .unwrap();
    for (order, expected) in [
        ("at", [6, 1, 2, 3, 5, 8, 7, 4]),
        ("at.desc", [4, 7, 8, 1, 2, 3, 5, 6]),
        ("at.desc,id.desc", [4, 7, 8, 5, 3, 2, 1, 6]),
    ] {
        for limit in 1..4 {
            let mut path = format!("/notes/?order={order}&limit={limit}");
            let mut ids = Vec::new();
            loop {
                let (status, body, link) = get(&engine, &path).await;
                assert_eq!(status, 200, "{path}: {body}");
                let page = body.as_array().unwrap().iter();
                ids.extend(page.map(|note| note["id"].as_i64().unwrap()));
                let Some(link) = link else { break };
                let (link, _) = link.split_once('>').unwrap();
                path = link.trim_start_matches('<').to_owned();
            }
            assert_eq!(ids, expected, "{order}, {limit} at a time");
        }
    }
    // Another form, of which the order is not that of the times: never silently.
    program
        .execute_batch("insert into notes (id, at) values (9, '2026-01-13T10:00:00Z')")
        .unwrap();
    let (status, body, _) = get(&engine, "/notes/?order=at").await;
    assert_eq!(status, 400, "{body}");
    let mut window = engine
        .subscribe(Topic::of("notes").order_by(asc("at")).window(20), None)
        .await
        .unwrap();
    assert!(within_limit("the end", window.next()).await.is_none());
}
