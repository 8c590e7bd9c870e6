//! The limits of an engine, which the app may choose.

use std::num::NonZero;
use std::thread::available_parallelism;

/// What clients may take of one node. The defaults fit a public server.
///
/// A refusal over HTTP is a problem (RFC 9457) and stores nothing. Where it makes sense to try again, it has a `Retry-After` of at most an hour.
/// On a WebSocket it is a message `error` with the same problem, or a close code. Each time that a limit is reached counts in the metric
/// `fieldsync_limits_total`, whose label `limit` is given with each limit.
///
/// The limits of a principal count by its name, or by its [`limit_key`](crate::Principal::limit_key) where it has one. A principal without either
/// is not counted, since fieldsync can't tell one anonymous client from another. What the app itself does is not counted either. Each node
/// counts for itself, from its start.
///
/// A limit that is the maximum of its type is lifted. None may be zero.
///
/// ```
/// use fieldsync::{Engine, Limits};
///
/// let mut limits = Limits::default();
/// limits.body_bytes = 64 * 1024;
/// limits.principal_edits_per_second = 10;
/// let builder = Engine::builder().limits(limits);
/// # let _ = builder;
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Open connections: WebSockets and event streams together. 20,000 by default. A further one is refused with 503. `connections`.
    pub connections: usize,
    /// Open connections of a principal. 100 by default. A further one is refused with 429. `principal_connections`.
    pub principal_connections: usize,
    /// Subscriptions of a WebSocket. 1,000 by default. A further one is refused by a message with 429. `subscriptions`.
    pub subscriptions: usize,
    /// Pieces of long snapshots that are read at the same time. By default half as many as there are processors. At most half of the reads that
    /// a store makes for subscribers are such. A further one waits for its turn, and principals take turns. `snapshot_reads`.
    pub snapshot_reads: usize,
    /// Records that are read of the database for a page of a list: 10,000 by default, and not for longer than 5 s. Where a rule has a closure,
    /// most of them may be hidden. The page then ends with what was found, if anything, and its `Link` goes on from there. `list_records`.
    pub list_records: usize,
    /// Messages that a client may send on a WebSocket per second, pings and pongs included: 100 by default, and twenty times as many at once.
    /// One too many closes the WebSocket with 1008. `message_rate`.
    pub messages_per_second: u32,
    /// The size of a message that a client sends on a WebSocket, in bytes. 64 KiB by default. A longer one closes the WebSocket with 1009.
    /// `message_bytes`.
    pub message_bytes: usize,
    /// The size of a request's body, in bytes. 1 MiB by default. A longer one is refused with 413. `body_bytes`.
    pub body_bytes: usize,
    /// The size of a record after an edit, in bytes of JSON. 1 MiB by default. An edit that makes its record larger is refused with 413, also
    /// one of the app itself. A record that is larger already, since others wrote it, may still be made smaller. `record_bytes`.
    pub record_bytes: usize,
    /// The edits of a transaction. 1,000 by default. A larger one is refused as a whole, before it is tried: other edits wait while it
    /// runs. `transaction_edits`.
    pub transaction_edits: usize,
    /// Edits that a principal may make per second: 100 by default, and twenty times as many at once. Those that are refused count.
    /// Further ones are refused with 429. `principal_edits`.
    pub principal_edits_per_second: u32,
    /// Idempotency keys of a principal that are stored, each for 24 hours. 100,000 by default, half of them at once. Edits with further keys are
    /// refused with 429. `principal_keys`.
    pub principal_idempotency_keys: u64,
    /// What the edits of a principal may add to the change log per hour, in bytes of JSON. 512 MiB by default, half of it at once. An edit adds
    /// the whole record where rules limit which records a principal may read, and otherwise what it changes. Further edits are refused with
    /// 429. `principal_log_bytes`.
    pub principal_log_bytes_per_hour: u64,
}

impl Limits {
    /// What is wrong with them, if anything.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        let Self {
            connections,
            principal_connections,
            subscriptions,
            snapshot_reads,
            list_records,
            messages_per_second,
            message_bytes,
            body_bytes,
            record_bytes,
            transaction_edits,
            principal_edits_per_second,
            principal_idempotency_keys,
            principal_log_bytes_per_hour,
        } = self;
        let zeros = [
            *connections,
            *principal_connections,
            *subscriptions,
            *snapshot_reads,
            *list_records,
            *message_bytes,
            *body_bytes,
            *record_bytes,
            *transaction_edits,
        ]
        .contains(&0)
            || [*messages_per_second, *principal_edits_per_second].contains(&0)
            || [*principal_idempotency_keys, *principal_log_bytes_per_hour].contains(&0);
        zeros.then_some("limits: each must be at least 1")
    }
}

impl Default for Limits {
    fn default() -> Self {
        let processors = available_parallelism().map_or(1, NonZero::get);
        Self {
            connections: 20_000,
            principal_connections: 100,
            subscriptions: 1000,
            snapshot_reads: (processors / 2).max(1),
            list_records: 10_000,
            messages_per_second: 100,
            message_bytes: 64 * 1024,
            body_bytes: 1024 * 1024,
            record_bytes: 1024 * 1024,
            transaction_edits: 1000,
            principal_edits_per_second: 100,
            principal_idempotency_keys: 100_000,
            principal_log_bytes_per_hour: 512 * 1024 * 1024,
        }
    }
}
