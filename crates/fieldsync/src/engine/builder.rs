//! Building an engine: everything is checked here, before the first request.

use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::broker::broker::Broker;
use crate::broker::relay::NotificationQueue;
use crate::engine::engine::Engine;
use crate::engine::group_commit::Committer;
use crate::engine::settings::Settings;
use crate::error::StartError;
use crate::live::feed::{Feed, FeedChange};
use crate::live::hub_registry::HubRegistry;
use crate::schema::collection::Collection;
use crate::store::store::{Retention, Store};

/// How often the logs are trimmed.
const TRIM_INTERVAL: Duration = Duration::from_secs(60);

/// Describes an engine; [`EngineBuilder::start`] checks it all and starts it.
#[derive(Debug, Default)]
#[must_use]
pub struct EngineBuilder {
    collections: Vec<Collection>,
    store: Option<Arc<dyn Store>>,
    broker: Option<Arc<dyn Broker>>,
    settings: Settings,
}

impl EngineBuilder {
    pub(crate) fn new() -> Self {
        Self::default()
    }

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

    /// Tells other nodes through this broker. Without one they notice within the poll interval.
    pub fn broker(mut self, broker: impl Broker) -> Self {
        self.broker = Some(Arc::new(broker));
        self
    }

    /// Gives the collection a plain feed: a WebSocket without a subprotocol gets one JSON message per change from now
    /// on, as the closure shapes it. It is called once per change, not per connection.
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

    /// Lets pages of this origin (`https://app.example`, without a path) open sockets. Those of the server's own origin
    /// always may.
    pub fn allow_origin(mut self, origin: impl Into<String>) -> Self {
        self.settings.allowed_origins.push(origin.into());
        self
    }

    /// Keeps the logs for so long. 7 days and 1,000,000 changes of each collection without this.
    pub fn retention(mut self, retention: Retention) -> Self {
        self.settings.retention = retention;
        self
    }

    /// Checks everything, makes or checks the tables, and starts the engine's tasks on the current tokio runtime.
    ///
    /// # Errors
    /// When a collection is not as it must be or has no rule, when a table does not fit, or when the store fails.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn start(self) -> Result<Engine, StartError> {
        let Self {
            collections,
            store,
            broker,
            settings,
        } = self;
        let store = store.ok_or_else(|| {
            StartError::Incomplete("the engine has no store: give it one with .store(…)".into())
        })?;
        let mut by_name = BTreeMap::new();
        for collection in collections {
            check(&collection)?;
            let name = Arc::clone(collection.name());
            let table = collection.table_name();
            let shares = |other: &&Arc<Collection>| other.table_name().eq_ignore_ascii_case(table);
            if let Some(other) = by_name
                .values()
                .find(shares)
                .filter(|other| *other.name() != name)
            {
                // Each would have a log of its own, and not hear of the other's edits.
                let fault = format!(
                    "its table {table} is that of the collection {} already: one table, one collection",
                    other.name()
                );
                return Err(StartError::Collection {
                    collection: name,
                    fault,
                });
            }
            if by_name
                .insert(Arc::clone(&name), Arc::new(collection))
                .is_some()
            {
                return Err(StartError::Collection {
                    collection: name,
                    fault: "stands twice".into(),
                });
            }
        }
        if let Some(unknown) = settings
            .feeds
            .keys()
            .find(|name| !by_name.contains_key(*name))
        {
            return Err(StartError::Incomplete(format!(
                "the feed {unknown:?} is of no collection of this engine"
            )));
        }
        if let Some(bad) = settings
            .allowed_origins
            .iter()
            .find(|origin| !is_origin(origin))
        {
            return Err(StartError::Origin(bad.clone()));
        }
        store
            .prepare(&by_name.values().cloned().collect::<Vec<_>>())
            .await?;
        let hubs = Arc::new(HubRegistry::new(by_name.clone(), store.heads().await?));
        let notices = Arc::new(NotificationQueue::default());
        let (told, followed) = (Arc::clone(&notices), Arc::clone(&hubs));
        let committer = Committer::start(Arc::clone(&store), followed, told);
        let mut tasks = vec![
            tokio::spawn(Arc::clone(&hubs).follow(
                Arc::clone(&store),
                broker.clone(),
                settings.poll_interval,
            ))
            .abort_handle(),
            tokio::spawn(trim(Arc::clone(&store), settings.retention)).abort_handle(),
        ];
        if let Some(broker) = broker {
            tasks.push(tokio::spawn(notices.publish(broker)).abort_handle());
        }
        tracing::info!(collections = by_name.len(), "fieldsync is ready");
        Ok(Engine::new(
            by_name, store, hubs, committer, settings, tasks,
        ))
    }
}

/// A scheme, a host and perhaps a port, as browsers send them (RFC 6454, section 6.2).
fn is_origin(text: &str) -> bool {
    let authority = text
        .split_once("://")
        .filter(|(scheme, _)| matches!(*scheme, "http" | "https"));
    authority.is_some_and(|(_, authority)| {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]_".contains(&byte);
        !authority.is_empty() && authority.bytes().all(known)
    })
}

fn check(collection: &Collection) -> Result<(), StartError> {
    let fault = match (collection.fault(), collection.rule()) {
        (Some(fault), _) => fault.to_owned(),
        (None, None) => "has no rule who may do what: give it one with .authorize(…), or say .open_to_everyone()".into(),
        (None, Some(_)) => return Ok(()),
    };
    Err(StartError::Collection {
        collection: Arc::clone(collection.name()),
        fault,
    })
}

/// Trims the logs in small steps, for ever.
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
