//! The WebSocket route.

use actix_web::dev::Payload;
use actix_web::http::header::TRANSFER_ENCODING;
use actix_web::{HttpRequest, Route, rt, web};
use fieldsync::{Engine, accept, serve};

use crate::request::{head_of, response, switching_protocols};
use crate::socket::socket;

/// The WebSocket of the engine: `fieldsync.v1` for those who offer it, else the plain feed if the engine has one.
///
/// Each connection is a task of its worker, which ends with the connection, or when the engine drains.
pub fn live(engine: &Engine) -> Route {
    let engine = engine.clone();
    web::to(move |request: HttpRequest, payload: web::Payload| {
        let engine = engine.clone();
        async move {
            let (mut head, who) = head_of(&request);
            let payload = payload.into_inner();
            if !carries_a_socket(&request, &payload) {
                head.headers.retain(|(name, _)| name != "upgrade");
            }
            let (reply, accepted) = accept(&engine, &head);
            let Some(accepted) = accepted else {
                return response(reply, payload);
            };
            let (io, body) = socket(payload);
            rt::spawn(serve(engine, accepted, who, io));
            switching_protocols(reply, body)
        }
    })
}

/// Whether actix hands on what follows the head as it comes. It does not after a handshake that it does not take for one:
/// `websocket` must be all that `Upgrade` says, and there must be no body in chunks.
fn carries_a_socket(request: &HttpRequest, payload: &Payload) -> bool {
    !matches!(payload, Payload::None) && !request.headers().contains_key(TRANSFER_ENCODING)
}
