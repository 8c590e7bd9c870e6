//! Who makes a request.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

/// The `fieldsync::Principal` that the app's login has put into the request's extensions, or the anonymous one.
///
/// ```
/// use fieldsync_axum::Principal;
///
/// async fn greet(Principal(principal): Principal) -> String {
///     format!("Hello {}", principal.name().unwrap_or("stranger"))
/// }
/// # let _ = axum::Router::<()>::new().route("/", axum::routing::get(greet));
/// ```
#[derive(Debug, Clone, Default)]
pub struct Principal(pub fieldsync::Principal);

impl<S: Sync> FromRequestParts<S> for Principal {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let principal = parts.extensions.get::<fieldsync::Principal>();
        Ok(Self(principal.cloned().unwrap_or_default()))
    }
}
