//! `kill -9` at random moments.

use std::time::Duration;

use crate::demo::Demo;
use crate::faults::load::Load;
use crate::random;

/// How often the server is killed. `FIELDSYNC_KILL_ROUNDS` sets another number.
fn rounds() -> usize {
    let rounds = std::env::var("FIELDSYNC_KILL_ROUNDS");
    rounds.map_or(50, |rounds| {
        rounds
            .parse()
            .expect("FIELDSYNC_KILL_ROUNDS: not a whole number")
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn d_x_whenever_the_server_is_killed_no_edit_is_lost_or_applied_twice_and_subscribers_resume()
{
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("demo.db");
    let mut demo = Demo::start(&format!("sqlite:{}", path.display()), &[]);
    let load = Load::start(&demo.address, 4);
    let rounds = rounds();
    let mut random = random::generator();
    for round in 0..rounds {
        // Mostly, this is a random moment of an edit.
        load.acknowledged(random.usize(..30)).await;
        tokio::time::sleep(Duration::from_micros(random.u64(..5000))).await;
        load.down();
        demo.kill();
        // The time of a check grows with the log.
        if round % (1 + rounds / 50) == 0 {
            load.check(&path);
        }
        if random.u8(..5) == 0 {
            let moment = Duration::from_micros(random.u64(..60_000));
            demo.kill_during_start(moment).await;
        }
        demo.restart();
        load.up();
    }
    let count = load.finish_and_check(&path, || demo.kill()).await;
    println!("{rounds} kills, {count} acknowledged edits");
}
