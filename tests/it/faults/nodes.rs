//! Three nodes of an app, under axum and actix: nodes are killed and upgraded, Redis and PostgreSQL fail in several ways, and
//! clients move from node to node with their cursors.

use std::time::Duration;

use serde_json::json;

use crate::cluster::{Cluster, connect};
use crate::demo::{Demo, LogCounter};
use crate::faults::clients::EditRequest;
use crate::faults::load::Load;
use crate::proxy::{Network, Proxy};
use crate::servers::Redis;

/// What happens to Redis.
#[derive(Debug, Clone, Copy)]
enum RedisFault {
    Killed,
    Paused,
    /// It disconnects all subscribers, several times.
    Disconnecting,
}

impl RedisFault {
    async fn inject(self, redis: &mut Redis) {
        match self {
            Self::Killed => {
                redis.kill();
                tokio::time::sleep(Duration::from_millis(200)).await;
                redis.start_again().await;
            }
            Self::Paused => redis.command(&["CLIENT", "PAUSE", "1500", "ALL"]).await,
            Self::Disconnecting => {
                for _ in 0..5 {
                    redis.command(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
        }
    }
}

/// The servers of the three nodes.
const SERVERS: [&str; 3] = ["axum", "actix", "axum"];

/// Log lines of the nodes that are counted: each shows that a path of the code was taken.
const READ_FROM_STORE: &str = "from the store that this node had not announced";
const LOOKED_UP: &str = "a lookup found the transaction";

#[tokio::test(flavor = "multi_thread")]
async fn d_f_o_x_c_b_nodes_on_one_file_lose_nothing_and_apply_nothing_twice_when_a_node_or_redis_dies()
 {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("demo.db");
    let mut redis = Redis::start().await;
    let (store, url) = (format!("sqlite:{}", path.display()), redis.url());
    let start = |server| Demo::start(&store, &["--broker", &url, "--server", server]);
    let mut nodes = SERVERS.map(start);
    let addresses = nodes.iter().map(|node| node.address.clone()).collect();
    let load = Load::start_at(addresses, 6, &[]);
    let faults = [
        None,
        Some(RedisFault::Killed),
        Some(RedisFault::Disconnecting),
        Some(RedisFault::Paused),
        None,
    ];
    for (round, fault) in faults.into_iter().enumerate() {
        load.acknowledged(50).await;
        let node = &mut nodes[round % 3];
        node.kill();
        if let Some(fault) = fault {
            fault.inject(&mut redis).await;
        }
        // The other nodes go on.
        load.acknowledged(50).await;
        node.restart();
        load.caught_up().await;
    }
    let count = load
        .finish_and_check(&path, || nodes.iter_mut().for_each(Demo::kill))
        .await;
    println!("{count} acknowledged edits");
}

/// What happens to the nodes, or to their services.
#[derive(Debug, Clone, Copy)]
enum Fault {
    NodeKilled,
    Redis(RedisFault),
    /// The network drops everything between the nodes and Redis.
    RedisUnreachable,
    /// PostgreSQL ends all sessions, once a second.
    SessionsEnded,
    PostgresRestarted,
    /// The connection is cut when the reply to a COMMIT comes.
    CommitUnanswered,
}

/// The faults for nodes that use PostgreSQL as their broker.
const FAULTS_WITHOUT_REDIS: [Fault; 4] = [
    Fault::NodeKilled,
    Fault::SessionsEnded,
    Fault::CommitUnanswered,
    Fault::PostgresRestarted,
];

const FAULTS: [Fault; 8] = [
    Fault::NodeKilled,
    Fault::Redis(RedisFault::Killed),
    Fault::Redis(RedisFault::Disconnecting),
    Fault::Redis(RedisFault::Paused),
    Fault::RedisUnreachable,
    Fault::SessionsEnded,
    Fault::CommitUnanswered,
    Fault::PostgresRestarted,
];

/// The nodes and their services.
struct World {
    nodes: [Demo; 3],
    redis: Redis,
    to_redis: Proxy,
    cluster: Cluster,
    to_postgres: Proxy,
    counter: LogCounter,
}

/// The broker of the nodes.
#[derive(Debug, Clone, Copy)]
enum BrokerKind {
    Redis,
    Postgres,
}

impl World {
    async fn start(via: BrokerKind) -> Self {
        let (cluster, redis) = (Cluster::durable(), Redis::start().await);
        let to_postgres = Proxy::to(cluster.port).await;
        let to_redis = Proxy::to(redis.port).await;
        let store = format!("postgres://postgres@{}/postgres", to_postgres.address);
        let broker = match via {
            BrokerKind::Redis => format!("redis://{}", to_redis.address),
            BrokerKind::Postgres => store.clone(),
        };
        let counter = LogCounter::of(&[READ_FROM_STORE, LOOKED_UP]);
        let start = |server| {
            let options = ["--store", &store, "--broker", &broker, "--server", server];
            Demo::node(&options, &counter)
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
            counter,
        }
    }

    fn url(&self) -> String {
        self.cluster.url("postgres")
    }

    async fn inject(&mut self, fault: Fault, round: usize, load: &Load) {
        match fault {
            Fault::NodeKilled => {
                let node = &mut self.nodes[round % 3];
                node.kill();
                load.acknowledged(50).await;
                node.restart();
            }
            Fault::Redis(fault) => fault.inject(&mut self.redis).await,
            Fault::RedisUnreachable => {
                self.to_redis.set(Network::Blackhole);
                load.acknowledged(50).await;
                load.caught_up().await;
                self.to_redis.set(Network::Works);
            }
            Fault::SessionsEnded => {
                let admin = connect(&self.url()).await;
                let end = "select pg_terminate_backend(pid) from pg_stat_activity \
                           where application_name = 'fieldsync'";
                for _ in 0..3 {
                    admin.batch_execute(end).await.unwrap();
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
            Fault::CommitUnanswered => {
                for _ in 0..5 {
                    self.to_postgres.cut_reply_to(b"commit\0");
                    self.to_postgres.fault_triggered().await;
                    load.acknowledged(10).await;
                }
            }
            Fault::PostgresRestarted => {
                tokio::task::block_in_place(|| {
                    self.cluster.stop_at_once();
                    self.cluster.start_again();
                });
            }
        }
    }

    /// Replaces one node after the other with the next version of the app, whose users have a nickname.
    async fn upgrade(&mut self, load: &Load) {
        for (number, node) in self.nodes.iter_mut().enumerate() {
            node.restart_with("--nick-names");
            for edit in 0..10 {
                let edit = EditRequest {
                    key: format!("nick-{number}-{edit}"),
                    method: "PATCH",
                    path: format!("/api/users/{}/", edit % 2 + 1),
                    body: json!({"nick_name": format!("{number}-{edit}")}),
                };
                load.edit_at(&node.address, edit).await;
            }
            load.acknowledged(50).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn d_f_o_x_c_b_r_nodes_on_postgresql_and_redis_lose_nothing_and_apply_nothing_twice_whatever_fails()
 {
    inject_faults(BrokerKind::Redis, &FAULTS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn d_f_o_x_c_b_r_nodes_on_postgresql_alone_lose_nothing_and_apply_nothing_twice_whatever_fails()
 {
    inject_faults(BrokerKind::Postgres, &FAULTS_WITHOUT_REDIS).await;
}

/// Injects each fault in each round. `FIELDSYNC_NODES_ROUNDS` sets the number of rounds.
async fn inject_faults(via: BrokerKind, faults: &[Fault]) {
    let rounds = std::env::var("FIELDSYNC_NODES_ROUNDS");
    let rounds = rounds.map_or(1, |rounds| {
        rounds
            .parse()
            .expect("FIELDSYNC_NODES_ROUNDS: not a whole number")
    });
    let mut world = World::start(via).await;
    let nodes = world.nodes.iter();
    let addresses = nodes.map(|node| node.address.clone()).collect();
    let load = Load::start_at(addresses, 6, &["schema"]);
    let url = world.url();
    for round in 0..rounds {
        for &fault in faults {
            load.acknowledged(50).await;
            world.inject(fault, round, &load).await;
            load.acknowledged(50).await;
            load.check_postgres(&url).await;
        }
        load.move_subscribers().await;
    }
    world.upgrade(&load).await;
    load.check_postgres(&url).await;
    let (resumed, reset) = load.resumed_and_reset();
    let paths = world.counter.counts();
    let (edits, head) = load.finish_and_check_postgres(&url).await;
    println!("| rounds of {} faults | {rounds} |", faults.len());
    println!("| acknowledged edits | {edits} |");
    println!("| changes in the log | {head} |");
    println!("| subscribers that resumed and had missed changes | {resumed} |");
    println!("| subscribers that were reset | {reset} |");
    for (words, count) in &paths {
        println!("| log lines with \"{words}\" | {count} |");
    }
    let taken = paths
        .iter()
        .map(|(_, count)| *count)
        .chain([resumed, reset]);
    assert!(
        taken.into_iter().all(|count| count > 0),
        "a path was never taken"
    );
}
