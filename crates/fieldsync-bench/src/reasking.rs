//! What it costs others when one change asks a rule again for 5,000 subscriptions.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use fieldsync::{
    Access, Authorizer, Collection, Denied, Edit, Engine, Grant, Principal, async_trait, reads,
};
use fieldsync_sqlite::SqliteStore;
use futures_util::StreamExt as _;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::figure::{Figure, Limit};
use crate::pairs::{Pairs, percentile};
use crate::plan::Plan;
use crate::queries::live;
use crate::wait::Result;

#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
struct Member {
    user_id: String,
    project_id: i64,
}

/// A rule that takes as long as a lookup in a database, and counts how often it is asked.
#[derive(Debug, Default)]
struct Rule(Arc<AtomicUsize>);

#[async_trait]
impl Authorizer for Rule {
    async fn authorize(
        &self,
        _: &Principal,
        _: Access,
        _: &str,
    ) -> std::result::Result<Grant, Denied> {
        self.0.fetch_add(1, Ordering::Relaxed);
        sleep(Duration::from_millis(1)).await;
        Ok(Grant::full())
    }
}

pub(crate) async fn measure(plan: &Plan, figures: &mut Vec<Figure>) -> Result {
    let (mut others, mut named) = (Pairs::default(), Pairs::default());
    let subscriptions = plan.size(5000, 50);
    for pair in 1..=plan.pairs {
        eprintln!("reasking: pair {pair} of {}", plan.pairs);
        let (quiet, busy, asked) = delays(plan, subscriptions, false).await?;
        if asked < subscriptions {
            return Err(format!("only {asked} of {subscriptions} were asked again").into());
        }
        others.push(quiet, busy);
        let (_, _, asked) = delays(plan, subscriptions, true).await?;
        named.push(0.0, asked as f64);
    }
    figures.push(Figure {
        title: format!(
            "p99 of PATCH of another collection, while {subscriptions} subscriptions are asked about again, and before"
        ),
        unit: "ms",
        pairs: others,
        limit: Limit::RatioAtMost(3.0),
    });
    figures.push(Figure {
        title: format!(
            "questions after a change that names one of {subscriptions} principals with a subscription each"
        ),
        unit: "questions",
        pairs: named,
        limit: Limit::OursAtMost(1.0),
    });
    Ok(())
}

/// The p99 of others before a change of a membership and after it, in milliseconds, and how often the rule was asked after it.
async fn delays(plan: &Plan, subscriptions: usize, is_named: bool) -> Result<(f64, f64, usize)> {
    let folder = tempfile::tempdir_in(&plan.folder)?;
    let reads = match is_named {
        true => reads("members").principal_by("user_id"),
        false => reads("members"),
    };
    let asked = Arc::new(AtomicUsize::new(0));
    let tasks = Collection::of::<Member>("tasks").authorize(Rule(Arc::clone(&asked)));
    let engine = Engine::builder()
        .collection(Collection::of::<Member>("members").open_to_everyone())
        .collection(Collection::of::<Member>("orders").open_to_everyone())
        .collection(tasks.reads(reads))
        .store(SqliteStore::open(folder.path().join("app.db")).await?)
        .start()
        .await?;
    let order = Edit::create("orders", json!({}));
    let member = Edit::create("members", json!({"user_id": "user 1"}));
    engine.transaction(vec![order, member]).await?;
    let mut readers = JoinSet::new();
    for number in 0..subscriptions {
        let principal = Principal::named(format!("user {number}"));
        let opened = engine
            .on_behalf_of(principal)
            .subscribe("tasks", None)
            .await;
        let mut updates = opened?;
        live(&mut updates).await?;
        readers.spawn(async move { while updates.next().await.is_some() {} });
    }
    let quiet = p99(&engine, plan).await?;
    asked.store(0, Ordering::Relaxed);
    let change = Edit::patch(("members", 1), json!({"project_id": 7}));
    let (_, busy) = tokio::join!(engine.transaction(vec![change]), p99(&engine, plan));
    Ok((quiet, busy?, asked.load(Ordering::Relaxed)))
}

/// Edits of another collection, 200 a second.
async fn p99(engine: &Engine, plan: &Plan) -> Result<f64> {
    let mut ticks = interval(Duration::from_millis(5));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut delays = Vec::new();
    for number in 0..plan.size(600, 100) {
        ticks.tick().await;
        let begun = Instant::now();
        let edit = Edit::patch(("orders", 1), json!({"project_id": number}));
        engine.transaction(vec![edit]).await?;
        delays.push(begun.elapsed().as_secs_f64() * 1000.0);
    }
    Ok(percentile(&mut delays, 99))
}
