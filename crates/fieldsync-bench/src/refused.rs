//! The effect of a writer whose every edit the database refuses on the delays of the others.

use std::path::Path;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use tokio::task::JoinHandle;
use tokio::time::sleep_until;

use crate::client::HttpClient;
use crate::cluster::{self, Cluster};
use crate::figure::{Figure, Limit};
use crate::kind::ServerKind;
use crate::pairs::{Pairs, percentile};
use crate::plan::{Plan, USERS};
use crate::server::Server;
use crate::wait::Result;

/// One edit every so often: 100 per second.
const INTERVAL: Duration = Duration::from_millis(10);

/// The connections that take turns. A slow reply does not hold up the next edit.
const CONNECTIONS: usize = 20;

/// The first name that one user has, and no other may have.
const TAKEN: &str = "taken";

const UNIQUE: &str =
    "create unique index one_taken on users (first_name) where first_name = 'taken'";

pub(crate) async fn measure(plan: &Plan, figures: &mut Vec<Figure>) -> Result {
    let mut pairs = Pairs::default();
    for pair in 1..=plan.pairs {
        eprintln!("refused: pair {pair} of {}", plan.pairs);
        let without = on_sqlite(plan, Refused::None).await?;
        pairs.push(without, on_sqlite(plan, Refused::All).await?);
    }
    figures.push(figure("SQLite", pairs));
    Ok(())
}

pub(crate) async fn measure_postgres(
    plan: &Plan,
    cluster: &Cluster,
    figures: &mut Vec<Figure>,
) -> Result {
    let mut pairs = Pairs::default();
    for pair in 1..=plan.pairs {
        eprintln!("refused on postgres: pair {pair} of {}", plan.pairs);
        let without = on_postgres(plan, cluster, Refused::None).await?;
        pairs.push(without, on_postgres(plan, cluster, Refused::All).await?);
    }
    figures.push(figure("PostgreSQL", pairs));
    Ok(())
}

fn figure(store: &str, pairs: Pairs) -> Figure {
    Figure {
        title: format!(
            "p99 of 100 PATCHes per second, {store}, with a writer whose every edit is refused and without"
        ),
        unit: "ms",
        pairs,
        limit: Limit::RatioAtMost(1.5),
    }
}

/// Whether there is a writer whose edits the database refuses.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Refused {
    None,
    All,
}

async fn on_sqlite(plan: &Plan, refused: Refused) -> Result<f64> {
    let folder = tempfile::tempdir_in(&plan.folder)?;
    let server = Server::start(ServerKind::Sqlite, folder.path()).await?;
    create_index(folder.path())?;
    p99(plan, server, refused).await
}

fn create_index(folder: &Path) -> Result {
    let connection = rusqlite::Connection::open(folder.join("ours.db"))?;
    Ok(connection.execute_batch(UNIQUE)?)
}

async fn on_postgres(plan: &Plan, cluster: &Cluster, refused: Refused) -> Result<f64> {
    let database = cluster.fresh_database().await;
    let server = Server::on_database(ServerKind::Postgres, &database).await?;
    let client = cluster::connect(&database).await;
    client.batch_execute(UNIQUE).await?;
    p99(plan, server, refused).await
}

/// The 99th percentile of the delays of the edits that are fine, in milliseconds.
async fn p99(plan: &Plan, server: Server, refused: Refused) -> Result<f64> {
    let mut clients = Vec::with_capacity(CONNECTIONS);
    for number in 0..CONNECTIONS {
        let mut client = HttpClient::open(server.address).await?;
        // Warms up, and gives the name to the first user.
        let name = if number == 0 { TAKEN } else { "" };
        client.patch(number + 1, name).await?;
        clients.push(client);
    }
    let writer = match refused {
        Refused::None => None,
        Refused::All => Some(start_writer(HttpClient::open(server.address).await?)),
    };
    let begun = Instant::now();
    let edits = plan.size(600, 40);
    let patching = clients.into_iter().enumerate().map(|(first, mut client)| {
        tokio::spawn(async move {
            let mut delays = Vec::new();
            for number in (first..edits).step_by(CONNECTIONS) {
                let at = begun + INTERVAL * number as u32;
                sleep_until(at.into()).await;
                client
                    .patch(3 + number % (USERS - 3), &number.to_string())
                    .await?;
                delays.push(at.elapsed().as_secs_f64() * 1e3);
            }
            Result::Ok(delays)
        })
    });
    let mut delays = Vec::with_capacity(edits);
    for of_client in try_join_all(patching).await? {
        delays.extend(of_client?);
    }
    if let Some(writer) = writer {
        if writer.is_finished() {
            writer.await??;
        } else {
            writer.abort();
        }
    }
    server.stop().await?;
    Ok(percentile(&mut delays, 99))
}

/// Sends an edit that is refused as soon as the one before is.
fn start_writer(mut client: HttpClient) -> JoinHandle<Result> {
    tokio::spawn(async move {
        loop {
            client.patch_refused(2, TAKEN).await?;
        }
    })
}
