//! Keeps the fields of records in sync between every window, device and server that shows them. A user edits one field
//! in one window, a PATCH saves it in the app's own SQL table, and every other window shows it at once.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use fieldsync::schemars::{self, JsonSchema};
//! use fieldsync::{Collection, Engine, MemoryStore, Update};
//! use futures_util::StreamExt as _;
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
//! let users = engine.collection::<User>("users");
//! let user = users.create(User { first_name: "Ada".into() }).await?;
//!
//! let mut updates = users.subscribe(None).await?;
//! assert!(matches!(updates.next().await, Some(Update::Snapshot { .. })));
//! assert!(matches!(updates.next().await, Some(Update::Live { .. })));
//!
//! users.update(user.id, |user| user.first_name = "Augusta Ada".into()).await?;
//! let Some(Update::Change { change, .. }) = updates.next().await else { panic!("expected a change") };
//! assert_eq!(change.fields["first_name"], "Augusta Ada");
//! # Ok(())
//! # }
//! ```
//!
//! # Parts
//!
//! - A [`Collection`] describes records of one kind: fields with types, lengths and defaults, taken from a Rust type, the
//!   table that holds them, and an [`Authorizer`] that decides who may do what.
//! - A store keeps the tables and a log of changes. Take `SqliteStore` from `fieldsync-sqlite`, `PostgresStore` from
//!   `fieldsync-postgres`, or [`MemoryStore`] for tests.
//! - The [`Engine`] holds everything together. The app's own code reads and writes through [`Engine::collection`], which
//!   is typed and sees every field. [`Engine::on_behalf_of`] shows a principal only what it may read.
//! - An adapter (`fieldsync-axum`, `fieldsync-actix`) mounts the engine into a web framework: REST routes, a WebSocket
//!   and server-sent events.
//! - A [`Subscription`] is a position in a log. It delivers a snapshot or what was missed, then live changes. A [`Cursor`]
//!   is that position as text.
//!
//! The crate has three public parts. The root is for apps. [`backend`] is for authors of stores and brokers, [`adapter`] for
//! authors of adapters.
//!
//! # The path of a PATCH
//!
//! `http` reads the request, strictly, into an [`Edit`]. `Engine::write` asks the authorizer, commits, announces and
//! projects. The commit joins edits that arrive at the same time into one batch. The store reads the current rows in a
//! transaction, asks [`Batch::plan`](backend::Batch::plan) what to write, writes rows and changes, and commits. The hub
//! wakes the subscribers, and each connection writes everything that is new to it at once.
//!
//! # Layers
//!
//! Each folder is a layer that imports only from the layers before it: `model`, `schema`, `write`, `store`, `broker`,
//! `live`, `engine`, `protocol`, `http`, `websocket`.

mod metrics;

mod model;

mod schema;

mod write;

mod store;

mod broker;

mod live;

mod error;

mod engine;

mod protocol;

mod http;

mod websocket;

// The points at which a test kills the process. No release has them.

#[cfg(fieldsync_fault_points)]
#[doc(hidden)]
pub mod fault;

#[cfg(any(test, feature = "conformance"))]
mod conformance;

// What the fuzz targets run.

#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;

pub use broker::local::LocalBroker;
pub use engine::builder::EngineBuilder;
pub use engine::caller::{Caller, Page};
pub use engine::collection_handle::CollectionHandle;
pub use engine::drain::DrainReport;
pub use engine::engine::Engine;
pub use engine::explain::Explanation;
pub use engine::gauges::{CollectionStats, Stats};
pub use engine::handle_query::HandleQuery;
pub use engine::limits::Limits;
pub use engine::permissions::RecordView;
pub use engine::signals::Stopped;
pub use error::{EngineError, StartError};
pub use live::feed::FeedChange;
pub use live::mirror::Mirror;
pub use live::subscription::Subscription;
pub use live::update::Update;
pub use model::access::{Access, Denied};
pub use model::change::{Action, FoldedChange};
pub use model::cursor::{Cursor, ResetReason};
pub use model::cursor_key::{CursorKey, MalformedCursorKey};
pub use model::cursor_seal::CursorError;
pub use model::edit::{Edit, UpdateResult};
pub use model::exact_number::to_json;
pub use model::field_errors::FieldErrors;
pub use model::filter::Filter;
pub use model::order::{Order, asc, desc};
pub use model::outcome::Outcome;
pub use model::precondition::Precondition;
pub use model::principal::Principal;
pub use model::record::{Fields, Record, RecordId, RecordKey, Stored};
pub use model::refusal::{FieldConflict, Refusal};
pub use model::timestamp::Timestamp;
pub use model::topic::Topic;
pub use schema::authorizer::Authorizer;
pub use schema::collection::Collection;
pub use schema::grant::Grant;
pub use schema::reads::{Reads, reads};
pub use schema::rules::{
    On, PrincipalIs, PrincipalName, Rule, Rules, everyone, exists, on, owner, principal,
    principal_name, role, signed_in,
};
pub use schema::view::View;
pub use store::memory::MemoryStore;
pub use store::store::Retention;

