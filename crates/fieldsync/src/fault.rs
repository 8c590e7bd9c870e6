//! Points of a write at which a test has the process die. Compiled only with `--cfg fieldsync_fault_points`, which no
//! release has (`docs/decisions/0004-fault-points-are-compiled-in-by-a-cfg.md`).

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The point that the environment names, and how often it is still passed unharmed.
static FAULT: LazyLock<Option<(String, AtomicU64)>> = LazyLock::new(|| {
    let fault = std::env::var("FIELDSYNC_FAULT").ok()?;
    let (name, time) = fault.split_once(':').unwrap_or((&fault, "1"));
    let time: u64 = time
        .parse()
        .expect("FIELDSYNC_FAULT is the name of a point, a colon, and which time");
    Some((name.to_owned(), AtomicU64::new(time - 1)))
});

/// Aborts the process when `FIELDSYNC_FAULT` names this point; with `name:3` the third time that it is passed.
pub fn point(name: &str) {
    let Some((fault, unharmed)) = &*FAULT else {
        return;
    };
    let passed = |left: u64| left.checked_sub(1);
    if fault == name
        && unharmed
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, passed)
            .is_err()
    {
        std::process::abort();
    }
}
