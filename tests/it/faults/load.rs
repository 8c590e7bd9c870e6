//! Writers and subscribers that go on while the server fails, and the checks of what they were told against the database.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::AtomicUsize;
#[cfg(feature = "services")]
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
#[cfg(feature = "services")]
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::faults::clients::{Clients, EditReply, EditRequest, Phase, SubscriberState, TOPICS};
use crate::faults::database::Database;
use crate::random;
use crate::tasks::Tasks;

/// Writers and subscribers, which move between the nodes of an app.
pub(crate) struct Load {
    clients: Arc<Clients>,
    tasks: Tasks,
    writers: Vec<JoinHandle<()>>,
    subscribers: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts a number of writers, and three subscribers, at a server that is up.
    pub(crate) fn start(address: &str, writers: usize) -> Self {
        Self::start_at(vec![address.to_owned()], writers, &[])
    }

    /// Starts them at several nodes: each client goes to another node when its connection ends. Subscribers may be reset for
    /// the given reasons.
    pub(crate) fn start_at(
        addresses: Vec<String>,
        writers: usize,
        expected_resets: &'static [&'static str],
    ) -> Self {
        let clients = Arc::new(Clients {
            addresses,
            phase: watch::Sender::new(Phase::Up),
            acknowledged: Mutex::default(),
            count: watch::Sender::new(0),
            observations: Mutex::default(),
            asked: watch::Sender::new(0),
            moves: watch::Sender::new(0),
            subscribers: TOPICS.map(|topic| SubscriberState {
                topic,
                ..SubscriberState::default()
            }),
            expected_resets,
            resets: AtomicUsize::new(0),
            resumed: AtomicUsize::new(0),
            random: Mutex::new(random::generator()),
        });
        let tasks = Tasks::new();
        let writers = (0..writers).map(|number| {
            let clients = Arc::clone(&clients);
            tasks.spawn(async move { clients.write(number).await })
        });
        let writers = writers.collect();
        let subscribers = [0, 1, 2].map(|number| {
            let clients = Arc::clone(&clients);
            tasks.spawn(async move { clients.subscribe(number).await })
        });
        Self {
            clients,
            tasks,
            writers,
            subscribers: subscribers.into(),
        }
    }

    /// Waits until a number of further edits is acknowledged.
    pub(crate) async fn acknowledged(&self, more: usize) {
        let mut count = self.clients.count.subscribe();
        let enough = *count.borrow() + more;
        let acknowledged = count.wait_for(|count| *count >= enough);
        let awaited = format!("{more} acknowledged edits");
        self.tasks.wait(&awaited, acknowledged).await.unwrap();
    }

    /// Says that the server is about to stop.
    pub(crate) fn down(&self) {
        self.clients.phase.send_replace(Phase::Down);
    }

    /// Says that the server is up again.
    pub(crate) fn up(&self) {
        self.clients.phase.send_replace(Phase::Up);
    }

    /// Has subscribers disconnect, miss some edits, and reconnect to any node.
    #[cfg(feature = "services")]
    pub(crate) async fn move_subscribers(&self) {
        self.clients.moves.send_modify(|moves| *moves += 1);
        self.acknowledged(20).await;
        self.caught_up().await;
    }

    /// Waits until subscribers have every change of this moment.
    #[cfg(feature = "services")]
    pub(crate) async fn caught_up(&self) {
        let caught_up = async {
            let head = loop {
                match self.clients.head().await {
                    Some(head) => break head,
                    None => self.clients.wait().await,
                }
            };
            // The cursor of one record's topic moves only when that record changes.
            let subscribers = self.clients.subscribers.iter();
            for subscriber in subscribers.filter(|subscriber| subscriber.topic == "users") {
                while subscriber.offset.load(Ordering::SeqCst) < head {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
        };
        let awaited = "subscribers that have every change";
        self.tasks.wait(awaited, caught_up).await;
    }

    /// Sends an edit to one of the nodes, as the writers do.
    #[cfg(feature = "services")]
    pub(crate) async fn edit_at(&self, address: &str, edit: EditRequest) {
        let http = reqwest::Client::new();
        let answered = async {
            loop {
                match crate::faults::clients::send(&http, address, &edit).await {
                    Some(reply) => return reply,
                    None => self.clients.wait().await,
                }
            }
        };
        let reply = self.tasks.wait("the reply to an edit", answered).await;
        self.clients.acknowledge(&(edit, reply));
    }

    /// The number of times that a subscriber resumed and had missed changes, and the number of resets.
    #[cfg(feature = "services")]
    pub(crate) fn resumed_and_reset(&self) -> (usize, usize) {
        let count = |count: &AtomicUsize| count.load(Ordering::SeqCst);
        (count(&self.clients.resumed), count(&self.clients.resets))
    }

    /// Checks the file of a server that is dead or stopped: it has each acknowledged edit once, as it was answered; and what
    /// subscribers held at their cursors is what the log says.
    pub(crate) fn check(&self, path: &Path) -> Database {
        // Before the file is read: it may have more edits by then, but not fewer.
        let acknowledged = self.clients.acknowledged.lock().unwrap().clone();
        let database = Database::read(path);
        self.check_against(&database, &acknowledged);
        database
    }

    /// Checks a PostgreSQL while the clients go on, with what subscribers hold now.
    #[cfg(feature = "services")]
    pub(crate) async fn check_postgres(&self, url: &str) {
        self.caught_up().await;
        let now = *self.clients.asked.borrow() + 1;
        let observed = async {
            for subscriber in &self.clients.subscribers {
                while subscriber.responded.load(Ordering::SeqCst) < now {
                    // A subscriber that is reconnecting is asked again.
                    self.clients.asked.send_modify(|asked| *asked += 1);
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        };
        let awaited = "what each subscriber holds";
        self.tasks.wait(awaited, observed).await;
        let acknowledged = self.clients.acknowledged.lock().unwrap().clone();
        let database = Database::read_postgres(url).await;
        self.check_against(&database, &acknowledged);
    }

    fn check_against(&self, database: &Database, acknowledged: &[(EditRequest, EditReply)]) {
        for (edit, reply) in acknowledged {
            check_applied(database, edit, reply);
        }
        check_fields(database, acknowledged);
        let head = database.log.len() as u64;
        let mut observations = self.clients.observations.lock().unwrap();
        // Later observations are checked against a later state of the database.
        for observation in observations.extract_if(.., |observation| observation.offset <= head) {
            let (topic, offset) = (observation.topic, observation.offset);
            let mut expected = database.at(offset, &observation.records);
            if topic == "users/1" {
                expected.retain(|id, _| id == "1");
            }
            assert_eq!(observation.records, expected, "{topic} at {offset}");
        }
    }

    /// Ends the load while the server is up: the last edit of each writer is answered, and subscribers receive every
    /// change. Returns the number of acknowledged edits.
    pub(crate) async fn finish(self) -> usize {
        self.clients.phase.send_replace(Phase::WritersEnd);
        for writer in self.writers {
            self.tasks
                .wait("the end of a writer", writer)
                .await
                .unwrap();
        }
        let head = self.clients.head().await;
        let last = head.expect("the server is up");
        self.clients.phase.send_replace(Phase::AllEnd(last));
        for subscriber in self.subscribers {
            let awaited = "a subscriber that has every change";
            self.tasks.wait(awaited, subscriber).await.unwrap();
        }
        *self.clients.count.borrow()
    }

    /// Ends the load, and checks the database and what subscribers held in the end. Returns the number of acknowledged
    /// edits, and the number of changes in the log.
    #[cfg(feature = "services")]
    pub(crate) async fn finish_and_check_postgres(self, url: &str) -> (usize, usize) {
        let ended = self.without_tasks();
        let count = self.finish().await;
        let acknowledged = ended.clients.acknowledged.lock().unwrap().clone();
        let database = Database::read_postgres(url).await;
        ended.check_against(&database, &acknowledged);
        ended.check_nothing_is_left();
        (count, database.log.len())
    }

    /// The results, for the time when all clients have ended.
    fn without_tasks(&self) -> Self {
        Self {
            clients: Arc::clone(&self.clients),
            tasks: self.tasks.clone(),
            writers: Vec::new(),
            subscribers: Vec::new(),
        }
    }

    fn check_nothing_is_left(&self) {
        let left = self.clients.observations.lock().unwrap().len();
        assert_eq!(left, 0, "a subscriber is ahead of the log");
    }

    /// Ends the load, kills the server with `kill`, and checks its file and what subscribers held in the end. Returns the
    /// number of acknowledged edits.
    pub(crate) async fn finish_and_check(self, path: &Path, kill: impl FnOnce()) -> usize {
        let ended = self.without_tasks();
        let count = self.finish().await;
        kill();
        ended.check(path);
        ended.check_nothing_is_left();
        count
    }
}

/// Checks that no edit reverted another edit of other fields of its record.
fn check_fields(database: &Database, acknowledged: &[(EditRequest, EditReply)]) {
    let edits: HashMap<&str, &EditRequest> = acknowledged
        .iter()
        .map(|(edit, _)| (&*edit.key, edit))
        .collect();
    let mut records: HashMap<i64, &Map<String, Value>> = HashMap::new();
    for change in &database.log {
        let before = records.insert(change.id, &change.after);
        let edit = change.key.as_deref().and_then(|key| edits.get(key));
        let (Some(before), Some(edit)) = (before, edit.filter(|edit| edit.method == "PATCH"))
        else {
            continue;
        };
        for (name, value) in &change.after {
            let is_edited = edit.body.get(name).is_some() || name == "updated_at";
            let is_same = before.get(name).is_none_or(|before| before == value);
            assert!(is_edited || is_same, "{edit:?} changed {name} to {value}");
        }
    }
}

/// Checks that an acknowledged edit is in the log, once, as it was answered.
pub(crate) fn check_applied(database: &Database, edit: &EditRequest, reply: &EditReply) {
    let change = database.change_by(&edit.key);
    let change = change.unwrap_or_else(|| panic!("{edit:?} was acknowledged, and is lost"));
    assert_eq!(change.offset, reply.offset, "{edit:?}");
    if edit.method != "DELETE" {
        assert_eq!(Value::Object(change.record()), reply.record, "{edit:?}");
        let mut fields = edit.body.as_object().unwrap().iter();
        assert!(fields.all(|(name, value)| change.after[name] == *value));
    }
}
