//! Power failures, simulated: `strace` records what the server wrote, and when it synced. The test then builds what a disk may
//! contain after a power failure: everything that was synced, and any part of the rest.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;
use std::process::Command;

use rusqlite::Connection;
use serde_json::json;

use crate::cursors::offset_of;
use crate::demo::{Demo, command_under};
use crate::faults::clients::{EditRequest, send};
use crate::faults::database::Database;
use crate::faults::load::Load;
use crate::random;
use crate::tasks::within_limit;

/// The unit that a disk writes atomically.
const SECTOR: usize = 512;

/// An action of the server.
#[derive(Debug)]
enum Event {
    /// It wrote to a file. The bytes are in the system's cache.
    Wrote {
        file: String,
        at: usize,
        bytes: Vec<u8>,
    },
    /// It set the length of a file, as SQLite does before it syncs a database.
    Truncated { file: String, length: usize },
    /// It synced a file: the bytes are on the disk.
    Synced { file: String },
    /// It began to send a change with this offset, in a reply or on a WebSocket.
    Sent { offset: u64 },
}

/// A demo whose system calls are recorded.
struct Traced {
    demo: Demo,
    folder: tempfile::TempDir,
}

impl Traced {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = format!("sqlite:{}", folder.path().join("demo.db").display());
        let mut strace = Command::new("strace");
        // `-D` makes strace the child, and the demo the process that this test can kill.
        strace.args(["-D", "-f", "-y", "-xx", "-s", "100000", "-o"]);
        strace.arg(folder.path().join("trace"));
        strace.arg("-e").arg(
            "trace=fsync,fdatasync,pwrite64,pwritev,ftruncate,rename,unlink,write,writev,sendto,sendmsg",
        );
        let found = Command::new("strace").arg("-V").output();
        found.expect("the command strace is missing: tests/run.sh installs it");
        let options = ["--store", &store];
        let arguments = [&["--listen", "127.0.0.1:0"], &options[..]].concat();
        let demo = Demo::launch(command_under(strace, &arguments), &options);
        Self { demo, folder }
    }

    /// Kills the demo, and returns its actions.
    async fn events(mut self) -> Vec<Event> {
        let process = self.demo.process_id();
        self.demo.kill();
        let trace = self.folder.path().join("trace");
        // The record ends with the exit of the first thread.
        let read_whole = async {
            loop {
                let text = fs::read_to_string(&trace).unwrap();
                let mut last = text.lines().rev().take(100);
                if last.any(|line| line.starts_with(&process) && line.ends_with("+++")) {
                    return text;
                }
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        events(&within_limit("the end of strace", read_whole).await)
    }
}

/// Parses the output of `strace -f -y -xx`. A write counts from its beginning, a sync from its end.
fn events(trace: &str) -> Vec<Event> {
    let mut events = Vec::new();
    let mut unfinished: HashMap<&str, String> = HashMap::new();
    for line in trace.lines() {
        let (thread, call) = line.split_once(' ').unwrap();
        let call = call.trim_start();
        if call.contains(" resumed>") {
            let is_sync = call.starts_with("<... f") && call.contains("sync resumed");
            if let Some(file) = unfinished.remove(thread).filter(|_| is_sync) {
                assert!(call.ends_with(" = 0"), "{call}");
                events.push(Event::Synced { file });
            }
            continue;
        }
        let Some((name, arguments)) = call.split_once('(') else {
            continue;
        };
        // `11</path>, …`: the file descriptor and its path.
        let file = arguments
            .split_once('<')
            .and_then(|(_, rest)| rest.split_once('>'))
            .map(|(hex, _)| String::from_utf8(unescaped(hex)).unwrap())
            .unwrap_or_default();
        let is_database = file.ends_with("/demo.db") || file.ends_with("/demo.db-wal");
        match name {
            "fsync" | "fdatasync" if is_database => {
                if call.ends_with("<unfinished ...>") {
                    unfinished.insert(thread, file);
                } else {
                    assert!(call.ends_with(" = 0"), "{call}");
                    events.push(Event::Synced { file });
                }
            }
            "pwrite64" if is_database => {
                let mut numbers = arguments.rsplit_once('"').unwrap().1.split(", ").skip(1);
                let length: usize = numbers.next().unwrap().parse().unwrap();
                let at = numbers.next().unwrap();
                let digits = at.find(|letter: char| !letter.is_ascii_digit());
                let at = at[..digits.unwrap_or(at.len())].parse().unwrap();
                let bytes = strings(arguments);
                assert_eq!(bytes.len(), length, "strace truncated the bytes");
                events.push(Event::Wrote { file, at, bytes });
            }
            "ftruncate" if is_database => {
                let length = arguments.rsplit_once(", ").unwrap().1;
                let digits = length.find(|letter: char| !letter.is_ascii_digit());
                let length = length[..digits.unwrap()].parse().unwrap();
                events.push(Event::Truncated { file, length });
            }
            "write" | "writev" | "pwritev" | "rename" | "unlink" if is_database => {
                panic!("the test can't simulate {name}")
            }
            "write" | "writev" | "sendto" | "sendmsg" if file.starts_with("socket:") => {
                let text = String::from_utf8_lossy(&strings(arguments)).into_owned();
                let sent = ["fieldsync-cursor: ", "\"cursor\":\""]
                    .iter()
                    .flat_map(|name| {
                        text.match_indices(name)
                            .map(|(at, _)| offset_of(&text[at + name.len()..][..64]))
                    });
                events.extend(sent.max().map(|offset| Event::Sent { offset }));
            }
            _ => {}
        }
    }
    events
}

/// The strings among the arguments, concatenated.
fn strings(arguments: &str) -> Vec<u8> {
    arguments
        .split('"')
        .skip(1)
        .step_by(2)
        .flat_map(unescaped)
        .collect()
}

/// Decodes `\x48\x54`.
fn unescaped(text: &str) -> Vec<u8> {
    let digits = text.split("\\x").skip(1);
    digits
        .map(|digits| u8::from_str_radix(&digits[..2], 16).unwrap())
        .collect()
}

/// What is on the disk, and what is still in the system's cache.
#[derive(Default)]
struct Disk {
    files: BTreeMap<String, File>,
}

#[derive(Default)]
struct File {
    synced: Vec<u8>,
    cached: Vec<(usize, Vec<u8>)>,
}

impl Disk {
    fn apply(&mut self, event: &Event) {
        match event {
            Event::Wrote { file, at, bytes } => {
                let file = self.files.entry(file.clone()).or_default();
                file.cached.push((*at, bytes.clone()));
            }
            Event::Truncated { file, length } => {
                let file = self.files.entry(file.clone()).or_default();
                let ends = file.cached.iter().map(|(at, bytes)| at + bytes.len());
                let end = ends.fold(file.synced.len(), usize::max);
                assert!(end <= *length, "the test can't simulate a truncation");
                file.cached.push((*length, Vec::new()));
            }
            Event::Synced { file } => {
                let file = self.files.entry(file.clone()).or_default();
                for (at, bytes) in std::mem::take(&mut file.cached) {
                    put(&mut file.synced, at, &bytes);
                }
            }
            Event::Sent { .. } => {}
        }
    }

    /// Opens the database after a power failure. `arrives` decides for each cached sector whether it reached the disk.
    fn after_power_failure(&self, mut arrives: impl FnMut() -> bool) -> Database {
        let folder = tempfile::tempdir().unwrap();
        for (name, file) in &self.files {
            let mut left = file.synced.clone();
            for (at, bytes) in &file.cached {
                let (mut at, mut bytes) = (*at, &bytes[..]);
                while !bytes.is_empty() {
                    let (sector, rest) = bytes.split_at(bytes.len().min(SECTOR - at % SECTOR));
                    if arrives() {
                        put(&mut left, at, sector);
                    }
                    (at, bytes) = (at + sector.len(), rest);
                }
            }
            let name = Path::new(name).file_name().unwrap();
            fs::write(folder.path().join(name), left).unwrap();
        }
        Database::of(&Connection::open(folder.path().join("demo.db")).unwrap())
    }
}

fn put(file: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    let end = at + bytes.len();
    if file.len() < end {
        file.resize(end, 0);
    }
    file[at..end].copy_from_slice(bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn d_an_edit_is_synced_before_its_reply_is_written() {
    let traced = Traced::start();
    let http = reqwest::Client::new();
    let mut offsets = Vec::new();
    for number in 0..5 {
        let edit = EditRequest {
            key: number.to_string(),
            method: "PATCH",
            path: "/api/users/1/".into(),
            body: json!({"first_name": number.to_string()}),
        };
        let reply = send(&http, &traced.demo.address, &edit).await.unwrap();
        offsets.push(reply.offset);
    }
    let (mut written, mut synced, mut sent) = (0, 0, Vec::new());
    for event in traced.events().await {
        match event {
            Event::Wrote { file, .. } if file.ends_with("-wal") => written += 1,
            Event::Synced { file } if file.ends_with("-wal") => synced = written,
            Event::Sent { offset } => {
                // Everything that was written for the edit was synced before it is sent.
                assert!(
                    written > 0 && synced == written,
                    "{offset} was sent before it was synced"
                );
                sent.push(offset);
                (written, synced) = (0, 0);
            }
            _ => {}
        }
    }
    assert_eq!(sent, offsets);
}

#[tokio::test(flavor = "multi_thread")]
async fn d_every_change_that_was_sent_survives_a_power_failure() {
    let traced = Traced::start();
    let load = Load::start(&traced.demo.address, 4);
    // Enough for more than one checkpoint of the write-ahead log.
    load.acknowledged(600).await;
    load.finish().await;
    let events = traced.events().await;
    let checkpoint =
        |event: &&Event| matches!(event, Event::Synced { file } if file.ends_with("demo.db"));
    assert!(events.iter().filter(checkpoint).count() > 1);
    let (mut disk, mut known, mut failures) = (Disk::default(), 0, 0);
    let mut random = random::generator();
    let interval = 1 + events.len() / 150;
    for event in &events {
        disk.apply(event);
        if let Event::Sent { offset } = event {
            known = known.max(*offset);
        }
        // Before the first change is sent there may be no tables.
        if known == 0 || random.usize(..interval) > 0 {
            continue;
        }
        let share = random.f64();
        let nothing = disk.after_power_failure(|| false);
        let some = disk.after_power_failure(|| random.f64() < share);
        for left in [nothing, some] {
            let last = left.log.len() as u64;
            assert!(
                last >= known,
                "change {known} was sent, and the disk has changes up to {last}"
            );
            failures += 1;
        }
    }
    assert!(
        failures > 50,
        "{failures} power failures in {} events",
        events.len()
    );
}
