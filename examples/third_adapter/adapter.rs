//! An adapter for poem, a framework that fieldsync does not know. It passes requests to the core and sends the core's
//! responses. poem converts from and to the `http` crate's types, except for the body of a response.

use fieldsync::adapter::{Body, MountPath, accept, handle, serve};
use fieldsync::{Engine, Principal};
use http_body_util::combinators::BoxBody;
use poem::{Endpoint, Request, Response};

/// The REST routes: `Route::new().nest("/api", Rest(engine))`.
pub(crate) struct Rest(pub(crate) Engine);

/// The WebSocket: `Route::new().at("/live", Live(engine))`.
pub(crate) struct Live(pub(crate) Engine);

impl Endpoint for Rest {
    type Output = Response;

    async fn call(&self, request: Request) -> poem::Result<Response> {
        let principal = principal_of(&request);
        let mount_path =
            MountPath::removed_from(request.original_uri().path(), request.uri().path());
        let (mut parts, body) = http::Request::from(request).into_parts();
        parts.extensions.insert(mount_path);
        Ok(poem_response(handle(&self.0, principal, parts, body).await))
    }
}

impl Endpoint for Live {
    type Output = Response;

    async fn call(&self, request: Request) -> poem::Result<Response> {
        let (principal, upgrade) = (principal_of(&request), request.take_upgrade());
        let (parts, _) = http::Request::from(request).into_parts();
        let (response, accepted) = accept(&self.0, &principal, &parts);
        if let Some(accepted) = accepted {
            let (engine, upgrade) = (self.0.clone(), upgrade?);
            tokio::spawn(async move {
                // This fails if the client disconnects before the WebSocket is open.
                if let Ok(io) = upgrade.await {
                    serve(engine, accepted, principal, io).await;
                }
            });
        }
        Ok(poem_response(response))
    }
}

/// Who makes the request: what the app's login has put into its extensions.
fn principal_of(request: &Request) -> Principal {
    request.data::<Principal>().cloned().unwrap_or_default()
}

/// poem could convert the response by itself, but would send every body in chunks.
fn poem_response(response: http::Response<Body>) -> Response {
    let (parts, body) = response.into_parts();
    let mut response = Response::from(poem::Body::from(BoxBody::new(body)));
    response.set_status(parts.status);
    *response.headers_mut() = parts.headers;
    response
}
