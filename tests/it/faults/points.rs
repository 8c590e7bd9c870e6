//! The server dies at named points of a write (`docs/decisions/0004-fault-points-are-compiled-in-by-a-cfg.md`).

use std::os::unix::process::ExitStatusExt as _;

use serde_json::{Value, json};

use crate::demo::{Demo, binaries};
use crate::faults::database::Database;
use crate::faults::load::{Load, Wish, check_applied, send};

const SIGABRT: Option<i32> = Some(6);

#[derive(Debug, Clone, Copy, PartialEq)]
enum Then {
    Lost,
    Stored,
}

/// One edit during which the server dies, and its repetition.
async fn check_one_edit(point: &str, expected: Then) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("demo.db");
    let store = format!("sqlite:{}", path.display());
    // John and Jane are the first two.
    let mut demo = Demo::start_with_fault(&store, &format!("{point}:3"));
    let http = reqwest::Client::new();
    let wish = Wish {
        key: "the-key".into(),
        method: "PATCH",
        path: "/api/users/1/".into(),
        body: json!({"first_name": "Ada"}),
    };
    let answer = send(&http, &demo.address, &wish).await;
    assert_eq!(demo.ended().await.signal(), SIGABRT, "{point}");
    if point != "before-announcement" {
        assert_eq!(answer, None, "{point}");
    }
    let file = Database::read(&path);
    let stored = file
        .change_by("the-key")
        .map_or(Then::Lost, |_| Then::Stored);
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
    let name = if expected == Then::Stored {
        "Ada"
    } else {
        "John"
    };
    assert_eq!(user["first_name"], name, "{point}");
    let first = send(&http, &demo.address, &wish).await.unwrap();
    if answer.is_some() {
        assert_eq!(Some(&first), answer.as_ref(), "{point}");
    }
    assert_eq!(
        send(&http, &demo.address, &wish).await.as_ref(),
        Some(&first)
    );
    demo.kill();
    let file = Database::read(&path);
    assert_eq!(file.log.len(), 3, "{point}");
    check_applied(&file, &wish, &first);
}

#[tokio::test(flavor = "multi_thread")]
async fn d_an_edit_whose_server_dies_at_any_point_is_stored_whole_or_not_and_its_repetition_is_safe()
 {
    check_one_edit("before-commit", Then::Lost).await;
    check_one_edit("after-commit", Then::Stored).await;
    check_one_edit("before-reply", Then::Stored).await;
    check_one_edit("before-announcement", Then::Stored).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn d_x_a_server_that_dies_at_a_point_under_load_loses_and_doubles_nothing() {
    for point in [
        "before-commit",
        "after-commit",
        "before-reply",
        "before-announcement",
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("demo.db");
        let fault = format!("{point}:{}", 20 + fastrand::u8(..20));
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
fn the_demo_as_everybody_builds_it_has_no_fault_points() {
    let knows = |binary: &[u8]| {
        let name = b"FIELDSYNC_FAULT";
        binary.windows(name.len()).any(|window| window == name)
    };
    let [as_released, with_fault_points] = binaries();
    assert!(knows(&with_fault_points));
    assert!(!knows(&as_released));
}
