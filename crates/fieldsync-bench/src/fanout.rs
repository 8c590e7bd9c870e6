//! The server's processor time per delivery: under axum against bytes that were encoded in advance, and under actix-web
//! against axum.

use crate::figure::{Figure, Limit};
use crate::kind::ServerKind;
use crate::pairs::Pairs;
use crate::plan::Plan;
use crate::server::Server;
use crate::subscribers::Subscribers;
use crate::wait::Result;

/// The number of changes in one transaction, in the second figure.
const BURST: usize = 8;

pub(crate) async fn measure(plan: &Plan, figures: &mut Vec<Figure>) -> Result {
    let subscribers = plan.size(1000, 20);
    let (mut single, mut bursts) = (Pairs::default(), Pairs::default());
    let (mut actix_single, mut actix_bursts) = (Pairs::default(), Pairs::default());
    for pair in 1..=plan.pairs {
        eprintln!("fanout: pair {pair} of {}", plan.pairs);
        let theirs = DeliveryCost::measure(plan, ServerKind::Floor, subscribers).await?;
        let ours = DeliveryCost::measure(plan, ServerKind::Memory, subscribers).await?;
        let actix = DeliveryCost::measure(plan, ServerKind::Actix, subscribers).await?;
        single.push(theirs.single, ours.single);
        bursts.push(theirs.single, ours.burst);
        actix_single.push(ours.single, actix.single);
        actix_bursts.push(ours.burst, actix.burst);
    }
    figures.push(Figure {
        title: format!(
            "server's processor time per delivery, {subscribers} subscribers, one change at a time"
        ),
        unit: "µs",
        pairs: single,
        limit: Limit::RatioAtMost(1.5),
    });
    figures.push(Figure {
        title: format!("the same, {BURST} changes at a time (theirs: one at a time)"),
        unit: "µs",
        pairs: bursts,
        limit: Limit::RatioBelow(0.5),
    });
    figures.push(Figure {
        title: "under actix (theirs: under axum), one change at a time".into(),
        unit: "µs",
        pairs: actix_single,
        limit: Limit::RatioAtMost(1.4),
    });
    figures.push(Figure {
        title: format!("under actix (theirs: under axum), {BURST} changes at a time"),
        unit: "µs",
        pairs: actix_bursts,
        limit: Limit::RatioAtMost(1.4),
    });
    Ok(())
}

/// Microseconds of processor time per delivery.
struct DeliveryCost {
    single: f64,
    burst: f64,
}

impl DeliveryCost {
    async fn measure(plan: &Plan, kind: ServerKind, subscribers: usize) -> Result<Self> {
        let mut server = Server::start(kind, &plan.folder).await?;
        let mut subscribers = Subscribers::open(kind, server.address, subscribers).await?;
        let single = per_delivery(plan, &mut server, &mut subscribers, 1).await?;
        let burst = per_delivery(plan, &mut server, &mut subscribers, BURST).await?;
        server.stop().await?;
        Ok(Self { single, burst })
    }
}

async fn per_delivery(
    plan: &Plan,
    server: &mut Server,
    subscribers: &mut Subscribers,
    burst: usize,
) -> Result<f64> {
    let rounds = plan.size(400 / burst, 5);
    // Once to warm up.
    deliver(server, subscribers, rounds, burst).await?;
    let begun = server.processor_time()?;
    deliver(server, subscribers, rounds, burst).await?;
    let deliveries = rounds * burst * subscribers.count();
    Ok((server.processor_time()? - begun) * 1e6 / deliveries as f64)
}

async fn deliver(
    server: &mut Server,
    subscribers: &mut Subscribers,
    rounds: usize,
    burst: usize,
) -> Result {
    for _ in 0..rounds {
        server.change(burst).await?;
        subscribers.receive(burst, |_| {}).await?;
    }
    Ok(())
}
