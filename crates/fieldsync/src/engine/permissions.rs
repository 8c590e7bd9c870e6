//! What a principal may do to a collection, and what it sees of it.

use std::sync::Arc;

use crate::model::cursor::Cursor;
use crate::model::outcome::Outcome;
use crate::model::record::{Fields, RecordId};
use crate::schema::collection::Collection;
use crate::schema::grant::{Grant, View};

/// What one may do to a collection, and what one sees of it.
#[derive(Debug, Clone)]
pub(crate) struct Permissions {
    pub(crate) collection: Arc<Collection>,
    pub(crate) writes: Grant,
    pub(crate) reads: Grant,
}

impl Permissions {
    /// What one sees of an edit's outcome: of a record that is not for one its id alone.
    pub(crate) fn show(&self, outcome: &Outcome) -> RecordView {
        let id = outcome.id();
        let record = outcome.fields().map(|fields| {
            let is_seen = match &self.reads.rows {
                None => true,
                Some(_) => outcome
                    .record()
                    .is_some_and(|record| self.reads.admits(&record)),
            };
            if is_seen {
                self.reads.view.project(id, fields)
            } else {
                View::only::<String>([]).project(id, fields)
            }
        });
        let position = outcome.position();
        let shape = self.collection.shape(&self.reads);
        RecordView {
            id,
            record,
            cursor: Cursor { position, shape },
        }
    }
}

/// A record as somebody sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordView {
    /// The id.
    pub id: RecordId,
    /// The fields that one sees, the id among them; `None` when there is no record (any more).
    pub record: Option<Fields>,
    /// A place in the log at which this holds: a subscription from here misses nothing.
    pub cursor: Cursor,
}
