//! The server's processor time per delivery with 1,000 subscribers: under axum against ready-made bytes written to raw
//! sockets, and under actix against axum.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

use crate::client::Frames;
use crate::figure::{Figure, Limit};
use crate::pairs::Pairs;
use crate::server::Server;
use crate::serving::Served;
use crate::{Plan, Result};

/// How many changes come together in the second figure.
const BURST: usize = 8;

pub(crate) async fn measure(plan: &Plan, figures: &mut Vec<Figure>) -> Result {
    let subscribers = plan.size(1000, 20);
    let (mut single, mut bursts) = (Pairs::default(), Pairs::default());
    let (mut actix_single, mut actix_bursts) = (Pairs::default(), Pairs::default());
    for pair in 1..=plan.pairs {
        eprintln!("fanout: pair {pair} of {}", plan.pairs);
        let theirs = Deliveries::measure(plan, Served::Floor, subscribers).await?;
        let ours = Deliveries::measure(plan, Served::Memory, subscribers).await?;
        let actix = Deliveries::measure(plan, Served::Actix, subscribers).await?;
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
struct Deliveries {
    single: f64,
    burst: f64,
}

impl Deliveries {
    async fn measure(plan: &Plan, what: Served, subscribers: usize) -> Result<Self> {
        let mut server = Server::start(what, &plan.folder).await?;
        let (heard, all) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        // One after the other, or the system's queue of connections to be accepted overflows.
        let mut opened = Vec::new();
        for _ in 0..subscribers {
            opened.push(match what {
                Served::Floor => Frames::raw(server.address).await?,
                _ => Frames::subscribed(server.address).await?,
            });
        }
        let listeners: Vec<_> = opened
            .into_iter()
            .map(|mut frames| {
                let (heard, all) = (Arc::clone(&heard), Arc::clone(&all));
                tokio::spawn(async move {
                    while frames.next().await.is_ok() {
                        heard.fetch_add(1, Ordering::AcqRel);
                        all.notify_one();
                    }
                })
            })
            .collect();
        let mut per_delivery = [0.0; 2];
        for (at, burst) in [1, BURST].into_iter().enumerate() {
            let rounds = plan.size(400 / burst, 5);
            for warm_up in [true, false] {
                let begun = server.processor_time()?;
                for _ in 0..rounds {
                    let expected = heard.load(Ordering::Acquire) + burst * subscribers;
                    server.change(burst).await?;
                    while heard.load(Ordering::Acquire) < expected {
                        all.notified().await;
                    }
                }
                if !warm_up {
                    let deliveries = rounds * burst * subscribers;
                    per_delivery[at] = (server.processor_time()? - begun) * 1e6 / deliveries as f64;
                }
            }
        }
        server.stop().await?;
        for listener in listeners {
            listener.await?;
        }
        let [single, burst] = per_delivery;
        Ok(Self { single, burst })
    }
}
