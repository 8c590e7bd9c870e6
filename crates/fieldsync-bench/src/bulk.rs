//! The effect of a statement of another program that writes many rows on the subscribers of another collection.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::task::JoinHandle;
use tokio::time::sleep_until;

use crate::client::{HttpClient, Subscriber, contains};
use crate::cluster::{self, Cluster};
use crate::figure::{Figure, Limit};
use crate::kind::ServerKind;
use crate::pairs::{Pairs, percentile};
use crate::plan::{Plan, USERS};
use crate::server::Server;
use crate::subscribers::Subscribers;
use crate::wait::{Result, within_limit};

/// One PATCH every so often: 100 per second.
const INTERVAL: Duration = Duration::from_millis(10);

const INSERT: &str = "insert into items (name) \
                      with recursive n (i) as (select 1 union all select i + 1 from n where i < ROWS) \
                      select 'item' from n";

pub(crate) async fn measure(plan: &Plan, figures: &mut Vec<Figure>) -> Result {
    let mut pairs = Pairs::default();
    for pair in 1..=plan.pairs {
        eprintln!("bulk: pair {pair} of {}", plan.pairs);
        let folder = tempfile::tempdir_in(&plan.folder)?;
        let server = Server::start(ServerKind::Sqlite, folder.path()).await?;
        let mut measured = Measured::open(ServerKind::Sqlite, &server).await?;
        let without = measured.p99(plan, None).await?;
        let announced = announced(plan, &server).await?;
        // SQLite has one writer at a time: a PATCH waits while the statement runs, with or without capture.
        insert_on_sqlite(folder.path(), rows(plan))?;
        pairs.push(without, measured.p99(plan, Some(announced)).await?);
        server.stop().await?;
    }
    figures.push(figure("SQLite, after", plan, pairs));
    Ok(())
}

pub(crate) async fn measure_postgres(
    plan: &Plan,
    cluster: &Cluster,
    figures: &mut Vec<Figure>,
) -> Result {
    let mut pairs = Pairs::default();
    for pair in 1..=plan.pairs {
        eprintln!("bulk on postgres: pair {pair} of {}", plan.pairs);
        let database = cluster.fresh_database().await;
        let server = Server::on_database(ServerKind::Postgres, &database).await?;
        let mut measured = Measured::open(ServerKind::Postgres, &server).await?;
        let without = measured.p99(plan, None).await?;
        let announced = announced(plan, &server).await?;
        let program = cluster::connect(&database).await;
        let insert = insert(rows(plan));
        let inserting = tokio::spawn(async move { program.batch_execute(&insert).await });
        pairs.push(without, measured.p99(plan, Some(announced)).await?);
        inserting.await??;
        server.stop().await?;
    }
    figures.push(figure("PostgreSQL, during and after", plan, pairs));
    Ok(())
}

fn figure(when: &str, plan: &Plan, pairs: Pairs) -> Figure {
    Figure {
        title: format!(
            "p99 from PATCH to window, {when} an INSERT of {} rows into another collection by another program (theirs: without)",
            rows(plan)
        ),
        unit: "ms",
        pairs,
        limit: Limit::RatioAtMost(2.0),
    }
}

fn rows(plan: &Plan) -> usize {
    plan.size(100_000, 1000)
}

fn insert(rows: usize) -> String {
    INSERT.replace("ROWS", &rows.to_string())
}

fn insert_on_sqlite(folder: &Path, rows: usize) -> Result {
    Ok(Connection::open(folder.join("ours.db"))?.execute_batch(&insert(rows))?)
}

/// Subscribes to the collection of the many rows. The task ends when the last of them has come.
async fn announced(plan: &Plan, server: &Server) -> Result<JoinHandle<Result>> {
    let mut subscriber = Subscriber::live(server.address, "items").await?;
    // The ids count from 1.
    let last = format!(r#""id":{},"#, rows(plan));
    let receiving = async move {
        while !contains(subscriber.next().await?, last.as_bytes()) {}
        Ok(())
    };
    Ok(tokio::spawn(async move {
        within_limit("the rows of the statement", receiving).await?
    }))
}

/// Who edits and shows the other collection.
struct Measured {
    client: HttpClient,
    subscribers: Subscribers,
    patches: usize,
}

impl Measured {
    async fn open(kind: ServerKind, server: &Server) -> Result<Self> {
        Ok(Self {
            client: HttpClient::open(server.address).await?,
            subscribers: Subscribers::open(kind, server.address, 1).await?,
            patches: 0,
        })
    }

    /// The 99th percentile of the delays from the time at which a PATCH is due to its change, in milliseconds. Goes on until
    /// the task is finished, if there is one.
    async fn p99(&mut self, plan: &Plan, until: Option<JoinHandle<Result>>) -> Result<f64> {
        let begun = Instant::now();
        let mut delays = Vec::new();
        let goes_on = || until.as_ref().is_some_and(|task| !task.is_finished());
        let least = plan.size(300, 10);
        while delays.len() < least || goes_on() {
            let due = begun + INTERVAL * delays.len() as u32;
            sleep_until(due.into()).await;
            let id = 1 + self.patches % USERS;
            self.client.patch(id, &self.patches.to_string()).await?;
            self.patches += 1;
            let delivered =
                |at: Instant| delays.push(at.saturating_duration_since(due).as_secs_f64() * 1e3);
            self.subscribers.receive(1, delivered).await?;
        }
        if let Some(until) = until {
            until.await??;
        }
        Ok(percentile(&mut delays, 99))
    }
}
