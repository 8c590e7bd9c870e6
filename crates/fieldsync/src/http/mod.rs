//! Answers HTTP requests: routes, preconditions, bodies, statuses and headers, on the `http` crate's types.
//!
//! `route` is the path of a request. `engine` does what the request asks for, `protocol` has problem details and the
//! messages of an event stream, and `websocket` opens connections with the header checks of this layer. An adapter crate
//! passes requests in.

mod body;
mod conditional;
mod event_id;
mod event_stream;
mod events;
mod headers;
mod probes;
mod read;
mod reply;
mod request;
mod request_body;
mod request_id;
mod route;
mod tcp;
mod write;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use event_id::EventId;
pub(crate) use headers::{check_size, list_items, only_value};
pub(crate) use reply::{Rejection, WithHeader, empty};
pub(crate) use request_id::{RequestId, connection_span};

pub use body::Body;
pub use probes::{Probe, probe};
pub use reply::problem_response;
pub use request::MountPath;
pub use route::{handle, not_found_response};
pub use tcp::{leave_limit_to_websocket, limit_writes};
