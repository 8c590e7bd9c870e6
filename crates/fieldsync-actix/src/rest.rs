//! The REST routes.

use actix_web::{HttpRequest, Scope, web};
use fieldsync::{Engine, handle};

use crate::request::{head_of, response};

/// Every collection of the engine under the scope that the routes are put into: `GET` and `POST /users/`, `GET`, `PATCH`
/// and `DELETE /users/1/`, each with or without the trailing slash.
pub fn rest(engine: &Engine) -> Scope {
    let engine = engine.clone();
    let answer = move |request: HttpRequest, mut body: web::Payload| {
        let engine = engine.clone();
        async move {
            let (head, who) = head_of(&request);
            let reply = handle(&engine, who, head, &mut body).await;
            response(reply, body.into_inner())
        }
    };
    web::scope("").default_service(web::to(answer))
}
