//! The messages of `fieldsync.v1` as data: how a client's are read, and how updates become the server's.

use ::http::StatusCode;
use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;

use crate::live::update::Update;
use crate::model::change::{Action, FoldedChange};
use crate::model::cursor::{Cursor, Place};
use crate::model::exact_number::{self, write_json};
use crate::model::record::{Fields, RecordId};
use crate::protocol::problem::Problem;
use crate::schema::change_view::ChangeView;
use crate::schema::grant::Grant;
use crate::schema::json::{JsonError, read_object};

/// A message from a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ClientMessage {
    Subscribe(Subscribe),
    Unsubscribe { topic: String },
}

/// What a client wants to subscribe to, and where it wants to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subscribe {
    pub(crate) topic: String,
    pub(crate) start: Start,
}

/// Where a client wants to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Start {
    /// With a snapshot.
    Snapshot,
    /// After this cursor.
    Since(String),
    /// After this place in a snapshot.
    Resume(String),
}

impl ClientMessage {
    pub(crate) fn read(text: &[u8]) -> Result<Self, Box<Problem>> {
        let malformed =
            |detail: String| Box::new(Problem::new(StatusCode::BAD_REQUEST, "bad-message", detail));
        let invalid =
            |kind, detail: String| Box::new(Problem::new(StatusCode::BAD_REQUEST, kind, detail));
        let message = read_object(text).map_err(|error| match error {
            JsonError::Malformed(message) => malformed(message),
            JsonError::Field(name, message) => malformed(format!("{name} {message}")),
        })?;
        let text = |name: &str| match message.get(name) {
            Some(value @ Value::String(text)) if exact_number::digits(value).is_none() => {
                Ok(Some(text.clone()))
            }
            None | Some(Value::Null) => Ok(None),
            Some(_) => Err(invalid(
                "invalid-message",
                format!("{name} must be a string"),
            )),
        };
        let topic =
            text("topic")?.ok_or_else(|| invalid("invalid-message", "topic is missing".into()));
        match text("type")?.as_deref() {
            Some("subscribe") => Ok(Self::Subscribe(Subscribe {
                topic: topic?,
                start: match (text("since")?, text("resume")?) {
                    (None, None) => Start::Snapshot,
                    (Some(since), None) => Start::Since(since),
                    (None, Some(resume)) => Start::Resume(resume),
                    (Some(_), Some(_)) => {
                        let detail = "since and resume can't be given together".into();
                        return Err(invalid("invalid-message", detail));
                    }
                },
            })),
            Some("unsubscribe") => Ok(Self::Unsubscribe { topic: topic? }),
            _ => Err(invalid(
                "unknown-type",
                "type must be subscribe or unsubscribe".into(),
            )),
        }
    }
}

/// A message from the server.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(crate) enum ServerMessage<'a> {
    Snapshot {
        topic: &'a str,
        records: Vec<Fields>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cursor: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        resume: Option<String>,
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
        #[serde(skip_serializing_if = "Option::is_none")]
        resume: Option<String>,
    },
    Live {
        topic: &'a str,
        cursor: String,
    },
    Reset {
        topic: &'a str,
        reason: String,
    },
    Unsubscribed {
        topic: &'a str,
    },
    Error {
        #[serde(skip_serializing_if = "Option::is_none")]
        topic: Option<&'a str>,
        problem: &'a Problem,
    },
}

/// One change in a message.
#[derive(Debug, Serialize)]
pub(crate) struct ChangeMessage {
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

impl<'a> ServerMessage<'a> {
    /// The message for an update, whose subscriber can go on from this place.
    pub(crate) fn of_update(
        topic: &'a str,
        update: Update,
        place: Option<&Place>,
        grant: &Grant,
    ) -> Self {
        let (cursor, resume) = match place {
            None => (None, None),
            Some(Place::Cursor(cursor)) => (Some(cursor.to_string()), None),
            Some(Place::InSnapshot(resume)) => (None, Some(resume.to_string())),
        };
        match update {
            Update::Snapshot { records, .. } => Self::Snapshot {
                topic,
                records: records
                    .iter()
                    .map(|record| grant.view.project(record.id.clone(), &record.fields))
                    .collect(),
                cursor,
                resume,
            },
            Update::Change { change, cursor } => change_message(topic, change, cursor),
            Update::Changes { changes, .. } => Self::Changes {
                topic,
                folded: true,
                changes: changes.into_iter().map(folded_message).collect(),
                cursor,
                resume,
            },
            Update::Live { cursor } => Self::Live {
                topic,
                cursor: cursor.to_string(),
            },
            Update::Reset(reason) => Self::Reset {
                topic,
                reason: reason.to_string(),
            },
        }
    }

    /// The message as JSON, which contains no line breaks.
    pub(crate) fn encode(&self) -> Bytes {
        let mut bytes = Vec::new();
        write_json(&mut bytes, self);
        bytes.into()
    }

    /// The value of its `type`.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Snapshot { .. } => "snapshot",
            Self::Change { .. } => "change",
            Self::Changes { .. } => "changes",
            Self::Live { .. } => "live",
            Self::Reset { .. } => "reset",
            Self::Unsubscribed { .. } => "unsubscribed",
            Self::Error { .. } => "error",
        }
    }
}

/// The message for a live change, as the grant shows it.
pub(crate) fn live_message(
    topic: &str,
    seen: &ChangeView<'_>,
    grant: &Grant,
    cursor: Cursor,
) -> Bytes {
    let change = FoldedChange::of(seen, grant);
    change_message(topic, change, cursor).encode()
}

/// The message that confirms the end of a subscription: nothing of it follows.
pub(crate) fn unsubscribed_message(topic: &str) -> Bytes {
    ServerMessage::Unsubscribed { topic }.encode()
}

/// The frame that answers a client's message with a problem.
pub(crate) fn error_message(topic: Option<&str>, problem: &Problem) -> Bytes {
    ServerMessage::Error { topic, problem }.encode()
}

fn folded_message(change: FoldedChange) -> ChangeMessage {
    let keys = Some(change.idempotency_keys.clone()).filter(|keys| !keys.is_empty());
    ChangeMessage {
        keys,
        ..message_of(change)
    }
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
            Ok(ClientMessage::Subscribe(Subscribe {
                topic: topic(),
                start: Start::Snapshot,
            })),
        );
        check(
            r#"{"type":"subscribe","topic":"users","since":"x"}"#,
            Ok(ClientMessage::Subscribe(Subscribe {
                topic: topic(),
                start: Start::Since("x".into()),
            })),
        );
        check(
            r#"{"type":"subscribe","topic":"users","resume":"x"}"#,
            Ok(ClientMessage::Subscribe(Subscribe {
                topic: topic(),
                start: Start::Resume("x".into()),
            })),
        );
        check(
            r#"{"type":"subscribe","topic":"users","since":"x","resume":"y"}"#,
            Err("invalid-message"),
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
