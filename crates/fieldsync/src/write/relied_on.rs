//! The records because of which principals may make the edits of a batch: memberships, for example.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::model::edit::{Edit, EditFields, EditKind};
use crate::model::record::RecordKey;
use crate::schema::collection::Collection;
use crate::schema::grant::Grant;
use crate::write::batch::{Batch, ReadSet};

impl Batch {
    /// The other records because of which principals may make these edits, now that the records of [`Batch::records`] are read.
    ///
    /// The store adds those of them that exist to [`ReadSet::records`], and until the end of the transaction no other changes them: a
    /// shared lock is enough. They are in the order in which to lock them.
    #[must_use]
    pub fn relied_on(&self, read: &ReadSet) -> BTreeSet<RecordKey> {
        let mut relied_on = BTreeSet::new();
        for (edit, collection, grant) in self.edits() {
            for members in grant.members() {
                let values = self.values(&members.field, edit, collection, grant, read);
                relied_on.extend(members.concerning(values.as_deref()).cloned());
            }
        }
        if !relied_on.is_empty() {
            let records = self.records();
            relied_on.retain(|key| !records.contains_key(key));
        }
        relied_on
    }

    /// The values that a field of an edit's record may have before and after the edit. `None`: any.
    fn values(
        &self,
        field: &str,
        edit: &Edit,
        collection: &Collection,
        grant: &Grant,
        read: &ReadSet,
    ) -> Option<Vec<Value>> {
        let key = edit.key();
        if field == "id" {
            let id = key.and_then(|key| serde_json::to_value(key.id).ok());
            return Some(id.into_iter().collect());
        }
        let field = collection.field(field)?;
        let row = key.as_ref().and_then(|key| read.records.get(key));
        let before = row.and_then(|row| row.fields.get(&field.name));
        let mut values: Vec<Value> = before.cloned().into_iter().collect();
        // Edits of others in the same batch may come first.
        let same = self
            .edits()
            .map(|(other, ..)| other)
            .filter(|other| std::ptr::eq(*other, edit) || (key.is_some() && other.key() == key));
        for other in same {
            let given = match &other.kind {
                EditKind::Create(_, EditFields::Given(fields)) => {
                    let is_set = grant.set.iter().any(|(name, _)| *name == field.name);
                    if is_set || collection.hooks().has_on_create() {
                        return None;
                    }
                    fields.get(&field.name).or(field.default.as_ref())
                }
                EditKind::Patch(_, EditFields::Given(fields)) => fields.get(&field.name),
                EditKind::Delete(_) | EditKind::Refresh(_) | EditKind::Malformed(_) => None,
                EditKind::Create(..) | EditKind::Patch(..) | EditKind::Update(..) => return None,
            };
            // As it will be stored. What the field can't have is refused.
            values.extend(given.and_then(|given| field.schema.check(given).ok()));
        }
        Some(values)
    }
}
