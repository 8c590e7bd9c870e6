//! The subscriptions of one connection. They take turns.
//!
//! A subscription that has something to send or to read is active, and polled. The others wait at their collection's place in the log
//! (`live::follower`), however many they are.

use std::sync::Arc;
use std::task::{Context, Poll};

use ::http::StatusCode;

use crate::live::follower::{Followed, Follower};
use crate::live::number_set::NumberSet;
use crate::live::subscription::Subscription;
use crate::metrics::Limit;
use crate::model::cursor::{Cursor, Place};
use crate::model::refusal::Refusal;
use crate::protocol::close::Close;
use crate::protocol::message_stream::{Message, MessageStream, Next};
use crate::protocol::messages::live_message;
use crate::protocol::problem::Problem;

/// The most records of all windows of a connection: the server keeps the place of each.
const MAX_WINDOW_RECORDS: usize = 50_000;

/// The messages for the subscriptions of one connection.
#[derive(Debug)]
pub(crate) struct MessageStreams {
    /// By their numbers. The place of one that has ended is free.
    streams: Vec<Option<MessageStream>>,
    /// What the streams of each collection share, with its name.
    followers: Vec<(Arc<str>, Follower)>,
    /// The numbers of the streams that are polled.
    active: NumberSet,
    /// The lowest number whose turn it is, so that a busy stream does not starve the others.
    next: usize,
    /// The collections with a subscription that has caught up, while another one was not live.
    owed: Vec<Arc<str>>,
    /// The names of the subscriptions that a rule has denied by now, with what it answered.
    denied: Vec<(Arc<str>, Refusal)>,
}

impl MessageStreams {
    pub(crate) fn new() -> Self {
        Self {
            // Most connections have one.
            streams: Vec::with_capacity(1),
            followers: Vec::with_capacity(1),
            active: NumberSet::default(),
            next: 0,
            owed: Vec::new(),
            denied: Vec::new(),
        }
    }

    pub(crate) fn push(&mut self, mut stream: MessageStream) {
        let free = self.streams.iter().position(Option::is_none);
        let number = free.unwrap_or(self.streams.len());
        let collection = Arc::clone(stream.collection());
        if self.follower_of(&collection).is_none() {
            let follower = Follower::new(stream.subscription().hub());
            self.followers.push((Arc::clone(&collection), follower));
        }
        if let Some(follower) = self.follower_of(&collection) {
            follower.join(stream.subscription_mut(), number);
        }
        self.active.insert(number);
        match free {
            Some(free) => self.streams[free] = Some(stream),
            None => self.streams.push(Some(stream)),
        }
    }

    /// Ends a subscription.
    pub(crate) fn remove(&mut self, sub: &str) {
        let mut streams = self.streams.iter();
        let is_it = |stream: &Option<MessageStream>| {
            stream.as_ref().is_some_and(|stream| &*stream.sub == sub)
        };
        if let Some(number) = streams.position(is_it) {
            self.end(number);
        }
    }

    /// Ends the stream with this number, and returns its name.
    fn end(&mut self, number: usize) -> Option<Arc<str>> {
        let ended = self.streams[number].take()?;
        self.active.remove(number);
        let collection = ended.collection();
        if !self.has(collection) {
            self.followers.retain(|(name, _)| name != collection);
        } else if let Some(follower) = self.follower_of(collection) {
            follower.leave(number);
        }
        Some(Arc::clone(&ended.sub))
    }

    /// What the streams of this collection share.
    fn follower_of(&mut self, collection: &str) -> Option<&mut Follower> {
        let mut followers = self.followers.iter_mut();
        let found = followers.find(|(name, _)| **name == *collection);
        found.map(|(_, follower)| follower)
    }

    fn all(&self) -> impl Iterator<Item = &MessageStream> {
        self.streams.iter().flatten()
    }

    pub(crate) fn contains(&self, sub: &str) -> bool {
        self.all().any(|stream| &*stream.sub == sub)
    }

    pub(crate) fn len(&self) -> usize {
        self.all().count()
    }

