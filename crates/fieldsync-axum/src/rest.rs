//! The REST routes.

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use fieldsync::{Engine, handle};

use crate::request::{head_of, response};

/// Every collection of the engine under the place where the routes are nested: `GET` and `POST /users/`, `GET`, `PATCH`
/// and `DELETE /users/1/`, each with or without the trailing slash.
pub fn rest<S: Clone + Send + Sync + 'static>(engine: &Engine) -> Router<S> {
    let engine = engine.clone();
    Router::new().fallback(move |request: Request<Body>| {
        let engine = engine.clone();
        async move {
            let (head, who) = head_of(&request);
            response(handle(&engine, who, head, request.into_body().into_data_stream()).await)
        }
    })
}
