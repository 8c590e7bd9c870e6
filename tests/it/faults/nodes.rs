//! Three nodes of an app, under axum and actix: nodes are killed and replaced, Redis and PostgreSQL fail in every way, and
//! clients go from node to node with their cursors.

use std::time::Duration;

use serde_json::json;

use crate::cluster::{Cluster, connect};
use crate::demo::{Demo, Tally};
use crate::faults::load::{Load, Wish};
use crate::proxy::{Network, Proxy};
use crate::servers::Redis;

/// What becomes of Redis.
#[derive(Debug, Clone, Copy)]
enum RedisIs {
    Killed,
    Paused,
    /// It ends all subscriptions, again and again.
    ThrowingOut,
}

impl RedisIs {
    async fn happen(self, redis: &mut Redis) {
        match self {
            Self::Killed => {
                redis.kill();
                tokio::time::sleep(Duration::from_millis(200)).await;
                redis.start_again().await;
            }
            Self::Paused => redis.say(&["CLIENT", "PAUSE", "1500", "ALL"]).await,
            Self::ThrowingOut => {
                for _ in 0..5 {
                    redis.say(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
        }
    }
}

/// The servers of the three nodes.
const SERVERS: [&str; 3] = ["axum", "actix", "axum"];

/// What is counted of the ways that things can go, by what the nodes say.
const READ_FROM_STORE: &str = "this node has not announced were read from the store";
const LOOKED_UP: &str = "it was looked up";

#[tokio::test(flavor = "multi_thread")]
async fn d_f_o_x_c_b_nodes_on_one_file_lose_and_double_nothing_whatever_dies() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("demo.db");
    let mut redis = Redis::start().await;
    let (store, url) = (format!("sqlite:{}", path.display()), redis.url());
    let start = |server| Demo::start(&store, &["--broker", &url, "--server", server]);
    let mut nodes = SERVERS.map(start);
    let addresses = nodes.iter().map(|node| node.address.clone()).collect();
    let load = Load::start_at(addresses, 6, &[]);
    let troubles = [
        None,
        Some(RedisIs::Killed),
        Some(RedisIs::ThrowingOut),
        Some(RedisIs::Paused),
        None,
    ];
    for (round, trouble) in troubles.into_iter().enumerate() {
        load.acknowledged(50).await;
        let node = &mut nodes[round % 3];
        node.kill();
        if let Some(trouble) = trouble {
            trouble.happen(&mut redis).await;
        }
        // The others go on meanwhile.
        load.acknowledged(50).await;
        node.restart();
        load.caught_up().await;
    }
    let count = load
        .finish_and_check(&path, || nodes.iter_mut().for_each(Demo::kill))
        .await;
    println!("{count} edits were acknowledged");
}

/// What happens to nodes on PostgreSQL.
#[derive(Debug, Clone, Copy)]
enum Trouble {
    NodeKilled,
    Redis(RedisIs),
    /// The network between the nodes and Redis swallows everything.
    RedisOutOfReach,
    /// Once a second.
    SessionsEnded,
    PostgresRestarted,
    /// The answer to a COMMIT does not arrive.
    CommitUnanswered,
}

/// What happens where PostgreSQL carries the notices as well.
const TROUBLES_WITHOUT_REDIS: [Trouble; 4] = [
    Trouble::NodeKilled,
    Trouble::SessionsEnded,
    Trouble::CommitUnanswered,
    Trouble::PostgresRestarted,
];

const TROUBLES: [Trouble; 8] = [
    Trouble::NodeKilled,
    Trouble::Redis(RedisIs::Killed),
    Trouble::Redis(RedisIs::ThrowingOut),
    Trouble::Redis(RedisIs::Paused),
    Trouble::RedisOutOfReach,
    Trouble::SessionsEnded,
    Trouble::CommitUnanswered,
    Trouble::PostgresRestarted,
];

/// Nodes, what they need, and who uses them.
struct World {
    nodes: [Demo; 3],
    redis: Redis,
    to_redis: Proxy,
    cluster: Cluster,
    to_postgres: Proxy,
    tally: Tally,
}

/// What carries the notices.
#[derive(Debug, Clone, Copy)]
enum Via {
    Redis,
    Postgres,
}

impl World {
    async fn start(via: Via) -> Self {
        let (cluster, redis) = (Cluster::durable(), Redis::start().await);
        let to_postgres = Proxy::to(cluster.port).await;
        let to_redis = Proxy::to(redis.port).await;
        let store = format!("postgres://postgres@{}/postgres", to_postgres.address);
        let broker = match via {
            Via::Redis => format!("redis://{}", to_redis.address),
            Via::Postgres => store.clone(),
        };
        let tally = Tally::of(&[READ_FROM_STORE, LOOKED_UP]);
        let start = |server| {
            let options = ["--store", &store, "--broker", &broker, "--server", server];
            Demo::node(&options, &tally)
        };
        let nodes = SERVERS.map(start);
        for first_name in ["John", "Jane"] {
            let user = json!({"first_name": first_name, "last_name": "Doe"});
            let create = reqwest::Client::new().post(nodes[0].url("/api/users/"));
            assert_eq!(create.json(&user).send().await.unwrap().status(), 201);
        }
        Self {
            nodes,
            redis,
            to_redis,
            cluster,
            to_postgres,
            tally,
        }
    }

    fn url(&self) -> String {
        self.cluster.url("postgres")
    }

    async fn meet(&mut self, trouble: Trouble, round: usize, load: &Load) {
        match trouble {
            Trouble::NodeKilled => {
                let node = &mut self.nodes[round % 3];
                node.kill();
                load.acknowledged(50).await;
                node.restart();
            }
            Trouble::Redis(trouble) => trouble.happen(&mut self.redis).await,
            Trouble::RedisOutOfReach => {
                self.to_redis.set(Network::Swallows);
                load.acknowledged(50).await;
                load.caught_up().await;
                self.to_redis.set(Network::Works);
            }
            Trouble::SessionsEnded => {
                let admin = connect(&self.url()).await;
                let end = "select pg_terminate_backend(pid) from pg_stat_activity \
                           where application_name = 'fieldsync'";
                for _ in 0..3 {
                    admin.batch_execute(end).await.unwrap();
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
            Trouble::CommitUnanswered => {
                for _ in 0..5 {
                    self.to_postgres.cut_answer_to(b"commit\0");
                    self.to_postgres.words_came().await;
                    load.acknowledged(10).await;
                }
            }
            Trouble::PostgresRestarted => {
                tokio::task::block_in_place(|| {
                    self.cluster.stop_at_once();
                    self.cluster.start_again();
                });
            }
        }
    }

    /// Replaces one node after the other by the next version of the app, whose users have a nick name.
    async fn upgrade(&mut self, load: &Load) {
        for (number, node) in self.nodes.iter_mut().enumerate() {
            node.restart_with("--nick-names");
            for edit in 0..10 {
                let wish = Wish {
                    key: format!("nick-{number}-{edit}"),
                    method: "PATCH",
                    path: format!("/api/users/{}/", edit % 2 + 1),
                    body: json!({"nick_name": format!("{number}-{edit}")}),
                };
                load.edit_at(&node.address, wish).await;
            }
            load.acknowledged(50).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn d_f_o_x_c_b_r_nodes_on_postgresql_lose_and_double_nothing_whatever_fails() {
    live_through(Via::Redis, &TROUBLES).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn d_f_o_x_c_b_r_nodes_with_postgresql_alone_lose_and_double_nothing_whatever_fails() {
    live_through(Via::Postgres, &TROUBLES_WITHOUT_REDIS).await;
}

/// `FIELDSYNC_NODES_ROUNDS` has it go on for longer.
async fn live_through(via: Via, troubles: &[Trouble]) {
    let rounds = std::env::var("FIELDSYNC_NODES_ROUNDS");
    let rounds = rounds.map_or(1, |rounds| rounds.parse().unwrap());
    let mut world = World::start(via).await;
    let nodes = world.nodes.iter();
    let addresses = nodes.map(|node| node.address.clone()).collect();
    let load = Load::start_at(addresses, 6, &["schema"]);
    let url = world.url();
    for round in 0..rounds {
        for &trouble in troubles {
            load.acknowledged(50).await;
            world.meet(trouble, round, &load).await;
            load.acknowledged(50).await;
            load.check_postgres(&url).await;
        }
        load.move_subscribers().await;
    }
    world.upgrade(&load).await;
    load.check_postgres(&url).await;
    let (resumed, reset) = load.resumed_and_reset();
    let paths = world.tally.counts();
    let (edits, head) = load.finish_and_check_postgres(&url).await;
    println!("| rounds of {} troubles | {rounds} |", troubles.len());
    println!("| edits acknowledged | {edits} |");
    println!("| changes in the log | {head} |");
    println!("| subscribers that resumed and had missed something | {resumed} |");
    println!("| subscribers that were reset | {reset} |");
    for (words, count) in &paths {
        println!("| the nodes said: {words} | {count} |");
    }
    let taken = paths
        .iter()
        .map(|(_, count)| *count)
        .chain([resumed, reset]);
    assert!(
        taken.into_iter().all(|count| count > 0),
        "a way was never taken"
    );
}
