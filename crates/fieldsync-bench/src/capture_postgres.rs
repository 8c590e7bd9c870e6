//! What capture costs on PostgreSQL: the engine's own edits, UPDATEs by another program, and how soon a window shows them.

use std::time::{Duration, Instant};

use futures_util::future::try_join_all;

use crate::client::HttpClient;
use crate::cluster::{self, Cluster};
use crate::delays::delays;
use crate::figure::{Figure, Limit};
use crate::kind::ServerKind;
use crate::load;
use crate::pairs::{Pairs, percentile};
use crate::plan::{Plan, USERS};
use crate::server::Server;
use crate::subscribers::Subscribers;
use crate::wait::Result;

/// The other program's connections under load.
const CLIENTS: usize = 32;

const UPDATE: &str = "update users set first_name = $1 where id = $2";

pub(crate) async fn measure(plan: &Plan, cluster: &Cluster, figures: &mut Vec<Figure>) -> Result {
    let (mut edits, mut alone, mut together) =
        (Pairs::default(), Pairs::default(), Pairs::default());
    let mut shown = Pairs::default();
    for pair in 1..=plan.pairs {
        eprintln!("capture on postgres: pair {pair} of {}", plan.pairs);
        let (without, with) = (ServerKind::PostgresWithoutCapture, ServerKind::Postgres);
        edits.push(
            edits_per_second(plan, cluster, without).await?,
            edits_per_second(plan, cluster, with).await?,
        );
        for (clients, pairs) in [(1, &mut alone), (CLIENTS, &mut together)] {
            pairs.push(
                update(plan, cluster, without, clients).await?,
                update(plan, cluster, with, clients).await?,
            );
        }
        let (patch, outside) = until_shown(plan, cluster).await?;
        shown.push(patch, outside);
    }
    figures.push(Figure {
        title: "PATCH per second on PostgreSQL with capture (theirs: without)".into(),
        unit: "/s",
        pairs: edits,
        limit: Limit::RatioAtLeast(0.9),
    });
    for (clients, pairs, most) in [("one client", alone, 2.0), ("32 clients", together, 2.5)] {
        figures.push(Figure {
            title: format!(
                "UPDATE of one row by another program on PostgreSQL, {clients}, with capture (theirs: without)"
            ),
            unit: "µs",
            pairs,
            limit: Limit::RatioAtMost(most),
        });
    }
    figures.push(Figure {
        title: "p50 from another program's COMMIT to a window, PostgreSQL (theirs: from a PATCH)"
            .into(),
        unit: "ms",
        pairs: shown,
        limit: Limit::OursAtMost(15.0),
    });
    Ok(())
}

async fn edits_per_second(plan: &Plan, cluster: &Cluster, kind: ServerKind) -> Result<f64> {
    let database = cluster.fresh_database().await;
    let server = Server::on_database(kind, &database).await?;
    load::warm_up(plan, &server).await?;
    let per_second = load::per_second(plan, &server).await?;
    server.stop().await?;
    Ok(per_second)
}

/// The microseconds that one UPDATE takes on average, while an engine runs.
async fn update(plan: &Plan, cluster: &Cluster, kind: ServerKind, clients: usize) -> Result<f64> {
    let database = cluster.fresh_database().await;
    let server = Server::on_database(kind, &database).await?;
    let time = Duration::from_millis(plan.size(2000, 100) as u64);
    let mut programs = Vec::with_capacity(clients);
    for _ in 0..clients {
        programs.push(cluster::connect(&database).await);
    }
    let begun = Instant::now();
    let writing = programs
        .into_iter()
        .enumerate()
        .map(|(first, client)| async move {
            let update = client.prepare(UPDATE).await?;
            let mut count = 0;
            while begun.elapsed() < time {
                let id = i64::try_from((first + count * clients) % USERS)? + 1;
                client.execute(&update, &[&count.to_string(), &id]).await?;
                count += 1;
            }
            Result::Ok(count)
        });
    let count: usize = try_join_all(writing).await?.into_iter().sum();
    let micros = begun.elapsed().as_secs_f64() * 1e6 / count as f64;
    server.stop().await?;
    Ok(micros)
}

/// The median delays in milliseconds from a PATCH to a window, and from the COMMIT of another program.
async fn until_shown(plan: &Plan, cluster: &Cluster) -> Result<(f64, f64)> {
    let database = cluster.fresh_database().await;
    let server = Server::on_database(ServerKind::Postgres, &database).await?;
    let mut client = HttpClient::open(server.address).await?;
    let mut subscribers = Subscribers::open(ServerKind::Postgres, server.address, 1).await?;
    let count = plan.size(300, 5);
    delays(&mut client, &mut subscribers, count, "").await?;
    let mut patches = delays(&mut client, &mut subscribers, count, "").await?;
    let program = cluster::connect(&database).await;
    let mut outside = Vec::with_capacity(count);
    for number in 0..count {
        let value = format!("outside {number}");
        program.execute(UPDATE, &[&value, &1_i64]).await?;
        let begun = Instant::now();
        let delivered = |at: Instant| {
            outside.push(at.saturating_duration_since(begun).as_secs_f64() * 1e3);
        };
        subscribers.receive(1, delivered).await?;
    }
    server.stop().await?;
    Ok((percentile(&mut patches, 50), percentile(&mut outside, 50)))
}
