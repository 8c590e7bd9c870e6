//! The demo as a process of its own, which can be killed.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use serde_json::Value;

/// A running demo. Killed when dropped.
pub(crate) struct Demo {
    program: &'static Path,
    process: Child,
    pub(crate) address: String,
    /// What it was started with, besides `--listen`.
    options: Vec<String>,
    /// What it says on its standard error, which must be read, or it would wait for that.
    says: Receiver<String>,
    tally: Tally,
}

/// How often nodes said something with certain words, however often they were started.
#[derive(Clone, Default)]
pub(crate) struct Tally(Arc<Mutex<Vec<(&'static str, usize)>>>);

impl Tally {
    #[cfg(feature = "services")]
    pub(crate) fn of(words: &[&'static str]) -> Self {
        let counts = words.iter().map(|words| (*words, 0)).collect();
        Self(Arc::new(Mutex::new(counts)))
    }

    fn said(&self, line: &str) {
        let mut counts = self.0.lock().unwrap();
        let heard = counts.iter_mut().filter(|(words, _)| line.contains(words));
        heard.for_each(|(_, count)| *count += 1);
    }

    #[cfg(feature = "services")]
    pub(crate) fn counts(&self) -> Vec<(&'static str, usize)> {
        self.0.lock().unwrap().clone()
    }
}

/// As everybody builds it.
fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| build(DEMO, "two_windows_as_released", None))
}

/// A node that may be of the next version: `tests/node/main.rs`.
#[cfg(feature = "services")]
fn node() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| build(["fieldsync-tests", "node"], "node_as_released", None))
}

/// With the points at which it dies when `FIELDSYNC_FAULT` names them.
fn binary_with_fault_points() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let wrapper = concat!(env!("CARGO_MANIFEST_DIR"), "/with_fault_points.sh");
        build(DEMO, "two_windows_with_fault_points", Some(wrapper))
    })
}

/// The demo's package, and its name there.
const DEMO: [&str; 2] = ["fieldsync-examples", "two_windows"];

/// Builds an example, where that was not done before, and gives it a name of its own: cargo has one for all its builds.
fn build([package, example]: [&str; 2], name: &str, wrapper: Option<&str>) -> PathBuf {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _alone = ONE_AT_A_TIME.lock().unwrap();
    let arguments = [
        "build",
        "--package",
        package,
        "--example",
        example,
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
        (message["target"]["name"] == example)
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
        let options = [&["--store", store], more].concat();
        Self::start_at(binary(), "127.0.0.1:0", &options, &Tally::default())
    }

    /// One of several nodes. What its log says is counted.
    #[cfg(feature = "services")]
    pub(crate) fn node(options: &[&str], tally: &Tally) -> Self {
        Self::start_at(node(), "127.0.0.1:0", options, tally)
    }

    fn start_at(program: &'static Path, listen: &str, options: &[&str], tally: &Tally) -> Self {
        let arguments = [&["--listen", listen], options].concat();
        let mut command = prepared(Command::new(program), &arguments);
        command.env(
            "RUST_LOG",
            "warn,actix_http=off,fieldsync::hubs=debug,fieldsync::notices=info",
        );
        Self::launch_counted(command, program, options, tally)
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
    pub(crate) fn launch(command: Command, options: &[&str]) -> Self {
        Self::launch_counted(command, binary(), options, &Tally::default())
    }

    fn launch_counted(
        mut command: Command,
        program: &'static Path,
        options: &[&str],
        tally: &Tally,
    ) -> Self {
        let mut process = command.spawn().unwrap();
        let errors = BufReader::new(process.stderr.take().unwrap());
        let (tell, says) = channel();
        let counted = tally.clone();
        std::thread::spawn(move || {
            for line in errors.lines().map_while(Result::ok) {
                counted.said(&line);
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
            program,
            process,
            address: address.expect("the first address").to_owned(),
            options: options.iter().map(|option| (*option).to_owned()).collect(),
            says,
            tally: tally.clone(),
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
        *self = Self::start_at(self.program, &self.address, &self.options(), &self.tally);
    }

    /// Stops in good order, and starts again at the same address, with an option more.
    #[cfg(feature = "services")]
    pub(crate) fn restart_with(&mut self, option: &str) {
        assert_eq!(self.terminate(), Some(0));
        self.options.push(option.to_owned());
        self.restart();
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
