//! A server as a process of its own, whose processor time and memory the system counts.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;

use clap::ValueEnum as _;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::kind::ServerKind;
use crate::wait::{Result, within_limit};

/// The unit in which the system counts processor time, in seconds (`CLK_TCK` is 100 on Linux).
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
    pub(crate) async fn start(kind: ServerKind, folder: &Path) -> Result<Self> {
        Self::run(kind, |command| command.arg("--folder").arg(folder)).await
    }

    /// Starts it on a PostgreSQL database.
    pub(crate) async fn on_database(kind: ServerKind, database: &str) -> Result<Self> {
        Self::run(kind, |command| command.args(["--database", database])).await
    }

    /// Starts fieldsync on a PostgreSQL database, as a node that other nodes notify through Redis.
    pub(crate) async fn node(database: &str, redis: &str) -> Result<Self> {
        Self::run(ServerKind::Postgres, |command| {
            command.args(["--database", database, "--redis", redis])
        })
        .await
    }

    async fn run(
        kind: ServerKind,
        options: impl FnOnce(&mut Command) -> &mut Command,
    ) -> Result<Self> {
        let name = kind.to_possible_value().expect("no kind is skipped");
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["serve", name.get_name()]);
        let mut process = options(&mut command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let (stdin, stdout) = (process.stdin.take(), process.stdout.take());
        let stdout = stdout.ok_or("the server has no standard output")?;
        let mut lines = BufReader::new(stdout).lines();
        let address = within_limit("the address of the server", lines.next_line()).await??;
        let address = address.ok_or("the server ended before it printed its address")?;
        Ok(Self {
            address: address.parse()?,
            process,
            stdin: stdin.ok_or("the server has no standard input")?,
            lines,
        })
    }

    /// Has the server make a number of changes in one transaction.
    pub(crate) async fn change(&mut self, count: usize) -> Result {
        let command = format!("{count}\n");
        let done = async {
            self.stdin.write_all(command.as_bytes()).await?;
            self.lines.next_line().await
        };
        let done = within_limit("changes made by the server", done).await??;
        done.ok_or("the server ended before it made the changes")?;
        Ok(())
    }

    /// The processor time of the server, in seconds.
    pub(crate) fn processor_time(&self) -> Result<f64> {
        processor_time(self.id()?)
    }

    /// The resident memory of the server, in bytes.
    pub(crate) fn memory(&self) -> Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id()?))?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kibibytes = resident.and_then(|text| text.split_whitespace().next());
        let kibibytes = kibibytes.ok_or("/proc/PID/status has no VmRSS")?;
        Ok(kibibytes.parse::<f64>()? * 1024.0)
    }

    pub(crate) async fn stop(mut self) -> Result {
        within_limit("the end of the server", self.process.kill()).await??;
        Ok(())
    }

    fn id(&self) -> Result<u32> {
        Ok(self.process.id().ok_or("the server ended")?)
    }
}

/// The processor time of a process, in seconds.
pub(crate) fn processor_time(process: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The second field, the name, may contain spaces. It ends with the last bracket.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let mut fields = fields.split_whitespace().skip(11);
    let mut ticks = || -> Result<f64> {
        let field = fields.next().ok_or("/proc/PID/stat has too few fields")?;
        Ok(field.parse()?)
    };
    Ok((ticks()? + ticks()?) * TICK)
}
