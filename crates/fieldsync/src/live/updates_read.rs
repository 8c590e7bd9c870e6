//! What a subscription has read from the store, as updates that fit messages.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use crate::live::message_size::{MESSAGE, size_of_change, size_of_record, split};
use crate::live::subscription::{Event, Subscription};
use crate::live::update::Update;
use crate::model::change::{Action, Change, FoldedChange, FoldedChanges};
use crate::model::cursor::{Cursor, Resume};
use crate::model::record::{Record, RecordId};
use crate::schema::change_view::UnknownMembership;
use crate::schema::grant::Grant;
use crate::store::page::PageMeter;

impl Subscription {
    /// Queues the records of a piece of a snapshot, in parts that fit a message. Unless it is the last piece, it ends with the
    /// record `after`.
    pub(super) fn queue_records(&mut self, records: Vec<Record>, after: Option<&RecordId>) {
        let grant = Arc::clone(&self.grant);
        let shown = records.into_iter().filter(|record| grant.shows(record));
        let (full, last) = split(
            shown.map(|record| record_as_seen(record, &grant)),
            size_of_record,
        );
        for records in full {
            let last = records.last().map(|record| record.id.clone());
            self.queue(|cursor| Update::Snapshot { records, cursor }, last.as_ref());
        }
        let records = last;
        self.queue(|cursor| Update::Snapshot { records, cursor }, after);
    }

    /// Queues an update that ends at the position: with its cursor, or within a snapshot with the place after this record.
    fn queue(&mut self, update: impl FnOnce(Option<Cursor>) -> Update, after: Option<&RecordId>) {
        let cursor = self.cursor(self.position);
        let Some(after) = after.map(RecordId::to_string) else {
            return self.push(update(Some(cursor)));
        };
        let part = (update(None), Resume { cursor, after });
        self.events.push_back(Event::InSnapshot(Box::new(part)));
    }

    /// Queues the selected changes in folded pages, and moves to the position after the last change. Within a snapshot, these
    /// come after the piece that ends with the record `after`.
    pub(super) fn queue_changes(
        &mut self,
        changes: &[Arc<Change>],
        rows: &HashMap<RecordId, Option<Record>>,
        is_selected: impl Fn(&Change) -> bool,
        after: Option<&RecordId>,
    ) -> Result<(), UnknownMembership> {
        let (mut meter, mut page) = (PageMeter::new(MESSAGE), FoldedChanges::default());
        for change in changes {
            let on_topic = self.topic().id.clone().is_none_or(|id| change.key.id == id);
            let is_wanted = on_topic && is_selected(change);
            let folded = if is_wanted {
                self.folded(change, rows)?
            } else {
                None
            };
            if let Some(folded) = folded {
                let bytes = size_of_change(&folded);
                if !meter.take(bytes) {
                    let changes = std::mem::take(&mut page).changes;
                    self.queue(|cursor| Update::Changes { changes, cursor }, after);
                    meter = PageMeter::new(MESSAGE);
                    meter.take(bytes);
                }
                page.push(folded);
            }
            self.position = change.position;
        }
        if !page.changes.is_empty() {
            let changes = page.changes;
            self.queue(|cursor| Update::Changes { changes, cursor }, after);
        }
        Ok(())
    }

    /// The change as the subscriber sees it, with its missing values if it needs them. `None` if it sees nothing of it.
    fn folded(
        &self,
        change: &Change,
        rows: &HashMap<RecordId, Option<Record>>,
    ) -> Result<Option<FoldedChange>, UnknownMembership> {
        let (change, action) = self.seen(change, rows);
        let view = action?.and_then(|action| change.view_as(action, &self.grant));
        Ok(view.map(|view| FoldedChange::of(&view, &self.grant)))
    }

    /// The change with its missing values if the subscriber needs them, and what it does to the records that match.
    pub(super) fn seen<'a>(
        &self,
        change: &'a Change,
        rows: &HashMap<RecordId, Option<Record>>,
    ) -> (Cow<'a, Change>, Result<Option<Action>, UnknownMembership>) {
        if !self.fill.includes(change, &self.collection) {
            return (Cow::Borrowed(change), change.visible_action(&self.grant));
        }
        let row = rows.get(&change.key.id).and_then(Option::as_ref);
        match change.filled(row, &self.grant) {
            Ok(Some((filled, action))) => (Cow::Owned(filled), Ok(Some(action))),
            Ok(None) => (Cow::Borrowed(change), Ok(None)),
            Err(unknown) => (Cow::Borrowed(change), Err(unknown)),
        }
    }

    /// Queues records of a snapshot from which no other can go on, in parts that fit a message. The last part ends the snapshot, or none
    /// does.
    pub(super) fn queue_piece(&mut self, records: Vec<Record>, is_last: bool) {
        let grant = Arc::clone(&self.grant);
        let records = records.into_iter();
        let (full, records) = split(
            records.map(|record| record_as_seen(record, &grant)),
            size_of_record,
        );
        for records in full {
            let cursor = None;
            self.push(Update::Snapshot { records, cursor });
        }
        let cursor = is_last.then(|| self.cursor(self.position));
        if is_last || !records.is_empty() {
            self.push(Update::Snapshot { records, cursor });
        }
    }
}

/// The record with the fields that the holder of this grant may read.
fn record_as_seen(record: Record, grant: &Grant) -> Record {
    let fields = grant.view.project_fields(&record.fields);
    Record { fields, ..record }
}
