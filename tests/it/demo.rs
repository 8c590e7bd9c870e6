//! The demo as a process of its own, which can be killed.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

/// A running demo. Killed when dropped.
pub(crate) struct Demo {
    process: Child,
    pub(crate) address: String,
    store: String,
}

/// The demo's binary, built when it is not.
fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let arguments = [
            "build",
            "--package",
            "fieldsync-examples",
            "--example",
            "two_windows",
            "--message-format",
            "json",
        ];
        let built = Command::new(env!("CARGO"))
            .args(arguments)
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        assert!(built.status.success(), "the demo can't be built");
        let messages = String::from_utf8(built.stdout).unwrap();
        let mut executables = messages.lines().filter_map(|line| {
            let message: Value = serde_json::from_str(line).ok()?;
            (message["target"]["name"] == "two_windows")
                .then(|| message["executable"].as_str().map(PathBuf::from))?
        });
        executables.next_back().expect("cargo names the binary")
    })
}

/// The demo with these arguments, not yet started.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Sends a signal to a process of ours.
pub(crate) fn signal(name: &str, process: &str) {
    let kill = ["-c", "kill -$0 $1", name, process];
    assert!(Command::new("sh").args(kill).status().unwrap().success());
}

impl Demo {
    pub(crate) fn start(store: &str, more: &[&str]) -> Self {
        Self::start_at("127.0.0.1:0", store, more)
    }

    fn start_at(listen: &str, store: &str, more: &[&str]) -> Self {
        let mut process = command(&[&["--listen", listen, "--store", store], more].concat())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let Some(Ok(line)) = lines.next() else {
            let mut error = String::new();
            process
                .stderr
                .take()
                .unwrap()
                .read_to_string(&mut error)
                .unwrap();
            panic!("the demo did not start: {error}");
        };
        let address = line
            .strip_prefix("Window 1: http://")
            .and_then(|rest| rest.strip_suffix("/window1/"));
        Self {
            process,
            address: address.expect("the first address").to_owned(),
            store: store.to_owned(),
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn process_id(&self) -> String {
        self.process.id().to_string()
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        // It may be dead already.
        let _ = self.process.kill();
        self.process.wait().unwrap();
    }

    /// Starts again at the same address, on the same store.
    pub(crate) fn restart(&mut self) {
        self.kill();
        *self = Self::start_at(&self.address, &self.store, &[]);
    }

    /// SIGTERM, and the exit code.
    pub(crate) fn terminate(&mut self) -> Option<i32> {
        signal("TERM", &self.process_id());
        self.process.wait().unwrap().code()
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
