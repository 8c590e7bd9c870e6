//! The demo as a process of its own.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use serde_json::Value;

use crate::cursors::read_key;
use crate::tasks::{WAIT_TIMEOUT, within_limit};

/// A running demo. It is killed when dropped.
pub(crate) struct Demo {
    program: &'static Path,
    process: Child,
    pub(crate) address: String,
    /// Its options, without `--listen`.
    options: Vec<String>,
    /// The lines of its standard error.
    log: Receiver<String>,
    counter: LogCounter,
}

/// Counts the log lines that contain certain words, over several nodes and their restarts.
#[derive(Clone, Default)]
pub(crate) struct LogCounter(Arc<Mutex<Vec<(&'static str, usize)>>>);

impl LogCounter {
    #[cfg(feature = "services")]
    pub(crate) fn of(words: &[&'static str]) -> Self {
        let counts = words.iter().map(|words| (*words, 0)).collect();
        Self(Arc::new(Mutex::new(counts)))
    }

    fn count(&self, line: &str) {
        for (words, count) in self.0.lock().unwrap().iter_mut() {
            *count += usize::from(line.contains(*words));
        }
    }

    #[cfg(feature = "services")]
    pub(crate) fn counts(&self) -> Vec<(&'static str, usize)> {
        self.0.lock().unwrap().clone()
    }
}

/// The demo as users build it.
fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| build(DEMO, "two_windows_as_released", None))
}

/// A node of this version of the demo or of the next: `tests/node/main.rs`.
#[cfg(feature = "services")]
fn node() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        build(
            ["fieldsync-tests", "--example", "node"],
            "node_as_released",
            None,
        )
    })
}

/// The demo built with fault points, at which it aborts when `FIELDSYNC_FAULT` names them.
fn binary_with_fault_points() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let wrapper = concat!(env!("CARGO_MANIFEST_DIR"), "/with_fault_points.sh");
        build(DEMO, "two_windows_with_fault_points", Some(wrapper))
    })
}

/// The command line program: `fieldsync serve`.
#[cfg(feature = "services")]
pub(crate) fn command_line_program() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let target = ["fieldsync-cli", "--bin", "fieldsync"];
        build(target, "fieldsync_as_released", None)
    })
}

/// The package of the demo, and that it is an example with this name.
const DEMO: [&str; 3] = ["fieldsync-examples", "--example", "two_windows"];

/// Builds a program, and links it under a name of its own: cargo uses the same name for all its builds.
fn build([package, kind, program]: [&str; 3], name: &str, wrapper: Option<&str>) -> PathBuf {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _alone = ONE_AT_A_TIME.lock().unwrap();
    let arguments = [
        "build",
        "--package",
        package,
        kind,
        program,
        "--message-format",
        "json",
    ];
    let mut cargo = Command::new(env!("CARGO"));
    if let Some(wrapper) = wrapper {
        cargo.env("RUSTC_WORKSPACE_WRAPPER", wrapper);
    }
    // Cargo sets these for a test. Build scripts depend on them, and would run again.
    for (name, _) in std::env::vars() {
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(name);
        }
    }
    let built = cargo
        .args(arguments)
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(built.status.success(), "cargo can't build {program}");
    let messages = String::from_utf8(built.stdout).unwrap();
    let mut executables = messages.lines().filter_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        (message["target"]["name"] == program)
            .then(|| message["executable"].as_str().map(PathBuf::from))?
    });
    let executable = executables
        .next_back()
        .expect("cargo prints the path of the binary");
    let named = executable.with_file_name(name);
    // An earlier run may have created it.
    let _ = std::fs::remove_file(&named);
    std::fs::hard_link(executable, &named).unwrap();
    named
}

/// A command that starts the demo with these arguments.
pub(crate) fn command(arguments: &[&str]) -> Command {
    prepared(Command::new(binary()), arguments)
}

/// A command that starts the demo through another program, such as `strace`.
#[cfg(feature = "services")]
pub(crate) fn command_under(mut program: Command, arguments: &[&str]) -> Command {
    program.arg(binary());
    prepared(program, arguments)
}

