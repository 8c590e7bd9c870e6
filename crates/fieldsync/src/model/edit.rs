//! Edits, what becomes of them, and why they are refused: pure data.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::authorize::{Access, Denied};
use crate::change::Change;
use crate::collection::FieldErrors;
use crate::cursor::{Cursor, Position};
use crate::merge_patch::MergePatch;
use crate::record::{Fields, Record, RecordId, RecordKey, weight_of};
use crate::store::StoreError;

/// A wish: create, patch or delete one record.
///
/// ```
/// use fieldsync::Edit;
/// use serde_json::json;
///
/// let edit = Edit::patch(("users", 1), json!({"first_name": "Ada"})).with_idempotency_key("7f9c");
/// ```
#[derive(Debug, Clone)]
pub struct Edit {
    pub(crate) collection: Arc<str>,
    pub(crate) wish: Wish,
    pub(crate) preconditions: Vec<Precondition>,
    pub(crate) idempotency_key: Option<String>,
    pub(crate) base: Option<Position>,
}

#[derive(Clone)]
pub(crate) enum Wish {
    Create(Fields),
    Patch(RecordId, MergePatch),
    Change(RecordId, Rewrite),
    Delete(RecordId),
    Touch(RecordId),
    /// The body was not an object of fields; refused when its turn comes, with this message.
    Malformed(String),
}

/// Gives the fields to change from a record's current own fields.
type Rewrite = Arc<dyn Fn(&Fields) -> Result<Fields, serde_json::Error> + Send + Sync>;

impl fmt::Debug for Wish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create(fields) => f.debug_tuple("Create").field(fields).finish(),
            Self::Patch(id, patch) => f.debug_tuple("Patch").field(id).field(patch).finish(),
            Self::Change(id, _) => f.debug_tuple("Change").field(id).finish(),
            Self::Delete(id) => f.debug_tuple("Delete").field(id).finish(),
            Self::Touch(id) => f.debug_tuple("Touch").field(id).finish(),
            Self::Malformed(message) => f.debug_tuple("Malformed").field(message).finish(),
        }
    }
}

impl Edit {
    /// Makes a record from these fields; those that are missing get their defaults.
    pub fn create(collection: impl Into<Arc<str>>, fields: impl Serialize) -> Self {
        Self::new(
            collection.into(),
            object(&fields).map_or_else(Wish::Malformed, Wish::Create),
        )
    }

    /// Sets fields of a record, by JSON Merge Patch (RFC 7396).
    pub fn patch(key: impl Into<RecordKey>, patch: impl Serialize) -> Self {
        let RecordKey { collection, id } = key.into();
        let wish = object(&patch).map_or_else(Wish::Malformed, |fields| {
            Wish::Patch(id, MergePatch(fields))
        });
        Self::new(collection, wish)
    }

    /// Sets those fields of a record that the closure changes. It is called inside the transaction with the current
    /// record and must not block. It may be called more than once.
    pub fn change<T, F>(key: impl Into<RecordKey>, change: F) -> Self
    where
        T: Serialize + DeserializeOwned,
        F: Fn(&mut T) + Send + Sync + 'static,
    {
        let RecordKey { collection, id } = key.into();
        let rewrite = move |fields: &Fields| {
            let written = |record: &T| {
                serde_json::to_value(record).and_then(serde_json::from_value::<Fields>)
            };
            let mut record: T = serde_json::from_value(Value::Object(fields.clone()))?;
            let before = written(&record)?;
            change(&mut record);
            let mut after = written(&record)?;
            // A field that the type leaves out now is one that the closure took away.
            for name in before.keys().filter(|name| fields.contains_key(*name)) {
                after.entry(name.clone()).or_insert(Value::Null);
            }
            // Only what the closure changed: the type may hold less of a record than the table does.
            after.retain(|name, value| before.get(name) != Some(value));
            Ok(after)
        };
        Self::new(collection, Wish::Change(id, Arc::new(rewrite)))
    }

    /// Deletes a record.
    pub fn delete(key: impl Into<RecordKey>) -> Self {
        let RecordKey { collection, id } = key.into();
        Self::new(collection, Wish::Delete(id))
    }

    /// Announces what SQL of the app's own did to a record. All its fields count as changed.
    pub fn touch(key: impl Into<RecordKey>) -> Self {
        let RecordKey { collection, id } = key.into();
        Self::new(collection, Wish::Touch(id))
    }

    /// Applies the edit only if the record is in the state that the precondition names. Several must all hold.
    #[must_use]
    pub fn with_precondition(mut self, precondition: Precondition) -> Self {
        self.preconditions.push(precondition);
        self
    }