    /// Refuses a window for whose places there is no room.
    pub(crate) fn with_room(&self, new: Subscription) -> Result<Subscription, Box<Problem>> {
        let windows = self.all().map(MessageStream::subscription);
        let windows = windows.filter_map(|subscription| subscription.grant().window);
        let asked = new.grant().window.unwrap_or_default();
        if asked == 0 || windows.sum::<usize>() + asked <= MAX_WINDOW_RECORDS {
            return Ok(new);
        }
        Limit::Subscriptions.reached();
        let detail =
            format!("the windows of a connection may have at most {MAX_WINDOW_RECORDS} records");
        let status = StatusCode::TOO_MANY_REQUESTS;
        Err(Box::new(Problem::new(status, "limit", detail)))
    }

    /// The numbers of the streams of this collection, and the streams.
    fn of<'a>(&'a self, collection: &'a str) -> impl Iterator<Item = (usize, &'a MessageStream)> {
        let streams = self.streams.iter().enumerate();
        let streams = streams.filter_map(|(number, stream)| Some((number, stream.as_ref()?)));
        streams.filter(move |(_, stream)| **stream.collection() == *collection)
    }

    /// Whether there is a stream of this collection.
    pub(crate) fn has(&self, collection: &str) -> bool {
        self.of(collection).next().is_some()
    }

    /// The collections that there are streams of.
    pub(crate) fn collections(&self) -> impl Iterator<Item = &Arc<str>> {
        self.followers.iter().map(|(name, _)| name)
    }

    /// The numbers of the streams with the same collection as this one.
    pub(crate) fn numbers_like(&self, number: usize) -> impl Iterator<Item = usize> {
        let stream = self.streams.get(number).and_then(Option::as_ref);
        let collection = stream.map_or("", |stream| stream.collection());
        self.of(collection).map(|(number, _)| number)
    }

    /// Goes on with other subscriptions to a collection, where this gives one. Where it fails, the stream ends; returns the names of these
    /// with why.
    pub(crate) fn replace<E>(
        &mut self,
        collection: &str,
        with: impl Fn(&Subscription) -> Option<Result<Subscription, E>>,
    ) -> Vec<(Arc<str>, E)> {
        let mut ended = Vec::new();
        let numbers: Vec<_> = self.of(collection).map(|(number, _)| number).collect();
        for number in numbers {
            let Some(stream) = &mut self.streams[number] else {
                continue;
            };
            match with(stream.subscription()) {
                None => {}
                Some(Ok(subscription)) => {
                    stream.replace(subscription);
                    self.active.insert(number);
                }
                Some(Err(error)) => ended.extend(self.end(number).map(|sub| (sub, error))),
            }
        }
        ended
    }

    /// Takes the names of the subscriptions that a rule has denied meanwhile, with what it answered.
    pub(crate) fn take_denied(&mut self) -> Vec<(Arc<str>, Refusal)> {
        std::mem::take(&mut self.denied)
    }

    /// The cursor up to which all subscriptions to a collection have received everything. `None` while one of them catches up, or if
    /// there is none.
    pub(crate) fn live_cursor(&self, collection: &str) -> Option<Cursor> {
        let (_, follower) = self
            .followers
            .iter()
            .find(|(name, _)| **name == *collection)?;
        let cursors = self.of(collection).map(|(number, stream)| {
            let cursor = stream.live_cursor()?;
            if self.active.contains(number) {
                return Some(cursor);
            }
            let position = follower.position()?;
            Some(Cursor { position, ..cursor })
        });
        let cursors: Option<Vec<_>> = cursors.collect();
        let cursors = cursors?.into_iter();
        cursors.min_by_key(|cursor| cursor.position.offset)
    }

    /// The messages of a heartbeat: a `live` for each collection whose subscriptions are live, each with the number of a stream.
    pub(crate) fn heartbeats(&self) -> Vec<(usize, Message)> {
        let lives = self
            .collections()
            .filter_map(|collection| self.live(collection));
        lives.collect()
    }

    /// The message that all subscriptions to a collection are live, if they are, with the number of one of them. A feed has none.
    fn live(&self, collection: &str) -> Option<(usize, Message)> {
        let (number, stream) = self.of(collection).next()?;
        if stream.is_feed() {
            return None;
        }
        let cursor = self.live_cursor(collection)?;
        let cursor = stream.seal(&Place::Cursor(cursor));
        let message = Message {
            json: live_message(stream.collection(), &cursor),
            name: "live",
            place: Some(cursor),
        };
        Some((number, message))
    }

    /// The next message with the number of its stream, or why the connection is to be closed. A `live` is of all streams with the same
    /// collection.
    pub(crate) fn poll_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<(usize, Message), Close>> {
        let mut is_whole_round = self.next == 0;
        loop {
            if let Some(next) = self.poll_active(context) {
                return Poll::Ready(next);
            }
            let has_more = self.follow(context);
            self.next = 0;
            if !has_more && (is_whole_round || self.active.is_empty()) {
                break;
            }
            is_whole_round = true;
        }
        match self.take_owed() {
            Some(live) => Poll::Ready(Ok(live)),
            None => Poll::Pending,
        }
    }

    /// Polls the active streams whose turn it still is. `None` when they have had it.
    fn poll_active(
        &mut self,
        context: &mut Context<'_>,
    ) -> Option<Result<(usize, Message), Close>> {
        while let Some(number) = self.active.next_from(self.next) {
            self.next = number + 1;
            let Some(stream) = &mut self.streams[number] else {
                continue;
            };
            match stream.poll_next(context) {
                Poll::Pending => self.rest(number),
                Poll::Ready(Ok(Next::Live)) => {
                    // One says so for all, when all are.
                    let collection = stream.collection();
                    if !self.owed.contains(collection) {
                        self.owed.push(Arc::clone(collection));
                    }
                    // It may have more.
                    self.next = number;
                }
                Poll::Ready(Ok(Next::Denied(refusal))) => {
                    let sub = self.end(number);
                    self.denied.extend(sub.map(|sub| (sub, *refusal)));
                }
                Poll::Ready(Ok(Next::Message(message))) => {
                    self.rest(number);
                    return Some(Ok((number, message)));
                }
                Poll::Ready(Err(close)) => return Some(Err(close)),
            }
        }
        None
    }

    /// Lets a stream wait that was polled, if it has nothing to do by itself.
    fn rest(&mut self, number: usize) {
        let Some(stream) = &mut self.streams[number] else {
            return;
        };
        let mut followers = self.followers.iter_mut();
        let Some((_, follower)) = followers.find(|(name, _)| name == stream.collection()) else {
            return;
        };
        let is_drained = stream.is_drained();
        let subscription = stream.subscription_mut();
        if !subscription.is_waiting() {
            follower.leave(number);
            if !(subscription.is_level() && follower.wait(number, subscription)) {
                return;
            }
        }
        if is_drained {
            self.active.remove(number);
        }
    }

    /// Gives the streams that wait what comes next. Returns whether there was something.
    fn follow(&mut self, context: &Context<'_>) -> bool {
        let mut has_more = false;
        for (_, follower) in &mut self.followers {
            let streams = &self.streams;
            let subscription = |number: usize| {
                let stream = streams.get(number)?.as_ref();
                stream.map(MessageStream::subscription)
            };
            let (change, numbers, given) = match follower.poll(context, subscription) {
                Followed::Nothing => continue,
                Followed::Alone(numbers) => (None, numbers, follower.reached()),
                Followed::Change(entry, numbers, given) => (Some(entry), numbers, given),
            };
            has_more = true;
            for number in numbers.iter() {
                let Some(stream) = &mut self.streams[number] else {
                    continue;
                };
                let subscription = stream.subscription_mut();
                match &change {
                    Some(entry) => subscription.take_change(entry, given),
                    None => subscription.go_alone(given),
                }
                let is_waiting = subscription.is_waiting();
                if !is_waiting {
                    follower.leave(number);
                }
                if !is_waiting || !stream.is_drained() {
                    self.active.insert(number);
                }
            }
        }
        has_more
    }

    /// A `live` of a collection whose subscriptions are all live by now, with the number of one of them.
    fn take_owed(&mut self) -> Option<(usize, Message)> {
        let mut owed = std::mem::take(&mut self.owed);
        owed.retain(|collection| self.has(collection));
        let mut lives = owed.iter().enumerate();
        let live = lives.find_map(|(index, collection)| Some((index, self.live(collection)?)));
        let live = live.map(|(index, live)| {
            owed.remove(index);
            live
        });
        self.owed = owed;
        live
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::future::poll_fn;
    use std::time::Duration;

    use futures_util::FutureExt as _;
    use serde_json::{Value, json};

    use super::*;
    use crate::engine::engine::Engine;
    use crate::live::since::Since;
    use crate::model::access::Access;
    use crate::model::edit::Edit;
    use crate::schema::collection::Collection;
    use crate::store::memory::MemoryStore;

    /// An engine with a collection of tasks that are open to everyone.
    async fn start() -> Engine {
        let schema = json!({"type": "object", "properties": {
            "project": {"type": "integer"},
            "n": {"type": "integer"},
        }});
        let tasks = Collection::from_schema("tasks", &schema).open_to_everyone();
        let builder = Engine::builder()
            .collection(tasks)
            .store(MemoryStore::new());
        builder.start().await.unwrap()
    }

    /// An engine with the tasks 1 and 2, one of each project.
    async fn engine() -> Engine {
        let engine = start().await;
        let create = |project| Edit::create("tasks", json!({"project": project, "n": 0}));
        let edits = vec![create(1), create(2)];
        engine.transaction(edits).await.unwrap();
        engine
    }

    async fn change(engine: &Engine, id: i64, numbers: std::ops::Range<i64>) {
        let edit = |n| Edit::patch(("tasks", id), json!({"n": n}));
        let edits = numbers.map(edit).collect();
        engine.transaction(edits).await.unwrap();
    }

    async fn subscribe(engine: &Engine, streams: &mut MessageStreams, sub: &str, topic: &str) {
        let permissions = engine.permissions(None, Access::Read, "tasks").await;
        let (_, topic) = engine.find_topic(topic).unwrap();
        let opened = engine.open(topic.unwrap(), Since::Snapshot, &permissions.unwrap());
        let keys = engine.cursor_keys().clone();
        streams.push(MessageStream::new(opened.unwrap(), sub, keys));
    }

    async fn next(streams: &mut MessageStreams) -> Value {
        let next = poll_fn(|context| streams.poll_next(context)).await;
        serde_json::from_slice(&next.unwrap().1.json).unwrap()
    }

    /// Reads everything up to `live`.
    async fn until_live(streams: &mut MessageStreams) {
        while next(streams).await["type"] != "live" {}
        assert!(next(streams).now_or_never().is_none());
    }

    /// The numbers that the changes bring to each subscription, as far as they are there.
    fn all(streams: &mut MessageStreams) -> BTreeMap<String, Vec<i64>> {
        let mut all: BTreeMap<_, Vec<_>> = BTreeMap::new();
        while let Some(message) = next(streams).now_or_never() {
            let Some(sub) = message["sub"].as_str().map(str::to_owned) else {
                continue;
            };
            let number = message["fields"]["n"].as_i64();
            all.entry(sub).or_default().extend(number);
        }
        all
    }

    fn expected(subs: &[(&str, std::ops::Range<i64>)]) -> BTreeMap<String, Vec<i64>> {
        let subs = subs.iter().cloned();
        subs.map(|(sub, numbers)| (sub.to_owned(), numbers.collect()))
            .collect()
    }

    #[tokio::test]
    async fn a_change_concerns_its_topics_alone_and_moves_all_of_them() {
        let (engine, mut streams) = (engine().await, MessageStreams::new());
        for project in 0..1000 {
            let topic = format!("tasks?project=eq.{project}");
            subscribe(&engine, &mut streams, &project.to_string(), &topic).await;
        }
        until_live(&mut streams).await;
        assert!(streams.active.is_empty());
        change(&engine, 1, 1..2).await;
        let message = next(&mut streams).await;
        assert_eq!(
            (&message["sub"], &message["fields"]["n"]),
            (&json!("1"), &json!(1))
        );
        // Nothing else is polled, and everybody has got there.
        assert!(streams.active.is_empty());
        let head = engine.hub("tasks").head();
        assert!(next(&mut streams).now_or_never().is_none());
        assert_eq!(streams.live_cursor("tasks").unwrap().position, head);
        let positions = streams.all().map(|stream| stream.subscription().position());
        assert_eq!(positions.filter(|position| *position == head).count(), 1);
    }

    #[tokio::test]
    async fn a_topic_that_goes_alone_misses_nothing_meanwhile() {
        let (engine, mut streams) = (engine().await, MessageStreams::new());
        subscribe(&engine, &mut streams, "one", "tasks?project=eq.1").await;
        until_live(&mut streams).await;
        subscribe(&engine, &mut streams, "two", "tasks?project=eq.2").await;
        while next(&mut streams).await["type"] != "snapshot" {}
        // More than one reading of the ring, while the other topic waits.
        change(&engine, 2, 1..901).await;
        change(&engine, 1, 1..4).await;
        let read = all(&mut streams);
        assert_eq!(read, expected(&[("one", 1..4), ("two", 1..901)]));
        assert!(streams.active.is_empty());
    }

    #[tokio::test]
    async fn a_topic_that_was_ahead_receives_nothing_twice() {
        let (engine, mut streams) = (engine().await, MessageStreams::new());
        subscribe(&engine, &mut streams, "one", "tasks?project=eq.1").await;
        subscribe(&engine, &mut streams, "all", "tasks?n=gte.0").await;
        until_live(&mut streams).await;
        subscribe(&engine, &mut streams, "more", "tasks?n=gt.2").await;
        while next(&mut streams).await["type"] != "snapshot" {}
        // It has read all of them when the others are given the third.
        change(&engine, 1, 1..6).await;
        let read = all(&mut streams);
        assert_eq!(
            read,
            expected(&[("all", 1..6), ("more", 3..6), ("one", 1..6)])
        );
        streams.remove("one");
        streams.remove("all");
        subscribe(&engine, &mut streams, "late", "tasks/1").await;
        until_live(&mut streams).await;
        change(&engine, 1, 6..10).await;
        assert_eq!(
            all(&mut streams),
            expected(&[("late", 6..10), ("more", 6..10)])
        );
        streams.remove("more");
        streams.remove("late");
        assert!(streams.followers.is_empty() && streams.active.is_empty());
        assert_eq!(engine.hub("tasks").figures().subscriptions, 0);
    }

    /// What a client has of a topic, by id, and where it is.
    #[derive(Default)]
    struct Client {
        /// The project whose tasks it has. All of them without it.
        project: Option<i64>,
        numbers: BTreeMap<i64, i64>,
        offset: u64,
    }

    impl Client {
        fn apply(&mut self, message: &Value) {
            let records = message["records"].as_array().into_iter().flatten();
            let changes = message["changes"].as_array().into_iter().flatten();
            let change = (message["type"] == "change").then_some(message);
            for record in records {
                self.set(&record["id"], &record["n"]);
            }
            for change in changes.chain(change) {
                self.set(&change["id"], &change["fields"]["n"]);
            }
        }

        fn set(&mut self, id: &Value, number: &Value) {
            let (id, number) = (id.as_i64().unwrap(), number.as_i64().unwrap());
            self.numbers.insert(id, number);
        }

        /// It has everything up to this offset, and nothing after it. `log`: the record of each change.
        fn check(&mut self, offset: u64, log: &[i64]) {
            assert!(offset >= self.offset, "{offset} after {}", self.offset);
            self.offset = offset;
            let mut expected = BTreeMap::new();
            for (number, id) in log[..offset as usize].iter().enumerate() {
                if self.project.is_none_or(|project| id % 3 == project) {
                    expected.insert(*id, number as i64);
                }
            }
            assert_eq!(
                self.numbers, expected,
                "at {offset}, project {:?}",
                self.project
            );
        }
    }

    /// The number of a change is that of its offset before it: 30 tasks, then changes of these.
    async fn write(engine: Engine, log: Arc<std::sync::Mutex<Vec<i64>>>) {
        for _ in 0..60 {
            let burst = match fastrand::u8(..8) {
                // More than a ring has.
                0 => 1100,
                1 => 300,
                _ => fastrand::usize(1..5),
            };
            let mut edits = Vec::new();
            {
                let mut log = log.lock().unwrap();
                for _ in 0..burst.min(1000) {
                    // The tasks of the third project change seldom.
                    let id = fastrand::i64(1..=20) + i64::from(fastrand::u8(..100) == 0) * 10;
                    let id = if id % 3 == 2 && fastrand::u8(..20) > 0 {
                        1
                    } else {
                        id
                    };
                    edits.push(Edit::patch(("tasks", id), json!({"n": log.len()})));
                    log.push(id);
                }
            }
            engine.transaction(edits).await.unwrap();
            tokio::time::sleep(Duration::from_micros(fastrand::u64(..4000))).await;
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 3)]
    async fn at_each_cursor_a_topic_has_what_the_log_has() {
        let engine = start().await;
        let create = |n: i64| json!({"project": (n + 1) % 3, "n": n});
        let edits = (0..30).map(|n| Edit::create("tasks", create(n)));
        engine.transaction(edits.collect()).await.unwrap();
        let log = Arc::new(std::sync::Mutex::new((1..=30).collect()));
        let writer = tokio::spawn(write(engine.clone(), Arc::clone(&log)));
        let (mut streams, mut clients) = (MessageStreams::new(), BTreeMap::new());
        let offset = |cursor: &Value| {
            let cursor = engine.open_cursor("tasks", cursor.as_str()?).ok();
            Some(cursor.unwrap().position.offset)
        };
        loop {
            if fastrand::u8(..10) == 0 && !writer.is_finished() {
                let sub = fastrand::u8(..40).to_string();
                streams.remove(&sub);
                let project = Some(fastrand::i64(0..5)).filter(|project| *project < 3);
                let topic = match project {
                    Some(project) => format!("tasks?project=eq.{project}"),
                    None => "tasks?n=gte.0".into(),
                };
                subscribe(&engine, &mut streams, &sub, &topic).await;
                clients.insert(
                    sub,
                    Client {
                        project,
                        ..Client::default()
                    },
                );
            }
            if fastrand::u16(..600) == 0 {
                // So that changes leave the ring before they are read.
                tokio::time::sleep(Duration::from_millis(80)).await;
            }
            let wait = Duration::from_millis(fastrand::u64(..3));
            let Ok(message) = tokio::time::timeout(wait, next(&mut streams)).await else {
                let live = streams.live_cursor("tasks").map(|live| live.position);
                if writer.is_finished() && live == Some(engine.hub("tasks").head()) {
                    break;
                }
                continue;
            };
            let log = log.lock().unwrap();
            let concerned: Vec<&mut Client> = match message["sub"].as_str() {
                Some(sub) => clients.get_mut(sub).into_iter().collect(),
                None => clients.values_mut().collect(),
            };
            for client in concerned {
                client.apply(&message);
                if let Some(offset) = offset(&message["cursor"]) {
                    client.check(offset.max(client.offset), &log);
                }
            }
        }
        writer.await.unwrap();
        let end = engine.hub("tasks").head().offset;
        let log = log.lock().unwrap();
        clients
            .values_mut()
            .for_each(|client| client.check(end, &log));
        assert!(streams.active.is_empty());
    }
}
