//! The path of a request: what its method and path name, who may do that, and the response.

use std::fmt::Display;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::http::header::{ALLOW, HeaderValue};
use ::http::request::Parts;
use ::http::{Method, Response, StatusCode};
use futures_util::FutureExt as _;
use tokio::time::timeout_at;
use tracing::field::Empty;
use tracing::{Instrument as _, Span};

use crate::engine::drain::Work;
use crate::engine::engine::Engine;
use crate::error::EngineError;
use crate::http::body::Body;
use crate::http::events::{self, accepts_events};
use crate::http::headers::{ACCEPT_PATCH, check_size};
use crate::http::read;
use crate::http::reply::{Rejection, WithHeader as _, empty};
use crate::http::request::Request;
use crate::http::request_body::PATCH_TYPES;
use crate::http::request_id::RequestId;
use crate::http::write;
use crate::metrics::{self, Limit, method_word};
use crate::model::access::{Access, Denied};
use crate::model::percent::percent_decode;
use crate::model::principal::Principal;
use crate::model::record::{RecordId, RecordKey};
use crate::model::refusal::Refusal;
use crate::model::topic::Topic;
use crate::protocol::Problem;
use crate::schema::collection::Collection;

/// How long a request may take, including the app's rules and the store.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// Answers a request to the REST routes.
///
/// The path of `parts.uri` is the one after the path at which the app mounted the routes; that one is a
/// [`MountPath`](crate::adapter::MountPath) in `parts.extensions`. The body is read only if the request is otherwise
/// valid, and only up to the size limit.
///
/// Dropping the future does not cancel an edit: it is committed as a whole, or not at all.
pub async fn handle<B>(
    engine: &Engine,
    principal: Principal,
    parts: Parts,
    body: B,
) -> Response<Body>
where
    B: http_body::Body<Error: Display>,
{
    // A drain waits for the requests that started before it.
    let _in_progress = engine.begin(Work::Request);
    // An error's span, so that lines of every level have it. Paths and queries may contain what is secret.
    let span = tracing::error_span!(
        "request",
        request_id = %RequestId::of(&parts.headers),
        method = method_word(&parts.method),
        collection = Empty,
    );
    let response = answer(engine, principal, &parts, body).instrument(span.clone());
    let response = response.await;
    metrics::answered(&parts.method, response.status());
    let status = response.status().as_u16();
    span.in_scope(|| tracing::debug!(status, "a request was answered"));
    response
}

async fn answer<B>(engine: &Engine, principal: Principal, parts: &Parts, body: B) -> Response<Body>
where
    B: http_body::Body<Error: Display>,
{
    let request = Request {
        engine,
        caller: &engine.on_behalf_of(principal),
        parts,
        arrived: Instant::now(),
    };
    // A panic in the app's own code fails only this request.
    let routed = AssertUnwindSafe(route(&request, body)).catch_unwind();
    let timed = timeout_at((request.arrived + REQUEST_TIMEOUT).into(), routed);
    let rejection = match timed.await {
        Ok(Ok(Ok(response))) => return response,
        Ok(Ok(Err(rejection))) => rejection,
        Ok(Err(_)) => Problem::internal().into(),
        Err(_) => {
            Limit::RequestTime.reached();
            Problem::unavailable("the request could not be answered in time").into()
        }
    };
    let response = rejection.into_response();
    let is_get = parts.method == Method::GET && accepts_events(&parts.headers);
    if is_get && response.status() == StatusCode::SERVICE_UNAVAILABLE {
        return events::come_back();
    }
    response
}

/// What a path names in a collection.
#[derive(Clone)]
enum Resource {
    Collection,
    Record(RecordId),
}

