//! The server with axum, directly on hyper: `axum::serve` limits neither connections nor the time for a request's head, and its
//! graceful shutdown does not include WebSockets.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::header::{COOKIE, SET_COOKIE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use fieldsync::Engine;
use fieldsync_axum::Principal;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::logins::{Logins, PEOPLE, Person};
use crate::options::Options;
use crate::server::{
    ALLOWED_HEADERS, EXPOSED_HEADERS, HEAD_TIMEOUT, MAX_CONNECTIONS, METHODS, StopSignals, drain,
};

/// Serves connections. One that has become a WebSocket does not count towards the limit.
pub(crate) async fn serve(
    listener: TcpListener,
    engine: Engine,
    options: &Options,
    logins: Option<Arc<Logins>>,
) -> Result<(), String> {
    let app = app(&engine, options, logins)?;
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let (stopping, stop) = watch::channel(false);
    let mut stop_signals = StopSignals::listen();
    loop {
        let next = async {
            let permit = Arc::clone(&permits).acquire_owned().await;
            let permit = permit.expect("the semaphore is never closed");
            let (stream, _) = listener.accept().await?;
            Ok::<_, std::io::Error>((permit, stream))
        };
        let (permit, mut stream) = tokio::select! {
            accepted = next => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Probably no file descriptor is free. Connections that are closed free some.
                    eprintln!("can't accept a connection: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
            () = stop_signals.next() => break,
        };
        fieldsync_axum::limit_writes(&mut stream);
        let (service, mut stop) = (TowerToHyperService::new(app.clone()), stop.clone());
        tokio::spawn(async move {
            let mut http = hyper::server::conn::http1::Builder::new();
            http.timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT);
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
            drop(permit);
        });
    }
    drop(listener);
    stopping.send_replace(true);
    drain(&engine, stop_signals).await;
    // A request holds the permit of its connection until its reply is written.
    let all = permits.acquire_many(MAX_CONNECTIONS as u32);
    let _ = tokio::time::timeout(Duration::from_secs(1), all).await;
    Ok(())
}

fn app(engine: &Engine, options: &Options, logins: Option<Arc<Logins>>) -> Result<Router, String> {
    let app = match &logins {
        None => data(engine, ""),
        Some(logins) => {
            let windows = PEOPLE.iter().map(|person| window(engine, logins, person));
            windows.fold(Router::new(), Router::merge)
        }
    };
    let app = app
        .route("/healthz", fieldsync_axum::healthz(engine))
        .route("/readyz", fieldsync_axum::readyz(engine))
        .fallback(get(move |uri: Uri, headers: HeaderMap| {
            let logins = logins.clone();
            async move { page(logins.as_deref(), &uri, &headers) }
        }));
    Ok(if options.allow_origin.is_empty() {
        app
    } else {
        app.layer(cors(&options.allow_origin)?)
    })
}

/// The records and their changes, below this path.
fn data(engine: &Engine, base: &str) -> Router {
    Router::new()
        .nest(&format!("{base}/api"), fieldsync_axum::rest(engine))
        .route(&format!("{base}/api/"), fieldsync_axum::events(engine))
        .route(
            &format!("{base}/ws/user-updates/"),
            fieldsync_axum::live(engine),
        )
}

/// The same for a person, who has to be signed in.
fn window(engine: &Engine, logins: &Arc<Logins>, person: &'static Person) -> Router {
    let (signing_in, signing_out) = (Arc::clone(logins), Arc::clone(logins));
    let sign_in = async move || [(SET_COOKIE, signing_in.sign_in(person))];
    let engine_of_all = engine.clone();
    let sign_out = async move |Principal(principal): Principal| {
        if principal.name().is_none() {
            return Ok(StatusCode::UNAUTHORIZED);
        }
        signing_out.sign_out_everywhere(&engine_of_all).await?;
        Ok::<_, fieldsync_axum::Error>(StatusCode::NO_CONTENT)
    };
    let logins = Arc::clone(logins);
    let log_in = middleware::from_fn(move |mut request: Request, next: Next| {
        let principal = logins.principal(person, cookies(request.headers()));
        if let Some(principal) = principal {
            request.extensions_mut().insert(principal);
        }
        next.run(request)
    });
    let session = format!("{}session/", person.window);
    data(engine, person.window.trim_end_matches('/'))
        .route(&session, post(sign_in).delete(sign_out))
        .route_layer(log_in)
}

fn page(logins: Option<&Logins>, uri: &Uri, headers: &HeaderMap) -> Response {
    let Some(page) = super::page(logins, uri.path(), cookies(headers)) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let headers = page.headers().into_iter();
    let headers = headers.filter_map(|(name, value)| {
        let value = HeaderValue::from_str(value).ok()?;
        Some((HeaderName::from_static(name), value))
    });
    let headers: HeaderMap = headers.collect();
    (headers, page.text).into_response()
}

fn cookies(headers: &HeaderMap) -> &str {
    let cookies = headers
        .get(COOKIE)
        .and_then(|cookies| cookies.to_str().ok());
    cookies.unwrap_or_default()
}

/// Allows pages of these origins to call the API. The WebSocket checks the origin itself.
fn cors(origins: &[String]) -> Result<CorsLayer, String> {
    let origin = |origin: &String| {
        origin.parse::<HeaderValue>().map_err(|_| {
            format!(
                "--allow-origin {origin}: not an origin; expected one such as https://app.example"
            )
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
