//! Numbers in JSON columns that a double can't represent.

use fieldsync::{Collection, Engine, Fields};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::app::{App, Server};
use crate::database::{Database, on_both_databases};
use crate::socket::Socket;
use crate::tasks::within_limit;
use futures_util::StreamExt as _;

on_both_databases!(
    an_edit_beside_a_long_number_leaves_its_digits,
    a_long_number_is_created_and_found_in_sql,
    app_code_that_does_not_touch_a_long_number_keeps_it,
    a_long_number_is_no_value_of_another_type,
);

const META: &str = r#"{"exact":12345678901234567890123,"list":[0.1,1e-7,0.12345678901234567890123,9007199254740993],"n":1}"#;

async fn start(database: &Database) -> App {
    let types = ("meta text not null", "meta jsonb not null");
    let table = |meta| {
        format!(
            "create table docs ($key, {meta}, title text not null default ''); \
                        insert into docs (meta) values ('{META}')"
        )
    };
    database.run_own(&table(types.0), &table(types.1)).await;
    let schema = json!({"type": "object", "required": ["meta"], "properties": {
        "meta": {"type": "object"}, "title": {"type": "string", "default": ""},
    }});
    let docs = Collection::from_schema("docs", &schema).capture();
    let builder = Engine::builder().collection(docs.open_to_everyone());
    let builder = database.store(builder, "postgres", "").await;
    App::with(Server::Axum, builder, tempfile::tempdir().unwrap()).await
}

async fn text(app: &App, method: &str, path: &str, body: String) -> String {
    let kind = if method == "PATCH" {
        "merge-patch+json"
    } else {
        "json"
    };
    let request = app.request(method, path);
    let request = request.header("content-type", format!("application/{kind}"));
    let reply = request.body(body).send().await.unwrap();
    let status = reply.status();
    let text = reply.text().await.unwrap();
    assert!(status.is_success(), "{status} {text}");
    text
}

/// Reads messages until one has this text.
async fn until(socket: &mut Socket, wanted: &str) {
    loop {
        let message = within_limit(wanted, socket.stream.next()).await;
        let message = message.unwrap().unwrap();
        if message.as_text().is_some_and(|text| text.contains(wanted)) {
            return;
        }
    }
}

/// Whether SQL finds this value in the first column.
async fn check_sql(database: &Database, id: i64, meta: &str) {
    let count = |meta| format!("select count(*) from docs where id = {id} and meta = {meta}");
    // An error is a failure.
    let fails =
        |count: String, fail: &str| format!("select case ({count}) when 1 then 1 else {fail} end");
    let text = format!("'{meta}'");
    database
        .run_own(
            &fails(count(text.clone()), "abs(-9223372036854775808)"),
            &fails(
                count(text + "::jsonb"),
                "1 / ((select count(*) from docs) - (select count(*) from docs))",
            ),
        )
        .await;
}

async fn an_edit_beside_a_long_number_leaves_its_digits(database: Database) {
    let app = start(&database).await;
    let mut socket = Socket::v1(&app).await;
    socket.subscribe("docs", None).await;
    until(&mut socket, "\"exact\":12345678901234567890123,").await;
    let patched = text(
        &app,
        "PATCH",
        "/api/docs/1/",
        r#"{"meta":{"n":2}}"#.to_owned(),
    )
    .await;
    let expected = META.replace("\"n\":1", "\"n\":2");
    assert!(
        patched.contains("\"exact\":12345678901234567890123,"),
        "{patched}"
    );
    assert!(
        patched.contains(",0.12345678901234567890123,9007199254740993]"),
        "{patched}"
    );
    until(
        &mut socket,
        "0.12345678901234567890123,9007199254740993],\"n\":2",
    )
    .await;
    check_sql(&database, 1, &expected).await;
    // The app's own SQL.
    let sql = "update docs set meta = '{\"exact\":-12345678901234567890124}', title = 'by SQL'";
    database.run(sql).await;
    until(&mut socket, "\"exact\":-12345678901234567890124").await;
    // A reader that comes back.
    let mut second = Socket::v1(&app).await;
    second.subscribe("docs", None).await;
    until(&mut second, "\"exact\":-12345678901234567890124").await;
}

async fn a_long_number_is_created_and_found_in_sql(database: Database) {
    let app = start(&database).await;
    let got = text(&app, "GET", "/api/docs/1/", String::new()).await;
    let body = got.replacen("\"id\":1,", "", 1);
    let made = text(&app, "POST", "/api/docs/", body).await;
    assert_eq!(made.replacen("\"id\":2,", "\"id\":1,", 1), got);
    check_sql(&database, 2, META).await;
}

