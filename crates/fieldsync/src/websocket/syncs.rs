//! Clients that ask when everything up to a cursor was sent: a write of their own may be outside what they subscribed to.

use std::sync::Arc;
use std::task::Context;

use crate::live::hub::{Hub, Listener};
use crate::model::cursor::Position;
use crate::protocol::MessageStreams;

/// How many a connection may wait for at a time.
const MAX_SYNCS: usize = 100;

/// What a connection waits for.
#[derive(Debug, Default)]
pub(crate) struct Syncs(Vec<Sync>);

#[derive(Debug)]
struct Sync {
    /// As the client sent it.
    cursor: String,
    collection: Arc<str>,
    position: Position,
    /// The subscriptions may wait for certain changes alone; this is woken by each.
    listener: Listener,
}

impl Syncs {
    /// Waits until everything of this collection up to this position was sent. Returns whether there was room.
    pub(crate) fn add(
        &mut self,
        cursor: String,
        collection: Arc<str>,
        position: Position,
        hub: &Arc<Hub>,
    ) -> bool {
        let has_room = self.0.len() < MAX_SYNCS;
        if has_room {
            self.0.push(Sync {
                cursor,
                collection,
                position,
                listener: hub.listen(None),
            });
        }
        has_room
    }

    /// Wakes this task when there is more. To be called before the streams are polled, so that no change is missed in between.
    pub(crate) fn register(&self, context: &Context<'_>) {
        for sync in &self.0 {
            sync.listener.register(context);
        }
    }

    /// The cursor of one that was reached, after everything that these streams have by now. `is_opening`: whether a subscription to a
    /// collection waits to be made.
    pub(crate) fn take_reached(
        &mut self,
        streams: &MessageStreams,
        is_opening: impl Fn(&str) -> bool,
    ) -> Option<String> {
        let reached = self.0.iter().position(|sync| {
            if is_opening(&sync.collection) {
                return false;
            }
            let Some(live) = streams.live_cursor(&sync.collection) else {
                // It catches up, or has ended.
                return !streams.has(&sync.collection);
            };
            // After the database was restored the cursor means nothing, and the client has a snapshot.
            live.position.epoch != sync.position.epoch
                || live.position.offset >= sync.position.offset
        });
        reached.map(|index| self.0.remove(index).cursor)
    }
}
