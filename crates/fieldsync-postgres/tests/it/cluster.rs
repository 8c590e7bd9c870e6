//! A real PostgreSQL, started for this test binary or for one test, and stopped with it.

#![allow(dead_code, reason = "each test binary uses what it needs")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A server with its data, which may have many databases.
pub(crate) struct Cluster {
    pub(crate) port: u16,
    folder: tempfile::TempDir,
    fsync: Fsync,
    /// The shell that ends the server when its standard input is closed.
    guard: Option<Child>,
}

/// Whether the server waits for the disk.
#[derive(Debug, Clone, Copy)]
enum Fsync {
    On,
    Off,
}

/// The URL of a new database, in the cluster that all tests share.
pub(crate) async fn fresh_database() -> String {
    cluster().fresh_database().await
}

/// A connection that does not use fieldsync.
pub(crate) async fn connect(url: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    client
}

/// The cluster that all tests of this binary share.
pub(crate) fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(Cluster::fast)
}

impl Cluster {
    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// The URL of a new database.
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

    /// A cluster that does not wait for the disk, for tests that show nothing about durability.
    pub(crate) fn fast() -> Self {
        Self::start(&std::env::temp_dir(), Fsync::Off)
    }

    /// A cluster that waits for the disk, for tests of kills and power failures.
    pub(crate) fn durable() -> Self {
        Self::durable_in(&std::env::temp_dir())
    }

    /// A cluster that waits for the disk, with its data below this folder. If the caller is root, PostgreSQL's own user must
    /// have access to it.
    pub(crate) fn durable_in(folder: &Path) -> Self {
        Self::start(folder, Fsync::On)
    }

    fn start(folder: &Path, fsync: Fsync) -> Self {
        // Fails with a clear message if PostgreSQL is missing.
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
        Self::made_by(initdb.stdout(Stdio::null()), folder, fsync)
    }

    /// A standby of this cluster: read-only until it is promoted.
    pub(crate) fn standby(&self) -> Self {
        let mut backup = as_server("pg_basebackup");
        backup.args(["-h", "127.0.0.1", "-p", &self.port.to_string()]);
        backup.args(["-U", "postgres", "-R", "-c", "fast"]);
        Self::made_by(&mut backup, &std::env::temp_dir(), self.fsync)
    }

    /// A cluster whose data a program makes.
    fn made_by(program: &mut Command, folder: &Path, fsync: Fsync) -> Self {
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
            fsync,
            guard: None,
        };
        cluster.start_again();
        cluster
    }

    /// Starts the server on the existing data.
    pub(crate) fn start_again(&mut self) {
        let (folder, port) = (self.folder.path(), self.port.to_string());
        let mut server = as_server("postgres");
        server.arg("-D").arg(folder.join("data"));
        // No socket in the file system: its path may be too long.
        server.args(["-k", ""]);
        server.args(["-h", "127.0.0.1", "-p", &port]);
        server.args(["-c", "max_connections=300", "-c", "log_min_messages=fatal"]);
        if matches!(self.fsync, Fsync::Off) {
            server.args(["-c", "fsync=off"]);
        }
        // When this process ends, however that happens, the standard input of the shell is closed. It then ends the server,
        // and deletes the data unless this process asked to keep them.
        let mut words = vec![
            folder.as_os_str().to_owned(),
            server.get_program().to_owned(),
        ];
        words.extend(server.get_args().map(ToOwned::to_owned));
        let script = "folder=$1; shift; \"$@\" & server=$!; said=$(cat); kill -QUIT $server; wait $server; \
                      [ \"$said\" = keep ] || rm -rf \"$folder\"";
        let mut guard = Command::new("sh");
        guard.args(["-c", script, "sh"]).args(words);
        guard.stdin(Stdio::piped()).stderr(Stdio::null());
        self.guard = Some(guard.spawn().unwrap());
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

    /// Stops the server at once, as `pg_ctl stop -m immediate` does. On the next start it recovers from its log.
    pub(crate) fn stop_at_once(&mut self) {
        if let Some(mut guard) = self.guard.take() {
            let mut stdin = guard.stdin.take().unwrap();
            stdin.write_all(b"keep").unwrap();
            drop(stdin);
            guard.wait().unwrap();
        }
    }

    /// Writes a file that the server may read.
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

/// Debian's server programs are not in the path.
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
