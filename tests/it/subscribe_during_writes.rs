//! The seam between what was and what comes: 10,000 subscriptions begin while writes run.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fieldsync::{Action, Cursor, Engine, Fields, RecordId, Subscription, Update};
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use tokio::sync::watch;

use crate::app::{App, Thing, on_every_store};

on_every_store!(x_ten_thousand_subscriptions_that_begin_while_writes_run_have_no_gap_and_no_double);

const SUBSCRIPTIONS: usize = 10_000;
/// So many begin at a time.
const AT_ONCE: usize = 200;
const RECORDS: usize = 4;

async fn x_ten_thousand_subscriptions_that_begin_while_writes_run_have_no_gap_and_no_double(
    app: App,
) {
    let engine = app.engine.clone();
    let mut ids = Vec::new();
    for _ in 0..RECORDS {
        ids.push(engine.create("things", Thing::default()).await.unwrap().id);
    }
    let done = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = ids
        .into_iter()
        .map(|id| {
            let (engine, done) = (engine.clone(), Arc::clone(&done));
            tokio::spawn(async move {
                while !done.load(Ordering::Relaxed) {
                    let count = |thing: &mut Thing| thing.count += 1;
                    engine.edit(("things", id), count).await.unwrap();
                    // As fast as people are; a hose in memory would keep all others from the processor.
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            })
        })
        .collect();
    let mut last = Vec::new();
    for _ in 0..SUBSCRIPTIONS / AT_ONCE {
        let subscribers = (0..AT_ONCE).map(|_| tokio::spawn(follow(engine.clone())));
        last = join_all(subscribers).await;
    }
    // The last of them stay until writes stop; then what they hold is the table.
    let table = watch::Sender::new(None);
    let staying: Vec<_> = last
        .into_iter()
        .map(|follower| tokio::spawn(stay(follower.unwrap(), table.subscribe())))
        .collect();
    done.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    let things = engine
        .list::<Fields>("things", None, RECORDS)
        .await
        .unwrap();
    let counts: Counts = things
        .iter()
        .map(|thing| (thing.id, count_of(&thing.fields)))
        .collect();
    table.send_replace(Some(counts));
    for stayed in join_all(staying).await {
        stayed.unwrap();
    }
}

type Counts = BTreeMap<RecordId, i64>;

struct Follower {
    updates: Subscription,
    counts: Counts,
    cursor: Option<Cursor>,
    live: bool,
    /// How many changes were heard live.
    heard: usize,
}

/// Follows from a snapshot over the seam until some changes were heard live, one by one; then from its cursor again.
async fn follow(engine: Engine) -> Follower {
    let mut follower = Follower {
        updates: engine.subscribe("things", None).await.unwrap(),
        counts: Counts::new(),
        cursor: None,
        live: false,
        heard: 0,
    };
    follower.hear(RECORDS).await;
    follower.updates = engine.subscribe("things", follower.cursor).await.unwrap();
    follower.live = false;
    follower.hear(2 * RECORDS).await;
    follower
}

async fn stay(mut follower: Follower, mut table: watch::Receiver<Option<Counts>>) {
    while table.borrow().as_ref() != Some(&follower.counts) {
        tokio::select! {
            update = follower.updates.next() => follower.apply(update.unwrap()),
            _ = table.changed() => {}
        }
    }
}

impl Follower {
    async fn hear(&mut self, changes: usize) {
        while !self.live || self.heard < changes {
            let update = self.updates.next().await.unwrap();
            self.apply(update);
        }
    }

    fn apply(&mut self, update: Update) {
        self.cursor = match update {
            Update::Snapshot { records, cursor } => {
                assert_eq!((self.cursor, records.len()), (None, RECORDS));
                let counts = records
                    .iter()
                    .map(|record| (record.id, count_of(&record.fields)));
                self.counts = counts.collect();
                cursor
            }
            Update::Change { change, cursor } => {
                let known = self.counts.insert(change.id, count_of(&change.fields));
                assert_eq!(change.action, Action::Update);
                assert_eq!(self.counts[&change.id], known.unwrap() + 1);
                self.heard += 1;
                Some(cursor)
            }
            Update::Changes { changes, cursor } => {
                for change in changes {
                    let known = self.counts.insert(change.id, count_of(&change.fields));
                    assert!(self.counts[&change.id] > known.unwrap(), "applied twice");
                }
                cursor
            }
            Update::Live { cursor } => {
                self.live = true;
                Some(cursor)
            }
            other => panic!("{other:?}"),
        };
    }
}

fn count_of(fields: &Fields) -> i64 {
    fields["count"].as_i64().unwrap()
}
