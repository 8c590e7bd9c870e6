//! The records because of which principals may make the edits of a batch: memberships, for example.

use std::collections::{BTreeSet, HashMap};

use serde_json::Value;

use crate::model::edit::{Edit, EditFields, EditKind};
use crate::model::record::{Record, RecordKey};
use crate::schema::collection::Collection;
use crate::schema::grant::Grant;
use crate::schema::member_rows::Members;
use crate::write::batch::{Batch, ReadSet};

impl Batch {
    /// The other records because of which principals may make these edits, now that the records of [`Batch::records`] are read.
    ///
    /// The store adds those of them that exist to [`ReadSet::records`], and until the end of the transaction no other changes them: a
    /// shared lock is enough. They are in the order in which to lock them.
    #[must_use]
    pub fn relied_on(&self, read: &ReadSet) -> BTreeSet<RecordKey> {
        let mut relied_on = BTreeSet::new();
        if self
            .edits()
            .all(|(_, _, grant)| grant.members().next().is_none())
        {
            return relied_on;
        }
        let by_record = self.by_record();
        for (edit, collection, grant) in self.edits() {
            let (key, alone) = (edit.key(), [edit]);
            // Edits of others in the same batch may come first.
            let edits = key.as_ref().map_or(&alone[..], |key| &by_record[key]);
            let row = key.as_ref().and_then(|key| read.records.get(key));
            for members in grant.members() {
                let values = match &key {
                    Some(key) => values_of(members, key, edits, collection, grant, row),
                    None if members.field == "id" => Some(Vec::new()),
                    None => values(&members.field, edits, collection, grant, row),
                };
                relied_on.extend(members.concerning(values.as_deref()).cloned());
            }
        }
        relied_on.retain(|key| !by_record.contains_key(key));
        relied_on
    }

    /// The other records because of which principals may see the records that were looked for, without those that are read.
    pub(crate) fn relied_on_by_referred(&self, read: &ReadSet) -> BTreeSet<RecordKey> {
        let mut relied_on = BTreeSet::new();
        if read.referred.is_empty() {
            return relied_on;
        }
        let by_record = self.by_record();
        for guarded in self.groups.iter().flat_map(|group| &group.references) {
            let (target, readable) = (&guarded.reference.target, &guarded.readable);
            let of_target = read.referred.iter();
            for (key, row) in of_target.filter(|(key, _)| key.collection == *target.name()) {
                let edits = by_record.get(key).map(Vec::as_slice).unwrap_or_default();
                let row = read.records.get(key).or(row.as_ref());
                for members in readable.members() {
                    let values = values_of(members, key, edits, target, readable, row);
                    relied_on.extend(members.concerning(values.as_deref()).cloned());
                }
            }
        }
        relied_on.retain(|key| !by_record.contains_key(key) && !read.has_looked_for(key));
        relied_on
    }

    /// The edits of each record.
    fn by_record(&self) -> HashMap<RecordKey, Vec<&Edit>> {
        let mut by_record: HashMap<RecordKey, Vec<&Edit>> = HashMap::new();
        for (edit, ..) in self.edits() {
            if let Some(key) = edit.key() {
                by_record.entry(key).or_default().push(edit);
            }
        }
        by_record
    }
}

/// The values that the field of memberships may have in a record before and after one of these edits. `None`: any.
fn values_of(
    members: &Members,
    key: &RecordKey,
    edits: &[&Edit],
    collection: &Collection,
    grant: &Grant,
    row: Option<&Record>,
) -> Option<Vec<Value>> {
    match &*members.field {
        "id" => serde_json::to_value(&key.id).ok().map(|id| vec![id]),
        field => values(field, edits, collection, grant, row),
    }
}

/// The values that a field of a record may have before and after one of these edits. `None`: any.
fn values(
    field: &str,
    edits: &[&Edit],
    collection: &Collection,
    grant: &Grant,
    row: Option<&Record>,
) -> Option<Vec<Value>> {
    let field = collection.field(field)?;
    let before = row.and_then(|row| row.fields.get(&field.name));
    let mut values: Vec<Value> = before.cloned().into_iter().collect();
    for edit in edits {
        let given = match &edit.kind {
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
