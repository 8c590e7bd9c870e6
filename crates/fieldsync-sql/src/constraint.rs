//! Turns a constraint that a row violates into the refusal of an edit.

use fieldsync::backend::{GroupResult, Mutation, Plan, Write};
use fieldsync::{FieldErrors, Refusal};

use crate::dialect::Dialect;
use crate::layout::TableLayout;
use crate::tables::Tables;

/// The kind of constraint that refused a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Constraint {
    /// A unique key or an exclusion.
    Unique,
    /// A foreign key.
    ForeignKey,
    /// A column that refuses null.
    NotNull,
    /// A check, a value that its column does not take, or an error that a trigger raises.
    Check,
}

impl Constraint {
    /// Refuses a mutation. `fields` are those that the constraint names; without any, the fields that the mutation sets.
    #[must_use]
    pub fn refuse(self, mutation: &Mutation, fields: Vec<String>) -> Refusal {
        let fields = if fields.is_empty() {
            written_fields(mutation)
        } else {
            fields
        };
        let message = |name: &str| match self {
            Self::Unique => "is already taken",
            Self::ForeignKey if name == "id" => "is still referred to by another record",
            Self::ForeignKey => {
                "refers to a record that does not exist, or is still referred to by another record"
            }
            Self::NotNull => "must not be null",
            Self::Check => "is not allowed by the database",
        };
        let errors: FieldErrors = fields
            .into_iter()
            .map(|name| {
                let message = message(&name);
                (name, message)
            })
            .collect();
        match self {
            Self::Unique | Self::ForeignKey => Refusal::Conflict(errors),
            Self::NotNull | Self::Check => Refusal::Invalid(errors),
        }
    }
}

/// The fields that the caller set; `id` for a delete.
fn written_fields(mutation: &Mutation) -> Vec<String> {
    match &mutation.write {
        Write::Insert { fields, .. } | Write::Update { fields, .. } => {
            let own = mutation
                .collection
                .fields()
                .iter()
                .filter(|field| !field.set_by_server && fields.contains_key(&field.name));
            own.map(|field| field.name.clone()).collect()
        }
        Write::Delete { .. } | Write::Refresh { .. } => vec!["id".to_owned()],
    }
}

impl<D: Dialect> TableLayout<D> {
    /// The fields to name for a foreign key that a mutation violates, if the database does not say which: the references
    /// that it sets, or `id` for a delete.
    #[must_use]
    pub fn referring_fields(&self, write: &Write) -> Vec<String> {
        match write {
            Write::Insert { fields, .. } | Write::Update { fields, .. } => {
                let is_set =
                    |name: &&String| fields.get(*name).is_some_and(|value| !value.is_null());
                self.foreign_keys.iter().filter(is_set).cloned().collect()
            }
            Write::Delete { .. } | Write::Refresh { .. } => vec!["id".to_owned()],
        }
    }
}

/// The answer for a batch of one group if COMMIT finds a violated foreign key. The database does not say which row
/// violates it: the mutation that most likely does is refused.
pub fn deferred_refusal<D: Dialect>(plan: &Plan, tables: &Tables<D>) -> Option<GroupResult> {
    let candidates = plan.mutations().iter().enumerate().map(|(at, mutation)| {
        let table = tables.of(mutation.collection.name());
        let fields = table.map(|table| table.referring_fields(&mutation.write));
        (at, fields.unwrap_or_default())
    });
    // One that sets a reference is likelier than one that deletes.
    let likeliest = candidates.min_by_key(|(_, fields)| match fields.first().map(String::as_str) {
        Some("id") => 1,
        Some(_) => 0,
        None => 2,
    });
    let (at, fields) = likeliest?;
    let refusal = Constraint::ForeignKey.refuse(&plan.mutations()[at], fields);
    Some(plan.refused_by_database(at, refusal))
}
