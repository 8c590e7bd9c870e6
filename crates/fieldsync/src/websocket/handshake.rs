//! The opening handshake of a WebSocket (RFC 6455, section 4.2), the same for every framework.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use crate::cursor::Position;
use crate::engine::Engine;
use crate::http::{Refused, Reply, RequestHead};

/// The subprotocol that this server speaks.
const V1: &str = "fieldsync.v1";

/// An accepted handshake: what the connection will speak.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    pub(crate) speaks: Speaks,
    /// Where the feeds' logs ended when the socket was accepted, in the order of the feeds.
    pub(crate) since: Vec<Position>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speaks {
    V1,
    Feed,
}

/// Checks a request to open a socket. When it is accepted the reply is the 101 to send, and the bytes that follow it
/// are for [`serve`](crate::serve); otherwise the reply says why not.
#[must_use]
pub fn accept(engine: &Engine, head: &RequestHead) -> (Reply, Option<Accepted>) {
    match check(engine, head) {
        Ok((key, speaks)) => {
            let reply = Reply::new(101, Bytes::new())
                .with("upgrade", "websocket")
                .with("connection", "Upgrade")
                .with("sec-websocket-accept", accept_key(&key));
            let reply = match speaks {
                Speaks::V1 => reply.with("sec-websocket-protocol", V1),
                Speaks::Feed => reply,
            };
            let since = match speaks {
                Speaks::V1 => Vec::new(),
                Speaks::Feed => engine.ends_of_feeds(),
            };
            (reply, Some(Accepted { speaks, since }))
        }
        Err(refused) => (refused.reply(), None),
    }
}

fn check(engine: &Engine, head: &RequestHead) -> Result<(Bytes, Speaks), Refused> {
    let bad = |detail: &str| Refused::new(400, "malformed", detail);
    let upgrade_required = |detail: &str| {
        Refused::new(426, "upgrade-required", detail)
            .with("upgrade", "websocket")
            .with("connection", "Upgrade")
    };
    head.check()?;
    if head.method != "GET" {
        return Err(
            Refused::new(405, "method-not-allowed", "a WebSocket is opened with GET")
                .with("allow", "GET"),
        );
    }
    if head.is_http_1_0 {
        return Err(upgrade_required("a WebSocket needs HTTP/1.1"));
    }
    if !head.has_token("upgrade", "websocket") {
        return Err(upgrade_required(
            "this is a WebSocket: open it with Upgrade: websocket",
        ));
    }
    if !head.has_token("connection", "upgrade") {
        return Err(bad("Connection must name upgrade"));
    }
    let host = head
        .header("host")
        .ok_or_else(|| bad("Host must stand once"))?;
    match head
        .header("sec-websocket-version")
        .map(|version| &version[..])
    {
        Some(b"13") => {}
        None => return Err(bad("Sec-WebSocket-Version must stand once")),
        Some(_) => {
            let refused = upgrade_required("only version 13 of the WebSocket protocol is spoken");
            return Err(refused.with("sec-websocket-version", "13"));
        }
    }
    let key = head
        .header("sec-websocket-key")
        .filter(|key| STANDARD.decode(key).is_ok_and(|key| key.len() == 16));
    let key = key.ok_or_else(|| bad("Sec-WebSocket-Key must be 16 bytes in base64"))?;
    check_origin(engine, head, host)?;
    if !engine.is_ready() {
        return Err(
            crate::protocol::problem::Problem::unavailable("the server is stopping").into(),
        );
    }
    let speaks = if head.has_token_exactly("sec-websocket-protocol", V1) {
        Speaks::V1
    } else {
        Speaks::Feed
    };
    if speaks == Speaks::Feed && engine.settings().feeds.is_empty() {
        return Err(bad(
            "offer the subprotocol fieldsync.v1: there is no plain feed here",
        ));
    }
    Ok((key.clone(), speaks))
}

/// Scripts send no Origin. A page's must be the server's own host and port, or one that the app allows.
fn check_origin(engine: &Engine, head: &RequestHead, host: &[u8]) -> Result<(), Refused> {
    if !head.headers.iter().any(|(name, _)| name == "origin") {
        return Ok(());
    }
    let origin = head
        .header("origin")
        .and_then(|origin| std::str::from_utf8(origin).ok());
    let allowed = origin.is_some_and(|origin| {
        let own = origin
            .split_once("://")
            .is_some_and(|(_, authority)| authority.as_bytes().eq_ignore_ascii_case(host));
        own || engine
            .settings()
            .allowed_origins
            .iter()
            .any(|allowed| allowed.eq_ignore_ascii_case(origin))
    });
    if allowed {
        return Ok(());
    }
    Err(Refused::new(
        403,
        "origin",
        "pages of this origin may not open a socket here",
    ))
}

/// RFC 6455, section 4.2.2, step 5.4.
fn accept_key(key: &[u8]) -> String {
    let mut sha1 = sha1_smol::Sha1::from(key);
    sha1.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    STANDARD.encode(sha1.digest().bytes())
}

impl RequestHead {
    /// Whether a header that is a list of tokens has this one.
    fn has_token(&self, name: &str, token: &str) -> bool {
        self.list(name).is_some_and(|list| {
            list.split(|byte| *byte == b',')
                .any(|one| one.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
        })
    }

    fn has_token_exactly(&self, name: &str, token: &str) -> bool {
        self.list(name).is_some_and(|list| {
            list.split(|byte| *byte == b',')
                .any(|one| one.trim_ascii() == token.as_bytes())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_rfc_6455_section_1_3_is_accepted_as_there() {
        assert_eq!(
            accept_key(b"dGhlIHNhbXBsZSBub25jZQ=="),
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
    }
}
