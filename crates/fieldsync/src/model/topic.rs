//! Topics: what a subscriber can subscribe to.

use std::fmt;
use std::sync::Arc;

use crate::model::filter::Filter;
use crate::model::order::Order;
use crate::model::query::Query;
use crate::model::record::{RecordId, RecordKey};

/// What a subscriber can subscribe to: a collection (`users`), the records of it that a query asks for
/// (`tasks?project_id=eq.5`), or one record (`users/1`).
///
/// ```
/// use fieldsync::{Filter, Topic};
///
/// let topic = Topic::of("tasks").filter(Filter::eq("project_id", 5)).select(["title", "status"]);
/// assert_eq!(topic.to_string(), "tasks?and=%28project_id.eq.5%29&select=title,status");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Topic {
    /// The name of the collection.
    pub collection: Arc<str>,
    /// The id of the record. `None` for all records of the collection.
    pub id: Option<RecordId>,
    /// Which of them are asked for, and which fields.
    pub(crate) query: Arc<Query>,
}

impl Topic {
    /// All records of the collection with this name.
    pub fn of(collection: impl Into<Arc<str>>) -> Self {
        Self {
            collection: collection.into(),
            id: None,
            query: Arc::default(),
        }
    }

    /// Only the records that match. A filter that was given before must match as well.
    #[must_use]
    pub fn filter(mut self, filter: Filter) -> Self {
        let query = Arc::make_mut(&mut self.query);
        query.filter = Some(match query.filter.take() {
            Some(before) => before.and(filter),
            None => filter,
        });
        self
    }

    /// Only these fields, and the id.
    #[must_use]
    pub fn select<N: Into<String>>(mut self, fields: impl IntoIterator<Item = N>) -> Self {
        let query = Arc::make_mut(&mut self.query);
        query.select = Some(fields.into_iter().map(Into::into).collect());
        self
    }

    /// The order of a [window](Self::window). After an order that was given before, this one is for records that are equal under that.
    #[must_use]
    pub fn order_by(mut self, order: Order) -> Self {
        Arc::make_mut(&mut self.query).order.push(order);
        self
    }

    /// Only the first records under the order, this many: from 1 to 1000. After each update with a cursor the subscriber has these
    /// records and no others.
    #[must_use]
    pub fn window(mut self, records: usize) -> Self {
        Arc::make_mut(&mut self.query).window = Some(records);
        self
    }

    /// What this query asks for.
    pub(crate) fn with_query(self, query: Query) -> Self {
        let query = Arc::new(query);
        Self { query, ..self }
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.collection)?;
        if let Some(id) = &self.id {
            write!(f, "/{id}")?;
        }
        if !self.query.is_empty() {
            write!(f, "?{}", self.query)?;
        }
        Ok(())
    }
}

impl From<&str> for Topic {
    /// All records of the collection with this name.
    fn from(collection: &str) -> Self {
        Self::of(collection)
    }
}

impl From<RecordKey> for Topic {
    fn from(RecordKey { collection, id }: RecordKey) -> Self {
        Self {
            id: Some(id),
            ..Self::of(collection)
        }
    }
}

impl<I: Into<RecordId>> From<(&str, I)> for Topic {
    fn from(key: (&str, I)) -> Self {
        RecordKey::from(key).into()
    }
}
