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

mod model;

mod schema;

mod write;

mod store;

mod broker;

mod live;

mod error;

mod engine;

mod http;

mod conditional;

mod problem;

mod handshake;

mod connection;

mod progress;

mod outlet;

mod protocol;

mod events;

// The points at which a test kills the process. No release has them.

#[cfg(fieldsync_fault_points)]
#[doc(hidden)]
pub mod fault;

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;

pub use broker::broker::Broker;
pub use broker::error::BrokerError;
pub use broker::local::LocalBroker;
pub use broker::notification::Notification;
pub use connection::serve;
pub use engine::builder::EngineBuilder;
pub use engine::caller::{Caller, Page};
pub use engine::engine::Engine;
pub use engine::permissions::RecordView;
pub use error::{EngineError, StartError};
pub use events::Events;
pub use handshake::{Accepted, accept};
pub use http::{Body, Reply, RequestHead, handle};
pub use live::feed::FeedChange;
pub use live::subscription::Subscription;
pub use live::update::Update;
pub use model::access::{Access, Denied};
pub use model::change::{Action, Change, FoldedChange};
pub use model::changes_since::ChangesSince;
pub use model::cursor::{Cursor, MalformedCursor, Position, ResetReason};
pub use model::edit::{Edit, Precondition};
pub use model::field_errors::FieldErrors;
pub use model::merge_patch::MergePatch;
pub use model::outcome::{IdempotencyKey, IdempotencyRecord, Outcome};
pub use model::principal::Principal;
pub use model::record::{Fields, Record, RecordId, RecordKey, Stored};
pub use model::refusal::{FieldConflict, Refusal};
pub use model::timestamp::Timestamp;
pub use model::topic::Topic;
pub use schema::authorizer::Authorizer;
pub use schema::collection::Collection;
pub use schema::field::{Field, Ids};
pub use schema::field_type::{FieldType, JsonShape, Schema};
pub use schema::grant::{Grant, RowFilter, View};
pub use store::error::{SchemaMismatch, StoreError};
pub use store::memory::MemoryStore;
pub use store::store::{IDEMPOTENCY_KEY_RETENTION, Retention, Store};
pub use write::batch::{Batch, GroupResult, MAX_BASE_DISTANCE, ReadSet, RefusedEdit};
pub use write::mutation::{HeadUpdate, Mutation, Write};
pub use write::plan::{CommitOutput, Plan};
