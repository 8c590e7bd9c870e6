//! The measurements run. These tests do not judge the figures: see `docs/performance.md`.

use std::process::{Command, Output};

fn bench(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_fieldsync-bench"))
        .args(arguments)
        .output()
        .expect("the bench starts")
}

/// Runs a measurement, and looks for its figures in the table.
fn check(measurement: &str, figures: &[&str]) {
    let folder = env!("CARGO_TARGET_TMPDIR");
    let output = bench(&[measurement, "--smoke", "--folder", folder]);
    let (text, error) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{error}");
    for figure in figures.iter().chain(&["fdatasync"]) {
        assert!(text.contains(figure), "{figure} is missing in:\n{text}");
    }
}

#[test]
fn writes_are_measured() {
    check("writes", &["PATCH per second, 64 in flight, SQLite"]);
}

#[test]
fn deliveries_are_measured() {
    check(
        "fanout",
        &[
            "processor time per delivery",
            "changes at a time",
            "under actix (theirs: under axum), one change",
            "under actix (theirs: under axum), 8 changes",
        ],
    );
}

#[test]
fn idle_memory_is_measured() {
    check(
        "idle",
        &[
            "memory of an idle subscriber |",
            "memory of an idle subscriber under actix",
        ],
    );
}

#[test]
fn a_stalled_subscriber_is_measured() {
    check("stalled", &["p99 from PATCH to window"]);
}

#[test]
fn snapshots_are_measured() {
    check(
        "snapshots",
        &["GET, with 4 snapshots", "PATCH, with 4 snapshots"],
    );
}

#[test]
fn windows_and_reconnects_are_measured() {
    check("windows", &["processor time per second, 20 windows"]);
    check("reconnects", &["when 10 sockets with 20 topics"]);
    check(
        "reasking",
        &["while 50 subscriptions are asked about again"],
    );
}

#[cfg(feature = "services")]
#[test]
fn everything_is_measured_on_postgresql_and_redis_too() {
    check(
        "all",
        &[
            "SQLite",
            "processor time per delivery",
            "memory of an idle subscriber",
            "p99 from PATCH to window",
            "64 in flight, PostgreSQL |",
            "p99 of 100 PATCHes per second, SQLite",
            "p99 of 100 PATCHes per second, PostgreSQL",
            "SQLite, after an INSERT of 1000 rows",
            "PostgreSQL, during and after an INSERT of 1000 rows",
            "p50 from PATCH at one node to a window at another",
            "Redis down",
        ],
    );
}

#[test]
fn a_missing_service_is_reported_before_anything_is_measured() {
    let output = Command::new(env!("CARGO_BIN_EXE_fieldsync-bench"))
        .args(["all", "--smoke", "--folder", env!("CARGO_TARGET_TMPDIR")])
        .env("PATH", "")
        .output()
        .expect("the bench starts");
    let error = String::from_utf8_lossy(&output.stderr);
    let expected = "redis-server is missing: tests/run.sh installs it";
    assert!(
        error.contains(expected) && !error.contains("pair 1"),
        "{error}"
    );
}

#[test]
fn a_folder_in_memory_is_refused() {
    let output = bench(&["writes", "--folder", "/dev/shm"]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && error.contains("tmpfs"),
        "{error}"
    );
}
