//! The server with actix-web, which has both limits. The demo handles the signals, because actix's shutdown does not include
//! WebSockets.

use std::future::ready;
use std::sync::Arc;

use actix_cors::Cors;
use actix_web::dev::{HttpServiceFactory, Service as _, ServiceRequest};
use actix_web::http::header::{COOKIE, HeaderMap, SET_COOKIE};
use actix_web::middleware::Condition;
use actix_web::{
    App, FromRequest, Handler, HttpMessage as _, HttpRequest, HttpResponse, HttpServer, Resource,
    Responder, guard, web,
};
use fieldsync::Engine;
use fieldsync_actix::Principal;
use tokio::net::TcpListener;

use crate::logins::{Logins, PEOPLE, Person};
use crate::options::Options;
use crate::server::{
    ALLOWED_HEADERS, DRAIN_TIMEOUT, EXPOSED_HEADERS, HEAD_TIMEOUT, MAX_CONNECTIONS, METHODS,
    StopSignals, drain,
};

pub(crate) async fn serve(
    listener: TcpListener,
    engine: Engine,
    options: &Options,
    logins: Option<Arc<Logins>>,
) -> Result<(), String> {
    let failed = |error: std::io::Error| error.to_string();
    let listener = listener.into_std().map_err(failed)?;
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let (app_engine, origins) = (engine.clone(), options.allow_origin.clone());
    let app = move || {
        let engine = app_engine.clone();
        let mut app = App::new()
            .app_data(web::Data::new(logins.clone()))
            .wrap(Condition::new(!origins.is_empty(), cors(&origins)));
        app = match &logins {
            None => app.configure(|config| data(config, &engine)),
            Some(logins) => PEOPLE.iter().fold(app, |app, person| {
                app.service(window(&engine, logins, person))
            }),
        };
        app.route("/healthz", fieldsync_actix::healthz(&engine))
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

/// The records and their changes.
fn data(config: &mut web::ServiceConfig, engine: &Engine) {
    config
        .route("/api/", fieldsync_actix::events(engine))
        .service(web::scope("/api").service(fieldsync_actix::rest(engine)))
        .route("/ws/user-updates/", fieldsync_actix::live(engine));
}

/// The same for a person, who has to be signed in, beside the person's page.
fn window(
    engine: &Engine,
    logins: &Arc<Logins>,
    person: &'static Person,
) -> impl HttpServiceFactory + use<> {
    let signing_in = Arc::clone(logins);
    let sign_in = move || {
        let cookie = signing_in.sign_in(person);
        ready(
            HttpResponse::Ok()
                .insert_header((SET_COOKIE, cookie))
                .finish(),
        )
    };
    let (engine_of_all, signing_out) = (engine.clone(), Arc::clone(logins));
    let sign_out = move |Principal(principal): Principal| {
        let (engine, logins) = (engine_of_all.clone(), Arc::clone(&signing_out));
        async move {
            if principal.name().is_none() {
                return Ok(HttpResponse::Unauthorized().finish());
            }
            logins.sign_out_everywhere(&engine).await?;
            Ok::<_, fieldsync_actix::Error>(HttpResponse::NoContent().finish())
        }
    };
    let logins = Arc::clone(logins);
    web::scope(person.window.trim_end_matches('/'))
        .wrap_fn(move |request: ServiceRequest, service| {
            if let Some(principal) = logins.principal(person, cookies(request.headers())) {
                request.extensions_mut().insert(principal);
            }
            service.call(request)
        })
        .configure(|config| data(config, engine))
        .service(
            web::resource("/session/")
                .route(web::post().to(sign_in))
                .route(web::delete().to(sign_out)),
        )
        .service(read("/", page))
}

/// A resource for GET and HEAD. actix does not add HEAD itself, nor 405 for other methods.
fn read<A: FromRequest + 'static>(
    path: &str,
    handler: impl Handler<A, Output: Responder + 'static>,
) -> Resource {
    let reads = guard::Any(guard::Get()).or(guard::Head());
    web::resource(path).route(web::route().guard(reads).to(handler))
}

async fn page(request: HttpRequest, logins: web::Data<Option<Arc<Logins>>>) -> HttpResponse {
    let logins = logins.get_ref().as_deref();
    let Some(page) = super::page(logins, request.path(), cookies(request.headers())) else {
        return HttpResponse::NotFound().finish();
    };
    let mut response = HttpResponse::Ok();
    for header in page.headers() {
        response.insert_header(header);
    }
    response.body(page.text)
}

fn cookies(headers: &HeaderMap) -> &str {
    let cookies = headers
        .get(COOKIE)
        .and_then(|cookies| cookies.to_str().ok());
    cookies.unwrap_or_default()
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
