//! `fieldsync serve`, `check` and `ddl` as processes, on both databases.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use futures_util::StreamExt as _;
use serde_json::{Value, json};

use tokio::io::AsyncWriteExt as _;

use crate::cluster::{connect, fresh_database};
use crate::database::{Database, on_both_databases};
use crate::demo::command_line_program;
use crate::tasks::within_limit;

on_both_databases!(
    check_says_what_can_be_served_and_exits_with_one,
    check_of_what_can_be_served_exits_with_zero,
    ddl_runs_and_its_drop_leaves_nothing,
    a_served_table_is_live_whoever_writes_it,
    nothing_is_served_without_a_choice,
    a_table_that_the_start_would_refuse_is_left_out_with_its_reason,
    check_writes_nothing_and_a_taken_port_changes_nothing,
);

/// A running `fieldsync serve`. It is killed when dropped.
pub(crate) struct Served {
    process: Child,
    pub(crate) url: String,
}

impl Served {
    pub(crate) fn start(dsn: &str, options: &[&str]) -> Self {
        let mut command = Command::new(command_line_program());
        command.args(["serve", dsn, "--listen", "127.0.0.1:0"]);
        command
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap()).lines();
        let line = output.next().expect("the server prints its address");
        let line = line.unwrap();
        let (_, url) = line.split_once(": ").unwrap();
        Self {
            url: url.to_owned(),
            process,
        }
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// What `GET /api/` returns.
    async fn catalog(&self) -> Value {
        let reply = reqwest::get(self.url("api/")).await.unwrap();
        reply.json().await.unwrap()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(command_line_program());
    let command = command.args(arguments).stdin(Stdio::null());
    command.output().unwrap()
}

/// What a command printed, whose exit code must be this.
#[track_caller]
fn stdout(output: Output, code: i32) -> String {
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{error}");
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn stderr(output: Output, code: i32) -> String {
    assert_eq!(output.status.code(), Some(code));
    String::from_utf8(output.stderr).unwrap()
}

const TABLES: &str = "create table film ($key, title text not null, length integer, price decimal(5, 2) not null default 1); \
    insert into film (title) values ('Persona'); \
    create table casting (film_id integer not null, actor text not null, role text, primary key (film_id, actor));";

async fn check_says_what_can_be_served_and_exits_with_one(database: Database) {
    database.run(TABLES).await;
    database.run("create table loose (word text)").await;
    let report = stdout(run(&["check", &database.dsn()]), 1);
    for expected in [
        "film: key id, 4 of 4 columns",
        "casting: key film_id, actor, 3 of 3 columns",
        "loose: ",
        "2 of 3 tables can be served, with 7 of 8 columns.",
    ] {
        assert!(report.contains(expected), "{expected}: {report}");
    }
    let json = stdout(run(&["check", &database.dsn(), "--json"]), 1);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["tables"], json!({"served": 2, "all": 3}));
    assert_eq!(json["columns"], json!({"served": 7, "all": 8}));
    let tables = json["collections"].as_array().unwrap();
    let loose = tables.iter().find(|table| table["reason"].is_string());
    assert!(loose.unwrap()["table"].as_str().unwrap().ends_with("loose"));
    let unknown = stderr(run(&["check", &database.dsn(), "--table", "flim"]), 2);
    assert!(
        unknown.contains("--table flim: no such table; there are "),
        "{unknown}"
    );
}

async fn check_of_what_can_be_served_exits_with_zero(database: Database) {
    database.run(TABLES).await;
    let report = stdout(
        run(&[
            "check",
            &database.dsn(),
            "--table",
            "film",
            "--table",
            "casting",
        ]),
        0,
    );
    assert!(
        report.contains("2 of 2 tables can be served, with 7 of 7 columns."),
        "{report}"
    );
}

async fn ddl_runs_and_its_drop_leaves_nothing(database: Database) {
    database.run(TABLES).await;
    let before = database.objects().await;
    let sql = stdout(run(&["ddl", &database.dsn(), "--capture"]), 0);
    assert!(sql.contains("fieldsync_captured"), "{sql}");
    database.run(&sql).await;
    assert_ne!(database.objects().await, before);
    assert_eq!(stdout(run(&["ddl", &database.dsn(), "--capture"]), 0), "");
    // A server that finds everything there, and writes.
    let served = Served::start(&database.dsn(), &["--capture"]);
    let reply = reqwest::Client::new().post(served.url("api/film/"));
    let reply = reply
        .json(&json!({"title": "Stalker"}))
        .send()
        .await
        .unwrap();
    assert_eq!(reply.status(), 201);
    drop(served);
    let sql = stdout(run(&["ddl", &database.dsn(), "--drop"]), 0);
    database.run(&sql).await;
    assert_eq!(database.objects().await, before);
    database
        .run("insert into film (title) values ('Mirror')")
        .await;
}

async fn a_served_table_is_live_whoever_writes_it(database: Database) {
    database.run(TABLES).await;
    for framework in ["axum", "actix"] {
        let served = Served::start(&database.dsn(), &["--capture", "--server", framework]);
        let catalog = served.catalog().await;
        let names = catalog["collections"].as_array().unwrap();
        assert!(names.iter().any(|one| one["name"] == "film"), "{catalog}");
        let stream = reqwest::Client::new().get(served.url("api/film/"));
        let mut stream = stream
            .header("accept", "text/event-stream")
            .send()
            .await
            .unwrap();
        let mut seen = String::new();
        let mut until = async |wanted: String| {
            while !seen.contains(&wanted) {
                let bytes = within_limit(&wanted, stream.chunk())
                    .await
                    .unwrap()
                    .unwrap();
                seen.push_str(str::from_utf8(&bytes).unwrap());
            }
        };
        until("event: live".into()).await;
        let patch = reqwest::Client::new().patch(served.url("api/film/1/"));
        let patched = patch.json(&json!({"length": 84})).send().await.unwrap();
        assert_eq!(patched.status(), 200);
        let title = format!("Persona by {framework}");
        database
            .run(&format!("update film set title = '{title}', length = null"))
            .await;
        until(title).await;
        // A page of another site may do nothing, under whatever name it reaches the server.
        let foreign = reqwest::Client::new().delete(served.url("api/film/1/"));
        let foreign = foreign
            .header("origin", "https://evil.example")
            .send()
            .await
            .unwrap();
        assert_eq!(foreign.status(), 403);
        let rebound = reqwest::Client::new().get(served.url("api/film/1/"));
        let rebound = rebound.header("host", "evil.example").send().await.unwrap();
        assert!(rebound.status().is_client_error());
        // A probe names the server by its address.
        for probe in ["healthz", "readyz"] {
            let probe = reqwest::Client::new().get(served.url(probe));
            let answered = probe.header("host", "10.0.0.7").send().await.unwrap();
            assert_eq!(answered.status(), 200);
        }
    }
    let read_only = Served::start(&database.dsn(), &["--without-capture", "--read-only"]);
    let delete = reqwest::Client::new().delete(read_only.url("api/film/1/"));
    assert!(delete.send().await.unwrap().status().is_client_error());
    assert!(
        reqwest::get(read_only.url("api/film/1/"))
            .await
            .unwrap()
            .status()
            .is_success()
    );
}

async fn nothing_is_served_without_a_choice(database: Database) {
    database.run(TABLES).await;
    let before = database.objects().await;
    let error = stderr(run(&["serve", &database.dsn()]), 2);
    for option in ["--capture  ", "--without-capture  ", "--drop"] {
        assert!(error.contains(option), "{option}: {error}");
    }
    let everyone = run(&[
        "serve",
        &database.dsn(),
        "--capture",
        "--listen",
        "0.0.0.0:0",
    ]);
    let error = stderr(everyone, 2);
    assert!(error.contains("--open-to-everyone"), "{error}");
    assert_eq!(database.objects().await, before);
}

async fn a_table_that_the_start_would_refuse_is_left_out_with_its_reason(database: Database) {
    database.run(TABLES).await;
    let bad = "create table bad (id integer primary key, x integer references nowhere (id))";
    let inherited = "create table bad ($key); create table child () inherits (bad)";
    database.run_own(bad, inherited).await;
    let report = stdout(run(&["check", &database.dsn(), "--table", "bad"]), 1);
    assert!(report.contains("bad: "), "{report}");
    assert!(report.contains("0 of 1 tables can be served"), "{report}");
    let served = Served::start(&database.dsn(), &["--capture"]);
    let film = reqwest::get(served.url("api/film/")).await.unwrap();
    assert_eq!(film.status(), 200);
    let missing = reqwest::get(served.url("api/bad/")).await.unwrap();
    assert_eq!(missing.status(), 404);
    let catalog = served.catalog().await;
    let tables = catalog["collections"].as_array().unwrap();
    let bad = tables
        .iter()
        .find(|one| one["table"].as_str().unwrap().ends_with("bad"));
    let reason = bad.unwrap()["reason"].as_str().unwrap();
    assert!(reason.contains("found"), "{reason}");
    drop(served);
    let served = Served::start(&database.dsn(), &["--without-capture", "--read-only"]);
    let catalog = served.catalog().await;
    let tables = catalog["collections"].as_array().unwrap();
    let film = tables.iter().find(|one| one["name"] == "film").unwrap();
    assert_eq!(
        (&film["writable"], &film["creatable"]),
        (&json!(false), &json!(false))
    );
}

async fn check_writes_nothing_and_a_taken_port_changes_nothing(database: Database) {
    database.run(TABLES).await;
    let before = (database.objects().await, database.bytes());
    stdout(run(&["check", &database.dsn()]), 0);
    stdout(run(&["ddl", &database.dsn(), "--capture"]), 0);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("localhost:{}", taken.local_addr().unwrap().port());
    let error = stderr(
        run(&["serve", &database.dsn(), "--capture", "--listen", &address]),
        2,
    );
    assert!(error.contains(&address), "{error}");
    assert_eq!((database.objects().await, database.bytes()), before);
}

#[test]
fn a_wrong_command_line_exits_with_two_and_help_has_examples() {
    for (arguments, expected) in [
        (&["serve"][..], "DSN"),
        (
            &["check", "mysql://x"],
            "expected sqlite:PATH or postgres://USER@HOST/DATABASE",
        ),
        (&["check", "sqlite:no/such.db"], "no/such.db does not exist"),
        (
            &["check", "postgres://nobody@127.0.0.1:1/none"],
            "127.0.0.1:1",
        ),
        (&["ddl", "sqlite:a.db", "--drop", "--capture"], "--capture"),
    ] {
        let error = stderr(run(arguments), 2);
        assert!(error.contains(expected), "{arguments:?}: {error}");
    }
    for command in ["serve", "check", "ddl"] {
        let help = stdout(run(&[command, "--help"]), 0);
        assert!(
            help.contains(&format!("Examples:\n  fieldsync {command} sqlite:app.db")),
            "{help}"
        );
    }
}

/// Otherwise somebody would take a slow database for a hanging program.
#[tokio::test(flavor = "multi_thread")]
async fn what_takes_long_is_named() {
    let url = fresh_database().await;
    let client = connect(&url).await;
    client
        .batch_execute("create table film (id bigint primary key)")
        .await
        .unwrap();
    client
        .batch_execute("begin; lock table pg_catalog.pg_attrdef in access exclusive mode")
        .await
        .unwrap();
    let checking = tokio::task::spawn_blocking(move || run(&["check", &url]));
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    client.batch_execute("rollback").await.unwrap();
    let error = stderr(checking.await.unwrap(), 0);
    assert!(
        error.contains("Comparing the tables with what fieldsync needs …"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_a_server_with_open_streams_and_sockets() {
    for framework in ["axum", "actix"] {
        let database = Database::sqlite();
        database.run(TABLES).await;
        let mut served = Served::start(&database.dsn(), &["--capture", "--server", framework]);
        let stream = reqwest::Client::new().get(served.url("api/film/"));
        let mut stream = stream
            .header("accept", "text/event-stream")
            .send()
            .await
            .unwrap();
        stream.chunk().await.unwrap();
        let uri = served.url("live").replace("http", "ws");
        let name = http::HeaderName::from_static("sec-websocket-protocol");
        let opening = tokio_websockets::ClientBuilder::from_uri(uri.parse().unwrap())
            .add_header(name, http::HeaderValue::from_static("fieldsync.v1"))
            .unwrap();
        let (mut socket, _) = opening.connect().await.unwrap();
        crate::demo::signal("TERM", &served.process.id().to_string());
        let close = within_limit("a close frame", socket.next())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(
            close.as_close().map(|(code, _)| u16::from(code)),
            Some(1012),
            "{framework}"
        );
        let ended = tokio::task::spawn_blocking(move || served.process.wait().unwrap());
        assert!(
            within_limit("the end", ended).await.unwrap().success(),
            "{framework}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s_a_client_that_never_ends_its_request_does_not_hold_up_the_exit() {
    let end = async |framework: &'static str| {
        let database = Database::sqlite();
        database.run(TABLES).await;
        let mut served = Served::start(&database.dsn(), &["--capture", "--server", framework]);
        let address = served.url("").replace("http://", "").replace('/', "");
        let mut client = tokio::net::TcpStream::connect(address).await.unwrap();
        client
            .write_all(b"GET /api/film/ HTTP/1.1\r\nHos")
            .await
            .unwrap();
        // A request on another connection is answered, so that this one was accepted before it.
        reqwest::get(served.url("api/film/")).await.unwrap();
        crate::demo::signal("TERM", &served.process.id().to_string());
        let ended = tokio::task::spawn_blocking(move || served.process.wait().unwrap());
        let ended = tokio::time::timeout(Duration::from_secs(20), ended).await;
        assert!(ended.expect(framework).unwrap().success(), "{framework}");
        drop(client);
    };
    tokio::join!(end("axum"), end("actix"));
}
