//! Members come and go on three nodes, under load, while the broker is down.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use fieldsync::backend::{Store, StoreError};
use fieldsync::{MemoryStore, Mirror, Principal, Update, async_trait};
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::{Database, Member, OfMembers, subscription, until};
use crate::app::{App, On, Server};
use crate::hooked_store::{Call, Hooked, Hooks};
use crate::socket::Socket;
use crate::tasks::{Tasks, within_limit};
use crate::validity::Down;

const POLL: Duration = Duration::from_secs(1);

/// The time within which everything stops that was written before a removal.
const MAX_DELAY: Duration = Duration::from_millis(1500);

/// Everything that a socket receives, until a message with certain words.
struct Received {
    texts: Vec<String>,
    last_change: Option<Instant>,
}

impl Received {
    fn has(&self, words: &str) -> bool {
        self.texts.iter().any(|text| text.contains(words))
    }
}

/// Reads a socket of a user, and counts the changes.
async fn read(
    tasks: &Tasks,
    app: &App,
    user: &str,
    until: &'static str,
) -> (JoinHandle<Received>, Arc<AtomicUsize>) {
    let mut socket = Socket::v1_as(app, user).await;
    socket.subscribe("tasks", None).await;
    let changes = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&changes);
    let reader = tasks.spawn(async move {
        let mut received = Received {
            texts: Vec::new(),
            last_change: None,
        };
        while !received
            .texts
            .last()
            .is_some_and(|text| text.contains(until))
        {
            let message = within_limit("a message", socket.stream.next()).await;
            let message = message.expect("the socket is open").unwrap();
            let Some(text) = message.as_text().map(str::to_owned) else {
                assert!(message.is_ping(), "{message:?}");
                continue;
            };
            if text.contains("\"type\":\"change") {
                counter.fetch_add(1, Ordering::SeqCst);
                received.last_change = Some(Instant::now());
            }
            received.texts.push(text);
        }
        received
    });
    (reader, changes)
}

async fn canaries_reach_no_removed_member(server: Server, on: On) {
    let (tasks, database) = (Tasks::new(), Database::fresh(on).await);
    let (mut nodes, mut rules) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let rule = Arc::new(OfMembers::default());
        let builder = rule.builder().broker(Down).poll_interval(POLL);
        nodes.push(Arc::new(database.node(server, &rule, builder).await));
        rules.push(rule);
    }
    nodes[0].add("bob", 1).await;
    // The number of the removal that was committed, or 0.
    let removed = Arc::new(AtomicUsize::new(0));
    let stopped = Arc::new(AtomicBool::new(false));
    let canaries = Arc::new(AtomicUsize::new(0));
    let writers = nodes.iter().cloned().map(|node| {
        let (removed, stopped) = (Arc::clone(&removed), Arc::clone(&stopped));
        let canaries = Arc::clone(&canaries);
        let mut pace = tokio::time::interval(Duration::from_millis(3));
        tasks.spawn(async move {
            while !stopped.load(Ordering::SeqCst) {
                // Its transaction begins after the removal was committed, if it is a canary.
                let removal = removed.load(Ordering::SeqCst);
                node.task(1, ["load", "canary 1", "canary 2"][removal])
                    .await;
                canaries.fetch_add(usize::from(removal > 0), Ordering::SeqCst);
                pace.tick().await;
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    let mut bobs = Vec::new();
    for node in &nodes {
        bobs.push(read(&tasks, node, "bob", "\"end\"").await.0);
    }
    for (round, canary) in [(1, "canary 1"), (2, "canary 2")] {
        nodes[1].add("ada", 1).await;
        let mut adas = Vec::new();
        for node in &nodes {
            let (reader, changes) = read(&tasks, node, "ada", "\"error\"").await;
            until("some changes", || changes.load(Ordering::SeqCst) >= 10).await;
            adas.push(reader);
        }
        rules.iter().for_each(|rule| drop(rule.take_asked()));
        if round == 2 {
            let sql = "delete from members where user_id = 'ada'";
            if !database.run(sql).await {
                break;
            }
        } else {
            nodes[0].remove("ada").await;
        }
        removed.store(round, Ordering::SeqCst);
        let removed_at = Instant::now();
        let before = canaries.load(Ordering::SeqCst);
        let has_canaries = || canaries.load(Ordering::SeqCst) >= before + 10;
        until("canaries", has_canaries).await;
        for reader in adas {
            let received = tasks.wait("the end", reader).await.unwrap();
            assert!(received.texts.last().unwrap().contains("403"));
            assert!(!received.has(canary));
            let late = received.last_change.unwrap().duration_since(removed_at);
            assert!(late <= MAX_DELAY, "removal {round}: {late:?} late");
        }
        for rule in &rules {
            assert_eq!(rule.take_asked(), ["ada"], "removal {round}");
        }
        removed.store(0, Ordering::SeqCst);
    }
    stopped.store(true, Ordering::SeqCst);
    for writer in writers {
        tasks.wait("a writer", writer).await.unwrap();
    }
    nodes[0].task(1, "end").await;
    for bob in bobs {
        assert!(tasks.wait("the end", bob).await.unwrap().has("canary 1"));
    }
}

macro_rules! on_three_nodes {
    ($($name:ident $server:ident $on:ident),+ $(,)?) => {
        $(#[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            canaries_reach_no_removed_member(Server::$server, On::$on).await;
        })+
    };
}
on_three_nodes!(
    a_b_canaries_reach_no_removed_member_in_memory Axum Memory,
    a_b_canaries_reach_no_removed_member_on_sqlite Axum Sqlite,
    a_b_canaries_reach_no_removed_member_by_actix_on_sqlite Actix Sqlite,
);
#[cfg(feature = "services")]
on_three_nodes!(
    a_b_canaries_reach_no_removed_member_on_postgres Axum Postgres,
    a_b_canaries_reach_no_removed_member_by_actix_on_postgres Actix Postgres,
);

/// Which answers of the store do not come.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Missing {
    Nothing,
    /// The node reads the store, but does not learn where its logs end.
    Heads,
    /// The node is cut off from the store.
    All,
}

/// A store whose answers can be held back.
#[derive(Debug)]
struct Cut {
    store: Arc<dyn Store>,
    missing: watch::Receiver<Missing>,
}

#[async_trait]
impl Hooks for Cut {
    fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store)
    }

    async fn before(&self, call: Call<'_>) -> Result<(), StoreError> {
        let is_answered = |missing: &Missing| match missing {
            Missing::Nothing => true,
            Missing::Heads => !matches!(call, Call::Heads),
            Missing::All => false,
        };
        let _ = self.missing.clone().wait_for(is_answered).await;
        Ok(())
    }
}

