//! The plain feed: one JSON message per change, in a format that the app chooses.

use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use crate::model::change::{Action, FoldedChange};
use crate::model::record::{Fields, RecordId};
use crate::schema::change_view::ChangeView;
use crate::schema::grant::Grant;

/// A change, as the closure of a plain feed receives it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct FeedChange {
    /// What the change does to the record.
    pub action: Action,
    /// The id of the record.
    pub id: RecordId,
    /// The fields of the record after the change that the subscriber may read, and the id. After a delete: the last
    /// values before it, or only the id if these are unknown.
    pub record: Fields,
}

/// The plain feed of a collection.
#[derive(Clone)]
pub(crate) struct Feed {
    format: Arc<dyn Fn(&FeedChange) -> Value + Send + Sync>,
}

impl Feed {
    pub(crate) fn new(format: impl Fn(&FeedChange) -> Value + Send + Sync + 'static) -> Self {
        Self {
            format: Arc::new(format),
        }
    }

    /// The message for a live change.
    pub(crate) fn message(&self, view: &ChangeView<'_>, grant: &Grant) -> String {
        self.folded_message(&FoldedChange::of(view, grant), grant)
    }

    /// The message for a folded change.
    pub(crate) fn folded_message(&self, change: &FoldedChange, grant: &Grant) -> String {
        let record = grant.view.project(change.id.clone(), &change.record);
        (self.format)(&FeedChange {
            action: change.action,
            id: change.id.clone(),
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