    /// Applies the edit only if no field that it touches has changed since this place; a delete touches all. A field
    /// that is back at its old value has changed.
    #[must_use]
    pub fn with_base(self, base: Cursor) -> Self {
        Self {
            base: Some(base.position),
            ..self
        }
    }

    /// Makes a repetition safe: for 24 hours the same edit by the same principal with the same key is applied once,
    /// and answered as the first was. Two closures are not told apart: an edit by closure needs a key for each.
    #[must_use]
    pub fn with_idempotency_key(self, key: impl Into<String>) -> Self {
        Self {
            idempotency_key: Some(key.into()),
            ..self
        }
    }

    /// The collection.
    #[must_use]
    pub fn collection(&self) -> &Arc<str> {
        &self.collection
    }

    /// The record, unless the edit creates one.
    #[must_use]
    pub fn key(&self) -> Option<RecordKey> {
        let id = match &self.wish {
            Wish::Patch(id, _) | Wish::Change(id, _) | Wish::Delete(id) | Wish::Touch(id) => *id,
            Wish::Create(_) | Wish::Malformed(_) => return None,
        };
        Some(RecordKey {
            collection: Arc::clone(&self.collection),
            id,
        })
    }

    /// What its author must be allowed to do.
    pub(crate) fn access(&self) -> Access {
        match self.wish {
            Wish::Create(_) => Access::Create,
            Wish::Delete(_) => Access::Delete,
            Wish::Patch(..) | Wish::Change(..) | Wish::Touch(_) | Wish::Malformed(_) => {
                Access::Update
            }
        }
    }

    /// Tells the same edit from another one under the same idempotency key.
    pub(crate) fn fingerprint(&self) -> String {
        let text = format!(
            "{} {:?} {:?} {:?}",
            self.collection, self.wish, self.preconditions, self.base
        );
        sha1_smol::Sha1::from(text).digest().to_string()
    }

    /// About how many bytes the edit takes, so that a batch stays bounded.
    pub(crate) fn weight(&self) -> usize {
        match &self.wish {
            Wish::Create(fields) | Wish::Patch(_, MergePatch(fields)) => weight_of(fields),
            Wish::Change(..) | Wish::Delete(_) | Wish::Touch(_) | Wish::Malformed(_) => 0,
        }
    }

    fn new(collection: Arc<str>, wish: Wish) -> Self {
        Self {
            collection,
            wish,
            preconditions: Vec::new(),
            idempotency_key: None,
            base: None,
        }
    }
}

fn object(fields: &impl Serialize) -> Result<Fields, String> {
    match serde_json::to_value(fields) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err("an edit's fields must be an object".into()),
        Err(error) => Err(format!("the fields are not JSON: {error}")),
    }
}

/// A condition on the current record (RFC 9110, section 13.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Precondition {
    /// `If-Match: *`: the record exists.
    Exists,
    /// `If-Match`: the record's strong entity tag is one of these, quotes included.
    Matches(Vec<String>),
    /// `If-None-Match`: the record's entity tag is none of these, quotes included.
    MatchesNone(Vec<String>),
    /// `If-None-Match: *`: the record does not exist.
    Absent,
}

impl Precondition {
    /// Whether it holds for a record with this entity tag, or for none.
    #[must_use]
    pub fn holds(&self, tag: Option<&str>) -> bool {
        let among = |tags: &[String]| tag.is_some_and(|tag| tags.iter().any(|one| one == tag));
        match self {
            Self::Exists => tag.is_some(),
            Self::Absent => tag.is_none(),
            Self::Matches(tags) => among(tags),
            Self::MatchesNone(tags) => !among(tags),
        }
    }
}

/// What became of an edit that was not refused.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Outcome {
    /// It is committed, with this change.
    Committed(Arc<Change>),
    /// The record already was as wished; nothing was written but the idempotency key.
    Unchanged {
        /// The record.
        record: Record,
        /// The end of the log when the record was read.
        position: Position,
    },
    /// Its idempotency key was used before, by the same edit: this is what became of that.
    Replayed(Remembered),
}

impl Outcome {
    /// The record after the edit; `None` after a delete.
    #[must_use]
    pub fn record(&self) -> Option<Record> {
        let fields = self.fields()?.clone();
        Some(Record {
            id: self.id(),
            fields,
        })
    }

    /// The record's id.
    pub(crate) fn id(&self) -> RecordId {
        match self {
            Self::Committed(change) => change.key.id,
            Self::Unchanged { record, .. } => record.id,
            Self::Replayed(remembered) => remembered.id,
        }
    }

