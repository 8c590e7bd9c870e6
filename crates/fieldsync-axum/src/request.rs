//! axum's requests and replies as the core's, and back.

use axum::body::Body;
use axum::extract::OriginalUri;
use axum::http::{HeaderName, HeaderValue, Request, Response, StatusCode, Version};
use axum::response::IntoResponse as _;
use fieldsync::{Principal, Reply, RequestHead};

/// The request's head, and who makes it.
pub(crate) fn head_of(request: &Request<Body>) -> (RequestHead, Principal) {
    let path = request.uri().path();
    // `nest` strips the prefix from the URI; `Location` and `Link` need it.
    let original = request
        .extensions()
        .get::<OriginalUri>()
        .map_or(path, |uri| uri.path());
    let headers = request.headers().iter();
    let head = RequestHead {
        method: request.method().as_str().to_owned(),
        base: original.strip_suffix(path).unwrap_or_default().to_owned(),
        path: path.to_owned(),
        query: request.uri().query().map(str::to_owned),
        headers: headers
            .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec().into()))
            .collect(),
        is_http_1_0: request.version() == Version::HTTP_10,
    };
    (
        head,
        request
            .extensions()
            .get::<Principal>()
            .cloned()
            .unwrap_or_default(),
    )
}

/// The core's reply as axum's.
pub(crate) fn response(reply: Reply) -> Response<Body> {
    let body = match reply.body {
        fieldsync::Body::Whole(bytes) => Body::from(bytes),
        fieldsync::Body::Events(events) => Body::from_stream(events),
    };
    let mut response = Response::new(body);
    let Ok(status) = StatusCode::from_u16(reply.status) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    *response.status_mut() = status;
    for (name, value) in reply.headers {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response
                .headers_mut()
                .append(HeaderName::from_static(name), value);
        }
    }
    response
}
