//! Edits: requests to create, update or delete one record.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::model::access::Access;
use crate::model::canonical::CanonicalHasher;
use crate::model::changes_since::History;
use crate::model::cursor::{Cursor, Position};
use crate::model::exact_number::restore;
use crate::model::field_errors::FieldErrors;
use crate::model::precondition::Precondition;
use crate::model::record::{Fields, RecordId, RecordKey, size_of_fields};
use crate::model::typed::typed;

/// A request to create, update or delete one record.
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
    /// What has changed in the record since the base, as far as it was read before the transaction.
    pub(crate) history: Option<History>,
}

#[derive(Clone)]
pub(crate) enum EditKind {
    Create(Option<RecordId>, EditFields),
    Patch(RecordId, EditFields),
    Update(RecordId, UpdateFn),
    Delete(RecordId),
    Refresh(RecordId),
    /// The edit can't be read as an object of fields. It is refused with this message when it is decided.
    Malformed(String),
}

/// The fields of an edit.
#[derive(Clone)]
pub(crate) enum EditFields {
    Given(Fields),
    /// Computed from the ids of the records that the earlier edits of the transaction are about.
    FromIds(FieldsFn),
}

/// Computes fields from ids. An error says why the result is not an object of fields.
type FieldsFn = Arc<dyn Fn(&[RecordId]) -> Result<Fields, String> + Send + Sync>;

/// Computes the fields to change from the current values of the record's own fields.
type UpdateFn = Arc<dyn Fn(&Fields) -> Result<Fields, UpdateError> + Send + Sync>;

/// Why a closure changed nothing.
#[derive(Debug)]
pub(crate) enum UpdateError {
    /// The record can't be read as the closure's type, or what the closure made of it can't be written.
    Unreadable(serde_json::Error),
    /// The closure refused.
    Refused(FieldErrors),
}

/// What the closure of an update may return: nothing, or `Err(FieldErrors)` to refuse the edit.
pub trait UpdateResult: sealed::Sealed {
    #[doc(hidden)]
    fn into_result(self) -> Result<(), FieldErrors>;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for () {}
    impl Sealed for Result<(), super::FieldErrors> {}
}

impl UpdateResult for () {
    fn into_result(self) -> Result<(), FieldErrors> {
        Ok(())
    }
}

impl UpdateResult for Result<(), FieldErrors> {
    fn into_result(self) -> Self {
        self
    }
}

impl Edit {
    /// Creates a record with these fields. Fields that are missing get their defaults.
    pub fn create(collection: impl Into<Arc<str>>, fields: impl Serialize) -> Self {
        let kind = object(&fields).map_or_else(EditKind::Malformed, |fields| {
            EditKind::Create(None, EditFields::Given(fields))
        });
        Self::new(collection.into(), kind)
    }

    /// Creates a record whose fields are computed from the ids of the records that the earlier edits of its transaction
    /// create or change, in the order of the edits.
    ///
    /// The closure runs inside the transaction. It must not block, and it may run more than once.
    ///
    /// ```
    /// use fieldsync::Edit;
    /// use serde_json::json;
    ///
    /// let transaction = vec![
    ///     Edit::create("orders", json!({"customer": "Ada"})),
    ///     Edit::create_with("items", |ids| json!({"order_id": ids[0], "product": "engine"})),
    /// ];
    /// ```
    pub fn create_with<F, T>(collection: impl Into<Arc<str>>, fields: F) -> Self
    where
        F: Fn(&[RecordId]) -> T + Send + Sync + 'static,
        T: Serialize,
    {
        let fields = EditFields::FromIds(Arc::new(move |ids| object(&fields(ids))));
        Self::new(collection.into(), EditKind::Create(None, fields))
    }

    /// Sets fields of a record, by JSON Merge Patch (RFC 7396).
    pub fn patch(key: impl Into<RecordKey>, patch: impl Serialize) -> Self {
        let RecordKey { collection, id } = key.into();
        let kind = object(&patch).map_or_else(EditKind::Malformed, |fields| {
            EditKind::Patch(id, EditFields::Given(fields))
        });
        Self::new(collection, kind)
    }

    /// Sets fields of a record to values that are computed as for [`Edit::create_with`].
    pub fn patch_with<F, T>(key: impl Into<RecordKey>, patch: F) -> Self
    where
        F: Fn(&[RecordId]) -> T + Send + Sync + 'static,
        T: Serialize,
    {
        let RecordKey { collection, id } = key.into();
        let fields = EditFields::FromIds(Arc::new(move |ids| object(&patch(ids))));
        Self::new(collection, EditKind::Patch(id, fields))
    }

