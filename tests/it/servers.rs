//! Servers that a test starts on a free port, and that end with it.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The limit on the start of a server: far longer than it takes on a machine whose disk is busy.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// An empty Redis. It is killed when dropped.
pub(crate) struct Redis {
    process: Child,
    pub(crate) port: u16,
}

impl Redis {
    pub(crate) async fn start() -> Self {
        Self::start_at(free_port()).await
    }

    async fn start_at(port: u16) -> Self {
        Self::start_with(port, &[]).await
    }

    /// Starts it with more options, as on its command line.
    pub(crate) async fn start_with(port: u16, more: &[&str]) -> Self {
        let mut command = Command::new("redis-server");
        command.args([
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
            "--dir",
            "/",
        ]);
        command.arg("--port").arg(port.to_string()).args(more);
        let process = command.stdout(Stdio::null()).spawn();
        let process = process.expect("redis-server is missing: tests/run.sh installs it");
        let redis = Self { process, port };
        let begun = Instant::now();
        while let Err(error) = redis.client().get_multiplexed_async_connection().await {
            assert!(
                begun.elapsed() < START_TIMEOUT,
                "redis-server on port {port} does not answer: {error}"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        redis
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    fn client(&self) -> redis::Client {
        redis::Client::open(self.url()).unwrap()
    }

    /// Runs a command, given as its words.
    pub(crate) async fn command(&self, command: &[&str]) {
        let mut connection = self
            .client()
            .get_multiplexed_async_connection()
            .await
            .unwrap();
        let mut request = redis::cmd(command[0]);
        request.arg(&command[1..]);
        request.exec_async(&mut connection).await.unwrap();
    }

    /// Kills it, as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Restarts it at the same port, empty.
    pub(crate) async fn start_again(&mut self) {
        *self = Self::start_at(self.port).await;
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}
