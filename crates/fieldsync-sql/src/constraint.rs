//! Turns what the database reports about a write into the refusal of an edit.

use fieldsync::backend::{Mutation, Write};
use fieldsync::{Denied, FieldErrors, Refusal};

use crate::dialect::Dialect;
use crate::layout::{Column, TableLayout};

/// The kind of constraint that refused a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Constraint {
    /// A unique key or an exclusion.
    Unique,
    /// A foreign key.
    ForeignKey,
    /// A column that refuses null.
    NotNull,
    /// A check, or a value that its column or its index does not take.
    Check,
}

/// Why the database refused a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rejection {
    /// A constraint. The fields are those that it names; without any, the fields that the mutation sets.
    Constraint(Constraint, Vec<String>),
    /// A constraint of another table, into which a trigger of the app writes.
    ElsewhereConstraint(Constraint),
    /// A trigger of the app raised an error.
    Raised {
        /// Its message.
        message: String,
        /// The field that it names, if it names one.
        field: Option<String>,
    },
    /// The database's role lacks a privilege, or row-level security forbids the write.
    Denied(String),
    /// The reason is not in the values of the edit.
    Failed(String),
}

impl Rejection {
    /// A foreign key that the database does not name. `fields`: those that it may be about, as
    /// [`TableLayout::referring_fields`] returns them. Without any, it is one of another table.
    #[must_use]
    pub fn of_foreign_key(fields: Vec<String>) -> Self {
        if fields.is_empty() {
            Self::ElsewhereConstraint(Constraint::ForeignKey)
        } else {
            Self::Constraint(Constraint::ForeignKey, fields)
        }
    }

    /// Refuses a mutation of this table. What the client may not learn is logged.
    #[must_use]
    pub fn refuse<D: Dialect>(self, table: &TableLayout<D>, mutation: &Mutation) -> Refusal {
        match self {
            Self::Constraint(constraint, fields) if fields.is_empty() => {
                constraint.refuse(written_fields(mutation))
            }
            Self::Constraint(constraint, fields) => constraint.refuse(fields),
            Self::ElsewhereConstraint(constraint) => constraint.refuse(vec![String::new()]),
            Self::Raised { message, field } => {
                tracing::info!(
                    table = table.name,
                    raised = message,
                    "a trigger refused an edit"
                );
                Refusal::DatabaseRefused {
                    message,
                    field,
                    is_shown: mutation.collection.shows_database_messages(),
                }
            }
            Self::Denied(error) => {
                tracing::warn!(table = table.name, error, "the database denied an edit");
                Denied::Forbidden.into()
            }
            Self::Failed(error) => {
                Refusal::DatabaseFailed(format!("table {}: {error}", table.name))
            }
        }
    }
}

impl Constraint {
    fn refuse(self, fields: Vec<String>) -> Refusal {
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
                .filter(|field| field.is_settable() && fields.contains_key(&field.name));
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
                let is_set = |column: &&Column<D>| {
                    let value = fields.get(&column.field);
                    value.is_some_and(|value| !value.is_null())
                };
                let refers = |column: &&Column<D>| {
                    let mut referring = self.foreign_keys.iter().flat_map(|key| &key.columns);
                    referring.any(|name| D::is_same_name(name, &column.name))
                };
                let columns = self.columns.iter().filter(refers).filter(is_set);
                columns.map(|column| column.field.clone()).collect()
            }
            Write::Delete { .. } | Write::Refresh { .. } => vec!["id".to_owned()],
        }
    }
}

/// The mutation that a deferred constraint most likely refused, of those of a batch of one group, and the fields to name:
/// COMMIT does not say which row violates it. `fields` returns the fields of a mutation that the constraint may be about.
pub fn likeliest(
    mutations: &[Mutation],
    fields: impl Fn(&Mutation) -> Vec<String>,
) -> Option<(&Mutation, Vec<String>)> {
    let candidates = mutations
        .iter()
        .map(|mutation| (mutation, fields(mutation)));
    // One that sets a field of the constraint is likelier than one that deletes.
    candidates.min_by_key(|(_, fields)| match fields.first().map(String::as_str) {
        Some("id") => 1,
        Some(_) => 0,
        None => 2,
    })
}
