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
mod topic;

// The two traits.
mod broker;
mod store;

// One PATCH's way: in, to everybody, and back.
mod builder;
mod commit;
mod engine;
mod hub;
mod hubs;
mod settings;
mod subscription;

// The doors.
mod conditional;
mod connection;
mod feed;
mod handshake;
mod http;
mod outlet;
mod problem;
mod protocol;

// Real ones, for tests and toy apps.
mod memory;

// What every one of them must do.
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;

pub use authorize::{Access, Authorizer, Denied, Grant, Principal, Rows, View};
pub use batch::{Advance, Batch, Finished, Found, GroupResult, Mutation, Plan, RefusedEdit, Write};
pub use broker::{Broker, BrokerError, Notice};
pub use builder::{EngineBuilder, StartError};
pub use change::{Action, Change, FoldedChange};
pub use collection::{Collection, Field, FieldErrors, Ids};
pub use connection::serve;
pub use cursor::{Cursor, MalformedCursor, Position, ResetReason};
pub use edit::{Edit, EngineError, IdempotencyKey, Outcome, Precondition, Refusal, Remembered};
pub use engine::{Caller, Engine, Page, Seen};
pub use feed::FeedChange;
pub use handshake::{Accepted, accept};
pub use http::{Reply, RequestHead, handle};
pub use memory::{LocalBroker, MemoryStore};
pub use merge_patch::MergePatch;
pub use record::{Fields, Record, RecordId, RecordKey, Stored};
pub use schema::{FieldType, JsonShape, Schema};
pub use store::{Backlog, IDEMPOTENCY_KEY_AGE, Retention, SchemaMismatch, Store, StoreError};
pub use subscription::{Subscription, Update};
pub use time::Timestamp;
pub use topic::Topic;
