//! Poolers between the store and the server, and servers that admit few connections.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use fieldsync::{Collection, Engine, Fields};
use fieldsync_postgres::{ConnectError, PostgresStore};
use futures_util::future::join_all;
use serde_json::json;

use crate::cluster::{connect, fresh_database};

/// A pgbouncer in front of the cluster of the tests.
struct Pooler {
    process: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Pooler {
    fn start(mode: &str, url: &str) -> Self {
        let server = url.split_once('@').unwrap().1;
        let server = server.split_once('/').unwrap().0;
        let (host, port_of_server) = server.rsplit_once(':').unwrap();
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pgbouncer.ini");
        let settings = format!(
            "[databases]\n* = host={host} port={port_of_server}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             auth_type = any\npool_mode = {mode}\nunix_socket_dir =\n"
        );
        let settings = settings.replace("* = host", "* = user=postgres host");
        std::fs::write(&path, settings).unwrap();
        let mut command = Command::new("pgbouncer");
        command.arg("-q").arg(&path);
        // It refuses to run as root.
        let is_root = Command::new("id")
            .arg("-u")
            .output()
            .unwrap()
            .stdout
            .starts_with(b"0");
        if is_root {
            use std::os::unix::fs::PermissionsExt as _;
            use std::os::unix::process::CommandExt as _;
            let open = std::fs::Permissions::from_mode(0o755);
            std::fs::set_permissions(folder.path(), open).unwrap();
            command.uid(65534).gid(65534);
        }
        let process = command.spawn().expect("pgbouncer can be started");
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(
                begun.elapsed() < Duration::from_secs(20),
                "pgbouncer does not listen"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        Self {
            process,
            port,
            _folder: folder,
        }
    }

    fn url(&self, url: &str) -> String {
        let database = url.rsplit_once('/').unwrap().1;
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn notes() -> Collection {
    let schema =
        json!({"type": "object", "properties": {"text": {"type": "string", "default": ""}}});
    Collection::from_schema("notes", &schema).open_to_everyone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_in_session_mode_works() {
    let url = fresh_database().await;
    let pooler = Pooler::start("session", &url);
    let store = PostgresStore::connect(&pooler.url(&url)).await.unwrap();
    let engine = Engine::builder()
        .collection(notes())
        .store(store)
        .start()
        .await
        .unwrap();
    let handle = engine.collection::<Fields>("notes");
    let fields = |text: String| json!({"text": text}).as_object().unwrap().clone();
    let creates = (0..50).map(|number| handle.create(fields(number.to_string())));
    for created in join_all(creates).await {
        created.unwrap();
    }
    assert_eq!(handle.list(None, 100).await.unwrap().len(), 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_in_transaction_mode_is_refused() {
    let url = fresh_database().await;
    let pooler = Pooler::start("transaction", &url);
    let refused = PostgresStore::connect(&pooler.url(&url)).await;
    let Err(error @ ConnectError::TransactionPooling { .. }) = refused else {
        panic!("{refused:?}")
    };
    assert!(error.to_string().contains("pool_mode = session"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn edits_wait_for_the_connections_that_a_role_may_have() {
    let url = fresh_database().await;
    let sql = connect(&url).await;
    let role = format!("few_{}", url.rsplit_once('/').unwrap().1);
    let database = url.rsplit_once('/').unwrap().1;
    sql.batch_execute(&format!(
        "create role \"{role}\" login connection limit 3; grant all on schema public to \"{role}\"; \
         grant create on database \"{database}\" to \"{role}\"; grant all on database \"{database}\" to \"{role}\""
    ))
    .await
    .unwrap();
    let url = url.replace("postgres@", &format!("{role}@"));
    let store = PostgresStore::connect(&url).await.unwrap();
    let notes = notes().without_capture();
    let engine = Engine::builder()
        .collection(notes)
        .store(store)
        .start()
        .await
        .unwrap();
    let handle = engine.collection::<Fields>("notes");
    let fields = |text: String| json!({"text": text}).as_object().unwrap().clone();
    for round in 0..3 {
        let creates = (0..24).map(|number| handle.create(fields(format!("{round} {number}"))));
        let reads = (0..24).map(|_| handle.list(None, 5));
        let (creates, reads) = tokio::join!(join_all(creates), join_all(reads));
        for created in creates {
            created.unwrap();
        }
        for read in reads {
            read.unwrap();
        }
    }
    // The URL can say it, too.
    let store = PostgresStore::connect(&format!("{url}?max_connections=1")).await;
    assert!(matches!(store, Err(ConnectError::Url(_))));
}
