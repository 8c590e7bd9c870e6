//! What subscriptions with queries cost: a change among many that ask for other values, and the memory of a topic.

use std::time::{Duration, Instant};

use fieldsync::{Collection, Edit, Engine, Filter, MemoryStore, Subscription, Topic, Update};
use futures_util::StreamExt as _;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::client::Subscriber;
use crate::figure::{Figure, Limit};
use crate::kind::ServerKind;
use crate::pairs::Pairs;
use crate::plan::Plan;
use crate::server::Server;
use crate::wait::Result;

/// The projects whose tasks change. Each has a subscription of its own.
const CHANGED: usize = 50;

/// The topics of a socket, for the memory of one.
const TOPICS: usize = 1000;

#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct Task {
    project_id: i64,
    title: String,
}

pub(crate) async fn measure(plan: &Plan, figures: &mut Vec<Figure>) -> Result {
    let (mut time, mut memory) = (Pairs::default(), Pairs::default());
    let others = plan.size(10_000, 200);
    for pair in 1..=plan.pairs {
        eprintln!("queries: pair {pair} of {}", plan.pairs);
        let alone = time_of_a_change(plan, 0).await?;
        time.push(alone, time_of_a_change(plan, others).await?);
        memory.push(0.0, memory_of_a_topic(plan).await?);
    }
    figures.push(Figure {
        title: format!(
            "a change to its subscriber, with {others} other subscriptions to `project_id=eq.N` and without"
        ),
        unit: "µs",
        pairs: time,
        limit: Limit::RatioAtMost(1.5),
    });
    figures.push(Figure {
        title: format!("memory of a topic with a query, {TOPICS} on a socket"),
        unit: "KiB",
        pairs: memory,
        limit: Limit::OursAtMost(4.0),
    });
    Ok(())
}

/// Microseconds from an edit to its one subscriber, beside other subscriptions of which it concerns none.
async fn time_of_a_change(plan: &Plan, others: usize) -> Result<f64> {
    let engine = Engine::builder()
        .collection(Collection::of::<Task>("tasks").open_to_everyone())
        .store(MemoryStore::new())
        .start()
        .await?;
    let create = |number: usize| Edit::create("tasks", json!({"project_id": number}));
    let created = engine
        .transaction((0..CHANGED).map(create).collect())
        .await?;
    let (received, mut receiver) = mpsc::unbounded_channel();
    let mut subscribers = JoinSet::new();
    for project in 0..CHANGED + others {
        let topic = Topic::of("tasks").filter(Filter::eq("project_id", project));
        let mut updates = engine.subscribe(topic, None).await?;
        live(&mut updates).await?;
        let received = received.clone();
        subscribers.spawn(async move {
            while let Some(update) = updates.next().await {
                if let Update::Change { .. } | Update::Changes { .. } = update {
                    let _ = received.send(());
                }
            }
        });
    }
    let changes = plan.size(20_000, 200);
    let begun = Instant::now();
    for number in 0..changes {
        let edit = Edit::patch(
            ("tasks", created[number % CHANGED].id()),
            json!({"title": number.to_string()}),
        );
        engine.transaction(vec![edit]).await?;
        let delivered = timeout(Duration::from_secs(10), receiver.recv());
        delivered.await?.ok_or("the subscribers have ended")?;
    }
    Ok(begun.elapsed().as_secs_f64() * 1e6 / changes as f64)
}

/// Resolves when a subscription has caught up.
pub(crate) async fn live(updates: &mut Subscription) -> Result {
    let caught_up = async {
        while let Some(update) = updates.next().await {
            if let Update::Live { .. } = update {
                return Ok(());
            }
        }
        Err("a subscription has ended".into())
    };
    timeout(Duration::from_secs(10), caught_up).await?
}

/// Kibibytes of the server per topic.
async fn memory_of_a_topic(plan: &Plan) -> Result<f64> {
    let sockets = plan.size(10, 1);
    let server = Server::start(ServerKind::Memory, &plan.folder).await?;
    let mut subscribers = Vec::new();
    for _ in 0..sockets {
        subscribers.push(Subscriber::live(server.address, "users/1").await?);
    }
    let before = server.memory()?;
    for (socket, subscriber) in subscribers.iter_mut().enumerate() {
        let name = |number| format!("users?first_name=eq.{}", socket * TOPICS + number);
        subscriber.add((1..TOPICS).map(name).collect()).await?;
    }
    let after = server.memory()?;
    drop(subscribers);
    server.stop().await?;
    Ok((after - before) / 1024.0 / (sockets * (TOPICS - 1)) as f64)
}
