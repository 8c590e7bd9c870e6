//! Fills mirrors: with the records of their collections, and then with what changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::live::looks::Looks;
use crate::live::mirror::Reflection;
use crate::model::change::{Action, Change};
use crate::model::cursor::Position;
use crate::model::record::Record;
use crate::schema::collection::Collection;
use crate::store::error::StoreError;
use crate::store::listing::Listing;
use crate::store::page::PageLimit;
use crate::store::read_changes::HUB_PAGE;
use crate::store::store::Store;

/// How much of a table is read at a time.
const PAGE: PageLimit = HUB_PAGE;

/// The mirrors of an engine.
#[derive(Debug, Default)]
pub(crate) struct Mirrors(Vec<Arc<dyn Reflection>>);

impl Mirrors {
    pub(crate) fn new(mirrors: Vec<Arc<dyn Reflection>>, looks: &Arc<Looks>) -> Self {
        mirrors.iter().for_each(|mirror| mirror.follow(looks));
        Self(mirrors)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether there is a mirror of this collection.
    pub(crate) fn include(&self, collection: &str) -> bool {
        self.of(collection).next().is_some()
    }

    fn of<'a>(&'a self, collection: &'a str) -> impl Iterator<Item = &'a Arc<dyn Reflection>> {
        let mirrors = self.0.iter();
        mirrors.filter(move |mirror| **mirror.collection() == *collection)
    }

    /// Whether others may write to the table of one.
    pub(crate) fn may_be_captured(
        &self,
        collections: &BTreeMap<Arc<str>, Arc<Collection>>,
    ) -> bool {
        let collections = self
            .0
            .iter()
            .filter_map(|one| collections.get(one.collection()));
        collections.into_iter().any(|one| one.may_be_captured())
    }

    /// Fills all, and returns up to where each has the changes of its log at least.
    pub(crate) async fn fill_all(
        &self,
        store: &dyn Store,
        collections: &BTreeMap<Arc<str>, Arc<Collection>>,
    ) -> Result<BTreeMap<Arc<str>, Position>, StoreError> {
        let mut filled = BTreeMap::new();
        for mirror in &self.0 {
            let name = mirror.collection();
            let collection = collections.get(name).expect("the builder has checked it");
            if !filled.contains_key(name) {
                filled.insert(Arc::clone(name), self.fill(store, collection).await?);
            }
        }
        Ok(filled)
    }

    /// Fills the mirrors of a collection anew. They are up to date when the changes after the position that this returns are applied.
    pub(crate) async fn fill(
        &self,
        store: &dyn Store,
        collection: &Collection,
    ) -> Result<Position, StoreError> {
        let name = collection.name();
        self.of(name).for_each(|mirror| mirror.clear());
        let mut page = store.list(name, &Listing::by_id(None, PAGE)).await?;
        let head = page.head;
        loop {
            let last = page.records.last().map(|record| record.id.clone());
            self.put(collection, &page.records);
            if !page.more {
                return Ok(head);
            }
            page = store.list(name, &Listing::by_id(last, PAGE)).await?;
        }
    }

    /// Applies changes of a log. What they lack is read from the rows, which may be newer.
    pub(crate) async fn apply(
        &self,
        store: &dyn Store,
        collection: &Collection,
        changes: &[Arc<Change>],
    ) -> Result<(), StoreError> {
        let name = collection.name();
        if !self.include(name) {
            return Ok(());
        }
        for change in changes {
            let id = &change.key.id;
            let record = match change.action {
                Action::Delete => None,
                _ if change.is_partial(collection) => store.get(&change.key).await?.0,
                _ => Some(Record {
                    id: id.clone(),
                    fields: change.after.clone(),
                }),
            };
            match record {
                Some(record) => self.put(collection, &[record]),
                None => self.of(name).for_each(|mirror| mirror.remove(id)),
            }
        }
        Ok(())
    }

    fn put(&self, collection: &Collection, records: &[Record]) {
        for mirror in self.of(collection.name()) {
            mirror.put(collection, records);
        }
    }

    /// Notes that all are up to date.
    pub(crate) fn complete(&self) {
        self.0.iter().for_each(|mirror| mirror.complete());
    }
}
