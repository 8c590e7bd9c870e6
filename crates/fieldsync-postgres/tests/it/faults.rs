//! Failures between the store and a real PostgreSQL.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use deadpool_postgres::{Manager, Pool};
use fieldsync::backend::{Broker as _, ChangesSince, PageLimit, Store as _};
use fieldsync::{Collection, Edit, Engine, EngineError, Outcome, StartError, Update};
use fieldsync_postgres::{PostgresBroker, PostgresStore};
use futures_util::StreamExt as _;
use futures_util::future::try_join_all;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::cluster::Cluster;

const TIMEOUT: Duration = Duration::from_secs(30);

fn notes() -> Collection {
    let schema =
        json!({"type": "object", "properties": {"text": {"type": "string", "default": ""}}});
    Collection::from_schema("notes", &schema).open_to_everyone()
}

async fn engine(url: &str) -> Engine {
    let store = PostgresStore::connect(url).await.unwrap();
    let builder = Engine::builder().collection(notes()).store(store);
    builder.start().await.unwrap()
}

async fn create(engine: &Engine, text: &str) -> i64 {
    let edit = Edit::create("notes", json!({"text": text}));
    let outcomes = engine.transaction(vec![edit]).await.unwrap();
    outcomes[0]
        .record()
        .unwrap()
        .id
        .to_string()
        .parse()
        .unwrap()
}

async fn patch(engine: &Engine, id: i64, text: &str) -> Result<Vec<Outcome>, EngineError> {
    let edit = Edit::patch(("notes", &id), json!({"text": text}));
    engine.transaction(vec![edit]).await
}

