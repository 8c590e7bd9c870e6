//! PATCH per second over HTTP, against a handler written by hand: on SQLite with `synchronous=FULL`, and on PostgreSQL.

use crate::cluster::Cluster;
use crate::figure::{Figure, Limit};
use crate::kind::ServerKind;
use crate::load;
use crate::pairs::Pairs;
use crate::plan::Plan;
use crate::server::Server;
use crate::wait::Result;

pub(crate) async fn measure(plan: &Plan, figures: &mut Vec<Figure>) -> Result {
    let mut pairs = Pairs::default();
    for pair in 1..=plan.pairs {
        eprintln!("writes: pair {pair} of {}", plan.pairs);
        pairs.push(
            on_sqlite(plan, ServerKind::HandWritten).await?,
            on_sqlite(plan, ServerKind::Sqlite).await?,
        );
    }
    figures.push(Figure {
        title: "PATCH per second, 64 in flight, SQLite, `synchronous=FULL`".into(),
        unit: "/s",
        pairs,
        limit: Limit::RatioAtLeast(3.0),
    });
    Ok(())
}

async fn on_sqlite(plan: &Plan, kind: ServerKind) -> Result<f64> {
    let folder = tempfile::tempdir_in(&plan.folder)?;
    per_second(plan, Server::start(kind, folder.path()).await?).await
}

pub(crate) async fn measure_postgres(
    plan: &Plan,
    cluster: &Cluster,
    figures: &mut Vec<Figure>,
) -> Result {
    let mut pairs = Pairs::default();
    for pair in 1..=plan.pairs {
        eprintln!("postgres: pair {pair} of {}", plan.pairs);
        pairs.push(
            on_postgres(plan, cluster, ServerKind::HandWrittenPostgres).await?,
            on_postgres(plan, cluster, ServerKind::Postgres).await?,
        );
    }
    figures.push(Figure {
        title: "PATCH per second, 64 in flight, PostgreSQL".into(),
        unit: "/s",
        pairs,
        limit: Limit::RatioAtLeast(3.0),
    });
    Ok(())
}

async fn on_postgres(plan: &Plan, cluster: &Cluster, kind: ServerKind) -> Result<f64> {
    let database = cluster.fresh_database().await;
    per_second(plan, Server::on_database(kind, &database).await?).await
}

async fn per_second(plan: &Plan, server: Server) -> Result<f64> {
    load::warm_up(plan, &server).await?;
    let per_second = load::per_second(plan, &server).await?;
    server.stop().await?;
    Ok(per_second)
}