#[derive(Serialize, Deserialize)]
struct Doc {
    meta: Value,
    title: String,
}

async fn app_code_that_does_not_touch_a_long_number_keeps_it(database: Database) {
    let app = start(&database).await;
    let docs = app.engine.collection::<Doc>("docs");
    let doc = docs.get(1).await.unwrap().unwrap();
    assert_eq!(doc.fields.meta["exact"], json!(1.234_567_890_123_456_8e22));
    assert_eq!(doc.fields.meta["list"][3], json!(9_007_199_254_740_993_i64));
    docs.update(1, |doc| doc.meta["list"][0] = json!(0.2))
        .await
        .unwrap();
    check_sql(&database, 1, &META.replace("0.1,", "0.2,")).await;
    docs.patch(1, json!({"meta": {"list": [i64::MAX]}}))
        .await
        .unwrap();
    let untyped = app.engine.collection::<Fields>("docs");
    let meta = &untyped.get(1).await.unwrap().unwrap().fields["meta"];
    assert_eq!(meta["list"], json!([i64::MAX]));
    let got = text(&app, "GET", "/api/docs/1/", String::new()).await;
    assert!(
        got.contains("{\"exact\":12345678901234567890123,\"list\":[9223372036854775807]"),
        "{got}"
    );
}

async fn a_long_number_is_no_value_of_another_type(database: Database) {
    let app = start(&database).await;
    for body in [
        r#"{"title": 12345678901234567890123, "meta": {}}"#,
        r#"{"title": "", "meta": 12345678901234567890123}"#,
        r#"{"title": "", "meta": {"a": 1e401}}"#,
        r#"{"title": "", "meta": {"a": "\u00001"}}"#,
        r#"{"title": "\u00001", "meta": {}}"#,
    ] {
        let request = app.request("POST", "/api/docs/");
        let request = request.header("content-type", "application/json");
        let reply = request.body(body).send().await.unwrap();
        assert_eq!(reply.status(), 422, "{body}");
    }
}

/// JSON inside arrays and composite types, and numbers beside it.
#[cfg(feature = "services")]
#[tokio::test(flavor = "multi_thread")]
async fn long_numbers_inside_arrays_and_composite_types_stay_numbers() {
    let database = Database::postgres().await;
    let sql = "create type part as (sku text, amount numeric, attrs jsonb); \
        create table orders (id bigint generated by default as identity primary key, main part, docs jsonb[], huge jsonb, \
          totals numeric[]); \
        insert into orders (main, docs, huge, totals) values (row('a', 12345678901234567890.12345, '{\"n\":12345678901234567890123}'), \
          array['{\"n\":-12345678901234567890123}'::jsonb], '{\"n\": 1e400, \"m\": 1}', '{12345678901234567890.12345,1}')";
    database.run(sql).await;
    let store = fieldsync_postgres::PostgresStore::connect(&database.dsn()).await;
    let store = store.unwrap();
    let orders = Collection::from_table(&store, "orders").await.unwrap();
    let builder = Engine::builder().collection(orders.capture().open_to_everyone());
    let app = App::with(
        Server::Axum,
        builder.store(store),
        tempfile::tempdir().unwrap(),
    )
    .await;
    let got = text(&app, "GET", "/api/orders/1/", String::new()).await;
    for part in [
        r#""amount":12345678901234567890.12345"#,
        r#""attrs":{"n":12345678901234567890123}"#,
        r#""docs":[{"n":-12345678901234567890123}]"#,
        // As in a column of its type.
        r#""totals":["12345678901234567890.12345",1]"#,
    ] {
        assert!(got.contains(part), "{part}: {got}");
    }
    let patch = r#"{"main":{"sku":"b"},"huge":{"m":2}}"#.to_owned();
    text(&app, "PATCH", "/api/orders/1/", patch).await;
    text(
        &app,
        "POST",
        "/api/orders/",
        got.replacen("\"id\":1,", "", 1),
    )
    .await;
    // Fails where the condition is not true.
    database
        .run(
            "select 1 / count(*) from orders where main = row('b', 12345678901234567890.12345, '{\"n\":12345678901234567890123}')::part \
               and huge = '{\"n\": 1e400, \"m\": 2}'; \
             select 1 / count(*) from orders a join orders b using (docs, totals) where a.id = 1 and b.id = 2 \
               and b.huge = '{\"n\": 1e400, \"m\": 1}' and (b.main).amount = (a.main).amount",
        )
        .await;
}
