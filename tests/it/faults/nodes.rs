//! Three nodes on one SQLite file, Redis between them: nodes are killed, Redis fails in every way, and clients go from node
//! to node with their cursors.

use std::time::Duration;

use crate::demo::Demo;
use crate::faults::load::Load;
use crate::servers::Redis;

/// What becomes of Redis.
#[derive(Debug, Clone, Copy)]
enum Trouble {
    None,
    Killed,
    Paused,
    ThrowsOut,
}

async fn make(trouble: Trouble, redis: &mut Redis) {
    match trouble {
        Trouble::None => {}
        Trouble::Killed => {
            redis.kill();
            tokio::time::sleep(Duration::from_millis(200)).await;
            redis.start_again().await;
        }
        Trouble::Paused => redis.say(&["CLIENT", "PAUSE", "1500", "ALL"]).await,
        Trouble::ThrowsOut => {
            for _ in 0..5 {
                redis.say(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn d_f_o_x_c_b_nodes_on_one_file_lose_and_double_nothing_whatever_dies() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("demo.db");
    let mut redis = Redis::start().await;
    let (store, url) = (format!("sqlite:{}", path.display()), redis.url());
    let start = || Demo::start(&store, &["--broker", &url]);
    let mut nodes = [start(), start(), start()];
    let addresses = nodes.iter().map(|node| node.address.clone()).collect();
    let load = Load::start_at(addresses, 6);
    let troubles = [
        Trouble::None,
        Trouble::Killed,
        Trouble::ThrowsOut,
        Trouble::Paused,
        Trouble::None,
    ];
    for (round, trouble) in troubles.into_iter().enumerate() {
        load.acknowledged(50).await;
        let node = &mut nodes[round % 3];
        node.kill();
        make(trouble, &mut redis).await;
        // The others go on meanwhile.
        load.acknowledged(50).await;
        node.restart();
    }
    let count = load
        .finish_and_check(&path, || nodes.iter_mut().for_each(Demo::kill))
        .await;
    println!("{count} edits were acknowledged");
}
