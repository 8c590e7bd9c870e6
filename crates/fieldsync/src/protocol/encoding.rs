//! How one message is written: as a WebSocket frame, or as a server-sent event.

use std::io::Write as _;

use bytes::Bytes;
use serde::Serialize;

use crate::model::exact_number::write_json;

/// What carries a message of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Envelope {
    /// A WebSocket frame. Its payload is the message.
    Frame,
    /// A server-sent event (WHATWG HTML, section 9.2). Its event name is the message's type, its id the place after the message.
    Event,
}

impl Envelope {
    /// Writes a message as JSON, which contains no line breaks. `name` is the message's type.
    pub(crate) fn encode(self, message: &impl Serialize, name: &str, place: Option<&str>) -> Bytes {
        const NEVER_FAILS: &str = "writing to a Vec does not fail";
        let mut bytes = Vec::new();
        if self == Self::Event {
            writeln!(bytes, "event: {name}").expect(NEVER_FAILS);
            if let Some(place) = place {
                writeln!(bytes, "id: {place}").expect(NEVER_FAILS);
            }
            bytes.extend(b"data: ");
        }
        write_json(&mut bytes, message);
        if self == Self::Event {
            bytes.extend(b"\n\n");
        }
        bytes.into()
    }
}
