//! Edits: requests to create, update or delete one record.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::fmt;
use std::sync::Arc;

use crate::model::access::Access;
use crate::model::canonical::CanonicalHasher;
use crate::model::cursor::{Cursor, Position};
use crate::model::merge_patch::MergePatch;
use crate::model::record::{Fields, RecordId, RecordKey, size_of_fields};

/// A kind: create, patch or delete one record.
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
    pub(crate) kind: EditKind,
    pub(crate) preconditions: Vec<Precondition>,
    pub(crate) idempotency_key: Option<String>,
    pub(crate) base: Option<Position>,
}

#[derive(Clone)]
pub(crate) enum EditKind {
    Create(Fields),
    Patch(RecordId, MergePatch),
    Update(RecordId, UpdateFn),
    Delete(RecordId),
    Refresh(RecordId),
    /// The body was not an object of fields; refused when its turn comes, with this message.
    Malformed(String),
}

/// Gives the fields to change from a record's current own fields.
type UpdateFn = Arc<dyn Fn(&Fields) -> Result<Fields, serde_json::Error> + Send + Sync>;

impl fmt::Debug for EditKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create(fields) => f.debug_tuple("Create").field(fields).finish(),
            Self::Patch(id, patch) => f.debug_tuple("Patch").field(id).field(patch).finish(),
            Self::Update(id, _) => f.debug_tuple("Update").field(id).finish(),
            Self::Delete(id) => f.debug_tuple("Delete").field(id).finish(),
            Self::Refresh(id) => f.debug_tuple("Refresh").field(id).finish(),
            Self::Malformed(message) => f.debug_tuple("Malformed").field(message).finish(),
        }
    }
}

impl Edit {
    /// Makes a record from these fields; those that are missing get their defaults.
    pub fn create(collection: impl Into<Arc<str>>, fields: impl Serialize) -> Self {
        Self::new(
            collection.into(),
            object(&fields).map_or_else(EditKind::Malformed, EditKind::Create),
        )
    }

    /// Sets fields of a record, by JSON Merge Patch (RFC 7396).
    pub fn patch(key: impl Into<RecordKey>, patch: impl Serialize) -> Self {
        let RecordKey { collection, id } = key.into();
        let kind = object(&patch).map_or_else(EditKind::Malformed, |fields| {
            EditKind::Patch(id, MergePatch(fields))
        });
        Self::new(collection, kind)
    }

    /// Sets those fields of a record that the closure changes. It is called inside the transaction with the current
    /// record and must not block. It may be called more than once.
    pub fn update<T, F>(key: impl Into<RecordKey>, change: F) -> Self
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
        Self::new(collection, EditKind::Update(id, Arc::new(rewrite)))
    }

    /// Deletes a record.
    pub fn delete(key: impl Into<RecordKey>) -> Self {
        let RecordKey { collection, id } = key.into();
        Self::new(collection, EditKind::Delete(id))
    }

    /// Announces what SQL of the app's own did to a record. All its fields count as changed.
    pub fn refresh(key: impl Into<RecordKey>) -> Self {
        let RecordKey { collection, id } = key.into();
        Self::new(collection, EditKind::Refresh(id))
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
        let id = match &self.kind {
            EditKind::Patch(id, _)
            | EditKind::Update(id, _)
            | EditKind::Delete(id)
            | EditKind::Refresh(id) => *id,
            EditKind::Create(_) | EditKind::Malformed(_) => return None,
        };
        Some(RecordKey {
            collection: Arc::clone(&self.collection),
            id,
        })
    }

    /// What its author must be allowed to do.
    pub(crate) fn access(&self) -> Access {
        match self.kind {
            EditKind::Create(_) => Access::Create,
            EditKind::Delete(_) => Access::Delete,
            EditKind::Patch(..)
            | EditKind::Update(..)
            | EditKind::Refresh(_)
            | EditKind::Malformed(_) => Access::Update,
        }
    }

    /// The identity of what the edit asks for. A repetition under the same idempotency key has the same fingerprint.
    ///
    /// Two closures can't be told apart: an update by closure is identified by its record alone.
    pub(crate) fn fingerprint(&self) -> String {
        let mut hasher = CanonicalHasher::new("edit/1");
        hasher.text(&self.collection);
        match &self.kind {
            EditKind::Create(fields) => {
                hasher.text("create");
                hasher.object(fields);
            }
            EditKind::Patch(id, patch) => {
                hasher.text("patch");
                hasher.text(&id.to_string());
                hasher.object(&patch.0);
            }
            EditKind::Update(id, _) => {
                hasher.text("update");
                hasher.text(&id.to_string());
            }
            EditKind::Delete(id) => {
                hasher.text("delete");
                hasher.text(&id.to_string());
            }
            EditKind::Refresh(id) => {
                hasher.text("refresh");
                hasher.text(&id.to_string());
            }
            EditKind::Malformed(message) => {
                hasher.text("malformed");
                hasher.text(message);
            }
        }
        hasher.list(self.preconditions.len());
        for precondition in &self.preconditions {
            precondition.identify(&mut hasher);
        }
        if let Some(base) = hasher.option(self.base) {
            hasher.number(base.epoch.into());
            hasher.number(base.offset.into());
            hasher.number(base.tag.into());
        }
        hasher.hex()
    }

    /// About how many bytes the edit takes, so that a batch stays bounded.
    pub(crate) fn size_in_memory(&self) -> usize {
        match &self.kind {
            EditKind::Create(fields) | EditKind::Patch(_, MergePatch(fields)) => {
                size_of_fields(fields)
            }
            EditKind::Update(..)
            | EditKind::Delete(_)
            | EditKind::Refresh(_)
            | EditKind::Malformed(_) => 0,
        }
    }

    fn new(collection: Arc<str>, kind: EditKind) -> Self {
        Self {
            collection,
            kind,
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

    fn identify(&self, hasher: &mut CanonicalHasher) {
        let (name, tags) = match self {
            Self::Exists => ("exists", None),
            Self::Matches(tags) => ("matches", Some(tags)),
            Self::MatchesNone(tags) => ("matches-none", Some(tags)),
            Self::Absent => ("absent", None),
        };
        hasher.text(name);
        if let Some(tags) = hasher.option(tags) {
            hasher.list(tags.len());
            tags.iter().for_each(|tag| hasher.text(tag));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A fingerprint that changes makes every repetition of an edit look like another edit: 422 for 24 hours.
    #[test]
    fn fingerprints_are_pinned() {
        let create = Edit::create("users", json!({"last_name": "King", "first_name": "Ada"}));
        let patch = Edit::patch(("users", 7), json!({"first_name": null, "age": 36}))
            .with_precondition(Precondition::Exists)
            .with_precondition(Precondition::MatchesNone(vec!["\"abc\"".into()]));
        let update = Edit::update(("users", 7), |_: &mut Fields| {});
        let based = Edit {
            base: Some(Position {
                epoch: 1,
                offset: 2,
                tag: 3,
            }),
            ..Edit::delete(("users", uuid::Uuid::nil()))
        };
        let refresh = Edit::refresh(("users", 7));
        let fingerprints = [create, patch, update, based, refresh].map(|edit| edit.fingerprint());
        assert_eq!(
            fingerprints,
            [
                "cd60156daf036c1d013b51edab05c5be1bf26493",
                "143b8706debf0c6fbae992efbacd17db1e5a546f",
                "d5943b05ebcc09aeb32c8e578d31cddf351df87d",
                "f9a462226957277d36be9a6af42ffd7d29cd5255",
                "91ebf696fc11c725365b608d1907d2045a06e25e",
            ]
        );
    }
}
