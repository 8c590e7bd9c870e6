//! Capture that someone removed is repaired where the engine's role may do so, and otherwise reported once.

use std::time::Duration;

use fieldsync::{RecordId, ResetReason, Update};
use fieldsync_postgres::PostgresStore;
use futures_util::StreamExt as _;
use serde_json::json;

use crate::capture::{LIBRARY, World, engine, library, refused_start};
use crate::cluster::{connect, fresh_database};

const DROPPED: [&str; 4] = [
    "drop table fieldsync_captured",
    "drop function fieldsync_capture() cascade",
    "drop table fieldsync_doorbell",
    "drop table fieldsync_doorbell, fieldsync_captured; drop function fieldsync_capture() cascade",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_running_engine_creates_dropped_side_objects_again() {
    for sql in DROPPED {
        let world = World::new(LIBRARY, library()).await;
        let insert = "insert into authors (id, name) values (1, 'a')";
        world.run(insert).await;
        let mut authors = world.window("authors").await;
        authors.shows(&[(1, json!({"name": "a"}))]).await;
        world
            .run(&format!("{sql}; update authors set name = 'missed'"))
            .await;
        authors.is_reset().await;
        authors.shows(&[(1, json!({"name": "missed"}))]).await;
        world.run("update authors set name = 'captured'").await;
        authors.shows(&[(1, json!({"name": "captured"}))]).await;
        let handle = world.engine.collection::<fieldsync::Fields>("authors");
        handle.patch(1, json!({"name": "edited"})).await.unwrap();
        authors.shows(&[(1, json!({"name": "edited"}))]).await;
        assert_eq!(authors.resets.len(), 1, "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_creates_dropped_side_objects_again() {
    for sql in DROPPED {
        let (url, client, cursor) = World::stopped().await;
        // Its last check may still run.
        let others = "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()";
        while client
            .query_one(others, &[])
            .await
            .unwrap()
            .get::<_, i64>(0)
            > 0
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        client.batch_execute(sql).await.unwrap();
        let store = PostgresStore::connect(&url).await.unwrap();
        let ddl = store.ddl(&library()).await.unwrap();
        assert!(ddl.contains("fieldsync_doorbell"), "{sql}: {ddl}");
        let engine = engine(&url, library()).await;
        let mut updates = engine.subscribe("authors", Some(cursor)).await.unwrap();
        let first = updates.next().await.unwrap();
        let is_reset = matches!(first, Update::Reset(ResetReason::Capture));
        assert!(is_reset, "{sql}: {first:?}");
        let insert = "insert into authors (id, name) values (7, 'captured')";
        client.batch_execute(insert).await.unwrap();
        loop {
            let update = tokio::time::timeout(Duration::from_secs(20), updates.next());
            match update.await.unwrap().unwrap() {
                Update::Change { change, .. } if change.id == RecordId::Integer(7) => break,
                Update::Changes { changes, .. }
                    if changes.iter().any(|one| one.id == RecordId::Integer(7)) =>
                {
                    break;
                }
                Update::Snapshot { records, .. }
                    if records.iter().any(|one| one.id == RecordId::Integer(7)) =>
                {
                    break;
                }
                _ => {}
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_may_not_repair_resets_its_subscribers_once() {
    let url = fresh_database().await;
    let owner = connect(&url).await;
    owner.batch_execute(LIBRARY).await.unwrap();
    drop(engine(&url, library()).await);
    let role = format!("app_{}", fastrand::u64(..));
    let grants = format!(
        "create role {role} login; grant select, insert, update, delete on all tables in schema public to {role}; \
         grant usage on all sequences in schema public to {role}; insert into authors (id, name) values (1, 'a')"
    );
    owner.batch_execute(&grants).await.unwrap();
    let as_role = url.replace("postgres@", &format!("{role}@"));
    let world = World {
        engine: engine(&as_role, library()).await,
        url,
        sql: owner,
    };
    let mut authors = world.window("authors").await;
    world
        .run("drop trigger \"!fieldsync_row\" on authors; update authors set name = 'b'")
        .await;
    authors.is_reset().await;
    authors.shows(&[(1, json!({"name": "b"}))]).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    // The owner runs what is missing.
    let store = PostgresStore::connect(&world.url).await.unwrap();
    let ddl = store.ddl(&library()).await.unwrap();
    world
        .run(&format!("update authors set name = 'c'; {ddl}"))
        .await;
    authors.shows(&[(1, json!({"name": "c"}))]).await;
    assert_eq!(authors.resets, [ResetReason::Capture; 2]);
    world.run("update authors set name = 'd'").await;
    authors.shows(&[(1, json!({"name": "d"}))]).await;
    assert_eq!(authors.resets.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_of_one_table_does_not_hold_up_the_others() {
    let world = World::new(LIBRARY, library()).await;
    let mut authors = world.window("authors").await;
    let mut books = world.window("books").await;
    world
        .run("insert into fieldsync_captured (log, key, op, new) values ('public.authors', 'no number', 'I', '{}')")
        .await;
    world
        .run("insert into books (id, title) values (1, 'a')")
        .await;
    books
        .shows(&[(1, json!({"title": "a", "author_id": null}))])
        .await;
    world
        .run("delete from fieldsync_captured; insert into authors (id, name) values (1, 'a')")
        .await;
    authors.shows(&[(1, json!({"name": "a"}))]).await;
    assert_eq!(authors.resets, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_others_inherit_from_is_refused() {
    let tables = "create table items (id bigint primary key, name text not null); create table kid () inherits (items)";
    let text = refused_start(tables).await;
    assert!(text.contains("kid inherits from it"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_inheritance_child_is_a_reset() {
    let world = World::new(LIBRARY, library()).await;
    let mut authors = world.window("authors").await;
    world
        .run("create table kid () inherits (authors); insert into kid (id, name) values (1, 'a')")
        .await;
    authors.is_reset().await;
    authors.shows(&[(1, json!({"name": "a"}))]).await;
}
