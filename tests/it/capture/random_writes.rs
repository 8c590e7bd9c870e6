//! SQLite: random writes of the engine and of others, with cascades, triggers, REPLACE and ROLLBACK. The log leads to the table,
//! and so do the updates of a subscriber.

use std::collections::BTreeMap;

use fieldsync::{Edit, Engine};
use rusqlite::Connection;
use serde_json::{Map, Value, json};

use crate::capture::window::Window;
use crate::capture::{Database, SqliteFile, collection};
use crate::random;

const TABLES: &str = "
    create table lists (id integer primary key, name text not null unique collate nocase, size integer not null default 0);
    create table items (id integer primary key, list_id integer references lists (id) on delete cascade on update cascade,
      parent_id integer references items (id) on delete set null, slug text, done boolean not null default 0);
    create unique index slugs on items (lower(slug)) where done;
    create trigger grows after insert on items begin update lists set size = size + 1 where id = new.list_id; end;
    create trigger shrinks after delete on items begin update lists set size = size - 1 where id = old.list_id; end;
    create trigger finishes after update of done on items when new.done begin
      update items set done = 1 where parent_id = new.id and not done and slug is null; end;
    create trigger keeps before delete on items when old.slug = 'keep' begin
      update items set slug = null where id = old.id; select raise(ignore); end;";

/// A statement of another program. It may fail.
fn statement(random: &mut fastrand::Rng) -> String {
    let (id, list) = (random.u8(1..20), random.u8(1..6));
    let name = ["a", "A", "b", "B", "c"][random.usize(..5)];
    let slug = ["'x'", "'X'", "'y'", "'keep'", "null"][random.usize(..5)];
    match random.u8(..14) {
        0 => format!("insert into lists (name) values ('{name}')"),
        1 => format!("replace into lists (id, name) values ({list}, '{name}')"),
        2 => format!("update or replace lists set name = '{name}' where id = {list}"),
        3 => format!(
            "update lists set id = {} where id = {list}",
            random.u8(1..9)
        ),
        4 if random.u8(..4) == 0 => format!("delete from lists where id = {list}"),
        5 => format!("delete from items where id = {id}"),
        6 => format!("update items set done = 1, slug = {slug} where id = {id}"),
        // With OR REPLACE, SQLite itself may write back a value that ON DELETE SET NULL has just set.
        7 => format!("update or ignore items set done = 1, slug = {slug} where list_id = {list}"),
        8 => {
            format!("replace into items (id, list_id, slug, done) values ({id}, {list}, {slug}, 1)")
        }
        9 => format!("update items set parent_id = {id} where list_id = {list} and id <> {id}"),
        10 => format!(
            "insert into lists (name) values ('{name}') on conflict (name) do update set size = size"
        ),
        _ => format!("insert into items (list_id, slug) values ({list}, {slug})"),
    }
}

fn write_as_others(connection: &Connection, random: &mut fastrand::Rng) {
    let recursive = if random.bool() { "on" } else { "off" };
    connection
        .pragma_update(None, "recursive_triggers", recursive)
        .unwrap();
    connection.execute_batch("begin immediate").unwrap();
    for _ in 0..random.usize(1..5) {
        let is_kept = random.u8(..4) > 0;
        connection.execute_batch("savepoint one").unwrap();
        // A constraint may refuse it.
        let _ = connection.execute_batch(&statement(random));
        if !is_kept {
            connection.execute_batch("rollback to one").unwrap();
        }
        connection.execute_batch("release one").unwrap();
    }
    let end = if random.u8(..4) > 0 {
        "commit"
    } else {
        "rollback"
    };
    connection.execute_batch(end).unwrap();
}

async fn write_by_the_engine(engine: &Engine, random: &mut fastrand::Rng) {
    let item = ("items", i64::from(random.u8(1..20)));
    let list = ("lists", i64::from(random.u8(1..6)));
    let edit = match random.u8(..6) {
        0 => Edit::create(
            "lists",
            json!({"name": random.alphabetic().to_string(), "size": 0}),
        ),
        1 if random.u8(..3) == 0 => Edit::delete(list),
        2 => Edit::delete(item),
        3 => Edit::patch(item, json!({"done": true})),
        4 => Edit::patch(list, json!({"name": random.alphabetic().to_string()})),
        _ => {
            let fields = json!({"list_id": list.1, "parent_id": null, "slug": null, "done": false});
            Edit::create("items", fields)
        }
    };
    // It may be refused.
    let _ = engine.transaction(vec![edit]).await;
}

/// Folds the log. The previous values of each change must be those after the one before.
fn fold(connection: &Connection, log: &str) -> BTreeMap<i64, Map<String, Value>> {
    let sql = "select id, action, after, former from fieldsync_changes where log = ?1 order by \"offset\"";
    let mut statement = connection.prepare(sql).unwrap();
    let mut rows = statement.query([log]).unwrap();
    let mut records = BTreeMap::new();
    while let Some(row) = rows.next().unwrap() {
        let text = |column| row.get::<_, String>(column).unwrap();
        let fields = |column| serde_json::from_str::<Map<String, Value>>(&text(column)).unwrap();
        let (id, after, previous) = (row.get(0).unwrap(), fields(2), fields(3));
        let before = records.remove(&id);
        // Where REPLACE and a trigger write a row in one statement, the values before it may be unknown.
        let is_unknown = previous.is_empty();
        match &*text(1) {
            "create" => assert_eq!(before, None, "{log}/{id}"),
            "delete" => {
                assert!(before.is_some(), "{log}/{id}");
                assert!(is_unknown || before == Some(previous), "{log}/{id}");
                continue;
            }
            _ if is_unknown => assert!(before.is_some(), "{log}/{id}"),
            _ => {
                let mut expected = after.clone();
                expected.extend(previous);
                assert_eq!(before, Some(expected), "{log}/{id}");
            }
        }
        records.insert(id, after);
    }
    records
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_writes_the_log_leads_to_the_table() {
    let mut random = random::generator();
    let database = SqliteFile::fresh().await;
    database.sql(TABLES).await;
    let lists = collection("lists", &[("name", "string"), ("size", "integer")]);
    let items = [
        ("list_id", "integer?"),
        ("parent_id", "integer?"),
        ("slug", "string?"),
        ("done", "boolean"),
    ];
    let engine = database.start([lists, collection("items", &items)]).await;
    let mut windows = [
        Window::open(&engine, "lists").await,
        Window::open(&engine, "items").await,
    ];
    let other = database.connect();
    for _ in 0..15 {
        for _ in 0..20 {
            if random.bool() {
                write_as_others(&other, &mut random);
            } else {
                write_by_the_engine(&engine, &mut random).await;
            }
        }
        for window in &mut windows {
            window.converge().await;
            assert!(window.resets.is_empty());
        }
    }
    for (log, window) in ["lists", "items"].into_iter().zip(&windows) {
        let waiting = "select count(*) from fieldsync_captured";
        while other
            .query_row(waiting, [], |row| row.get::<_, i64>(0))
            .unwrap()
            > 0
        {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        let records = window
            .records
            .iter()
            .map(|(id, fields)| (id.as_integer().unwrap(), fields.clone()));
        assert_eq!(fold(&other, log), records.collect(), "{log}");
    }
}
