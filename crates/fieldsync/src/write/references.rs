//! The records to which edits refer: a principal may refer only to those that it may read.

use std::collections::{BTreeSet, HashMap, HashSet};

use serde_json::Value;

use crate::model::edit::EditKind;
use crate::model::field_errors::FieldErrors;
use crate::model::record::{Fields, Record, RecordId, RecordKey};
use crate::model::refusal::Refusal;
use crate::schema::reference::{Referred, text_of};
use crate::write::batch::{Batch, Group, ReadSet, RefusedEdit};
use crate::write::decide::Decision;
use crate::write::mutation::{Mutation, Write};

/// A reference that an edit sets.
#[derive(Debug)]
pub(crate) struct SetReference {
    /// The index of the edit in its group.
    edit: usize,
    /// The index of the reference in its group.
    reference: usize,
    referred: Referred,
    /// The fields that the edit sets.
    fields: Vec<String>,
    /// The record that is edited, if the principal sees these fields.
    record: Option<RecordKey>,
}

/// The rows on which the references of a group are decided.
#[derive(Debug)]
pub(crate) struct ReferenceRows<'a> {
    /// The rows after the group's edits.
    pub(crate) rows: &'a HashMap<RecordKey, Record>,
    /// The rows that the group changes as they were before.
    pub(crate) before: HashMap<&'a RecordKey, Option<&'a Record>>,
    /// The records that were looked for since edits refer to them.
    pub(crate) referred: &'a HashMap<RecordKey, Option<Record>>,
}

impl Batch {
    /// The records to look for now, since the edits refer to them or since it depends on them whether a principal sees the others, given what
    /// was read so far, with the records of [`Batch::relied_on`].
    ///
    /// The store reads them without locks, adds each to [`ReadSet::referred`], and asks again, up to [`MAX_REFERENCE_LOOKS`] times in all,
    /// until there are none.
    ///
    /// [`MAX_REFERENCE_LOOKS`]: crate::backend::MAX_REFERENCE_LOOKS
    #[must_use]
    pub fn referred_to(&self, read: &ReadSet) -> BTreeSet<RecordKey> {
        let mut groups = self.groups.iter();
        if groups.all(|group| group.references.is_empty()) {
            return BTreeSet::new();
        }
        let relied_on = self.relied_on_by_referred(read);
        if !relied_on.is_empty() {
            return relied_on;
        }
        // What the edits come to depends on closures of the app and on each other: a plan tells it.
        self.unknown_references(read.clone())
    }
}

impl Group {
    /// The references that an edit sets, given what is to be written for it.
    pub(crate) fn set_references(
        &self,
        edit: usize,
        decision: &Decision<'_>,
        write: Option<&Write>,
    ) -> Result<Vec<SetReference>, Refusal> {
        let collection = decision.collection.name();
        let references = self.references.iter().enumerate();
        let mut references = references
            .filter(|(_, guarded)| guarded.reference.collection == *collection)
            .peekable();
        if references.peek().is_none() {
            return Ok(Vec::new());
        }
        let set = set_fields(decision, write)?;
        let visible = decision.row.map(|row| decision.visible(row)).transpose()?;
        let is_visible = |name: &String| visible.as_ref().is_some_and(|view| view.shows(name));
        let set = references.filter_map(|(at, guarded)| {
            let reference = &guarded.reference;
            let fields = reference.fields.iter();
            let fields: Vec<_> = fields.filter(|name| set.contains(*name)).cloned().collect();
            let value = |name: &str| value_after(decision, write, name);
            (!fields.is_empty()).then(|| SetReference {
                edit,
                reference: at,
                referred: reference.referred(value),
                record: decision
                    .edit
                    .key()
                    .filter(|_| fields.iter().all(is_visible)),
                fields,
            })
        });
        Ok(set.collect())
    }

