//! The cost of several nodes on one PostgreSQL that notify each other through Redis: against one node, and with Redis down
//! against Redis up.

use crate::client::HttpClient;
use crate::cluster::Cluster;
use crate::delays::delays;
use crate::figure::{Figure, Limit};
use crate::kind::ServerKind;
use crate::load;
use crate::pairs::{Pairs, percentile};
use crate::plan::Plan;
use crate::server::Server;
use crate::servers::Redis;
use crate::subscribers::Subscribers;
use crate::wait::{Result, within_limit};

pub(crate) async fn measure(plan: &Plan, cluster: &Cluster, figures: &mut Vec<Figure>) -> Result {
    let (mut delays, mut writes) = (Pairs::default(), Pairs::default());
    for pair in 1..=plan.pairs {
        eprintln!("nodes: pair {pair} of {}", plan.pairs);
        let alone = on_one_node(plan, cluster).await?;
        delays.push(alone, between_two_nodes(plan, cluster).await?);
        let up = writes_per_second(plan, cluster, RedisState::Up).await?;
        let down = writes_per_second(plan, cluster, RedisState::Down).await?;
        writes.push(up, down);
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

pub(crate) async fn start_redis() -> Result<Redis> {
    within_limit("a connection to Redis", Redis::start()).await
}

/// The median delay on a node without a broker.
async fn on_one_node(plan: &Plan, cluster: &Cluster) -> Result<f64> {
    let database = cluster.fresh_database().await;
    let node = Server::on_database(ServerKind::Postgres, &database).await?;
    let p50 = p50(plan, &node, &node).await?;
    node.stop().await?;
    Ok(p50)
}

/// The median delay from one of two nodes to the other.
async fn between_two_nodes(plan: &Plan, cluster: &Cluster) -> Result<f64> {
    let (database, redis) = (cluster.fresh_database().await, start_redis().await?);
    let one = Server::node(&database, &redis.url()).await?;
    let other = Server::node(&database, &redis.url()).await?;
    let p50 = p50(plan, &one, &other).await?;
    one.stop().await?;
    other.stop().await?;
    Ok(p50)
}

async fn p50(plan: &Plan, written: &Server, subscribed: &Server) -> Result<f64> {
    let mut client = HttpClient::open(written.address).await?;
    let opening = Subscribers::open(ServerKind::Postgres, subscribed.address, 1);
    let mut subscribers = opening.await?;
    // Once to warm up.
    delays(&mut client, &mut subscribers, plan.size(200, 5), "").await?;
    let mut delays = delays(&mut client, &mut subscribers, plan.size(1000, 20), "").await?;
    Ok(percentile(&mut delays, 50))
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum RedisState {
    Up,
    Down,
}

/// Writes per second at a node whose Redis runs, or was killed after the warm-up.
async fn writes_per_second(plan: &Plan, cluster: &Cluster, state: RedisState) -> Result<f64> {
    let (database, mut redis) = (cluster.fresh_database().await, start_redis().await?);
    let node = Server::node(&database, &redis.url()).await?;
    load::warm_up(plan, &node).await?;
    if state == RedisState::Down {
        redis.kill();
    }
    let per_second = load::per_second(plan, &node).await?;
    node.stop().await?;
    Ok(per_second)
}
