//! The figures that guard the design: each a ratio of medians over interleaved pairs, against a peer or a floor in the same
//! run. `docs/performance.md` says what they mean.

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
mod load;
mod nodes;
mod pairs;
mod server;
#[path = "../../../tests/it/servers.rs"]
#[expect(dead_code, clippy::unwrap_used, reason = "shared with tests")]
mod servers;
mod serving;
mod stalled;
mod writes;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::cluster::Cluster;
use crate::figure::Figure;
use crate::servers::Redis;
use crate::serving::{Place, Served};

/// Measures fieldsync against peers and limits.
#[derive(Debug, Parser)]
#[command(name = "fieldsync-bench")]
struct Options {
    #[command(subcommand)]
    what: What,

    /// How many pairs of measurements each figure is taken from.
    #[arg(long, global = true, default_value_t = 7)]
    pairs: usize,

    /// Where databases are made: on the disk that is to be measured.
    #[arg(long, global = true, default_value = "target")]
    folder: PathBuf,

    /// Only sees whether everything works: tiny, and any build will do.
    #[arg(long, global = true)]
    smoke: bool,
}

#[derive(Debug, Subcommand)]
enum What {
    /// All of the below.
    All,
    /// PATCH per second on SQLite, against a hand-written handler.
    Writes,
    /// PATCH per second on PostgreSQL, against a hand-written handler. Starts a PostgreSQL of its own.
    Postgres,
    /// Server's processor time per delivery, against ready-made bytes on raw sockets; under actix, against axum.
    Fanout,
    /// Memory of an idle subscriber; under actix, against axum.
    Idle,
    /// What one stalled subscriber does to the others.
    Stalled,
    /// From one node to another, and with Redis down. Starts a PostgreSQL and a Redis of its own.
    Nodes,
    /// The process that is measured.
    #[command(hide = true)]
    Serve {
        /// What it serves.
        #[arg(value_enum)]
        what: Served,
        #[command(flatten)]
        place: Place,
    },
}

/// How much is done for each figure.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) pairs: usize,
    pub(crate) folder: PathBuf,
    pub(crate) smoke: bool,
}

impl Plan {
    /// One number for a measurement, another to see whether it works.
    pub(crate) fn size(&self, measured: usize, smoke: usize) -> usize {
        if self.smoke { smoke } else { measured }
    }
}

type Result<T = ()> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

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
        what,
        pairs,
        folder,
        smoke,
    } = options;
    if let What::Serve { what, place } = what {
        return serving::serve(what, &folder, &place).await;
    }
    disk::describe(&folder, smoke)?;
    if cfg!(debug_assertions) && !smoke {
        return Err("a debug build says nothing of speed: run it with --release, or with --smoke to see that it works".into());
    }
    let plan = Plan {
        pairs: if smoke { 1 } else { pairs.max(1) },
        folder,
        smoke,
    };
    let mut figures = Vec::new();
    let measured = measure(&what, &plan, &mut figures).await;
    figure::print(&figures);
    measured
}

async fn measure(what: &What, plan: &Plan, figures: &mut Vec<Figure>) -> Result {
    let all = matches!(what, What::All);
    // First of all, so that what is missing is missed at once.
    if all || matches!(what, What::Nodes) {
        drop(Redis::start().await);
    }
    let cluster = if all || matches!(what, What::Postgres | What::Nodes) {
        let any_disk = std::env::temp_dir();
        let folder = if plan.smoke { &any_disk } else { &plan.folder };
        Some(Cluster::durable_in(&folder.canonicalize()?))
    } else {
        None
    };
    if all || matches!(what, What::Writes) {
        writes::measure(plan, figures).await?;
    }
    if all || matches!(what, What::Fanout) {
        fanout::measure(plan, figures).await?;
    }
    if all || matches!(what, What::Idle) {
        idle::measure(plan, figures).await?;
    }
    if all || matches!(what, What::Stalled) {
        stalled::measure(plan, figures).await?;
    }
    let Some(cluster) = cluster else {
        return Ok(());
    };
    if all || matches!(what, What::Postgres) {
        writes::measure_postgres(plan, &cluster, figures).await?;
    }
    if all || matches!(what, What::Nodes) {
        nodes::measure(plan, &cluster, figures).await?;
    }
    Ok(())
}
