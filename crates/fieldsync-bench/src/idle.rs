//! What an idle subscriber costs the server in memory: under axum against a socket with a task, and under actix against axum.

use crate::client::Frames;
use crate::figure::{Figure, Limit};
use crate::pairs::Pairs;
use crate::server::Server;
use crate::serving::Served;
use crate::{Plan, Result};

pub(crate) async fn measure(plan: &Plan, figures: &mut Vec<Figure>) -> Result {
    let (mut pairs, mut actix) = (Pairs::default(), Pairs::default());
    for pair in 1..=plan.pairs {
        eprintln!("idle: pair {pair} of {}", plan.pairs);
        let theirs = per_subscriber(plan, Served::Floor).await?;
        let ours = per_subscriber(plan, Served::Memory).await?;
        pairs.push(theirs, ours);
        actix.push(ours, per_subscriber(plan, Served::Actix).await?);
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

/// Kibibytes per subscriber, beyond those of the first hundred.
async fn per_subscriber(plan: &Plan, what: Served) -> Result<f64> {
    let mut server = Server::start(what, &plan.folder).await?;
    let mut sockets = Vec::new();
    let mut memory = Vec::new();
    for subscribers in [plan.size(100, 10), plan.size(2000, 50)] {
        for _ in 0..subscribers {
            sockets.push(match what {
                Served::Floor => Frames::raw(server.address).await?,
                _ => Frames::subscribed(server.address).await?,
            });
        }
        // Each hears of a change once, so that nothing is counted that comes with the first.
        server.change(1).await?;
        for socket in &mut sockets {
            socket.next().await?;
        }
        memory.push(server.memory()?);
    }
    let grown = memory[1] - memory[0];
    server.stop().await?;
    Ok(grown / 1024.0 / plan.size(2000, 50) as f64)
}
