//! Requests and replies for every web framework: routes, status, headers, problem details. Adapters translate their
//! framework's types into these and back, and nothing else.

pub(crate) mod conditional;
pub(crate) mod event_stream;

use std::fmt::Display;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures_util::{FutureExt as _, Stream, StreamExt as _};
use serde::Serialize;
use tokio::time::timeout_at;
use tracing::Instrument as _;

use crate::authorize::{Access, Principal};
use crate::collection::{Collection, FieldErrors};
use crate::cursor::Cursor;
use crate::edit::{Edit, EngineError, Precondition, Refusal};
use crate::engine::{Caller, Engine, Rights, Seen};
use crate::entity_tag::entity_tag_of;
use crate::http::conditional::{base, idempotency_key, if_match, if_none_match};
use crate::http::event_stream::Events;
use crate::json::{JsonError, read_object};
use crate::protocol::problem::Problem;
use crate::record::{Fields, RecordId, RecordKey};
use crate::subscription::Since;
use crate::topic::Topic;

/// A request without its body, as an adapter hands it in.
#[derive(Debug, Clone, Default)]
pub struct RequestHead {
    /// The method, in the case in which it came.
    pub method: String,
    /// The path before the place where the app mounted the routes: `/api`, or nothing. Not decoded.
    pub base: String,
    /// The path after that place: `/users/1/`. Not decoded.
    pub path: String,
    /// What follows the question mark. Not decoded.
    pub query: Option<String>,
    /// The headers, their names in lower case.
    pub headers: Vec<(String, Bytes)>,
    /// Whether it came by HTTP/1.0, which knows no upgrade.
    pub is_http_1_0: bool,
}

/// The reply to a request.
#[derive(Debug)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// The headers, their names in lower case.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Body,
}

/// The body of a reply.
#[derive(Debug)]
pub enum Body {
    /// All of it.
    Whole(Bytes),
    /// Server-sent events, to be sent as they come.
    Events(Box<Events>),
}

const MERGE_PATCH: &str = "application/merge-patch+json";
const JSON: &str = "application/json";
/// The most bytes of all headers together, and the most headers.
const HEADER_BYTES: usize = 16 * 1024;
const HEADERS: usize = 100;
const EVENT_STREAM: &str = "text/event-stream";
const ACCEPT_PATCH: &str = "application/merge-patch+json, application/json";
/// The most records of a page, and how many one has when nothing is said.
const PAGE_RECORDS: usize = 1000;
/// How long a request's body may take to come, from the request's arrival on.
const BODY_TIME: Duration = Duration::from_secs(10);
/// How long a request may take, whoever keeps it waiting: the app's rule, the store.
const REQUEST_TIME: Duration = Duration::from_secs(20);

/// Answers a request under the place where the app mounted the routes.
///
/// The body is read only when the request is otherwise in order, and no further than the limit. Dropping the future
/// does not take an edit back: it is committed, or not, as a whole.
pub async fn handle<B, E>(engine: &Engine, who: Principal, head: RequestHead, body: B) -> Reply
where
    B: Stream<Item = Result<Bytes, E>>,
    E: Display,
{
    let span = tracing::debug_span!("request", method = %head.method, path = %head.path);
    // A drain waits for a request that came before it, whatever it does.
    let _under_way = engine.under_way();
    let caller = engine.on_behalf_of(who);
    let request = Request {
        engine,
        caller: &caller,
        head: &head,
        arrived: Instant::now(),
    };
    // The app's rules may panic; that is this request's failure, and no other's.
    let routed = AssertUnwindSafe(route(&request, body)).catch_unwind();
    let timed = timeout_at((request.arrived + REQUEST_TIME).into(), routed);
    let refused = match timed.instrument(span).await {
        Ok(Ok(Ok(reply))) => return reply,
        Ok(Ok(Err(refused))) => refused,
        Ok(Err(_)) => Refused::new(500, "internal", "the server failed"),
        Err(_) => Problem::unavailable("the request could not be answered in time").into(),
    };
    refused.reply()
}

/// A request on its way.
struct Request<'a> {
    engine: &'a Engine,
    caller: &'a Caller<'a>,
    head: &'a RequestHead,
    arrived: Instant,
}

/// A refused request: a problem, and the headers that go with it.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) problem: Box<Problem>,
    pub(crate) headers: Vec<(&'static str, String)>,
}

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Self {
            problem: Box::new(problem),
            headers: Vec::new(),
        }
    }
}

