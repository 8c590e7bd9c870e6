//! What live windows cost: 1,000 of 50 records each, over 100,000 records that change 200 times a second.

use std::time::{Duration, Instant};

use fieldsync::{Collection, Edit, Engine, Filter, Subscription, Topic, asc};
use fieldsync_sqlite::SqliteStore;
use futures_util::StreamExt as _;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::figure::{Figure, Limit};
use crate::pairs::Pairs;
use crate::plan::Plan;
use crate::server::processor_time;
use crate::wait::Result;

/// The records of each window, and of each project.
const WINDOW: usize = 50;
const RECORDS_OF_A_PROJECT: usize = 100;

/// The changes per second.
const RATE: u32 = 200;

#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
struct Task {
    project_id: i64,
    position: i64,
    title: String,
}

/// What a run has cost, per second.
struct Cost {
    /// Milliseconds of processor time.
    processor: f64,
    /// Reads of the store for subscriptions.
    reads: f64,
}

pub(crate) async fn measure(plan: &Plan, figures: &mut Vec<Figure>) -> Result {
    let (mut processor, mut reads) = (Pairs::default(), Pairs::default());
    let windows = plan.size(1000, 20);
    for pair in 1..=plan.pairs {
        eprintln!("windows: pair {pair} of {}", plan.pairs);
        let without = cost(plan, windows, false).await?;
        let with = cost(plan, windows, true).await?;
        processor.push(without.processor, with.processor);
        reads.push(without.reads, with.reads);
    }
    let load = format!(
        "{windows} windows of {WINDOW} over {} records, {RATE} changes a second",
        windows * RECORDS_OF_A_PROJECT
    );
    figures.push(Figure {
        title: format!("processor time per second, {load}, and without windows"),
        unit: "ms",
        pairs: processor,
        limit: Limit::AboveTheirsAtMost(100.0),
    });
    figures.push(Figure {
        title: format!("reads of the store per second, {load}"),
        unit: "reads",
        pairs: reads,
        // A read is needed only where a record leaves a window.
        limit: Limit::OursAtMost(f64::from(RATE)),
    });
    Ok(())
}

async fn cost(plan: &Plan, windows: usize, has_windows: bool) -> Result<Cost> {
    let folder = tempfile::tempdir_in(&plan.folder)?;
    let path = folder.path().join("app.db");
    let engine = Engine::builder()
        .collection(Collection::of::<Task>("tasks").open_to_everyone())
        .store(SqliteStore::open(&path).await?)
        .start()
        .await?;
    let index = "create index by_position on tasks (project_id, position)";
    rusqlite::Connection::open(&path)?.execute_batch(index)?;
    for project in 0..windows {
        let create = |number: usize| {
            let task = json!({"project_id": project, "position": number * 10, "title": "a title"});
            Edit::create("tasks", task)
        };
        let tasks = (0..RECORDS_OF_A_PROJECT).map(create);
        engine.transaction(tasks.collect()).await?;
    }
    let mut readers = JoinSet::new();
    for project in (0..windows).filter(|_| has_windows) {
        let topic = Topic::of("tasks")
            .filter(Filter::eq("project_id", project))
            .order_by(asc("position"))
            .window(WINDOW);
        readers.spawn(read(engine.subscribe(topic, None).await?));
    }
    // The snapshots are not measured.
    sleep(Duration::from_secs(plan.size(3, 1) as u64)).await;
    let own = std::process::id();
    let (processor, reads) = (processor_time(own)?, engine.stats().subscriber_reads);
    let begun = Instant::now();
    change(&engine, windows, plan.size(10, 1)).await?;
    let seconds = begun.elapsed().as_secs_f64();
    Ok(Cost {
        processor: (processor_time(own)? - processor) * 1000.0 / seconds,
        reads: (engine.stats().subscriber_reads - reads) as f64 / seconds,
    })
}

async fn read(mut updates: Subscription) {
    while updates.next().await.is_some() {}
}

/// Half of the changes are of a title, the others move a task; a few delete one and create another.
async fn change(engine: &Engine, projects: usize, seconds: usize) -> Result {
    let mut ticks = interval(Duration::from_secs(1) / RATE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let records = projects * RECORDS_OF_A_PROJECT;
    for number in 0..seconds * RATE as usize {
        ticks.tick().await;
        // A step that visits all records.
        let id = 1 + (number * 7919) % records;
        let key = ("tasks", id as i64);
        let position = (number * 31) % (RECORDS_OF_A_PROJECT * 10);
        let edit = match number % 20 {
            0 => Edit::delete(key),
            1 => Edit::create(
                "tasks",
                json!({"project_id": number % projects, "position": position, "title": "new"}),
            ),
            2..10 => Edit::patch(key, json!({"position": position})),
            _ => Edit::patch(key, json!({"title": format!("title {number}")})),
        };
        // The record of some was deleted before.
        let _ = engine.transaction(vec![edit]).await;
    }
    Ok(())
}
