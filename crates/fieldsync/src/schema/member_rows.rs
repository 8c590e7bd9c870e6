//! Which records rules admit to a principal: the part of it that other records decide. Whoever asks a rule reads those records, and a
//! transaction that writes reads them again.

use std::sync::Arc;

use serde_json::Value;

use crate::model::filter::Filter;
use crate::model::record::{Record, RecordKey};
use crate::schema::comparison::Comparison;
use crate::schema::predicate::{Node, Predicate};
use crate::schema::values::Values;

/// The records that one rule admits to a principal, before the store was asked. All that are given must hold.
#[derive(Debug, Clone)]
pub(crate) struct RowsOfRule {
    pub(crate) filter: Option<Filter>,
    /// The field of the owner has the name of the principal.
    pub(crate) owner: Option<IsName>,
    pub(crate) exists: Option<WantedMembers>,
}

/// A field has the name of a principal, exactly: to a field of numbers, `07` is not the name of whom it has as 7. So a change of a record
/// names the principals whom it concerns.
#[derive(Debug, Clone)]
pub(crate) struct IsName {
    pub(crate) field: String,
    pub(crate) name: String,
}

/// The records of another collection that a rule asks about.
#[derive(Debug, Clone)]
pub(crate) struct WantedMembers {
    pub(crate) collection: Arc<str>,
    /// Its field that has the name of the principal.
    pub(crate) principal: IsName,
    /// What else its records must meet.
    pub(crate) filter: Option<Filter>,
    /// Its field that has the value of the other.
    pub(crate) theirs: String,
    /// The field of the records that the rule is about.
    pub(crate) ours: String,
}

/// The records that rules admit to a principal, some of them because of other records.
#[derive(Debug)]
pub(crate) struct MemberRows {
    parts: Vec<Part>,
    all: Arc<Predicate>,
}

/// The records that one rule admits. All that are given must hold.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) conditions: Vec<Node>,
    pub(crate) members: Option<Members>,
}

/// A field has a value that one of these records has.
#[derive(Debug)]
pub(crate) struct Members {
    /// The field, and how it compares.
    pub(crate) field: String,
    pub(crate) comparison: Comparison,
    /// The field of the other records.
    pub(crate) theirs: String,
    /// What the other records must meet.
    pub(crate) filter: Predicate,
    pub(crate) records: Vec<Member>,
}

#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) key: RecordKey,
    /// As the record has it.
    pub(crate) theirs: Value,
    /// As the field has it.
    pub(crate) value: Value,
}

impl MemberRows {
    pub(crate) fn new(parts: Vec<Part>) -> Self {
        let all = Arc::new(predicate(&parts, |_, _| true));
        Self { parts, all }
    }

    /// The condition as it was when the rule was asked.
    pub(crate) fn all(&self) -> &Arc<Predicate> {
        &self.all
    }

    pub(crate) fn members(&self) -> impl Iterator<Item = &Members> {
        self.parts.iter().filter_map(|part| part.members.as_ref())
    }

    /// The condition, as far as the records that it relies on still are as they must be.
    pub(crate) fn as_of<'a>(&self, row: impl Fn(&RecordKey) -> Option<&'a Record>) -> Predicate {
        predicate(&self.parts, |members, member| {
            row(&member.key).is_some_and(|row| {
                let values = Values::from(row);
                *values.get(&members.theirs) == member.theirs && members.filter.admits(&values)
            })
        })
    }
}

impl Members {
    /// The records that admit those with one of these values, or all where the values are not known.
    pub(crate) fn concerning(&self, values: Option<&[Value]>) -> impl Iterator<Item = &RecordKey> {
        let concerns = move |member: &&Member| {
            values.is_none_or(|values| {
                let is_equal = |value: &Value| {
                    let order = self.comparison.compare(value, &member.value);
                    order.is_some_and(std::cmp::Ordering::is_eq)
                };
                values.iter().any(is_equal)
            })
        };
        self.records
            .iter()
            .filter(concerns)
            .map(|member| &member.key)
    }
}

fn predicate(parts: &[Part], holds: impl Fn(&Members, &Member) -> bool) -> Predicate {
    let parts = parts.iter().map(|part| {
        let members = part.members.as_ref().map(|members| {
            let held = members
                .records
                .iter()
                .filter(|member| holds(members, member));
            let mut values: Vec<_> = held.map(|member| member.value.clone()).collect();
            // Who leaves and comes back has the same rights as before.
            values.sort_by_cached_key(Value::to_string);
            values.dedup();
            Node::In {
                field: members.field.clone(),
                comparison: members.comparison,
                values,
            }
        });
        let both = part.conditions.iter().cloned().chain(members);
        Node::And(both.collect())
    });
    Predicate(Node::Or(parts.collect()))
}
