#![doc = include_str!("../README.md")]

// What the driver passes in.
mod value;

mod catalog;

mod dialect;

// The app's tables.
mod layout;

mod table;

mod capture;

mod mismatch;

mod ddl;

mod check;

mod tables;

mod constraint;

// The side tables.
mod render;

mod side_tables;

mod log;

mod log_sizes;

mod trim;

mod idempotency;

mod cursor_key;

mod statements;

// The start.
mod prepare;

// Statement by statement, for drivers that do not send several at once.
mod transaction;

mod log_access;

mod record_access;

mod condition;

mod listing;

// Batches.
mod parts;

#[cfg(test)]
mod test_dialect;

pub use catalog::{
    ColumnInfo, DeclaredType, ForeignKeyInfo, IdSource, TableInfo, TableKind, TypeKind, text_length,
};
pub use condition::Condition;
pub use constraint::{Constraint, Rejection, likeliest};
pub use cursor_key::{HAS_CURSOR_KEY, cursor_key, read_cursor_key};
pub use dialect::{Dialect, KeyMismatch, Side, SideTableTypes, SortColumn, ValueKind};
pub use idempotency::{idempotency_record, idempotency_values, oldest_idempotency_key};
pub use layout::{Column, TableLayout};
pub use listing::{PageRows, check_order};
pub use log::{
    LogPage, MAX_HISTORY_BYTES, RecordHistory, change, change_values, head, log_bounds,
    missing_head, tag,
};
pub use log_access::{head_updates, read_changes, read_changes_of, read_head, read_heads, trim};
pub use log_sizes::{LogSizes, MAX_MEASURED};
pub use parts::{Attempt, Lock, LockTimeouts, Part, Parts, commit_in_parts, text_of};
pub use prepare::{Found, FoundTable, MissingTable, Preparation, prepare, script};
pub use record_access::{
    BatchWritten, log_captured, read_page, read_record, read_records, write_batch,
};
pub use side_tables::{FoundSideTable, SideSchema};
pub use statements::LogStatements;
pub use table::{Statement, Table};
pub use tables::{TableRegistry, Tables};
pub use transaction::{ReadRow, Transaction, run_ready};
pub use trim::{MAX_TRIMMED, TrimScan, Trimmed, micros_before_now};
pub use value::{Row, SqlValue};
