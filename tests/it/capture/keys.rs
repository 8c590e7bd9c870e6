//! Rows with ids of text and of several columns are captured like all others.

use fieldsync::{Action, Collection, Fields, ResetReason};
use serde_json::json;

use crate::capture::window::Window;
use crate::capture::{Database, collection, on_every_database};

on_every_database!(
    rows_with_keys_of_text_are_captured,
    rows_with_keys_of_several_columns_are_captured,
    an_edit_on_top_of_a_captured_change_with_a_composite_key_is_logged_in_order,
);

fn pages() -> Collection {
    let pages = collection("pages", &[("title", "string")]);
    pages.key("slug").text_ids()
}

fn members() -> Collection {
    let fields = [
        ("user_id", "integer"),
        ("project", "string"),
        ("role", "string"),
    ];
    collection("members", &fields).composite_key(["user_id", "project"])
}

const PAGES: &str =
    "create table pages (slug varchar(200) primary key not null, title text not null)";
const MEMBERS: &str = "create table members (user_id bigint not null, project text not null, role text not null, \
    primary key (user_id, project))";

async fn rows_with_keys_of_text_are_captured<D: Database>() {
    let database = D::fresh().await;
    database.sql(PAGES).await;
    database
        .sql("insert into pages values ('b', 'before')")
        .await;
    let engine = database.start([pages()]).await;
    let mut window = Window::open(&engine, "pages").await;
    database
        .sql("insert into pages values ('a,b/%2C ü', 'new')")
        .await;
    let (action, id, _) = window.change().await;
    assert_eq!((action, id), (Action::Create, "a,b/%2C ü".into()));
    database
        .sql("update pages set title = 'x' where slug = 'b'")
        .await;
    let (action, id, fields) = window.change().await;
    assert_eq!(
        (action, id, fields),
        (Action::Update, "b".into(), json!({"title": "x"}))
    );
    database
        .sql("update pages set slug = 'c' where slug = 'b'")
        .await;
    window.converge().await;
    assert_eq!(window.records[&"c".into()]["title"], "x");
    let handle = engine.collection::<Fields>("pages");
    handle.patch("c", json!({"title": "y"})).await.unwrap();
    handle.delete("a,b/%2C ü").await.unwrap();
    window.converge().await;
    assert_eq!(window.records.len(), 1);
    database.sql("delete from pages").await;
    window.converge().await;
    assert!(window.records.is_empty());
    assert_eq!(window.resets, [] as [ResetReason; 0]);
}

async fn rows_with_keys_of_several_columns_are_captured<D: Database>() {
    let database = D::fresh().await;
    database.sql(MEMBERS).await;
    let engine = database.start([members()]).await;
    let mut window = Window::open(&engine, "members").await;
    database
        .sql("insert into members values (7, 'a,b', 'owner'), (7, '%', 'x'), (10, 'a', 'y')")
        .await;
    window.converge().await;
    assert_eq!(window.records.len(), 3);
    assert_eq!(window.records[&"7,a%2Cb".into()]["role"], "owner");
    database
        .sql("update members set role = 'z' where user_id = 7")
        .await;
    window.converge().await;
    assert_eq!(window.records[&"7,%25".into()]["role"], "z");
    // Another key is another record.
    database
        .sql("update members set project = 'b' where user_id = 10")
        .await;
    window.converge().await;
    assert!(window.records.contains_key(&"10,b".into()));
    database.sql("delete from members where user_id = 7").await;
    window.converge().await;
    assert_eq!(window.records.keys().collect::<Vec<_>>(), [&"10,b".into()]);
    assert_eq!(window.resets, [] as [ResetReason; 0]);
    // After a restart nothing is missed.
    window.stop(engine).await;
    database
        .sql("insert into members values (1, 'later', 'l')")
        .await;
    let engine = database.start([members()]).await;
    window.resume(&engine).await;
    window.converge().await;
    assert_eq!(window.resets, [] as [ResetReason; 0]);
    assert!(window.records.contains_key(&"1,later".into()));
}

async fn an_edit_on_top_of_a_captured_change_with_a_composite_key_is_logged_in_order<
    D: Database,
>() {
    let database = D::fresh().await;
    database.sql(MEMBERS).await;
    database
        .sql("insert into members values (7, 'a', 'one')")
        .await;
    let engine = database.start([members()]).await;
    let mut window = Window::open(&engine, "members").await;
    database.sql("update members set role = 'two'").await;
    let handle = engine.collection::<Fields>("members");
    handle.patch("7,a", json!({"role": "three"})).await.unwrap();
    for role in ["two", "three"] {
        let (action, id, fields) = window.change().await;
        assert_eq!(
            (action, id, fields),
            (Action::Update, "7,a".into(), json!({"role": role}))
        );
    }
}
