//! The routes for the probes of load balancers and orchestrators.

use actix_web::error::ErrorBadRequest;
use actix_web::{HttpRequest, Route, web};
use fieldsync::Engine;
use fieldsync::adapter::{Probe, probe};
use http::Method;

use crate::translate::response;

/// Whether the process lives, at a path of the app's choice: 200, also while the engine drains or the store is down.
///
/// ```
/// # use actix_web::App;
/// # fn mount(engine: &fieldsync::Engine) {
/// App::new()
///     .route("/healthz", fieldsync_actix::healthz(engine))
///     .route("/readyz", fieldsync_actix::readyz(engine));
/// # }
/// ```
pub fn healthz(engine: &Engine) -> Route {
    route(engine, Probe::Live)
}

/// Whether the process can serve: 200, or 503 with the cause while the engine drains or the store does not answer within two seconds.
pub fn readyz(engine: &Engine) -> Route {
    route(engine, Probe::Ready)
}

fn route(engine: &Engine, asked: Probe) -> Route {
    let engine = engine.clone();
    web::to(move |request: HttpRequest, payload: web::Payload| {
        let engine = engine.clone();
        async move {
            let method = request.method().as_str().as_bytes();
            let method = Method::from_bytes(method).map_err(ErrorBadRequest)?;
            let answered = probe(&engine, asked, &method).await;
            let unread = payload.into_inner();
            Ok::<_, actix_web::Error>(response(answered, request.version(), unread))
        }
    })
}
