//! A subscriber that keeps the records of a collection.

use std::collections::BTreeMap;
use std::time::Duration;

use fieldsync::{
    Action, Cursor, Engine, Fields, FoldedChange, RecordId, ResetReason, Subscription, Update,
};
use futures_util::StreamExt as _;
use serde_json::Value;
use tokio::time::timeout;

use crate::tasks::within_limit;

pub(crate) struct Window {
    /// `None` while no engine runs.
    engine: Option<Engine>,
    collection: &'static str,
    updates: Subscription,
    pub(crate) records: BTreeMap<RecordId, Fields>,
    pub(crate) resets: Vec<ResetReason>,
    /// The position up to which everything was received.
    pub(crate) cursor: Option<Cursor>,
    /// The records of a snapshot that is not complete.
    pieces: Option<BTreeMap<RecordId, Fields>>,
}

impl Window {
    /// Subscribes, and reads the snapshot.
    pub(crate) async fn open(engine: &Engine, collection: &'static str) -> Self {
        let subscribed = engine
            .collection::<Fields>(collection)
            .subscribe(None)
            .await;
        let mut window = Self {
            engine: Some(engine.clone()),
            collection,
            updates: subscribed.unwrap(),
            records: BTreeMap::new(),
            resets: Vec::new(),
            cursor: None,
            pieces: None,
        };
        window.live().await;
        window
    }

    /// Stops the engine. Nothing of it is left.
    pub(crate) async fn stop(&mut self, engine: Engine) {
        let _report = engine.drain(Duration::from_secs(5)).await;
        self.engine = None;
    }

    /// Comes back with its cursor, to another engine.
    pub(crate) async fn resume(&mut self, engine: &Engine) {
        let handle = engine.collection::<Fields>(self.collection);
        self.updates = handle.subscribe(self.cursor).await.unwrap();
        self.engine = Some(engine.clone());
        self.live().await;
    }

    /// Reads what was missed.
    pub(crate) async fn live(&mut self) {
        while !matches!(self.update().await, Update::Live { .. }) {}
    }

    async fn update(&mut self) -> Update {
        let next = within_limit("an update", self.updates.next()).await;
        let update = next.unwrap();
        match &update {
            Update::Snapshot { records, cursor } => {
                let pieces = self.pieces.get_or_insert_default();
                let records = records.iter().cloned();
                pieces.extend(records.map(|record| (record.id, record.fields)));
                if cursor.is_some() {
                    self.records = self.pieces.take().unwrap();
                    self.cursor = *cursor;
                }
            }
            Update::Change { change, cursor } => {
                self.apply(change);
                self.cursor = Some(*cursor);
            }
            Update::Changes { changes, cursor } => {
                changes.iter().for_each(|change| self.apply(change));
                self.cursor = cursor.or(self.cursor);
            }
            Update::Live { cursor } => self.cursor = Some(*cursor),
            Update::Reset(reason) => {
                self.resets.push(*reason);
                self.pieces = Some(BTreeMap::new());
            }
            _ => {}
        }
        update
    }

    fn apply(&mut self, change: &FoldedChange) {
        let records = self.pieces.as_mut().unwrap_or(&mut self.records);
        match change.action {
            Action::Delete => {
                records.remove(&change.id);
            }
            _ => {
                let record = records.entry(change.id.clone()).or_default();
                record.extend(change.fields.clone());
            }
        }
    }

    /// The next live change: what it does, the id, and the fields that it sets.
    pub(crate) async fn change(&mut self) -> (Action, RecordId, Value) {
        loop {
            match self.update().await {
                Update::Change { change, .. } => {
                    return (change.action, change.id, Value::Object(change.fields));
                }
                Update::Live { .. } => {}
                other => panic!("not a live change: {other:?}"),
            }
        }
    }

    #[track_caller]
    pub(crate) fn expect(
        &mut self,
        action: Action,
        id: i64,
        fields: Value,
    ) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            let change = self.change().await;
            assert_eq!(change, (action, id.into(), fields), "{caller}");
        }
    }

    /// Reads updates until the records equal the table.
    pub(crate) async fn converge(&mut self) {
        loop {
            if self.pieces.is_none() && self.records == self.table().await {
                return;
            }
            self.update().await;
            // A comparison reads the whole table.
            while timeout(Duration::from_millis(20), self.update())
                .await
                .is_ok()
            {}
        }
    }

    pub(crate) async fn table(&self) -> BTreeMap<RecordId, Fields> {
        let engine = self.engine.as_ref().unwrap();
        let handle = engine.collection::<Fields>(self.collection);
        let listed = handle.list(None, usize::MAX >> 1).await.unwrap();
        listed.into_iter().map(|one| (one.id, one.fields)).collect()
    }
}
