//! The demo: its command line, its pages, and its edits over HTTP.

use serde_json::{Value, json};

use crate::demo::{Demo, command, on_every_server};
use crate::random;

on_every_server!(
    pages_and_the_health_check_are_served_until_sigterm,
    pages_of_other_origins_call_the_api_only_if_allowed,
    d_acknowledged_edits_survive_kill_9,
);

fn store(folder: &tempfile::TempDir) -> String {
    format!("sqlite:{}", folder.path().join("demo.db").display())
}

async fn d_acknowledged_edits_survive_kill_9(server: &str) {
    let folder = tempfile::tempdir().unwrap();
    let mut demo = Demo::start(&store(&folder), &["--server", server]);
    let mut random = random::generator();
    for round in 0..5 {
        let http = reqwest::Client::new();
        let enough = 2 + random.usize(..60);
        let (sender, mut acknowledged) = tokio::sync::mpsc::unbounded_channel();
        // Each writer goes on until the server is killed, and returns the last number that was acknowledged.
        let writer = async |field: &'static str| {
            let mut saved = None;
            for number in 0.. {
                let value = format!("{round}-{number}");
                let patch = http
                    .patch(demo.url("/api/users/1/"))
                    .json(&json!({field: value}));
                match patch.send().await {
                    Ok(reply) if reply.status() == 200 => saved = Some(number),
                    _ => break,
                }
                sender.send(field).unwrap();
            }
            saved.expect("some edits were saved")
        };
        let process = demo.process_id();
        let killer = async {
            let mut count = std::collections::HashMap::new();
            while count.len() < 2 || count.values().sum::<usize>() < enough {
                *count.entry(acknowledged.recv().await).or_default() += 1;
            }
            crate::demo::signal("KILL", &process);
        };
        let (first, last, ()) = tokio::join!(writer("first_name"), writer("last_name"), killer);
        demo.restart();
        let user: Value = http
            .get(demo.url("/api/users/1/"))
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap();
        // The next edit may be saved as well: its reply was lost.
        for (field, number) in [("first_name", first), ("last_name", last)] {
            let expected = [
                format!("{round}-{number}"),
                format!("{round}-{}", number + 1),
            ];
            assert!(
                expected.iter().any(|value| user[field] == **value),
                "{user} lost {field} {number}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sample_data_is_created_once() {
    let folder = tempfile::tempdir().unwrap();
    let names = async |demo: &Demo| {
        let users: Value = reqwest::get(demo.url("/api/users/"))
            .await
            .unwrap()
            .json()
            .await
            .unwrap();
        let names = users
            .as_array()
            .unwrap()
            .iter()
            .map(|user| format!("{} {}", user["first_name"], user["last_name"]));
        names.collect::<Vec<_>>().join(", ").replace('"', "")
    };
    let mut demo = Demo::start(&store(&folder), &[]);
    assert_eq!(names(&demo).await, "John Doe, Jane Smith");
    demo.restart();
    assert_eq!(names(&demo).await, "John Doe, Jane Smith");
    assert_eq!(
        names(&Demo::start("memory:", &["--no-sample-data"])).await,
        ""
    );
}

async fn pages_and_the_health_check_are_served_until_sigterm(server: &str) {
    let mut demo = Demo::start("memory:", &["--server", server]);
    for (path, text) in [
        ("/", "Window 1"),
        ("/window1/", "Window 1"),
        ("/window2/", "Window 2"),
    ] {
        let reply = reqwest::get(demo.url(path)).await.unwrap();
        assert!(
            reply.headers()["content-security-policy"]
                .to_str()
                .unwrap()
                .contains("default-src 'self'")
        );
        assert!(reply.text().await.unwrap().contains(text));
    }
    for (method, path, status) in [
        ("GET", "/healthz", 200),
        ("HEAD", "/healthz", 200),
        ("GET", "/readyz", 200),
        ("POST", "/readyz", 405),
        ("HEAD", "/window1/", 200),
        ("POST", "/window1/", 405),
        ("GET", "/window3/", 404),
    ] {
        let request = reqwest::Client::new().request(method.parse().unwrap(), demo.url(path));
        let reply = request.send().await.unwrap();
        assert_eq!(reply.status(), status, "{method} {path}");
    }
    assert_eq!(demo.terminate(), Some(0));
}

async fn pages_of_other_origins_call_the_api_only_if_allowed(server: &str) {
    let demo = Demo::start(
        "memory:",
        &[
            "--server",
            server,
            "--allow-origin",
            "https://friend.example",
        ],
    );
    let http = reqwest::Client::new();
    let preflight = async |origin: &str| {
        let request = http
            .request(reqwest::Method::OPTIONS, demo.url("/api/users/1/"))
            .header("origin", origin);
        let request = request.header("access-control-request-method", "PATCH");
        let request = request.header(
            "access-control-request-headers",
            "idempotency-key,content-type,if-match",
        );
        request.send().await.unwrap().headers().clone()
    };
    let headers = preflight("https://friend.example").await;
    assert_eq!(
        headers["access-control-allow-origin"],
        "https://friend.example"
    );
    assert!(
        headers["access-control-allow-methods"]
            .to_str()
            .unwrap()
            .contains("PATCH")
    );
    assert!(
        headers["access-control-allow-headers"]
            .to_str()
            .unwrap()
            .contains("idempotency-key")
    );
    assert!(
        !preflight("https://evil.example")
            .await
            .contains_key("access-control-allow-origin")
    );
    let reply = http
        .get(demo.url("/api/users/"))
        .header("origin", "https://friend.example")
        .send()
        .await
        .unwrap();
    assert!(
        reply.headers()["access-control-expose-headers"]
            .to_str()
            .unwrap()
            .contains("fieldsync-cursor")
    );
}

#[test]
fn an_error_at_the_start_says_what_to_do() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = listener.local_addr().unwrap().to_string();
    let fail = |arguments: &[&str]| {
        let output = command(arguments).output().unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let error = fail(&["--store", "memory:", "--listen", &taken]);
    assert!(
        error.contains(&taken) && error.contains("--listen"),
        "{error}"
    );
    let error = fail(&["--store", "sqlite:/no/such/folder/demo.db"]);
    assert!(
        error.contains("/no/such/folder/demo.db") && error.contains("--store"),
        "{error}"
    );
    let error = fail(&["--store", "postgres"]);
    assert!(error.contains("sqlite:PATH"), "{error}");
    let error = fail(&["--store", "memory:", "--broker", "kafka://host"]);
    assert!(error.contains("redis://HOST:PORT"), "{error}");
    let error = fail(&["--store", "postgres://app:secret@127.0.0.1:1/app"]);
    let says_what = error.contains("--store") && error.contains("127.0.0.1:1");
    assert!(says_what && !error.contains("secret"), "{error}");
    let error = fail(&[
        "--store",
        "memory:",
        "--listen",
        "127.0.0.1:0",
        "--allow-origin",
        "with\nnewline",
    ]);
    assert!(error.contains("--allow-origin"), "{error}");
    let help = String::from_utf8(command(&["--help"]).output().unwrap().stdout).unwrap();
    for flag in ["--listen", "--store", "--allow-origin", "--no-sample-data"] {
        assert!(help.contains(flag), "{help}");
    }
}
