//! Pages of a collection's log, as the subscribers of a node read them: those that read the same at about the same time share one read.
//! After a connection was lost, thousands come back at once and have missed the same.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::metrics;
use crate::model::change::Change;
use crate::model::changes_since::ChangesSince;
use crate::model::cursor::Position;
use crate::schema::collection::Collection;
use crate::store::error::StoreError;
use crate::store::read_changes::{LogPage, SUBSCRIBER_PAGE, read_changes};
use crate::store::store::Store;

/// How long a page is kept after it was last of use: while those that were cut off together come back.
const MAX_AGE: Duration = Duration::from_secs(2);

/// The most pages of a collection that are kept.
const MAX_PAGES: usize = 8;

/// The pages of one collection that were read a moment ago, and those that are being read.
#[derive(Debug, Default)]
pub(crate) struct LogPages {
    state: Mutex<State>,
    /// How often the store was read for subscribers, of all collections.
    reads: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct State {
    kept: VecDeque<Kept>,
    /// The positions from which pages are being read.
    reading: Vec<(Position, watch::Receiver<()>)>,
}

#[derive(Debug)]
struct Kept {
    since: Position,
    changes: Vec<Arc<Change>>,
    more: bool,
    used_at: Instant,
}

impl Kept {
    /// The changes after a position. `None` if the page does not have them, may lack some up to another one, or is of a log that does not
    /// have that.
    fn after(&self, position: Position, up_to: Position) -> Option<LogPage> {
        let index = position.offset.checked_sub(self.since.offset)?;
        let index = usize::try_from(index).ok()?;
        let known = match index.checked_sub(1) {
            None => self.since,
            Some(before) => self.changes.get(before)?.position,
        };
        let last = self.changes.last().map_or(self.since, |last| last.position);
        let mut changes = self.changes.iter().map(|change| change.position);
        let same = changes.find(|position| position.offset == up_to.offset);
        if position.offset > up_to.offset || same.is_some_and(|same| same != up_to) {
            return None;
        }
        let changes = self.changes.get(index..)?;
        let is_enough = if self.more {
            !changes.is_empty()
        } else {
            last.offset >= up_to.offset
        };
        (known == position && is_enough).then(|| LogPage::Changes {
            changes: changes.to_vec(),
            more: self.more,
        })
    }
}

impl LogPages {
    /// Pages whose reads are counted here.
    pub(crate) fn counted_by(reads: Arc<AtomicU64>) -> Self {
        let state = Mutex::default();
        Self { state, reads }
    }

    /// Counts a read of the store for a subscriber.
    pub(crate) fn count_read(&self, collection: &Arc<str>) {
        self.reads.fetch_add(1, Ordering::Relaxed);
        metrics::read_for_subscribers(collection);
    }

    /// Reads the changes after a position: at least those up to another one, or a full page.
    pub(crate) async fn read(
        &self,
        store: &dyn Store,
        collection: &Collection,
        position: Position,
        up_to: Position,
    ) -> Result<LogPage, StoreError> {
        let reading = loop {
            match self.find(position, up_to) {
                Found::Page(page) => return Ok(page),
                Found::Reading(reading) => break reading,
                // It ends when its reader has the page, has failed, or is gone: its sender is dropped.
                Found::InProgress(mut ended) => drop(ended.changed().await),
            }
        };
        self.count_read(collection.name());
        let page = read_changes(store, collection, position, SUBSCRIBER_PAGE).await?;
        let (changes, more) = match page {
            ChangesSince::OutOfRange(reason) => return Ok(LogPage::OutOfRange(reason)),
            ChangesSince::Changes { changes, more } => (changes, more),
        };
        let changes: Vec<_> = changes.into_iter().map(Arc::new).collect();
        let mut state = self.lock();
        state.kept.truncate(MAX_PAGES - 1);
        state.kept.push_front(Kept {
            since: position,
            changes: changes.clone(),
            more,
            used_at: Instant::now(),
        });
        drop(state);
        drop(reading);
        Ok(LogPage::Changes { changes, more })
    }

    fn find(&self, position: Position, up_to: Position) -> Found<'_> {
        let mut state = self.lock();
        state.kept.retain(|page| page.used_at.elapsed() < MAX_AGE);
        for kept in &mut state.kept {
            if let Some(page) = kept.after(position, up_to) {
                kept.used_at = Instant::now();
                return Found::Page(page);
            }
        }
        let mut reading = state.reading.iter();
        if let Some((_, ended)) = reading.find(|(since, _)| may_have(*since, position)) {
            return Found::InProgress(ended.clone());
        }
        let (sender, ended) = watch::channel(());
        state.reading.push((position, ended));
        Found::Reading(Reading {
            pages: self,
            sender,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a page that is read from the first position may have what follows the second.
fn may_have(since: Position, position: Position) -> bool {
    let distance = position.offset.checked_sub(since.offset);
    since.epoch == position.epoch
        && distance.is_some_and(|distance| distance < SUBSCRIBER_PAGE.rows as u64)
}

/// Where a page is to be found.
enum Found<'a> {
    Page(LogPage),
    /// Another subscriber reads a page that may have it. The channel closes when that has ended.
    InProgress(watch::Receiver<()>),
    /// It is to be read: others wait until this is dropped.
    Reading(Reading<'a>),
}

/// The reading of a page.
struct Reading<'a> {
    pages: &'a LogPages,
    sender: watch::Sender<()>,
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        let mut state = self.pages.lock();
        let is_another = |(_, ended): &(Position, watch::Receiver<()>)| {
            !self.sender.subscribe().same_channel(ended)
        };
        state.reading.retain(is_another);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;
    use serde_json::json;

    use super::*;
    use crate::engine::engine::Engine;
    use crate::model::edit::Edit;
    use crate::store::memory::MemoryStore;

    /// An engine with a log of this many changes, and the position before them.
    async fn engine(changes: usize) -> (Engine, Position) {
        let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}});
        let notes = Collection::from_schema("notes", &schema).open_to_everyone();
        let builder = Engine::builder()
            .collection(notes)
            .store(MemoryStore::new());
        let engine = builder.start().await.unwrap();
        let start = engine.hub("notes").head();
        write(&engine, changes).await;
        (engine, start)
    }

