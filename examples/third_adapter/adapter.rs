//! fieldsync in poem, a framework that it knows nothing of: types are translated, and nothing else. The requests' answers,
//! the handshake's checks and the sockets are the core's.

use fieldsync::{Engine, Principal, Reply, RequestHead, accept, handle, serve};
use futures_util::StreamExt as _;
use poem::http::header::{HeaderName, HeaderValue};
use poem::http::{StatusCode, Version};
use poem::{Body, Endpoint, Request, Response};

/// The REST routes: `Route::new().nest("/api", Rest(engine))`.
pub(crate) struct Rest(pub(crate) Engine);

/// The WebSocket: `Route::new().at("/live", Live(engine))`.
pub(crate) struct Live(pub(crate) Engine);

impl Endpoint for Rest {
    type Output = Response;

    async fn call(&self, mut request: Request) -> poem::Result<Response> {
        let (head, who) = head_of(&request);
        let body = request.take_body().into_bytes_stream();
        Ok(response(handle(&self.0, who, head, body).await))
    }
}

impl Endpoint for Live {
    type Output = Response;

    async fn call(&self, request: Request) -> poem::Result<Response> {
        let (head, who) = head_of(&request);
        let (reply, accepted) = accept(&self.0, &head);
        if let Some(accepted) = accepted {
            let upgrade = request.take_upgrade()?;
            let engine = self.0.clone();
            tokio::spawn(async move {
                // Who left before the socket was open needs none.
                if let Ok(io) = upgrade.await {
                    serve(engine, accepted, who, io).await;
                }
            });
        }
        Ok(response(reply))
    }
}

/// The request's head, and who makes it: what the app's login left among the request's data.
fn head_of(request: &Request) -> (RequestHead, Principal) {
    let (path, original) = (request.uri().path(), request.original_uri().path());
    let headers = request.headers().iter();
    let head = RequestHead {
        method: request.method().as_str().to_owned(),
        // `nest` strips the prefix; `Location` and `Link` need it.
        base: original.strip_suffix(path).unwrap_or_default().to_owned(),
        path: path.to_owned(),
        query: request.uri().query().map(str::to_owned),
        headers: headers
            .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec().into()))
            .collect(),
        is_http_1_0: request.version() == Version::HTTP_10,
    };
    let who = request.data::<Principal>().cloned();
    (head, who.unwrap_or_default())
}

/// The core's reply as poem's.
fn response(reply: Reply) -> Response {
    let status = StatusCode::from_u16(reply.status);
    let mut response = Response::builder()
        .status(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR))
        .body(match reply.body {
            fieldsync::Body::Whole(bytes) => Body::from_bytes(bytes),
            fieldsync::Body::Events(events) => {
                let events = events.map(|Ok(event)| Ok::<_, std::io::Error>(event));
                Body::from_bytes_stream(events)
            }
        });
    for (name, value) in reply.headers {
        if let Ok(value) = HeaderValue::from_str(&value) {
            let headers = response.headers_mut();
            headers.append(HeaderName::from_static(name), value);
        }
    }
    response
}
