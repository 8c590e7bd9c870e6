//! Reads the body of a request: its media type, its size, the time it takes, and its JSON.

use std::fmt::Display;
use std::future::poll_fn;
use std::pin::pin;
use std::time::Duration;

use ::http::StatusCode;
use ::http::header::{
    ACCEPT, ACCEPT_ENCODING, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap,
    HeaderValue,
};
use bytes::{Buf as _, BufMut as _, BytesMut};
use tokio::time::timeout_at;

use crate::http::headers::{ACCEPT_PATCH, only_value};
use crate::http::reply::Rejection;
use crate::http::request::Request;
use crate::metrics::Limit;
use crate::model::field_errors::FieldErrors;
use crate::model::record::Fields;
use crate::protocol::Problem;
use crate::schema::json::{JsonError, read_object};

/// How long a body may take to arrive, counted from the arrival of the request.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// The media types that a PATCH accepts, as `Accept-Patch` lists them.
pub(crate) const PATCH_TYPES: &str = "application/merge-patch+json, application/json";

/// What a body is for, which decides its media types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyFor {
    Post,
    Patch,
}

/// Reads the body as an object of fields.
pub(crate) async fn read_fields<B>(
    request: &Request<'_>,
    purpose: BodyFor,
    body: B,
) -> Result<Fields, Rejection>
where
    B: http_body::Body<Error: Display>,
{
    let headers = &request.parts.headers;
    check_media_type(headers, purpose)?;
    let limit = request.engine.settings().limits.body_bytes;
    let too_large = || {
        Limit::BodyBytes.reached();
        let detail = format!("the body is larger than {limit} bytes");
        close(StatusCode::PAYLOAD_TOO_LARGE, "too-large", &detail)
    };
    let announced = only_value(headers, CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|announced| announced > limit as u64) {
        return Err(too_large());
    }
    let mut read = BytesMut::new();
    let mut body = pin!(body);
    let deadline = (request.arrived + BODY_TIMEOUT).into();
    loop {
        let next = poll_fn(|context| body.as_mut().poll_frame(context));
        let frame = timeout_at(deadline, next).await.map_err(|_| {
            Limit::BodyTime.reached();
            let detail = "the body did not arrive in time";
            close(StatusCode::REQUEST_TIMEOUT, "timeout", detail)
        })?;
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|error| {
            tracing::debug!(%error, "the body of a request ended early");
            let detail = "the body ended before it was complete";
            Rejection::new(StatusCode::BAD_REQUEST, "malformed", detail)
        })?;
        // The other frames are trailers.
        if let Ok(data) = frame.into_data() {
            if read.len() + data.remaining() > limit {
                return Err(too_large());
            }
            read.put(data);
        }
    }
    read_object(&read).map_err(|error| match error {
        JsonError::Malformed(message) => {
            Rejection::new(StatusCode::BAD_REQUEST, "malformed", message)
        }
        JsonError::Field(name, message) => {
            let errors = FieldErrors::one(name, message);
            Problem::of_fields(StatusCode::UNPROCESSABLE_ENTITY, "invalid", errors).into()
        }
    })
}

/// A refusal after which the connection is closed, since the rest of the body is not read.
fn close(status: StatusCode, kind: &'static str, detail: &str) -> Rejection {
    Rejection::new(status, kind, detail).with(CONNECTION, HeaderValue::from_static("close"))
}

fn check_media_type(headers: &HeaderMap, purpose: BodyFor) -> Result<(), Rejection> {
    let (accepted, header, types): (&[&str], _, _) = match purpose {
        BodyFor::Post => (&["application/json"], ACCEPT, "application/json"),
        BodyFor::Patch => (
            &["application/merge-patch+json", "application/json"],
            ACCEPT_PATCH,
            PATCH_TYPES,
        ),
    };
    let refuse = |detail: &str| {
        Rejection::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported-media-type",
            detail,
        )
        .with(header, HeaderValue::from_static(types))
    };
    let mut codings = headers.get_all(CONTENT_ENCODING).iter();
    if codings.any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(refuse("Content-Encoding is not supported")
            .with(ACCEPT_ENCODING, HeaderValue::from_static("identity")));
    }
    let given = only_value(headers, CONTENT_TYPE)
        .and_then(|given| std::str::from_utf8(given.as_bytes()).ok())
        .unwrap_or_default();
    let mut parts = given.split(';').map(str::trim);
    let media_type = parts.next().unwrap_or_default().to_ascii_lowercase();
    let is_utf_8 = parts.all(|parameter| match parameter.split_once('=') {
        Some((name, value)) if name.eq_ignore_ascii_case("charset") => {
            value.trim_matches('"').eq_ignore_ascii_case("utf-8")
        }
        _ => true,
    });
    if accepted.contains(&media_type.as_str()) && is_utf_8 {
        Ok(())
    } else {
        Err(refuse(&format!(
            "Content-Type must be {}, in UTF-8",
            accepted.join(" or ")
        )))
    }
}
