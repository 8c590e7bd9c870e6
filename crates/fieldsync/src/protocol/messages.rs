//! The messages of `fieldsync.v1` as data: how a client's are read, and how updates become the server's.

use ::http::StatusCode;
use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;

use crate::live::update::Update;
use crate::model::change::{Action, FoldedChange};
use crate::model::exact_number::{self, write_json};
use crate::model::record::{Fields, RecordId};
use crate::protocol::problem::Problem;
use crate::schema::grant::Grant;
use crate::schema::json::{JsonError, read_object};

/// The longest name that a client may give a subscription: it is in each of its messages.
const MAX_SUB_BYTES: usize = 256;

/// A message from a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ClientMessage {
    Subscribe(Subscribe),
    Unsubscribe {
        sub: String,
    },
    /// Asks for an answer when everything up to this cursor was sent.
    Sync {
        cursor: String,
    },
}

/// What a client wants to subscribe to, and where it wants to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subscribe {
    /// The name that the client gives the subscription, by default that of its topic.
    pub(crate) sub: String,
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
        let required = |name: &str| {
            let missing = || invalid("invalid-message", format!("{name} is missing"));
            text(name)?.ok_or_else(missing)
        };
        let sub = text("sub")?;
        if sub.as_ref().is_some_and(|sub| sub.len() > MAX_SUB_BYTES) {
            let detail = format!("sub has more than {MAX_SUB_BYTES} bytes");
            return Err(invalid("invalid-message", detail));
        }
        match text("type")?.as_deref() {
            Some("subscribe") => Ok(Self::Subscribe(Subscribe {
                topic: required("topic")?,
                sub: match sub {
                    Some(sub) => sub,
                    None => required("topic")?,
                },
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
            Some("unsubscribe") => Ok(Self::Unsubscribe {
                sub: required("sub")?,
            }),
            Some("sync") => Ok(Self::Sync {
                cursor: required("cursor")?,
            }),
            _ => Err(invalid(
                "unknown-type",
                "type must be subscribe, unsubscribe or sync".into(),
            )),
        }
    }
}

/// A message from the server.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(crate) enum ServerMessage<'a> {
    Snapshot {
        sub: &'a str,
        records: Vec<Fields>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cursor: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        resume: Option<&'a str>,
    },
    Changes {
        sub: &'a str,
        folded: bool,
        changes: Vec<ChangeMessage>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cursor: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        resume: Option<&'a str>,
    },
    Live {
        collection: &'a str,
        cursor: &'a str,
    },
    Reset {
        sub: &'a str,
        reason: String,
    },
    Subscribed {
        sub: &'a str,
    },
    Synced {
        cursor: &'a str,
    },
    Unsubscribed {
        sub: &'a str,
    },
    Error {
        #[serde(skip_serializing_if = "Option::is_none")]
        sub: Option<&'a str>,
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
    /// The message for an update. The text of its place is that of its cursor, or else where its snapshot can go on.
    pub(crate) fn of_update(
        sub: &'a str,
        collection: &'a str,
        update: Update,
        place: Option<&'a str>,
        grant: &Grant,
    ) -> Self {
        let has_cursor = update.cursor().is_some();
        let (cursor, resume) = (place.filter(|_| has_cursor), place.filter(|_| !has_cursor));
        match update {
            Update::Snapshot { records, .. } => Self::Snapshot {
                sub,
                records: records
                    .iter()
                    .map(|record| grant.view.project(record.id.clone(), &record.fields))
                    .collect(),
                cursor,
                resume,
            },
            // A live change is encoded for all subscribers at once.
            Update::Change { change, .. } => Self::Changes {
                sub,
                folded: true,
                changes: vec![folded_message(change)],
                cursor,
                resume,
            },
            Update::Changes { changes, .. } => Self::Changes {
                sub,
                folded: true,
                changes: changes.into_iter().map(folded_message).collect(),
                cursor,
                resume,
            },
            Update::Live { .. } => Self::Live {
                collection,
                cursor: place.unwrap_or_default(),
            },
            Update::Reset(reason) => Self::Reset {
                sub,
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
            Self::Changes { .. } => "changes",
            Self::Live { .. } => "live",
            Self::Reset { .. } => "reset",
            Self::Subscribed { .. } => "subscribed",
            Self::Synced { .. } => "synced",
            Self::Unsubscribed { .. } => "unsubscribed",
            Self::Error { .. } => "error",
        }
    }
}

/// What the message of a live change has besides the name of its subscription and its cursor.
pub(crate) fn change_body(change: FoldedChange) -> Bytes {
    let mut body = Vec::new();
    write_json(&mut body, &live_change(change));
    body.into()
}

/// The message of a live change.
pub(crate) fn change_message(sub: &str, body: &[u8], cursor: &str) -> Bytes {
    let mut message = Vec::with_capacity(sub.len() + body.len() + 128);
    message.extend(br#"{"type":"change","sub":"#);
    write_json(&mut message, &sub);
    message.push(b',');
    // The members of the object.
    message.extend(&body[1..body.len() - 1]);
    message.extend(br#","cursor":""#);
    message.extend(cursor.as_bytes());
    message.extend(br#""}"#);
    message.into()
}

/// The message that confirms a subscription: what follows is of it.
pub(crate) fn subscribed_message(sub: &str) -> Bytes {
    ServerMessage::Subscribed { sub }.encode()
}

/// The message that all subscriptions to a collection are live, and have received everything up to this cursor.
pub(crate) fn live_message(collection: &str, cursor: &str) -> Bytes {
    ServerMessage::Live { collection, cursor }.encode()
}

/// The message that everything up to this cursor was sent.
pub(crate) fn synced_message(cursor: &str) -> Bytes {
    ServerMessage::Synced { cursor }.encode()
}

/// The message that confirms the end of a subscription: nothing of it follows.
pub(crate) fn unsubscribed_message(sub: &str) -> Bytes {
    ServerMessage::Unsubscribed { sub }.encode()
}

/// The frame that answers a client's message with a problem.
pub(crate) fn error_message(sub: Option<&str>, problem: &Problem) -> Bytes {
    ServerMessage::Error { sub, problem }.encode()
}

fn folded_message(change: FoldedChange) -> ChangeMessage {
    let keys = Some(change.idempotency_keys.clone()).filter(|keys| !keys.is_empty());
    ChangeMessage {
        keys,
        ..message_of(change)
    }
}

fn live_change(change: FoldedChange) -> ChangeMessage {
    let key = change.idempotency_keys.first().cloned();
    ChangeMessage {
        key,
        ..message_of(change)
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
                sub: topic(),
                start: Start::Snapshot,
            })),
        );
        check(
            r#"{"type":"subscribe","topic":"users","since":"x"}"#,
            Ok(ClientMessage::Subscribe(Subscribe {
                topic: topic(),
                sub: topic(),
                start: Start::Since("x".into()),
            })),
        );
        check(
            r#"{"type":"subscribe","topic":"users","resume":"x"}"#,
            Ok(ClientMessage::Subscribe(Subscribe {
                topic: topic(),
                sub: topic(),
                start: Start::Resume("x".into()),
            })),
        );
        check(
            r#"{"type":"subscribe","topic":"users","since":"x","resume":"y"}"#,
            Err("invalid-message"),
        );
        check(
            r#"{"type":"unsubscribe","sub":"users"}"#,
            Ok(ClientMessage::Unsubscribe { sub: topic() }),
        );
        check(
            r#"{"type":"subscribe","sub":"7","topic":"users"}"#,
            Ok(ClientMessage::Subscribe(Subscribe {
                topic: topic(),
                sub: "7".into(),
                start: Start::Snapshot,
            })),
        );
        check(
            r#"{"type":"sync","cursor":"x"}"#,
            Ok(ClientMessage::Sync { cursor: "x".into() }),
        );
        check(r#"{"type":"sync"}"#, Err("invalid-message"));
        check(
            &format!(
                r#"{{"type":"subscribe","topic":"users","sub":"{}"}}"#,
                "x".repeat(257)
            ),
            Err("invalid-message"),
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
