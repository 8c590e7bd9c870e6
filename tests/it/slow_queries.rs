//! Queries that no index serves are bounded in time.

use std::time::{Duration, Instant};

use fieldsync::{Collection, Engine, Principal};
use serde_json::json;

use crate::app::{App, Server};
use crate::database::{Database, on_both_databases};

on_both_databases!(a_list_that_takes_too_long_is_ended_and_harms_nobody,);

/// A view whose every row takes long to compare.
const SQLITE: &str = "
    create table numbers (id integer primary key, n integer);
    with recursive all_of (n) as (select 1 union all select n + 1 from all_of where n < 3000) insert into numbers select n, n from all_of;
    create view slow as select a.id, (select count(*) from numbers b, numbers c where b.n + c.n = a.n + 9000000) as n from numbers a;";

const POSTGRES: &str = "
    create table numbers (id bigint primary key, n bigint);
    insert into numbers select n, n from generate_series(1, 3000) n;
    create view slow as select id, n + case when pg_sleep(0.1) is null then 0 else 0 end as n from numbers;";

async fn a_list_that_takes_too_long_is_ended_and_harms_nobody(database: Database) {
    database.run_own(SQLITE, POSTGRES).await;
    let schema = json!({"type": "object", "properties": {"n": {"type": ["integer", "null"]}}});
    let slow = Collection::from_schema("slow", &schema).table("slow");
    let slow = slow.read_only().no_create().without_capture();
    let other = Collection::from_schema("other", &schema).open_to_everyone();
    let builder = Engine::builder()
        .collection(slow.open_to_everyone())
        .collection(other);
    let builder = database.store(builder, "postgres", "").await;
    let app = App::with(Server::Axum, builder, tempfile::tempdir().unwrap()).await;
    let begun = Instant::now();
    let listing = app.request("GET", "/api/slow/?n=eq.-1").send();
    let (reply, ()) = tokio::join!(listing, async {
        // Others go on meanwhile.
        for _ in 0..20 {
            let (status, _) = app.send("POST", "/api/other/", &json!({"n": 1})).await;
            assert_eq!(status, 201);
        }
        let caller = app.engine.on_behalf_of(Principal::anonymous());
        caller.list("other", None, 10).await.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(4));
    });
    assert_eq!(reply.unwrap().status(), 503);
    let took = begun.elapsed();
    assert!((4..15).contains(&took.as_secs()), "{took:?}");
}
