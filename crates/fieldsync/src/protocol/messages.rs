//! The messages of `fieldsync.v1` and the close codes: what is on the wire, and nothing about sockets.

use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;

use crate::authorize::Grant;
use crate::change::{Action, FoldedChange, Seen};
use crate::cursor::Cursor;
use crate::json::{JsonError, read_object};
use crate::protocol::problem::Problem;
use crate::record::{Fields, RecordId};
use crate::subscription::Update;

/// What a client sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ClientMessage {
    Subscribe {
        topic: String,
        since: Option<String>,
    },
    Unsubscribe {
        topic: String,
    },
}

/// What the server sends.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum ServerMessage<'a> {
    Snapshot {
        topic: &'a str,
        records: Vec<Fields>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cursor: Option<String>,
    },
    Change {
        topic: &'a str,
        #[serde(flatten)]
        change: ChangeMessage,
        cursor: String,
    },
    Changes {
        topic: &'a str,
        folded: bool,
        changes: Vec<ChangeMessage>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cursor: Option<String>,
    },
    Live {
        topic: &'a str,
        cursor: String,
    },
    Reset {
        topic: &'a str,
        reason: String,
    },
    Error {
        #[serde(skip_serializing_if = "Option::is_none")]
        topic: Option<&'a str>,
        problem: &'a Problem,
    },
}

/// One change within a message.
#[derive(Debug, Serialize)]
struct ChangeMessage {
    id: RecordId,
    action: Action,
    #[serde(skip_serializing_if = "Fields::is_empty")]
    fields: Fields,
    at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keys: Option<Vec<String>>,
}

/// Why a connection is closed (RFC 6455, section 7.4; 1012 and 1013 from the IANA registry).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Close {
    /// 1003: binary data, where only JSON text is spoken.
    BinaryData,
    /// 1008: too many messages that are no messages of the protocol, or too many subscriptions.
    Policy,
    /// 1009: a message over the limit.
    TooBig,
    /// 1011: the server failed.
    Internal,
    /// 1012: the server stops; come back after a while.
    Restart,
    /// 1013: what was missed can't be made good on a plain feed; reload and come back.
    TryAgain,
}

impl Close {
    pub(crate) fn code(self) -> u16 {
        match self {
            Self::BinaryData => 1003,
            Self::Policy => 1008,
            Self::TooBig => 1009,
            Self::Internal => 1011,
            Self::Restart => 1012,
            Self::TryAgain => 1013,
        }
    }

    /// The reason that goes with the code; for those that ask to come back, after how long, drawn by lot so that not all
    /// come at once.
    pub(crate) fn reason(self) -> String {
        match self {
            Self::BinaryData => "only JSON text is spoken".into(),
            Self::Policy => "too many errors".into(),
            Self::TooBig => "message too big".into(),
            Self::Internal => "the server failed".into(),
            Self::Restart => format!("retry-after-ms={}", fastrand::u32(200..3000)),
            Self::TryAgain => format!("retry-after-ms={}", fastrand::u32(0..1000)),
        }
    }
}

impl ClientMessage {
    pub(crate) fn read(text: &[u8]) -> Result<Self, Box<Problem>> {
        let malformed = |detail: String| Box::new(Problem::new(400, "bad-message", detail));
        let invalid = |kind, detail: String| Box::new(Problem::new(400, kind, detail));
        let message = read_object(text).map_err(|error| match error {
            JsonError::Malformed(message) => malformed(message),
            JsonError::Field(name, message) => malformed(format!("{name} {message}")),
        })?;
        let text = |name: &str| match message.get(name) {
            Some(Value::String(text)) => Ok(Some(text.clone())),
            None | Some(Value::Null) => Ok(None),
            Some(_) => Err(invalid(
                "invalid-message",
                format!("{name} must be a string"),
            )),
        };
        let topic =
            text("topic")?.ok_or_else(|| invalid("invalid-message", "topic is missing".into()));
        match text("type")?.as_deref() {
            Some("subscribe") => Ok(Self::Subscribe {
                topic: topic?,
                since: text("since")?,
            }),
            Some("unsubscribe") => Ok(Self::Unsubscribe { topic: topic? }),
            _ => Err(invalid(
                "unknown-type",
                "type must be subscribe or unsubscribe".into(),
            )),
        }
    }
}

/// In what a message is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Envelope {
    /// A frame of a socket: the message alone.
    Frame,
    /// A server-sent event: the event is the type, the id is the cursor where there is one.
    Event,
}