impl From<EngineError> for Refused {
    fn from(error: EngineError) -> Self {
        let problem = Problem::from(&error);
        if problem.status >= 500 {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                status = problem.status,
                "a request failed"
            );
        }
        problem.into()
    }
}

impl Refused {
    pub(crate) fn new(status: u16, kind: &str, detail: impl Into<String>) -> Self {
        Problem::new(status, kind, detail).into()
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn reply(mut self) -> Reply {
        self.headers
            .push(("content-type", "application/problem+json".into()));
        self.headers.push(("cache-control", "no-store".into()));
        if self.problem.status == 401 {
            self.headers.push(("www-authenticate", "Bearer".into()));
        }
        if let Some(seconds) = self.problem.retry_after {
            self.headers.push(("retry-after", seconds.to_string()));
        }
        Reply {
            status: self.problem.status,
            headers: self.headers,
            body: Body::Whole(json(&*self.problem)),
        }
    }
}

/// What a path names: a collection, or one of its records.
#[derive(Clone, Copy)]
enum Route {
    Collection,
    Record(RecordId),
}

async fn route<B, E>(request: &Request<'_>, body: B) -> Result<Reply, Refused>
where
    B: Stream<Item = Result<Bytes, E>>,
    E: Display,
{
    let Request { caller, head, .. } = request;
    head.check()?;
    if !matches!(head.method.as_str(), "GET" | "HEAD" | "OPTIONS") {
        caller.check_ready()?;
    }
    let (collection, id) = find(request.engine, &head.path).ok_or_else(nothing_here)?;
    let name = collection.name();
    let key = |id| RecordKey {
        collection: Arc::clone(name),
        id,
    };
    // Only who may know of the collection hears which ids and methods it knows.
    let access = match head.method.as_str() {
        "POST" => Access::Create,
        "PATCH" => Access::Update,
        "DELETE" => Access::Delete,
        _ => Access::Read,
    };
    let rights = caller.rights(access, name).await;
    if let Err(EngineError::Refused(Refusal::NoSuchCollection(_))) = rights {
        return Err(nothing_here());
    }
    let route = match id {
        None => Route::Collection,
        Some(id) => Route::Record(collection.parse_id(&id).ok_or_else(no_such_record)?),
    };
    match (head.method.as_str(), route) {
        ("GET" | "HEAD", route) if head.accepts_events() => {
            let id = match route {
                Route::Collection => None,
                Route::Record(id) => Some(id),
            };
            let collection = Arc::clone(name);
            events(request, Topic { collection, id }, &rights?)
        }
        ("GET" | "HEAD", Route::Collection) => list(request, &collection, &rights?).await,
        ("GET" | "HEAD", Route::Record(id)) => show(request, key(id), &rights?).await,
        ("POST", Route::Collection) if collection.is_creatable() => {
            let rights = rights?;
            let fields = read_body(request, &[JSON], body).await?;
            let edit = conditions(Edit::create(Arc::clone(name), fields), head)?;
            let seen = apply(request, edit, rights).await?;
            let location = format!("{}/{name}/{}/", head.base, seen.id);
            Ok(record_reply(201, &seen).with("location", location))
        }
        ("PATCH", Route::Record(id)) => {
            let rights = rights?;
            let patch = read_body(request, &[MERGE_PATCH, JSON], body).await?;
            let edit = conditions(Edit::patch(key(id), patch), head)?;
            Ok(record_reply(200, &apply(request, edit, rights).await?))
        }
        ("DELETE", Route::Record(id)) => {
            let edit = conditions(Edit::delete(key(id)), head)?;
            let seen = apply(request, edit, rights?).await?;
            Ok(Reply::new(204, Bytes::new()).with_cursor(seen.cursor))
        }
        ("OPTIONS", route) => {
            let reply = Reply::new(204, Bytes::new()).with("allow", allow(&collection, route));
            let patchable = matches!(route, Route::Record(_));
            Ok(if patchable {
                reply.with("accept-patch", ACCEPT_PATCH)
            } else {
                reply
            })
        }
        (_, route) => {
            let refused = Refused::new(
                405,
                "method-not-allowed",
                "the method is not for this resource; see Allow",
            );
            Err(refused.with("allow", allow(&collection, route)))
        }
    }
}

fn allow(collection: &Collection, route: Route) -> &'static str {
    match route {
        Route::Collection if collection.is_creatable() => "GET, HEAD, POST, OPTIONS",
        Route::Collection => "GET, HEAD, OPTIONS",
        Route::Record(_) => "GET, HEAD, PATCH, DELETE, OPTIONS",
    }
}

/// Finds what a path names: `/users`, `/users/`, `/users/1`, `/users/1/`. Decoded once.
fn find(engine: &Engine, path: &str) -> Option<(Arc<Collection>, Option<String>)> {
    let path = path.strip_prefix('/').unwrap_or(path);
    let path = path.strip_suffix('/').unwrap_or(path);
    let (collection, id) = match path.split_once('/') {
        Some((collection, id)) => (collection, Some(id)),
        None => (path, None),
    };
    let collection = engine
        .collections()
        .get(percent_decode(collection)?.as_str())?;
    // What is not encoded properly is no id.
    let id = id.map(|id| percent_decode(id).unwrap_or_default());
    Some((Arc::clone(collection), id))
}

/// Also for a collection that is not for this principal.
fn nothing_here() -> Refused {
    Refused::new(404, "not-found", "there is nothing at this path")
}

fn no_such_record() -> Refused {
    Refused::new(404, "not-found", "there is no such record")
}

async fn list(
    request: &Request<'_>,
    collection: &Collection,
    rights: &Rights,
) -> Result<Reply, Refused> {
    let head = request.head;
    let limit = match head
        .parameter("limit")
        .map_err(|message| bad("limit", message))?
    {
        Some(limit) if limit.starts_with('+') => None,
        Some(limit) => limit
            .parse()
            .ok()
            .filter(|limit| (1..=PAGE_RECORDS).contains(limit)),
        None => Some(PAGE_RECORDS),
    };
    let limit = limit.ok_or_else(|| bad("limit", "must be a whole number from 1 to 1000"))?;
    let after = match head
        .parameter("after")
        .map_err(|message| bad("after", message))?
    {
        Some(after) => Some(
            collection
                .parse_id(&after)
                .ok_or_else(|| bad("after", "must be an id"))?,
        ),
        None => None,
    };
    let page = request.caller.page(after, limit, rights).await?;
    let body = json(&page.records);
    let reply = conditional(body, entity_tag_of, head)?.with_cursor(page.cursor);
    Ok(match page.next {
        Some(next) => {
            let link = format!(
                "<{}/{}/?after={next}&limit={limit}>; rel=\"next\"",
                head.base,
                collection.name()
            );
            reply.with("link", link)
        }
        None => reply,
    })
}

async fn show(request: &Request<'_>, key: RecordKey, rights: &Rights) -> Result<Reply, Refused> {
    let seen = request.caller.read(key, rights).await?;
    Ok(conditional(json(&seen.record), entity_tag_of, request.head)?.with_cursor(seen.cursor))
}

/// Server-sent events: the way back for who can't open a socket.
fn events(request: &Request<'_>, topic: Topic, rights: &Rights) -> Result<Reply, Refused> {
    request.caller.check_ready()?;
    let head = request.head;
    let last = head.header("last-event-id").filter(|id| !id.is_empty());
    let since = match last {
        Some(id) => Some(String::from_utf8_lossy(id).into_owned()),
        None => head
            .parameter("since")
            .map_err(|message| bad("since", message))?,
    };
    let since = match since.map(|since| since.parse::<Cursor>()).transpose() {
        Ok(since) => since.map_or(Since::Snapshot, Since::Cursor),
        Err(_) => return Err(bad("since", "is not a cursor of this server")),
    };
    let reply = Reply::new(200, Bytes::new())
        .with("content-type", EVENT_STREAM)
        .with("cache-control", "no-store")
        // A proxy that gathers a reply would keep the events to itself.
        .with("x-accel-buffering", "no");
    if head.method == "HEAD" {
        return Ok(reply);
    }
    let subscription = request.caller.listen_with(topic, since, rights);
    let heartbeat = request.engine.settings().heartbeat;
    Ok(Reply {
        body: Body::Events(Box::new(Events::new(subscription, heartbeat))),
        ..reply
    })
}

/// A parameter or header that can't be taken as it is.
fn bad(name: &str, message: &str) -> Refused {
    let errors = FieldErrors::from([(name.to_owned(), vec![message.to_owned()])]);
    Problem::of_fields(400, "malformed", errors).into()
}

/// The reply to a GET or HEAD under its preconditions (RFC 9110, section 13.2.2).
fn conditional(
    body: Bytes,
    tag: impl Fn(&[u8]) -> String,
    head: &RequestHead,
) -> Result<Reply, Refused> {
    let tag = tag(&body);
    if if_match(head)?.is_some_and(|precondition| !precondition.holds(Some(&tag))) {
        return Err(Problem::from(&crate::Refusal::PreconditionFailed).into());
    }
    let unchanged =
        if_none_match(head)?.is_some_and(|precondition| !precondition.holds(Some(&tag)));
    let reply = match (unchanged, head.method.as_str()) {
        (true, _) => Reply::new(304, Bytes::new()),
        (false, "HEAD") => Reply::new(200, Bytes::new())
            .with("content-length", body.len().to_string())
            .with("content-type", JSON),
        (false, _) => Reply::new(200, body).with("content-type", JSON),
    };
    Ok(reply
        .with("etag", tag)
        .with("cache-control", "private, no-cache"))
}

fn conditions(mut edit: Edit, head: &RequestHead) -> Result<Edit, Refused> {
    let preconditions = [if_match(head)?, if_none_match(head)?];
    for precondition in preconditions.into_iter().flatten() {
        // A record that is being created has no state yet.
        let holds_at_creation = edit.key().is_none()
            && matches!(
                precondition,
                Precondition::Absent | Precondition::MatchesNone(_)
            );
        if !holds_at_creation {
            edit = edit.with_precondition(precondition);
        }
    }
    if let Some(base) = base(head)? {
        edit = edit.with_base(base);
    }
    Ok(match idempotency_key(head)? {
        Some(key) => edit.with_idempotency_key(key),
        None => edit,
    })
}

async fn apply(request: &Request<'_>, edit: Edit, rights: Rights) -> Result<Seen, Refused> {
    let edits = vec![(edit, rights)];
    let mut seen = request.caller.apply(edits, request.arrived).await?;
    Ok(seen.remove(0))
}

fn record_reply(status: u16, seen: &Seen) -> Reply {
    // An edit that was repeated after its record was deleted by another one still has the record it made.
    let body = json(&seen.record);
    let tag = entity_tag_of(&body);
    let reply = Reply::new(status, body)
        .with("content-type", JSON)
        .with("etag", tag);
    reply
        .with("cache-control", "private, no-cache")
        .with_cursor(seen.cursor)
}

/// Reads the body as an object of fields.
async fn read_body<B, E>(
    request: &Request<'_>,
    accepted: &[&str],
    body: B,
) -> Result<Fields, Refused>
where
    B: Stream<Item = Result<Bytes, E>>,
    E: Display,
{
    let head = request.head;
    check_media_type(head, accepted)?;
    let limit = request.engine.settings().max_body;
    let too_large = || {
        Refused::new(413, "too-large", format!("the body is over {limit} bytes"))
            .with("connection", "close")
    };
    let announced = head
        .header("content-length")
        .and_then(|length| std::str::from_utf8(length).ok()?.parse::<u64>().ok());
    if announced.is_some_and(|announced| announced > limit as u64) {
        return Err(too_large());
    }
    let mut read = BytesMut::new();
    let mut body = std::pin::pin!(body);
    let deadline = (request.arrived + BODY_TIME).into();
    while let Some(chunk) = timeout_at(deadline, body.next()).await.map_err(|_| {
        Refused::new(408, "timeout", "the body did not come in time").with("connection", "close")
    })? {
        let chunk = chunk.map_err(|error| {
            tracing::debug!(%error, "a request's body ended early");
            Refused::new(400, "malformed", "the body ended early")
        })?;
        if read.len() + chunk.len() > limit {
            return Err(too_large());
        }
        read.extend_from_slice(&chunk);
    }
    read_object(&read).map_err(|error| match error {
        JsonError::Malformed(message) => Refused::new(400, "malformed", message),
        JsonError::Field(name, message) => {
            Problem::of_fields(422, "invalid", FieldErrors::from([(name, vec![message])])).into()
        }
    })
}

fn check_media_type(head: &RequestHead, accepted: &[&str]) -> Result<(), Refused> {
    let refuse = |detail: String| {
        let refused = Refused::new(415, "unsupported-media-type", detail);
        if accepted.contains(&MERGE_PATCH) {
            refused.with("accept-patch", ACCEPT_PATCH)
        } else {
            refused.with("accept", JSON)
        }
    };
    if head
        .header("content-encoding")
        .is_some_and(|coding| !coding.eq_ignore_ascii_case(b"identity"))
    {
        return Err(
            refuse("no Content-Encoding is taken".into()).with("accept-encoding", "identity")
        );
    }
    let given = head
        .header("content-type")
        .and_then(|given| std::str::from_utf8(given).ok())
        .unwrap_or_default();
    let mut parts = given.split(';').map(str::trim);
    let media_type = parts.next().unwrap_or_default().to_ascii_lowercase();
    let utf_8 = parts.all(|parameter| match parameter.split_once('=') {
        Some((name, value)) if name.eq_ignore_ascii_case("charset") => {
            value.trim_matches('"').eq_ignore_ascii_case("utf-8")
        }
        _ => true,
    });
    if accepted.contains(&media_type.as_str()) && utf_8 {
        Ok(())
    } else {
        Err(refuse(format!(
            "Content-Type must be {}, in UTF-8",
            accepted.join(" or ")
        )))
    }
}

impl RequestHead {
    /// Refuses what no request may have, whatever it asks for.
    pub(crate) fn check(&self) -> Result<(), Refused> {
        let headers = self.headers.iter();
        let bytes: usize = headers.map(|(name, value)| name.len() + value.len()).sum();
        if bytes > HEADER_BYTES || self.headers.len() > HEADERS {
            let detail = "the headers are over 16 KiB, or more than 100";
            return Err(Refused::new(431, "headers-too-large", detail));
        }
        Ok(())
    }

