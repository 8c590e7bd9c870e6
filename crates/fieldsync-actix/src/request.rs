//! actix's requests and replies as the core's, and back.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, BodyStream, MessageBody};
use actix_web::dev::Payload;
use actix_web::http::{StatusCode, Version};
use actix_web::{HttpMessage as _, HttpRequest, HttpResponse, HttpResponseBuilder};
use bytes::Bytes;
use fieldsync::{Principal, Reply, RequestHead};

use crate::socket::Outgoing;

/// The request's head, and who makes it.
pub(crate) fn head_of(request: &HttpRequest) -> (RequestHead, Principal) {
    let (base, path) = split(request);
    let headers = request.headers().iter();
    let head = RequestHead {
        method: request.method().as_str().to_owned(),
        base: base.to_owned(),
        path: path.to_owned(),
        query: request.uri().query().map(str::to_owned),
        headers: headers
            .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec().into()))
            .collect(),
        is_http_1_0: request.version() == Version::HTTP_10,
    };
    let who = request.extensions().get::<Principal>().cloned();
    (head, who.unwrap_or_default())
}

/// The path as it came, before and after the place of the scope. The router's own is decoded in part, but not its slashes.
fn split(request: &HttpRequest) -> (&str, &str) {
    let routed = request.match_info();
    let scope = routed.as_str().len() - routed.unprocessed().len();
    let segments = routed.as_str()[..scope].matches('/').count();
    let path = request.uri().path();
    let mut slashes = path.match_indices('/').map(|(at, _)| at);
    path.split_at(slashes.nth(segments).unwrap_or(path.len()))
}

/// The core's reply as actix's, to a request of which this is what was not read.
pub(crate) fn response(reply: Reply, unread: Payload) -> HttpResponse {
    let (mut response, headers) = (builder(reply.status), reply.headers);
    let mut length = None;
    for (name, value) in headers {
        match (name, &*value) {
            ("connection", "close") => drop(response.force_close()),
            // Goes with what it is upgraded to.
            ("connection", _) => {}
            ("upgrade", _) => drop(response.upgrade(value)),
            // Of a HEAD, whose body is not sent.
            ("content-length", _) => length = value.parse().ok(),
            (name, _) => drop(response.append_header((name, value))),
        }
    }
    match reply.body {
        fieldsync::Body::Events(events) => response.streaming(*events),
        fieldsync::Body::Whole(bytes) => response.body(Whole {
            length: length.unwrap_or(bytes.len() as u64),
            bytes,
            _unread: unread,
        }),
    }
}

/// A body, and what was not read of the request's.
///
/// That is kept until the reply is out: then actix closes the connection. Of a body that was dropped it would wait for the
/// end, however long that takes.
struct Whole {
    length: u64,
    bytes: Bytes,
    _unread: Payload,
}

impl MessageBody for Whole {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.length)
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Infallible>>> {
        let bytes = std::mem::take(&mut self.bytes);
        Poll::Ready((!bytes.is_empty()).then_some(Ok(bytes)))
    }
}

/// The reply that opens a socket, and what is sent on it.
pub(crate) fn switching_protocols(reply: Reply, body: Outgoing) -> HttpResponse {
    let mut response = builder(reply.status);
    for (name, value) in reply.headers {
        match name {
            "connection" => {}
            "upgrade" => drop(response.upgrade(value)),
            name => drop(response.append_header((name, value))),
        }
    }
    // `streaming` would give it a media type.
    response.body(BodyStream::new(body))
}

fn builder(status: u16) -> HttpResponseBuilder {
    let status = StatusCode::from_u16(status);
    HttpResponse::build(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR))
}
