//! Topics: what a subscriber can subscribe to.

use std::fmt;
use std::sync::Arc;

use crate::model::record::{RecordId, RecordKey};

/// What a subscriber can subscribe to: a collection (`users`), or one record of it (`users/1`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Topic {
    /// The name of the collection.
    pub collection: Arc<str>,
    /// The id of the record. `None` for all records of the collection.
    pub id: Option<RecordId>,
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.id.clone() {
            Some(id) => write!(f, "{}/{id}", self.collection),
            None => f.write_str(&self.collection),
        }
    }
}

impl From<&str> for Topic {
    /// All records of the collection with this name.
    fn from(collection: &str) -> Self {
        Self {
            collection: collection.into(),
            id: None,
        }
    }
}

impl From<RecordKey> for Topic {
    fn from(RecordKey { collection, id }: RecordKey) -> Self {
        Self {
            collection,
            id: Some(id),
        }
    }
}

impl<I: Into<RecordId>> From<(&str, I)> for Topic {
    fn from(key: (&str, I)) -> Self {
        RecordKey::from(key).into()
    }
}
