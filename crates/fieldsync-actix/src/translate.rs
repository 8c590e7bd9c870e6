//! Requests and responses of actix, which has an older version of the `http` crate's types, and back.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use actix_web::body::{BodySize, BodyStream, MessageBody};
use actix_web::dev::Payload;
use actix_web::error::{ErrorBadRequest, PayloadError};
use actix_web::http::{ConnectionType, Version};
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use fieldsync::adapter::Body;
use futures_util::Stream as _;
use http::header::{CONNECTION, CONTENT_LENGTH, HeaderMap, UPGRADE};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Response, StatusCode, Uri};
use http_body::{Body as _, Frame};

use crate::socket::Outgoing;

/// The head of a request, with this path.
pub(crate) fn parts_of(request: &HttpRequest, path: &str) -> actix_web::Result<Parts> {
    let uri = match request.uri().query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let (mut parts, ()) = http::Request::new(()).into_parts();
    parts.method =
        Method::from_bytes(request.method().as_str().as_bytes()).map_err(ErrorBadRequest)?;
    parts.uri = Uri::try_from(uri).map_err(ErrorBadRequest)?;
    if request.version() == Version::HTTP_10 {
        parts.version = http::Version::HTTP_10;
    }
    parts.headers.reserve(request.headers().len());
    for (name, value) in request.headers() {
        let name = HeaderName::from_bytes(name.as_str().as_bytes()).map_err(ErrorBadRequest)?;
        let value = HeaderValue::from_bytes(value.as_bytes()).map_err(ErrorBadRequest)?;
        parts.headers.append(name, value);
    }
    Ok(parts)
}

/// The body of a request.
pub(crate) struct RequestBody(pub(crate) Payload);

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = PayloadError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, PayloadError>>> {
        let bytes = ready!(Pin::new(&mut self.0).poll_next(context));
        Poll::Ready(bytes.map(|bytes| bytes.map(Frame::data)))
    }
}

/// The response to a request of this version, with this unread payload.
pub(crate) fn response(
    response: Response<Body>,
    version: Version,
    unread: Payload,
) -> HttpResponse {
    let (parts, body) = response.into_parts();
    // The response to a HEAD says how long its body would be.
    let announced = parts.headers.get(CONTENT_LENGTH);
    let announced = announced.and_then(|length| length.to_str().ok()?.parse().ok());
    let size = match announced.or(body.size_hint().exact()) {
        Some(length) => BodySize::Sized(length),
        None => BodySize::Stream,
    };
    let body = ResponseBody {
        body,
        size,
        _unread: (size != BodySize::Stream).then_some(unread),
    };
    let mut response = with_head(parts.status, &parts.headers, body);
    if size == BodySize::Stream && version == Version::HTTP_10 {
        // Such a client knows no chunks: the body ends with the connection (RFC 9112, section 6.3).
        response.head_mut().no_chunking(true);
        response
            .head_mut()
            .set_connection_type(ConnectionType::Close);
    }
    response
}

/// The response that opens a WebSocket, followed by the bytes that the connection writes.
pub(crate) fn switching_protocols(response: Response<Body>, outgoing: Outgoing) -> HttpResponse {
    let (parts, _) = response.into_parts();
    with_head(parts.status, &parts.headers, BodyStream::new(outgoing))
}

fn with_head(
    status: StatusCode,
    headers: &HeaderMap,
    body: impl MessageBody + 'static,
) -> HttpResponse {
    let status = actix_web::http::StatusCode::from_u16(status.as_u16());
    let mut response = HttpResponse::build(status.expect("a status has three digits"));
    for (name, value) in headers {
        match name {
            &CONNECTION if value == "close" => drop(response.force_close()),
            // actix writes these by itself.
            &CONNECTION | &CONTENT_LENGTH => {}
            &UPGRADE => drop(response.upgrade(value.as_bytes())),
            name => drop(response.append_header((name.as_str(), value.as_bytes()))),
        }
    }
    response.body(body)
}

/// The body of a response.
///
/// It keeps what was not read of the request until the response is sent: then actix closes the connection. If it was
/// dropped, actix would read it to its end, however long that takes.
struct ResponseBody {
    body: Body,
    size: BodySize,
    _unread: Option<Payload>,
}

impl MessageBody for ResponseBody {
    type Error = io::Error;

    fn size(&self) -> BodySize {
        self.size
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Bytes>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        // Every frame of ours is data.
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.into_data().unwrap_or_default())))
    }
}
