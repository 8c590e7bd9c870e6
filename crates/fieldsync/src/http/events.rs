//! Requests for server-sent events: of one resource, or of several topics in one stream.

use std::sync::Arc;

use ::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue};
use ::http::{Method, Response, StatusCode};
use futures_util::future::try_join_all;

use crate::engine::permissions::Permissions;
use crate::error::EngineError;
use crate::http::body::Body;
use crate::http::event_id::{EventId, TopicPlace};
use crate::http::event_stream::{EventStream, retry};
use crate::http::headers::{LAST_EVENT_ID, X_ACCEL_BUFFERING, list_items, only_value};
use crate::http::reply::{Rejection, WithHeader as _, empty};
use crate::http::request::Request;
use crate::http::request_id::connection_span;
use crate::live::since::Since;
use crate::model::access::Access;
use crate::model::cursor::ResetReason;
use crate::model::refusal::Refusal;
use crate::model::topic::Topic;
use crate::protocol::{MessageStream, Problem};
use crate::schema::collection::Collection;

const EVENT_STREAM: &str = "text/event-stream";

/// The most topics of a stream: their places fit a header.
const MAX_TOPICS: usize = 50;

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

/// The events of one resource.
pub(crate) fn of_resource(
    request: &Request<'_>,
    topic: Topic,
    permissions: Permissions,
) -> Result<Response<Body>, Rejection> {
    let sub = topic.to_string();
    stream(
        request,
        vec![Asked {
            topic,
            sub,
            permissions,
        }],
    )
}

/// The events of the topics in the query. They are in one stream, since a browser opens six connections per host over HTTP/1.1.
pub(crate) async fn of_topics(request: &Request<'_>) -> Result<Response<Body>, Rejection> {
    let names = request.parameters("topic")?;
    if names.is_empty() {
        let message = "must name a collection or a record: ?topic=users&topic=orders/7";
        return Err(Rejection::malformed("topic", message));
    }
    if names.len() > MAX_TOPICS {
        let message = format!("must be given at most {MAX_TOPICS} times");
        return Err(Rejection::malformed("topic", &message));
    }
    let mut topics = Vec::with_capacity(names.len());
    for name in &names {
        let found = request.engine.find_topic(name);
        let (collection, topic) = found.ok_or_else(no_such_topic)?;
        topics.push((Arc::clone(collection.name()), name, topic));
    }
    // Those of one collection have the same cursor most of the time.
    topics.sort_by_key(|(collection, ..)| Arc::clone(collection));
    let mut collections: Vec<_> = topics.iter().map(|(collection, ..)| collection).collect();
    collections.dedup();
    let asked = collections.iter().map(async |collection| {
        let asked = request.caller.permissions(Access::Read, collection).await;
        asked.map_err(|error| match error {
            EngineError::Refused(Refusal::NoSuchCollection(_)) => no_such_topic(),
            error => error.into(),
        })
    });
    let answers = try_join_all(asked).await?;
    // Only now, so that a hidden collection is like one that does not exist.
    let mut opened: Vec<Asked> = Vec::with_capacity(topics.len());
    for (_, name, topic) in topics {
        let topic = topic.map_err(Rejection::bad_query)?;
        if opened.iter().any(|other| other.topic == topic) {
            let message = format!("{name} is given twice");
            return Err(Rejection::malformed("topic", &message));
        }
        let mut answers = answers.iter();
        let answer = answers.find(|answer| *answer.collection.name() == topic.collection);
        opened.push(Asked {
            permissions: answer.expect("every collection was asked about").clone(),
            sub: name.clone(),
            topic,
        });
    }
    stream(request, opened)
}

/// A topic that is asked for.
struct Asked {
    topic: Topic,
    /// The name that its messages have.
    sub: String,
    permissions: Permissions,
}

/// It does not say which: one that is hidden is not found until its rule was asked.
fn no_such_topic() -> Rejection {
    let detail = "one of the topics does not exist";
    Rejection::new(StatusCode::NOT_FOUND, "not-found", detail)
}

fn stream(request: &Request<'_>, topics: Vec<Asked>) -> Result<Response<Body>, Rejection> {
    let collections = topics.iter().map(|asked| &*asked.permissions.collection);
    let (id, starts) = start(request, collections.collect())?;
    if !request.engine.is_ready() {
        return Ok(come_back());
    }
    let keys = request.engine.cursor_keys();
    let opened = topics.into_iter().zip(starts).map(|(asked, since)| {
        let subscription = request
            .engine
            .open(asked.topic, since, &asked.permissions)?;
        Ok(MessageStream::new(subscription, asked.sub, keys.clone()))
    });
    let streams = opened.collect::<Result<Vec<_>, EngineError>>()?;
    let mut response = head();
    if request.parts.method != Method::HEAD {
        let heartbeat = request.engine.settings().heartbeat;
        let span = connection_span("event_stream", None);
        let open = (
            request.caller.connect().map_err(Problem::from)?,
            request.engine.gauges().event_streams.share(1),
        );
        let validity = request.caller.validity();
        let events = EventStream::new(streams, id, heartbeat, validity, span, open);
        *response.body_mut() = Body::events(events);
    }
    Ok(response)
}

/// The head of a stream.
fn head() -> Response<Body> {
    empty(StatusCode::OK)
        .with(CONTENT_TYPE, HeaderValue::from_static(EVENT_STREAM))
        // A proxy that compresses would hold the events back (RFC 9111, section 5.2.2.6).
        .with(
            CACHE_CONTROL,
            HeaderValue::from_static("no-store, no-transform"),
        )
        // Without this nginx would buffer the events.
        .with(X_ACCEL_BUFFERING, HeaderValue::from_static("no"))
}

/// A stream that says only when to come back: an `EventSource` gives up for good at any other status.
pub(crate) fn come_back() -> Response<Body> {
    let mut response = head();
    *response.body_mut() = Body::from(retry());
    response
}

/// Where the topics of these collections start, and the id of an event there. `Last-Event-ID` is newer than the parameter: an
/// `EventSource` that reconnects repeats its URL.
fn start(
    request: &Request<'_>,
    collections: Vec<&Collection>,
) -> Result<(EventId, Vec<Since>), Rejection> {
    let last = only_value(&request.parts.headers, LAST_EVENT_ID);
    let (name, text) = match last.filter(|id| !id.is_empty()) {
        Some(id) => (
            "Last-Event-ID",
            String::from_utf8_lossy(id.as_bytes()).into_owned(),
        ),
        None => match request.parameter("since")? {
            Some(text) => ("since", text),
            None => {
                let starts = collections.iter().map(|_| Since::Snapshot).collect();
                return Ok((EventId::new(collections.len()), starts));
            }
        },
    };
    let malformed = || {
        Rejection::malformed(
            name,
            "must be a cursor, or the id of an event of these topics, from this server",
        )
    };
    let id = EventId::read(&text, collections.len()).ok_or_else(malformed)?;
    let keys = request.engine.cursor_keys();
    let starts = id
        .places()
        .zip(collections)
        .map(|(place, collection)| match place {
            TopicPlace::At(place) => Since::cursor_or_resume(place, collection, keys),
            TopicPlace::Lost => Ok(Since::Lost(ResetReason::Trimmed)),
            TopicPlace::Nowhere => Ok(Since::Snapshot),
        });
    let starts = starts.collect::<Result<_, _>>().map_err(|_| malformed())?;
    Ok((id, starts))
}