fn prepared(mut command: Command, arguments: &[&str]) -> Command {
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// The bytes of the two binaries: without fault points, and with them.
pub(crate) fn binaries() -> [Vec<u8>; 2] {
    [binary(), binary_with_fault_points()].map(|path| std::fs::read(path).unwrap())
}

/// Sends a signal to a process that this test started.
pub(crate) fn signal(name: &str, process: &str) {
    let kill = ["-c", "kill -$0 $1", name, process];
    assert!(Command::new("sh").args(kill).status().unwrap().success());
}

impl Demo {
    pub(crate) fn start(store: &str, more: &[&str]) -> Self {
        let options = [&["--store", store], more].concat();
        Self::start_at(binary(), "127.0.0.1:0", &options, &LogCounter::default())
    }

    /// Starts one of several nodes, whose log lines are counted.
    #[cfg(feature = "services")]
    pub(crate) fn node(options: &[&str], counter: &LogCounter) -> Self {
        Self::start_at(node(), "127.0.0.1:0", options, counter)
    }

    fn start_at(
        program: &'static Path,
        listen: &str,
        options: &[&str],
        counter: &LogCounter,
    ) -> Self {
        let arguments = [&["--listen", listen], options].concat();
        let mut command = prepared(Command::new(program), &arguments);
        command.env("RUST_LOG", "warn,actix_http=off,fieldsync=debug");
        Self::launch_counted(command, program, options, counter)
    }

    /// Starts a demo that aborts at a point of a write.
    pub(crate) fn start_with_fault(store: &str, fault: &str) -> Self {
        let options = ["--store", store];
        let arguments = [&["--listen", "127.0.0.1:0"], &options[..]].concat();
        let mut command = prepared(Command::new(binary_with_fault_points()), &arguments);
        command.env("FIELDSYNC_FAULT", fault);
        Self::launch(command, &options)
    }

    /// Starts a command that has these options, and waits until the demo listens.
    pub(crate) fn launch(command: Command, options: &[&str]) -> Self {
        Self::launch_counted(command, binary(), options, &LogCounter::default())
    }

    fn launch_counted(
        mut command: Command,
        program: &'static Path,
        options: &[&str],
        counter: &LogCounter,
    ) -> Self {
        let mut process = command.spawn().unwrap();
        let errors = BufReader::new(process.stderr.take().unwrap());
        let (lines, log) = channel();
        let counted = counter.clone();
        std::thread::spawn(move || {
            for line in errors.lines().map_while(Result::ok) {
                counted.count(&line);
                // The receiver may be dropped.
                let _ = lines.send(line);
            }
        });
        let mut output = BufReader::new(process.stdout.take().unwrap()).lines();
        let Some(Ok(line)) = output.next() else {
            let log: Vec<String> = log.iter().collect();
            panic!("the demo did not start: {}", log.join("\n"));
        };
        let mut pairs = options.windows(2);
        if let Some(store) = pairs.find_map(|pair| (pair[0] == "--store").then_some(pair[1])) {
            read_key(store);
        }
        let address = line
            .strip_prefix("Window 1: http://")
            .and_then(|rest| rest.strip_suffix("/window1/"));
        Self {
            program,
            process,
            address: address.expect("the first line has the address").to_owned(),
            options: options.iter().map(|option| (*option).to_owned()).collect(),
            log,
            counter: counter.clone(),
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn process_id(&self) -> String {
        self.process.id().to_string()
    }

    /// Waits until it logs a line that contains these words.
    pub(crate) fn wait_for_log(&self, words: &str) {
        loop {
            let line = self.log.recv_timeout(WAIT_TIMEOUT);
            let line = line.unwrap_or_else(|_| panic!("the demo does not log \"{words}\""));
            if line.contains(words) {
                return;
            }
        }
    }

    /// The lines that it has logged since, up to its end.
    #[cfg(feature = "services")]
    pub(crate) fn rest_of_log(&self) -> Vec<String> {
        self.log.iter().collect()
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        self.process.wait().unwrap();
    }

    fn options(&self) -> Vec<&str> {
        self.options.iter().map(String::as_str).collect()
    }

    /// Restarts at the same address, on the same store.
    pub(crate) fn restart(&mut self) {
        self.kill();
        *self = Self::start_at(self.program, &self.address, &self.options(), &self.counter);
    }

    /// Stops on SIGTERM, and restarts at the same address with one more option.
    #[cfg(feature = "services")]
    pub(crate) fn restart_with(&mut self, option: &str) {
        assert_eq!(self.terminate(), Some(0));
        self.options.push(option.to_owned());
        self.restart();
    }

    /// Starts at the same address, and is killed after a time: before it listens, or soon after.
    pub(crate) async fn kill_during_start(&mut self, after: Duration) {
        self.kill();
        let arguments = [&["--listen", self.address.as_str()], &self.options()[..]].concat();
        let mut process = command(&arguments).spawn().unwrap();
        tokio::time::sleep(after).await;
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// Sends SIGTERM, and returns the exit code.
    pub(crate) fn terminate(&mut self) -> Option<i32> {
        signal("TERM", &self.process_id());
        self.process.wait().unwrap().code()
    }

    /// Waits until it ends.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let ended = async {
            loop {
                if let Some(status) = self.process.try_wait().unwrap() {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        within_limit("the end of the demo", ended).await
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Makes one test per web framework of each case.
macro_rules! on_every_server {
    ($($case:ident),+ $(,)?) => {
        mod by_axum {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                super::$case("axum").await;
            })+
        }
        mod by_actix {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                super::$case("actix").await;
            })+
        }
    };
}
pub(crate) use on_every_server;
