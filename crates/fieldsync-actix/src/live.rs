//! The WebSocket route.

use actix_web::dev::Payload;
use actix_web::{HttpRequest, Route, rt, web};
use fieldsync::Engine;
use fieldsync::adapter::{accept, serve};
use http::header::{HeaderMap, TRANSFER_ENCODING, UPGRADE};

use crate::principal::Principal;
use crate::socket::socket;
use crate::translate::{parts_of, response, switching_protocols};

/// The engine's WebSocket: `fieldsync.v1` for clients that offer it, else the plain feed if the engine has one.
///
/// Each connection is a task of its worker, which ends when the connection is closed or the engine drains.
pub fn live(engine: &Engine) -> Route {
    let engine = engine.clone();
    web::to(
        move |principal: Principal, request: HttpRequest, payload: web::Payload| {
            let engine = engine.clone();
            async move {
                let mut parts = parts_of(&request, request.uri().path())?;
                let payload = payload.into_inner();
                if !carries_a_socket(&parts.headers, &payload) {
                    parts.headers.remove(UPGRADE);
                }
                let (accepting, accepted) = accept(&engine, &principal.0, &parts);
                let Some(accepted) = accepted else {
                    let refused = response(accepting, request.version(), payload);
                    return Ok::<_, actix_web::Error>(refused);
                };
                let (io, outgoing) = socket(payload);
                rt::spawn(serve(engine, accepted, principal.0, io));
                Ok(switching_protocols(accepting, outgoing))
            }
        },
    )
}

/// Whether actix passes on the bytes that follow the request's head. It does so only after what it takes for a handshake:
/// `Upgrade` must contain nothing but `websocket`, and the request must have no chunked body.
fn carries_a_socket(headers: &HeaderMap, payload: &Payload) -> bool {
    !matches!(payload, Payload::None) && !headers.contains_key(TRANSFER_ENCODING)
}
