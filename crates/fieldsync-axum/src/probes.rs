//! The routes for the probes of load balancers and orchestrators.

use axum::http::Method;
use axum::routing::{MethodRouter, any};
use fieldsync::Engine;
use fieldsync::adapter::{Probe, probe};

/// Whether the process lives, at a path of the app's choice: 200, also while the engine drains or the store is down.
///
/// ```
/// # use axum::Router;
/// # fn mount(engine: &fieldsync::Engine) -> Router {
/// Router::new()
///     .route("/healthz", fieldsync_axum::healthz(engine))
///     .route("/readyz", fieldsync_axum::readyz(engine))
/// # }
/// ```
pub fn healthz<S: Clone + Send + Sync + 'static>(engine: &Engine) -> MethodRouter<S> {
    route(engine, Probe::Live)
}

/// Whether the process can serve: 200, or 503 with the cause while the engine drains or the store does not answer within two seconds.
pub fn readyz<S: Clone + Send + Sync + 'static>(engine: &Engine) -> MethodRouter<S> {
    route(engine, Probe::Ready)
}

fn route<S: Clone + Send + Sync + 'static>(engine: &Engine, asked: Probe) -> MethodRouter<S> {
    let engine = engine.clone();
    any(move |method: Method| async move { probe(&engine, asked, &method).await })
}
