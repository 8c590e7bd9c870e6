//! What the author of a store provides: a database for each test, and what can be done to it past fieldsync.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;

use crate::model::record::{Fields, RecordId};
use crate::store::store::Store;

/// A database for one test, and what can be done to it past fieldsync. What fails panics.
#[async_trait]
pub trait Fixture: Send + Sync + Sized + 'static {
    /// Whether the database has constraints. Where it has none, the suite checks that nothing is refused for one.
    const CONSTRAINTS: Constraints;

    /// The most changes that one call of [`Store::trim`] forgets. The suite writes that many and more.
    const TRIM_STEP: usize;

    /// Makes an empty database. It is gone when the fixture is dropped.
    async fn fresh() -> Self;

    /// Opens a store on the database. Each is another node, or the same node after a restart.
    async fn open(&self) -> Arc<dyn Store>;

    /// Makes a table, as an app would that had it before fieldsync.
    async fn create_table(&self, table: Table);

    /// Writes to a row, as SQL of the app's own would: sets these columns of it, inserts it with them if it is not
    /// there, or deletes it (`None`). The key's column is `id`. Other columns get the table's defaults.
    /// Values are as fields hold them: a time is text in RFC 3339.
    async fn write_past(&self, table: &str, id: RecordId, row: Option<Fields>);

    /// Begins a transaction of somebody else that has locked this row for writing (key's column `id`), and the whole
    /// database where a lock is that coarse. It is rolled back when the guard is dropped.
    async fn hold_write_lock(&self, table: &str, id: RecordId) -> Box<dyn Any + Send>;

    /// Makes all that the store has written that much older: changes and idempotency keys.
    async fn grow_older(&self, by: Duration);
}

/// Whether a database has constraints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Constraints {
    /// It has: a [`Column`]'s constraint holds for every write.
    Enforced,
    /// It has none: a [`Column`]'s constraint is ignored.
    Absent,
}

/// A table to make.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Table {
    /// Its name.
    pub name: String,
    /// The column of the key: integers that the database gives.
    pub key: String,
    /// The other columns.
    pub columns: Vec<Column>,
}

/// A column to make.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Column {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub kind: ColumnKind,
    /// Whether null is allowed.
    pub nullable: bool,
    /// Its default, if it has one.
    pub default: Option<Value>,
    /// What else must hold.
    pub constraint: Option<Constraint>,
}

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnKind {
    /// Text of any length.
    Text,
    /// Integers of 64 bits.
    Integer,
}

/// What must hold for a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Constraint {
    /// No two rows have the same.
    Unique,
    /// It is at least this.
    AtLeast(i64),
    /// It is the `id` of a row of this table.
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
