//! A real PostgreSQL, started for this test binary or for one test, gone with it.

#![allow(dead_code, reason = "each test binary uses what it needs")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A cluster, with the databases of its tests.
pub(crate) struct Cluster {
    pub(crate) port: u16,
    folder: tempfile::TempDir,
    /// The shell that ends the server when its standard input is closed.
    guard: Option<Child>,
}

/// The URL of a database that nobody else uses, in the cluster of all.
pub(crate) async fn fresh_database() -> String {
    cluster().fresh_database().await
}

/// A connection past fieldsync.
pub(crate) async fn connect(url: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    client
}

pub(crate) fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(Cluster::start)
}

impl Cluster {
    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// The URL of a database that nobody else uses.
    pub(crate) async fn fresh_database(&self) -> String {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("test_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let client = connect(&self.url("postgres")).await;
        client
            .batch_execute(&format!("create database {name}"))
            .await
            .unwrap();
        self.url(&name)
    }

    /// One that a test has for itself.
    pub(crate) fn start() -> Self {
        Self::start_in(&std::env::temp_dir())
    }

    /// One with its data in a folder of this folder's. As root: PostgreSQL's own user must be let in there.
    pub(crate) fn start_in(folder: &Path) -> Self {
        // Says so where it is missing.
        run(Command::new(find("initdb"))
            .arg("--version")
            .stdout(Stdio::null()));
        let mut initdb = as_server("initdb");
        initdb.args([
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
        ]);
        Self::made_by(initdb.stdout(Stdio::null()), folder)
    }

    /// A standby of this one: it only reads until it is promoted.
    pub(crate) fn standby(&self) -> Self {
        let mut backup = as_server("pg_basebackup");
        backup.args(["-h", "127.0.0.1", "-p", &self.port.to_string()]);
        backup.args(["-U", "postgres", "-R", "-c", "fast"]);
        Self::made_by(&mut backup, &std::env::temp_dir())
    }

    /// One whose data a program makes.
    fn made_by(program: &mut Command, folder: &Path) -> Self {
        let folder = tempfile::tempdir_in(folder).unwrap();
        let port = {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap().port()
        };
        give_to_server(folder.path());
        run(program.arg("-D").arg(folder.path().join("data")));
        let mut cluster = Self {
            port,
            folder,
            guard: None,
        };
        cluster.start_again();
        cluster
    }

    /// Starts the server, with the data that are there.
    pub(crate) fn start_again(&mut self) {
        let (folder, port) = (self.folder.path(), self.port.to_string());
        let mut server = as_server("postgres");
        server.arg("-D").arg(folder.join("data"));
        // No socket in the file system: its path may be too long.
        server.args(["-k", ""]);
        server.args(["-h", "127.0.0.1", "-p", &port]);
        server.args(["-c", "max_connections=300", "-c", "log_min_messages=fatal"]);
        // It ends when this process does, however that ends: then its standard input is closed.
        let mut words = vec![server.get_program().to_owned()];
        words.extend(server.get_args().map(ToOwned::to_owned));
        let script = "\"$@\" & server=$!; cat >/dev/null; kill -QUIT $server; wait $server";
        let mut guarded = Command::new("sh");
        guarded.args(["-c", script, "sh"]).args(words);
        guarded.stdin(Stdio::piped()).stderr(Stdio::null());
        self.guard = Some(guarded.spawn().unwrap());
        let mut ready = Command::new(find("pg_isready"));
        ready.args(["-q", "-h", "127.0.0.1", "-p", &port]);
        for _ in 0..600 {
            if ready.status().unwrap().success() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        panic!("PostgreSQL does not start");
    }

    /// Stops the server at once, as an operator does with `pg_ctl stop -m immediate`: it recovers from its log.
    pub(crate) fn stop_at_once(&mut self) {
        if let Some(mut guard) = self.guard.take() {
            drop(guard.stdin.take());
            guard.wait().unwrap();
        }
    }

    /// Writes a file for the server.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        run(Command::new("chmod").arg("600").arg(&path));
        give_to_server(&path);
        path
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop_at_once();
    }
}

/// PostgreSQL does not run as root.
fn give_to_server(path: &Path) {
    if is_root() {
        run(Command::new("chown").arg("postgres").arg(path));
    }
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().unwrap();
    id.stdout.starts_with(b"0\n")
}

fn as_server(program: &str) -> Command {
    let program = find(program);
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
    command.arg(program);
    command
}

/// Debian keeps the server's programs out of the path.
fn find(program: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql");
    let mut found: Vec<PathBuf> = versions
        .into_iter()
        .flatten()
        .flatten()
        .map(|version| version.path().join("bin").join(program))
        .filter(|path| Path::exists(path))
        .collect();
    found.sort();
    found.pop().unwrap_or_else(|| program.into())
}

fn run(command: &mut Command) {
    let status = command.status();
    let status = status.expect("PostgreSQL is missing: tests/run.sh installs it");
    assert!(status.success(), "{command:?}");
}
