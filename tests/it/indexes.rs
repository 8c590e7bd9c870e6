//! Queries use the indexes of the app's tables: what the database says of how it reads them.

use fieldsync::{Collection, Edit, Engine, Filter, Order, Principal, Topic, asc, desc};
use serde_json::{Value, json};

use crate::database::{Database, on_both_databases};

on_both_databases!(
    a_query_is_read_by_the_index_that_serves_it,
    an_order_is_read_by_the_index_that_serves_it,
);

const TASKS: &str = "
    create table tasks ($key, project_id integer, score $double, at $time not null, done_at $time, day date, owner $uuid, title text);
    create index by_project on tasks (project_id);
    create index by_score on tasks (score);
    create index by_at on tasks (at);
    create index by_done_at on tasks (done_at);
    create index by_day on tasks (day);
    create index by_owner on tasks (owner);
    create index by_title on tasks (title $by_code_point);";

async fn start(database: &Database) -> Engine {
    let postgres = TASKS
        .replace("$double", "double precision")
        .replace("$time", "timestamptz")
        .replace("$uuid", "uuid")
        .replace("$by_code_point", "collate \"C\"");
    let sqlite = TASKS
        .replace("$double", "real")
        .replace("$time", "datetime")
        .replace("$uuid", "char(32)")
        .replace("$by_code_point", "");
    database.run_own(&sqlite, &postgres).await;
    let schema = json!({"type": "object", "properties": {
        "project_id": {"type": ["integer", "null"], "maximum": 1000, "minimum": 0},
        "score": {"type": ["number", "null"]},
        "at": {"type": "string", "format": "date-time"},
        "done_at": {"type": ["string", "null"], "format": "date-time"},
        "day": {"type": ["string", "null"], "format": "date"},
        "owner": {"type": ["string", "null"], "format": "uuid"},
        "title": {"type": ["string", "null"]},
    }});
    let tasks = Collection::from_schema("tasks", &schema)
        .table("tasks")
        .orderable(["title"])
        .without_capture()
        .open_to_everyone();
    let builder = Engine::builder().collection(tasks.clone());
    let again = Engine::builder().collection(tasks);
    let engine = database.store(builder, "postgres", "").await.start();
    let engine = engine.await.unwrap();
    for half in 0..2 {
        let tasks = (0..RECORDS / 2).map(|number| task(half * RECORDS / 2 + number));
        let create = tasks.map(|task| Edit::create("tasks", task));
        engine.transaction(create.collect()).await.unwrap();
    }
    // What the planner knows of the columns.
    database.run("analyze tasks").await;
    drop(engine);
    let engine = database.store(again, "postgres", "").await.start();
    engine.await.unwrap()
}

/// How many records there are.
const RECORDS: usize = 2000;

fn task(number: usize) -> Value {
    let minute = format!(
        "2026-01-{:02}T{:02}:{:02}:00Z",
        1 + number / 100,
        number % 100 / 5,
        number % 5
    );
    json!({
        "project_id": number % 1000,
        "score": number as f64 / 2.0,
        "at": minute,
        "done_at": minute,
        "day": format!("2026-{:02}-{:02}", 1 + number % 12, 1 + number / 12 % 28),
        "owner": format!("{number:08x}-0000-7000-8000-000000000000"),
        "title": format!("t{number}"),
    })
}

/// How the database reads the topic.
async fn plan(engine: &Engine, topic: Topic) -> String {
    let explanation = engine.explain(&Principal::anonymous(), topic).await;
    let explanation = explanation.unwrap();
    assert!(explanation.is_granted(), "{explanation}");
    let text = explanation.to_string();
    let (_, plan) = text.split_once("its plan: ").unwrap();
    plan.to_owned()
}

async fn a_query_is_read_by_the_index_that_serves_it(database: Database) {
    let engine = start(&database).await;
    for field in ["project_id", "score", "at", "done_at", "day", "owner"] {
        let value = |number| task(number)[field].clone();
        let mut filters = vec![
            Filter::eq(field, value(3)),
            Filter::is_in(field, [value(3), value(700)]),
        ];
        // SQLite has UUIDs in several forms, each with its own order.
        if field != "owner" || database.is_postgres() {
            let (first, last) = if field == "day" { (0, 335) } else { (4, 995) };
            filters.push(Filter::lte(field, value(first)));
            if field == "project_id" {
                filters.push(Filter::gt(field, value(last)));
            }
            let after = if field == "day" { 12 } else { 6 };
            let range = Filter::gte(field, value(first)).and(Filter::lt(field, value(after)));
            filters.push(range);
        }
        let index = match field {
            "project_id" => "by_project".to_owned(),
            field => format!("by_{field}"),
        };
        for filter in filters {
            let topic = Topic::of("tasks").filter(filter);
            let plan = plan(&engine, topic.clone()).await;
            assert!(plan.contains(&index), "{topic}:\n{plan}");
        }
    }
}

async fn an_order_is_read_by_the_index_that_serves_it(database: Database) {
    let engine = start(&database).await;
    let orders: [(Order, &str); 8] = [
        (desc("at"), "by_at"),
        (asc("at"), "by_at"),
        (asc("project_id"), "by_project"),
        (desc("score"), "by_score"),
        (asc("done_at"), "by_done_at"),
        (desc("day"), "by_day"),
        (asc("owner"), "by_owner"),
        (desc("title"), "by_title"),
    ];
    for (order, index) in orders {
        let topic = Topic::of("tasks").order_by(order).window(50);
        let plan = plan(&engine, topic.clone()).await;
        assert!(plan.contains(index), "{topic}:\n{plan}");
    }
}
