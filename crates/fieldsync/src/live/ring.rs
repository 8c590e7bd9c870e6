//! The ring of a collection's recent changes, and the frames that were encoded from them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::model::change::{Action, Change};
use crate::model::cursor::{Position, ResetReason};
use crate::schema::view::View;

/// The most changes in a ring.
pub(crate) const MAX_RING_CHANGES: usize = 1024;

/// The most bytes that the changes of a ring may take in memory, with the frames that are kept of them. Until the next change, the frames
/// alone may take as much.
pub(crate) const MAX_RING_BYTES: usize = 16 * 1024 * 1024;

/// The most encoded frames that are kept per change.
const MAX_SHARED_FRAMES: usize = 32;

/// The recent changes of one collection.
#[derive(Debug)]
pub(crate) struct Ring {
    /// The position after the newest entry.
    pub(crate) head: Position,
    /// The entries, without a gap. The last one is at the head.
    pub(crate) entries: VecDeque<Arc<Entry>>,
    /// The approximate number of bytes that the entries take in memory.
    pub(crate) bytes: usize,
    /// The number of bytes that the frames of the entries take.
    pub(crate) frame_bytes: Arc<AtomicUsize>,
    /// How often the ring was reset. A subscriber of an older generation starts again with a snapshot.
    pub(crate) generation: u64,
    /// The reason of the last reset.
    pub(crate) reset_reason: ResetReason,
    /// Whether all subscriptions have ended.
    pub(crate) closed: bool,
}

impl Ring {
    /// Appends a change, which must follow the head.
    pub(crate) fn push(&mut self, change: Arc<Change>) {
        let bytes = change.size_in_memory();
        self.head = change.position;
        self.bytes += bytes;
        self.entries.push_back(Arc::new(Entry {
            change,
            bytes,
            frames: Mutex::default(),
            frame_bytes: AtomicUsize::new(0),
            of_ring: Arc::clone(&self.frame_bytes),
        }));
    }

    /// Takes out the oldest entries until the rest fits. Their frames are still to be dropped.
    pub(crate) fn evict(&mut self) -> Vec<Arc<Entry>> {
        let mut evicted = Vec::new();
        let mut frames = self.frame_bytes.load(Ordering::Relaxed);
        while self.entries.len() > MAX_RING_CHANGES || self.bytes + frames > MAX_RING_BYTES {
            let Some(entry) = self.entries.pop_front() else {
                break;
            };
            self.bytes -= entry.bytes;
            frames = frames.saturating_sub(entry.frame_bytes.load(Ordering::Relaxed));
            evicted.push(entry);
        }
        evicted
    }

    /// The entries after a position. `None` if some were evicted.
    pub(crate) fn after(&self, position: Position) -> Option<impl Iterator<Item = &Arc<Entry>>> {
        let first = self.entries.front();
        let first = first.map_or(self.head.offset + 1, |first| first.change.position.offset);
        let skipped = (position.offset + 1).checked_sub(first)?;
        Some(self.entries.iter().skip(skipped as usize))
    }

    /// Whether the ring has another change at the offset of this position, so that the position belongs to another log.
    pub(crate) fn contradicts(&self, position: Position) -> bool {
        let known = match self.head.offset.checked_sub(position.offset) {
            None => None,
            Some(0) => Some(self.head),
            Some(distance) => {
                let entry = self
                    .entries
                    .len()
                    .checked_sub(1 + distance as usize)
                    .map(|index| &self.entries[index]);
                entry.map(|entry| entry.change.position)
            }
        };
        known.is_some_and(|known| known != position)
    }
}

/// A change, and the frames that were encoded from it. Subscribers that see the same of the change share a frame.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) change: Arc<Change>,
    /// The approximate number of bytes that the change takes in memory.
    pub(crate) bytes: usize,
    frames: Mutex<Frames>,
    /// The number of bytes that the frames take.
    frame_bytes: AtomicUsize,
    /// The same of the whole ring.
    of_ring: Arc<AtomicUsize>,
}

#[derive(Debug, Default)]
struct Frames {
    kept: Vec<(FrameKey, Frame)>,
    is_evicted: bool,
}

/// A change as one message.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub(crate) json: Bytes,
    /// The text of the cursor after the change. Empty in what has none.
    pub(crate) cursor: Arc<str>,
}

impl Frame {
    pub(crate) fn without_cursor(json: Bytes) -> Self {
        let cursor = Arc::default();
        Self { json, cursor }
    }
}

impl Entry {
    /// The frame with this key, if it was encoded before.
    pub(crate) fn encoded(&self, key: &FrameKey) -> Option<Frame> {
        let frames = self.frames.lock().unwrap_or_else(PoisonError::into_inner);
        let mut kept = frames.kept.iter();
        let (_, frame) = kept.find(|(known, _)| known == key)?;
        Some(frame.clone())
    }

    /// The frame with this key. It is encoded by the first caller.
    pub(crate) fn frame(&self, key: FrameKey, encode: impl FnOnce() -> Frame) -> Frame {
        let mut frames = self.frames.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, frame)) = frames.kept.iter().find(|(known, _)| *known == key) {
            return frame.clone();
        }
        let frame = encode();
        let bytes = frame.json.len() + frame.cursor.len();
        let has_room = frames.kept.len() < MAX_SHARED_FRAMES
            && self.of_ring.load(Ordering::Relaxed) + bytes <= MAX_RING_BYTES;
        if has_room && !frames.is_evicted {
            frames.kept.push((key, frame.clone()));
            self.frame_bytes.fetch_add(bytes, Ordering::Relaxed);
            self.of_ring.fetch_add(bytes, Ordering::Relaxed);
        }
        frame
    }

    /// Drops the frames, and keeps no more: subscribers that have not taken the change yet hold only the change.
    pub(crate) fn drop_frames(&self) {
        let mut frames = self.frames.lock().unwrap_or_else(PoisonError::into_inner);
        frames.is_evicted = true;
        frames.kept = Vec::new();
        let bytes = self.frame_bytes.swap(0, Ordering::Relaxed);
        self.of_ring.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// What determines the bytes of a change's frame. Equal keys have equal frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FrameKey {
    pub(crate) kind: FrameKind,
    pub(crate) view: View,
    pub(crate) action: Action,
}

/// What a frame has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FrameKind {
    /// A message of a plain feed.
    Feed,
    /// A message without the name of its subscription and without its cursor.
    Body,
    /// The message of a subscription with this name, and the identity of what it sees, which is part of the cursor: it differs for
    /// grants with another filter on records.
    Whole(Arc<str>, u32),
}
