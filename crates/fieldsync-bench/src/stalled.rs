//! What one subscriber that stops reading does to the others' delay, from PATCH to window.

use crate::client::{Frames, Requests};
use crate::delays::delays;
use crate::figure::{Figure, Limit};
use crate::pairs::{Pairs, percentile};
use crate::server::Server;
use crate::serving::Served;
use crate::{Plan, Result};

const SUBSCRIBERS: usize = 50;

pub(crate) async fn measure(plan: &Plan, figures: &mut Vec<Figure>) -> Result {
    let mut pairs = Pairs::default();
    for pair in 1..=plan.pairs {
        eprintln!("stalled: pair {pair} of {}", plan.pairs);
        let without = slowest(plan, false).await?;
        pairs.push(without, slowest(plan, true).await?);
    }
    figures.push(Figure {
        title: "p99 from PATCH to window, with one stalled subscriber and without".into(),
        unit: "ms",
        pairs,
        limit: Limit::RatioBelow(1.1),
    });
    Ok(())
}

/// The p99 of the delays, in milliseconds.
async fn slowest(plan: &Plan, stalled: bool) -> Result<f64> {
    let server = Server::start(Served::Memory, &plan.folder).await?;
    let mut requests = Requests::open(server.address).await?;
    // It asks, and reads no more: its snapshot is under way, and soon what it missed has left the ring.
    let silent = if stalled {
        Some(Frames::asked(server.address).await?)
    } else {
        None
    };
    let mut subscribers = Vec::new();
    for _ in 0..SUBSCRIBERS {
        subscribers.push(Frames::subscribed(server.address).await?);
    }
    // More than the system's buffers between the two hold, so that the silent one is really stalled.
    let text = "x".repeat(20_000);
    let patches = plan.size(1500, 20);
    let mut delays = delays(&mut requests, subscribers, patches, &text).await?;
    drop(silent);
    server.stop().await?;
    Ok(percentile(&mut delays, 99))
}
