//! Fan-out inside one node: hubs with the recent changes, subscriptions and plain feeds. Imports `store`, `broker` and
//! the layers before them.

pub(crate) mod dependencies;
pub(crate) mod feed;
pub(crate) mod follower;
pub(crate) mod gate;
pub(crate) mod hub;
mod hub_index;
pub(crate) mod hub_registry;
pub(crate) mod lapse;
mod log_pages;
pub(crate) mod looks;
pub(crate) mod message_size;
pub(crate) mod mirror;
mod mirrors;
pub(crate) mod number_set;
pub(crate) mod read_step;
mod regrant;
pub(crate) mod revocations;
pub(crate) mod rights;
pub(crate) mod ring;
pub(crate) mod since;
pub(crate) mod standing;
pub(crate) mod subscriber_reads;
pub(crate) mod subscription;
pub(crate) mod update;
mod update_stream;
mod updates_read;
pub(crate) mod validity;
mod waiter;
pub(crate) mod window;
mod window_updates;
