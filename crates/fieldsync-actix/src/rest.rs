//! The REST routes.

use actix_web::{HttpRequest, Scope, web};
use fieldsync::Engine;
use fieldsync::adapter::handle;

use crate::principal::Principal;
use crate::translate::{RequestBody, parts_of, response};

/// The routes of every collection, to be put into a scope where the app wants them: `GET` and `POST /users/`, `GET`,
/// `PATCH` and `DELETE /users/1/`, each with or without the trailing slash.
pub fn rest(engine: &Engine) -> Scope {
    let engine = engine.clone();
    let answer = move |principal: Principal, request: HttpRequest, payload: web::Payload| {
        let engine = engine.clone();
        async move {
            let parts = parts_of(&request)?;
            let mut body = RequestBody(payload.into_inner());
            let replied = handle(&engine, principal.0, parts, &mut body).await;
            Ok::<_, actix_web::Error>(response(replied, body.0))
        }
    };
    web::scope("").default_service(web::to(answer))
}
