//! `kill -9`, again and again.

use std::time::Duration;

use crate::demo::Demo;
use crate::faults::load::Load;

/// How often the server is killed: a few times here, 1,000 times by hand.
fn rounds() -> usize {
    let rounds = std::env::var("FIELDSYNC_KILL_ROUNDS");
    rounds.map_or(50, |rounds| rounds.parse().expect("a number of rounds"))
}

#[tokio::test(flavor = "multi_thread")]
async fn d_x_whenever_the_server_is_killed_no_edit_is_lost_or_doubled_and_subscribers_resume() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("demo.db");
    let mut demo = Demo::start(&format!("sqlite:{}", path.display()), &[]);
    let load = Load::start(&demo.address, 4);
    let rounds = rounds();
    for round in 0..rounds {
        // A random moment in some edit, mostly.
        load.acknowledged(fastrand::usize(..30)).await;
        tokio::time::sleep(Duration::from_micros(fastrand::u64(..5000))).await;
        load.down();
        demo.kill();
        // To check a file takes as long as its log is.
        if round % (1 + rounds / 50) == 0 {
            load.check(&path);
        }
        if fastrand::u8(..5) == 0 {
            let moment = Duration::from_micros(fastrand::u64(..60_000));
            demo.start_in_vain(moment).await;
        }
        demo.restart();
        load.up();
    }
    let count = load.finish_and_check(&path, || demo.kill()).await;
    println!("killed {rounds} times; {count} edits were acknowledged");
}
