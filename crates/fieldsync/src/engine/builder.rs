//! Building an engine: everything is checked here, before the first request.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::broker::broker::Broker;
use crate::broker::relay::NotificationQueue;
use crate::engine::asks::Asks;
use crate::engine::capture::Capture;
use crate::engine::engine::Engine;
use crate::engine::gauges::Gauges;
use crate::engine::group_commit::GroupCommit;
use crate::engine::limits::Limits;
use crate::engine::reasking::ask_again;
use crate::engine::settings::Settings;
use crate::error::StartError;
use crate::live::dependencies::Dependencies;
use crate::live::feed::{Feed, FeedChange};
use crate::live::hub_registry::HubRegistry;
use crate::live::mirror::{Mirror, Reflection};
use crate::live::rights::Rights;
use crate::metrics;
use crate::model::cursor_key::CursorKey;
use crate::model::cursor_seal::CursorKeys;
use crate::schema::collection::Collection;
use crate::schema::own_collections::{OWN_PREFIX, own_collections};
use crate::store::store::{Retention, Store};

/// How often the logs are trimmed.
const TRIM_INTERVAL: Duration = Duration::from_secs(60);

/// Describes an engine. [`EngineBuilder::start`] checks the description and starts the engine.
#[derive(Debug, Default)]
#[must_use]
pub struct EngineBuilder {
    collections: Vec<Collection>,
    store: Option<Arc<dyn Store>>,
    broker: Option<Arc<dyn Broker>>,
    mirrors: Vec<Arc<dyn Reflection>>,
    settings: Settings,
}

impl Engine {
    /// Describes a new engine.
    pub fn builder() -> EngineBuilder {
        EngineBuilder::default()
    }
}

impl EngineBuilder {
    /// Adds a collection.
    pub fn collection(mut self, collection: Collection) -> Self {
        self.collections.push(collection);
        self
    }

    /// Keeps tables and logs in this store.
    pub fn store(mut self, store: impl Store) -> Self {
        self.store = Some(Arc::new(store));
        self
    }

    /// Notifies the other nodes through this broker. Without a broker they find changes within the poll interval.
    pub fn broker(mut self, broker: impl Broker) -> Self {
        self.broker = Some(Arc::new(broker));
        self
    }

    /// Fills this mirror of a collection, and keeps it up to date.
    pub fn mirror<T>(mut self, mirror: &Mirror<T>) -> Self
    where
        T: DeserializeOwned + Send + Sync + 'static,
    {
        self.mirrors.push(mirror.reflection());
        self
    }

    /// Gives the collection a plain feed: a WebSocket without a subprotocol receives one JSON message per change from
    /// now on, in the form that the closure gives it. The closure runs once per change, not once per connection.
    ///
    /// ```
    /// # use fieldsync::Engine;
    /// # use serde_json::json;
    /// let builder = Engine::builder().feed("users", |change| json!({"type": change.action, "user": change.record}));
    /// ```
    pub fn feed(
        mut self,
        collection: impl Into<Arc<str>>,
        shape: impl Fn(&FeedChange) -> Value + Send + Sync + 'static,
    ) -> Self {
        self.settings
            .feeds
            .insert(collection.into(), Feed::new(shape));
        self
    }

    /// Lets pages of an origin open sockets. Pages of the server's own origin always may.
    ///
    /// An origin is what a browser sends, without a path: `https://app.example`, `http://localhost:3000`, `capacitor://localhost`,
    /// `chrome-extension://…`, or `null` for pages without one. `https://*.app.example` stands for every host below that one.
    pub fn allow_origin(mut self, origin: impl AsRef<str>) -> Self {
        self.settings.origins.allow(origin.as_ref());
        self
    }

    /// Lets pages of the origins open sockets for which the closure returns true. It gets what the browser sent.
    ///
    /// ```
    /// # use fieldsync::Engine;
    /// let builder = Engine::builder().allow_origin_if(|origin| origin.ends_with(".preview.example"));
    /// ```
    pub fn allow_origin_if(
        mut self,
        allows: impl Fn(&str) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.settings.origins.allow_if(allows);
        self
    }

    /// How long the logs keep changes. By default 7 days, and at most 1,000,000 changes and 4 GiB of
    /// each collection.
    pub fn retention(mut self, retention: Retention) -> Self {
        self.settings.retention = retention;
        self
    }

