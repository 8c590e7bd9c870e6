//! PATCH per second, 64 in flight, on SQLite with `synchronous=FULL`, over HTTP: against a handler written by hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;

use crate::client::Requests;
use crate::figure::{Figure, Limit};
use crate::pairs::Pairs;
use crate::server::Server;
use crate::serving::{Served, USERS};
use crate::{Plan, Result};

const IN_FLIGHT: usize = 64;

pub(crate) async fn measure(plan: &Plan, figures: &mut Vec<Figure>) -> Result {
    let mut pairs = Pairs::default();
    for pair in 1..=plan.pairs {
        eprintln!("writes: pair {pair} of {}", plan.pairs);
        pairs.push(
            per_second(plan, Served::HandWritten).await?,
            per_second(plan, Served::Sqlite).await?,
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

async fn per_second(plan: &Plan, what: Served) -> Result<f64> {
    let folder = tempfile::tempdir_in(&plan.folder)?;
    let server = Server::start(what, folder.path()).await?;
    // What comes first warms up.
    load(&server, plan.size(500, 50)).await?;
    let time = Duration::from_millis(plan.size(3000, 100) as u64);
    let done = load(&server, time).await?;
    server.stop().await?;
    Ok(done)
}

/// Sends requests for so long, or so many, and gives how many were answered per second.
async fn load(server: &Server, until: impl Into<Until>) -> Result<f64> {
    let until = until.into();
    let (begun, sent) = (Instant::now(), Arc::new(AtomicUsize::new(0)));
    let clients = (0..IN_FLIGHT).map(|_| {
        let (address, sent) = (server.address, Arc::clone(&sent));
        tokio::spawn(async move {
            let mut requests = Requests::open(address).await?;
            loop {
                let number = sent.fetch_add(1, Ordering::Relaxed);
                let over = match until {
                    Until::Requests(requests) => number >= requests,
                    Until::Time(time) => begun.elapsed() >= time,
                };
                if over {
                    sent.fetch_sub(1, Ordering::Relaxed);
                    return Ok(());
                }
                requests
                    .patch(number % USERS + 1, &number.to_string())
                    .await?;
            }
        })
    });
    let results: Vec<Result> = try_join_all(clients).await?;
    results.into_iter().collect::<Result>()?;
    Ok(sent.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64())
}

#[derive(Debug, Clone, Copy)]
enum Until {
    Requests(usize),
    Time(Duration),
}

impl From<usize> for Until {
    fn from(requests: usize) -> Self {
        Self::Requests(requests)
    }
}

impl From<Duration> for Until {
    fn from(time: Duration) -> Self {
        Self::Time(time)
    }
}
