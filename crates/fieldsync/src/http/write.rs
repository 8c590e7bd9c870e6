//! POST, PATCH and DELETE: a request becomes an edit, and its outcome becomes the response.

use std::fmt::Display;
use std::sync::Arc;

use ::http::header::LOCATION;
use ::http::{Response, StatusCode};

use crate::collection::Collection;
use crate::edit::Edit;
use crate::engine::{Rights, Seen};
use crate::entity_tag::entity_tag_of;
use crate::http::body::Body;
use crate::http::conditional::with_conditions;
use crate::http::headers::FIELDSYNC_CURSOR;
use crate::http::read::with_validators;
use crate::http::reply::{Rejection, WithHeader as _, empty, json, to_json};
use crate::http::request::Request;
use crate::http::request_body::{BodyFor, read_fields};
use crate::record::RecordKey;

pub(crate) async fn create<B>(
    request: &Request<'_>,
    collection: &Collection,
    rights: Rights,
    body: B,
) -> Result<Response<Body>, Rejection>
where
    B: http_body::Body<Error: Display>,
{
    let name = collection.name();
    let fields = read_fields(request, BodyFor::Post, body).await?;
    let seen = apply(request, Edit::create(Arc::clone(name), fields), rights).await?;
    let location = format!("{}/{name}/{}/", request.mount_path(), seen.id);
    Ok(record_response(StatusCode::CREATED, &seen).with_text(LOCATION, location))
}

pub(crate) async fn patch<B>(
    request: &Request<'_>,
    key: RecordKey,
    rights: Rights,
    body: B,
) -> Result<Response<Body>, Rejection>
where
    B: http_body::Body<Error: Display>,
{
    let patch = read_fields(request, BodyFor::Patch, body).await?;
    let seen = apply(request, Edit::patch(key, patch), rights).await?;
    Ok(record_response(StatusCode::OK, &seen))
}

pub(crate) async fn delete(
    request: &Request<'_>,
    key: RecordKey,
    rights: Rights,
) -> Result<Response<Body>, Rejection> {
    let seen = apply(request, Edit::delete(key), rights).await?;
    Ok(empty(StatusCode::NO_CONTENT).with_text(FIELDSYNC_CURSOR, seen.cursor.to_string()))
}

async fn apply(request: &Request<'_>, edit: Edit, rights: Rights) -> Result<Seen, Rejection> {
    let edit = with_conditions(edit, &request.parts.headers)?;
    let edits = vec![(edit, rights)];
    let mut seen = request.caller.apply(edits, request.arrived).await?;
    Ok(seen.remove(0))
}

/// The response with a record, as the caller sees it after the edit. It has a record even if the edit is a replay and the
/// record was deleted since.
fn record_response(status: StatusCode, seen: &Seen) -> Response<Body> {
    let body = to_json(&seen.record);
    let tag = entity_tag_of(&body);
    with_validators(json(status, body), tag).with_text(FIELDSYNC_CURSOR, seen.cursor.to_string())
}
