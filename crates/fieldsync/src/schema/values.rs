//! The values of a record that a condition reads, by reference: most records are tested far more often than they are sent.

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde_json::Value;

use crate::model::record::{Fields, Record, RecordId};

/// The values of a record, now or before a change.
pub(crate) struct Values<'a> {
    id: &'a RecordId,
    fields: &'a Fields,
    /// Values that some fields had instead.
    previous: Option<&'a Fields>,
}

impl<'a> Values<'a> {
    pub(crate) fn new(id: &'a RecordId, fields: &'a Fields) -> Self {
        let previous = None;
        Self {
            id,
            fields,
            previous,
        }
    }

    /// The values before a change that replaced these.
    pub(crate) fn with_previous(self, previous: &'a Fields) -> Self {
        let previous = Some(previous);
        Self { previous, ..self }
    }

    pub(crate) fn id(&self) -> &RecordId {
        self.id
    }

    /// The value of a field, or of the id. One that is missing is null.
    pub(crate) fn get(&self, name: &str) -> Cow<'a, Value> {
        if name == "id" {
            return Cow::Owned(serde_json::to_value(self.id).unwrap_or_default());
        }
        let previous = self.previous.and_then(|previous| previous.get(name));
        match previous.or_else(|| self.fields.get(name)) {
            Some(value) => Cow::Borrowed(value),
            None => Cow::Owned(Value::Null),
        }
    }

    /// The record, for code of the app: with only these fields, if they are given.
    pub(crate) fn to_record(&self, only: Option<&BTreeSet<String>>) -> Record {
        let all = self
            .fields
            .iter()
            .chain(self.previous.into_iter().flatten());
        let given = all.filter(|(name, _)| only.is_none_or(|only| only.contains(*name)));
        let fields = given.map(|(name, value)| (name.clone(), value.clone()));
        Record {
            id: self.id.clone(),
            fields: fields.collect(),
        }
    }
}

impl<'a> From<&'a Record> for Values<'a> {
    fn from(record: &'a Record) -> Self {
        Self::new(&record.id, &record.fields)
    }
}
