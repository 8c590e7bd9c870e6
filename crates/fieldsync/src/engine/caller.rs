//! The engine on behalf of a principal.

use std::sync::Arc;
use std::time::Instant;

use crate::engine::engine::{Engine, ProposedEdit};
use crate::engine::narrowed_read::read_narrowed;
use crate::engine::pages::Pages;
use crate::engine::permissions::{Permissions, RecordView};
use crate::engine::usage::{OpenConnection, Refused};
use crate::error::EngineError;
use crate::live::since::Since;
use crate::live::subscription::Subscription;
use crate::live::validity::Validity;
use crate::model::access::Access;
use crate::model::cursor::Cursor;
use crate::model::edit::Edit;
use crate::model::field_errors::FieldErrors;
use crate::model::principal::Principal;
use crate::model::query::Query;
use crate::model::record::{Fields, RecordId, RecordKey, json_size};
use crate::model::refusal::Refusal;
use crate::model::topic::Topic;
use crate::schema::collection::Collection;
use crate::schema::grant::Grant;
use crate::schema::sorting::SortKey;
use crate::store::error::StoreError;
use crate::store::page::{PageLimit, PageMeter};

/// The maximum size of a page, as JSON without its brackets.
pub(crate) const MAX_PAGE_BYTES: usize = 1024 * 1024 - 1;

/// The engine on behalf of a principal. Records are [`Fields`] with the id, as far as the principal may read them.
#[derive(Debug)]
pub struct Caller<'a> {
    engine: &'a Engine,
    principal: Principal,
}

/// A page of records as a principal sees them.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Page {
    /// The records in the order of their ids, each with the fields that the principal may read.
    pub records: Vec<Fields>,
    /// The position in the log at which the records were read.
    pub cursor: Cursor,
    /// The id after which the next page starts. `None` on the last page.
    pub next: Option<RecordId>,
}

/// A page, and where the next one begins.
#[derive(Debug)]
pub(crate) struct PageRead {
    pub(crate) records: Vec<Fields>,
    pub(crate) cursor: Cursor,
    pub(crate) next: Option<Next>,
}

/// Where the next page begins.
#[derive(Debug)]
pub(crate) enum Next {
    /// After the last record of this one.
    AfterRecord(SortKey),
    /// After a record that may be hidden: looking further took too long.
    After(SortKey),
}

fn too_slow(message: &str) -> EngineError {
    StoreError::Unavailable(message.into()).into()
}

impl Engine {
    /// The engine on behalf of a principal: records that the principal may not read do not exist, and edits that it may
    /// not make are refused.
    #[must_use]
    pub fn on_behalf_of(&self, principal: Principal) -> Caller<'_> {
        Caller {
            engine: self,
            principal,
        }
    }

    /// The topic with this name, and its collection. Only who may know of the collection learns that a query is malformed.
    pub(crate) fn find_topic(
        &self,
        name: &str,
    ) -> Option<(Arc<Collection>, Result<Topic, FieldErrors>)> {
        let (name, query) = name.split_once('?').unwrap_or((name, ""));
        let (collection, id) = match name.split_once('/') {
            Some((collection, id)) => (collection, Some(id)),
            None => (name, None),
        };
        let collection = self.collections().get(collection)?;
        let id = match id {
            Some(id) => Some(collection.parse_id(id)?),
            None => None,
        };
        let topic = Topic {
            id,
            ..Topic::of(Arc::clone(collection.name()))
        };
        let query = Query::read(query, &[]);
        let topic = query.map(|query| topic.with_query(query));
        Some((Arc::clone(collection), topic))
    }
}

