//! What a principal may do with a collection, and what it sees of it.

use std::sync::Arc;

use crate::live::standing::Asked;
use crate::model::cursor::Cursor;
use crate::model::outcome::Outcome;
use crate::model::principal::LimitedBy;
use crate::model::record::{Fields, RecordId};
use crate::schema::collection::Collection;
use crate::schema::grant::Grant;
use crate::schema::view::View;

/// What a principal may do with a collection, and what it sees of it.
#[derive(Debug, Clone)]
pub(crate) struct Permissions {
    pub(crate) collection: Arc<Collection>,
    /// The grant for the access that was asked for.
    pub(crate) access: Grant,
    /// The grant to read. The same as `access` for reading.
    pub(crate) read: Grant,
    /// What streams under the grant to read stand on, if the rule may be asked again.
    pub(crate) asked: Option<Asked>,
    /// Whose turns its subscriptions take. Their own for the app itself.
    pub(crate) limited_by: Option<LimitedBy>,
}

/// A record as a principal sees it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct RecordView {
    /// The id.
    pub id: RecordId,
    /// The fields that the principal may read, and the id. `None` when the record does not exist, or no longer.
    pub record: Option<Fields>,
    /// The position in the log at which the record was in this state. A subscription from here misses nothing.
    pub cursor: Cursor,
}

impl Permissions {
    /// Everything: the permissions of the app itself.
    pub(crate) fn full(collection: Arc<Collection>) -> Self {
        Self {
            collection,
            access: Grant::full(),
            read: Grant::full(),
            asked: None,
            limited_by: None,
        }
    }

    /// Whether the rule would maybe answer otherwise by now.
    pub(crate) fn are_stale(&self) -> bool {
        self.asked.as_ref().is_some_and(Asked::is_stale)
    }

    /// The grant to write that an edit is decided under.
    pub(crate) fn write_grant(&self) -> Grant {
        self.access.clone().readable_under(&self.read)
    }

    /// What the principal sees of an edit's outcome. Of a record that it may not read it sees the id alone.
    pub(crate) fn project(&self, outcome: &Outcome) -> RecordView {
        let id = outcome.id();
        let record = outcome.fields().map(|fields| {
            let is_readable = self.read.rows.is_none()
                || outcome
                    .record()
                    .is_some_and(|record| self.read.shows(&record));
            if is_readable {
                self.read.view.project(id.clone(), fields)
            } else {
                View::only::<String>([]).project(id.clone(), fields)
            }
        });
        RecordView {
            id,
            record,
            cursor: Cursor {
                position: outcome.position(),
                shape: self.collection.shape(&self.read),
            },
        }
    }
}
