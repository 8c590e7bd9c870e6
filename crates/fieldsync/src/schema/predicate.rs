//! A filter of one collection: its fields are known, and its values have their types. It decides on records in memory.

use std::cmp::Ordering;

use serde_json::Value;

use crate::model::canonical::CanonicalHasher;
use crate::model::filter::Operator;
use crate::model::record::Fields;
use crate::schema::comparison::Comparison;
use crate::schema::index_key::IndexKey;
use crate::schema::narrowing::Narrowing;
use crate::schema::values::Values;

/// A filter that fits a collection.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Predicate(pub(crate) Node);

/// A condition of a predicate.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Node {
    /// The field has this order to the value.
    Compare {
        field: String,
        comparison: Comparison,
        operator: Operator,
        value: Value,
    },
    /// The field equals one of these values.
    In {
        field: String,
        comparison: Comparison,
        values: Vec<Value>,
    },
    IsNull(String),
    Is(String, bool),
    And(Vec<Self>),
    Or(Vec<Self>),
    Not(Box<Self>),
}

impl Predicate {
    /// Whether the filter is true of this record. Where it is unknown, it is not.
    pub(crate) fn admits(&self, values: &Values<'_>) -> bool {
        self.0.holds(values) == Some(true)
    }

    /// The keys of which a record must have one to match, if there are such.
    pub(crate) fn keys(&self) -> Option<Vec<IndexKey>> {
        self.0.keys()
    }

    /// Whether a value that this reads is missing.
    pub(crate) fn lacks(&self, fields: &Fields) -> bool {
        self.field_where(&|field| field != "id" && !fields.contains_key(field))
            .is_some()
    }

    /// A field that this reads and of which the other is true.
    pub(crate) fn field_where(&self, is_one: &dyn Fn(&str) -> bool) -> Option<&str> {
        self.0.field_where(is_one)
    }

    /// What a database can be asked, if anything: it excludes no record that this admits.
    pub(crate) fn narrowing(&self) -> Option<Narrowing> {
        self.0.narrowing()
    }
}

impl Node {
    /// Whether the condition holds. `None`: it is unknown, as in SQL.
    fn holds(&self, values: &Values<'_>) -> Option<bool> {
        match self {
            Self::Compare {
                field,
                comparison,
                operator,
                value,
            } => {
                let order = comparison.compare(&values.get(field), value)?;
                Some(match operator {
                    Operator::Eq => order == Ordering::Equal,
                    Operator::Neq => order != Ordering::Equal,
                    Operator::Lt => order == Ordering::Less,
                    Operator::Lte => order != Ordering::Greater,
                    Operator::Gt => order == Ordering::Greater,
                    Operator::Gte => order != Ordering::Less,
                })
            }
            // Not even of null: there is nothing to compare with.
            Self::In { values, .. } if values.is_empty() => Some(false),
            Self::In {
                field,
                comparison,
                values: ones,
            } => {
                let value = values.get(field);
                let is_equal = |other: &Value| {
                    let order = comparison.compare(&value, other);
                    order.map(|order| order == Ordering::Equal)
                };
                any(ones.iter().map(is_equal))
            }
            Self::IsNull(field) => Some(values.get(field).is_null()),
            Self::Is(field, expected) => Some(values.get(field).as_bool() == Some(*expected)),
            Self::And(parts) => {
                let negated = parts
                    .iter()
                    .map(|part| part.holds(values).map(|holds| !holds));
                any(negated).map(|fails| !fails)
            }
            Self::Or(parts) => any(parts.iter().map(|part| part.holds(values))),
            Self::Not(part) => part.holds(values).map(|holds| !holds),
        }
    }
}

impl Node {
    fn keys(&self) -> Option<Vec<IndexKey>> {
        match self {
            Self::Compare {
                field,
                comparison,
                operator: Operator::Eq,
                value,
            } => Some(vec![IndexKey::of(field, *comparison, value)?]),
            Self::In {
                field,
                comparison,
                values,
            } => {
                let keys = values
                    .iter()
                    .map(|value| IndexKey::of(field, *comparison, value));
                keys.collect()
            }
            Self::Is(field, value) => {
                let value = (*value).into();
                Some(vec![IndexKey::of(field, Comparison::Boolean, &value)?])
            }
            // The part with the fewest.
            Self::And(parts) => parts.iter().filter_map(Self::keys).min_by_key(Vec::len),
            Self::Or(parts) => {
                let keys: Option<Vec<_>> = parts.iter().map(Self::keys).collect();
                Some(keys?.concat())
            }
            Self::Compare { .. } | Self::IsNull(_) | Self::Not(_) => None,
        }
    }