async fn count(url: &str, sql: &str) -> i64 {
    let client = crate::cluster::connect(url).await;
    client.query_one(sql, &[]).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn d_nothing_is_lost_or_doubled_while_sessions_are_terminated() {
    let url = crate::cluster::fresh_database().await;
    let engine = engine(&url).await;
    let done = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let (engine, done) = (engine.clone(), Arc::clone(&done));
            tokio::spawn(async move {
                let mut acknowledged = 0_i64;
                while !done.load(Ordering::SeqCst) {
                    let key = format!("{writer}-{acknowledged}");
                    let edit = || {
                        let fields = json!({"text": key});
                        Edit::create("notes", fields).with_idempotency_key(&key)
                    };
                    // Retried until it is acknowledged.
                    while engine.transaction(vec![edit()]).await.is_err() {}
                    acknowledged += 1;
                }
                acknowledged
            })
        })
        .collect();
    let client = crate::cluster::connect(&url).await;
    let end = "select pg_terminate_backend(pid) from pg_stat_activity \
               where datname = current_database() and pid <> pg_backend_pid()";
    let ending = async {
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            client.query(end, &[]).await.unwrap();
        }
        done.store(true, Ordering::SeqCst);
    };
    // A writer that panics fails the test at once.
    let written = async { tokio::join!(try_join_all(writers), ending).0 };
    let acknowledged = timeout(TIMEOUT, written).await.unwrap().unwrap();
    let acknowledged: i64 = acknowledged.into_iter().sum();
    assert!(acknowledged > 20, "{acknowledged}");
    for sql in [
        "select count(*) from notes",
        "select count(distinct text) from notes",
        "select count(*) from fieldsync_changes",
        "select last from fieldsync_heads where log = 'public.notes'",
    ] {
        assert_eq!(count(&url, sql).await, acknowledged, "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s_nodes_start_while_others_write() {
    let url = crate::cluster::fresh_database().await;
    let first = engine(&url).await;
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let first = first.clone();
            tokio::spawn(async move {
                for number in 0.. {
                    let edit = Edit::create("notes", json!({"text": "a"}));
                    let edit = edit.with_idempotency_key(format!("{writer}-{number}"));
                    first.transaction(vec![edit]).await.unwrap();
                }
            })
        })
        .collect();
    let starting = async {
        for _ in 0..30 {
            // `engine` panics if the node does not start.
            timeout(TIMEOUT, engine(&url)).await.unwrap();
        }
    };
    // The writers never end, unless a write fails.
    tokio::select! {
        ended = try_join_all(writers) => panic!("a write failed: {ended:?}"),
        () = starting => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s_a_locked_row_does_not_delay_edits_of_others() {
    let url = crate::cluster::fresh_database().await;
    let engine = engine(&url).await;
    let (locked, free) = (create(&engine, "a").await, create(&engine, "b").await);
    let client = crate::cluster::connect(&url).await;
    let lock = format!("begin; select 1 from notes where id = {locked} for update");
    client.batch_execute(&lock).await.unwrap();
    // More than the pool has connections.
    let waiting: Vec<_> = (0..40)
        .map(|number| {
            let engine = engine.clone();
            tokio::spawn(async move { patch(&engine, locked, &format!("late {number}")).await })
        })
        .collect();
    for number in 0..50 {
        let text = number.to_string();
        let written = timeout(Duration::from_secs(2), patch(&engine, free, &text)).await;
        written
            .expect("the edit does not wait for the lock")
            .unwrap();
    }
    assert!(waiting.iter().all(|one| !one.is_finished()));
    client.batch_execute("rollback").await.unwrap();
    let patched = timeout(TIMEOUT, try_join_all(waiting)).await.unwrap();
    for one in patched.unwrap() {
        one.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn o_a_long_transaction_of_another_client_hides_no_change() {
    let url = crate::cluster::fresh_database().await;
    let engine = engine(&url).await;
    let id = create(&engine, "a").await;
    let other = crate::cluster::connect(&url).await;
    let begun = "begin; insert into notes (text) values ('theirs'); select pg_current_xact_id()";
    other.batch_execute(begun).await.unwrap();
    let mut changes = engine.subscribe("notes", None).await.unwrap();
    while !matches!(changes.next().await, Some(Update::Live { .. })) {}
    for number in 0..20 {
        patch(&engine, id, &number.to_string()).await.unwrap();
        let Ok(Some(Update::Change { change, .. })) = timeout(TIMEOUT, changes.next()).await else {
            panic!("a change")
        };
        assert_eq!(change.fields["text"], number.to_string());
    }
    other.batch_execute("commit").await.unwrap();
    // `refresh` announces what was written without fieldsync.
    let theirs = count(&url, "select max(id) from notes").await;
    engine.refresh(("notes", theirs)).await.unwrap();
    let Ok(Some(Update::Change { change, .. })) = timeout(TIMEOUT, changes.next()).await else {
        panic!("a change")
    };
    assert_eq!(change.fields["text"], "theirs");
}

#[tokio::test(flavor = "multi_thread")]
async fn edits_fail_while_the_database_is_read_only_and_succeed_afterwards() {
    let url = crate::cluster::fresh_database().await;
    let engine = engine(&url).await;
    let id = create(&engine, "a").await;
    let client = crate::cluster::connect(&url).await;
    let name: String = client
        .query_one("select current_database()::text", &[])
        .await
        .unwrap()
        .get(0);
    let set = async |value: &str| {
        let sql = format!("alter database {name} set default_transaction_read_only = {value}");
        let cluster = crate::cluster::connect(&crate::cluster::cluster().url("postgres")).await;
        cluster.batch_execute(&sql).await.unwrap();
        let end = format!(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'"
        );
        cluster.batch_execute(&end).await.unwrap();
    };
    set("on").await;
    let refused = async {
        loop {
            match patch(&engine, id, "b").await {
                Err(EngineError::Store(error)) if error.to_string().contains("unavailable") => {
                    return;
                }
                Err(EngineError::Store(_)) => {
                    panic!("the error should say that a retry may succeed")
                }
                other => drop(other),
            }
        }
    };
    timeout(TIMEOUT, refused).await.unwrap();
    set("off").await;
    let recovers = async { while patch(&engine, id, "c").await.is_err() {} };
    timeout(TIMEOUT, recovers).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_another_framework_is_used_as_it_is() {
    let url = crate::cluster::fresh_database().await;
    let client = crate::cluster::connect(&url).await;
    let made = "create schema shop; create table shop.orders (\
         order_id serial primary key, total numeric(30, 2) not null, placed timestamp not null default now(), \
         paid boolean not null default false, tags jsonb not null default '[]', buyer uuid, code varchar(10) not null default '', \
         note text not null default 'theirs');\
         insert into shop.orders (total, placed) values (12345678901234567890.10, '2026-01-13 10:00:00.123456')";
    client.batch_execute(made).await.unwrap();
    let text = json!({"type": "string", "default": ""});
    let schema = |code: Value| {
        json!({"type": "object", "properties": {
            "total": {"type": "string"}, "placed": {"type": "string", "format": "date-time"},
            "paid": {"type": "boolean", "default": false}, "tags": {"type": "array", "default": []},
            "buyer": {"type": ["string", "null"], "format": "uuid"}, "code": code,
        }})
    };
    let orders = |code| {
        let orders = Collection::from_schema("orders", &schema(code));
        orders
            .table("shop.orders")
            .key("order_id")
            .without_capture()
            .open_to_everyone()
    };
    let start = async |code| {
        let store = PostgresStore::connect(&url).await.unwrap();
        Engine::builder()
            .collection(orders(code))
            .store(store)
            .start()
            .await
    };
    // The column holds ten characters, the field any number of them.
    let Err(StartError::Store(error)) = start(text).await else {
        panic!("the column does not fit")
    };
    let error = error.to_string();
    assert!(
        error.contains("shop.orders") && error.contains("code") && error.contains("varying(10)"),
        "{error}"
    );
    let engine = start(json!({"type": "string", "maxLength": 10, "default": ""}))
        .await
        .unwrap();
    let patch = json!({"paid": true, "tags": [{"a": 1.0}], "buyer": "67E55044-10B1-426F-9247-BB680E5FE0C8", "total": "0.10"});
    let outcomes = engine
        .transaction(vec![Edit::patch(("orders", 1), patch)])
        .await
        .unwrap();
    let record = Value::Object(outcomes[0].record().unwrap().fields);
    assert_eq!(
        record,
        json!({"total": "0.10", "placed": "2026-01-13T10:00:00.123456Z", "paid": true, "tags": [{"a": 1.0}],
               "buyer": "67e55044-10b1-426f-9247-bb680e5fe0c8", "code": ""})
    );
    let many = json!({"total": "98765432109876543210.99", "placed": "2026-02-01T00:00:00+02:00"});
    let outcomes = engine
        .transaction(vec![Edit::create("orders", many)])
        .await
        .unwrap();
    assert_eq!(
        outcomes[0].record().unwrap().fields["total"],
        "98765432109876543210.99"
    );
    assert_eq!(
        outcomes[0].record().unwrap().fields["placed"],
        "2026-01-31T22:00:00.000000Z"
    );
    let refused = engine
        .transaction(vec![Edit::patch(("orders", 1), json!({"total": "much"}))])
        .await;
    let Err(EngineError::Refused(fieldsync::Refusal::Invalid(errors))) = refused else {
        panic!("{refused:?}")
    };
    assert!(errors.contains("total"));
    assert_eq!(
        count(
            &url,
            "select count(*) from shop.orders where note = 'theirs'"
        )
        .await,
        2
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn d_x_a_failover_to_a_standby_loses_nothing_and_needs_no_restart() {
    let mut primary = Cluster::durable();
    let standby = primary.standby();
    let admin = crate::cluster::connect(&primary.url("postgres")).await;
    // Acknowledged edits are on both servers.
    let both = "alter system set synchronous_standby_names = '*'";
    admin.batch_execute(both).await.unwrap();
    admin
        .batch_execute("select pg_reload_conf()")
        .await
        .unwrap();
    let hosts = format!("127.0.0.1:{},127.0.0.1:{}", primary.port, standby.port);
    let url = format!("postgres://postgres@{hosts}/postgres?target_session_attrs=read-write");
    let engine = engine(&url).await;
    let mut changes = engine.subscribe("notes", None).await.unwrap();
    while !matches!(changes.next().await, Some(Update::Live { .. })) {}
    for number in 0..20 {
        create(&engine, &number.to_string()).await;
    }
    primary.stop_at_once();
    let edit = || Edit::create("notes", json!({"text": "20"})).with_idempotency_key("20");
    let refused = engine.transaction(vec![edit()]).await;
    assert!(matches!(refused, Err(EngineError::Store(_))), "{refused:?}");
    let promote = crate::cluster::connect(&standby.url("postgres")).await;
    promote.query("select pg_promote()", &[]).await.unwrap();
    let recovered = async { while engine.transaction(vec![edit()]).await.is_err() {} };
    timeout(TIMEOUT, recovered)
        .await
        .expect("the node recovers");
    let mut received = Vec::new();
    while received.len() < 21 {
        let update = timeout(TIMEOUT, changes.next()).await.unwrap();
        let created = match update.unwrap() {
            Update::Change { change, .. } => vec![change],
            Update::Changes { changes, .. } => changes,
            Update::Reset(reason) => panic!("reset: {reason}"),
            _ => Vec::new(),
        };
        received.extend(created.iter().map(|change| change.fields["text"].clone()));
    }
    let all: Vec<_> = (0..21).map(|number| json!(number.to_string())).collect();
    assert_eq!(received, all);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_does_not_answer_is_skipped() {
    let url = crate::cluster::fresh_database().await;
    // The system accepts connections to it, and nobody answers.
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mute = mute.local_addr().unwrap();
    let both = url.replace("127.0.0.1:", &format!("{mute},127.0.0.1:"));
    let both = format!("{both}?connect_timeout=1&target_session_attrs=read-write");
    create(&engine(&both).await, "a").await;
    let broker = PostgresBroker::connect(&both).await.unwrap();
    assert!(broker.subscribe().await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn read_only_sessions_are_not_kept() {
    let url = crate::cluster::fresh_database().await;
    let engine = engine(&url).await;
    let id = create(&engine, "a").await;
    let admin = crate::cluster::connect(&url).await;
    let name = url.rsplit('/').next().unwrap();
    let only_reads =
        |on: &str| format!("alter database {name} set default_transaction_read_only = {on}");
    // Sessions opened meanwhile are not terminated: the address may lead to a standby for a while.
    admin.batch_execute(&only_reads("on")).await.unwrap();
    let end = "select pg_terminate_backend(pid) from pg_stat_activity \
               where datname = current_database() and pid <> pg_backend_pid()";
    admin.batch_execute(end).await.unwrap();
    let many = (0..40).map(|_| patch(&engine, id, "b"));
    let refused = futures_util::future::join_all(many).await;
    assert!(refused.iter().all(Result::is_err));
    admin
        .batch_execute("set default_transaction_read_only = off")
        .await
        .unwrap();
    admin.batch_execute(&only_reads("off")).await.unwrap();
    let mut refused = 0;
    for round in 0..100 {
        refused += usize::from(patch(&engine, id, &round.to_string()).await.is_err());
    }
    assert!(refused < 20, "{refused} edits were refused afterwards");
}

#[tokio::test(flavor = "multi_thread")]
async fn c_the_log_contains_what_an_after_trigger_changed() {
    let url = crate::cluster::fresh_database().await;
    let admin = crate::cluster::connect(&url).await;
    let sql = "create table notes (id bigint generated by default as identity primary key, \
                 text text not null default '', size bigint not null default 0); \
               create function measure() returns trigger language plpgsql as $$ begin \
                 update notes set size = length(text) where id = new.id and size <> length(text); \
                 return null; end $$; \
               create trigger measure after insert or update on notes for each row execute function measure()";
    admin.batch_execute(sql).await.unwrap();
    let schema = json!({"type": "object", "properties": {
        "text": {"type": "string", "default": ""}, "size": {"type": "integer", "default": 0}}});
    let notes = Collection::from_schema("notes", &schema)
        .without_capture()
        .open_to_everyone();
    let store = PostgresStore::connect(&url).await.unwrap();
    let engine = Engine::builder()
        .collection(notes)
        .store(store)
        .start()
        .await
        .unwrap();
    let created = Edit::create("notes", json!({"text": "four"}));
    let patched = Edit::patch(("notes", 1), json!({"text": "seventeen letters"}));
    for (edit, size) in [(created, 4), (patched, 17)] {
        let done = engine.transaction(vec![edit]).await.unwrap();
        assert_eq!(done[0].record().unwrap().fields["size"], size);
    }
    let sql = "select (after::json ->> 'size')::bigint from fieldsync_changes where \"offset\" = 2";
    assert_eq!(count(&url, sql).await, 17);
}

#[tokio::test(flavor = "multi_thread")]
async fn m_a_page_of_the_log_is_bounded_in_bytes() {
    let url = crate::cluster::fresh_database().await;
    let engine = engine(&url).await;
    let store = PostgresStore::connect(&url).await.unwrap();
    store.prepare(&[Arc::new(notes())]).await.unwrap();
    let (_, mut position) = store.heads().await.unwrap().remove(0);
    for _ in 0..12 {
        create(&engine, &"x".repeat(300_000)).await;
    }
    let mut pages = Vec::new();
    loop {
        let limit = PageLimit {
            rows: 512,
            bytes: 1024 * 1024,
        };
        let page = store.changes("notes", position, limit).await.unwrap();
        let ChangesSince::Changes { changes, more } = page else {
            panic!("{page:?}")
        };
        pages.push(changes.len());
        position = changes.last().unwrap().position;
        if !more {
            break;
        }
    }
    assert_eq!(pages, [3, 3, 3, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn m_the_number_of_prepared_statements_is_bounded() {
    let url = crate::cluster::fresh_database().await;
    let names: Vec<String> = (0..10).map(|number| format!("f{number}")).collect();
    let text = json!({"type": "string", "default": ""});
    let properties = names.iter().map(|name| (name.clone(), text.clone()));
    let properties: serde_json::Map<_, _> = properties.collect();
    let schema = json!({"type": "object", "properties": properties});
    let manager = Manager::new(url.parse().unwrap(), tokio_postgres::NoTls);
    let pool = Pool::builder(manager).max_size(1).build().unwrap();
    let builder = Engine::builder().store(PostgresStore::with_pool(pool.clone()));
    let notes = Collection::from_schema("notes", &schema).open_to_everyone();
    let engine = builder.collection(notes).start().await.unwrap();
    engine
        .transaction(vec![Edit::create("notes", json!({}))])
        .await
        .unwrap();
    for set in 1..1000 {
        let some = names
            .iter()
            .enumerate()
            .filter(|(bit, _)| set >> bit & 1 == 1);
        let fields: serde_json::Map<_, _> = some
            .map(|(_, name)| (name.clone(), json!(set.to_string())))
            .collect();
        let edit = Edit::patch(("notes", 1), fields);
        engine.transaction(vec![edit]).await.unwrap();
    }
    let kept = pool.get().await.unwrap().statement_cache.size();
    assert!(kept < 300, "{kept} statements");
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_a_big_table_are_found_by_the_index_of_the_key() {
    let url = crate::cluster::fresh_database().await;
    let engine = engine(&url).await;
    let admin = crate::cluster::connect(&url).await;
    let fill = "insert into notes (text) select 'a' from generate_series(1, 20000)";
    admin.batch_execute(fill).await.unwrap();
    admin.batch_execute("analyze notes").await.unwrap();
    let scans = async |column: &str| {
        // Statistics arrive a moment later.
        let sql = format!("select {column} from pg_stat_user_tables where relname = 'notes'");
        count(&url, &sql).await
    };
    while scans("seq_scan").await == 0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let whole = scans("seq_scan").await;
    for id in 1..50 {
        patch(&engine, id * 300, "b").await.unwrap();
        let notes = engine.collection::<Value>("notes");
        notes.get(id * 300).await.unwrap();
    }
    while scans("n_tup_upd").await < 49 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(scans("seq_scan").await, whole, "the whole table was read");
}

#[tokio::test]
async fn an_error_on_connect_says_why() {
    for (url, word) in [
        ("nonsense", "postgres://"),
        ("postgres://app:secret@127.0.0.1:1/app", "127.0.0.1:1"),
        (
            "postgres://app:se?cret@127.0.0.1:1/app?connect_timeout=1",
            "127.0.0.1:1",
        ),
        ("postgres://app:secret@127.0.0.1:x/app", "postgres://"),
        (
            "postgres://app:secret@127.0.0.1/app?nonsense=1",
            "`nonsense`",
        ),
    ] {
        let error = PostgresStore::connect(url).await.unwrap_err().to_string();
        assert!(error.contains(word) && !error.contains("secret"), "{error}");
    }
}
