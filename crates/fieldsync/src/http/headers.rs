//! How request headers are read: strictly, since a header that a proxy reads differently is an attack.

use ::http::header::{AsHeaderName, HeaderMap, HeaderName};
use ::http::{HeaderValue, StatusCode};

use crate::http::reply::Rejection;
use crate::metrics::Limit;

pub(crate) const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");
pub(crate) const FIELDSYNC_BASE: HeaderName = HeaderName::from_static("fieldsync-base");
pub(crate) const FIELDSYNC_CURSOR: HeaderName = HeaderName::from_static("fieldsync-cursor");
pub(crate) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
pub(crate) const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
pub(crate) const PREFER: HeaderName = HeaderName::from_static("prefer");
pub(crate) const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
pub(crate) const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

const MAX_HEADER_BYTES: usize = 16 * 1024;
const MAX_HEADERS: usize = 100;

/// Refuses a request whose headers exceed the limits.
pub(crate) fn check_size(headers: &HeaderMap) -> Result<(), Rejection> {
    let sizes = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len());
    if sizes.sum::<usize>() > MAX_HEADER_BYTES || headers.len() > MAX_HEADERS {
        Limit::HeaderBytes.reached();
        return Err(Rejection::new(
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            "headers-too-large",
            "the request has more than 100 headers, or more than 16 KiB of them",
        ));
    }
    Ok(())
}

/// The value of a header, if the request has the header exactly once.
pub(crate) fn only_value(headers: &HeaderMap, name: impl AsHeaderName) -> Option<&HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

/// The items of a header that is a list, from all its lines. No item may contain a comma.
pub(crate) fn list_items(
    headers: &HeaderMap,
    name: impl AsHeaderName,
) -> impl Iterator<Item = &[u8]> {
    let lines = headers.get_all(name).into_iter();
    let items = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    items.map(<[u8]>::trim_ascii)
}

/// All lines of a header that is a list, joined as one list.
pub(crate) fn joined(headers: &HeaderMap, name: impl AsHeaderName) -> Option<Vec<u8>> {
    let lines: Vec<&[u8]> = headers
        .get_all(name)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    (!lines.is_empty()).then(|| lines.join(&b", "[..]))
}
