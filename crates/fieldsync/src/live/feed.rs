//! The plain feed: one JSON message per change, shaped by the app.

use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use crate::model::change::{Action, FoldedChange};
use crate::model::record::{Fields, RecordId};
use crate::schema::change_view::ChangeView;
use crate::schema::grant::Grant;

/// A change as the plain feed's closure gets it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct FeedChange {
    /// What was done.
    pub action: Action,
    /// The record's id.
    pub id: RecordId,
    /// The whole record as it is now, its id among its fields, as far as the listener may see it. After a delete: as it
    /// was, and its id alone where that is not known.
    pub record: Fields,
}

#[derive(Clone)]
pub(crate) struct Feed {
    shape: Arc<dyn Fn(&FeedChange) -> Value + Send + Sync>,
}

impl Feed {
    pub(crate) fn new(shape: impl Fn(&FeedChange) -> Value + Send + Sync + 'static) -> Self {
        Self {
            shape: Arc::new(shape),
        }
    }

    pub(crate) fn message(&self, seen: &ChangeView<'_>, grant: &Grant) -> String {
        self.folded_message(&FoldedChange::of(seen, grant), grant)
    }

    pub(crate) fn folded_message(&self, change: &FoldedChange, grant: &Grant) -> String {
        let record = grant.view.project(change.id, &change.record);
        (self.shape)(&FeedChange {
            action: change.action,
            id: change.id,
            record,
        })
        .to_string()
    }
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Feed")
    }
}
