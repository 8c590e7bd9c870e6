//! What to write for a batch of edits: pure code that stores call inside their transaction. Imports `model` and `schema`.

pub(crate) mod base;
pub(crate) mod batch;
pub(crate) mod captured;
pub(crate) mod catch_panic;
pub(crate) mod commit_slot;
pub(crate) mod decide;
pub(crate) mod mutation;
pub(crate) mod plan;
pub(crate) mod planner;
pub(crate) mod references;
pub(crate) mod relied_on;
pub(crate) mod results;
pub(crate) mod settle;
