//! POST, PATCH and DELETE: a request becomes an edit, and its outcome becomes the response.

use std::fmt::Display;
use std::sync::Arc;

use ::http::header::LOCATION;
use ::http::{Response, StatusCode};

use crate::engine::engine::ProposedEdit;
use crate::engine::permissions::{Permissions, RecordView};
use crate::http::body::Body;
use crate::http::conditional::with_conditions;
use crate::http::headers::FIELDSYNC_CURSOR;
use crate::http::read::with_validators;
use crate::http::reply::{Rejection, WithHeader as _, empty, json, to_json};
use crate::http::request::Request;
use crate::http::request_body::{BodyFor, read_fields};
use crate::model::edit::Edit;
use crate::model::entity_tag::entity_tag_of;
use crate::model::percent::percent_encode;
use crate::model::record::{Fields, RecordKey};
use crate::schema::collection::Collection;
use crate::schema::view::View;

pub(crate) async fn create<B>(
    request: &Request<'_>,
    collection: &Collection,
    permissions: Permissions,
    body: B,
) -> Result<Response<Body>, Rejection>
where
    B: http_body::Body<Error: Display>,
{
    let name = collection.name();
    let fields = read_fields(request, BodyFor::Post, body).await?;
    let edit = Edit::create(Arc::clone(name), fields);
    let (view, cursor) = apply(request, edit, permissions).await?;
    let id = percent_encode(&view.id.to_string());
    let location = format!("{}/{name}/{id}/", request.mount_path());
    Ok(record_response(StatusCode::CREATED, &view, cursor).with_text(LOCATION, location))
}

pub(crate) async fn patch<B>(
    request: &Request<'_>,
    key: RecordKey,
    permissions: Permissions,
    body: B,
) -> Result<Response<Body>, Rejection>
where
    B: http_body::Body<Error: Display>,
{
    let patch = read_fields(request, BodyFor::Patch, body).await?;
    let (view, cursor) = apply(request, Edit::patch(key, patch), permissions).await?;
    Ok(record_response(StatusCode::OK, &view, cursor))
}

pub(crate) async fn delete(
    request: &Request<'_>,
    key: RecordKey,
    permissions: Permissions,
) -> Result<Response<Body>, Rejection> {
    let (view, cursor) = apply(request, Edit::delete(key), permissions).await?;
    if view.record.is_some() {
        // A trigger has kept the record, for example marked as deleted.
        return Ok(record_response(StatusCode::OK, &view, cursor));
    }
    Ok(empty(StatusCode::NO_CONTENT).with_text(FIELDSYNC_CURSOR, cursor))
}

/// Applies an edit. The result is the record as the caller sees it afterwards, and the text of its cursor.
async fn apply(
    request: &Request<'_>,
    edit: Edit,
    permissions: Permissions,
) -> Result<(RecordView, String), Rejection> {
    let edit = with_conditions(edit, request)?;
    let collection = Arc::clone(edit.collection());
    let edit = ProposedEdit {
        edit,
        permissions: Some(permissions),
    };
    let mut views = request.caller.write(vec![edit], request.arrived).await?;
    let view = views.remove(0);
    let cursor = request.engine.seal_cursor(&collection, view.cursor);
    Ok((view, cursor))
}

/// The response with a record, as the caller sees it after the edit. If the edit is a replay and the record was deleted
/// since, it may contain the id alone.
fn record_response(status: StatusCode, view: &RecordView, cursor: String) -> Response<Body> {
    let body = match &view.record {
        Some(record) => to_json(record),
        None => to_json(&View::only::<String>([]).project(view.id.clone(), &Fields::new())),
    };
    let tag = entity_tag_of(&body);
    with_validators(json(status, body), tag).with_text(FIELDSYNC_CURSOR, cursor)
}