    async fn write(engine: &Engine, changes: usize) {
        for _ in 0..changes {
            let edit = Edit::create("notes", json!({"n": 1}));
            engine.transaction(vec![edit]).await.unwrap();
        }
    }

    /// The position in the log with this offset.
    async fn at(engine: &Engine, offset: u64) -> Position {
        let head = engine.hub("notes").head();
        let start = Position {
            offset: 0,
            tag: 0,
            ..head
        };
        let all = crate::store::page::PageLimit {
            rows: 1000,
            bytes: 1 << 20,
        };
        match engine.store().changes("notes", start, all).await.unwrap() {
            ChangesSince::Changes { changes, .. } if offset > 0 => {
                changes[offset as usize - 1].position
            }
            _ => start,
        }
    }

    async fn read(
        engine: &Engine,
        pages: &LogPages,
        position: Position,
        up_to: u64,
    ) -> (Vec<Arc<Change>>, bool) {
        let up_to = at(engine, up_to).await;
        let collection = engine.known_collection("notes").unwrap();
        let read = pages.read(&**engine.store(), &collection, position, up_to);
        match read.await.unwrap() {
            LogPage::Changes { changes, more } => (changes, more),
            LogPage::OutOfRange(reason) => panic!("{reason}"),
        }
    }

    #[tokio::test]
    async fn those_that_missed_the_same_share_one_read() {
        let (engine, start) = engine(700).await;
        let pages = LogPages::default();
        let (first, more) = read(&engine, &pages, start, 700).await;
        assert!(first.len() == SUBSCRIBER_PAGE.rows && more);
        let behind = first[..100].iter().map(|change| change.position);
        let reads: Vec<_> = behind.collect();
        let reads = reads
            .iter()
            .map(|position| read(&engine, &pages, *position, 700));
        for (number, (changes, more)) in join_all(reads).await.into_iter().enumerate() {
            assert!(more && Arc::ptr_eq(&changes[0], &first[number + 1]));
            assert_eq!(changes.len(), first.len() - number - 1);
        }
        // The next page is another one, and read once by those that ask together.
        let end = first.last().unwrap().position;
        let others = LogPages::default();
        let together = (0..20).map(|_| read(&engine, &others, end, 700));
        let together = join_all(together).await;
        let (last, more) = &together[0];
        assert!(last.len() == 700 - SUBSCRIBER_PAGE.rows && !more);
        for (changes, _) in &together {
            assert!(Arc::ptr_eq(&changes[0], &last[0]));
        }
    }

    #[tokio::test]
    async fn a_page_is_not_for_those_that_need_more_than_it_has() {
        let (engine, start) = engine(3).await;
        let pages = LogPages::default();
        assert_eq!(read(&engine, &pages, start, 0).await.0.len(), 3);
        write(&engine, 2).await;
        assert_eq!(read(&engine, &pages, start, 3).await.0.len(), 3);
        // The log was replaced since, by one that has another change there.
        let head = at(&engine, 3).await;
        let other = Position {
            tag: head.tag ^ 1,
            ..head
        };
        assert!(matches!(pages.find(start, other), Found::Reading(_)));
        let shorter = at(&engine, 1).await;
        let position = at(&engine, 2).await;
        assert!(matches!(pages.find(position, shorter), Found::Reading(_)));
        assert_eq!(read(&engine, &pages, start, 4).await.0.len(), 5);
    }

    #[tokio::test]
    async fn a_page_is_not_for_a_position_of_another_log() {
        let (engine, start) = engine(3).await;
        let pages = LogPages::default();
        let (changes, _) = read(&engine, &pages, start, 3).await;
        let collection = engine.known_collection("notes").unwrap();
        let position = changes[0].position;
        for other in [
            Position {
                tag: position.tag ^ 1,
                ..position
            },
            Position {
                epoch: position.epoch ^ 1,
                ..position
            },
        ] {
            let up_to = at(&engine, 3).await;
            let read = pages.read(&**engine.store(), &collection, other, up_to);
            let read = read.await;
            assert!(matches!(read, Ok(LogPage::OutOfRange(_))), "{other:?}");
        }
    }

    #[tokio::test]
    async fn a_reader_that_is_gone_holds_up_nobody() {
        let (engine, start) = engine(3).await;
        let pages = LogPages::default();
        let Found::Reading(gone) = pages.find(start, at(&engine, 3).await) else {
            panic!("nobody reads")
        };
        let waiting = read(&engine, &pages, start, 3);
        let (waited, ()) = tokio::join!(waiting, async { drop(gone) });
        assert_eq!(waited.0.len(), 3);
    }
}
