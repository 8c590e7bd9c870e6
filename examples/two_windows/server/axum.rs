//! Under axum, on hyper: `axum::serve` has neither of the limits, and its graceful shutdown knows nothing of sockets.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use fieldsync::Engine;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::options::Options;
use crate::pages;
use crate::server::{
    ALLOWED_HEADERS, CONNECTIONS, EXPOSED_HEADERS, HEAD_TIME, METHODS, StopSignals, drain, health,
};

/// A socket frees its place among the connections when it is open.
pub(crate) async fn serve(
    listener: TcpListener,
    engine: Engine,
    options: &Options,
) -> Result<(), String> {
    let app = app(&engine, options)?;
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let (stopping, stop) = watch::channel(false);
    let mut stop_signals = StopSignals::listen();
    loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await;
            let place = place.expect("the semaphore is never closed");
            let (stream, _) = listener.accept().await?;
            Ok::<_, std::io::Error>((place, stream))
        };
        let (place, stream) = tokio::select! {
            accepted = next => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of descriptors, most likely: some will be free again.
                    eprintln!("a connection could not be accepted: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
            () = stop_signals.next() => break,
        };
        let _ = stream.set_nodelay(true);
        let (service, mut stop) = (TowerToHyperService::new(app.clone()), stop.clone());
        tokio::spawn(async move {
            let mut http = hyper::server::conn::http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME);
            let connection = http
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades();
            let mut connection = std::pin::pin!(connection);
            tokio::select! {
                _ = connection.as_mut() => {}
                () = async { drop(stop.wait_for(|stopping| *stopping).await) } => {
                    connection.as_mut().graceful_shutdown();
                    let _ = connection.await;
                }
            }
            drop(place);
        });
    }
    drop(listener);
    stopping.send_replace(true);
    drain(&engine, stop_signals).await;
    // A request holds its connection's place until its reply is written.
    let all = places.acquire_many(CONNECTIONS as u32);
    let _ = tokio::time::timeout(Duration::from_secs(1), all).await;
    Ok(())
}

fn app(engine: &Engine, options: &Options) -> Result<Router, String> {
    let healthy = engine.clone();
    let health = async move || {
        let (status, text) = health(&healthy);
        let status = StatusCode::from_u16(status).unwrap_or_default();
        (status, text)
    };
    let app = Router::new()
        .nest("/api", fieldsync_axum::rest(engine))
        .route("/ws/user-updates/", fieldsync_axum::live(engine))
        .route("/healthz", get(health))
        .fallback(get(page));
    Ok(if options.allow_origin.is_empty() {
        app
    } else {
        app.layer(cors(&options.allow_origin)?)
    })
}

async fn page(uri: Uri) -> Response {
    match pages::find(uri.path()) {
        Some(page) => (page.headers(), page.text).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// Lets pages of the allowed origins call the API. The socket checks its origin by itself.
fn cors(origins: &[String]) -> Result<CorsLayer, String> {
    let origin = |origin: &String| {
        origin.parse::<HeaderValue>().map_err(|_| {
            format!("--allow-origin {origin}: that is no origin; it is like https://app.example")
        })
    };
    let origins = origins.iter().map(origin).collect::<Result<Vec<_>, _>>()?;
    let methods = METHODS.map(|method| Method::from_bytes(method.as_bytes()).unwrap_or_default());
    Ok(CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_methods(methods)
        .allow_headers(ALLOWED_HEADERS.map(HeaderName::from_static))
        .expose_headers(EXPOSED_HEADERS.map(HeaderName::from_static)))
}
