//! The file of a server that was stopped at a random moment while it wrote. This resembles a crash of the machine without
//! any tool; `power.rs` goes further.

use std::fs;

use crate::demo::{Demo, signal};
use crate::faults::load::Load;
use crate::random;

/// Waits until every thread of a process has stopped after SIGSTOP.
fn wait_until_stopped(process: &str) {
    let has_stopped = |thread: std::io::Result<fs::DirEntry>| {
        let stat = fs::read_to_string(thread.unwrap().path().join("stat")).unwrap();
        // The state follows the name, which is in parentheses and may contain anything.
        stat.rsplit_once(") ").unwrap().1.starts_with('T')
    };
    let threads = format!("/proc/{process}/task");
    while !fs::read_dir(&threads).unwrap().all(has_stopped) {
        std::thread::yield_now();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn d_the_file_is_consistent_at_any_moment_and_has_every_acknowledged_edit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("demo.db");
    let mut demo = Demo::start(&format!("sqlite:{}", path.display()), &[]);
    let load = Load::start(&demo.address, 4);
    let mut random = random::generator();
    for _ in 0..30 {
        load.acknowledged(1 + random.usize(..10)).await;
        signal("STOP", &demo.process_id());
        wait_until_stopped(&demo.process_id());
        load.check(&path);
        signal("CONT", &demo.process_id());
    }
    load.finish_and_check(&path, || demo.kill()).await;
}
