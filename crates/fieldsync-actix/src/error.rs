//! Errors of the engine as responses.

use std::fmt;

use actix_web::dev::Payload;
use actix_web::http::{StatusCode, Version};
use actix_web::{HttpResponse, ResponseError};
use fieldsync::EngineError;
use fieldsync::adapter::problem_response;

use crate::translate::response;

/// An error of the engine that a handler returns: the response has the same problem details as the REST routes.
///
/// ```
/// use actix_web::web::{Data, Json, Path};
/// use fieldsync::{Engine, Fields};
/// use fieldsync_actix::Principal;
///
/// async fn show(
///     engine: Data<Engine>,
///     Principal(principal): Principal,
///     id: Path<i64>,
/// ) -> Result<Json<Option<Fields>>, fieldsync_actix::Error> {
///     let user = engine.on_behalf_of(principal).get(("users", *id)).await?;
///     Ok(Json(user.record))
/// }
/// # let _ = actix_web::App::new().route("/{id}", actix_web::web::get().to(show));
/// ```
#[derive(Debug)]
pub struct Error(pub EngineError);

impl<E: Into<EngineError>> From<E> for Error {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl ResponseError for Error {
    fn status_code(&self) -> StatusCode {
        self.error_response().status()
    }

    fn error_response(&self) -> HttpResponse {
        response(problem_response(&self.0), Version::HTTP_11, Payload::None)
    }
}
