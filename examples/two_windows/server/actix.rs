//! The server with actix-web, which has both limits. The demo handles the signals, because actix's shutdown does not include
//! WebSockets.

use actix_cors::Cors;
use actix_web::middleware::Condition;
use actix_web::{
    App, FromRequest, Handler, HttpResponse, HttpServer, Resource, Responder, guard, web,
};
use fieldsync::Engine;
use tokio::net::TcpListener;

use crate::options::Options;
use crate::pages;
use crate::server::{
    ALLOWED_HEADERS, DRAIN_TIMEOUT, EXPOSED_HEADERS, HEAD_TIMEOUT, MAX_CONNECTIONS, METHODS,
    StopSignals, drain,
};

pub(crate) async fn serve(
    listener: TcpListener,
    engine: Engine,
    options: &Options,
) -> Result<(), String> {
    let failed = |error: std::io::Error| error.to_string();
    let listener = listener.into_std().map_err(failed)?;
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let (app_engine, origins) = (engine.clone(), options.allow_origin.clone());
    let app = move || {
        let engine = app_engine.clone();
        App::new()
            .wrap(Condition::new(!origins.is_empty(), cors(&origins)))
            .route("/api/", fieldsync_actix::events(&engine))
            .service(web::scope("/api").service(fieldsync_actix::rest(&engine)))
            .route("/ws/user-updates/", fieldsync_actix::live(&engine))
            .route("/healthz", fieldsync_actix::healthz(&engine))
            .route("/readyz", fieldsync_actix::readyz(&engine))
            .service(read("/{path:.*}", page))
    };
    let server = HttpServer::new(app)
        .workers(workers)
        .max_connections(MAX_CONNECTIONS / workers)
        .client_request_timeout(HEAD_TIMEOUT)
        .on_connect(fieldsync_actix::limit_writes)
        .h1_allow_half_closed(false)
        .shutdown_timeout(DRAIN_TIMEOUT.as_secs())
        .disable_signals()
        .listen(listener)
        .map_err(failed)?
        .run();
    let mut stop_signals = StopSignals::listen();
    let (stopping, serving) = (server.handle(), tokio::spawn(server));
    stop_signals.next().await;
    tokio::join!(drain(&engine, stop_signals), stopping.stop(true));
    let served = serving.await.map_err(|error| error.to_string())?;
    served.map_err(failed)
}

/// A resource for GET and HEAD. actix does not add HEAD itself, nor 405 for other methods.
fn read<A: FromRequest + 'static>(
    path: &str,
    handler: impl Handler<A, Output: Responder + 'static>,
) -> Resource {
    let reads = guard::Any(guard::Get()).or(guard::Head());
    web::resource(path).route(web::route().guard(reads).to(handler))
}

async fn page(uri: actix_web::http::Uri) -> HttpResponse {
    let Some(page) = pages::find(uri.path()) else {
        return HttpResponse::NotFound().finish();
    };
    let mut response = HttpResponse::Ok();
    for header in page.headers() {
        response.insert_header(header);
    }
    response.body(page.text)
}

/// Allows pages of these origins to call the API. The WebSocket checks the origin itself.
fn cors(origins: &[String]) -> Cors {
    origins
        .iter()
        .fold(Cors::default(), |cors, origin| cors.allowed_origin(origin))
        .allowed_methods(METHODS)
        .allowed_headers(ALLOWED_HEADERS)
        .expose_headers(EXPOSED_HEADERS)
}
