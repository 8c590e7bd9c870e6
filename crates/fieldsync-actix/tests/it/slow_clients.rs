//! Clients that disconnect without closing, and clients that do not read.

use std::time::Duration;

use crate::app::{App, User};
use crate::raw::{Raw, frame};

const SUBSCRIBE: &[u8] = br#"{"type":"subscribe","topic":"users"}"#;

#[tokio::test(flavor = "multi_thread")]
async fn m_a_client_that_disconnects_leaves_nothing_in_memory() {
    let app = App::start().await;
    let mut sockets = Vec::new();
    for _ in 0..10 {
        let mut raw = Raw::socket(&app, "x-user: ada\r\n").await;
        raw.send(frame(1, SUBSCRIBE)).await;
        raw.until(r#""type":"live""#).await;
        sockets.push(raw);
    }
    assert_eq!(app.known(), sockets.len());
    for (number, raw) in sockets.into_iter().enumerate() {
        if number % 2 == 0 {
            // Closing it then sends a reset.
            raw.stream.set_zero_linger().unwrap();
        }
    }
    let ended = async {
        while app.known() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let ended = tokio::time::timeout(Duration::from_secs(5), ended).await;
    assert!(
        ended.is_ok(),
        "{} connections are still served",
        app.known()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn m_no_queue_grows_for_a_client_that_does_not_read() {
    let app = App::start().await;
    let user = app
        .engine
        .collection("users")
        .create(User::default())
        .await
        .unwrap();
    let mut raw = Raw::socket(&app, "").await;
    raw.send(frame(1, SUBSCRIBE)).await;
    raw.until(r#""type":"live""#).await;
    let value = |number: usize| format!("{number:08}{}", "x".repeat(16 * 1024));
    for number in 0..4096 {
        let value = value(number);
        let rename = move |user: &mut User| user.first_name.clone_from(&value);
        app.engine
            .collection("users")
            .update(&user.id, rename)
            .await
            .unwrap();
    }
    let read = raw.until("00004095").await;
    // 64 MiB were written. The kernel buffers a few MiB, and of the rest each message has the last of three values.
    assert!(read.len() < 32 << 20, "{} bytes were sent", read.len());
}
