//! The engine on behalf of a principal.

use std::sync::Arc;
use std::time::Instant;

use crate::engine::engine::Engine;
use crate::engine::engine::{EDIT_TIME, Inner};
use crate::engine::permissions::{Permissions, RecordView};
use crate::error::EngineError;
use crate::live::subscription::{Since, Subscription};
use crate::model::access::{Access, Denied};
use crate::model::cursor::Cursor;
use crate::model::edit::Edit;
use crate::model::outcome::Outcome;
use crate::model::principal::Principal;
use crate::model::record::{Fields, RecordId, RecordKey};
use crate::model::refusal::Refusal;
use crate::model::topic::Topic;
use crate::schema::collection::Collection;
use crate::schema::grant::{Grant, View};
use crate::write::batch::Group;

/// The engine on behalf of somebody. Records are [`Fields`], the id among them, as far as one may see them.
#[derive(Debug)]
pub struct Caller<'a> {
    pub(crate) engine: &'a Engine,
    /// The app itself without it.
    pub(crate) who: Option<Principal>,
}

/// Records as somebody sees them.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// The records in the order of their ids, each with the fields that one sees.
    pub records: Vec<Fields>,
    /// The place in the log at which they were read.
    pub cursor: Cursor,
    /// The id after which the next page begins; `None` on the last one.
    pub next: Option<RecordId>,
}

