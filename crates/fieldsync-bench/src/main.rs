//! Measures the figures of `docs/performance.md`: each compares the medians of interleaved pairs of measurements, against a
//! peer or a floor in the same run.

mod bulk;
mod capture;
mod capture_postgres;
mod client;
#[path = "../../fieldsync-postgres/tests/it/cluster.rs"]
#[expect(clippy::unwrap_used, reason = "shared with tests")]
mod cluster;
mod delays;
mod disk;
mod fanout;
mod figure;
mod hand_written;
mod idle;
mod introspection;
mod kind;
mod load;
mod nodes;
mod pairs;
mod plan;
mod queries;
mod reasking;
mod reconnects;
mod refused;
mod server;
#[path = "../../../tests/it/servers.rs"]
#[expect(dead_code, clippy::unwrap_used, reason = "shared with tests")]
mod servers;
mod serving;
mod snapshots;
mod stalled;
mod subscribers;
mod wait;
mod windows;
mod writes;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::cluster::Cluster;
use crate::figure::Figure;
use crate::kind::ServerKind;
use crate::plan::Plan;
use crate::serving::Services;
use crate::wait::Result;

/// Measures fieldsync against peers and limits.
#[derive(Debug, Parser)]
#[command(name = "fieldsync-bench")]
struct Options {
    #[command(subcommand)]
    command: Measurement,

    /// The pairs of measurements for each figure.
    #[arg(long, global = true, default_value_t = 7)]
    pairs: usize,

    /// The folder of the databases: it must be on the disk to be measured.
    #[arg(long, global = true, default_value = "target")]
    folder: PathBuf,

    /// Only check that the bench works: few requests, and a debug build and any file system will do.
    #[arg(long, global = true)]
    smoke: bool,
}

#[derive(Debug, Subcommand)]
enum Measurement {
    /// All of the following.
    All,
    /// PATCH per second on SQLite, against a handler written by hand.
    Writes,
    /// What capture costs: edits, and UPDATEs by another program. Starts a PostgreSQL.
    Capture,
    /// PATCH per second on PostgreSQL, against a handler written by hand. Starts a PostgreSQL.
    Postgres,
    /// The server's processor time per delivery, against bytes encoded in advance; under actix-web, against axum.
    Fanout,
    /// The server's memory per idle subscriber; under actix-web, against axum.
    Idle,
    /// The effect of a stalled subscriber on the others.
    Stalled,
    /// The effect of a writer whose every edit the database refuses on the others. Starts a PostgreSQL.
    Refused,
    /// The effect of large snapshots on the requests of others.
    Snapshots,
    /// The effect of a statement that writes many rows of another collection. Starts a PostgreSQL.
    Bulk,
    /// A table by introspection, against the same table as a Rust type; starts with many tables. Starts a PostgreSQL.
    Introspection,
    /// The cost of a change among subscriptions with other queries, and the memory of a topic.
    Queries,
    /// Live windows over a table that changes.
    Windows,
    /// Everybody comes back at once.
    Reconnects,
    /// A rule is asked again for many subscriptions.
    Reasking,
    /// Delays from one node to another, and writes with Redis down. Starts a PostgreSQL and a Redis.
    Nodes,
    /// The measured process.
    #[command(hide = true)]
    Serve {
        /// What to serve.
        #[arg(value_enum)]
        kind: ServerKind,
        #[command(flatten)]
        services: Services,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Options::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: Options) -> Result {
    let Options {
        command,
        pairs,
        folder,
        smoke,
    } = options;
    if let Measurement::Serve { kind, services } = command {
        return serving::serve(kind, &folder, &services).await;
    }
    disk::describe(&folder, smoke)?;
    if cfg!(debug_assertions) && !smoke {
        return Err("this is a debug build: build with --release to measure, or pass --smoke to check that the bench works".into());
    }
    let plan = Plan {
        pairs: if smoke { 1 } else { pairs.max(1) },
        folder,
        smoke,
    };
    let mut figures = Vec::new();
    let measured = measure(&command, &plan, &mut figures).await;
    figure::print(&figures);
    measured
}

async fn measure(command: &Measurement, plan: &Plan, figures: &mut Vec<Figure>) -> Result {
    let all = matches!(command, Measurement::All);
    // A missing service is reported before anything is measured.
    if all || matches!(command, Measurement::Nodes) {
        drop(nodes::start_redis().await?);
    }
    let needs_postgres = matches!(
        command,
        Measurement::Capture
            | Measurement::Postgres
            | Measurement::Refused
            | Measurement::Bulk
            | Measurement::Introspection
            | Measurement::Nodes
    );
    let cluster = if all || needs_postgres {
        Some(match plan.smoke {
            true => Cluster::fast(),
            false => Cluster::durable_in(&plan.folder.canonicalize()?),
        })
    } else {
        None
    };
    if all || matches!(command, Measurement::Writes) {
        writes::measure(plan, figures).await?;
    }
    if all || matches!(command, Measurement::Capture) {
        capture::measure(plan, figures).await?;
    }
    if all || matches!(command, Measurement::Fanout) {
        fanout::measure(plan, figures).await?;
    }
    if all || matches!(command, Measurement::Idle) {
        idle::measure(plan, figures).await?;
    }
    if all || matches!(command, Measurement::Stalled) {
        stalled::measure(plan, figures).await?;
    }
    if all || matches!(command, Measurement::Refused) {
        refused::measure(plan, figures).await?;
    }
    if all || matches!(command, Measurement::Snapshots) {
        snapshots::measure(plan, figures).await?;
    }
    if all || matches!(command, Measurement::Bulk) {
        bulk::measure(plan, figures).await?;
    }
    measure_streams(command, plan, figures).await?;
    let Some(cluster) = cluster else {
        return Ok(());
    };
    if all || matches!(command, Measurement::Postgres) {
        writes::measure_postgres(plan, &cluster, figures).await?;
    }
    if all || matches!(command, Measurement::Capture) {
        capture_postgres::measure(plan, &cluster, figures).await?;
    }
    if all || matches!(command, Measurement::Refused) {
        refused::measure_postgres(plan, &cluster, figures).await?;
    }
    if all || matches!(command, Measurement::Bulk) {
        bulk::measure_postgres(plan, &cluster, figures).await?;
    }
    if all || matches!(command, Measurement::Introspection) {
        introspection::measure(plan, &cluster, figures).await?;
    }
    if all || matches!(command, Measurement::Nodes) {
        nodes::measure(plan, &cluster, figures).await?;
    }
    Ok(())
}

/// What many subscriptions cost.
async fn measure_streams(command: &Measurement, plan: &Plan, figures: &mut Vec<Figure>) -> Result {
    let all = matches!(command, Measurement::All);
    if all || matches!(command, Measurement::Queries) {
        queries::measure(plan, figures).await?;
    }
    if all || matches!(command, Measurement::Windows) {
        windows::measure(plan, figures).await?;
    }
    if all || matches!(command, Measurement::Reconnects) {
        reconnects::measure(plan, figures).await?;
    }
    if all || matches!(command, Measurement::Reasking) {
        reasking::measure(plan, figures).await?;
    }
    Ok(())
}
