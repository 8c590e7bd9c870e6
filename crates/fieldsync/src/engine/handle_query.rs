//! The records of a collection that match a filter, for the app's own code.

use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::engine::caller::MAX_PAGE_BYTES;
use crate::engine::collection_handle::CollectionHandle;
use crate::engine::pages::Pages;
use crate::error::EngineError;
use crate::live::subscription::Subscription;
use crate::model::cursor::Cursor;
use crate::model::filter::Filter;
use crate::model::order::Order;
use crate::model::record::{RecordId, Stored};
use crate::model::refusal::Refusal;
use crate::model::topic::Topic;
use crate::schema::grant::Grant;
use crate::schema::sorting::SortKey;
use crate::store::page::PageLimit;

/// The records of a collection that match, from [`CollectionHandle::query`].
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use fieldsync::{Collection, Engine, Filter, MemoryStore};
/// # #[derive(Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
/// # #[serde(default)]
/// # struct Task { project_id: i64, title: String }
/// # let engine = Engine::builder()
/// #     .collection(Collection::of::<Task>("tasks").open_to_everyone())
/// #     .store(MemoryStore::new())
/// #     .start()
/// #     .await?;
/// let tasks = engine.collection::<Task>("tasks");
/// tasks.create(Task { project_id: 5, title: "write".into() }).await?;
///
/// let of_project = tasks.query().filter(Filter::eq("project_id", 5));
/// assert_eq!(of_project.list(None, 10).await?.len(), 1);
/// let updates = of_project.subscribe(None).await?;
/// # Ok(())
/// # }
/// ```
pub struct HandleQuery<T> {
    handle: CollectionHandle<T>,
    topic: Topic,
}

impl<T> CollectionHandle<T> {
    /// All records, to be narrowed by filters.
    #[must_use]
    pub fn query(&self) -> HandleQuery<T> {
        HandleQuery {
            handle: self.clone(),
            topic: Topic::of(Arc::clone(self.name())),
        }
    }
}

impl<T: DeserializeOwned> CollectionHandle<T> {
    /// Reads at most `limit` records in the order of their ids, starting after the id `after`. A record that does not fit the type is
    /// left out, and logged.
    ///
    /// # Errors
    /// When the collection is unknown, `after` is of another kind than its ids, or the store fails.
    pub async fn list(
        &self,
        after: Option<RecordId>,
        limit: usize,
    ) -> Result<Vec<Stored<T>>, EngineError> {
        self.query().list(after, limit).await
    }
}

impl<T> HandleQuery<T> {
    /// Only the records that match. A filter that was given before must match as well.
    #[must_use]
    pub fn filter(self, filter: Filter) -> Self {
        let topic = self.topic.filter(filter);
        Self { topic, ..self }
    }

    /// The order of a list or a [window](Self::window). After an order that was given before, this one is for records that are equal under
    /// that.
    #[must_use]
    pub fn order_by(self, order: Order) -> Self {
        let topic = self.topic.order_by(order);
        Self { topic, ..self }
    }

    /// Subscribes to the first records under the order alone, this many: from 1 to 1000.
    #[must_use]
    pub fn window(self, records: usize) -> Self {
        let topic = self.topic.window(records);
        Self { topic, ..self }
    }

    /// Subscribes to the records that match: a snapshot first, or what has changed since a cursor, then every change.
    ///
    /// # Errors
    /// When the collection is unknown, or the filter, the order or the window does not fit it.
    pub async fn subscribe(&self, since: Option<Cursor>) -> Result<Subscription, EngineError> {
        let topic = self.topic.clone();
        self.handle.engine().subscribe(topic, since).await
    }
}

impl<T: DeserializeOwned> HandleQuery<T> {
    /// Reads at most `limit` of the records that match, in the order that was asked for or that of their ids, starting after the id `after`.
    /// A record that does not fit the type is left out, and logged.
    ///
    /// # Errors
    /// When the collection is unknown, the filter or the order does not fit it, `after` is of another kind than its ids or given with an
    /// order, or the store fails.
    pub async fn list(
        &self,
        after: Option<RecordId>,
        limit: usize,
    ) -> Result<Vec<Stored<T>>, EngineError> {
        let (engine, name) = (self.handle.engine(), self.handle.name());
        let collection = engine.known_collection(name)?;
        collection.check_after(after.as_ref())?;
        if after.is_some() && !self.topic.query.order.is_empty() {
            let message = "after: a list with an order begins at its first record";
            return Err(Refusal::Malformed(message.into()).into());
        }
        let matching = Grant::full().narrowed(&self.topic.query, &collection);
        let matching = matching.map_err(Refusal::BadQuery)?;
        let page = PageLimit {
            rows: limit,
            bytes: MAX_PAGE_BYTES,
        };
        let after = after.map(SortKey::from);
        let mut pages = Pages::of(engine, &collection, &matching, after, page);
        let mut records = Vec::new();
        while records.len() < limit
            && let Some(page) = pages.next().await?
        {
            for record in page.records {
                if records.len() >= limit || !matching.shows(&record) {
                    continue;
                }
                match self.handle.typed(record) {
                    Ok(record) => records.push(record),
                    Err(EngineError::Unreadable { key, source }) => {
                        tracing::warn!(%key, error = %source, "a record does not fit its type, and is left out of a list");
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(records)
    }
}

impl<T> Clone for HandleQuery<T> {
    fn clone(&self) -> Self {
        Self {
            handle: self.handle.clone(),
            topic: self.topic.clone(),
        }
    }
}

impl<T> fmt::Debug for HandleQuery<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HandleQuery").field(&self.topic).finish()
    }
}
