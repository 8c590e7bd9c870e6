//! The ids of records: what can be looked up in a collection's table. Anything else is refused before a store is asked.

use serde_json::Value;

use crate::model::access::Access;
use crate::model::edit::{Edit, EditFields, EditKind};
use crate::model::field_errors::FieldErrors;
use crate::model::record::{Fields, RecordId, join_composite, split_composite};
use crate::model::refusal::Refusal;
use crate::schema::collection::Collection;
use crate::schema::field::{Ids, IdsGivenBy};

/// The maximum length of an id that is text, in bytes. A row with a longer one, or an empty one, is left out.
pub const MAX_ID_BYTES: usize = 1024;

/// The maximum length of an idempotency key, in bytes.
const MAX_IDEMPOTENCY_KEY_BYTES: usize = 255;

impl Collection {
    /// Whether an id is of the kind that this collection has. Another one can't be looked up in its table.
    pub(crate) fn has_id_kind(&self, id: &RecordId) -> bool {
        match (self.ids(), id) {
            (Ids::Integer, RecordId::Integer(_)) | (Ids::UuidV7, RecordId::Uuid(_)) => true,
            (Ids::Text, RecordId::Text(text)) => {
                let fits = (1..=MAX_ID_BYTES).contains(&text.len()) && !text.contains('\0');
                let columns = self.key_columns().len();
                fits && (columns == 1
                    || split_composite(text).is_some_and(|parts| parts.len() == columns))
            }
            _ => false,
        }
    }

    /// Refuses to start a page after an id that this collection can't have.
    pub(crate) fn check_after(&self, after: Option<&RecordId>) -> Result<(), Refusal> {
        match after.filter(|id| !self.has_id_kind(id)) {
            Some(id) => {
                let message = format!("after: {id} is not an id of the collection {}", self.name());
                Err(Refusal::Malformed(message))
            }
            None => Ok(()),
        }
    }

    /// Gives a record that is created the id among its fields, where its creator gives the id: the member `id`, or the values of
    /// several key columns.
    pub(crate) fn take_given_id(&self, edit: &mut Edit) -> Result<(), Refusal> {
        let EditKind::Create(id @ None, EditFields::Given(fields)) = &mut edit.kind else {
            return Ok(());
        };
        let invalid = |message: String| Refusal::Invalid(FieldErrors::one("id", message));
        if self.key_columns().len() > 1 {
            // A value that is missing or wrong is refused with the others.
            *id = self.composite_id(fields);
            return Ok(());
        }
        let may_be_given = match self.ids() {
            Ids::Integer => self.ids_given_by() == IdsGivenBy::Creator,
            Ids::UuidV7 | Ids::Text => true,
        };
        if !may_be_given || self.field("id").is_some() {
            return Ok(());
        }
        let Some(given) = fields.remove("id") else {
            return Ok(());
        };
        let parsed = match (self.ids(), &given) {
            (Ids::Integer, Value::Number(number)) => number.as_i64().map(RecordId::Integer),
            (_, Value::String(text)) => self.parse_id(text),
            _ => None,
        };
        *id = Some(parsed.ok_or_else(|| invalid(self.wanted_id().to_owned()))?);
        Ok(())
    }

    /// The fields that make up an id: `id`, or those of several key columns.
    pub(crate) fn key_fields(&self) -> Vec<&str> {
        match self.key_columns() {
            [_] => vec!["id"],
            columns => {
                let field =
                    |column: &String| self.fields().iter().find(|one| one.column == *column);
                let fields = columns.iter().filter_map(field);
                fields.map(|field| &*field.name).collect()
            }
        }
    }

    /// The id of a record with these fields, if all of its key is there.
    fn composite_id(&self, fields: &Fields) -> Option<RecordId> {
        let part = |column: &String| {
            let field = self.fields().iter().find(|field| field.column == *column)?;
            let given = fields.get(&field.name).or(field.default.as_ref())?;
            match field.schema.check(given).ok()? {
                Value::String(text) => Some(text),
                Value::Number(number) => Some(number.to_string()),
                Value::Bool(value) => Some(value.to_string()),
                Value::Null | Value::Array(_) | Value::Object(_) => None,
            }
        };
        let parts: Vec<String> = self.key_columns().iter().map(part).collect::<Option<_>>()?;
        Some(RecordId::Text(join_composite(parts).into()))
    }

    /// What an id that a creator gives must be.
    fn wanted_id(&self) -> &'static str {
        match self.ids() {
            Ids::Integer if self.ids_given_by() == IdsGivenBy::Database => {
                "is assigned by the database"
            }
            Ids::Integer => "must be a whole number",
            Ids::UuidV7 => "must be a UUID",
            Ids::Text => "must be text of 1 to 1024 bytes without NUL",
        }
    }

    /// Refuses an edit that no store can look up: one wrong id or key must not fail the batch that it is in.
    pub(crate) fn check_lookups(&self, edit: &Edit) -> Result<(), Refusal> {
        if let Some(key) = edit.key().filter(|key| !self.has_id_kind(&key.id)) {
            return Err(match edit.access() {
                Access::Create => Refusal::Invalid(FieldErrors::one("id", self.wanted_id())),
                _ => Refusal::NotFound(key),
            });
        }
        let fits = |key: &String| {
            (1..=MAX_IDEMPOTENCY_KEY_BYTES).contains(&key.len()) && !key.contains('\0')
        };
        if edit.idempotency_key.as_ref().is_some_and(|key| !fits(key)) {
            let message = "an idempotency key must have 1 to 255 bytes, and no NUL";
            return Err(Refusal::Malformed(message.into()));
        }
        Ok(())
    }
}
