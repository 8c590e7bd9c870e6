//! What it costs when everybody comes back at once, after a deploy or a broken network: 1,000 sockets with 20 topics each.

use std::time::{Duration, Instant};

use fieldsync::{Collection, Cursor, Edit, Engine, Filter, Topic, Update};
use fieldsync_sqlite::SqliteStore;
use futures_util::StreamExt as _;
use futures_util::future::try_join_all;
use serde_json::json;
use tokio::time::timeout;

use crate::figure::{Figure, Limit};
use crate::pairs::Pairs;
use crate::plan::Plan;
use crate::queries::Task;
use crate::wait::Result;

const TOPICS: usize = 20;

/// How many changes a subscriber reads at a time, at most.
const PAGE: usize = 512;

pub(crate) async fn measure(plan: &Plan, figures: &mut Vec<Figure>) -> Result {
    let (mut reads, mut time) = (Pairs::default(), Pairs::default());
    let (sockets, missed) = (plan.size(1000, 10), plan.size(5000, 600));
    for pair in 1..=plan.pairs {
        eprintln!("reconnects: pair {pair} of {}", plan.pairs);
        let (one, _) = come_back(plan, 1, missed).await?;
        let (all, seconds) = come_back(plan, sockets, missed).await?;
        reads.push(one, all);
        time.push(0.0, seconds);
    }
    figures.push(Figure {
        title: format!(
            "reads of the log, {} pages at least, when {sockets} sockets with {TOPICS} topics each come back together, and one alone",
            missed.div_ceil(PAGE)
        ),
        unit: "reads",
        pairs: reads,
        limit: Limit::RatioAtMost(1.5),
    });
    figures.push(Figure {
        title: format!("until all {} topics are live again", sockets * TOPICS),
        unit: "s",
        pairs: time,
        limit: Limit::OursAtMost(30.0),
    });
    Ok(())
}

/// The reads of the store, and the seconds until all topics have caught up with the changes that they have missed.
async fn come_back(plan: &Plan, sockets: usize, missed: usize) -> Result<(f64, f64)> {
    let folder = tempfile::tempdir_in(&plan.folder)?;
    let path = folder.path().join("app.db");
    let start = async || {
        let store = SqliteStore::open(&path).await?;
        let tasks = Collection::of::<Task>("tasks").open_to_everyone();
        let engine = Engine::builder().collection(tasks).store(store).start();
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(engine.await?)
    };
    let engine = start().await?;
    let projects = sockets * TOPICS;
    let create = |number: usize| Edit::create("tasks", json!({"project_id": number % projects}));
    engine.transaction(vec![create(0)]).await?;
    let list = engine.on_behalf_of(fieldsync::Principal::anonymous());
    let since = list.list("tasks", None, 1).await?.cursor;
    for first in (0..missed).step_by(500) {
        let edits = (first..missed.min(first + 500)).map(create);
        engine.transaction(edits.collect()).await?;
    }
    drop(list);
    drop(engine);
    // The ring of a node that has just started is empty.
    let engine = start().await?;
    let before = engine.stats().subscriber_reads;
    let begun = Instant::now();
    let topics = (0..projects).map(|project| catch_up(&engine, project, since));
    timeout(Duration::from_secs(120), try_join_all(topics)).await??;
    let seconds = begun.elapsed().as_secs_f64();
    Ok(((engine.stats().subscriber_reads - before) as f64, seconds))
}

async fn catch_up(engine: &Engine, project: usize, since: Cursor) -> Result {
    let topic = Topic::of("tasks").filter(Filter::eq("project_id", project));
    let mut updates = engine.subscribe(topic, Some(since)).await?;
    while let Some(update) = updates.next().await {
        match update {
            Update::Live { .. } => return Ok(()),
            Update::Reset(reason) => {
                return Err(format!("a subscription was reset: {reason}").into());
            }
            _ => {}
        }
    }
    Err("a subscription has ended".into())
}
