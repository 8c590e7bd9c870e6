//! Turns changes into the messages of `fieldsync.v1`, their close codes and problem details.
//!
//! It knows neither requests nor sockets: `live` supplies the changes, `http` and `websocket` send the messages.

mod close;
mod logged;
mod message_stream;
mod message_streams;
mod messages;
mod problem;

pub(crate) use close::Close;
pub(crate) use message_stream::{Message, MessageStream};
pub(crate) use message_streams::MessageStreams;
pub(crate) use messages::{
    ClientMessage, Start, Subscribe, error_message, subscribed_message, synced_message,
    unsubscribed_message,
};
pub(crate) use problem::Problem;