    fn field_where(&self, is_one: &dyn Fn(&str) -> bool) -> Option<&str> {
        match self {
            Self::Compare { field, .. }
            | Self::In { field, .. }
            | Self::IsNull(field)
            | Self::Is(field, _) => Some(&**field).filter(|field| is_one(field)),
            Self::And(parts) | Self::Or(parts) => {
                parts.iter().find_map(|part| part.field_where(is_one))
            }
            Self::Not(part) => part.field_where(is_one),
        }
    }
}

impl Predicate {
    /// Adds the filter to an identity. The order of the parts of an `and` or `or` does not matter.
    pub(crate) fn hash(&self, hasher: &mut CanonicalHasher) {
        hasher.text(&self.0.identity());
    }
}

impl Node {
    /// The identity of a condition.
    fn identity(&self) -> String {
        // A group of one is that one.
        if let Self::And(parts) | Self::Or(parts) = self
            && let [part] = parts.as_slice()
        {
            return part.identity();
        }
        let mut hasher = CanonicalHasher::new("condition/1");
        let group = |hasher: &mut CanonicalHasher, name: &str, parts: &[Self]| {
            hasher.text(name);
            let mut parts: Vec<_> = parts.iter().map(Self::identity).collect();
            parts.sort_unstable();
            hasher.list(parts.len());
            parts.iter().for_each(|part| hasher.text(part));
        };
        match self {
            Self::Compare {
                field,
                operator,
                value,
                ..
            } => {
                hasher.text(operator.name());
                hasher.text(field);
                hasher.json(value);
            }
            Self::In { field, values, .. } => {
                hasher.text("in");
                hasher.text(field);
                hasher.list(values.len());
                values.iter().for_each(|value| hasher.json(value));
            }
            Self::IsNull(field) => {
                hasher.text("null");
                hasher.text(field);
            }
            Self::Is(field, value) => {
                hasher.text("is");
                hasher.text(field);
                hasher.flag(*value);
            }
            Self::And(parts) => group(&mut hasher, "and", parts),
            Self::Or(parts) => group(&mut hasher, "or", parts),
            Self::Not(part) => group(&mut hasher, "not", std::slice::from_ref(part)),
        }
        hasher.hex()
    }

    fn narrowing(&self) -> Option<Narrowing> {
        Some(match self {
            Self::Compare {
                field,
                operator,
                value,
                ..
            } => {
                let (field, value) = (field.clone(), value.clone());
                match operator {
                    Operator::Eq => Narrowing::OneOf(field, vec![value]),
                    Operator::Neq => Narrowing::IsNotNull(field),
                    Operator::Lt | Operator::Lte => Narrowing::AtMost(field, value),
                    Operator::Gt | Operator::Gte => Narrowing::AtLeast(field, value),
                }
            }
            Self::In { values, .. } if values.is_empty() => Narrowing::Any(Vec::new()),
            Self::In { field, values, .. } => Narrowing::OneOf(field.clone(), values.clone()),
            Self::IsNull(field) => Narrowing::IsNull(field.clone()),
            Self::Is(field, value) => Narrowing::OneOf(field.clone(), vec![(*value).into()]),
            Self::And(parts) => {
                let parts: Vec<_> = parts.iter().filter_map(Self::narrowing).collect();
                return (!parts.is_empty()).then_some(Narrowing::All(parts));
            }
            Self::Or(parts) => {
                let parts: Option<Vec<_>> = parts.iter().map(Self::narrowing).collect();
                Narrowing::Any(parts?)
            }
            Self::Not(part) => match &**part {
                Self::IsNull(field) => Narrowing::IsNotNull(field.clone()),
                _ => return None,
            },
        })
    }
}

/// Whether one of the conditions holds, in three-valued logic.
fn any(conditions: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    let mut is_unknown = false;
    for condition in conditions {
        match condition {
            Some(true) => return Some(true),
            Some(false) => {}
            None => is_unknown = true,
        }
    }
    (!is_unknown).then_some(false)
}
