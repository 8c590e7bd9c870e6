//! GET and HEAD: one record, a page of a collection, or a stream of events.

use ::http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, LINK,
};
use ::http::{Method, Response, StatusCode};
use bytes::Bytes;

use crate::engine::permissions::Permissions;
use crate::http::body::Body;
use crate::http::conditional::{if_match, if_none_match};
use crate::http::event_stream::{EventStream, retry};
use crate::http::headers::{
    FIELDSYNC_CURSOR, LAST_EVENT_ID, X_ACCEL_BUFFERING, list_items, only_value,
};
use crate::http::reply::{Rejection, WithHeader as _, empty, json, to_json};
use crate::http::request::{Request, percent_encode};
use crate::live::since::Since;
use crate::model::cursor::Cursor;
use crate::model::entity_tag::entity_tag_of;
use crate::model::record::RecordKey;
use crate::model::refusal::Refusal;
use crate::model::topic::Topic;
use crate::protocol::Problem;
use crate::schema::collection::Collection;

/// The largest page, and the size of a page if the request does not give one.
const MAX_PAGE_RECORDS: usize = 1000;
const EVENT_STREAM: &str = "text/event-stream";

pub(crate) async fn page(
    request: &Request<'_>,
    collection: &Collection,
    permissions: &Permissions,
) -> Result<Response<Body>, Rejection> {
    let limit = match request.parameter("limit")? {
        None => MAX_PAGE_RECORDS,
        Some(text) => Some(text)
            .filter(|text| !text.starts_with('+'))
            .and_then(|text| text.parse().ok())
            .filter(|limit| (1..=MAX_PAGE_RECORDS).contains(limit))
            .ok_or_else(|| Rejection::malformed("limit", "must be an integer from 1 to 1000"))?,
    };
    let after = match request.parameter("after")? {
        None => None,
        Some(text) => {
            let id = collection.parse_id(&text);
            Some(id.ok_or_else(|| Rejection::malformed("after", "must be the id of a record"))?)
        }
    };
    let page = request.caller.page(after, limit, permissions).await?;
    let response = conditional(request, to_json(&page.records))?
        .with_text(FIELDSYNC_CURSOR, page.cursor.to_string());
    let Some(next) = page.next else {
        return Ok(response);
    };
    let (mount_path, name) = (request.mount_path(), collection.name());
    let next = percent_encode(&next.to_string());
    let link = format!("<{mount_path}/{name}/?after={next}&limit={limit}>; rel=\"next\"");
    Ok(response.with_text(LINK, link))
}

pub(crate) async fn record(
    request: &Request<'_>,
    key: RecordKey,
    permissions: &Permissions,
) -> Result<Response<Body>, Rejection> {
    let view = request.caller.read(key, permissions).await?;
    let response = conditional(request, to_json(&view.record))?;
    Ok(response.with_text(FIELDSYNC_CURSOR, view.cursor.to_string()))
}

/// The response to a GET or HEAD under its preconditions (RFC 9110, section 13.2.2).
fn conditional(request: &Request<'_>, body: Bytes) -> Result<Response<Body>, Rejection> {
    let headers = &request.parts.headers;
    let tag = entity_tag_of(&body);
    if if_match(headers)?.is_some_and(|precondition| !precondition.holds(Some(&tag))) {
        return Err(Problem::from(&Refusal::PreconditionFailed).into());
    }
    let is_unchanged =
        if_none_match(headers)?.is_some_and(|precondition| !precondition.holds(Some(&tag)));
    let response = if is_unchanged {
        empty(StatusCode::NOT_MODIFIED)
    } else if request.parts.method == Method::HEAD {
        let length = body.len() as u64;
        json(StatusCode::OK, Bytes::new()).with(CONTENT_LENGTH, length.into())
    } else {
        json(StatusCode::OK, body)
    };
    Ok(with_validators(response, tag))
}

/// Adds the entity tag. A cache may store the response for its user, and revalidates it each time.
pub(crate) fn with_validators(response: Response<Body>, tag: String) -> Response<Body> {
    let caching = HeaderValue::from_static("private, no-cache");
    response.with_text(ETAG, tag).with(CACHE_CONTROL, caching)
}

/// A stream of server-sent events, for clients that cannot open a WebSocket.
pub(crate) fn events(
    request: &Request<'_>,
    topic: Topic,
    permissions: &Permissions,
) -> Result<Response<Body>, Rejection> {
    let since = since(request, &permissions.collection)?;
    let mut response = empty(StatusCode::OK)
        .with(CONTENT_TYPE, HeaderValue::from_static(EVENT_STREAM))
        // A proxy that compresses would hold the events back (RFC 9111, section 5.2.2.6).
        .with(
            CACHE_CONTROL,
            HeaderValue::from_static("no-store, no-transform"),
        )
        // Without this nginx would buffer the events.
        .with(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
    if !request.engine.is_ready() {
        // An `EventSource` gives up for good at any other status.
        *response.body_mut() = Body::from(retry());
    } else if request.parts.method != Method::HEAD {
        let subscription = request.engine.open(topic, since, permissions)?;
        let heartbeat = request.engine.settings().heartbeat;
        *response.body_mut() = Body::events(EventStream::new(subscription, heartbeat));
    }
    Ok(response)
}

/// Where the events start. `Last-Event-ID` is newer than the parameters: an `EventSource` that reconnects repeats its URL.
fn since(request: &Request<'_>, collection: &Collection) -> Result<Since, Rejection> {
    let last = only_value(&request.parts.headers, LAST_EVENT_ID);
    if let Some(id) = last.filter(|id| !id.is_empty()) {
        let since = Since::cursor_or_resume(&String::from_utf8_lossy(id.as_bytes()), collection);
        return since.map_err(|_| {
            Rejection::malformed(
                "Last-Event-ID",
                "must be the id of an event from this server",
            )
        });
    }
    if let Some(text) = request.parameter("resume")? {
        return Since::resume(&text, collection).map_err(|_| {
            Rejection::malformed("resume", "must be a resume of a snapshot from this server")
        });
    }
    let Some(text) = request.parameter("since")? else {
        return Ok(Since::Snapshot);
    };
    let cursor = text.parse::<Cursor>();
    cursor
        .map(Since::Cursor)
        .map_err(|_| Rejection::malformed("since", "must be a cursor from this server"))
}

/// Whether the request asks for server-sent events (RFC 9110, section 12.5.1).
pub(crate) fn accepts_events(headers: &HeaderMap) -> bool {
    list_items(headers, ACCEPT).any(|item| {
        let mut parts = item.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let media_type = parts.next().unwrap_or_default();
        let is_zero =
            |part: &[u8]| matches!(part, b"q=0" | b"q=0." | b"q=0.0" | b"q=0.00" | b"q=0.000");
        media_type.eq_ignore_ascii_case(EVENT_STREAM.as_bytes()) && !parts.any(is_zero)
    })
}