async fn route<B>(request: &Request<'_>, body: B) -> Result<Response<Body>, Rejection>
where
    B: http_body::Body<Error: Display>,
{
    let Request {
        engine,
        caller,
        parts,
        ..
    } = request;
    check_size(&parts.headers)?;
    if !matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS) {
        engine.check_ready()?;
        // Before the body is read, and before any rule is asked.
        caller.check_allowance()?;
    }
    if parts.uri.path().trim_matches('/').is_empty() {
        return topics(request).await;
    }
    let (collection, id) = find(engine, parts.uri.path()).ok_or_else(nothing_here)?;
    let name = collection.name();
    Span::current().record("collection", &**name);
    // A principal who may not know that the collection exists learns neither its ids nor its methods.
    let permissions = caller.permissions(access(&parts.method), name).await;
    let permissions = match permissions {
        Err(EngineError::Refused(Refusal::NoSuchCollection(_))) => return Err(nothing_here()),
        // Whether the collection is hidden is unknown.
        Err(error @ EngineError::Refused(Refusal::Denied(Denied::Unavailable(_)))) => {
            return Err(error.into());
        }
        permissions => permissions,
    };
    let resource = match id {
        None => Resource::Collection,
        Some(id) => Resource::Record(collection.parse_id(&id).ok_or_else(no_such_record)?),
    };
    let key = |id| RecordKey {
        collection: Arc::clone(name),
        id,
    };
    match (&parts.method, resource) {
        (&Method::GET | &Method::HEAD, resource) if accepts_events(&parts.headers) => {
            let permissions = permissions?;
            let query = request.query(&["since"])?;
            let topic = topic(&collection, resource).with_query(query);
            events::of_resource(request, topic, permissions)
        }
        (&Method::GET | &Method::HEAD, Resource::Collection) => {
            read::page(request, &collection, &permissions?).await
        }
        (&Method::GET | &Method::HEAD, Resource::Record(id)) => {
            read::record(request, key(id), &permissions?).await
        }
        (&Method::POST, Resource::Collection) if collection.is_creatable() => {
            write::create(request, &collection, permissions?, body).await
        }
        (&Method::PATCH, Resource::Record(id)) if collection.is_writable() => {
            write::patch(request, key(id), permissions?, body).await
        }
        (&Method::DELETE, Resource::Record(id)) if collection.is_writable() => {
            write::delete(request, key(id), permissions?).await
        }
        (&Method::OPTIONS, resource) => Ok(options(&collection, &resource)),
        (_, resource) => Err(Rejection::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method-not-allowed",
            "the resource does not support this method; see the Allow header",
        )
        .with(ALLOW, allow(&collection, &resource))),
    }
}

/// The root has the events of several topics, and nothing else.
async fn topics(request: &Request<'_>) -> Result<Response<Body>, Rejection> {
    let allowed = HeaderValue::from_static("GET, HEAD, OPTIONS");
    match request.parts.method {
        Method::GET | Method::HEAD => {}
        Method::OPTIONS => return Ok(empty(StatusCode::NO_CONTENT).with(ALLOW, allowed)),
        _ => {
            let detail = "topics are read with GET";
            let status = StatusCode::METHOD_NOT_ALLOWED;
            return Err(Rejection::new(status, "method-not-allowed", detail).with(ALLOW, allowed));
        }
    }
    if accepts_events(&request.parts.headers) {
        return events::of_topics(request).await;
    }
    if !request.parameters("topic")?.is_empty() {
        return Err(Rejection::new(
            StatusCode::NOT_ACCEPTABLE,
            "not-acceptable",
            "topics are a stream of events: send Accept: text/event-stream",
        ));
    }
    Err(nothing_here())
}

/// The access that a method needs.
fn access(method: &Method) -> Access {
    match *method {
        Method::POST => Access::Create,
        Method::PATCH => Access::Update,
        Method::DELETE => Access::Delete,
        _ => Access::Read,
    }
}

/// Finds what a path names: `/users`, `/users/`, `/users/1` or `/users/1/`. Each segment is decoded once.
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
    // An empty text is not an id in any collection.
    let id = id.map(|id| percent_decode(id).unwrap_or_default());
    Some((Arc::clone(collection), id))
}

fn topic(collection: &Collection, resource: Resource) -> Topic {
    Topic {
        id: match resource {
            Resource::Collection => None,
            Resource::Record(id) => Some(id),
        },
        ..Topic::of(Arc::clone(collection.name()))
    }
}

fn options(collection: &Collection, resource: &Resource) -> Response<Body> {
    let response = empty(StatusCode::NO_CONTENT).with(ALLOW, allow(collection, resource));
    match resource {
        Resource::Collection => response,
        Resource::Record(_) if !collection.is_writable() => response,
        Resource::Record(_) => response.with(ACCEPT_PATCH, HeaderValue::from_static(PATCH_TYPES)),
    }
}

fn allow(collection: &Collection, resource: &Resource) -> HeaderValue {
    HeaderValue::from_static(match resource {
        Resource::Collection if collection.is_creatable() => "GET, HEAD, POST, OPTIONS",
        Resource::Collection => "GET, HEAD, OPTIONS",
        Resource::Record(_) if collection.is_writable() => "GET, HEAD, PATCH, DELETE, OPTIONS",
        Resource::Record(_) => "GET, HEAD, OPTIONS",
    })
}

/// The answer to a path at which nothing exists. Also that for a collection that the principal may not know of.
#[must_use]
pub fn not_found_response() -> Response<Body> {
    nothing_here().into_response()
}

fn nothing_here() -> Rejection {
    Rejection::new(
        StatusCode::NOT_FOUND,
        "not-found",
        "nothing exists at this path",
    )
}

fn no_such_record() -> Rejection {
    Rejection::new(
        StatusCode::NOT_FOUND,
        "not-found",
        "the record does not exist",
    )
}
