//! The effect of subscribers that read a large snapshot on the requests of others.

use std::error::Error;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Instant;

use rusqlite::Connection;
use tokio::task::JoinSet;

use crate::client::{HttpClient, Subscriber};
use crate::figure::{Figure, Limit};
use crate::kind::ServerKind;
use crate::pairs::{Pairs, median};
use crate::plan::Plan;
use crate::server::Server;
use crate::wait::Result;

const SUBSCRIBERS: usize = 4;

pub(crate) async fn measure(plan: &Plan, figures: &mut Vec<Figure>) -> Result {
    let folder = tempfile::tempdir_in(&plan.folder)?;
    let rows = plan.size(1_000_000, 5000);
    let server = Server::start(ServerKind::Sqlite, folder.path()).await?;
    fill(&folder.path().join("ours.db"), rows)?;
    let mut client = HttpClient::open(server.address).await?;
    let mut pairs = [Pairs::default(), Pairs::default()];
    for pair in 1..=plan.pairs {
        eprintln!("snapshots: pair {pair} of {}", plan.pairs);
        let without = medians(plan, &mut client).await?;
        let mut readers = JoinSet::new();
        for _ in 0..SUBSCRIBERS {
            let address = server.address;
            readers.spawn(read_snapshots(address));
        }
        let with = medians(plan, &mut client).await?;
        if let Some(failed) = readers.try_join_next() {
            return Err(failed?);
        }
        for (pairs, (without, with)) in pairs.iter_mut().zip(without.into_iter().zip(with)) {
            pairs.push(without, with);
        }
    }
    for (pairs, method) in pairs.into_iter().zip(["GET", "PATCH"]) {
        figures.push(Figure {
            title: format!("{method}, with {SUBSCRIBERS} snapshots of {rows} rows and without"),
            unit: "ms",
            pairs,
            limit: Limit::RatioAtMost(3.0),
        });
    }
    server.stop().await
}

/// Reads the snapshot again and again. Returns when that fails.
async fn read_snapshots(address: SocketAddr) -> Box<dyn Error + Send + Sync> {
    loop {
        let mut subscriber = match Subscriber::unread(address, "users").await {
            Ok(subscriber) => subscriber,
            Err(error) => return error,
        };
        loop {
            match subscriber.next().await {
                Ok(message) if message.starts_with(br#"{"type":"live""#) => break,
                Ok(_) => {}
                Err(error) => return error,
            }
        }
    }
}

/// Adds rows until the table has this many.
fn fill(path: &Path, rows: usize) -> Result {
    let sql = "with recursive n (i) as (select 1 union all select i + 1 from n where i < ?1 - (select count(*) from users)) \
               insert into users (first_name, last_name, created_at, updated_at) \
               select 'Ada', 'Lovelace', created_at, updated_at from n, (select * from users limit 1)";
    Connection::open(path)?.execute(sql, [i64::try_from(rows)?])?;
    Ok(())
}

/// The median times of a GET and of a PATCH, in milliseconds.
async fn medians(plan: &Plan, client: &mut HttpClient) -> Result<[f64; 2]> {
    let (mut gets, mut patches) = (Vec::new(), Vec::new());
    for number in 0..plan.size(500, 20) {
        let begun = Instant::now();
        client.get(1 + number).await?;
        let got = Instant::now();
        client.patch(1 + number, &number.to_string()).await?;
        gets.push((got - begun).as_secs_f64() * 1e3);
        patches.push(got.elapsed().as_secs_f64() * 1e3);
    }
    Ok([median(&gets), median(&patches)])
}
