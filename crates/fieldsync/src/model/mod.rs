//! Plain data and pure functions: records, changes, cursors, edits and their outcomes. Imports no other layer; `schema`
//! gives the data its types and its rules.

pub(crate) mod access;
pub(crate) mod allowance;
pub(crate) mod canonical;
pub(crate) mod change;
pub(crate) mod changes_since;
pub(crate) mod cursor;
pub(crate) mod cursor_key;
pub(crate) mod cursor_seal;
pub(crate) mod edit;
pub(crate) mod entity_tag;
pub(crate) mod exact_number;
pub(crate) mod field_errors;
pub(crate) mod filter;
pub(crate) mod filter_text;
pub(crate) mod log_bounds;
pub(crate) mod merge_patch;
pub(crate) mod order;
pub(crate) mod outcome;
pub(crate) mod percent;
pub(crate) mod precondition;
pub(crate) mod principal;
pub(crate) mod query;
pub(crate) mod record;
pub(crate) mod refusal;
pub(crate) mod timestamp;
pub(crate) mod topic;
pub(crate) mod typed;
