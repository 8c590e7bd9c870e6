//! 10,000 subscriptions that begin while records change: from the snapshot to the first change, nothing is missed or repeated.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fieldsync::{Action, Cursor, Engine, Fields, RecordId, Subscription, Update};
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use tokio::sync::watch;

use crate::app::{App, Thing, on_every_store};
use crate::tasks::Tasks;

on_every_store!(
    x_ten_thousand_subscriptions_that_begin_during_writes_miss_nothing_and_get_nothing_twice
);

const SUBSCRIPTIONS: usize = 10_000;
/// The number that begins at a time.
const AT_ONCE: usize = 200;
const RECORDS: usize = 4;

async fn x_ten_thousand_subscriptions_that_begin_during_writes_miss_nothing_and_get_nothing_twice(
    app: App,
) {
    let engine = app.engine.clone();
    let mut ids = Vec::new();
    for _ in 0..RECORDS {
        ids.push(
            engine
                .collection("things")
                .create(Thing::default())
                .await
                .unwrap()
                .id,
        );
    }
    let done = Arc::new(AtomicBool::new(false));
    let tasks = Tasks::new();
    let writers: Vec<_> = ids
        .into_iter()
        .map(|id| {
            let (engine, done) = (engine.clone(), Arc::clone(&done));
            tasks.spawn(async move {
                while !done.load(Ordering::Relaxed) {
                    let count = |thing: &mut Thing| thing.count += 1;
                    engine
                        .collection("things")
                        .update(&id, count)
                        .await
                        .unwrap();
                    // In memory, a writer without a pause would keep the subscribers from the processor.
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            })
        })
        .collect();
    let mut last = Vec::new();
    for _ in 0..SUBSCRIPTIONS / AT_ONCE {
        let subscribers = (0..AT_ONCE).map(|_| tasks.spawn(subscribe_twice(engine.clone())));
        let live = join_all(subscribers);
        last = tasks.wait("live subscribers", live).await;
    }
    // The last of them stay until writes end. Then they hold what the table holds.
    let table = watch::Sender::new(None);
    let staying: Vec<_> = last
        .into_iter()
        .map(|subscriber| tasks.spawn(converge(subscriber.unwrap(), table.subscribe())))
        .collect();
    done.store(true, Ordering::Relaxed);
    for ended in tasks
        .wait("the end of the writers", join_all(writers))
        .await
    {
        ended.unwrap();
    }
    let things = engine
        .collection::<Fields>("things")
        .list(None, RECORDS)
        .await
        .unwrap();
    let counts: Counts = things
        .iter()
        .map(|thing| (thing.id.clone(), count_of(&thing.fields)))
        .collect();
    table.send_replace(Some(counts));
    let converged = join_all(staying);
    for converged in tasks
        .wait("subscribers that equal the table", converged)
        .await
    {
        converged.unwrap();
    }
}

type Counts = BTreeMap<RecordId, i64>;

struct Subscriber {
    updates: Subscription,
    counts: Counts,
    cursor: Option<Cursor>,
    live: bool,
    /// The number of changes that came one by one.
    received: usize,
}

/// Subscribes with a snapshot until some changes came one by one, and then once more from the cursor.
async fn subscribe_twice(engine: Engine) -> Subscriber {
    let mut subscriber = Subscriber {
        updates: engine.subscribe("things", None).await.unwrap(),
        counts: Counts::new(),
        cursor: None,
        live: false,
        received: 0,
    };
    subscriber.receive(RECORDS).await;
    subscriber.updates = engine.subscribe("things", subscriber.cursor).await.unwrap();
    subscriber.live = false;
    subscriber.receive(2 * RECORDS).await;
    subscriber
}

async fn converge(mut subscriber: Subscriber, mut table: watch::Receiver<Option<Counts>>) {
    while table.borrow().as_ref() != Some(&subscriber.counts) {
        tokio::select! {
            update = subscriber.updates.next() => subscriber.apply(update.unwrap()),
            _ = table.changed() => {}
        }
    }
}

impl Subscriber {
    async fn receive(&mut self, changes: usize) {
        while !self.live || self.received < changes {
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
                    .map(|record| (record.id.clone(), count_of(&record.fields)));
                self.counts = counts.collect();
                cursor
            }
            Update::Change { change, cursor } => {
                let known = self
                    .counts
                    .insert(change.id.clone(), count_of(&change.fields));
                assert_eq!(change.action, Action::Update);
                assert_eq!(self.counts[&change.id], known.unwrap() + 1);
                self.received += 1;
                Some(cursor)
            }
            Update::Changes { changes, cursor } => {
                for change in changes {
                    let known = self
                        .counts
                        .insert(change.id.clone(), count_of(&change.fields));
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