// What apps must name to use the above.
pub use async_trait::async_trait;
pub use schemars;
pub use uuid;

/// For authors of stores and brokers: the contracts, what they exchange with the engine, and their conformance suites.
///
/// A [`Store`](backend::Store) keeps the app's tables and the change log. It reads what a [`Batch`](backend::Batch) asks
/// for into a [`ReadSet`](backend::ReadSet), writes what the [`Plan`](backend::Plan) says, and commits. A
/// [`Broker`](backend::Broker) carries notifications between nodes. Either is complete when the suite behind the feature
/// `conformance` passes.
pub mod backend {
    pub use crate::broker::broker::Broker;
    pub use crate::broker::error::BrokerError;
    pub use crate::broker::notification::Notification;
    pub use crate::model::change::Change;
    pub use crate::model::changes_since::ChangesSince;
    pub use crate::model::cursor::Position;
    pub use crate::model::exact_number::from_json;
    pub use crate::model::log_bounds::LogBounds;
    pub use crate::model::outcome::{IdempotencyKey, IdempotencyRecord, Replay};
    pub use crate::model::record::{integer_value, join_composite, split_composite};
    pub use crate::schema::collection::CaptureChoice;
    pub use crate::schema::field::{Field, Ids, IdsGivenBy, SetBy};
    pub use crate::schema::field_type::{FieldType, JsonShape, Schema};
    pub use crate::schema::foreign_key::ForeignKey;
    pub use crate::schema::lookups::MAX_ID_BYTES;
    pub use crate::schema::narrowing::Narrowing;
    pub use crate::schema::own_collections::own_collections;
    pub use crate::schema::sorting::{SortKey, Sorting};
    pub use crate::schema::table_description::{ColumnDescription, LeftOut, TableDescription};
    pub use crate::store::error::{SchemaMismatch, StoreError};
    pub use crate::store::listing::{Listing, MAX_LIST_TIME};
    pub use crate::store::page::{PageLimit, PageMeter, RecordPage};
    pub use crate::store::store::{Committed, IDEMPOTENCY_KEY_RETENTION, LoggedCaptures, Store};
    pub use crate::write::batch::{
        Batch, GroupResult, MAX_BASE_DISTANCE, MAX_REFERENCE_LOOKS, ReadSet, RefusedEdit,
    };
    pub use crate::write::captured::{Captured, CapturedWrite};
    pub use crate::write::mutation::{HeadUpdate, Mutation, Write};
    pub use crate::write::plan::Plan;
    pub use crate::write::settle::{CommitOutput, Settled};
    /// What the suites need of a store or a broker under test.
    #[cfg(any(test, feature = "conformance"))]
    pub mod conformance {
        pub use crate::conformance::{
            BrokerFixture, Column, ColumnKind, Constraint, Constraints, Fixture, Table,
        };
        #[doc(hidden)]
        pub use crate::conformance::{
            bases, captures, constraints, edits, faults, groups, history, ids, keys, log,
            notifications, open_cursor, preconditions, reads, references, rights, run, tables,
            trimming, types,
        };
    }

    #[cfg(any(test, feature = "conformance"))]
    #[doc(inline)]
    pub use crate::{__broker_tests as broker_tests, __store_tests as store_tests};
}

/// For authors of adapters: what brings the requests and sockets of a web framework to an engine.
pub mod adapter {
    pub use crate::http::{
        Body, MountPath, Probe, handle, leave_limit_to_websocket, limit_writes, not_found_response,
        probe, problem_response,
    };
    pub use crate::websocket::{Accepted, ExtendedConnect, accept, serve};
}
