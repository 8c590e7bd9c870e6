//! The changes that a subscriber receives.

use fieldsync::{FoldedChange, Subscription, Update};
use futures_util::StreamExt as _;

/// Reads until the subscription is live.
pub(crate) async fn until_live(updates: &mut Subscription) {
    while !matches!(updates.next().await, Some(Update::Live { .. })) {}
}

/// The next change. Of several that came at once, the first.
pub(crate) async fn next_change(updates: &mut Subscription) -> FoldedChange {
    loop {
        match updates.next().await.unwrap() {
            Update::Change { change, .. } => return change,
            Update::Changes { mut changes, .. } => return changes.remove(0),
            _ => {}
        }
    }
}
