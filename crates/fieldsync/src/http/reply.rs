//! How responses are made, and how an error becomes one.

use ::http::header::{
    CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use ::http::{Response, StatusCode};
use bytes::Bytes;
use serde::Serialize;

use crate::error::EngineError;
use crate::http::body::Body;
use crate::metrics;
use crate::model::exact_number::to_json_bytes;
use crate::model::field_errors::FieldErrors;
use crate::model::refusal::Refusal;
use crate::protocol::Problem;

/// The response for an error of the engine: the same problem details (RFC 9457) that the REST routes answer with.
///
/// It is for handlers of the app's own. The error is logged if the status is 500 or above, since the response does not
/// contain its cause.
///
/// ```
/// use fieldsync::adapter::problem_response;
/// use fieldsync::{EngineError, Refusal};
///
/// let error = EngineError::from(Refusal::NotFound(("users", 1).into()));
/// assert_eq!(problem_response(&error).status(), 404);
/// ```
#[must_use]
pub fn problem_response(error: &EngineError) -> Response<Body> {
    Rejection::from(error).into_response()
}

/// The response to a request that is refused: a problem, and the headers that go with it.
#[derive(Debug)]
pub(crate) struct Rejection(Box<Response<Body>>);

impl Rejection {
    pub(crate) fn new(status: StatusCode, kind: &'static str, detail: impl Into<String>) -> Self {
        Problem::new(status, kind, detail).into()
    }

    /// A 400 with a message for one parameter or header.
    pub(crate) fn malformed(name: &str, message: &str) -> Self {
        let errors = FieldErrors::one(name, message);
        Problem::of_fields(StatusCode::BAD_REQUEST, "malformed", errors).into()
    }

    /// A 400 for a query, with messages for its parameters or fields.
    pub(crate) fn bad_query(errors: FieldErrors) -> Self {
        Problem::from(&Refusal::BadQuery(errors)).into()
    }

    pub(crate) fn with(self, name: HeaderName, value: HeaderValue) -> Self {
        Self(Box::new(self.0.with(name, value)))
    }

    pub(crate) fn into_response(self) -> Response<Body> {
        *self.0
    }
}

impl From<Problem> for Rejection {
    fn from(problem: Problem) -> Self {
        metrics::refused(problem.kind);
        let mut response = Response::new(Body::from(to_json(&problem)))
            .with(
                CONTENT_TYPE,
                HeaderValue::from_static("application/problem+json"),
            )
            .with(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        *response.status_mut() = problem.status;
        if problem.status == StatusCode::UNAUTHORIZED {
            let challenge = match problem.is_expiry() {
                true => {
                    "Bearer error=\"invalid_token\", error_description=\"the credential has expired\""
                }
                false => "Bearer",
            };
            response = response.with(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        if let Some(seconds) = problem.retry_after {
            response = response.with(RETRY_AFTER, seconds.into());
        }
        Self(Box::new(response))
    }
}

impl From<&EngineError> for Rejection {
    fn from(error: &EngineError) -> Self {
        Problem::logged(error).into()
    }
}

impl From<EngineError> for Rejection {
    fn from(error: EngineError) -> Self {
        Self::from(&error)
    }
}

/// A response without a body.
pub(crate) fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::default());
    *response.status_mut() = status;
    response
}

/// A response with a JSON body.
pub(crate) fn json(status: StatusCode, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::from(body))
        .with(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    *response.status_mut() = status;
    response
}

pub(crate) fn to_json(value: &impl Serialize) -> Bytes {
    to_json_bytes(value).into()
}

/// Adds headers to a response as it is made.
pub(crate) trait WithHeader {
    fn with(self, name: HeaderName, value: HeaderValue) -> Self;
    /// Adds a header, unless the text contains a character that no header may contain.
    fn with_text(self, name: HeaderName, text: String) -> Self;
}

impl WithHeader for Response<Body> {
    fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers_mut().insert(name, value);
        self
    }

    fn with_text(self, name: HeaderName, text: String) -> Self {
        match HeaderValue::try_from(text) {
            Ok(value) => self.with(name, value),
            Err(_) => self,
        }
    }
}
