//! The server with actix-web.

use std::sync::Arc;

use actix_cors::Cors;
use actix_web::dev::{Service as _, ServiceRequest};
use actix_web::http::{StatusCode, header};
use actix_web::middleware::Condition;
use actix_web::{App, HttpResponse, HttpServer, web};
use fieldsync::Engine;
use tokio::net::TcpListener;

use crate::server::{ALLOWED_HEADERS, DRAIN_TIMEOUT, EXPOSED_HEADERS, METHODS};
use crate::site::{Answer, HEADERS, Head, Site};

pub(crate) async fn serve(
    listener: TcpListener,
    engine: Engine,
    site: Arc<Site>,
    origins: &[String],
) -> Result<(), String> {
    let failed = |error: std::io::Error| error.to_string();
    let listener = listener.into_std().map_err(failed)?;
    let (app_engine, origins) = (engine.clone(), origins.to_vec());
    let app = move || {
        let site = Arc::clone(&site);
        App::new()
            .wrap_fn(move |request, app| {
                let answer = answer(&site, &request);
                let next = match answer {
                    None => Ok(app.call(request)),
                    Some(answer) => Err(request.into_response(response(answer))),
                };
                async move {
                    match next {
                        Ok(next) => next.await,
                        Err(response) => Ok(response),
                    }
                }
            })
            .wrap(Condition::new(!origins.is_empty(), cors(&origins)))
            .service(
                web::scope("/api")
                    .service(fieldsync_actix::rest(&app_engine))
                    .default_service(web::to(fieldsync_actix::not_found)),
            )
            .route("/live", fieldsync_actix::live(&app_engine))
            .route("/healthz", fieldsync_actix::healthz(&app_engine))
            .route("/readyz", fieldsync_actix::readyz(&app_engine))
    };
    let server = HttpServer::new(app)
        .on_connect(fieldsync_actix::limit_writes)
        .h1_allow_half_closed(false)
        .disable_signals()
        .listen(listener)
        .map_err(failed)?
        .run();
    let served = fieldsync_actix::run(server, &engine, DRAIN_TIMEOUT).await;
    served.map_err(failed)
}

fn answer(site: &Site, request: &ServiceRequest) -> Option<Answer> {
    let text = |name| request.headers().get(name)?.to_str().ok();
    // actix has another version of the http crate's types.
    let method = request.method().as_str().parse().ok()?;
    site.answer(&Head {
        method: &method,
        path: request.path(),
        host: text(header::HOST),
        origin: text(header::ORIGIN),
    })
}

fn response(answer: Answer) -> HttpResponse {
    let status = StatusCode::from_u16(answer.status.as_u16()).unwrap_or_default();
    let mut response = HttpResponse::build(status);
    for header in HEADERS {
        response.append_header(header);
    }
    response.content_type(answer.content_type).body(answer.body)
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