    /// Sets the fields of a record that the closure changes.
    ///
    /// The closure runs inside the transaction with the current record. It must not block, and it may run more than
    /// once. To refuse the edit it returns `Err(FieldErrors)`.
    pub fn update<T, F, R>(key: impl Into<RecordKey>, change: F) -> Self
    where
        T: Serialize + DeserializeOwned,
        F: Fn(&mut T) -> R + Send + Sync + 'static,
        R: UpdateResult,
    {
        let RecordKey { collection, id } = key.into();
        let update = move |fields: &Fields| changed_fields(fields, &change);
        Self::new(collection, EditKind::Update(id, Arc::new(update)))
    }

    /// Deletes a record.
    pub fn delete(key: impl Into<RecordKey>) -> Self {
        let RecordKey { collection, id } = key.into();
        Self::new(collection, EditKind::Delete(id))
    }

    /// Logs the current row of a record that the app's own SQL has changed, so that subscribers receive it. All its
    /// fields count as changed.
    pub fn refresh(key: impl Into<RecordKey>) -> Self {
        let RecordKey { collection, id } = key.into();
        Self::new(collection, EditKind::Refresh(id))
    }

    /// Gives the record that is created this id. Only for collections whose ids are not given by the database.
    #[must_use]
    pub fn with_id(self, id: impl Into<RecordId>) -> Self {
        let kind = match self.kind {
            EditKind::Create(_, fields) => EditKind::Create(Some(id.into()), fields),
            EditKind::Malformed(message) => EditKind::Malformed(message),
            _ => {
                EditKind::Malformed("only an edit that creates a record can be given an id".into())
            }
        };
        Self { kind, ..self }
    }

    /// Applies the edit only if the precondition holds for the current record. Of several preconditions, all must hold.
    #[must_use]
    pub fn with_precondition(mut self, precondition: Precondition) -> Self {
        self.preconditions.push(precondition);
        self
    }

    /// Applies the edit only if none of the fields that it sets has changed since this cursor. A delete counts as
    /// setting every field. A field that was changed and changed back counts as changed.
    #[must_use]
    pub fn with_base(self, base: Cursor) -> Self {
        Self {
            base: Some(base.position),
            ..self
        }
    }

    /// The same with a base that no log has, so that the edit is refused.
    pub(crate) fn with_unknown_base(self) -> Self {
        let nowhere = Position {
            // Those of logs are odd.
            epoch: 0,
            offset: 0,
            tag: 0,
        };
        Self {
            base: Some(nowhere),
            history: Some(History::Lost),
            ..self
        }
    }

    /// Makes it safe to repeat the edit. The key has 1 to 255 bytes. For 24 hours the same edit by the same principal with the same key is applied
    /// once, and a repetition returns the outcome of the first.
    ///
    /// Two closures can't be compared: give each update by closure a key of its own.
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

    /// The record. `None` for an edit that creates a record without giving its id.
    #[must_use]
    pub fn key(&self) -> Option<RecordKey> {
        let id = match &self.kind {
            EditKind::Create(id, _) => id.clone()?,
            EditKind::Patch(id, _)
            | EditKind::Update(id, _)
            | EditKind::Delete(id)
            | EditKind::Refresh(id) => id.clone(),
            EditKind::Malformed(_) => return None,
        };
        Some(RecordKey {
            collection: Arc::clone(&self.collection),
            id,
        })
    }

    /// The access that the edit needs.
    pub(crate) fn access(&self) -> Access {
        match self.kind {
            EditKind::Create(..) => Access::Create,
            EditKind::Delete(_) => Access::Delete,
            EditKind::Patch(..)
            | EditKind::Update(..)
            | EditKind::Refresh(_)
            | EditKind::Malformed(_) => Access::Update,
        }
    }

    pub(crate) fn has_idempotency_key(&self) -> bool {
        self.idempotency_key.is_some()
    }

    /// The position after which the edit's transaction reads what has changed since the base.
    pub(crate) fn base_to_read(&self) -> Option<Position> {
        match &self.history {
            None => self.base,
            Some(History::Lost) => None,
            Some(History::UpTo(position, _)) => Some(*position),
        }
    }

    /// Whether the edit creates a record without giving its id.
    pub(crate) fn needs_new_id(&self) -> bool {
        matches!(self.kind, EditKind::Create(None, _))
    }

    /// Whether the edit's fields are computed from the ids of earlier edits.
    pub(crate) fn needs_ids(&self) -> bool {
        matches!(
            self.kind,
            EditKind::Create(_, EditFields::FromIds(_))
                | EditKind::Patch(_, EditFields::FromIds(_))
        )
    }

