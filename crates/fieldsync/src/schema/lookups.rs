//! What can be looked up in a collection's table. Anything else is refused before a store is asked.

use crate::model::access::Access;
use crate::model::edit::Edit;
use crate::model::field_errors::FieldErrors;
use crate::model::record::{RecordId, split_composite};
use crate::model::refusal::Refusal;
use crate::schema::collection::Collection;
use crate::schema::field::{Ids, IdsGivenBy};

/// The maximum length of an id that is text, in bytes.
const MAX_ID_BYTES: usize = 1024;

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
                fits && (columns == 1 || split_composite(text).is_some_and(|parts| parts.len() == columns))
            }
            _ => false,
        }
    }

    /// Refuses to start a page after an id that this collection can't have.
    pub(crate) fn check_after(&self, after: Option<RecordId>) -> Result<(), Refusal> {
        match after.filter(|id| !self.has_id_kind(id)) {
            Some(id) => {
                let message = format!("after: {id} is not an id of the collection {}", self.name());
                Err(Refusal::Malformed(message))
            }
            None => Ok(()),
        }
    }

    /// Refuses an edit that no store can look up: one wrong id or key must not fail the batch that it is in.
    pub(crate) fn check_lookups(&self, edit: &Edit) -> Result<(), Refusal> {
        if let Some(key) = edit.key().filter(|key| !self.has_id_kind(&key.id)) {
            return Err(match (edit.access(), self.ids()) {
                (Access::Create, ids) => {
                    let message = match ids {
                        Ids::Integer if self.ids_given_by() == IdsGivenBy::Database => {
                            "is assigned by the database"
                        }
                        Ids::Integer => "must be a whole number",
                        Ids::UuidV7 => "must be a UUID",
                        Ids::Text => "must be text of 1 to 1024 bytes without NUL",
                    };
                    Refusal::Invalid(FieldErrors::one("id", message))
                }
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
