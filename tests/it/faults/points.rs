//! A server that aborts at a named point of a write (`docs/decisions/0004-fault-points-are-compiled-in-by-a-cfg.md`).

use std::os::unix::process::ExitStatusExt as _;

use serde_json::{Value, json};

use crate::demo::{Demo, binaries};
use crate::faults::clients::{EditRequest, send};
use crate::faults::database::Database;
use crate::faults::load::{Load, check_applied};
use crate::random;
use crate::tasks::within_limit;

const SIGABRT: Option<i32> = Some(6);

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    Lost,
    Stored,
}

/// Checks an edit during which the server aborts, and its retry.
async fn check_one_edit(point: &str, expected: Fate) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("demo.db");
    let store = format!("sqlite:{}", path.display());
    // The demo creates John and Jane first.
    let mut demo = Demo::start_with_fault(&store, &format!("{point}:3"));
    let http = reqwest::Client::new();
    let edit = EditRequest {
        key: "the-key".into(),
        method: "PATCH",
        path: "/api/users/1/".into(),
        body: json!({"first_name": "Ada"}),
    };
    let reply = send(&http, &demo.address, &edit).await;
    assert_eq!(demo.ended().await.signal(), SIGABRT, "{point}");
    if point != "before-announcement" {
        assert_eq!(reply, None, "{point}");
    }
    let file = Database::read(&path);
    let stored = file
        .change_by("the-key")
        .map_or(Fate::Lost, |_| Fate::Stored);
    assert_eq!(stored, expected, "{point}");

    demo.restart();
    let user: Value = http
        .get(demo.url("/api/users/1/"))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let name = if expected == Fate::Stored {
        "Ada"
    } else {
        "John"
    };
    assert_eq!(user["first_name"], name, "{point}");
    let first = send(&http, &demo.address, &edit).await.unwrap();
    if reply.is_some() {
        assert_eq!(Some(&first), reply.as_ref(), "{point}");
    }
    assert_eq!(
        send(&http, &demo.address, &edit).await.as_ref(),
        Some(&first)
    );
    demo.kill();
    let file = Database::read(&path);
    assert_eq!(file.log.len(), 3, "{point}");
    check_applied(&file, &edit, &first);
}

#[tokio::test(flavor = "multi_thread")]
async fn d_an_edit_whose_server_aborts_at_any_point_is_stored_or_not_and_its_retry_is_safe() {
    check_one_edit("before-commit", Fate::Lost).await;
    check_one_edit("after-commit", Fate::Stored).await;
    check_one_edit("before-reply", Fate::Stored).await;
    check_one_edit("before-announcement", Fate::Stored).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn d_x_a_server_that_aborts_at_a_point_under_load_loses_nothing_and_applies_nothing_twice() {
    let mut random = random::generator();
    for point in [
        "before-commit",
        "after-commit",
        "before-reply",
        "before-announcement",
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("demo.db");
        let fault = format!("{point}:{}", 20 + random.u8(..20));
        let mut demo = Demo::start_with_fault(&format!("sqlite:{}", path.display()), &fault);
        let load = Load::start(&demo.address, 4);
        assert_eq!(demo.ended().await.signal(), SIGABRT, "{fault}");
        load.check(&path);
        demo.restart();
        load.acknowledged(20).await;
        load.finish_and_check(&path, || demo.kill()).await;
    }
}

#[test]
fn an_ordinary_build_of_the_demo_has_no_fault_points() {
    let knows = |binary: &[u8]| {
        let name = b"FIELDSYNC_FAULT";
        binary.windows(name.len()).any(|window| window == name)
    };
    let [as_released, with_fault_points] = binaries();
    assert!(knows(&with_fault_points));
    assert!(!knows(&as_released));
}

#[tokio::test(flavor = "multi_thread")]
async fn d_what_others_wrote_is_logged_once_when_the_server_aborts_while_it_logs_it() {
    for point in ["before-captured-commit", "after-captured-commit"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("demo.db");
        let mut demo = Demo::start_with_fault(&format!("sqlite:{}", path.display()), point);
        let other = rusqlite::Connection::open(&path).unwrap();
        other.busy_timeout(crate::tasks::WAIT_TIMEOUT).unwrap();
        let update = "update users set first_name = 'Outside' where id = 1";
        other.execute(update, []).unwrap();
        assert_eq!(demo.ended().await.signal(), SIGABRT, "{point}");
        let count = |table: &str| {
            let sql = format!("select count(*) from {table}");
            other
                .query_row(&sql, [], |row| row.get::<_, i64>(0))
                .unwrap()
        };
        // The demo has created two users.
        let before = (count("fieldsync_changes"), count("fieldsync_captured"));
        let is_logged = point == "after-captured-commit";
        assert_eq!(before, if is_logged { (3, 0) } else { (2, 1) }, "{point}");
        demo.restart();
        let logged = async {
            while count("fieldsync_captured") > 0 {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        within_limit("the log", logged).await;
        other
            .execute("update users set last_name = 'Outside' where id = 1", [])
            .unwrap();
        within_limit("the log", async {
            while count("fieldsync_changes") < 4 {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        })
        .await;
        demo.kill();
        drop(other);
        assert_eq!(Database::read(&path).log.len(), 4, "{point}");
    }
}

#[cfg(feature = "services")]
#[tokio::test(flavor = "multi_thread")]
async fn d_what_others_wrote_to_postgresql_is_logged_once_when_the_server_aborts_while_it_logs_it()
{
    for point in ["before-captured-commit", "after-captured-commit"] {
        let url = crate::cluster::fresh_database().await;
        let mut demo = Demo::start_with_fault(&url, point);
        let other = crate::cluster::connect(&url).await;
        let update = "update users set first_name = 'Outside' where id = 1";
        other.batch_execute(update).await.unwrap();
        assert_eq!(demo.ended().await.signal(), SIGABRT, "{point}");
        let count = async |table: &str| -> i64 {
            let sql = format!("select count(*) from {table}");
            other.query_one(&sql, &[]).await.unwrap().get(0)
        };
        let until = async |table: &str, expected: i64| {
            while count(table).await != expected {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        // The demo has created two users.
        let is_logged = point == "after-captured-commit";
        // The server rolls back what the process did not commit once it finds the connection closed.
        within_limit(
            "the rollback",
            until("fieldsync_captured", i64::from(!is_logged)),
        )
        .await;
        assert_eq!(
            count("fieldsync_changes").await,
            if is_logged { 3 } else { 2 },
            "{point}"
        );
        demo.restart();
        within_limit("the log", until("fieldsync_captured", 0)).await;
        let update = "update users set last_name = 'Outside' where id = 1";
        other.batch_execute(update).await.unwrap();
        within_limit("the log", until("fieldsync_changes", 4)).await;
        demo.kill();
        let sql =
            "select count(distinct (log, \"offset\")), max(\"offset\") from fieldsync_changes";
        let row = other.query_one(sql, &[]).await.unwrap();
        assert_eq!(
            (row.get::<_, i64>(0), row.get::<_, i64>(1)),
            (4, 4),
            "{point}"
        );
    }
}