    /// The value of a header, if it came exactly once.
    pub(crate) fn header(&self, name: &str) -> Option<&Bytes> {
        let mut values = self
            .headers
            .iter()
            .filter(|(known, _)| known == name)
            .map(|(_, value)| value);
        values.next().filter(|_| values.next().is_none())
    }

    /// All values of a header that is a list, as one list.
    pub(crate) fn list(&self, name: &str) -> Option<Vec<u8>> {
        let values: Vec<&[u8]> = self
            .headers
            .iter()
            .filter(|(known, _)| known == name)
            .map(|(_, value)| &value[..])
            .collect();
        (!values.is_empty()).then(|| values.join(&b", "[..]))
    }

    /// Whether server-sent events are asked for (RFC 9110, section 12.5.1).
    fn accepts_events(&self) -> bool {
        let accepted = self.list("accept").unwrap_or_default();
        accepted.split(|byte| *byte == b',').any(|one| {
            let mut parts = one.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
            let media_type = parts.next().unwrap_or_default();
            let refused =
                |part: &[u8]| matches!(part, b"q=0" | b"q=0." | b"q=0.0" | b"q=0.00" | b"q=0.000");
            media_type.eq_ignore_ascii_case(EVENT_STREAM.as_bytes()) && !parts.any(refused)
        })
    }

