//! The server's memory per idle subscriber: under axum against a socket with a task, and under actix-web against axum.

use crate::figure::{Figure, Limit};
use crate::kind::ServerKind;
use crate::pairs::Pairs;
use crate::plan::Plan;
use crate::server::Server;
use crate::subscribers::Subscribers;
use crate::wait::Result;

pub(crate) async fn measure(plan: &Plan, figures: &mut Vec<Figure>) -> Result {
    let (mut pairs, mut actix) = (Pairs::default(), Pairs::default());
    for pair in 1..=plan.pairs {
        eprintln!("idle: pair {pair} of {}", plan.pairs);
        let theirs = per_subscriber(plan, ServerKind::Floor).await?;
        let ours = per_subscriber(plan, ServerKind::Memory).await?;
        pairs.push(theirs, ours);
        actix.push(ours, per_subscriber(plan, ServerKind::Actix).await?);
    }
    figures.push(Figure {
        title: "memory of an idle subscriber".into(),
        unit: "KiB",
        pairs,
        limit: Limit::OursAtMost(12.0),
    });
    figures.push(Figure {
        title: "memory of an idle subscriber under actix (theirs: under axum)".into(),
        unit: "KiB",
        pairs: actix,
        limit: Limit::AboveTheirsAtMost(14.0),
    });
    Ok(())
}

/// Kibibytes per subscriber, not counting the first hundred.
async fn per_subscriber(plan: &Plan, kind: ServerKind) -> Result<f64> {
    let (first, more) = (plan.size(100, 10), plan.size(2000, 50));
    let mut server = Server::start(kind, &plan.folder).await?;
    let mut subscribers = Subscribers::open(kind, server.address, first).await?;
    let before = memory_after_a_change(&mut server, &mut subscribers).await?;
    subscribers.add(kind, server.address, more).await?;
    let after = memory_after_a_change(&mut server, &mut subscribers).await?;
    server.stop().await?;
    Ok((after - before) / 1024.0 / more as f64)
}

/// Each subscriber receives a change first: what the first delivery allocates counts in both measurements.
async fn memory_after_a_change(server: &mut Server, subscribers: &mut Subscribers) -> Result<f64> {
    server.change(1).await?;
    subscribers.receive(1, |_| {}).await?;
    server.memory()
}
