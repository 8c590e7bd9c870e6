//! The engine. Start with `engine.rs`, which shows the write path. `protocol`, `http` and `websocket` build on this
//! layer.

pub(crate) mod asks;
pub(crate) mod builder;
pub(crate) mod caller;
mod capture;
pub(crate) mod collection_handle;
pub(crate) mod cursors;
pub(crate) mod drain;
mod edit_checks;
pub(crate) mod engine;
pub(crate) mod explain;
pub(crate) mod gauges;
mod grants;
pub(crate) mod group_commit;
pub(crate) mod handle_query;
pub(crate) mod limits;
pub(crate) mod list_places;
pub(crate) mod memberships;
mod narrowed_read;
pub(crate) mod origins;
pub(crate) mod pages;
pub(crate) mod permissions;
mod read_ahead;
pub(crate) mod readiness;
mod reasking;
mod references;
pub(crate) mod revoke;
pub(crate) mod settings;
pub(crate) mod signals;
pub(crate) mod slow_lists;
mod state;
pub(crate) mod usage;
