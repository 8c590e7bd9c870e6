//! The demo as a process of its own, which can be killed.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use serde_json::Value;

/// A running demo. Killed when dropped.
pub(crate) struct Demo {
    process: Child,
    pub(crate) address: String,
    /// What it was started with, besides `--listen`.
    options: Vec<String>,
    /// What it says on its standard error, which must be read, or it would wait for that.
    says: Receiver<String>,
}

/// As everybody builds it.
fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| build("two_windows_as_released", None))
}

/// With the points at which it dies when `FIELDSYNC_FAULT` names them.
fn binary_with_fault_points() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let wrapper = concat!(env!("CARGO_MANIFEST_DIR"), "/with_fault_points.sh");
        build("two_windows_with_fault_points", Some(wrapper))
    })
}

/// Builds the demo, where that was not done before, and gives it a name of its own: cargo has one for both builds.
fn build(name: &str, wrapper: Option<&str>) -> PathBuf {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _alone = ONE_AT_A_TIME.lock().unwrap();
    let arguments = [
        "build",
        "--package",
        "fieldsync-examples",
        "--example",
        "two_windows",
        "--message-format",
        "json",
    ];
    let mut cargo = Command::new(env!("CARGO"));
    if let Some(wrapper) = wrapper {
        cargo.env("RUSTC_WORKSPACE_WRAPPER", wrapper);
    }
    let built = cargo
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
    let executable = executables.next_back().expect("cargo names the binary");
    let named = executable.with_file_name(name);
    // It may be there from the last time.
    let _ = std::fs::remove_file(&named);
    std::fs::hard_link(executable, &named).unwrap();
    named
}

/// The demo with these arguments, not yet started.
pub(crate) fn command(arguments: &[&str]) -> Command {
    prepared(Command::new(binary()), arguments)
}

/// The same, run by another program: `strace`.
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

/// The text of the two binaries: without fault points, and with them.
pub(crate) fn binaries() -> [Vec<u8>; 2] {
    [binary(), binary_with_fault_points()].map(|path| std::fs::read(path).unwrap())
}

/// Sends a signal to a process of ours.
pub(crate) fn signal(name: &str, process: &str) {
    let kill = ["-c", "kill -$0 $1", name, process];
    assert!(Command::new("sh").args(kill).status().unwrap().success());
}

impl Demo {
    pub(crate) fn start(store: &str, more: &[&str]) -> Self {
        Self::start_at("127.0.0.1:0", &[&["--store", store], more].concat())
    }

    fn start_at(listen: &str, options: &[&str]) -> Self {
        let arguments = [&["--listen", listen], options].concat();
        Self::launch(command(&arguments), options)
    }

    /// A demo that dies at a point of a write.
    pub(crate) fn start_with_fault(store: &str, fault: &str) -> Self {
        let options = ["--store", store];
        let arguments = [&["--listen", "127.0.0.1:0"], &options[..]].concat();
        let mut command = prepared(Command::new(binary_with_fault_points()), &arguments);
        command.env("FIELDSYNC_FAULT", fault);
        Self::launch(command, &options)
    }

    /// Starts what is prepared with these options, and waits until it listens.
    pub(crate) fn launch(mut command: Command, options: &[&str]) -> Self {
        let mut process = command.spawn().unwrap();
        let errors = BufReader::new(process.stderr.take().unwrap());
        let (tell, says) = channel();
        std::thread::spawn(move || {
            for line in errors.lines().map_while(Result::ok) {
                // Nobody may want to know.
                let _ = tell.send(line);
            }
        });
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let Some(Ok(line)) = lines.next() else {
            let error: Vec<String> = says.iter().collect();
            panic!("the demo did not start: {}", error.join("\n"));
        };
        let address = line
            .strip_prefix("Window 1: http://")
            .and_then(|rest| rest.strip_suffix("/window1/"));
        Self {
            process,
            address: address.expect("the first address").to_owned(),
            options: options.iter().map(|option| (*option).to_owned()).collect(),
            says,
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn process_id(&self) -> String {
        self.process.id().to_string()
    }

    /// Waits until it says on its standard error something with these words.
    pub(crate) fn wait_to_say(&self, words: &str) {
        loop {
            let line = self.says.recv_timeout(Duration::from_secs(20));
            if line
                .unwrap_or_else(|_| panic!("it does not say {words}"))
                .contains(words)
            {
                return;
            }
        }
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        // It may be dead already.
        let _ = self.process.kill();
        self.process.wait().unwrap();
    }

    fn options(&self) -> Vec<&str> {
        self.options.iter().map(String::as_str).collect()
    }

    /// Starts again at the same address, on the same store.
    pub(crate) fn restart(&mut self) {
        self.kill();
        *self = Self::start_at(&self.address, &self.options());
    }

    /// Begins to start at the same address, and is killed before it is done, or soon after.
    pub(crate) async fn start_in_vain(&mut self, after: Duration) {
        self.kill();
        let arguments = [&["--listen", self.address.as_str()], &self.options()[..]].concat();
        let mut process = command(&arguments).spawn().unwrap();
        tokio::time::sleep(after).await;
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// SIGTERM, and the exit code.
    pub(crate) fn terminate(&mut self) -> Option<i32> {
        signal("TERM", &self.process_id());
        self.process.wait().unwrap().code()
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let ended = async {
            loop {
                if let Some(status) = self.process.try_wait().unwrap() {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), ended)
            .await
            .expect("it ends within 30 s")
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Makes of each case a test per web framework of the demo.
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