/// An update as a message.
pub(crate) fn update_message(
    topic: &str,
    update: Update,
    grant: &Grant,
    envelope: Envelope,
) -> Bytes {
    let message = match update {
        Update::Snapshot { records, cursor } => {
            let records = records
                .iter()
                .map(|record| grant.view.project(record.id, &record.fields))
                .collect();
            ServerMessage::Snapshot {
                topic,
                records,
                cursor: cursor.map(|cursor| cursor.to_string()),
            }
        }
        Update::Change { change, cursor } => change_message(topic, change, cursor),
        Update::Changes { changes, cursor } => {
            let folded = |change: FoldedChange| {
                let keys = Some(change.idempotency_keys.clone()).filter(|keys| !keys.is_empty());
                ChangeMessage {
                    keys,
                    ..message_of(change)
                }
            };
            let changes = changes.into_iter().map(folded).collect();
            ServerMessage::Changes {
                topic,
                folded: true,
                changes,
                cursor: cursor.map(|cursor| cursor.to_string()),
            }
        }
        Update::Live { cursor } => ServerMessage::Live {
            topic,
            cursor: cursor.to_string(),
        },
        Update::Reset(reason) => ServerMessage::Reset {
            topic,
            reason: reason.to_string(),
        },
    };
    encode(&message, envelope)
}

/// One live change as a message.
pub(crate) fn live_message(
    topic: &str,
    seen: &Seen<'_>,
    grant: &Grant,
    cursor: Cursor,
    envelope: Envelope,
) -> Bytes {
    let change = FoldedChange::of(seen, grant);
    encode(&change_message(topic, change, cursor), envelope)
}

/// The frame of an error.
pub(crate) fn error_frame(topic: Option<&str>, problem: &Problem) -> Bytes {
    encode(&ServerMessage::Error { topic, problem }, Envelope::Frame)
}

fn change_message(topic: &str, change: FoldedChange, cursor: Cursor) -> ServerMessage<'_> {
    let key = change.idempotency_keys.first().cloned();
    ServerMessage::Change {
        topic,
        change: ChangeMessage {
            key,
            ..message_of(change)
        },
        cursor: cursor.to_string(),
    }
}

fn message_of(change: FoldedChange) -> ChangeMessage {
    let FoldedChange {
        id,
        action,
        fields,
        at,
        ..
    } = change;
    ChangeMessage {
        id,
        action,
        fields,
        at: at.to_string(),
        key: None,
        keys: None,
    }
}

fn encode(message: &ServerMessage<'_>, envelope: Envelope) -> Bytes {
    let mut text = String::new();
    if envelope == Envelope::Event {
        text = format!("event: {}\n", message.name());
        if let Some(cursor) = message.cursor() {
            text.push_str(&format!("id: {cursor}\n"));
        }
        text.push_str("data: ");
    }
    let mut bytes = text.into_bytes();
    // JSON has no line breaks of its own.
    serde_json::to_writer(&mut bytes, message).expect("messages can be written as JSON");
    if envelope == Envelope::Event {
        bytes.extend(b"\n\n");
    }
    bytes.into()
}

impl ServerMessage<'_> {
    fn name(&self) -> &'static str {
        match self {
            Self::Snapshot { .. } => "snapshot",
            Self::Change { .. } => "change",
            Self::Changes { .. } => "changes",
            Self::Live { .. } => "live",
            Self::Reset { .. } => "reset",
            Self::Error { .. } => "error",
        }
    }

    fn cursor(&self) -> Option<&str> {
        match self {
            Self::Change { cursor, .. } | Self::Live { cursor, .. } => Some(cursor),
            Self::Snapshot { cursor, .. } | Self::Changes { cursor, .. } => cursor.as_deref(),
            Self::Reset { .. } | Self::Error { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<ClientMessage, &str>) {
        let read = ClientMessage::read(text.as_bytes());
        let read = read.map_err(|problem| {
            serde_json::to_value(problem).unwrap()["type"]
                .as_str()
                .unwrap()
                .to_owned()
        });
        assert_eq!(
            read,
            expected.map_err(|kind| format!("urn:fieldsync:{kind}")),
            "{text}"
        );
    }

    #[test]
    fn messages_of_clients_are_read_strictly() {
        let topic = || "users".to_owned();
        check(
            r#"{"type":"subscribe","topic":"users"}"#,
            Ok(ClientMessage::Subscribe {
                topic: topic(),
                since: None,
            }),
        );
        check(
            r#"{"type":"subscribe","topic":"users","since":"x"}"#,
            Ok(ClientMessage::Subscribe {
                topic: topic(),
                since: Some("x".into()),
            }),
        );
        check(
            r#"{"type":"unsubscribe","topic":"users"}"#,
            Ok(ClientMessage::Unsubscribe { topic: topic() }),
        );
        check(r#"{"type":"shout","topic":"users"}"#, Err("unknown-type"));
        check(r#"{"topic":"users"}"#, Err("unknown-type"));
        check(r#"{"type":"subscribe"}"#, Err("invalid-message"));
        check(r#"{"type":"subscribe","topic":1}"#, Err("invalid-message"));
        check("[]", Err("bad-message"));
        check("nonsense", Err("bad-message"));
        check(
            r#"{"type":"subscribe","type":"subscribe","topic":"users"}"#,
            Err("bad-message"),
        );
    }
}