impl Cut {
    fn off(store: MemoryStore, missing: watch::Receiver<Missing>) -> Hooked {
        let store = Arc::new(store);
        Hooked(Arc::new(Self { store, missing }))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_a_node_that_is_cut_off_from_the_store_pauses_until_it_is_back() {
    let store = MemoryStore::new();
    let database = Database::Memory(store.clone());
    let rules = [(); 2].map(|()| Arc::new(OfMembers::default()));
    let other = database.node(Server::Axum, &rules[0], rules[0].builder());
    let other = other.await;
    let (cut, missing) = watch::channel(Missing::Nothing);
    let members = Mirror::<Member>::of("members");
    let builder = rules[1].builder().mirror(&members);
    let builder = builder.broker(Down).store(Cut::off(store, missing));
    let node = App::with(Server::Axum, builder, tempfile::tempdir().unwrap()).await;
    rules[1].engine.set(node.engine.clone()).unwrap();
    other.add("ada", 1).await;
    other.add("bob", 1).await;
    let mut ada = subscription(&node, "ada").await;
    let mut bob = subscription(&node, "bob").await;
    let mut open = node.engine.subscribe("tasks", None).await.unwrap();
    while !matches!(open.next().await, Some(Update::Live { .. })) {}

    node.task(1, "before").await;
    let change = within_limit("a change", open.next()).await;
    assert!(matches!(change, Some(Update::Change { .. })));
    // The subscriptions of the two have it, and have not taken it.
    cut.send_replace(Missing::All);
    let cut_at = Instant::now();
    other.remove("ada").await;
    other.task(1, "canary").await;
    let silence = || node.engine.stats().store_silence;
    until("two seconds without a look", || silence() >= 2 * POLL).await;
    assert!(cut_at.elapsed() <= 2 * POLL + Duration::from_millis(500));
    assert!(ada.next().now_or_never().is_none());
    assert!(bob.next().now_or_never().is_none());
    assert!(members.all().is_err());
    cut.send_replace(Missing::Nothing);
    let titles = async {
        let mut titles = Vec::new();
        while titles.last().is_none_or(|title| title != "canary") {
            let Some(Update::Change { change, .. }) = bob.next().await else {
                panic!("a change")
            };
            titles.push(change.fields["title"].as_str().unwrap().to_owned());
        }
        titles
    };
    assert_eq!(within_limit("changes", titles).await, ["before", "canary"]);
    assert_eq!(within_limit("the end", ada.next()).await, None);
    assert_eq!(members.all().unwrap().len(), 1);
}

/// The subscriptions read the store themselves: from a cursor, and a snapshot.
#[tokio::test(flavor = "multi_thread")]
async fn a_a_what_is_read_from_the_store_waits_for_what_came_before_it() {
    let store = MemoryStore::new();
    let database = Database::Memory(store.clone());
    let rules = [(); 2].map(|()| Arc::new(OfMembers::default()));
    let other = database.node(Server::Axum, &rules[0], rules[0].builder());
    let other = other.await;
    let (held, missing) = watch::channel(Missing::Nothing);
    let builder = rules[1]
        .builder()
        .broker(Down)
        .store(Cut::off(store, missing));
    let node = App::with(Server::Axum, builder, tempfile::tempdir().unwrap()).await;
    rules[1].engine.set(node.engine.clone()).unwrap();
    other.add("ada", 1).await;
    other.task(1, "first").await;
    let ada = node.engine.on_behalf_of(Principal::named("ada"));
    let page = ada.list("tasks", None, 10).await.unwrap();
    let mut subscriptions = [
        ada.subscribe("tasks", Some(page.cursor)).await.unwrap(),
        ada.subscribe("tasks", None).await.unwrap(),
    ];
    held.send_replace(Missing::Heads);
    other.remove("ada").await;
    other.task(1, "canary").await;
    for subscription in &mut subscriptions {
        let shown = timeout(Duration::from_millis(100), subscription.next()).await;
        assert!(shown.is_err(), "{shown:?}");
    }
    held.send_replace(Missing::Nothing);
    for subscription in &mut subscriptions {
        assert_eq!(within_limit("the end", subscription.next()).await, None);
    }
}
