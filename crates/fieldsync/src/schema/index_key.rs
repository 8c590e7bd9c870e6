//! The values that a filter requires of a record, by which the hub finds the subscriptions that a change concerns.

use serde_json::Value;

use crate::model::change::{Action, Change};
use crate::model::record::RecordId;
use crate::schema::comparison::Comparison;

/// A value that a field must have, before or after a change, for the change to concern a subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IndexKey {
    pub(crate) field: String,
    pub(crate) comparison: Comparison,
    /// The same text for all values that are equal.
    pub(crate) value: String,
}

/// The values that a field had before a change and has after it, as texts of keys.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum KeysOfChange {
    /// One of them is not known.
    Unknown,
    /// At most two. They may be equal.
    Known([Option<String>; 2]),
}

/// What stands for null: no value has this text.
const NULL: &str = "\0";

impl IndexKey {
    /// The key of a value. `None` for one that does not compare.
    pub(crate) fn of(field: &str, comparison: Comparison, value: &Value) -> Option<Self> {
        Some(Self {
            field: field.to_owned(),
            comparison,
            value: text_of(comparison, value)?,
        })
    }

    /// The key of one record.
    pub(crate) fn of_record(id: &RecordId) -> Self {
        Self {
            field: "id".into(),
            comparison: Comparison::Text,
            value: id.to_string(),
        }
    }

    /// Whether the change concerns what this is a key of, as far as it tells.
    pub(crate) fn touches(&self, change: &Change) -> bool {
        match KeysOfChange::of(change, &self.field, self.comparison) {
            KeysOfChange::Unknown => true,
            KeysOfChange::Known(values) => values.iter().flatten().any(|text| *text == self.value),
        }
    }
}

impl KeysOfChange {
    pub(crate) fn of(change: &Change, field: &str, comparison: Comparison) -> Self {
        if field == "id" {
            return Self::Known([Some(change.key.id.to_string()), None]);
        }
        if change.action != Action::Create && change.previous.is_empty() {
            return Self::Unknown;
        }
        let after = change.after.get(field);
        let before = change.previous.get(field).or(after);
        let text = |value: Option<&Value>| value.and_then(|value| text_of(comparison, value));
        let known = match change.action {
            Action::Create => [text(after), None],
            Action::Delete => [text(before), None],
            _ if change.previous.contains_key(field) => [text(after), text(before)],
            _ => [text(after), None],
        };
        // A value that was left out of the log, or that is not one of the field's.
        let lacks = match change.action {
            Action::Delete => before.is_none(),
            _ => after.is_none(),
        };
        if lacks || known[0].is_none() {
            return Self::Unknown;
        }
        Self::Known(known)
    }
}

/// A text that equal values share.
fn text_of(comparison: Comparison, value: &Value) -> Option<String> {
    if value.is_null() {
        return Some(NULL.to_owned());
    }
    comparison.canonical(value)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn equal_values_have_the_same_key() {
        for (comparison, equal) in [
            (Comparison::Decimal, [json!(5), json!("5.00")]),
            (Comparison::Decimal, [json!(0), json!("-0.0")]),
            (Comparison::Decimal, [json!("-1.50"), json!("-1.5")]),
            (Comparison::Double, [json!(0.0), json!(-0.0)]),
            (Comparison::Double, [json!(2), json!(2.0)]),
            (Comparison::Text, [json!("é"), json!("é")]),
        ] {
            let [one, other] = equal.map(|value| IndexKey::of("f", comparison, &value).unwrap());
            assert_eq!(one, other);
        }
        let decimal = |value| IndexKey::of("f", Comparison::Decimal, &value).unwrap();
        for different in [
            json!(-5),
            json!(50),
            json!("5.05"),
            json!(null),
            json!("NaN"),
        ] {
            assert_ne!(decimal(json!(5)), decimal(different));
        }
        assert_eq!(IndexKey::of("f", Comparison::Decimal, &json!("x")), None);
    }
}
