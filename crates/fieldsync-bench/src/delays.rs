//! The time from a PATCH to its change at each subscriber.

use std::time::Instant;

use crate::client::HttpClient;
use crate::subscribers::Subscribers;
use crate::wait::Result;

/// Sends PATCHes whose values end with `text`, each after all subscribers received the one before. Returns the delays in
/// milliseconds.
pub(crate) async fn delays(
    client: &mut HttpClient,
    subscribers: &mut Subscribers,
    patches: usize,
    text: &str,
) -> Result<Vec<f64>> {
    let mut delays = Vec::with_capacity(patches * subscribers.count());
    for number in 0..patches {
        let begun = Instant::now();
        client.patch(1, &format!("{number}{text}")).await?;
        let delivered = |at: Instant| {
            delays.push(at.saturating_duration_since(begun).as_secs_f64() * 1e3);
        };
        subscribers.receive(1, delivered).await?;
    }
    Ok(delays)
}
