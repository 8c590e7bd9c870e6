//! SQLite's REPLACE deletes rows without firing a trigger, and its tables have forms of their own.

use fieldsync::{Action, Collection, Edit, Fields};
use serde_json::json;

use crate::capture::window::Window;
use crate::capture::{Database, SqliteFile, collection};

fn users() -> Collection {
    collection("users", &[("email", "string"), ("v", "integer")])
}

async fn users_table(table: &str) -> SqliteFile {
    let database = SqliteFile::fresh().await;
    database.sql(table).await;
    let rows =
        "insert into users (id, email, v) values (1, 'a@x', 1), (2, 'b@x', 2), (3, 'c@x', 3)";
    database.sql(rows).await;
    database
}

const TABLE: &str = "create table users (id integer primary key, email text not null unique collate nocase, v integer not null)";

/// Runs SQL, and checks that the subscriber then has these records. A record is its id, `email` and `v`.
async fn check(table: &str, sql: &str, expected: &[(i64, &str, i64)]) {
    let database = users_table(table).await;
    let engine = database.start([users()]).await;
    let mut window = Window::open(&engine, "users").await;
    for pragma in ["", "pragma recursive_triggers = on;"] {
        let restore = "delete from users; insert into users (id, email, v) values (1, 'a@x', 1), (2, 'b@x', 2), (3, 'c@x', 3);";
        database.sql(restore).await;
        window.converge().await;
        database.sql(&format!("{pragma} {sql}")).await;
        window.converge().await;
        let records = window.records.iter().map(|(id, fields)| {
            let email = fields["email"].as_str().unwrap();
            (
                id.as_integer().unwrap(),
                email,
                fields["v"].as_i64().unwrap(),
            )
        });
        assert_eq!(records.collect::<Vec<_>>(), expected, "{sql}");
    }
    assert!(window.resets.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_replaced_are_deleted() {
    let (a, b, c) = ((1, "a@x", 1), (2, "b@x", 2), (3, "c@x", 3));
    let sql = "replace into users values (1, 'a2@x', 9)";
    check(TABLE, sql, &[(1, "a2@x", 9), b, c]).await;
    let sql = "replace into users values (7, 'A@X', 9)";
    check(TABLE, sql, &[b, c, (7, "A@X", 9)]).await;
    let sql = "replace into users values (2, 'a@x', 9)";
    check(TABLE, sql, &[(2, "a@x", 9), c]).await;
    let sql = "update or replace users set email = 'B@x' where id = 1";
    check(TABLE, sql, &[(1, "B@x", 1), c]).await;
    let sql = "update or replace users set id = 3 where id = 1";
    check(TABLE, sql, &[b, (3, "a@x", 1)]).await;
    let sql = "replace into users values (1, 'b@x', 8); replace into users values (1, 'c@x', 9)";
    check(TABLE, sql, &[(1, "c@x", 9)]).await;
    let sql =
        "insert into users values (5, 'a@x', 9) on conflict (email) do update set v = excluded.v";
    check(TABLE, sql, &[(1, "a@x", 9), b, c]).await;
    let sql = "insert or ignore into users values (5, 'a@x', 9)";
    check(TABLE, sql, &[a, b, c]).await;
    let sql = "insert or ignore into users values (1, 'z', 9); replace into users values (1, 'y', 9); delete from users where id = 1";
    check(TABLE, sql, &[b, c]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_unique_index_is_known() {
    let (b, c) = ((2, "b@x", 2), (3, "c@x", 3));
    let table =
        "create table users (id integer primary key, email text not null, v integer not null)";
    let with =
        |index: &str| format!("{table}; create unique index \"the (index\" on users {index}");
    let sql = "replace into users values (7, 'A@X', 1)";
    for index in [
        "(lower(email))",
        "(lower(email) desc, v) -- a comment",
        "(v) where v < 2 and email like '%@x'",
        "(email collate nocase, v)",
        "(substr(email, 1, 1) collate nocase, \"v\") where (email <> ')')",
    ] {
        check(&with(index), sql, &[b, c, (7, "A@X", 1)]).await;
    }
    let sql = "replace into users values (7, 'A@X', 9)";
    check(&with("(lower(email))"), sql, &[b, c, (7, "A@X", 9)]).await;
    let sql = "update or replace users set v = 1 where id = 2";
    check(&with("(v) where v < 2"), sql, &[(2, "b@x", 1), c]).await;
    let strict = "create table users (id integer primary key, email text not null, v integer not null unique on conflict replace) strict";
    let sql = "insert into users values (7, 'z', 1)";
    check(strict, sql, &[b, c, (7, "z", 1)]).await;
}

/// REPLACE writes the default instead of a null, after the triggers have seen the null.
#[tokio::test(flavor = "multi_thread")]
async fn a_null_that_becomes_a_default_may_replace_a_row() {
    let (a, b, c) = ((1, "a@x", 1), (2, "b@x", 2), (3, "c@x", 3));
    let email = |constraint: &str| {
        format!(
            "create table users (id integer primary key, email text not null {constraint}, v integer not null)"
        )
    };
    let insert = "insert or replace into users values (7, null, 9)";
    let update = "update or replace users set email = null where id = 2";
    for default in [
        "default 'a@x' unique",
        "default \"a@x\" unique",
        "default (lower('A@X')) unique",
        "default ('a' || '@x') collate nocase unique",
    ] {
        check(&email(default), insert, &[b, c, (7, "a@x", 9)]).await;
        check(&email(default), update, &[(2, "a@x", 2), c]).await;
    }
    let expression = email("default 'a@x'") + "; create unique index i on users (upper(email))";
    check(&expression, insert, &[b, c, (7, "a@x", 9)]).await;
    check(&expression, update, &[(2, "a@x", 2), c]).await;
    let other = "insert or replace into users values (7, 'C@X', 9)";
    check(&expression, other, &[a, b, (7, "C@X", 9)]).await;
    let conflict = email("on conflict replace default 'a@x' unique on conflict replace");
    let insert = "insert into users values (7, null, 9)";
    check(&conflict, insert, &[b, c, (7, "a@x", 9)]).await;
    let number = "create table users (id integer primary key, email text not null, v integer not null default '1' unique)";
    let insert = "insert or replace into users values (7, 'z', null)";
    check(number, insert, &[b, c, (7, "z", 1)]).await;
    let several = "create table users (id integer primary key, email text not null, v integer not null default (abs(-1)), unique (email, v))";
    let insert = "insert or replace into users values (7, 'a@x', null), (8, 'b@x', null)";
    check(several, insert, &[b, c, (7, "a@x", 1), (8, "b@x", 1)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_replaced_through_a_generated_column_is_deleted() {
    let c = (3, "c@x", 3);
    for kind in ["virtual", "stored"] {
        let table = format!(
            "create table users (id integer primary key, email text not null default 'A@X', v integer not null, \
             g text generated always as (lower(email)) {kind}); create unique index i on users (g)"
        );
        let sql = "update or replace users set email = 'A@X' where id = 2";
        check(&table, sql, &[(2, "A@X", 2), c]).await;
        let sql = "update or replace users set email = null where id = 2";
        check(&table, sql, &[(2, "A@X", 2), c]).await;
        let sql = "replace into users (id, email, v) values (7, 'A@X', 9)";
        check(&table, sql, &[(2, "b@x", 2), c, (7, "A@X", 9)]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_without_rowids_is_captured() {
    let table = "create table users (id integer primary key, email text not null, v integer not null unique) without rowid";
    let database = users_table(table).await;
    let engine = database.start([users().no_create()]).await;
    let mut window = Window::open(&engine, "users").await;
    let sql =
        "update or replace users set v = 1 where id = 2; replace into users values (7, 'z', 3)";
    database.sql(sql).await;
    window.converge().await;
    assert_eq!(window.records.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_an_edit_replaces_is_deleted() {
    let table = "create table users (id integer primary key, email text not null unique on conflict replace, v integer not null)";
    let database = users_table(table).await;
    let engine = database.start([users()]).await;
    let mut window = Window::open(&engine, "users").await;
    let edit = Edit::create("users", json!({"email": "a@x", "v": 7}));
    engine.transaction(vec![edit]).await.unwrap();
    let created = json!({"email": "a@x", "v": 7});
    window.expect(Action::Create, 4, created).await;
    window.expect(Action::Delete, 1, json!({})).await;
    window.converge().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_and_tables_can_have_any_name() {
    let database = SqliteFile::fresh().await;
    let table = "create table \"it's a \"\"table\" (\"x\" integer primary key, \"new\" text unique, \"old.a\" text, \"o1\" integer)";
    database.sql(table).await;
    let schema = json!({"type": "object", "properties": {
        "new": {"type": ["string", "null"]}, "old.a": {"type": ["string", "null"]}, "o1": {"type": ["integer", "null"]},
    }});
    let things = Collection::from_schema("things", &schema)
        .table("it's a \"table")
        .key("x");
    let engine = database.start([things]).await;
    let mut window = Window::open(&engine, "things").await;
    let insert = "insert into \"it's a \"\"table\" values (1, 'a', 'b', 2)";
    database.sql(insert).await;
    let fields = json!({"new": "a", "old.a": "b", "o1": 2});
    window.expect(Action::Create, 1, fields).await;
    database
        .sql("update \"it's a \"\"table\" set \"old.a\" = null")
        .await;
    window
        .expect(Action::Update, 1, json!({"old.a": null}))
        .await;
    database
        .sql("replace into \"it's a \"\"table\" (x, new) values (2, 'a')")
        .await;
    window.converge().await;
    assert_eq!(window.records.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_attached_to_another_is_captured() {
    let database = users_table(TABLE).await;
    let engine = database.start([users()]).await;
    let mut window = Window::open(&engine, "users").await;
    let other = rusqlite::Connection::open_in_memory().unwrap();
    other.execute_batch("create table users (id)").unwrap();
    let attach = "attach ?1 as app";
    other
        .execute(attach, [database.path().to_str().unwrap()])
        .unwrap();
    let update = "update app.users set v = 9 where id = 1";
    other.execute_batch(update).unwrap();
    window.expect(Action::Update, 1, json!({"v": 9})).await;
}

/// Values reach the log as reads return them, whatever SQLite makes of them.
#[tokio::test(flavor = "multi_thread")]
async fn values_are_those_that_reads_return() {
    let database = SqliteFile::fresh().await;
    let table = "create table things (id integer primary key, flag boolean, number real, whole integer, any, time datetime, json text)";
    database.sql(table).await;
    let schema = json!({"type": "object", "properties": {
        "flag": {"type": ["boolean", "null"]}, "number": {"type": ["number", "null"]}, "whole": {"type": ["integer", "null"]},
        "any": {"type": ["string", "null"]}, "time": {"type": ["string", "null"], "format": "date-time"},
        "json": {"type": ["array", "null"]},
    }});
    let things = Collection::from_schema("things", &schema);
    let engine = database.start([things]).await;
    let mut window = Window::open(&engine, "things").await;
    let insert =
        "insert into things values (1, 'yes', '2', '7', 1, '2026-01-13 10:00:00', '[1.0]')";
    database.sql(insert).await;
    let fields = json!({
        "flag": "yes", "number": 2.0, "whole": 7, "any": 1, "time": "2026-01-13T10:00:00.000000Z", "json": [1.0],
    });
    window.expect(Action::Create, 1, fields).await;
    database
        .sql("update things set any = 1.0, whole = 7.0, number = 2, flag = 1")
        .await;
    let changed = json!({"any": 1.0, "flag": true});
    window.expect(Action::Update, 1, changed).await;
    database.sql("update things set any = 'a'; update things set any = x'61'; update things set any = 'A'").await;
    window.converge().await;
    database
        .sql("update things set any = 'a', json = '[1]'")
        .await;
    window.converge().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_id_of_a_record_that_was_deleted_by_cascade_or_by_others_is_not_given_again() {
    let database = SqliteFile::fresh().await;
    let tables = "create table authors (id integer primary key, name text not null);
        create table books (id integer primary key, author_id integer not null references authors (id) on delete cascade);
        insert into authors values (1, 'a'), (2, 'b'); insert into books values (1, 2), (2, 1), (3, 2), (4, 2)";
    database.sql(tables).await;
    let books = collection("books", &[("author_id", "integer")]);
    let authors = collection("authors", &[("name", "string")]);
    let never = std::time::Duration::from_secs(3600);
    let engine = database.start_polling(never, [authors, books]).await;
    let mut window = Window::open(&engine, "books").await;
    database.sql("delete from books where id = 4").await;
    let book = || async {
        let handle = engine.collection::<Fields>("books");
        let fields = [("author_id".to_owned(), json!(1))];
        handle
            .create(fields.into_iter().collect())
            .await
            .unwrap()
            .id
    };
    assert_eq!(book().await, 5.into(), "4 was deleted by another program");
    let deletion = vec![Edit::delete(("books", 5)), Edit::delete(("authors", 2))];
    engine.transaction(deletion).await.unwrap();
    assert_eq!(book().await, 6.into());
    engine
        .transaction(vec![Edit::delete(("authors", 1))])
        .await
        .unwrap();
    engine.wake();
    window.converge().await;
    let author = Edit::create("authors", json!({"name": "c"}));
    engine.transaction(vec![author]).await.unwrap();
    let author = Edit::patch(("authors", 3), json!({"name": "d"}));
    engine.transaction(vec![author]).await.unwrap();
    database
        .sql("update books set author_id = 3; insert into books values (7, 3)")
        .await;
    engine
        .transaction(vec![Edit::delete(("authors", 3))])
        .await
        .unwrap();
    engine
        .transaction(vec![Edit::create("authors", json!({"name": "e"}))])
        .await
        .unwrap();
    let edit = Edit::create("books", json!({"author_id": 4}));
    let outcome = engine.transaction(vec![edit]).await.unwrap();
    assert_eq!(outcome[0].id(), 8.into());
}
