//! Whether axum or actix serves can't be told from an answer: each row of the tables is sent to both, in one test.

use futures_util::future::join_all;

use crate::app::{App, On, Server, builder};

use super::wire::Wire;
use super::{frames, handshakes, requests};

#[tokio::test(flavor = "multi_thread")]
async fn both_frameworks_answer_every_row_alike() {
    let axum = App::start(Server::Axum, On::Memory, builder()).await;
    let actix = App::start(Server::Actix, On::Memory, builder()).await;
    let mut count = 0;
    for app in [&axum, &actix] {
        assert_eq!(app.create_user("John", "Doe").await, 1);
    }
    for row in requests::rows() {
        let of_axum = requests::ask(&axum, &row.request).await;
        let of_actix = requests::ask(&actix, &row.request).await;
        assert_eq!(of_axum.said(), of_actix.said(), "{}", row.name);
        assert_eq!(of_axum.status, row.status, "{}", row.name);
        count += 1;
    }
    for (name, request, status, _) in handshakes::rows() {
        let answer = async |app: &App| {
            let mut wire = Wire::open(app.address).await;
            wire.send(&request).await;
            wire.answer().await
        };
        let (of_axum, of_actix) = (answer(&axum).await, answer(&actix).await);
        assert_eq!(of_axum.said(), of_actix.said(), "{name}");
        assert_eq!(of_axum.status, status, "{name}");
        count += 1;
    }
    let rows = frames::rows();
    join_all(rows.iter().map(async |(name, bytes, code)| {
        let of_axum = frames::closed_by(&axum, name, bytes).await;
        let of_actix = frames::closed_by(&actix, name, bytes).await;
        assert_eq!((of_axum, of_actix), (Some(*code), Some(*code)), "{name}");
    }))
    .await;
    count += rows.len();
    println!("{count} inputs");
    assert!(count >= 90);
}
