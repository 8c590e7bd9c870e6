//! The REST routes.

use actix_web::dev::{AppService, HttpServiceFactory};
use actix_web::{HttpMessage as _, HttpRequest, HttpResponse, Route, web};
use fieldsync::Engine;
use fieldsync::adapter::{MountPath, handle, not_found_response};

use crate::principal::Principal;
use crate::translate::{RequestBody, parts_of, response};

/// What follows the name of a collection in a path. The app's own scopes have other names.
const TAIL: &str = "fieldsync_path";

/// The routes of every collection: `GET` and `POST /users/`, `GET`, `PATCH` and `DELETE /users/1/`, each with or without the
/// trailing slash. They are resources, which can be put into the app or any scope, before or after other services.
///
/// A path of no collection is left to the app. A collection that a caller may not know of is answered with the problem
/// `not-found`; where its name is a secret, [`not_found`] gives every other path the same answer.
///
/// `Location` and `Link` begin with the path of the scopes around. Where a middleware removes a prefix before the app sees a
/// request, it must say so by a [`MountPath`] in the request's extensions.
#[must_use]
pub fn rest(engine: &Engine) -> Rest {
    Rest(engine.clone())
}

/// The routes of every collection: see [`rest`].
#[derive(Debug)]
pub struct Rest(Engine);

impl HttpServiceFactory for Rest {
    fn register(self, config: &mut AppService) {
        for name in self.0.collection_names() {
            let engine = self.0.clone();
            let answer =
                move |principal: Principal, request: HttpRequest, payload: web::Payload| {
                    answer(engine.clone(), principal, request, payload)
                };
            let paths = vec![format!("/{name}"), format!("/{name}/{{{TAIL}:.*}}")];
            web::resource(paths)
                .default_service(web::to(answer))
                .register(config);
        }
    }
}

async fn answer(
    engine: Engine,
    principal: Principal,
    request: HttpRequest,
    payload: web::Payload,
) -> actix_web::Result<HttpResponse> {
    let (scopes, path) = split(&request);
    let mut parts = parts_of(&request, path)?;
    let removed = request
        .extensions()
        .get::<MountPath>()
        .cloned()
        .unwrap_or_default();
    parts
        .extensions
        .insert(MountPath::new(scopes).below(&removed));
    let mut body = RequestBody(payload.into_inner());
    let replied = handle(&engine, principal.0, parts, &mut body).await;
    Ok(response(replied, request.version(), body.0))
}

/// One stream of server-sent events for several topics, at a path of the app's choice: `GET /api/?topic=users&topic=orders/7`. A browser
/// opens six connections per host over HTTP/1.1, and an event stream takes one of them for good.
///
/// ```
/// # use actix_web::{App, web};
/// # fn mount(engine: &fieldsync::Engine) {
/// App::new()
///     .route("/api/", fieldsync_actix::events(engine))
///     .service(web::scope("/api").service(fieldsync_actix::rest(engine)));
/// # }
/// ```
pub fn events(engine: &Engine) -> Route {
    let engine = engine.clone();
    web::to(
        move |principal: Principal, request: HttpRequest, payload: web::Payload| {
            let engine = engine.clone();
            async move {
                let parts = parts_of(&request, "/")?;
                let mut body = RequestBody(payload.into_inner());
                let replied = handle(&engine, principal.0, parts, &mut body).await;
                Ok::<_, actix_web::Error>(response(replied, request.version(), body.0))
            }
        },
    )
}

/// The answer to a path at which nothing exists: the problem `not-found`, for
/// `.default_service(web::to(fieldsync_actix::not_found))`.
pub async fn not_found(request: HttpRequest, payload: web::Payload) -> HttpResponse {
    response(
        not_found_response(),
        request.version(),
        payload.into_inner(),
    )
}

/// The path as it was sent, before and from the name of the collection on. The router's own path is partly decoded, but not its
/// slashes.
fn split(request: &HttpRequest) -> (&str, &str) {
    let path = request.uri().path();
    let tail = request.match_info().get(TAIL);
    let slashes = 1 + tail.map_or(0, |tail| 1 + tail.matches('/').count());
    let mut from_the_end = path.rmatch_indices('/').map(|(at, _)| at);
    path.split_at(from_the_end.nth(slashes - 1).unwrap_or(0))
}
