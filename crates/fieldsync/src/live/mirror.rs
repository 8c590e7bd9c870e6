//! A whole collection in memory, which this node keeps up to date, so that rules can decide without waiting.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockWriteGuard};

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::live::looks::Looks;
use crate::model::access::Denied;
use crate::model::record::{Record, RecordId};
use crate::schema::collection::Collection;

/// How many records a mirror holds, unless the app says otherwise.
const MAX_RECORDS: usize = 100_000;

/// A read-only copy of a whole collection in memory, so that rules can decide without waiting.
///
/// It is made before the engine, and given to both the rule and [`EngineBuilder::mirror`](crate::EngineBuilder::mirror), which fills
/// it. Each node keeps its own up to date by the log of the collection: with what this node commits at once, with what others commit
/// within the poll interval, and always before a rule is asked again that [reads](crate::Collection::reads) the collection. A clone is
/// cheap and is the same mirror.
///
/// A mirror never answers from what may be outdated. While this node has not read the logs for two seconds, or if the mirror is not
/// complete, it is [unavailable](Denied::Unavailable), and so is the answer of the rule.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use fieldsync::{Collection, Denied, Engine, Filter, Grant, MemoryStore, Mirror, reads};
/// # use fieldsync::schemars::{self, JsonSchema};
/// # use serde::{Deserialize, Serialize};
///
/// #[derive(Default, Serialize, Deserialize, JsonSchema)]
/// #[serde(default)]
/// struct Member { user_id: String, project_id: i64 }
/// # #[derive(Default, Serialize, Deserialize, JsonSchema)]
/// # #[serde(default)]
/// # struct Task { project_id: i64, title: String }
///
/// let members = Mirror::<Member>::of("members").by("user_id");
/// let of_user = members.clone();
/// let tasks = Collection::of::<Task>("tasks")
///     .authorize_fn(move |principal, _| {
///         let user = principal.name().ok_or(Denied::Unauthenticated)?;
///         let projects = of_user.find(user)?.into_iter().map(|member| member.project_id);
///         Ok(Grant::full().with_rows(Filter::is_in("project_id", projects)))
///     })
///     .reads(reads("members").principal_by("user_id"));
///
/// let engine = Engine::builder()
///     .collection(tasks)
///     .collection(Collection::of::<Member>("members").open_to_everyone())
///     .mirror(&members)
///     .store(MemoryStore::new())
///     .start()
///     .await?;
/// assert!(members.find("ada")?.is_empty());
/// # Ok(())
/// # }
/// ```
pub struct Mirror<T>(Arc<Inner<T>>);

struct Inner<T> {
    collection: Arc<str>,
    /// The field by whose values records are found.
    by: Option<Arc<str>>,
    max_records: usize,
    looks: OnceLock<Arc<Looks>>,
    state: RwLock<State<T>>,
}

struct State<T> {
    records: HashMap<RecordId, Entry<T>>,
    /// The ids of the records with each value of the field.
    by_value: HashMap<String, BTreeSet<RecordId>>,
    /// Records that do not fit the type.
    unreadable: HashSet<RecordId>,
    is_current: bool,
    is_too_small: bool,
}

struct Entry<T> {
    fields: Arc<T>,
    value: Option<String>,
}

/// What fills a mirror, whatever its type is.
pub(crate) trait Reflection: fmt::Debug + Send + Sync {
    fn collection(&self) -> &Arc<str>;

    /// The field by whose values records are found.
    fn field(&self) -> Option<&Arc<str>>;

    /// The mirror is current as long as these looks are recent.
    fn follow(&self, looks: &Arc<Looks>);

    /// Forgets everything.
    fn clear(&self);

    /// Puts these records in the place of what they were before.
    fn put(&self, collection: &Collection, records: &[Record]);

    fn remove(&self, id: &RecordId);

    /// Notes that nothing is missing.
    fn complete(&self);
}

impl<T> Mirror<T> {
    /// The mirror of a collection. It is empty until the engine has started.
    #[must_use]
    pub fn of(collection: &str) -> Self {
        Self::with(collection.into(), None, MAX_RECORDS)
    }

    /// Finds records by the values of this field: [`Mirror::find`].
    #[must_use]
    pub fn by(self, field: &str) -> Self {
        let collection = Arc::clone(&self.0.collection);
        Self::with(collection, Some(field.into()), self.0.max_records)
    }

    /// The most records that it may hold. A collection with more is too large for a mirror, which then is unavailable until the app
    /// starts again. 100,000 by default.
    #[must_use]
    pub fn max_records(self, records: usize) -> Self {
        let collection = Arc::clone(&self.0.collection);
        Self::with(collection, self.0.by.clone(), records)
    }

    fn with(collection: Arc<str>, by: Option<Arc<str>>, max_records: usize) -> Self {
        Self(Arc::new(Inner {
            collection,
            by,
            max_records,
            looks: OnceLock::new(),
            state: RwLock::default(),
        }))
    }

    /// The record with this id.
    ///
    /// # Errors
    /// [`Denied::Unavailable`] when the mirror is not up to date.
    pub fn get(&self, id: impl Into<RecordId>) -> Result<Option<Arc<T>>, Denied> {
        self.read(|state| {
            let entry = state.records.get(&id.into());
            entry.map(|entry| Arc::clone(&entry.fields))
        })
    }

