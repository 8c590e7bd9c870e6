//! What capture costs on SQLite: the engine's own edits, and an UPDATE by another program.

use std::path::Path;
use std::time::{Duration, Instant};

use fieldsync_sqlite::rusqlite::Connection;

use crate::figure::{Figure, Limit};
use crate::kind::ServerKind;
use crate::load;
use crate::pairs::Pairs;
use crate::plan::{Plan, USERS};
use crate::server::Server;
use crate::wait::Result;

pub(crate) async fn measure(plan: &Plan, figures: &mut Vec<Figure>) -> Result {
    let (mut edits, mut updates) = (Pairs::default(), Pairs::default());
    for pair in 1..=plan.pairs {
        eprintln!("capture: pair {pair} of {}", plan.pairs);
        let theirs = tempfile::tempdir_in(&plan.folder)?;
        let ours = tempfile::tempdir_in(&plan.folder)?;
        edits.push(
            edits_per_second(plan, ServerKind::SqliteWithoutCapture, theirs.path()).await?,
            edits_per_second(plan, ServerKind::Sqlite, ours.path()).await?,
        );
        let (theirs, ours) = update(plan, theirs.path(), ours.path())?;
        updates.push(theirs, ours);
    }
    figures.push(Figure {
        title: "PATCH per second on SQLite with capture (theirs: without)".into(),
        unit: "/s",
        pairs: edits,
        limit: Limit::RatioAtLeast(0.85),
    });
    figures.push(Figure {
        title: "UPDATE of one row by another program on SQLite, with capture (theirs: without)"
            .into(),
        unit: "µs",
        pairs: updates,
        limit: Limit::RatioAtMost(1.35),
    });
    Ok(())
}

async fn edits_per_second(plan: &Plan, kind: ServerKind, folder: &Path) -> Result<f64> {
    let server = Server::start(kind, folder).await?;
    load::warm_up(plan, &server).await?;
    let edits = load::per_second(plan, &server).await?;
    server.stop().await?;
    Ok(edits)
}

/// The microseconds of an UPDATE in a transaction of its own, which waits for the disk. The two databases take turns.
fn update(plan: &Plan, theirs: &Path, ours: &Path) -> Result<(f64, f64)> {
    let turns = plan.size(200, 2);
    let (theirs, ours) = (open(theirs)?, open(ours)?);
    let (mut their_time, mut our_time) = (Duration::ZERO, Duration::ZERO);
    for turn in 0..turns {
        their_time += updates(&theirs, turn)?;
        our_time += updates(&ours, turn)?;
    }
    let one = |time: Duration| time.as_secs_f64() * 1e6 / (turns * UPDATES) as f64;
    Ok((one(their_time), one(our_time)))
}

fn open(folder: &Path) -> Result<Connection> {
    let connection = Connection::open(folder.join("ours.db"))?;
    connection.pragma_update(None, "synchronous", "full")?;
    Ok(connection)
}

/// The updates of one turn.
const UPDATES: usize = 10;

fn updates(connection: &Connection, turn: usize) -> Result<Duration> {
    let mut update = connection.prepare("update users set first_name = ?1 where id = ?2")?;
    let begun = Instant::now();
    for number in 0..UPDATES {
        let id = i64::try_from((turn * UPDATES + number) % USERS)? + 1;
        update.execute((turn.to_string(), id))?;
    }
    Ok(begun.elapsed())
}
