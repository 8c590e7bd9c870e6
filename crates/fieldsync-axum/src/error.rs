//! Errors of the engine as responses.

use axum::response::{IntoResponse, Response};
use fieldsync::EngineError;
use fieldsync::adapter::problem_response;

/// An error of the engine that a handler returns: the response has the same problem details as the REST routes.
///
/// ```
/// use axum::Json;
/// use axum::extract::{Path, State};
/// use fieldsync::{Engine, Fields};
/// use fieldsync_axum::Principal;
///
/// async fn show(
///     State(engine): State<Engine>,
///     Principal(principal): Principal,
///     Path(id): Path<i64>,
/// ) -> Result<Json<Option<Fields>>, fieldsync_axum::Error> {
///     let user = engine.on_behalf_of(principal).get(("users", id)).await?;
///     Ok(Json(user.record))
/// }
/// # let _ = axum::Router::<Engine>::new().route("/{id}", axum::routing::get(show));
/// ```
#[derive(Debug)]
pub struct Error(pub EngineError);

impl<E: Into<EngineError>> From<E> for Error {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        problem_response(&self.0).into_response()
    }
}
