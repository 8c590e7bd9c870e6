//! The metrics, by the `metrics` facade: their names, what they mean, and where they are counted. `docs/metrics.md` lists them.
//!
//! Nothing is counted per subscriber of a change. What can be read at any time is a gauge, which `engine/gauges.rs` sets once per
//! second. Labels are names of collections and the fixed words of the code, never input.

use std::sync::Arc;
use std::time::Duration;

use ::http::{Method, StatusCode};
use ::metrics::{
    Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

/// What a metric is.
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// All metrics.
const METRICS: [(&str, Kind, Unit, &str); 20] = {
    use Kind::{Counter, Gauge, Histogram};
    [
        (
            "fieldsync_connections",
            Gauge,
            Unit::Count,
            "Open connections, by transport",
        ),
        (
            "fieldsync_subscriptions",
            Gauge,
            Unit::Count,
            "Subscriptions, by collection",
        ),
        (
            "fieldsync_log_offset",
            Gauge,
            Unit::Count,
            "The offset of the newest change that this node has announced, by collection",
        ),
        (
            "fieldsync_log_lag",
            Gauge,
            Unit::Count,
            "Changes in the store's log that this node had not announced at its last poll, by collection",
        ),
        (
            "fieldsync_ring_bytes",
            Gauge,
            Unit::Bytes,
            "Memory for recent changes, by collection",
        ),
        (
            "fieldsync_open_questions",
            Gauge,
            Unit::Count,
            "Questions that the app's authorizer has not answered yet, by collection",
        ),
        (
            "fieldsync_requests_in_progress",
            Gauge,
            Unit::Count,
            "Requests without a response",
        ),
        (
            "fieldsync_edits_in_progress",
            Gauge,
            Unit::Count,
            "Transactions of edits that are being decided or committed",
        ),
        (
            "fieldsync_unconfirmed_bytes",
            Gauge,
            Unit::Bytes,
            "Bytes written to WebSockets that their clients had not confirmed at their last heartbeat",
        ),
        (
            "fieldsync_store_silence_seconds",
            Gauge,
            Unit::Seconds,
            "Time since the store last returned the heads of its logs",
        ),
        (
            "fieldsync_capture_behind_seconds",
            Gauge,
            Unit::Seconds,
            "For how long writes of others have been waiting to be logged without a pause",
        ),
        (
            "fieldsync_requests_total",
            Counter,
            Unit::Count,
            "Answered requests, by method and class of the status",
        ),
        (
            "fieldsync_refusals_total",
            Counter,
            Unit::Count,
            "Problems that were sent to clients, by reason",
        ),
        (
            "fieldsync_limits_total",
            Counter,
            Unit::Count,
            "Requests, messages and connections that a limit has refused, delayed or ended, by limit",
        ),
        (
            "fieldsync_resets_total",
            Counter,
            Unit::Count,
            "Subscriptions that started again with a snapshot, by collection and reason",
        ),
        (
            "fieldsync_asked_again_total",
            Counter,
            Unit::Count,
            "Questions to the app's authorizer because of a change that it reads, by collection and result",
        ),
        (
            "fieldsync_subscriber_reads_total",
            Counter,
            Unit::Count,
            "Reads of the store for subscriptions, by collection: pages of the log, and pieces of snapshots",
        ),
        (
            "fieldsync_captured_changes_total",
            Counter,
            Unit::Count,
            "Changes by others that this node has logged, by collection",
        ),
        (
            "fieldsync_commit_edits",
            Histogram,
            Unit::Count,
            "Edits per transaction of the store, by result",
        ),
        (
            "fieldsync_commit_duration_seconds",
            Histogram,
            Unit::Seconds,
            "Duration of a transaction of the store, by result",
        ),
    ]
};

/// Describes all metrics to the app's recorder. The app installs it before the engine starts.
pub(crate) fn describe() {
    for (name, kind, unit, description) in METRICS {
        match kind {
            Kind::Counter => describe_counter!(name, unit, description),
            Kind::Gauge => describe_gauge!(name, unit, description),
            Kind::Histogram => describe_histogram!(name, unit, description),
        }
    }
}

/// A limit of the engine that input can reach.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Limit {
    HeaderBytes,
    BodyBytes,
    BodyTime,
    RequestTime,
    RecordBytes,
    TransactionEdits,
    CommitQueue,
    OpenQuestions,
    QuestionTime,
    MessageBytes,
    MessageRate,
    BadMessages,
    Subscriptions,
    SilentReader,
    SnapshotReads,
    ListRecords,
    Connections,
    PrincipalConnections,
    PrincipalEdits,
    PrincipalKeys,
    PrincipalLogBytes,
}

