//! A server as a process of its own, so that its processor time and memory are its own.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;

use clap::ValueEnum as _;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::Result;
use crate::serving::Served;

/// A second's part in which the system counts processor time (`CLK_TCK`, 100 on Linux).
const TICK: f64 = 0.01;

#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    process: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Server {
    /// Starts this program as a server, with its files in a folder.
    pub(crate) async fn start(what: Served, folder: &Path) -> Result<Self> {
        Self::run(what, |command| command.arg("--folder").arg(folder)).await
    }

    /// The same on a database of PostgreSQL.
    pub(crate) async fn on_database(what: Served, database: &str) -> Result<Self> {
        Self::run(what, |command| command.args(["--database", database])).await
    }

    /// fieldsync as a node of several: on the same database, told of changes by Redis.
    pub(crate) async fn node(database: &str, redis: &str) -> Result<Self> {
        Self::run(Served::Postgres, |command| {
            command.args(["--database", database, "--redis", redis])
        })
        .await
    }

    async fn run(what: Served, place: impl FnOnce(&mut Command) -> &mut Command) -> Result<Self> {
        let name = what.to_possible_value().expect("every kind can be named");
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["serve", name.get_name()]);
        let mut process = place(&mut command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let (stdin, stdout) = (process.stdin.take(), process.stdout.take());
        let stdout = stdout.ok_or("the server has no output")?;
        let mut lines = BufReader::new(stdout).lines();
        let address = lines.next_line().await?.ok_or("the server did not start")?;
        Ok(Self {
            address: address.parse()?,
            process,
            stdin: stdin.ok_or("the server has no input")?,
            lines,
        })
    }

    /// Has the server make so many changes that come together.
    pub(crate) async fn change(&mut self, count: usize) -> Result {
        self.stdin
            .write_all(format!("{count}\n").as_bytes())
            .await?;
        self.lines.next_line().await?.ok_or("the server is gone")?;
        Ok(())
    }

    /// The processor time that the server has used so far, in seconds.
    pub(crate) fn processor_time(&self) -> Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id()?))?;
        // The second field, the name, may hold spaces; it ends with the last bracket.
        let fields = stat.rsplit(')').next().unwrap_or_default();
        let mut fields = fields.split_whitespace().skip(11);
        let mut ticks = || -> Result<f64> { Ok(fields.next().ok_or("no times in stat")?.parse()?) };
        Ok((ticks()? + ticks()?) * TICK)
    }

    /// The memory that the server has in use, in bytes.
    pub(crate) fn memory(&self) -> Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id()?))?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kibibytes = resident.and_then(|text| text.split_whitespace().next());
        Ok(kibibytes.ok_or("no VmRSS in status")?.parse::<f64>()? * 1024.0)
    }

    pub(crate) async fn stop(mut self) -> Result {
        self.process.kill().await?;
        Ok(())
    }

    fn id(&self) -> Result<u32> {
        Ok(self.process.id().ok_or("the server is gone")?)
    }
}
