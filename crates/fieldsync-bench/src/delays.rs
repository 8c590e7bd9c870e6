//! From PATCH to window: how long after a PATCH is sent its change has come to each subscriber.

use std::time::Instant;

use tokio::sync::mpsc;

use crate::Result;
use crate::client::{Frames, Requests};

/// Sends PATCHes with such a text, each when all have heard of the one before, and gives the delays in milliseconds.
pub(crate) async fn delays(
    requests: &mut Requests,
    subscribers: Vec<Frames>,
    patches: usize,
    text: &str,
) -> Result<Vec<f64>> {
    let count = subscribers.len();
    let (heard, mut deliveries) = mpsc::unbounded_channel();
    for mut frames in subscribers {
        let heard = heard.clone();
        tokio::spawn(async move {
            while frames.next().await.is_ok() {
                if heard.send(Instant::now()).is_err() {
                    return;
                }
            }
        });
    }
    drop(heard);
    let mut delays = Vec::with_capacity(patches * count);
    for number in 0..patches {
        let begun = Instant::now();
        requests.patch(1, &format!("{number}{text}")).await?;
        for _ in 0..count {
            let heard = deliveries.recv().await.ok_or("nobody listens")?;
            delays.push(heard.saturating_duration_since(begun).as_secs_f64() * 1e3);
        }
    }
    Ok(delays)
}