impl Limit {
    /// Counts that the limit was reached.
    pub(crate) fn reached(self) {
        let limit = match self {
            Self::HeaderBytes => "header_bytes",
            Self::BodyBytes => "body_bytes",
            Self::BodyTime => "body_time",
            Self::RequestTime => "request_time",
            Self::RecordBytes => "record_bytes",
            Self::TransactionEdits => "transaction_edits",
            Self::CommitQueue => "commit_queue",
            Self::OpenQuestions => "open_questions",
            Self::QuestionTime => "question_time",
            Self::MessageBytes => "message_bytes",
            Self::MessageRate => "message_rate",
            Self::BadMessages => "bad_messages",
            Self::Subscriptions => "subscriptions",
            Self::SilentReader => "silent_reader",
            Self::SnapshotReads => "snapshot_reads",
            Self::ListRecords => "list_records",
            Self::Connections => "connections",
            Self::PrincipalConnections => "principal_connections",
            Self::PrincipalEdits => "principal_edits",
            Self::PrincipalKeys => "principal_keys",
            Self::PrincipalLogBytes => "principal_log_bytes",
        };
        counter!("fieldsync_limits_total", "limit" => limit).increment(1);
    }
}

/// Counts a request that was answered.
pub(crate) fn answered(method: &Method, status: StatusCode) {
    let class = match status.as_u16() / 100 {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        _ => "5xx",
    };
    counter!("fieldsync_requests_total", "method" => method_word(method), "status" => class)
        .increment(1);
}

/// A method as a fixed word. A client may send any text.
pub(crate) fn method_word(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        Method::PUT => "PUT",
        Method::CONNECT => "CONNECT",
        _ => "other",
    }
}

/// Counts a problem that is sent to a client. The reason is the last part of its type.
pub(crate) fn refused(reason: &'static str) {
    counter!("fieldsync_refusals_total", "reason" => reason).increment(1);
}

/// Counts a transaction of the store.
pub(crate) fn committed(edits: usize, took: Duration, is_ok: bool) {
    let result = if is_ok { "ok" } else { "failed" };
    histogram!("fieldsync_commit_edits", "result" => result).record(edits as f64);
    histogram!("fieldsync_commit_duration_seconds", "result" => result).record(took);
}

/// Counts changes by others that were logged.
pub(crate) fn captured(collection: &Arc<str>, changes: usize) {
    counter!("fieldsync_captured_changes_total", "collection" => Arc::clone(collection))
        .increment(changes as u64);
}

/// Counts a rule that was asked again.
pub(crate) fn asked_again(collection: &Arc<str>, result: &'static str) {
    counter!("fieldsync_asked_again_total", "collection" => Arc::clone(collection), "result" => result)
        .increment(1);
}

/// Counts a read of the store for subscribers.
pub(crate) fn read_for_subscribers(collection: &Arc<str>) {
    counter!("fieldsync_subscriber_reads_total", "collection" => Arc::clone(collection))
        .increment(1);
}

/// Counts a subscription that starts again.
pub(crate) fn reset(collection: &Arc<str>, reason: &'static str) {
    counter!("fieldsync_resets_total", "collection" => Arc::clone(collection), "reason" => reason)
        .increment(1);
}

/// Sets the number of open connections.
pub(crate) fn set_connections(transport: &'static str, open: usize) {
    gauge!("fieldsync_connections", "transport" => transport).set(open as f64);
}

/// Sets a gauge of the whole node.
pub(crate) fn set(name: &'static str, value: f64) {
    gauge!(name).set(value);
}

/// Sets a gauge of a collection.
pub(crate) fn set_of(collection: &Arc<str>, name: &'static str, value: f64) {
    gauge!(name, "collection" => Arc::clone(collection)).set(value);
}
