//! What the author of a store provides to the suite: a database for each test, and access to it without the store.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;

use crate::model::record::{Fields, RecordId};
use crate::store::store::Store;

/// A database for one test, and access to it without the store. A method that fails panics.
#[async_trait]
pub trait Fixture: Send + Sync + Sized + 'static {
    /// Whether the database has constraints. If it has none, the suite checks that no edit is refused because of one.
    const CONSTRAINTS: Constraints;

    /// Whether the store captures what others write.
    const CAPTURES: bool;

    /// The most changes, and the most idempotency keys, that one call of [`Store::trim`] deletes. The suite writes more
    /// than that.
    const TRIM_STEP: usize;

    /// Creates an empty database. It is deleted when the fixture is dropped.
    async fn fresh() -> Self;

    /// Opens a store on the database. Each store stands for another node, or for the same node after a restart.
    async fn open(&self) -> Arc<dyn Store>;

    /// Creates a table, as an app does before it uses fieldsync.
    async fn create_table(&self, table: Table);

    /// Writes to a row as another program does, with SQL. Sets these columns of the row, inserts the row with these
    /// columns if it does not exist, or deletes the row (`None`).
    ///
    /// The key column is `id`. In a new row the other columns get the defaults of the table. The values are those of
    /// fields: a time is text in RFC 3339.
    async fn write_externally(&self, table: &str, id: RecordId, row: Option<Fields>);

    /// Begins a transaction of another program that locks this row for writing, or the whole database if the database
    /// has no row locks. The key column is `id`. The transaction is rolled back when the guard is dropped.
    async fn hold_write_lock(&self, table: &str, id: RecordId) -> Box<dyn Any + Send>;

    /// Makes every change and every idempotency key that the store has written older by this duration.
    async fn grow_older(&self, by: Duration);
}

/// Whether a database has constraints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Constraints {
    /// The constraint of a [`Column`] is enforced for every write.
    Enforced,
    /// The database has no constraints. The constraint of a [`Column`] is ignored.
    Absent,
}

/// A table to create.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Table {
    /// The name.
    pub name: String,
    /// The key column. The database generates its values, which are integers.
    pub key: String,
    /// The other columns.
    pub columns: Vec<Column>,
}

/// A column to create.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Column {
    /// The name.
    pub name: String,
    /// The type of its values.
    pub kind: ColumnKind,
    /// Whether null is allowed.
    pub nullable: bool,
    /// The default, if the column has one.
    pub default: Option<Value>,
    /// The constraint, if the column has one.
    pub constraint: Option<Constraint>,
}

/// The type of a column's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnKind {
    /// Text of any length.
    Text,
    /// Integers of 64 bits.
    Integer,
}

/// A constraint of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Constraint {
    /// No two rows have the same value.
    Unique,
    /// The value is at least this number.
    AtLeast(i64),
    /// The value is the `id` of a row of this table.
    References(String),
}

impl Table {
    pub(crate) fn new(name: &str, columns: impl Into<Vec<Column>>) -> Self {
        Self {
            name: name.to_owned(),
            key: "id".to_owned(),
            columns: columns.into(),
        }
    }
}

impl Column {
    pub(crate) fn text(name: &str) -> Self {
        Self::new(name, ColumnKind::Text)
    }

    pub(crate) fn integer(name: &str) -> Self {
        Self::new(name, ColumnKind::Integer)
    }

    fn new(name: &str, kind: ColumnKind) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            nullable: false,
            default: None,
            constraint: None,
        }
    }

    pub(crate) fn with_default(self, default: impl Into<Value>) -> Self {
        Self {
            default: Some(default.into()),
            ..self
        }
    }

    pub(crate) fn nullable(self) -> Self {
        Self {
            nullable: true,
            ..self
        }
    }

    pub(crate) fn constrained(self, constraint: Constraint) -> Self {
        Self {
            constraint: Some(constraint),
            ..self
        }
    }
}
