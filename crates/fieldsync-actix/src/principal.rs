//! Who makes a request.

use std::convert::Infallible;
use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpMessage as _, HttpRequest};

/// The `fieldsync::Principal` that the app's login has put into the request's extensions, or the anonymous one.
///
/// ```
/// use fieldsync_actix::Principal;
///
/// async fn greet(Principal(principal): Principal) -> String {
///     format!("Hello {}", principal.name().unwrap_or("stranger"))
/// }
/// # let _ = actix_web::App::new().route("/", actix_web::web::get().to(greet));
/// ```
#[derive(Debug, Clone, Default)]
pub struct Principal(pub fieldsync::Principal);

impl FromRequest for Principal {
    type Error = Infallible;
    type Future = Ready<Result<Self, Infallible>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let extensions = request.extensions();
        let principal = extensions.get::<fieldsync::Principal>();
        ready(Ok(Self(principal.cloned().unwrap_or_default())))
    }
}
