//! The power fails, as far as a test can have it: `strace` tells what the server wrote and when it had the disk confirm
//! it. From that is built what a disk may hold that kept all that was confirmed, and of the rest what it liked.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;
use std::process::Command;

use rusqlite::Connection;
use serde_json::json;

use crate::demo::{Demo, command_under};
use crate::faults::database::Database;
use crate::faults::load::{Load, Wish, offset_of, send};

/// What disks write whole.
const SECTOR: usize = 512;

/// What the server did, in order.
#[derive(Debug)]
enum Event {
    /// It wrote to a file, which is in the system's memory then.
    Wrote {
        file: String,
        at: usize,
        bytes: Vec<u8>,
    },
    /// It set the file's length, which SQLite does before it has a database confirmed.
    Truncated { file: String, length: usize },
    /// All that was written to the file is on the disk now.
    Synced { file: String },
    /// It begins to tell somebody of a change with this offset, in a reply or on a WebSocket.
    Told { offset: u64 },
}

/// A demo whose system calls are written down.
struct Traced {
    demo: Demo,
    folder: tempfile::TempDir,
}

impl Traced {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = format!("sqlite:{}", folder.path().join("demo.db").display());
        let mut strace = Command::new("strace");
        // As a child of the demo's, so that the demo is ours to kill.
        strace.args(["-D", "-f", "-y", "-xx", "-s", "100000", "-o"]);
        strace.arg(folder.path().join("trace"));
        strace.arg("-e").arg(
            "trace=fsync,fdatasync,pwrite64,pwritev,ftruncate,rename,unlink,write,writev,sendto,sendmsg",
        );
        let found = Command::new("strace").arg("-V").output();
        found.expect("the command strace is missing; tests/run.sh installs it");
        let options = ["--store", &store];
        let arguments = [&["--listen", "127.0.0.1:0"], &options[..]].concat();
        let demo = Demo::launch(command_under(strace, &arguments), &options);
        Self { demo, folder }
    }

    /// Kills it, and reads what it did.
    async fn events(mut self) -> Vec<Event> {
        let process = self.demo.process_id();
        self.demo.kill();
        let trace = self.folder.path().join("trace");
        // The last that is written down is the end of the first thread.
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
        let limit = std::time::Duration::from_secs(30);
        let text = tokio::time::timeout(limit, read_whole).await;
        events(&text.expect("strace ends with the demo"))
    }
}

/// Reads what `strace -f -y -xx` wrote. A call is there when it begins, for a write, or when it is done, for a sync.
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
        // `11</path>, …`: the descriptor and what it is.
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
                assert_eq!(bytes.len(), length, "strace cut it off");
                events.push(Event::Wrote { file, at, bytes });
            }
            "ftruncate" if is_database => {
                let length = arguments.rsplit_once(", ").unwrap().1;
                let digits = length.find(|letter: char| !letter.is_ascii_digit());
                let length = length[..digits.unwrap()].parse().unwrap();
                events.push(Event::Truncated { file, length });
            }
            "write" | "writev" | "pwritev" | "rename" | "unlink" if is_database => {
                panic!("the test does not know what this does: {name}")
            }
            "write" | "writev" | "sendto" | "sendmsg" if file.starts_with("socket:") => {
                let text = String::from_utf8_lossy(&strings(arguments)).into_owned();
                let told = ["fieldsync-cursor: ", "\"cursor\":\""]
                    .iter()
                    .flat_map(|name| {
                        text.match_indices(name)
                            .map(|(at, _)| offset_of(&text[at + name.len()..][..38]))
                    });
                events.extend(told.max().map(|offset| Event::Told { offset }));
            }
            _ => {}
        }
    }
    events
}

/// The strings among the arguments, one after the other.
fn strings(arguments: &str) -> Vec<u8> {
    arguments
        .split('"')
        .skip(1)
        .step_by(2)
        .flat_map(unescaped)
        .collect()
}

/// `\x48\x54` as bytes.
fn unescaped(text: &str) -> Vec<u8> {
    let digits = text.split("\\x").skip(1);
    digits
        .map(|digits| u8::from_str_radix(&digits[..2], 16).unwrap())
        .collect()
}