impl Caller<'_> {
    /// Reads a record.
    ///
    /// # Errors
    /// When the collection or the record does not exist or the principal may not read it (the two can't be told apart), when
    /// access is denied, or when the store fails.
    pub async fn get(&self, key: impl Into<RecordKey>) -> Result<RecordView, EngineError> {
        let key = key.into();
        let permissions = self.permissions(Access::Read, &key.collection).await?;
        self.read(key, &permissions.collection, &permissions.read)
            .await
    }

    pub(crate) async fn read(
        &self,
        key: RecordKey,
        collection: &Collection,
        grant: &Grant,
    ) -> Result<RecordView, EngineError> {
        if !collection.has_id_kind(&key.id) {
            return Err(Refusal::NotFound(key).into());
        }
        let (record, position) =
            read_narrowed(&**self.engine.store(), &key, collection, grant).await?;
        let record = record
            .filter(|record| grant.shows(record))
            .ok_or_else(|| Refusal::NotFound(key.clone()))?;
        let cursor = Cursor {
            position,
            shape: collection.shape(grant),
        };
        Ok(RecordView {
            id: key.id,
            record: Some(grant.view.project(record.id, &record.fields)),
            cursor,
        })
    }

    /// Reads at most `limit` records in the order of their ids, starting after the id `after`. A page ends before it has more
    /// than 1 MiB of JSON, but has at least one record if any is left.
    ///
    /// # Errors
    /// When the collection does not exist or the principal may not read it, or when the store fails.
    pub async fn list(
        &self,
        collection: &str,
        after: Option<RecordId>,
        limit: usize,
    ) -> Result<Page, EngineError> {
        let permissions = self.permissions(Access::Read, collection).await?;
        let collection = &permissions.collection;
        collection.check_after(after.as_ref())?;
        let read = self.page(
            after.map(SortKey::from),
            limit,
            collection,
            &permissions.read,
            usize::MAX,
        );
        let PageRead {
            records,
            cursor,
            next,
        } = read.await?;
        let next = match next {
            Some(Next::AfterRecord(key)) => Some(key.id),
            Some(Next::After(_)) => return Err(too_slow("the list took too long")),
            None => None,
        };
        Ok(Page {
            records,
            cursor,
            next,
        })
    }

    /// Reads a page of the records that the grant shows, in the order of its query. It ends when it is full, and when so many records were
    /// read.
    pub(crate) async fn page(
        &self,
        after: Option<SortKey>,
        limit: usize,
        collection: &Collection,
        grant: &Grant,
        max_read: usize,
    ) -> Result<PageRead, EngineError> {
        let limit = PageLimit {
            rows: limit,
            bytes: MAX_PAGE_BYTES,
        };
        let pages = Pages::of(self.engine, collection, grant, after, limit);
        let mut pages = pages.up_to(max_read);
        let (mut meter, mut records, mut last) = (PageMeter::new(limit), Vec::new(), None);
        let mut position = None;
        // The page is filled: how many records are hidden between two visible ones must not show.
        while let Some(read) = pages.next().await? {
            // Later records are as they were at the first read, or newer: the first cursor misses nothing.
            position.get_or_insert(read.head);
            for record in read.records.iter().filter(|record| grant.shows(record)) {
                let visible = grant.view.project(record.id.clone(), &record.fields);
                // With the comma.
                if limit.rows == 0 || !meter.take(json_size(&visible) + 1) {
                    break;
                }
                records.push(visible);
                last = Some(grant.place_of(record));
            }
            if meter.is_full() || records.len() >= limit.rows || pages.is_spent() {
                break;
            }
        }
        let is_full = meter.is_full() || records.len() >= limit.rows;
        let next = match last {
            last if is_full => last
                .filter(|_| meter.is_full() || pages.has_more())
                .map(Next::AfterRecord),
            _ => pages
                .place()
                .filter(|_| pages.has_more())
                .cloned()
                .map(Next::After),
        };
        Ok(PageRead {
            records,
            cursor: Cursor {
                position: position.expect("there is a first page"),
                shape: collection.shape(grant),
            },
            next,
        })
    }

    /// The number of records that this grant shows.
    pub(crate) async fn count(
        &self,
        collection: &Collection,
        grant: &Grant,
    ) -> Result<usize, EngineError> {
        let limit = PageLimit {
            rows: 1000,
            bytes: MAX_PAGE_BYTES,
        };
        let mut pages = Pages::of(self.engine, collection, grant, None, limit);
        let mut count = 0;
        while let Some(page) = pages.next().await? {
            let shown = page.records.iter().filter(|record| grant.shows(record));
            count += shown.count();
            if pages.is_out_of_time() && pages.has_more() {
                return Err(too_slow(
                    "counting took too long: ask without Prefer: count=exact",
                ));
            }
        }
        Ok(count)
    }

    /// Applies several edits as a whole or not at all, and returns each record as the principal sees it afterwards.
    ///
    /// Dropping the future does not cancel the edits: they are committed, or not, as a whole.
    ///
    /// # Errors
    /// When an edit is refused, and the others with it, when the store fails, or when the engine is stopping.
    pub async fn transaction(&self, edits: Vec<Edit>) -> Result<Vec<RecordView>, EngineError> {
        self.engine.check_ready()?;
        let edits = edits.into_iter().map(ProposedEdit::from).collect();
        self.write(edits, Instant::now()).await
    }

    /// [`Engine::write`] for this principal.
    pub(crate) async fn write(
        &self,
        edits: Vec<ProposedEdit>,
        arrived: Instant,
    ) -> Result<Vec<RecordView>, EngineError> {
        let project = |permissions: &Permissions, outcome| permissions.project(&outcome);
        self.engine
            .write(Some(&self.principal), edits, arrived, project)
            .await
    }

    /// Subscribes to a collection or to one record: a snapshot first, or what has changed since a cursor, then every
    /// change. The snapshot of a record that does not exist is empty, and the subscriber receives the record when it is
    /// created.
    ///
    /// # Errors
    /// When the collection does not exist or the principal may not read it, or the topic's id is of another kind than the
    /// collection's ids.
    pub async fn subscribe(
        &self,
        topic: impl Into<Topic>,
        since: Option<Cursor>,
    ) -> Result<Subscription, EngineError> {
        self.open(topic.into(), since.into()).await
    }

    pub(crate) async fn open(
        &self,
        topic: Topic,
        since: Since,
    ) -> Result<Subscription, EngineError> {
        let permissions = self.permissions(Access::Read, &topic.collection).await?;
        let opened = self.engine.open(topic, since, &permissions)?;
        Ok(opened.until(self.validity()))
    }

    /// Opens a connection of this principal, unless there are too many.
    pub(crate) fn connect(&self) -> Result<OpenConnection, Refused> {
        self.engine.usage().connect(&self.principal)
    }

    /// Refuses what this principal asks to write, if it may make no edit now.
    pub(crate) fn check_allowance(&self) -> Result<(), EngineError> {
        Ok(self.engine.usage().check(&self.principal)?)
    }

    /// The validity of this principal, from now on.
    pub(crate) fn validity(&self) -> Validity {
        self.engine.validity_of(&self.principal)
    }

    /// [`Engine::permissions`] of this principal, unless too many wait for theirs.
    pub(crate) async fn permissions(
        &self,
        access: Access,
        collection: &str,
    ) -> Result<Permissions, EngineError> {
        let _open = self.engine.asks().try_open(collection)?;
        self.engine
            .permissions(Some(&self.principal), access, collection)
            .await
    }
}