    fn parameter(&self, name: &str) -> Result<Option<String>, &'static str> {
        let pairs = self.query.iter().flat_map(|query| query.split('&'));
        let mut values = pairs.filter_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (percent_decode(key).as_deref() == Some(name)).then_some(value)
        });
        match (values.next(), values.next()) {
            (Some(_), Some(_)) => Err("must stand once"),
            (Some(value), None) => percent_decode(value).map(Some).ok_or("is not UTF-8"),
            (None, _) => Ok(None),
        }
    }
}

impl Reply {
    pub(crate) fn new(status: u16, body: Bytes) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Body::Whole(body),
        }
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    fn with_cursor(self, cursor: Cursor) -> Self {
        self.with("fieldsync-cursor", cursor.to_string())
    }
}

fn json(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value)
        .expect("JSON values can be written")
        .into()
}

/// Decodes percent encoding (RFC 3986, section 2.1); `None` when what comes out is not UTF-8 or not encoded properly.
fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        if first == b'%' {
            let digits = std::str::from_utf8(tail.get(..2)?).ok()?;
            bytes.push(
                u8::from_str_radix(digits, 16)
                    .ok()
                    .filter(|_| !digits.starts_with('+'))?,
            );
            rest = &tail[2..];
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_decoded_once() {
        assert_eq!(percent_decode("a%2Fb").as_deref(), Some("a/b"));
        assert_eq!(percent_decode("%2531").as_deref(), Some("%31"));
        for text in ["%", "%4", "%zz", "%+1", "%ff"] {
            assert_eq!(percent_decode(text), None, "{text}");
        }
    }
}