    /// The record's fields after the edit; `None` after a delete.
    pub(crate) fn fields(&self) -> Option<&Fields> {
        match self {
            Self::Committed(change) if change.action == crate::Action::Delete => None,
            Self::Committed(change) => Some(&change.after),
            Self::Unchanged { record, .. } => Some(&record.fields),
            Self::Replayed(remembered) => remembered.record.as_ref(),
        }
    }

    /// A place in the log at or after the edit's change: whoever has seen the log up to here has seen the edit.
    #[must_use]
    pub fn position(&self) -> Position {
        match self {
            Self::Committed(change) => change.position,
            Self::Unchanged { position, .. } => *position,
            Self::Replayed(remembered) => remembered.position,
        }
    }
}

/// What a store keeps of an edit with an idempotency key, for 24 hours, whatever is trimmed from the log.
#[derive(Debug, Clone, PartialEq)]
pub struct Remembered {
    /// Whose key, and the key.
    pub key: IdempotencyKey,
    /// Tells the same edit from another one.
    pub fingerprint: String,
    /// The collection.
    pub collection: Arc<str>,
    /// The record's id.
    pub id: RecordId,
    /// Where the log was after the edit.
    pub position: Position,
    /// The record after the edit; `None` after a delete.
    pub record: Option<Fields>,
}

/// An idempotency key. The same text from two principals is two keys.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IdempotencyKey {
    /// Who used it: `app`, `anonymous`, or `name:` and the principal's name.
    pub principal: String,
    /// The text, of 1 to 255 bytes.
    pub key: String,
}

/// Why an edit was refused. Nothing of a refused edit is stored.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// There is no such collection, or none for this principal.
    #[error("collection {0} not found")]
    NoSuchCollection(Arc<str>),
    /// There is no such record, or none for this principal.
    #[error("record {0} not found")]
    NotFound(RecordKey),
    /// Not allowed.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The collection takes no new records.
    #[error("collection {0} takes no new records")]
    NotCreatable(Arc<str>),
    /// The record is not in the state that the precondition names.
    #[error("the record is not in the state that the precondition names")]
    PreconditionFailed,
    /// Fields that the edit touches have changed since its base.
    #[error("changed since the base: {}", .0.keys().cloned().collect::<Vec<_>>().join(", "))]
    ChangedSinceBase(BTreeMap<String, FieldConflict>),
    /// What changed since the edit's base can't be told: the log was trimmed, or is another one.
    #[error("what changed since the base can't be told")]
    BaseUnknown {
        /// The record as it is now, as far as it may be seen.
        current: Fields,
    },
    /// The edit is not an object of fields.
    #[error("{0}")]
    Malformed(String),
    /// Fields hold what they must not.
    #[error("invalid fields: {}", names(.0))]
    Invalid(FieldErrors),
    /// Another record has what must be unique, or refers to this one.
    #[error("conflict in fields: {}", names(.0))]
    Conflict(FieldErrors),
    /// The idempotency key was used for another edit.
    #[error("the idempotency key was used for another edit")]
    KeyReused,
    /// The app's own code panicked on it: a rule's test on rows, a check, or a closure.
    #[error("the app's own code panicked on this edit")]
    AppPanicked,
    /// It could not be tried in time; nothing of it is stored.
    #[error("too busy to apply the edit in time")]
    Busy,
    /// Somebody else's lock keeps it out of a batch. Said by stores alone: the engine hands the edit in again, by itself.
    #[error("somebody else has locked what the edit needs")]
    Locked,
}

/// A field that changed since an edit's base.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FieldConflict {
    /// What it held at the base, where that is known and may be seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<Value>,
    /// What the edit would have set; nothing for a delete.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mine: Option<Value>,
    /// What it holds now, where that may be seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub theirs: Option<Value>,
}

fn names(errors: &FieldErrors) -> String {
    errors
        .iter()
        .map(|(name, messages)| format!("{name} {}", messages.join(", ")))
        .collect::<Vec<_>>()
        .join("; ")
}

/// Why an edit or a reading failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// It was refused, and nothing of it is stored.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store failed. What became of an edit is unknown; with the same idempotency key it can be tried again.
    #[error("the store failed")]
    Store(#[from] Arc<StoreError>),
    /// The engine is stopping, and takes no more edits.
    #[error("the engine is stopping")]
    Stopping,
    /// The stored record does not fit the app's type. What was to be done to it is done.
    #[error("record {key} does not fit the type")]
    Unreadable {
        /// The record.
        key: RecordKey,
        /// Why.
        source: serde_json::Error,
    },
}

impl From<StoreError> for EngineError {
    fn from(error: StoreError) -> Self {
        Self::Store(Arc::new(error))
    }
}
