//! The figures that guard the design: each a ratio of medians over interleaved pairs, against a peer or a floor in the same
//! run. `docs/performance.md` says what they mean.

mod client;
mod disk;
mod fanout;
mod figure;
mod idle;
mod pairs;
mod server;
mod serving;
mod stalled;
mod writes;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::figure::Figure;
use crate::serving::Served;

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

#[derive(Debug, Clone, Copy, Subcommand)]
enum What {
    /// All of the below.
    All,
    /// PATCH per second, against a hand-written handler.
    Writes,
    /// Server's processor time per delivery, against ready-made bytes on raw sockets; under actix, against axum.
    Fanout,
    /// Memory of an idle subscriber; under actix, against axum.
    Idle,
    /// What one stalled subscriber does to the others.
    Stalled,
    /// The process that is measured.
    #[command(hide = true)]
    Serve {
        /// What it serves.
        #[arg(value_enum)]
        what: Served,
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
    if let What::Serve { what } = what {
        return serving::serve(what, &folder).await;
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
    let measured = measure(what, &plan, &mut figures).await;
    figure::print(&figures);
    measured
}

async fn measure(what: What, plan: &Plan, figures: &mut Vec<Figure>) -> Result {
    let all = matches!(what, What::All);
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
    Ok(())
}
