//! The two pages: one text, filled in for each window, and what they load. All of it is in the binary.

use axum::Router;
use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

const SCRIPT: &str = "text/javascript; charset=utf-8";

/// What the pages load, with its media type.
macro_rules! files {
    ($($media_type:expr => $($name:literal)+;)+) => {
        &[$($(($name, $media_type, include_str!(concat!("pages/", $name)))),+),+]
    };
}
const FILES: &[(&str, &str, &str)] = files! {
    SCRIPT => "window.js" "card.js" "field_view.js" "connection_view.js" "create_form.js" "draft.js" "deletion.js"
        "problem.js" "fieldsync.js" "records.js" "close_codes.js" "saver.js" "retrier.js" "rest.js" "idempotency_key.js"
        "backoff.js" "clock.js";
    "text/css; charset=utf-8" => "style.css";
    "image/svg+xml" => "icon.svg";
};

/// The pages load and call nothing but their own server.
const POLICY: &str =
    "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

pub(crate) fn routes() -> Router {
    let first = || window("1", "2", "First Name");
    let second = || window("2", "1", "Last Name");
    Router::new()
        .route("/", get(async move || first()))
        .route("/window1/", get(async move || first()))
        .route("/window2/", get(async move || second()))
        .route("/pages/{file}", get(file))
}

fn window(number: &str, other: &str, edits: &str) -> Response {
    let page = include_str!("pages/window.html");
    let page = page
        .replace("{{number}}", number)
        .replace("{{other}}", other)
        .replace("{{edits}}", edits);
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, page).into_response()
}

async fn file(Path(name): Path<String>) -> Response {
    match FILES.iter().find(|(known, ..)| *known == name) {
        Some((_, media_type, text)) => (
            [
                (header::CONTENT_TYPE, *media_type),
                (header::CACHE_CONTROL, "no-cache"),
            ],
            *text,
        )
            .into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
