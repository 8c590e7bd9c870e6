//! The REST routes.

use std::time::Duration;

use axum::Router;
use axum::body::{Body, BodyDataStream};
use axum::http::{Request, header};
use fieldsync::{Engine, handle};
use futures_util::StreamExt as _;
use tokio::time::timeout;

use crate::request::{head_of, response};

/// How long the body of a request that is refused is read on.
const REST_TIME: Duration = Duration::from_secs(1);

/// Every collection of the engine under the place where the routes are nested: `GET` and `POST /users/`, `GET`, `PATCH`
/// and `DELETE /users/1/`, each with or without the trailing slash.
pub fn rest<S: Clone + Send + Sync + 'static>(engine: &Engine) -> Router<S> {
    let engine = engine.clone();
    Router::new().fallback(move |request: Request<Body>| {
        let engine = engine.clone();
        async move {
            let (head, who) = head_of(&request);
            let asks_first = request.headers().contains_key(header::EXPECT);
            let mut body = request.into_body().into_data_stream();
            let reply = handle(&engine, who, head, &mut body).await;
            if reply.status >= 400 && !asks_first {
                tokio::spawn(timeout(REST_TIME, drop_rest(body)));
            }
            response(reply)
        }
    })
}

/// Reads on while the reply is sent: who still writes when the connection is closed may never see why it was (RFC 9112,
/// section 9.6).
async fn drop_rest(mut body: BodyDataStream) {
    while let Some(Ok(_)) = body.next().await {}
}
