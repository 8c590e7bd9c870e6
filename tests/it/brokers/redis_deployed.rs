//! Redis as it is deployed: with TLS, with users, and with Sentinel.

use std::process::{Child, Command, Stdio};

use fieldsync_redis::RedisBroker;
use fieldsync_redis::redis::sentinel::{SentinelClient, SentinelServerType};
use fieldsync_redis::redis::{Client, TlsCertificates};

use crate::servers::{Redis, free_port};

use super::Nodes;

#[tokio::test]
async fn tls_is_spoken_and_its_certificates_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let write = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (certificate, key) = (
        write("pem", made.cert.pem()),
        write("key", made.signing_key.serialize_pem()),
    );
    let port = free_port();
    let options = [
        "--tls-port",
        &port.to_string(),
        "--tls-cert-file",
        &certificate,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &certificate,
        "--tls-auth-clients",
        "no",
    ];
    let _redis = Redis::start_with(free_port(), &options).await;
    let url = format!("rediss://localhost:{port}");
    let broker = || {
        let certificates = TlsCertificates {
            client_tls: None,
            root_cert: Some(made.cert.pem().into_bytes()),
        };
        RedisBroker::with_client(Client::build_with_tls(&*url, certificates).unwrap())
    };
    Nodes::of(broker(), broker())
        .publish_until_received(1000)
        .await;
    // The system does not know the issuer.
    let untrusted = RedisBroker::connect(&url).await.unwrap();
    let error = fieldsync::backend::Broker::subscribe(&untrusted)
        .await
        .err()
        .unwrap();
    let error = format!("{error:?}").to_lowercase();
    assert!(
        error.contains("certificate") || error.contains("tls"),
        "{error}"
    );
}

#[tokio::test]
async fn a_user_needs_only_the_rights_that_the_readme_names() {
    let redis = Redis::start().await;
    redis
        .command(&[
            "ACL",
            "SETUSER",
            "app",
            "on",
            ">secret",
            "resetchannels",
            "&fieldsync:notices",
            "+publish",
            "+subscribe",
            "+ping",
        ])
        .await;
    let url = format!("redis://app:secret@127.0.0.1:{}", redis.port);
    let broker = async || RedisBroker::connect(&url).await.unwrap();
    let broker_of = (broker().await, broker().await);
    assert!(!format!("{:?}", broker_of.0).contains("secret"));
    Nodes::of(broker_of.0, broker_of.1)
        .publish_until_received(1000)
        .await;
}

/// A Sentinel that follows a primary. It is killed when dropped.
struct Sentinel {
    process: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Sentinel {
    fn start(primary: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (file, port) = (folder.path().join("sentinel.conf"), free_port());
        let text = format!(
            "port {port}\nbind 127.0.0.1\nprotected-mode no\ndir {}\nsentinel monitor main 127.0.0.1 {primary} 1\n\
             sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 3000\n",
            folder.path().display()
        );
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new("redis-server");
        let process = command
            .arg(&file)
            .arg("--sentinel")
            .stdout(Stdio::null())
            .spawn();
        Self {
            process: process.expect("redis-server is missing: tests/run.sh installs it"),
            port,
            _folder: folder,
        }
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test]
async fn after_a_failover_the_broker_follows_the_new_primary() {
    let mut primary = Redis::start().await;
    let port = primary.port.to_string();
    let _replica = Redis::start_with(free_port(), &["--replicaof", "127.0.0.1", &port]).await;
    let sentinel = Sentinel::start(primary.port);
    let broker = || {
        let address = format!("redis://127.0.0.1:{}", sentinel.port);
        let client = SentinelClient::build(vec![address], "main", None, SentinelServerType::Master);
        RedisBroker::with_sentinel(client.unwrap())
    };
    let mut nodes = Nodes::of(broker(), broker());
    nodes.publish_until_received(1000).await;
    // A replica that the Sentinel does not know yet can't take over: it asks every ten seconds.
    tokio::time::sleep(std::time::Duration::from_secs(11)).await;
    primary.kill();
    nodes.publish_until_received(2000).await;
}
