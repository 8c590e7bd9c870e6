//! How the subscription of a window follows the log.

use std::collections::HashMap;
use std::sync::Arc;

use crate::live::message_size::{MESSAGE, size_of_change, split};
use crate::live::read_step::{ReadStep, Then};
use crate::live::ring::Entry;
use crate::live::subscription::{Event, Subscription};
use crate::live::update::Update;
use crate::live::window::{Phase, Window};
use crate::model::change::Change;
use crate::model::cursor::Position;
use crate::model::record::{Record, RecordId};

impl Subscription {
    /// Queues what live changes do to the window, and moves to the position after them.
    pub(super) fn queue_in_window(
        &mut self,
        mut window: Box<Window>,
        entries: &[Arc<Entry>],
        position: Position,
    ) -> Box<Window> {
        let grant = Arc::clone(&self.grant);
        for entry in entries {
            let change = &*entry.change;
            if self.fill.includes(change, &self.collection) {
                // Another node has logged the change without values that this subscriber needs.
                self.start(ReadStep::CatchUp);
                return window;
            }
            self.position = change.position;
            let effect = window.apply(change, change.visible_action(&grant));
            let is_whole = window.missing() == 0;
            match effect.action {
                Some(action) if is_whole && effect.pushed_out.is_none() => {
                    let change = Event::Change(Arc::clone(entry), action);
                    self.events.push_back(change);
                }
                _ => {
                    window.fold(change, effect, &grant);
                    self.queue_folded(&mut window, is_whole);
                }
            }
            if !is_whole {
                self.start(ReadStep::of_window(&window));
                return window;
            }
        }
        self.position = position;
        window
    }

    /// Queues what a step has read for the window, and starts the next step or goes live.
    pub(super) fn apply_to_window(
        &mut self,
        mut window: Box<Window>,
        changes: &[Arc<Change>],
        more: bool,
        rows: &HashMap<RecordId, Option<Record>>,
        then: Then,
    ) -> Box<Window> {
        let grant = Arc::clone(&self.grant);
        let mut is_ended = false;
        for change in changes {
            let is_resuming = window.phase == Phase::Resuming;
            // As it is in the log: the row that fills it may be newer.
            let is_seen = is_resuming && change.visible_action(&grant) != Ok(None);
            let (change, of_matching) = self.seen(change, rows);
            if is_seen || is_resuming && of_matching != Ok(None) {
                // Which records the subscriber has is not known.
                window.restart();
                self.start(ReadStep::of_window(&window));
                return window;
            }
            self.position = change.position;
            let effect = window.apply(&change, of_matching);
            window.fold(&change, effect, &grant);
        }
        if let Then::SnapshotPiece {
            records,
            position,
            after,
            is_last,
        } = then
        {
            self.position = position;
            // Unless changes have moved the reach: then what follows it is read again.
            if window.reach() == after.as_ref() {
                let taken = window.take(records, &grant, is_last);
                self.queue_taken(&mut window, taken);
                is_ended = window.missing() == 0;
            }
        } else if more {
            self.queue_folded(&mut window, false);
            self.start(ReadStep::CatchUp);
            return window;
        }
        if window.is_blank() || window.missing() > 0 {
            self.queue_folded(&mut window, false);
            self.start(ReadStep::of_window(&window));
            return window;
        }
        match window.phase {
            Phase::Live => {
                self.queue_folded(&mut window, true);
                self.go_on_live();
            }
            Phase::Snapshot | Phase::Resuming => {
                if window.phase == Phase::Snapshot && !is_ended {
                    // Changes have brought the last of its records.
                    self.queue_folded(&mut window, false);
                    self.queue_piece(Vec::new(), true);
                }
                window.phase = Phase::Live;
                self.go_live();
            }
        }
        window
    }

    /// Queues the records that a piece has brought.
    fn queue_taken(&mut self, window: &mut Window, taken: Vec<Record>) {
        let grant = Arc::clone(&self.grant);
        match window.phase {
            Phase::Snapshot => {
                self.queue_folded(window, false);
                let is_whole = window.missing() == 0;
                self.queue_piece(taken, is_whole);
            }
            // The subscriber has them.
            Phase::Resuming => {}
            Phase::Live => {
                for record in taken {
                    let fields = grant.view.project_fields(&record.fields);
                    window.fold_arrival(Record { fields, ..record });
                }
            }
        }
    }

    /// Queues what was folded: with a cursor if the window is whole. Otherwise only what fits no message is queued, and without one.
    fn queue_folded(&mut self, window: &mut Window, is_whole: bool) {
        let changes = &window.folded.changes;
        let bytes: usize = changes.iter().map(size_of_change).sum();
        let is_snapshot = window.phase == Phase::Snapshot;
        if !is_whole && !is_snapshot && bytes < MESSAGE.bytes {
            return;
        }
        let changes = std::mem::take(&mut window.folded).changes;
        let (full, part) = split(changes, size_of_change);
        for changes in full {
            let cursor = None;
            self.push(Update::Changes { changes, cursor });
            window.owes_cursor = true;
        }
        if part.is_empty() && !(is_whole && window.owes_cursor) {
            return;
        }
        let cursor = is_whole.then(|| self.cursor(self.position));
        window.owes_cursor = !is_whole && !is_snapshot;
        self.push(Update::Changes {
            changes: part,
            cursor,
        });
    }
}
