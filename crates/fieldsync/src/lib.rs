//! Keeps the fields of records in sync between every window, device and server that shows them.

// Leaves: pure data, pure functions.
mod authorize;
mod batch;
mod change;
mod collection;
mod cursor;
mod edit;
mod entity_tag;
mod json;
mod merge_patch;
mod record;
mod schema;
mod time;

// The two traits.
mod broker;
mod store;

// Real ones of both, for tests and toy apps.
mod memory;

// What every one of them must do.
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;

pub use authorize::{Access, Authorizer, Denied, Grant, Principal, RowPredicate, View};
pub use batch::{Advance, Batch, Finished, Found, GroupResult, Mutation, Plan, RefusedEdit, Write};
pub use broker::{Broker, BrokerError, Notice};
pub use change::{Action, Change, FoldedChange};
pub use collection::{Collection, Field, FieldErrors, Ids};
pub use cursor::{Cursor, MalformedCursor, Position, ResetReason};
pub use edit::{Edit, EngineError, IdempotencyKey, Outcome, Precondition, Refusal, Remembered};
pub use memory::{LocalBroker, MemoryStore};
pub use merge_patch::MergePatch;
pub use record::{Fields, Record, RecordId, RecordKey, Stored};
pub use schema::{FieldType, JsonShape, Schema};
pub use store::{Backlog, IDEMPOTENCY_KEY_AGE, Retention, SchemaMismatch, Store, StoreError};
pub use time::Timestamp;