    /// What clients may take. By default what fits a public server.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.settings.limits = limits;
        self
    }

    /// How often the server sends a heartbeat on each connection. A socket that has not answered by the next one is closed. 15 s
    /// by default, at least 100 ms and at most 1 hour.
    pub fn heartbeat(mut self, interval: Duration) -> Self {
        self.settings.heartbeat = interval;
        self
    }

    /// How often the heads of all logs are read, to find changes of other nodes that the broker did not report. 1 s by
    /// default.
    pub fn poll_interval(mut self, interval: Duration) -> Self {
        self.settings.poll_interval = interval;
        self
    }

    /// Seals cursors with the first of these keys, and opens those that were sealed with any of them. By default there is one key,
    /// which the store makes when it is prepared for the first time, and keeps; all nodes on it share it.
    ///
    /// Keys are replaced in two deploys, since nodes of both run at the same time: first `[old, new]`, so that every node opens
    /// cursors of the new key, then `[new, old]`. Later the old one can be left out. A client whose cursor can't be opened
    /// receives a reset and a snapshot.
    ///
    /// ```no_run
    /// # use fieldsync::{CursorKey, Engine};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let key: CursorKey = std::env::var("CURSOR_KEY")?.parse()?;
    /// let builder = Engine::builder().cursor_keys([key]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn cursor_keys(mut self, keys: impl IntoIterator<Item = CursorKey>) -> Self {
        self.settings.cursor_keys = CursorKeys::new(keys);
        self
    }

    /// Checks the description, creates or checks the tables, and starts the engine's tasks on the current tokio runtime.
    ///
    /// # Errors
    /// When a collection is faulty, has no authorizer, or has rules that can't mean what they say, when a setting can't work, when a table
    /// does not fit its collection, or when the store fails.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn start(self) -> Result<Engine, StartError> {
        let Self {
            collections,
            store,
            broker,
            mirrors,
            mut settings,
        } = self;
        let no_store = "the engine has no store: add one with .store(…)";
        let store = store.ok_or_else(|| StartError::Incomplete(no_store.into()))?;
        let collections = check_collections(collections)?;
        check_settings(&settings, &collections)?;
        let dependencies = check_reads(&collections, &mirrors)?;
        let own = own_collections().into_iter().map(Arc::new);
        let all: Vec<_> = collections.values().cloned().chain(own).collect();
        store.prepare(&all).await?;
        if settings.cursor_keys.is_empty() {
            settings.cursor_keys = CursorKeys::new([store.cursor_key().await?]);
        }
        let notifications = Arc::new(NotificationQueue::default());
        let (rights, to_ask_again) = Rights::new(
            dependencies,
            mirrors,
            &collections,
            &*store,
            settings.retention,
            Arc::clone(&notifications),
        )
        .await?;
        let hubs = Arc::new(HubRegistry::new(all, store.heads().await?, rights));
        let group_commit = GroupCommit::start(
            Arc::clone(&store),
            &settings.limits,
            Arc::clone(&hubs),
            Arc::clone(&notifications),
        );
        let tail =
            Arc::clone(&hubs).tail(Arc::clone(&store), broker.clone(), settings.poll_interval);
        let capture_behind = Arc::default();
        let capture = Capture {
            store: Arc::clone(&store),
            hubs: Arc::clone(&hubs),
            notifications: Arc::clone(&notifications),
            retention: settings.retention,
            behind: Arc::clone(&capture_behind),
        };
        let capture = capture.start(settings.poll_interval);
        let trim = trim(Arc::clone(&store), settings.retention);
        let asks = Asks::about(collections.keys());
        let gauges = Arc::new(Gauges::new(hubs, asks, capture_behind));
        metrics::describe();
        let reasking = ask_again(
            to_ask_again,
            Arc::clone(&gauges.asks),
            Arc::clone(&store),
            collections.clone(),
        );
        let mut tasks = vec![
            tokio::spawn(Arc::clone(&gauges).export()).abort_handle(),
            tokio::spawn(tail).abort_handle(),
            tokio::spawn(trim).abort_handle(),
            tokio::spawn(reasking).abort_handle(),
        ];
        if let Some(broker) = broker {
            tasks.push(tokio::spawn(notifications.publish(broker)).abort_handle());
        }
        tracing::info!(collections = collections.len(), "fieldsync is ready");
        let engine = Engine::new(
            collections,
            store,
            gauges,
            group_commit,
            settings,
            capture,
            tasks,
        );
        // The tasks end with the engine, also if the future is dropped now.
        engine.gauges().hubs.rights.ready().await;
        Ok(engine)
    }
}

