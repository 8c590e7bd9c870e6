//! The file at a random moment of a server that writes: the nearest to what a crash of the machine finds that needs
//! nothing installed. `power.rs` goes further.

use std::fs;

use crate::demo::{Demo, signal};
use crate::faults::load::Load;

/// Waits until every thread of a process that was sent SIGSTOP stands still.
fn wait_until_stopped(process: &str) {
    let stands = |thread: std::io::Result<fs::DirEntry>| {
        let stat = fs::read_to_string(thread.unwrap().path().join("stat")).unwrap();
        // The name in parentheses may hold anything; the state follows it.
        stat.rsplit_once(") ").unwrap().1.starts_with('T')
    };
    let threads = format!("/proc/{process}/task");
    while !fs::read_dir(&threads).unwrap().all(stands) {
        std::thread::yield_now();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn d_the_file_is_whole_at_any_moment_and_has_what_was_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("demo.db");
    let mut demo = Demo::start(&format!("sqlite:{}", path.display()), &[]);
    let load = Load::start(&demo.address, 4);
    for _ in 0..30 {
        load.acknowledged(1 + fastrand::usize(..10)).await;
        signal("STOP", &demo.process_id());
        wait_until_stopped(&demo.process_id());
        load.check(&path);
        signal("CONT", &demo.process_id());
    }
    load.finish_and_check(&path, || demo.kill()).await;
}
