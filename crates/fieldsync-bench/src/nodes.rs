//! What it costs to be one of several nodes, which share a database of PostgreSQL and tell each other by Redis: against one
//! node alone, and with Redis down against Redis up.

use crate::client::{Frames, Requests};
use crate::cluster::Cluster;
use crate::delays::delays;
use crate::figure::{Figure, Limit};
use crate::pairs::{Pairs, percentile};
use crate::server::Server;
use crate::servers::Redis;
use crate::serving::Served;
use crate::{Plan, Result, load};

pub(crate) async fn measure(plan: &Plan, cluster: &Cluster, figures: &mut Vec<Figure>) -> Result {
    let (mut delays, mut writes) = (Pairs::default(), Pairs::default());
    for pair in 1..=plan.pairs {
        eprintln!("nodes: pair {pair} of {}", plan.pairs);
        let alone = alone(plan, cluster).await?;
        delays.push(alone, to_another(plan, cluster).await?);
        let up = writes_per_second(plan, cluster, State::Up).await?;
        writes.push(up, writes_per_second(plan, cluster, State::Down).await?);
    }
    figures.push(Figure {
        title: "p50 from PATCH at one node to a window at another (theirs: on one node)".into(),
        unit: "ms",
        pairs: delays,
        limit: Limit::AboveTheirsAtMost(1.0),
    });
    figures.push(Figure {
        title: "PATCH per second, 64 in flight, PostgreSQL, Redis down (theirs: up)".into(),
        unit: "/s",
        pairs: writes,
        limit: Limit::RatioAtLeast(0.9),
    });
    Ok(())
}

/// The p50 of the delays where there is one node, which tells nobody.
async fn alone(plan: &Plan, cluster: &Cluster) -> Result<f64> {
    let database = cluster.fresh_database().await;
    let node = Server::on_database(Served::Postgres, &database).await?;
    let p50 = p50(plan, &node, &node).await?;
    node.stop().await?;
    Ok(p50)
}

/// The p50 of the delays from one of two nodes to the other.
async fn to_another(plan: &Plan, cluster: &Cluster) -> Result<f64> {
    let (database, redis) = (cluster.fresh_database().await, Redis::start().await);
    let one = Server::node(&database, &redis.url()).await?;
    let other = Server::node(&database, &redis.url()).await?;
    let p50 = p50(plan, &one, &other).await?;
    one.stop().await?;
    other.stop().await?;
    Ok(p50)
}

async fn p50(plan: &Plan, one: &Server, other: &Server) -> Result<f64> {
    let mut requests = Requests::open(one.address).await?;
    let warm_up = vec![Frames::subscribed(other.address).await?];
    delays(&mut requests, warm_up, plan.size(200, 5), "").await?;
    let subscriber = vec![Frames::subscribed(other.address).await?];
    let mut delays = delays(&mut requests, subscriber, plan.size(1000, 20), "").await?;
    Ok(percentile(&mut delays, 50))
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    Up,
    Down,
}

/// Writes at a node whose Redis is there, or was.
async fn writes_per_second(plan: &Plan, cluster: &Cluster, state: State) -> Result<f64> {
    let (database, mut redis) = (cluster.fresh_database().await, Redis::start().await);
    let node = Server::node(&database, &redis.url()).await?;
    load::warm_up(plan, &node).await?;
    if state == State::Down {
        redis.kill();
    }
    let per_second = load::per_second(plan, &node).await?;
    node.stop().await?;
    Ok(per_second)
}
