//! What a statement sets off without a trigger, and values and settings of other programs that must neither fail them nor hide
//! what they write.

use fieldsync::{Action, Edit, RecordId};
use serde_json::json;

use crate::capture::{LIBRARY, World, collection, library, refused_start};
use crate::cluster::connect;

#[tokio::test(flavor = "multi_thread")]
async fn json_that_is_no_jsonb_fails_no_writer() {
    let tables =
        "create table docs (id text primary key, body json, note text not null default '')";
    let fields = json!({"body": {}, "note": {"type": "string", "default": ""}});
    let docs = collection("docs", &fields).text_ids().no_create();
    let world = World::new(tables, vec![docs]).await;
    let mut docs = world.window("docs").await;
    let values = [
        r#"{"a":"\u0000"}"#,
        r#"{"a":"\ud800"}"#,
        r#"{"a":1e200000}"#,
        r#"{"a":1}"#,
    ];
    for (number, value) in values.iter().enumerate() {
        world
            .run(&format!(
                "insert into docs (id, body) values ('k%,{number}', '{value}')"
            ))
            .await;
    }
    while docs.records.len() < values.len() {
        docs.next().await;
    }
    world.run("update docs set note = 'b'").await;
    world
        .run("update docs set id = 'moved' where id = 'k%,0'")
        .await;
    world.run("delete from docs where id = 'k%,1'").await;
    let key = |id: &str| RecordId::from(id);
    while docs.records.contains_key(&key("k%,1"))
        || !docs.records.contains_key(&key("moved"))
        || !docs.records.values().all(|fields| fields["note"] == "b")
    {
        docs.next().await;
    }
    assert_eq!(docs.records[&key("moved")]["body"], json!({"a": "\0"}));
    assert_eq!(docs.records[&key("k%,3")]["body"], json!({"a": 1}));
    assert_eq!(docs.resets, []);
}

const TOTALS: &str = "create table totals (id bigint primary key, n bigint not null); insert into totals values (1, 0), (2, 0); \
     create function next_number() returns bigint language sql volatile as \
       $$ update totals set n = n + 1 where id = 2 returning n $$; \
     create table items (id bigint primary key, name text not null, number bigint not null default next_number()); \
     create rule counts as on update to items do also update totals set n = n + 1 where id = 1; \
     insert into items values (1, 'a')";

#[tokio::test(flavor = "multi_thread")]
async fn rules_and_functions_of_defaults_are_captured() {
    let items = json!({"name": {"type": "string"}});
    let totals = json!({"n": {"type": "integer"}});
    let collections = vec![
        collection("items", &items).ids_by_creator(),
        collection("totals", &totals).no_create(),
    ];
    let world = World::new(TOTALS, collections).await;
    let mut totals = world.window("totals").await;
    let mut items = world.window("items").await;
    let patch = Edit::patch(("items", 1), json!({"name": "b"}));
    world.engine.transaction(vec![patch]).await.unwrap();
    totals
        .shows(&[(1, json!({"n": 1})), (2, json!({"n": 1}))])
        .await;
    // In one transaction with an edit of the same record.
    let edits = vec![
        Edit::patch(("totals", 1), json!({"n": 10})),
        Edit::patch(("items", 1), json!({"name": "c"})),
    ];
    world.engine.transaction(edits).await.unwrap();
    totals
        .shows(&[(1, json!({"n": 11})), (2, json!({"n": 1}))])
        .await;
    items.shows(&[(1, json!({"name": "c"}))]).await;
    assert_eq!(items.changes.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_role_can_not_hide_what_it_writes() {
    let world = World::new(LIBRARY, library()).await;
    world
        .run("insert into authors (id, name) values (1, 'a')")
        .await;
    let mut authors = world.window("authors").await;
    authors.shows(&[(1, json!({"name": "a"}))]).await;
    let role = format!("writer_{}", fastrand::u64(..));
    world
        .run(&format!(
            "create role {role} login; grant select, update on authors to {role}"
        ))
        .await;
    let other = connect(&world.url.replace("postgres@", &format!("{role}@"))).await;
    for (number, value) in ["on", "public.authors"].into_iter().enumerate() {
        let name = format!("n{number}");
        other
            .batch_execute(&format!(
                "set fieldsync.planned = '{value}'; update authors set name = '{name}'"
            ))
            .await
            .unwrap();
        authors.shows(&[(1, json!({"name": name}))]).await;
    }
    assert_eq!(authors.resets, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delete_that_a_rule_replaces_is_an_update() {
    let tables = "create table items (id bigint primary key, deleted boolean not null default false); \
         create rule soft as on delete to items do instead update items set deleted = true where id = old.id; \
         insert into items values (1)";
    let items = json!({"deleted": {"type": "boolean", "default": false}});
    let world = World::new(tables, vec![collection("items", &items).no_create()]).await;
    let mut items = world.window("items").await;
    let delete = Edit::delete(("items", 1));
    let outcome = world
        .engine
        .transaction(vec![delete])
        .await
        .unwrap()
        .remove(0);
    assert_eq!(outcome.record().unwrap().fields["deleted"], true);
    items.shows(&[(1, json!({"deleted": true}))]).await;
    assert_eq!(items.changes.last().unwrap().1, Action::Update);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_replaces_updates_is_refused_at_the_start() {
    let tables = "create table items (id bigint primary key, name text not null); \
         create rule frozen as on update to items do instead nothing";
    let text = refused_start(tables).await;
    assert!(text.contains("frozen (on update)"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_that_ends_the_connection_fails_only_its_own_edit() {
    let tables = "create table items (id bigint primary key, name text not null); \
         insert into items select n, 'a' from generate_series(1, 60) n; \
         create function harm() returns trigger language plpgsql as $$ begin \
           if new.name = 'read only' then perform set_config('transaction_read_only', 'on', true); end if; \
           if new.name = 'end' then perform pg_terminate_backend(pg_backend_pid()); end if; \
           return new; end $$; \
         create trigger harm before update on items for each row execute function harm()";
    let items = collection("items", &json!({"name": {"type": "string"}})).no_create();
    let world = World::new(tables, vec![items]).await;
    for harm in ["read only", "end"] {
        for round in 0..3 {
            let edits = (1..=60_i64).map(|id| {
                let name = match id {
                    30 => harm.to_owned(),
                    _ => format!("{harm} {round}"),
                };
                let edit = Edit::patch(("items", &id), json!({"name": name}));
                world.engine.transaction(vec![edit])
            });
            let results = futures_util::future::join_all(edits).await;
            for (id, result) in (1..).zip(results) {
                assert_eq!(result.is_err(), id == 30, "{harm}, {id}: {result:?}");
            }
        }
    }
}
