//! PATCHes as fast as the server replies, a number of them in flight.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;

use crate::client::HttpClient;
use crate::plan::{Plan, USERS};
use crate::server::Server;
use crate::wait::Result;

const IN_FLIGHT: usize = 64;

pub(crate) async fn warm_up(plan: &Plan, server: &Server) -> Result {
    load(server, End::AfterRequests(plan.size(500, 50))).await?;
    Ok(())
}

/// Returns the replies per second.
pub(crate) async fn per_second(plan: &Plan, server: &Server) -> Result<f64> {
    let time = Duration::from_millis(plan.size(3000, 100) as u64);
    load(server, End::AfterTime(time)).await
}

#[derive(Debug, Clone, Copy)]
enum End {
    AfterRequests(usize),
    AfterTime(Duration),
}

async fn load(server: &Server, end: End) -> Result<f64> {
    let (begun, sent) = (Instant::now(), Arc::new(AtomicUsize::new(0)));
    let clients = (0..IN_FLIGHT).map(|_| {
        let (address, sent) = (server.address, Arc::clone(&sent));
        tokio::spawn(async move {
            let mut client = HttpClient::open(address).await?;
            loop {
                let number = sent.fetch_add(1, Ordering::Relaxed);
                let is_over = match end {
                    End::AfterRequests(requests) => number >= requests,
                    End::AfterTime(time) => begun.elapsed() >= time,
                };
                if is_over {
                    sent.fetch_sub(1, Ordering::Relaxed);
                    return Ok(());
                }
                client
                    .patch(number % USERS + 1, &number.to_string())
                    .await?;
            }
        })
    });
    // Each of them ends: the wait for a reply has a limit.
    let results: Vec<Result> = try_join_all(clients).await?;
    results.into_iter().collect::<Result>()?;
    Ok(sent.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64())
}