impl Caller<'_> {
    /// Reads a record.
    ///
    /// # Errors
    /// When it is not there or not for this principal, both alike, or the store fails.
    pub async fn get(&self, key: impl Into<RecordKey>) -> Result<RecordView, EngineError> {
        let key = key.into();
        let rights = self.rights(Access::Read, &key.collection).await?;
        self.read(key, &rights).await
    }

    pub(crate) async fn read(
        &self,
        key: RecordKey,
        rights: &Permissions,
    ) -> Result<RecordView, EngineError> {
        let grant = &rights.reads;
        let (record, position) = self.engine.inner.store.get(&key).await?;
        let record = record
            .filter(|record| grant.admits(record))
            .ok_or_else(|| Refusal::NotFound(key.clone()))?;
        let cursor = Cursor {
            position,
            shape: rights.collection.shape(grant),
        };
        Ok(RecordView {
            id: key.id,
            record: Some(grant.view.project(record.id, &record.fields)),
            cursor,
        })
    }

    /// Reads records in the order of their ids, from the one after `after`, at most `limit`.
    ///
    /// # Errors
    /// When the collection is unknown or not for this principal, or the store fails.
    pub async fn list(
        &self,
        collection: &str,
        after: Option<RecordId>,
        limit: usize,
    ) -> Result<Page, EngineError> {
        let rights = self.rights(Access::Read, collection).await?;
        self.page(after, limit, &rights).await
    }

    pub(crate) async fn page(
        &self,
        after: Option<RecordId>,
        limit: usize,
        rights: &Permissions,
    ) -> Result<Page, EngineError> {
        let (collection, grant) = (&rights.collection, &rights.reads);
        let store = &self.engine.inner.store;
        // One more than asked for tells whether there is a next page.
        let one_more = limit.saturating_add(1);
        let (mut records, position) = store.list(collection.name(), after, one_more).await?;
        let mut more = records.len() > limit;
        records.truncate(limit);
        // Where all are hidden the next page would have to begin after a hidden one: read on. The first cursor holds.
        while more && !records.iter().any(|record| grant.admits(record)) {
            let after = records.last().map(|last| last.id);
            (records, _) = store.list(collection.name(), after, one_more).await?;
            more = records.len() > limit;
            records.truncate(limit);
        }
        records.retain(|record| grant.admits(record));
        let next = records.last().filter(|_| more).map(|last| last.id);
        let records = records.iter();
        Ok(Page {
            records: records
                .map(|record| grant.view.project(record.id, &record.fields))
                .collect(),
            cursor: Cursor {
                position,
                shape: collection.shape(grant),
            },
            next,
        })
    }

    /// Applies several edits, all or none, and answers with what each record is after it, as far as one may see it.
    ///
    /// Dropping the future does not take the edits back: they are committed, or not, as a whole.
    ///
    /// # Errors
    /// When an edit is refused, and with it all, or the store fails.
    pub async fn transaction(&self, edits: Vec<Edit>) -> Result<Vec<RecordView>, EngineError> {
        let arrived = Instant::now();
        self.check_ready()?;
        let mut allowed = Vec::with_capacity(edits.len());
        for edit in edits {
            let rights = self.rights(edit.access(), edit.collection()).await?;
            allowed.push((edit, rights));
        }
        self.apply(allowed, arrived).await
    }

    /// Applies edits whose rights are known, all or none. The time that they may take counts from their arrival.
    pub(crate) async fn apply(
        &self,
        edits: Vec<(Edit, Permissions)>,
        arrived: Instant,
    ) -> Result<Vec<RecordView>, EngineError> {
        let rights: Vec<Permissions> = edits.iter().map(|(_, rights)| rights.clone()).collect();
        let outcomes = self.commit(edits, arrived).await?;
        let seen = outcomes.iter().zip(&rights);
        Ok(seen.map(|(outcome, rights)| rights.show(outcome)).collect())
    }

    /// Hears of every change of a collection, or of one record: after a snapshot, or after a cursor. A record that does
    /// not exist is an empty snapshot; when it is created later one hears of it.
    ///
    /// # Errors
    /// When the collection is unknown or not for this principal.
    pub async fn subscribe(
        &self,
        topic: impl Into<Topic>,
        since: Option<Cursor>,
    ) -> Result<Subscription, EngineError> {
        self.listen(topic.into(), since.map_or(Since::Snapshot, Since::Cursor))
            .await
    }

    pub(crate) async fn listen(
        &self,
        topic: Topic,
        since: Since,
    ) -> Result<Subscription, EngineError> {
        let rights = self.rights(Access::Read, &topic.collection).await?;
        Ok(self.listen_with(topic, since, &rights))
    }

    pub(crate) fn listen_with(
        &self,
        topic: Topic,
        since: Since,
        rights: &Permissions,
    ) -> Subscription {
        let Inner { hubs, store, .. } = &*self.engine.inner;
        let hub = hubs.of(rights.collection.name());
        let grant = rights.reads.clone();
        Subscription::new(
            topic,
            &rights.collection,
            grant,
            hub,
            Arc::clone(store),
            since,
        )
    }

    /// Whoever comes while the engine drains is turned away; what came before is finished.
    pub(crate) fn check_ready(&self) -> Result<(), EngineError> {
        if self.engine.is_ready() {
            Ok(())
        } else {
            Err(EngineError::Stopping)
        }
    }

    /// The way of every write: authorize, commit (row and change, one transaction), answer. The hub is told by the
    /// committer, right after the transaction.
    pub(crate) async fn commit(
        &self,
        edits: Vec<(Edit, Permissions)>,
        arrived: Instant,
    ) -> Result<Vec<Outcome>, EngineError> {
        let _under_way = self.engine.under_way();
        let edits = edits.into_iter().map(|(edit, rights)| {
            let grant = rights.writes.shown_by(rights.reads);
            (edit, rights.collection, grant)
        });
        let group = Group {
            who: self.who.clone(),
            edits: edits.collect(),
            deadline: arrived + EDIT_TIME,
        };
        self.engine.inner.committer.commit(group).await
    }

    /// Asks the rule what one may do to a collection, and what one sees of it: what a reader sees, or ids alone.
    pub(crate) async fn rights(
        &self,
        access: Access,
        collection: &str,
    ) -> Result<Permissions, EngineError> {
        let (collection, writes) = self.authorize(access, collection).await?;
        if access == Access::Read {
            return Ok(Permissions {
                collection,
                reads: writes.clone(),
                writes,
            });
        }
        let reads = match self.authorize(Access::Read, collection.name()).await {
            Ok((_, reads)) => reads,
            Err(EngineError::Refused(Refusal::Denied(_))) => {
                Grant::full().with_view(View::only::<String>([]))
            }
            Err(error) => return Err(error),
        };
        Ok(Permissions {
            collection,
            writes,
            reads,
        })
    }

    pub(crate) async fn authorize(
        &self,
        access: Access,
        collection: &str,
    ) -> Result<(Arc<Collection>, Grant), EngineError> {
        let collection = self.collection(collection)?;
        let grant = match (&self.who, collection.rule()) {
            (None, _) => Grant::full(),
            (Some(who), Some(rule)) => match rule.authorize(who, access, collection.name()).await {
                Ok(grant) => grant,
                Err(Denied::Hidden) => {
                    return Err(Refusal::NoSuchCollection(Arc::clone(collection.name())).into());
                }
                Err(denied) => return Err(Refusal::Denied(denied).into()),
            },
            (Some(_), None) => return Err(Refusal::Denied(Denied::Forbidden).into()),
        };
        Ok((collection, grant))
    }

    pub(crate) fn collection(&self, name: &str) -> Result<Arc<Collection>, EngineError> {
        let collection = self.engine.inner.collections.get(name);
        collection
            .cloned()
            .ok_or_else(|| Refusal::NoSuchCollection(name.into()).into())
    }
}
