//! The effect of a subscriber that stops reading on the delays of the others.

use crate::client::{HttpClient, Subscriber};
use crate::delays::delays;
use crate::figure::{Figure, Limit};
use crate::kind::ServerKind;
use crate::pairs::{Pairs, percentile};
use crate::plan::Plan;
use crate::server::Server;
use crate::subscribers::Subscribers;
use crate::wait::Result;

const SUBSCRIBERS: usize = 50;

pub(crate) async fn measure(plan: &Plan, figures: &mut Vec<Figure>) -> Result {
    let mut pairs = Pairs::default();
    for pair in 1..=plan.pairs {
        eprintln!("stalled: pair {pair} of {}", plan.pairs);
        let without = p99(plan, false).await?;
        pairs.push(without, p99(plan, true).await?);
    }
    figures.push(Figure {
        title: "p99 from PATCH to window, with one stalled subscriber and without".into(),
        unit: "ms",
        pairs,
        limit: Limit::RatioBelow(1.1),
    });
    Ok(())
}

/// The 99th percentile of the delays, in milliseconds.
async fn p99(plan: &Plan, with_stalled: bool) -> Result<f64> {
    let server = Server::start(ServerKind::Memory, &plan.folder).await?;
    let mut client = HttpClient::open(server.address).await?;
    // It subscribes and reads nothing: its snapshot waits, and soon the changes that it misses have left the ring.
    let stalled = if with_stalled {
        Some(Subscriber::unread(server.address, "users").await?)
    } else {
        None
    };
    let opening = Subscribers::open(ServerKind::Memory, server.address, SUBSCRIBERS);
    let mut subscribers = opening.await?;
    // All of it is more than the socket buffers hold.
    let text = "x".repeat(20_000);
    let patches = plan.size(1500, 20);
    let mut delays = delays(&mut client, &mut subscribers, patches, &text).await?;
    drop(stalled);
    server.stop().await?;
    Ok(percentile(&mut delays, 99))
}