    /// The identity of what the edit asks for. A repetition under the same idempotency key has the same fingerprint.
    pub(crate) fn fingerprint(&self) -> String {
        let mut hasher = CanonicalHasher::new("edit/1");
        hasher.text(&self.collection);
        let (name, id, fields) = match &self.kind {
            EditKind::Create(id, fields) => ("create", id.clone(), Some(fields)),
            EditKind::Patch(id, fields) => ("patch", Some(id.clone()), Some(fields)),
            EditKind::Update(id, _) => ("update", Some(id.clone()), None),
            EditKind::Delete(id) => ("delete", Some(id.clone()), None),
            EditKind::Refresh(id) => ("refresh", Some(id.clone()), None),
            EditKind::Malformed(_) => ("malformed", None, None),
        };
        hasher.text(name);
        if let Some(id) = hasher.option(id) {
            hasher.text(&id.to_string());
        }
        // Closures can't be compared, so that they are left out.
        if let Some(EditFields::Given(fields)) = fields {
            hasher.object(fields);
        }
        if let EditKind::Malformed(message) = &self.kind {
            hasher.text(message);
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

    /// About how many bytes the edit takes in memory, so that a batch stays bounded.
    pub(crate) fn size_in_memory(&self) -> usize {
        match &self.kind {
            EditKind::Create(_, EditFields::Given(fields))
            | EditKind::Patch(_, EditFields::Given(fields)) => size_of_fields(fields),
            _ => 0,
        }
    }

    fn new(collection: Arc<str>, kind: EditKind) -> Self {
        Self {
            collection,
            kind,
            preconditions: Vec::new(),
            idempotency_key: None,
            base: None,
            history: None,
        }
    }
}

impl EditFields {
    /// The fields, given the ids of the records of the earlier edits.
    pub(crate) fn resolve(&self, ids: &[RecordId]) -> Result<Fields, String> {
        match self {
            Self::Given(fields) => Ok(fields.clone()),
            Self::FromIds(fields) => fields(ids),
        }
    }
}

/// Runs an update's closure on a record, and returns the fields that it changed.
fn changed_fields<T, R>(
    fields: &Fields,
    change: &impl Fn(&mut T) -> R,
) -> Result<Fields, UpdateError>
where
    T: Serialize + DeserializeOwned,
    R: UpdateResult,
{
    let read = |record: &Fields| typed(record.clone());
    let write =
        |record: &T| serde_json::to_value(record).and_then(serde_json::from_value::<Fields>);
    let mut record: T = read(fields).map_err(UpdateError::Unreadable)?;
    let before = write(&record).map_err(UpdateError::Unreadable)?;
    change(&mut record)
        .into_result()
        .map_err(UpdateError::Refused)?;
    let mut after = write(&record).map_err(UpdateError::Unreadable)?;
    // A field that the type no longer writes was removed by the closure.
    for name in before.keys().filter(|name| fields.contains_key(*name)) {
        after.entry(name.clone()).or_insert(Value::Null);
    }
    // The type may hold less of a record than the table does: only what the closure changed counts.
    after.retain(|name, value| before.get(name) != Some(value));
    for (name, value) in &mut after {
        fields
            .get(name)
            .into_iter()
            .for_each(|exact| restore(value, exact));
    }
    Ok(after)
}

fn object(fields: &impl Serialize) -> Result<Fields, String> {
    match serde_json::to_value(fields) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err("an edit's fields must be an object".into()),
        Err(error) => Err(format!("the fields are not JSON: {error}")),
    }
}

impl fmt::Debug for EditKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create(id, fields) => f.debug_tuple("Create").field(id).field(fields).finish(),
            Self::Patch(id, fields) => f.debug_tuple("Patch").field(id).field(fields).finish(),
            Self::Update(id, _) => f.debug_tuple("Update").field(id).finish(),
            Self::Delete(id) => f.debug_tuple("Delete").field(id).finish(),
            Self::Refresh(id) => f.debug_tuple("Refresh").field(id).finish(),
            Self::Malformed(message) => f.debug_tuple("Malformed").field(message).finish(),
        }
    }
}

impl fmt::Debug for EditFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(fields) => fields.fmt(f),
            Self::FromIds(_) => f.write_str("FromIds"),
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
                "972b79340f132a58f81765eac945b6b282ea243f",
                "ad1049a4c5bfa2e7e7b4c6c86476715294ce16c4",
                "fd92202cc3b0727ecb47f976fefe9e0f642d30b2",
                "4d131a1a7744c2c8c7923ccda7d993add97dbad4",
                "4fc2b3c7d95e4259f3616c9c019e3b998380de19",
            ]
        );
    }
}