/// What is on the disk, and what is on its way there.
#[derive(Default)]
struct Disk {
    files: BTreeMap<String, File>,
}

#[derive(Default)]
struct File {
    synced: Vec<u8>,
    on_the_way: Vec<(usize, Vec<u8>)>,
}

impl Disk {
    fn apply(&mut self, event: &Event) {
        match event {
            Event::Wrote { file, at, bytes } => {
                let file = self.files.entry(file.clone()).or_default();
                file.on_the_way.push((*at, bytes.clone()));
            }
            Event::Truncated { file, length } => {
                let file = self.files.entry(file.clone()).or_default();
                let ends = file.on_the_way.iter().map(|(at, bytes)| at + bytes.len());
                let end = ends.fold(file.synced.len(), usize::max);
                assert!(
                    end <= *length,
                    "the test does not know when something is cut off"
                );
                file.on_the_way.push((*length, Vec::new()));
            }
            Event::Synced { file } => {
                let file = self.files.entry(file.clone()).or_default();
                for (at, bytes) in std::mem::take(&mut file.on_the_way) {
                    put(&mut file.synced, at, &bytes);
                }
            }
            Event::Told { .. } => {}
        }
    }

    /// The power fails. What was on its way arrives as `arrives` has it, sector by sector. Opens what is left.
    fn left(&self, mut arrives: impl FnMut() -> bool) -> Database {
        let folder = tempfile::tempdir().unwrap();
        for (name, file) in &self.files {
            let mut left = file.synced.clone();
            for (at, bytes) in &file.on_the_way {
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
async fn d_the_disk_has_confirmed_an_edit_before_its_reply_is_written() {
    let traced = Traced::start();
    let http = reqwest::Client::new();
    let mut offsets = Vec::new();
    for number in 0..5 {
        let wish = Wish {
            key: number.to_string(),
            method: "PATCH",
            path: "/api/users/1/".into(),
            body: json!({"first_name": number.to_string()}),
        };
        let answer = send(&http, &traced.demo.address, &wish).await.unwrap();
        offsets.push(answer.offset);
    }
    let (mut written, mut confirmed, mut told) = (0, 0, Vec::new());
    for event in traced.events().await {
        match event {
            Event::Wrote { file, .. } if file.ends_with("-wal") => written += 1,
            Event::Synced { file } if file.ends_with("-wal") => confirmed = written,
            Event::Told { offset } => {
                // Whoever is told of an edit is told after all of it was written, and that was confirmed.
                assert!(
                    written > 0 && confirmed == written,
                    "{offset} was told too soon"
                );
                told.push(offset);
                (written, confirmed) = (0, 0);
            }
            _ => {}
        }
    }
    assert_eq!(told, offsets);
}

#[tokio::test(flavor = "multi_thread")]
async fn d_what_anybody_was_told_survives_a_failure_of_power() {
    let traced = Traced::start();
    let load = Load::start(&traced.demo.address, 4);
    // Enough for the log that is written ahead to be carried over into the database, more than once.
    load.acknowledged(600).await;
    load.finish().await;
    let events = traced.events().await;
    let carried_over =
        |event: &&Event| matches!(event, Event::Synced { file } if file.ends_with("demo.db"));
    assert!(events.iter().filter(carried_over).count() > 1);
    let (mut disk, mut known, mut failures) = (Disk::default(), 0, 0);
    let often = 1 + events.len() / 150;
    for event in &events {
        disk.apply(event);
        if let Event::Told { offset } = event {
            known = known.max(*offset);
        }
        // Before anybody was told of anything there may be no tables.
        if known == 0 || fastrand::usize(..often) > 0 {
            continue;
        }
        let share = fastrand::f64();
        for left in [disk.left(|| false), disk.left(|| fastrand::f64() < share)] {
            let last = left.log.len() as u64;
            assert!(last >= known, "{known} was told, and the disk has {last}");
            failures += 1;
        }
    }
    println!("{failures} failures of power in {} events", events.len());
}