    /// The records whose [field](Mirror::by) has this value, in the order of their ids.
    ///
    /// # Errors
    /// [`Denied::Unavailable`] when the mirror is not up to date, or finds by no field.
    pub fn find(&self, value: &str) -> Result<Vec<Arc<T>>, Denied> {
        if self.0.by.is_none() {
            return Err(Denied::unavailable(
                "the mirror has no field to find by: add .by(…)",
            ));
        }
        self.read(|state| {
            let ids = state.by_value.get(value).into_iter().flatten();
            ids.map(|id| Arc::clone(&state.records[id].fields))
                .collect()
        })
    }

    /// All records, in no order.
    ///
    /// # Errors
    /// [`Denied::Unavailable`] when the mirror is not up to date.
    pub fn all(&self) -> Result<Vec<(RecordId, Arc<T>)>, Denied> {
        self.read(|state| {
            let records = state.records.iter();
            records
                .map(|(id, entry)| (id.clone(), Arc::clone(&entry.fields)))
                .collect()
        })
    }

    fn read<R>(&self, read: impl FnOnce(&State<T>) -> R) -> Result<R, Denied> {
        let state = self.0.state.read().unwrap_or_else(PoisonError::into_inner);
        let looks = self.0.looks.get();
        let fault = if state.is_too_small {
            "has more records than its mirror may hold"
        } else if !state.unreadable.is_empty() {
            "has records that do not fit the type of its mirror"
        } else if !state.is_current || !looks.is_some_and(|looks| looks.are_recent()) {
            "has a mirror that is not up to date"
        } else {
            return Ok(read(&state));
        };
        Err(Denied::unavailable(format!(
            "collection {} {fault}",
            self.0.collection
        )))
    }
}

impl<T: DeserializeOwned + Send + Sync + 'static> Mirror<T> {
    pub(crate) fn reflection(&self) -> Arc<dyn Reflection> {
        Arc::clone(&self.0) as Arc<dyn Reflection>
    }
}

impl<T> Inner<T> {
    fn write(&self) -> RwLockWriteGuard<'_, State<T>> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: DeserializeOwned + Send + Sync + 'static> Reflection for Inner<T> {
    fn collection(&self) -> &Arc<str> {
        &self.collection
    }

    fn field(&self) -> Option<&Arc<str>> {
        self.by.as_ref()
    }

    fn follow(&self, looks: &Arc<Looks>) {
        let _ = self.looks.set(Arc::clone(looks));
    }

    fn clear(&self) {
        let is_too_small = self.write().is_too_small;
        *self.write() = State {
            is_too_small,
            ..State::default()
        };
    }

    fn put(&self, collection: &Collection, records: &[Record]) {
        let mut state = self.write();
        for Record { id, fields } in records {
            state.remove(id);
            if state.is_too_small {
                return;
            }
            if state.records.len() >= self.max_records {
                tracing::error!(
                    collection = %self.collection,
                    "the collection has more records than its mirror may hold: rules that read it can't answer"
                );
                *state = State {
                    is_too_small: true,
                    ..State::default()
                };
                return;
            }
            let value = self.by.as_ref().and_then(|field| match &**field {
                "id" => Some(id.to_string()),
                field => text_of(fields.get(field)?),
            });
            let own = Value::Object(collection.own_fields(fields));
            match serde_json::from_value(own) {
                Ok(fields) => state.insert(id.clone(), Arc::new(fields), value),
                Err(_) => {
                    tracing::error!(
                        collection = %self.collection,
                        %id,
                        "a record does not fit the type of a mirror: rules that read it can't answer"
                    );
                    state.unreadable.insert(id.clone());
                }
            }
        }
    }

    fn remove(&self, id: &RecordId) {
        self.write().remove(id);
    }

    fn complete(&self) {
        self.write().is_current = true;
    }
}

impl<T> State<T> {
    fn insert(&mut self, id: RecordId, fields: Arc<T>, value: Option<String>) {
        if let Some(value) = value.clone() {
            self.by_value.entry(value).or_default().insert(id.clone());
        }
        self.records.insert(id, Entry { fields, value });
    }

    fn remove(&mut self, id: &RecordId) {
        self.unreadable.remove(id);
        let value = self.records.remove(id).and_then(|entry| entry.value);
        if let Some(value) = value
            && let Some(ids) = self.by_value.get_mut(&value)
        {
            ids.remove(id);
            if ids.is_empty() {
                self.by_value.remove(&value);
            }
        }
    }
}

/// The text of a value, as it is compared with the name of a principal.
fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

impl<T> Default for State<T> {
    fn default() -> Self {
        Self {
            records: HashMap::new(),
            by_value: HashMap::new(),
            unreadable: HashSet::new(),
            is_current: false,
            is_too_small: false,
        }
    }
}

impl<T> Clone for Mirror<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> fmt::Debug for Mirror<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Mirror").field(&self.0.collection).finish()
    }
}

impl<T> fmt::Debug for Inner<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Mirror").field(&self.collection).finish()
    }
}
