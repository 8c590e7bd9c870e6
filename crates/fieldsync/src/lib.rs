//! Keeps the fields of records in sync between every window, device and server that shows them: somebody edits one field
//! in one window, a PATCH saves it in the app's own SQL table, and every other window shows it at once.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use fieldsync::{Collection, Engine, MemoryStore, Update};
//! use futures_util::StreamExt as _;
//! use schemars::JsonSchema;
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Default, Serialize, Deserialize, JsonSchema)]
//! #[serde(default, deny_unknown_fields)]
//! struct User {
//!     #[schemars(length(max = 100))]
//!     first_name: String,
//! }
//!
//! let engine = Engine::builder()
//!     .collection(Collection::of::<User>("users").timestamps().open_to_everyone())
//!     .store(MemoryStore::new())
//!     .start()
//!     .await?;
//! let user = engine.create("users", User { first_name: "Ada".into() }).await?;
//!
//! let mut updates = engine.subscribe("users", None).await?;
//! assert!(matches!(updates.next().await, Some(Update::Snapshot { .. })));
//! assert!(matches!(updates.next().await, Some(Update::Live { .. })));
//!
//! engine.edit(("users", user.id), |user: &mut User| user.first_name = "Augusta Ada".into()).await?;
//! let Some(Update::Change { change, .. }) = updates.next().await else { panic!("a change") };
//! assert_eq!(change.fields["first_name"], "Augusta Ada");
//! # Ok(())
//! # }
//! ```
//!
//! # The parts
//!
//! - A [`Collection`] is made from a Rust type: its fields, their types, lengths and defaults, the table it fits, and its
//!   rule, an [`Authorizer`].
//! - A [`Store`] keeps the tables and a log of changes beside them. Take `SqliteStore` from `fieldsync-sqlite`, or
//!   [`MemoryStore`] for tests.
//! - The [`Engine`] is the whole, as the app holds it. Its methods are the app's own door, by type;
//!   [`Engine::on_behalf_of`] is the door of everybody else.
//! - An adapter (`fieldsync-axum`) brings requests to [`handle`], handshakes to [`accept`] and sockets to [`serve`].
//! - A [`Subscription`] is a place in a log: a snapshot or what was missed, then live. [`Cursor`] is that place as text.
//!
//! # The way of a PATCH
//!
//! `http` reads it, strictly (`json`), into an [`Edit`]. `engine` asks the collection's rule. `commit` puts edits that come
//! at the same time into one [`Batch`]. The store reads the current rows in a transaction, asks [`Batch::plan`] what to
//! write, writes row and [`Change`], and commits. The writer gets its answer. `hub` wakes those who listen, and each
//! `connection` writes all that is new to it in one go.

// Leaves: pure data, pure functions.

mod record;

mod time;

mod json;

mod merge_patch;

mod schema;

mod collection;

mod authorize;

mod cursor;

mod log_bounds;

mod topic;

mod change;

mod entity_tag;

mod edit;

mod batch;

mod decide;

// The two traits.

mod store;

mod broker;

// One PATCH's way: in, to everybody, and back.

mod engine;

mod builder;

mod settings;

mod commit;

mod hub;

mod hubs;

mod notices;

mod subscription;

// The doors.

mod http;

mod conditional;

mod problem;

mod handshake;

mod connection;

mod progress;

mod outlet;

mod protocol;

mod feed;

mod events;

// Real ones, for tests and toy apps.

mod memory;

// Where a test has the process die. No release has it.

#[cfg(fieldsync_fault_points)]
#[doc(hidden)]
pub mod fault;

// What every one of them must do.

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;

pub use authorize::{Access, Authorizer, Denied, Grant, Principal, Rows, View};
pub use batch::{
    Advance, BASE_REACH, Batch, Finished, Found, GroupResult, Mutation, Plan, RefusedEdit, Write,
};
pub use broker::{Broker, BrokerError, Notice};
pub use builder::{EngineBuilder, StartError};
pub use change::{Action, Change, FoldedChange};
pub use collection::{Collection, Field, FieldErrors, Ids};
pub use connection::serve;
pub use cursor::{Cursor, MalformedCursor, Position, ResetReason};
pub use edit::{
    Edit, EngineError, FieldConflict, IdempotencyKey, Outcome, Precondition, Refusal, Remembered,
};
pub use engine::{Caller, Engine, Page, Seen};
pub use events::Events;
pub use feed::FeedChange;
pub use handshake::{Accepted, accept};
pub use http::{Body, Reply, RequestHead, handle};
pub use log_bounds::LogBounds;
pub use memory::{LocalBroker, MemoryStore};
pub use merge_patch::MergePatch;
pub use record::{Fields, Record, RecordId, RecordKey, Stored};
pub use schema::{FieldType, JsonShape, Schema};
pub use store::{Backlog, IDEMPOTENCY_KEY_AGE, Retention, SchemaMismatch, Store, StoreError};
pub use subscription::{Subscription, Update};
pub use time::Timestamp;
pub use topic::Topic;
