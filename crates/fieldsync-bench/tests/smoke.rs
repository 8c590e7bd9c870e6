//! The measurements work. What they measure is not judged here: see `docs/performance.md`.

use std::process::{Command, Output};

fn bench(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_fieldsync-bench"))
        .args(arguments)
        .output()
        .expect("the bench starts")
}

#[test]
fn every_figure_is_taken() {
    let output = bench(&["all", "--smoke", "--folder", env!("CARGO_TARGET_TMPDIR")]);
    let (text, error) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{error}");
    for figure in [
        "fdatasync",
        "PATCH per second",
        "processor time per delivery",
        "changes at a time",
        "under actix (theirs: under axum), one change",
        "under actix (theirs: under axum), 8 changes",
        "memory of an idle subscriber |",
        "memory of an idle subscriber under actix",
        "p99 from PATCH to window",
    ] {
        assert!(text.contains(figure), "{figure} is missing in:\n{text}");
    }
}

#[test]
fn a_disk_that_is_memory_is_refused() {
    let output = bench(&["writes", "--folder", "/dev/shm"]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && error.contains("tmpfs"),
        "{error}"
    );
}
