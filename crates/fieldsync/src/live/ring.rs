//! The recent changes of one collection, and the frames encoded from them.

use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use crate::model::change::{Action, Change};
use crate::model::cursor::{Position, ResetReason};
use crate::schema::grant::View;

/// How many changes the ring of a collection holds, and how many bytes of them.
pub(crate) const RING_CHANGES: usize = 1024;

pub(crate) const RING_BYTES: usize = 16 * 1024 * 1024;

/// How many different frames of a change are kept for others who see it alike.
const SHARED_FRAMES: usize = 32;

#[derive(Debug)]
pub(crate) struct Ring {
    /// The place after the newest entry.
    pub(crate) head: Position,
    /// Without gap; the last one is at the head.
    pub(crate) entries: VecDeque<Arc<Entry>>,
    /// About how many bytes the entries take.
    pub(crate) bytes: usize,
    /// Grows whenever the log turned out to be another one; subscribers of an older one begin again.
    pub(crate) generation: u64,
    /// Why it last grew.
    pub(crate) reason: ResetReason,
    pub(crate) closed: bool,
}

impl Ring {
    pub(crate) fn push(&mut self, change: Arc<Change>) {
        let bytes = change.size_in_memory();
        self.head = change.position;
        self.bytes += bytes;
        self.entries.push_back(Arc::new(Entry {
            change,
            bytes,
            frames: Mutex::default(),
        }));
    }

    /// Whether the ring knows another change at this offset: then the place is of another log.
    pub(crate) fn contradicts(&self, place: Position) -> bool {
        let known = match self.head.offset.checked_sub(place.offset) {
            None => None,
            Some(0) => Some(self.head),
            Some(back) => {
                let entry = self
                    .entries
                    .len()
                    .checked_sub(1 + back as usize)
                    .map(|at| &self.entries[at]);
                entry.map(|entry| entry.change.position)
            }
        };
        known.is_some_and(|known| known != place)
    }
}

/// A change, and the frames made of it so far, shared by those who see it alike.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) change: Arc<Change>,
    pub(crate) bytes: usize,
    frames: Mutex<Vec<(FrameKey, Bytes)>>,
}

impl Entry {
    /// The frame for those who see the change alike, made once.
    pub(crate) fn frame(&self, key: FrameKey, make: impl FnOnce() -> Bytes) -> Bytes {
        let mut frames = self.frames.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, frame)) = frames.iter().find(|(known, _)| *known == key) {
            return frame.clone();
        }
        let frame = make();
        if frames.len() < SHARED_FRAMES {
            frames.push((key, frame.clone()));
        }
        frame
    }
}

/// What decides the bytes of a change's frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FrameKey {
    pub(crate) kind: FrameKind,
    pub(crate) view: View,
    /// The view of those who see some rows alone tells itself apart in the cursor.
    pub(crate) view_hash: u32,
    pub(crate) action: Action,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FrameKind {
    CollectionTopic,
    RecordTopic,
    CollectionEvent,
    RecordEvent,
    Feed,
}