    /// Refuses a reference to a record that does not exist for the principal. It is the same whether the record is hidden or absent. Returns the
    /// records that were not looked for.
    pub(crate) fn check_references<'a>(
        &self,
        set: &[SetReference],
        mutations: &[Mutation],
        rows: &ReferenceRows<'a>,
    ) -> Result<Vec<RecordKey>, RefusedEdit> {
        let created = created(mutations);
        let mut unknown = Vec::new();
        for one in set {
            let exists = match &one.referred {
                Referred::Nothing => true,
                Referred::NoRecord => false,
                // The principal knows it.
                Referred::Record(key, _) if created.contains(key) => true,
                _ if self.stays(one, rows) => true,
                Referred::Record(key, _) if !rows.referred.contains_key(key) => {
                    unknown.push(key.clone());
                    true
                }
                Referred::Record(key, others) => {
                    let readable = &self.references[one.reference].readable;
                    let is_visible = |row: &dyn Fn(&RecordKey) -> Option<&'a Record>| {
                        row(key).is_some_and(|record| {
                            has(record, others) && readable.as_of(row).shows(record)
                        })
                    };
                    is_visible(&|key| rows.before(key)) || is_visible(&|key| rows.after(key))
                }
            };
            if !exists {
                let message = "refers to a record that does not exist";
                let errors = one.fields.iter().map(|name| (name, message));
                return Err(RefusedEdit {
                    edit: one.edit,
                    refusal: Refusal::Conflict(errors.collect::<FieldErrors>()),
                });
            }
        }
        Ok(unknown)
    }

    /// Whether the reference is the one that the record had before the group, and that the principal sees.
    fn stays(&self, one: &SetReference, rows: &ReferenceRows<'_>) -> bool {
        let before = one.record.as_ref().and_then(|key| rows.before(key));
        before.is_some_and(|row| {
            let value = |name: &str| value_of(Some(&row.id), &row.fields, name);
            self.references[one.reference].reference.referred(value) == one.referred
        })
    }
}

impl<'a> ReferenceRows<'a> {
    fn before(&self, key: &RecordKey) -> Option<&'a Record> {
        let changed = self.before.get(key).copied();
        changed.unwrap_or_else(|| self.after(key))
    }

    fn after(&self, key: &RecordKey) -> Option<&'a Record> {
        let referred = || self.referred.get(key)?.as_ref();
        self.rows.get(key).or_else(referred)
    }
}

/// Whether the record has these texts in its fields.
fn has(record: &Record, texts: &[(String, String)]) -> bool {
    let has = |(name, text): &(_, String)| {
        record
            .fields
            .get(name)
            .is_some_and(|value| text_of(value) == *text)
    };
    texts.iter().all(has)
}

/// The records that these mutations create.
fn created(mutations: &[Mutation]) -> HashSet<RecordKey> {
    let inserts = mutations.iter();
    let inserts = inserts.filter(|mutation| matches!(mutation.write, Write::Insert { .. }));
    inserts.filter_map(Mutation::key).collect()
}

/// The fields that the caller sets. What the app sets for it is the app's choice, unless it makes it of what the caller sends. A value that is
/// already there stays; but whether a field that the caller can't see has a value must not show.
fn set_fields(decision: &Decision<'_>, write: Option<&Write>) -> Result<HashSet<String>, Refusal> {
    match (&decision.edit.kind, write) {
        (EditKind::Create(id, given), _) => {
            let sent = decision.resolve(given)?.into_iter();
            let sent = sent.filter(|(_, value)| !value.is_null());
            let id = id.iter().map(|_| "id".to_owned());
            Ok(id.chain(sent.map(|(name, _)| name)).collect())
        }
        (EditKind::Patch(_, patch), _) => {
            let mut set = changed(write);
            if let Some(row) = decision.row {
                let visible = decision.visible(row)?;
                let named = decision.resolve(patch)?.into_iter().map(|(name, _)| name);
                set.extend(named.filter(|name| !visible.shows(name)));
            }
            Ok(set)
        }
        (EditKind::Update(..), _) => Ok(changed(write)),
        _ => Ok(HashSet::new()),
    }
}

fn changed(write: Option<&Write>) -> HashSet<String> {
    match write {
        Some(Write::Update { fields, .. }) => fields.keys().cloned().collect(),
        _ => HashSet::new(),
    }
}

/// The value of a field, or the id, after the write. `None` if it is left to the database.
fn value_after(decision: &Decision<'_>, write: Option<&Write>, name: &str) -> Option<Value> {
    match (write, decision.row) {
        (Some(Write::Insert { id, fields }), _) => value_of(id.as_ref(), fields, name),
        (Some(Write::Update { fields, .. }), _) if fields.contains_key(name) => {
            fields.get(name).cloned()
        }
        (_, Some(row)) => value_of(Some(&row.id), &row.fields, name),
        (_, None) => None,
    }
}

fn value_of(id: Option<&RecordId>, fields: &Fields, name: &str) -> Option<Value> {
    let value = fields.get(name).cloned();
    let id = id.filter(|_| name == "id");
    value.or_else(|| serde_json::to_value(id?).ok())
}
