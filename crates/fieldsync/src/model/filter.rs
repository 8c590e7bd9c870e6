//! Conditions on records, as data.

use std::collections::BTreeSet;
use std::ops::Not;

use serde_json::Value;

/// A condition on the fields of a record, as data. It is evaluated on records in memory, and read by the database.
///
/// It follows SQL: a comparison with null is unknown, `not` of unknown is unknown, and a record matches only where the condition is
/// true.
///
/// ```
/// use fieldsync::Filter;
///
/// let late = Filter::eq("project_id", 5).and(Filter::is_in("status", ["open", "late"]));
/// assert_eq!(late.to_string(), "and(project_id.eq.5,status.in.(open,late))");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Filter(pub(crate) Condition);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Condition {
    Compare(String, Operator, Operand),
    In(String, Vec<Operand>),
    IsNull(String),
    Is(String, bool),
    And(Vec<Self>),
    Or(Vec<Self>),
    Not(Box<Self>),
}

/// How a field is compared with a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Operator {
    Eq,
    Neq,
    Lt,
    Lte,
    Gt,
    Gte,
}

/// A value that a field is compared with.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Operand {
    /// As JSON.
    Json(Value),
    /// As the text in a URL, which is read as the field's type.
    Text(String),
}

impl Filter {
    /// The field has this value.
    pub fn eq(field: impl Into<String>, value: impl Into<Value>) -> Self {
        Self::compare(field, Operator::Eq, value)
    }

    /// The field has another value than this.
    pub fn neq(field: impl Into<String>, value: impl Into<Value>) -> Self {
        Self::compare(field, Operator::Neq, value)
    }

    /// The field is less than this value.
    pub fn lt(field: impl Into<String>, value: impl Into<Value>) -> Self {
        Self::compare(field, Operator::Lt, value)
    }

    /// The field is at most this value.
    pub fn lte(field: impl Into<String>, value: impl Into<Value>) -> Self {
        Self::compare(field, Operator::Lte, value)
    }

    /// The field is greater than this value.
    pub fn gt(field: impl Into<String>, value: impl Into<Value>) -> Self {
        Self::compare(field, Operator::Gt, value)
    }

    /// The field is at least this value.
    pub fn gte(field: impl Into<String>, value: impl Into<Value>) -> Self {
        Self::compare(field, Operator::Gte, value)
    }

    /// The field has one of these values. Without any it matches nothing.
    pub fn is_in<V: Into<Value>>(
        field: impl Into<String>,
        values: impl IntoIterator<Item = V>,
    ) -> Self {
        let values = values.into_iter().map(|value| Operand::Json(value.into()));
        Self(Condition::In(field.into(), values.collect()))
    }

    /// The field is null.
    pub fn is_null(field: impl Into<String>) -> Self {
        Self(Condition::IsNull(field.into()))
    }

    /// Both this and the other condition hold.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(match self.0 {
            Condition::And(mut all) => {
                all.push(other.0);
                Condition::And(all)
            }
            first => Condition::And(vec![first, other.0]),
        })
    }

    /// This or the other condition holds.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self(match self.0 {
            Condition::Or(mut any) => {
                any.push(other.0);
                Condition::Or(any)
            }
            first => Condition::Or(vec![first, other.0]),
        })
    }

    /// The fields that the condition reads.
    pub(crate) fn fields(&self) -> BTreeSet<&str> {
        self.0.fields()
    }

    fn compare(field: impl Into<String>, operator: Operator, value: impl Into<Value>) -> Self {
        let value = Operand::Json(value.into());
        Self(Condition::Compare(field.into(), operator, value))
    }
}

impl Condition {
    fn fields(&self) -> BTreeSet<&str> {
        match self {
            Self::Compare(field, ..)
            | Self::In(field, _)
            | Self::IsNull(field)
            | Self::Is(field, _) => [&**field].into(),
            Self::And(parts) | Self::Or(parts) => parts.iter().flat_map(Self::fields).collect(),
            Self::Not(part) => part.fields(),
        }
    }
}

/// The condition does not hold. Where it is unknown, this is unknown as well.
impl Not for Filter {
    type Output = Self;

    fn not(self) -> Self {
        Self(Condition::Not(Box::new(self.0)))
    }
}
