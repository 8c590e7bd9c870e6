//! GET and HEAD: one record, or a page of a collection.

use std::sync::Arc;

use ::http::header::{
    CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, HeaderValue, LINK, VARY,
};
use ::http::{Method, Response, StatusCode};
use bytes::Bytes;

use crate::engine::caller::Next;
use crate::engine::permissions::Permissions;
use crate::http::body::Body;
use crate::http::conditional::{if_match, if_none_match};
use crate::http::headers::{FIELDSYNC_CURSOR, PREFER, PREFERENCE_APPLIED, list_items};
use crate::http::reply::{Rejection, WithHeader as _, empty, json, to_json};
use crate::http::request::Request;
use crate::model::entity_tag::entity_tag_of;
use crate::model::percent::percent_encode;
use crate::model::query::{MAX_WINDOW, Query, read_window};
use crate::model::record::RecordKey;
use crate::model::refusal::Refusal;
use crate::protocol::Problem;
use crate::schema::collection::Collection;
use crate::schema::grant::Grant;
use crate::schema::sorting::SortKey;

pub(crate) async fn page(
    request: &Request<'_>,
    collection: &Collection,
    permissions: &Permissions,
) -> Result<Response<Body>, Rejection> {
    let limit = request.parameter("limit")?;
    let limit = limit
        .map(|text| read_window(&text).map_err(|message| Rejection::malformed("limit", &message)));
    let limit = limit.transpose()?.unwrap_or(MAX_WINDOW);
    let query = request.query(&["limit", "after"])?;
    let grant = permissions.read.narrowed(&query, collection);
    let grant = grant.map_err(Rejection::bad_query)?;
    let after = request.parameter("after")?;
    let is_later_page = after.is_some();
    let after = after.map(|text| place(request, &text, collection, &grant));
    let after = after.transpose()?;
    let max_read = request.engine.settings().limits.list_records;
    let page = request
        .caller
        .page(after, limit, collection, &grant, max_read)
        .await?;
    let cursor = request.engine.seal_cursor(collection.name(), page.cursor);
    let response =
        conditional(request, to_json(&page.records), &query)?.with_text(FIELDSYNC_CURSOR, cursor);
    let is_whole = response.status() == StatusCode::OK;
    let response = if is_whole && wants_count(&request.parts.headers) {
        let count = request.caller.count(collection, &grant).await?;
        let range = match page.records.len() {
            // Where a later page begins is not known.
            0 => format!("*/{count}"),
            _ if is_later_page => format!("*/{count}"),
            length => format!("0-{}/{count}", length - 1),
        };
        let applied = HeaderValue::from_static("count=exact");
        response
            .with(PREFERENCE_APPLIED, applied)
            .with_text(CONTENT_RANGE, range)
    } else {
        response
    };
    let Some(next) = page.next else {
        return Ok(response);
    };
    let (mount_path, name) = (request.mount_path(), collection.name());
    let next = match next {
        Next::AfterRecord(key) if grant.sorting.is_none() => key.id.to_string(),
        Next::AfterRecord(key) | Next::After(key) => {
            request
                .engine
                .seal_place(collection, &grant, page.cursor, key)
        }
    };
    let next = percent_encode(&next);
    let and = if query.is_empty() { "" } else { "&" };
    let link =
        format!("<{mount_path}/{name}/?after={next}&limit={limit}{and}{query}>; rel=\"next\"");
    Ok(response.with_text(LINK, link))
}

/// The place that the parameter `after` names: what a `Link` has, or in a list in the order of the ids a record.
fn place(
    request: &Request<'_>,
    text: &str,
    collection: &Collection,
    grant: &Grant,
) -> Result<SortKey, Rejection> {
    let of_link = request.engine.open_place(collection, grant, text);
    let of_record = || {
        collection
            .parse_id(text)
            .filter(|_| grant.sorting.is_none())
    };
    let place = of_link.or_else(|| of_record().map(SortKey::from));
    let message = match grant.sorting {
        None => "must be the id of a record, or what the Link of this list has",
        Some(_) => "must be what the Link of this list has: its order has places of its own",
    };
    place.ok_or_else(|| Rejection::malformed("after", message))
}

/// Whether the request prefers a list with the number of all records that match (RFC 7240; the preference is PostgREST's).
fn wants_count(headers: &HeaderMap) -> bool {
    list_items(headers, PREFER).any(|item| {
        let preference = item.split(|byte| *byte == b';').next();
        preference.is_some_and(|preference| preference.trim_ascii() == b"count=exact")
    })
}

pub(crate) async fn record(
    request: &Request<'_>,
    key: RecordKey,
    permissions: &Permissions,
) -> Result<Response<Body>, Rejection> {
    let collection = Arc::clone(&key.collection);
    let query = request.query(&[])?;
    query.check_of_record().map_err(Rejection::bad_query)?;
    let grant = permissions.read.narrowed(&query, &permissions.collection);
    let grant = grant.map_err(Rejection::bad_query)?;
    let view = request
        .caller
        .read(key, &permissions.collection, &grant)
        .await?;
    let response = conditional(request, to_json(&view.record), &query)?;
    let cursor = request.engine.seal_cursor(&collection, view.cursor);
    Ok(response.with_text(FIELDSYNC_CURSOR, cursor))
}

/// The response to a GET or HEAD under its preconditions (RFC 9110, section 13.2.2).
///
/// The tag of selected fields is weak: a write can't have it as its precondition, since it says nothing of the others.
fn conditional(
    request: &Request<'_>,
    body: Bytes,
    query: &Query,
) -> Result<Response<Body>, Rejection> {
    let headers = &request.parts.headers;
    let (tag, is_weak) = (entity_tag_of(&body), query.select.is_some());
    let strong = if is_weak { "" } else { &tag };
    if if_match(headers)?.is_some_and(|precondition| !precondition.holds(Some(strong))) {
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
    let tag = if is_weak { format!("W/{tag}") } else { tag };
    let varies = HeaderValue::from_static("Accept, Prefer");
    Ok(with_validators(response, tag).with(VARY, varies))
}

/// Adds the entity tag. A cache may store the response for its user, and revalidates it each time.
pub(crate) fn with_validators(response: Response<Body>, tag: String) -> Response<Body> {
    let caching = HeaderValue::from_static("private, no-cache");
    response.with_text(ETAG, tag).with(CACHE_CONTROL, caching)
}
