//! The order of a list or a window, checked against a collection: its fields are known, and compare.

use std::cmp::Ordering;

use serde_json::Value;

use crate::model::canonical::CanonicalHasher;
use crate::model::order::Order;
use crate::model::record::{Record, RecordId, split_composite};
use crate::schema::comparison::Comparison;
use crate::schema::values::Values;

/// The place of a record in an order: its values, and where these are equal its id.
#[derive(Debug, Clone, PartialEq)]
pub struct SortKey {
    /// The values of the fields of the order.
    pub values: Vec<Value>,
    /// The id.
    pub id: RecordId,
}

impl From<RecordId> for SortKey {
    /// The place in the order of the ids.
    fn from(id: RecordId) -> Self {
        let values = Vec::new();
        Self { values, id }
    }
}

/// An order of the records of a collection. No two records are equal.
///
/// Records that are equal under the fields of the order come in the order of their ids: integers by value, UUIDs by their bytes, and others
/// as text, by code point, column by column.
#[derive(Debug, Clone, PartialEq)]
pub struct Sorting {
    pub(crate) order: Vec<Order>,
    pub(super) comparisons: Vec<Comparison>,
    pub(super) ids_descend: bool,
    pub(super) has_composite_ids: bool,
}

impl Sorting {
    /// The order by fields.
    #[must_use]
    pub fn order(&self) -> &[Order] {
        &self.order
    }

    /// Whether records that are equal under the fields come in the descending order of their ids.
    #[must_use]
    pub fn ids_descend(&self) -> bool {
        self.ids_descend
    }

    /// The place of a record.
    #[must_use]
    pub fn key(&self, record: &Record) -> SortKey {
        self.key_of(&record.into())
    }

    pub(crate) fn key_of(&self, values: &Values<'_>) -> SortKey {
        let terms = self.order.iter();
        SortKey {
            values: terms
                .map(|term| values.get(&term.field).into_owned())
                .collect(),
            id: values.id().clone(),
        }
    }

    /// Which of two places is first.
    #[must_use]
    pub fn compare(&self, one: &SortKey, other: &SortKey) -> Ordering {
        let values = one.values.iter().zip(&other.values);
        let mut terms = self.order.iter().zip(&self.comparisons).zip(values);
        let by_value = terms.find_map(|((term, comparison), (one, other))| {
            let order = compare_values(term, *comparison, one, other);
            (order != Ordering::Equal).then_some(order)
        });
        by_value.unwrap_or_else(|| {
            let order = self.compare_ids(&one.id, &other.id);
            if self.ids_descend {
                order.reverse()
            } else {
                order
            }
        })
    }

    fn compare_ids(&self, one: &RecordId, other: &RecordId) -> Ordering {
        match (one, other) {
            (RecordId::Text(one), RecordId::Text(other)) if self.has_composite_ids => {
                split_composite(one).cmp(&split_composite(other))
            }
            _ => one.cmp(other),
        }
    }

    pub(crate) fn reads(&self, is_one: impl Fn(&str) -> bool) -> bool {
        self.order.iter().any(|term| is_one(&term.field))
    }

    pub(crate) fn hash(&self, hasher: &mut CanonicalHasher) {
        hasher.list(self.order.len());
        for term in &self.order {
            hasher.text(&term.field);
            hasher.flag(term.is_descending);
            hasher.flag(term.nulls_first);
        }
        hasher.flag(self.ids_descend);
    }
}

/// Null is where the order says. A value that is none of the field's comes after the others, and before null.
fn compare_values(term: &Order, comparison: Comparison, one: &Value, other: &Value) -> Ordering {
    if one.is_null() || other.is_null() {
        let order = one.is_null().cmp(&other.is_null());
        return if term.nulls_first {
            order.reverse()
        } else {
            order
        };
    }
    let order = comparison.compare(one, other).unwrap_or_else(|| {
        let is_foreign = |value: &Value| comparison.compare(value, value).is_none();
        let ranks = is_foreign(one).cmp(&is_foreign(other));
        ranks.then_with(|| one.to_string().cmp(&other.to_string()))
    });
    if term.is_descending {
        order.reverse()
    } else {
        order
    }
}