fn check_collections(
    collections: Vec<Collection>,
) -> Result<BTreeMap<Arc<str>, Arc<Collection>>, StartError> {
    let mut by_name: BTreeMap<Arc<str>, Arc<Collection>> = BTreeMap::new();
    for collection in collections {
        let name = Arc::clone(collection.name());
        let fault = |fault: String| {
            Err(StartError::Collection {
                collection: Arc::clone(&name),
                fault,
            })
        };
        if let Some(message) = collection.fault() {
            return fault(message.to_owned());
        }
        if name.starts_with(OWN_PREFIX) {
            return fault("begins with fieldsync_, which is reserved for fieldsync's own".into());
        }
        if collection.authorizer().is_none() {
            return fault(
                "has no authorizer: add rules with .rules(…), .authorize_fn(…) or .authorize(…), or call .open_to_everyone()"
                    .into(),
            );
        }
        if by_name.contains_key(&name) {
            return fault("is added twice".into());
        }
        let table = collection.table_name();
        let shares = |other: &&Arc<Collection>| other.table_name() == table;
        if let Some(other) = by_name.values().find(shares) {
            // Each would have a log of its own, and subscribers of one would miss the edits of the other.
            return fault(format!(
                "its table {table} already belongs to the collection {}: a table can have only one collection",
                other.name()
            ));
        }
        by_name.insert(name, Arc::new(collection.with_reads_of_authorizer()));
    }
    for (name, collection) in &by_name {
        let rules = collection.ruled_by();
        if let Some(Err(fault)) = rules.map(|rules| rules.check(collection, &by_name)) {
            let collection = Arc::clone(name);
            return Err(StartError::Collection { collection, fault });
        }
    }
    Ok(by_name)
}

/// What the rules of the collections read. Each mirror must have a collection, and its field.
fn check_reads(
    collections: &BTreeMap<Arc<str>, Arc<Collection>>,
    mirrors: &[Arc<dyn Reflection>],
) -> Result<Dependencies, StartError> {
    for mirror in mirrors {
        let name = mirror.collection();
        let Some(collection) = collections.get(name) else {
            return Err(StartError::Incomplete(format!(
                "the mirror of {name:?} has no collection of that name"
            )));
        };
        let field = mirror.field();
        if let Some(field) = field.filter(|field| !collection.can_name_principals(field)) {
            return Err(StartError::Incomplete(format!(
                "the mirror of {name:?} finds by the field {field:?}, which must be a field with text, integers or UUIDs, or id"
            )));
        }
    }
    Dependencies::of(collections).map_err(|unknown| StartError::Collection {
        collection: unknown.collection,
        fault: unknown.fault,
    })
}

fn check_settings(
    settings: &Settings,
    collections: &BTreeMap<Arc<str>, Arc<Collection>>,
) -> Result<(), StartError> {
    let feeds = &mut settings.feeds.keys();
    if let Some(unknown) = feeds.find(|name| !collections.contains_key(*name)) {
        return Err(StartError::Incomplete(format!(
            "the feed {unknown:?} has no collection of that name"
        )));
    }
    if let Some(bad) = &settings.origins.fault {
        return Err(StartError::Origin(bad.clone()));
    }
    match settings.fault() {
        Some(fault) => Err(StartError::Setting(fault)),
        None => Ok(()),
    }
}

/// Trims the logs in small steps, until the engine ends.
async fn trim(store: Arc<dyn Store>, retention: Retention) {
    let mut ticks = tokio::time::interval(TRIM_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        loop {
            match store.trim(retention).await {
                // Writes go on between the steps.
                Ok(true) => tokio::task::yield_now().await,
                Ok(false) => break,
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "the logs could not be trimmed"
                    );
                    break;
                }
            }
        }
    }
}
