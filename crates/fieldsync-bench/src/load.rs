//! PATCHes as fast as they are answered, a number of them in flight.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;

use crate::client::Requests;
use crate::server::Server;
use crate::serving::USERS;
use crate::{Plan, Result};

const IN_FLIGHT: usize = 64;

/// What comes first is not counted.
pub(crate) async fn warm_up(plan: &Plan, server: &Server) -> Result {
    load(server, plan.size(500, 50)).await?;
    Ok(())
}

/// How many are answered per second.
pub(crate) async fn per_second(plan: &Plan, server: &Server) -> Result<f64> {
    load(server, Duration::from_millis(plan.size(3000, 100) as u64)).await
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
