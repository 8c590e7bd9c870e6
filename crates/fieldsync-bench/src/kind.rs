//! What a measured process serves.

use clap::ValueEnum;

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum ServerKind {
    /// fieldsync on SQLite, under axum.
    Sqlite,
    /// The same, without capture.
    SqliteWithoutCapture,
    /// fieldsync in memory, under axum.
    Memory,
    /// fieldsync in memory, under actix-web.
    Actix,
    /// fieldsync on PostgreSQL, under axum, with Redis where one is given.
    Postgres,
    /// The same, without capture.
    PostgresWithoutCapture,
    /// The tables that the kind before has made, by introspection.
    PostgresByIntrospection,
    /// A handler written by hand: axum, rusqlite, a transaction per request, a broadcast channel.
    HandWritten,
    /// A handler written by hand: axum, a connection pool of PostgreSQL, a table of changes.
    HandWrittenPostgres,
    /// Bytes that were encoded in advance, written to TCP sockets.
    Floor,
}
